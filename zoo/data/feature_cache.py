"""A folder in object storage, and the part of it that is on this machine. LitData's downloaders know the storages."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from zoo.errors import FetchError, VideoError
from zoo.extras import optional
from zoo.files import cache_root, sha256_of, writing

_ATTEMPTS = 3
_AT_ONCE = 8


class Wanted(Protocol):
    """A file that is known beforehand."""

    file: str
    bytes: int
    sha256: str


class RemoteFolder:
    """Files of a folder in object storage, fetched when they are wanted, the oldest removed when they are too many.

    Several processes may share one cache: a file is fetched once, and is there whole or not at all.

    Args:
        url: of the folder.
        cache: folder for the files; in the zoo's cache by default.
        limit_gb: gigabytes that it may hold.
        options: for the storage's client.
    """

    def __init__(
        self,
        url: str,
        cache: str | os.PathLike[str] | None = None,
        limit_gb: float = 64.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.url, self.options = url.rstrip("/"), options
        place = Path(cache).expanduser() if cache else cache_root() / "features"
        self.folder = place / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.limit = int(limit_gb * 1e9)
        with writing(self.folder / "a file"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def bring(self, name: str) -> Path:
        """A small file, as it is there now.

        Raises:
            FetchError: it cannot be fetched.
        """
        self._download(name, self.folder / name)
        return self.folder / name

    def fetch(self, wanted: Wanted) -> Path:
        """Where a file is on this machine, after it was fetched if need be; its hash is compared then.

        Raises:
            FetchError: it cannot be fetched.
            VideoError: what comes is not what was packed.
        """
        place = self.folder / wanted.file
        with writing(place), FileLock(f"{place}.fetching"):
            if not self._is_there(place, wanted):
                self._make_room(wanted.bytes)
                for attempt in range(_ATTEMPTS):
                    self._download(wanted.file, place)
                    if self._is_there(place, wanted) and sha256_of(place) == wanted.sha256:
                        break
                    place.unlink(missing_ok=True)
                    if attempt == _ATTEMPTS - 1:
                        raise VideoError(
                            f"{self.url}/{wanted.file} is not what was packed (its SHA-256 differs); upload it again."
                        )
            os.utime(place)
        return place

    def fetch_all(self, wanted: Sequence[Wanted]) -> None:
        """Fetch several at once; what is not what was packed is left for `fetch` to tell."""

        def fetch(one: Wanted) -> None:
            with contextlib.suppress(VideoError):
                self.fetch(one)

        missing = [one for one in wanted if not self._is_there(self.folder / one.file, one)]
        if missing:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(fetch, missing))

    @staticmethod
    def _is_there(place: Path, wanted: Wanted) -> bool:
        try:
            return place.stat().st_size == wanted.bytes
        except FileNotFoundError:
            return False

    def _download(self, name: str, place: Path) -> None:
        downloaders = optional("litdata.streaming.downloader", "shards", "reading features from object storage")
        part = place.with_name(f".{name}.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        for attempt in range(_ATTEMPTS):
            try:
                # One each time: a storage's client must not be carried over to another process.
                downloader = downloaders.get_downloader(self.url, str(self.folder), [], self.options)
                if type(downloader).download_fileobj is downloaders.Downloader.download_fileobj:
                    downloader.download_file(f"{self.url}/{name}", str(part))
                else:  # its other way takes a client that does not outlive a fork, and refuses plain http
                    with open(part, "wb") as file:
                        downloader.download_fileobj(f"{self.url}/{name}", file)
                os.replace(part, place)
                part.with_name(f"{part.name}.lock").unlink(missing_ok=True)
                return
            except Exception as error:  # each storage has errors of its own
                part.unlink(missing_ok=True)
                if attempt == _ATTEMPTS - 1:
                    said = " ".join(str(error).split())[:300]  # some say pages
                    raise FetchError(
                        f"{self.url}/{name} cannot be fetched ({type(error).__name__}: {said}). Is the address right, "
                        "is there a network, may these credentials read it?"
                    ) from error
                time.sleep(2.0**attempt)

    def _make_room(self, size: int) -> None:
        kept = []
        for path in self.folder.glob("chunk-*.bin"):
            try:
                kept.append((path.stat().st_mtime, path.stat().st_size, path))
            except FileNotFoundError:  # another process was quicker
                continue
        total = sum(bytes_ for _, bytes_, _ in kept) + size
        for _, bytes_, path in sorted(kept):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= bytes_
