"""Which videos have features, and how many rows: a note beside them, so that a million files need not be looked for.

    features.index      NumPy's format, a record a video: id (bytes, as its file's name), rows; packed ones also
                        shard, offset

Ids are kept as arrays of bytes; a million of them take some MB and are found by their hashes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from zoo.data.feature_files import FeatureFile, FeatureRows, NoFileError, as_float32, require_finite
from zoo.errors import DataError, VideoError
from zoo.files import write_whole

INDEX = "features.index"
_RUN = 256  # files that a thread looks at before it is given others


def as_ids(names: Iterable[str]) -> np.ndarray:
    """Names as bytes, ``S`` ``[n]``; those of files need not be UTF-8."""
    return np.array([name.encode(errors="surrogateescape") for name in names] or np.empty(0, "S1"))


def as_name(name: bytes) -> str:
    """A name out of `as_ids`."""
    return name.decode(errors="surrogateescape")


def hash_ids(ids: np.ndarray) -> np.ndarray:
    """A number for each id that is the same everywhere and always, uint64 ``[n]``."""
    letters = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), ids.dtype.itemsize)
    state = np.full(len(ids), 0xCBF29CE484222325, np.uint64)  # FNV-1a, and the finaliser of MurmurHash3
    for column in letters.T:
        state = np.where(column, (state ^ column) * np.uint64(0x100000001B3), state)  # padding does not count
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        state = (state ^ (state >> np.uint64(33))) * np.uint64(factor)
    return state ^ (state >> np.uint64(33))


def find_ids(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each id stands in another list (the first place, if several), -1 where it does not; int64 ``[n]``."""
    if not len(among):
        return np.full(len(ids), -1)
    hashes = hash_ids(among)
    order = np.argsort(hashes, kind="stable")
    wanted = hash_ids(ids)
    place = np.minimum(np.searchsorted(hashes[order], wanted), len(among) - 1)
    return np.where(among[order[place]] == ids, order[place], -1)


def write_index(
    folder: Path, ids: Sequence[str] | np.ndarray, rows: Sequence[int] | np.ndarray, **more: object
) -> Path:
    """Note what is in a folder of features.

    Args:
        folder: that the files (or shards) lie in.
        ids: of the videos.
        rows: of each.
        more: further columns of integers.

    Raises:
        DataError: an id twice.
    """
    ids = ids if isinstance(ids, np.ndarray) else as_ids(ids)
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{folder}: a video is there twice; an index names each once.")
    columns = {"rows": np.asarray(rows), **{name: np.asarray(values) for name, values in more.items()}}
    table = np.empty(len(ids), [("id", ids.dtype), *((name, "<i8") for name in columns)])
    table["id"] = ids
    for name, values in columns.items():
        table[name] = values
    file = io.BytesIO()
    np.lib.format.write_array(file, table, allow_pickle=False)
    write_whole(folder / INDEX, file.getbuffer())
    return folder / INDEX


def read_index(path: Path, columns: Sequence[str] = ("rows",)) -> np.ndarray:
    """What `write_index` wrote: records with ``id`` and the columns.

    Raises:
        DataError: it cannot be read, or is no such index.
    """
    try:
        table = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise DataError(f"there is no index {path}; `zoo data check` writes one.") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an index ({error}); remove it to have it made anew.") from None
    kinds = {name: table.dtype[name].kind for name in table.dtype.names or ()}
    if table.ndim != 1 or kinds.get("id") != "S" or any(kinds.get(name) not in ("i", "u") for name in columns):
        raise DataError(f"{path} is not an index of features; remove it to have it made anew.")
    if any((table[name] < 0).any() for name in columns):
        raise DataError(f"{path} holds negative numbers; remove it to have it made anew.")
    return table


def list_files(folder: Path) -> list[str]:
    """The ids of a folder's files, by name alone, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name[:-4] for entry in entries if entry.name.endswith(".npy") and entry.name[0] != ".")


def index_folder(folder: Path, dim: int | None = None, *, workers: int = 8) -> dict[str, str]:
    """Look at every file's header and write the index of those that are whole.

    Args:
        folder: that the files lie in.
        dim: numbers that a row must have; None takes any.
        workers: threads.

    Returns:
        What is wrong with the others, by id.
    """
    ids = list_files(folder)
    rows, broken = count_rows(len(ids), lambda number: FeatureFile(folder / f"{ids[number]}.npy", dim), workers=workers)
    write_index(folder, [name for name, n in zip(ids, rows, strict=True) if n > 0], rows[rows > 0])
    return {ids[number]: message for number, message in broken.items()}


def count_rows(
    count: int, open_: Callable[[int], AbstractContextManager[FeatureRows]], *, read: bool = False, workers: int = 8
) -> tuple[np.ndarray, dict[int, str]]:
    """What videos hold.

    Args:
        count: of the videos.
        open_: opens one by its number.
        read: look at all rows as well, not at what the file says alone.
        workers: threads.

    Returns:
        Rows of each, int64 ``[count]``: 0 where the file is not there, -1 where it is broken; and what is wrong with
        the broken ones by number.
    """
    rows, broken = np.zeros(count, np.int64), {}

    def look(number: int) -> None:
        try:
            with open_(number) as file:
                if read:
                    require_finite(as_float32(file.read(0, len(file))), file.path)
                rows[number] = len(file)
        except NoFileError:
            return
        except VideoError as error:
            rows[number], broken[number] = -1, str(error)

    def look_at_some(first: int) -> None:
        for number in range(first, min(first + _RUN, count)):
            look(number)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(look_at_some, range(0, count, _RUN)))
    return rows, dict(sorted(broken.items()))
