"""The lists that come with HowTo100M, a million lines and more, read into columns: no object is made of a video.

HowTo100M_v1.csv    video_id,category_1,category_2,rank,task_id    and, if somebody added it, path
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.feature_index import as_ids, hash_ids
from zoo.data.json_files import read_json
from zoo.data.listing import read_lines
from zoo.data.loader import UNLABELLED
from zoo.errors import DataError

_RUN = 1 << 14  # lines that are taken apart at once


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
        for number, columns in _columns(file, path, len(header)):
            ids.append(np.array(columns[place["video_id"]]))
            if (ids[-1] == b"").any():
                raise DataError(f"{path}, line {number + int((ids[-1] == b'').argmax())}: no video_id.")
            if len(pair) == 2:
                pairs = zip(columns[pair[0]], columns[pair[1]], strict=True)
                category.append(np.array([numbers.setdefault(p, len(numbers)) for p in pairs], np.int32))
            if "path" in place:
                paths.append(np.array([text.strip() for text in columns[place["path"]]]))
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


def _columns(file: Iterator[bytes], path: Path, width: int) -> Iterator[tuple[int, list[tuple[bytes, ...]]]]:
    """(number of the first line, columns), some thousand lines at a time."""
    number = 2
    while lines := list(itertools.islice(file, _RUN)):
        rows = [
            _split(line, path, number + k) if b'"' in line else line.rstrip(b"\r\n").split(b",")
            for k, line in enumerate(lines)
        ]
        while rows and not lines[len(rows) - 1].strip():  # blank lines at the end
            rows.pop()
        wrong = next((k for k, row in enumerate(rows) if len(row) != width), None)
        if wrong is not None:
            raise DataError(
                f"{path}, line {number + wrong}: {len(rows[wrong])} columns, and the first line names {width}. "
                "Fetch it again, or put what holds a comma in quotes."
            )
        if rows:
            yield number, list(zip(*rows, strict=True))
        number += len(lines)


def _split(line: bytes, path: Path, number: int) -> list[bytes]:
    """The columns of a line that may have quotes in it."""
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
