"""Packed features (`zoo.data.feature_shards`) by rows: from a disk, or from object storage through a cache.

Reading takes `features.json` and `features.index` alone, and one read a clip at most. LitData's own way to a few rows
of a record (`read_window`) takes some five times as long, for its checks and copies (benchmarks/speed/features.py), and
its iteration can neither balance categories nor resume at a batch of several processes. So LitData packs and
downloads, and the rows are read here.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.clip_means import OpenVideos
from zoo.data.feature_cache import RemoteFolder
from zoo.data.feature_files import FeatureHeader, FeatureRows
from zoo.data.feature_index import INDEX, as_name, read_index
from zoo.data.feature_settings import ABOUT, FeatureSettings, settings_beside
from zoo.data.feature_shards import FORMAT, LISTS, MANIFEST, VERSION, Shard
from zoo.data.json_files import read_json
from zoo.errors import DataError, VideoError

_SHARD = re.compile(r"chunk-\d+-\d+\.bin")
_HASH = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"([a-z][a-z0-9]+):/+")  # a path's slashes are single
_OPEN = 256  # shards that stay open


class PackedFeatures:
    """A packed folder: videos by number, in the order that they lie in.

    Args:
        root: the folder, or where it lies in object storage: ``s3://bucket/folder``, ``gs://``, ``azure://``, ``r2://``
            or ``hf://``; shards are then brought to the cache when they are wanted.
        dim: numbers that a row must have; None takes any.
        cache: folder for shards from object storage; in the zoo's cache by default.
        cache_gb: gigabytes that it may hold.
        storage_options: for the storage's client, as LitData takes them.

    Attributes:
        ids: of the videos, bytes ``[n]``.
        rows: of each, int64 ``[n]``.
        shard: that each lies in, int64 ``[n]``.
        shards: the files.
        skipped: what was wrong with videos that were not packed, by id.
        root: where `features.json` lies on this machine.
        settings: what is noted of how they were extracted.

    Raises:
        DataError: no packed features, not whole, or not of this kind.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        dim: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        cache_gb: float = 64.0,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        address = _ADDRESS.sub(r"\1://", str(root), count=1)
        self.remote = RemoteFolder(address, cache, cache_gb, storage_options) if is_remote(root) else None
        self.root = self.remote.folder if self.remote else Path(root).expanduser()
        self._bring(MANIFEST)
        said = _checked(self.root / MANIFEST)
        for name in (INDEX, *said["lists"]):
            self._bring(name)
        self.shards = [Shard(s["file"], s["bytes"], s["sha256"]) for s in said["shards"]]
        self.skipped: dict[str, str] = said["skipped"]
        # What the cache has may be of what was packed there before.
        here = self.remote is None or ABOUT in said["lists"]
        self.settings = settings_beside(self.root) if here else FeatureSettings()
        self.dim, self.dtype = said["dim"], np.dtype(said["dtype"])
        self.require(dim)
        table = read_index(self.root / INDEX, ("rows", "shard", "offset"))
        self.ids, self.rows, self.shard, self.offset = (
            np.ascontiguousarray(table[name]) for name in ("id", "rows", "shard", "offset")
        )
        sizes = np.array([shard.bytes for shard in self.shards] or [0])
        known = len(self.ids) == said["videos"] and not (self.shard >= len(sizes)).any()
        if not known or (self.rows > (sizes[self.shard] - self.offset) // (self.dim * self.dtype.itemsize)).any():
            raise DataError(f"{root}: {INDEX} and {MANIFEST} do not belong together; pack the features again.")
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def name(self, number: int) -> str:
        return as_name(self.ids[number])

    def require(self, dim: int | None) -> None:
        """Refuse features of another network.

        Raises:
            DataError: rows do not have ``dim`` numbers.
        """
        if dim not in (None, self.dim):
            raise DataError(
                f"{self.root} holds rows of {self.dim} numbers, and the model wants {dim}. Pack features of the "
                "network that it was made for, or set its features.dim."
            )

    def prepare(self, numbers: Sequence[int] | np.ndarray) -> None:
        """Bring the shards of these videos here, several at once, where they lie in object storage."""
        if self.remote:
            wanted = [self.shards[k] for k in np.unique(self.shard[numbers]).tolist() if k not in self._open]
            self.remote.fetch_all(wanted)

    def open(self, number: int) -> FeatureRows:
        """A video's rows, to be closed.

        Raises:
            VideoError: its shard is not there, or not whole.
        """
        shard = self._opened(int(self.shard[number]))
        shard.users += 1
        return _ShardRows(shard, self._header(number), self)

    @contextmanager
    def open_all(self, numbers: np.ndarray) -> Iterator[OpenVideos]:
        """As `open`, of many at once."""
        shards: dict[int, _OpenShard] = {}
        failed: dict[int, VideoError] = {}
        of = self.shard[numbers].tolist()
        try:
            for k in dict.fromkeys(of):
                try:
                    shards[k] = self._opened(k)
                    shards[k].users += 1
                except VideoError as error:
                    failed |= {at: error for at, other in enumerate(of) if other == k}
            here = np.array([at for at in range(len(of)) if at not in failed], int)
            found, files = numbers[here], [shards[of[at]] for at in here.tolist()]

            def rows(at: int) -> FeatureRows:
                return FeatureRows(files[at].file, self._header(found[at]), files[at].path)

            yield OpenVideos(
                here, [shard.file for shard in files], self.offset[found], self.rows[found], [self.dtype] * len(here),
                rows, failed,
            )  # fmt: skip
        finally:
            for shard in shards.values():
                shard.users -= 1
            self._close_surplus(_OPEN)

    def _header(self, number: int) -> FeatureHeader:
        return FeatureHeader(int(self.rows[number]), self.dim, self.dtype, False, int(self.offset[number]))

    def _close_surplus(self, most: int) -> None:
        """Closes the shards that were used least lately, except where somebody still reads."""
        if len(self._open) > most:
            idle = [k for k, shard in self._open.items() if not shard.users]
            for k in idle[: len(self._open) - most]:
                os.close(self._open.pop(k).file)

    def _opened(self, k: int) -> _OpenShard:
        if k in self._open:
            self._open.move_to_end(k)
            return self._open[k]
        self._close_surplus(_OPEN - 1)
        shard = self.shards[k]
        path = self.remote.fetch(shard) if self.remote else self.root / shard.file
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise VideoError(
                f"{path} cannot be opened ({error.strerror}); bring the shard back, or pack again."
            ) from None
        if os.fstat(file).st_size != shard.bytes:
            os.close(file)
            raise VideoError(f"{path} is truncated: it should have {shard.bytes} bytes. Copy the shard again.")
        self._open[k] = _OpenShard(file, path)
        return self._open[k]

    def _bring(self, name: str) -> None:
        if self.remote:
            self.remote.bring(name)

    def __del__(self) -> None:
        for shard in getattr(self, "_open", {}).values():
            os.close(shard.file)


@dataclass(slots=True)
class _OpenShard:
    file: int
    path: Path
    users: int = 0


class _ShardRows(FeatureRows):
    def __init__(self, shard: _OpenShard, header: FeatureHeader, folder: PackedFeatures) -> None:
        super().__init__(shard.file, header, shard.path)
        self._shard, self._folder = shard, folder

    def close(self) -> None:
        self._shard.users -= 1
        self._folder._close_surplus(_OPEN)


def is_remote(root: str | os.PathLike[str]) -> bool:
    """Whether features lie in object storage."""
    return _ADDRESS.match(str(root)) is not None


def is_packed(root: Path) -> bool:
    """Whether a folder on this machine holds packed features."""
    return (root / MANIFEST).is_file()


def _checked(path: Path) -> dict[str, Any]:
    """What the manifest says, if it is one; it comes from anybody."""
    said = read_json(path, dict)
    if not _is_manifest(said):
        raise DataError(f"{path} does not describe packed features; pack them again.")
    if said["version"] != VERSION:
        raise DataError(
            f"{path} is of version {said['version']!r}, and this zoo reads {VERSION}; pack again, or upgrade the zoo."
        )
    return said


def _is_manifest(said: dict[str, Any]) -> bool:
    try:
        return (
            said["format"] == FORMAT
            and "version" in said
            and said["dtype"] in ("<f2", "<f4")
            and type(said["dim"]) is int
            and said["dim"] > 0
            and type(said["videos"]) is int
            and all(name in LISTS for name in said["lists"])
            and all(isinstance(text, str) for text in said["skipped"].values())
            and all(
                _SHARD.fullmatch(shard["file"]) and type(shard["bytes"]) is int and _HASH.fullmatch(shard["sha256"])
                for shard in said["shards"]
            )
        )
    except (KeyError, TypeError, AttributeError):
        return False
