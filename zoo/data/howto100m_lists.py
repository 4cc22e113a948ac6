"""The lists that come with HowTo100M, a million lines and more, read into columns: no object is made of a video.

HowTo100M_v1.csv    video_id,category_1,category_2,rank,task_id    and, if somebody added it, path
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from zoo.data.feature_index import as_ids, hash_ids
from zoo.data.json_files import read_json
from zoo.data.listing import read_lines
from zoo.data.loader import UNLABELLED
from zoo.errors import DataError

_BLOCK = 1 << 20  # bytes that are taken apart at once
_LONGEST = 4096  # bytes of anything in a list


@dataclass(frozen=True)
class VideoTable:
    """Videos and the categories that they are in.

    Attributes:
        ids: bytes ``[n]``, each once.
        category: numbers into ``categories``, int32 ``[n]``, -1 for none.
        categories: pairs of category and subcategory; a subcategory's name alone may occur in several.
        paths: of the files, relative to the features' folder, bytes ``[n]``; None where they follow from the id.
    """

    ids: np.ndarray
    category: np.ndarray
    categories: tuple[tuple[str, str], ...] = ()
    paths: np.ndarray | None = None


def read_taxonomy(path: Path) -> VideoTable:
    """HowTo100M's csv, or one of the same columns; only ``video_id`` has to be there. Of an id twice the first counts.

    Raises:
        DataError: it cannot be read, has no such column, or a line of another number of columns.
    """
    ids, category, paths = [], [], []
    numbers: dict[tuple[bytes, bytes], int] = {}
    with _explained(path), open(path, "rb") as file:
        header = [name.strip() for name in _split(file.readline().decode("utf-8-sig").encode(), path, 1)]
        if b"video_id" not in header:
            raise DataError(
                f"{path} has no column video_id; its first line should be video_id,category_1,category_2,rank,task_id."
            )
        place = {name.decode(): number for number, name in enumerate(header)}
        pair = [place[name] for name in ("category_1", "category_2") if name in place]
        for number, cells in _blocks(file, path, len(header)):
            ids.append(cells(place["video_id"]))
            if (ids[-1] == b"").any():
                raise DataError(f"{path}, line {number + int((ids[-1] == b'').argmax())}: no video_id.")
            if len(pair) == 2:
                category.append(_numbered(cells(pair[0]), cells(pair[1]), numbers))
            if "path" in place:
                paths.append(np.char.strip(cells(place["path"])))
    if not ids:
        raise DataError(f"{path} names no video; fetch it again.")
    every = np.concatenate(ids)
    if (every.view(np.uint8) > 127).any():
        with _explained(path):
            np.char.decode(every, "utf-8")
    _, first = np.unique(hash_ids(every), return_index=True)
    first.sort()
    return VideoTable(
        every[first],
        np.concatenate(category)[first] if category else np.full(len(first), UNLABELLED, np.int32),
        tuple((a.decode(), b.decode()) for a, b in numbers),
        np.concatenate(paths)[first] if paths else None,
    )


def read_excluded(path: Path) -> np.ndarray:
    """The ids of videos that must not be trained on, bytes ``[n]``.

    Args:
        path: COIN's json; a csv, such as CrossTask's ``videos.csv`` (task, video, address), or one with a column
            ``video_id``; or a list of ids, one a line.

    Raises:
        DataError: it cannot be read.
    """
    if path.suffix == ".json":
        database = read_json(path, dict).get("database")
        if not isinstance(database, dict):
            raise DataError(f"{path} has no 'database' of videos; give COIN.json, or a list of ids.")
        return as_ids(database)
    lines = read_lines(path)
    if path.suffix != ".csv":
        return as_ids(text for _, text in lines)
    rows = list(csv.reader(text for _, text in lines))
    column = rows[0].index("video_id") if rows and "video_id" in rows[0] else None
    if column is None:
        return as_ids(row[min(1, len(row) - 1)].strip() for row in rows)
    return as_ids(row[column].strip() for row in rows[1:] if len(row) > column)


def _numbered(first: np.ndarray, second: np.ndarray, numbers: dict[tuple[bytes, bytes], int]) -> np.ndarray:
    """The numbers of pairs, int32 ``[n]``; new ones get the next."""
    keys = hash_ids(first) * np.uint64(3) + hash_ids(second)
    _, where, which = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(where)  # in the order that they occur in
    known = np.empty(len(where), np.int32)
    for k in order.tolist():
        known[k] = numbers.setdefault((bytes(first[where[k]]), bytes(second[where[k]])), len(numbers))
    return known[which]


def _blocks(file: BinaryIO, path: Path, width: int) -> Iterator[tuple[int, Callable[[int], np.ndarray]]]:
    """(number of the first line, what gives a column as bytes ``[n]``), some thousand lines at a time."""
    number, rest = 2, b""
    while True:
        more = file.read(_BLOCK)
        block = rest + more if more else rest.rstrip() + b"\n"  # blank lines at the end do not count
        end = block.rfind(b"\n", 0, len(block.rstrip()) if more else None) + 1
        block, rest = block[:end], block[end:]
        if len(rest) > _BLOCK:
            raise DataError(f"{path}: a line of more than {len(rest)} bytes is not one of a list; fetch it again.")
        if block.strip():
            yield number, _quick_cells(block, width) or _careful_cells(block, path, width, number)
        number += block.count(b"\n")
        if not more:
            return


def _quick_cells(block: bytes, width: int) -> Callable[[int], np.ndarray] | None:
    """Columns of lines without quotes, each with as many commas as it should have; None for others."""
    text = np.frombuffer(block, np.uint8)
    ends, commas = np.flatnonzero(text == ord("\n")), np.flatnonzero(text == ord(","))
    if b'"' in block or len(commas) != len(ends) * (width - 1):
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    ends = ends - (text[ends - 1] == ord("\r"))
    commas = commas.reshape(len(ends), width - 1)
    if width > 1 and ((commas[:, 0] < starts) | (commas[:, -1] > ends)).any():
        return None
    bounds = np.concatenate([starts[:, None] - 1, commas, ends[:, None]], axis=1)
    if np.diff(bounds, axis=1).max() > _LONGEST:
        return None

    def cells(column: int) -> np.ndarray:
        first, last = bounds[:, column] + 1, bounds[:, column + 1]
        place = first[:, None] + np.arange(max(int((last - first).max()), 1))
        letters = np.where(place < last[:, None], text[np.minimum(place, len(text) - 1)], np.uint8(0))
        return np.ascontiguousarray(letters).view(f"S{letters.shape[1]}")[:, 0]

    return cells


def _careful_cells(block: bytes, path: Path, width: int, number: int) -> Callable[[int], np.ndarray]:
    """Columns of any lines, or the error that names the wrong one."""
    rows = []
    for at, line in enumerate(block.split(b"\n")[:-1], number):
        rows.append(_split(line, path, at))
        if len(rows[-1]) != width:
            raise DataError(
                f"{path}, line {at}: {len(rows[-1])} columns, and the first line names {width}. "
                "Fetch it again, or put what holds a comma in quotes."
            )
        if max(map(len, rows[-1])) > _LONGEST:
            raise DataError(f"{path}, line {at}: something of more than {_LONGEST} bytes; fetch it again.")
    return lambda column: np.array([row[column] for row in rows])


def _split(line: bytes, path: Path, number: int) -> list[bytes]:
    """The columns of a line that may have quotes in it."""
    if b'"' not in line:
        return line.rstrip(b"\r\n").split(b",")
    try:
        return [text.encode() for text in next(csv.reader([line.decode().rstrip("\r\n")], strict=True), [])]
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: {error}; fetch it again.") from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what reading a file may throw into a `DataError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no list {path}; unpack HowTo100M.zip there, or give its place (csv).") from None
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as a list ({error}); fetch it again.") from None
