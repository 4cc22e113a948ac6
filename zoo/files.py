"""Files on disk: the cache, hashes, writing whole or not at all, and what to say when the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.errors import FetchError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_MOST_UNPACKED = 100  # times the size of an archive; numbers that were measured pack to a tenth at best
_MODEST = 2**26  # bytes that are never too many


class NoPlaceError(FetchError):
    """The disk refuses: read-only, full, or no folder."""


def cache_root() -> Path:
    """Where downloads and conversions are kept: ``ZOO_CACHE``, else ``~/.cache/videozoo``."""
    return Path(os.environ.get("ZOO_CACHE") or "~/.cache/videozoo").expanduser()


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file in hex, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_known_hashes: dict[tuple[str, int, int], str] = {}


def sha256_once(path: Path | str) -> str:
    """`sha256_of`, computed once a process for as long as the file's size and modification time stay the same."""
    stat = os.stat(path)
    key = (os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    if key not in _known_hashes:
        _known_hashes[key] = sha256_of(path)
    return _known_hashes[key]


def write_whole(path: Path, *chunks: bytes | memoryview) -> None:
    """Writes a file so that nobody ever sees half of it: under another name in the same folder first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder in the making beside ``path``, whose name it gets when the block is left without an error.

    At most an empty folder may be there. What runs of the same name have left that were killed is removed first; one
    that is alive holds a lock.
    """
    path = path.absolute()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        found = path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial*")
        for left in {one.with_name(one.name.removesuffix(".lock")) for one in found}:
            with contextlib.suppress(Timeout), _passing(left):
                pass
        with _passing(partial):
            partial.mkdir()
            yield partial
            if path.is_dir():
                path.rmdir()
            partial.rename(path)


@contextlib.contextmanager
def _passing(folder: Path) -> Iterator[None]:
    """Holds a lock beside a folder; in the end both go."""
    with FileLock(f"{folder}.lock", timeout=0) as lock:
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def require_modest(archive: zipfile.ZipFile) -> None:
    """Refuse, by a `ValueError`, an archive that would fill the memory: one that unpacks to many times its size."""
    packed, unpacked = (sum(getattr(i, size) for i in archive.infolist()) for size in ("compress_size", "file_size"))
    if unpacked > max(_MODEST, _MOST_UNPACKED * packed):
        raise ValueError(f"its {packed} bytes would unpack to {unpacked}")


def require_writable(folder: Path) -> None:
    """Raises a `NoPlaceError` unless files can be written into ``folder``, which need not exist; leaves no trace."""
    with writing(folder / "a file"):
        nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the disk may say while ``path`` is being written into a `NoPlaceError` with a remedy."""
    try:
        yield
    except OSError as error:
        other = "set ZOO_CACHE to" if path.absolute().is_relative_to(cache_root().absolute()) else "give"
        if error.errno in _FULL:
            problem = f"the disk or quota is full ({_free(path)})"
            remedy = f"Free some space there, or {other} a folder on a larger disk"
        elif error.errno in _READ_ONLY:
            problem = "it may not be written to"
            remedy = f"Make it writable, or {other} a folder that is"
        else:
            problem, remedy = "it is not a usable folder", f"{other[0].upper()}{other[1:]} one that is"
        raise NoPlaceError(f"cannot write {path.name} into {path.parent}: {problem}: {error}. {remedy}.") from error


def _free(path: Path) -> str:
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB free in {folder}"
