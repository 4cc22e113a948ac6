"""Steps of a task and when they happen in a video, on numbers alone: put in order, cut to a video, seen at its rows.

Row k of features with r rows a second stands for the time from k / r to (k + 1) / r.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

#: Seconds that a video may last.
LONGEST = 86_400

_TOUCH = 1e-6  # seconds by which intervals must overlap to do so at all

_SAID = {
    "twice": "are there twice and count once",
    "empty": "have no length and are left out",
    "cut": "reach beyond what is looked at of their video and are cut",
    "outside": "lie outside of it and are left out",
}


class Interval(NamedTuple):
    """When a step happens: its number within the task, from 0, and from when to when, in seconds."""

    step: int
    start: float
    end: float


def interval(step: int, start: float, end: float, steps: int) -> Interval:
    """An interval, if it can be one of a task with so many ``steps``. It may be empty, or begin before the video.

    Raises:
        ValueError: says what is wrong with it.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step + 1} is annotated, and the task has {steps}")
    if not (abs(start) < LONGEST and abs(end) < LONGEST):  # false for NaN too
        raise ValueError(f"step {step + 1} is annotated from {start} to {end}, which are no seconds of a video")
    if end < start:
        raise ValueError(f"step {step + 1} is annotated from {start:g} to {end:g} seconds: it ends before it starts")
    return Interval(step, float(start), float(end))


def seconds(value: object) -> float:
    """A number of seconds, out of text too.

    Raises:
        ValueError: it is none, or not finite.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{str(value)[:20]!r} is no number of seconds")
    return number


def in_order(intervals: Iterable[Interval]) -> tuple[tuple[Interval, ...], Counter[str]]:
    """The intervals by their start, each once and none of no length; and how many of each kind were dropped."""
    listed = list(intervals)
    unique = sorted(set(listed), key=lambda i: (i.start, i.end, i.step))
    kept = tuple(i for i in unique if i.end > i.start)
    return kept, Counter(twice=len(listed) - len(unique), empty=len(unique) - len(kept))


def cut(intervals: Iterable[Interval], first: float, last: float) -> tuple[tuple[Interval, ...], Counter[str]]:
    """The parts of the intervals between two times, counted from the first on; and how many were cut or dropped."""
    kept, tally = [], Counter()
    for step, start, end in intervals:
        low, high = max(start, first), min(end, last)
        tally["outside"] += high - low <= _TOUCH
        if high - low > _TOUCH:
            tally["cut"] += low - start > _TOUCH or end - high > _TOUCH
            kept.append(Interval(step, low - first, high - first))
    kept.sort(key=lambda i: (i.start, i.end, i.step))
    return tuple(kept), tally


def row_labels(intervals: Sequence[Interval], rows: int, rate: float) -> np.ndarray:
    """Which rows overlap an interval, int64 ``[rows]`` of 0 and 1; the rule of the segments that a test scores."""
    starts, ends = (np.array([i[column] for i in intervals], dtype=np.float64) for column in (1, 2))
    edges = np.arange(rows + 1)[:, None] / rate  # [rows + 1, 1]
    overlap = np.minimum(edges[1:], ends) - np.maximum(edges[:-1], starts)  # [rows, K]
    return (overlap > _TOUCH).any(axis=1).astype(np.int64)


def rows_of(intervals: Sequence[Interval], rows: int, rate: float) -> np.ndarray:
    """Step, first and last row (both included) of each interval, int64 ``[n, 3]``.

    As the CrossTask code has it: from floor(start) to ceil(end) - 1, cut at the end of the video; those without a row
    are left out.
    """
    table = [(step, max(math.floor(s * rate), 0), min(math.ceil(e * rate), rows) - 1) for step, s, e in intervals]
    return np.array([row for row in table if row[1] <= row[2]], dtype=np.int64).reshape(-1, 3)


def in_words(tally: Counter[str]) -> str:
    """What became of annotated intervals, as one sentence without its end; nothing where all were as they should be."""
    return "; ".join(f"{tally[kind]} annotated intervals {said}" for kind, said in _SAID.items() if tally[kind])


def slug(title: str) -> str:
    """A key out of a title: lower-case words joined by _; "MakeTea" has two words, as "Make Tea" has."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", title)
    return "_".join(re.findall(r"[^\W_]+", apart.lower()))
