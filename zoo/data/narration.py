"""What is said in a video: captions with times, as HowTo100M has them, read without trust in what they hold.

captions/ID.csv     a table whose columns start, end and text are used; seconds
caption.json        {ID: {"start": [...], "end": [...], "text": [...]}}
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError

_COLUMNS = ("start", "end", "text")


@dataclass(frozen=True)
class Narration:
    """The captions of a video, in the order of their beginnings.

    Attributes:
        times: start and end, seconds, float64 ``[n, 2]``.
        text: what is said, never empty.
    """

    times: np.ndarray
    text: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)


def read_captions(path: Path) -> Narration:
    """The captions of a video's csv file.

    Raises:
        DataError: there is no such file, it is no such table, or a caption's times are none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            if lacking := [name for name in _COLUMNS if name not in (table.fieldnames or ())]:
                raise DataError(
                    f"{path}: no column {', '.join(lacking)} in the first line; captions want the columns "
                    f"{', '.join(_COLUMNS)}. Fetch the file again."
                )
            rows = [(f"{path}, line {table.line_num}", *(row[name] for name in _COLUMNS)) for row in table]
    except FileNotFoundError:
        raise DataError(f"there is no {path}; unpack the captions there.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of captions ({error}); fetch it again.") from None
    return _narration(rows, path)


def narration_of(entry: Any, where: str) -> Narration:
    """The captions of a video's entry in caption.json.

    Raises:
        DataError: it is not three lists of one length, or a caption's times are none.
    """
    lists = [entry.get(name) for name in _COLUMNS] if isinstance(entry, dict) else []
    if not lists or any(not isinstance(one, list) for one in lists) or len({len(one) for one in lists}) > 1:
        raise DataError(f"{where}: captions are three lists of one length, start, end and text. Fetch the file again.")
    rows = [(f"{where}, caption {n}", *caption) for n, caption in enumerate(zip(*lists, strict=True), 1)]
    return _narration(rows, where)


def _narration(rows: Iterable[tuple[str, Any, Any, Any]], where: object) -> Narration:
    said: list[tuple[float, float, str]] = []
    for place, start, end, text in rows:
        times = _seconds(start), _seconds(end)
        if not (0 <= times[0] <= times[1] < math.inf):
            raise DataError(
                f"{place}: a caption from {start!r} to {end!r} seconds; it starts at 0 or later and ends no sooner "
                "than it starts. Correct the line, or leave it out."
            )
        if text and str(text).strip():  # where nothing is said there is nothing to learn from
            said.append((*times, str(text).strip()))
    if not said:
        raise DataError(f"{where}: no caption with words; leave the video out, or fetch its captions again.")
    said.sort(key=lambda caption: caption[:2])
    return Narration(np.array([caption[:2] for caption in said]), tuple(text for *_, text in said))


def _seconds(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def candidates(times: np.ndarray, number: int, count: int) -> list[int]:
    """The numbers of ``count`` captions in a row about one of them, as MIL-NCE takes them (Miech et al. 2020).

    From the caption itself the row grows by its neighbour on that side on which it spans less time; once it has come to
    the first caption or the last, it grows on the other side alone. Where there are fewer captions than that the last
    is repeated.

    Args:
        times: of all captions, start and end, ``[n, 2]``.
        number: of the caption.
        count: of candidates.
    """
    first = last = number
    while last - first + 1 < min(count, len(times)):
        if first > 0 and (
            last == len(times) - 1 or times[last, 1] - times[first - 1, 0] < times[last + 1, 1] - times[first, 0]
        ):
            first -= 1
        else:
            last += 1
    row = list(range(first, last + 1))
    return row + [last] * (count - len(row))


def clip_start(caption: Sequence[float], seconds: float, least: float, rng: np.random.Generator) -> float:
    """Where a clip of a caption starts, seconds: uniform over the places at which it lies within the caption.

    A caption shorter than ``least`` is widened about its middle first, but not to before the video's start. The release
    rounds start and end down to whole seconds; this does not.

    Args:
        caption: its start and end.
        seconds: of the clip.
        least: seconds that a caption counts for.
        rng: draws.
    """
    start, end = caption
    if end - start < least:
        start = max(0.0, start - (least - (end - start)) / 2)
        end = start + least
    return float(rng.uniform(start, max(start, end - seconds)))
