"""What is known of videos with annotated steps: what is said of them, and where and how their features lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.feature_files import FeatureFile
from zoo.data.intervals import Interval, cut
from zoo.data.loader import UNLABELLED
from zoo.errors import DataError, VideoError


@dataclass(frozen=True)
class VideoAnnotation:
    """What is said of a video.

    Attributes:
        name: in the data set, each once.
        video: its id, by which its features go; it may occur under several tasks.
        task: key of what is done.
        steps: of that task, in order, by name.
        intervals: when they happen, by their start.
        duration: seconds; None where nothing says it but the video's features.
        region: the seconds from and to which the video is looked at; None for all.
        constraints: when its narration has steps happen; None where nothing is known.
    """

    name: str
    video: str
    task: str
    steps: tuple[str, ...]
    intervals: tuple[Interval, ...]
    duration: float | None = None
    region: tuple[float, float] | None = None
    constraints: tuple[Interval, ...] | None = None

    def span(self, length: float) -> tuple[float, float]:
        """The seconds that are looked at of a video whose features last ``length`` seconds."""
        return self.region or (0.0, length if self.duration is None else self.duration)

    def placed(self, length: float) -> tuple[float, tuple[Interval, ...], Counter[str]]:
        """How long is looked, seconds; the intervals from there on, cut to it; and how many were cut or dropped."""
        first, last = self.span(length)
        return (last - first, *cut(self.intervals, first, last))


@dataclass
class Annotations:
    """The annotations of a split.

    Attributes:
        videos: in their order.
        problems: what is wrong with a video's annotation, by name, so that it cannot be used.
        remarks: what is odd without harm, a sentence each.
        warnings: what may change a score, a sentence each.
        expected: how many videos the official list has, where it is known.
    """

    videos: list[VideoAnnotation] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    expected: int = 0

    @property
    def listed(self) -> int:
        """How many videos there should be, with those whose annotation cannot be used."""
        return max(len(self.videos) + len(self.problems), self.expected)


def checked_count(expected: int | None, name: str) -> int | None:
    """How many videos an official list has, or None.

    Raises:
        DataError: anything else, such as the word.
    """
    if expected is not None and (type(expected) is not int or expected < 0):
        raise DataError(f"{name}: expected is a number of videos, or null (None in Python); got {expected!r}.")
    return expected


@dataclass(frozen=True)
class AnnotatedRecord:
    """One video: where its features lie, or should, and what is said of it."""

    path: Path
    said: VideoAnnotation
    label: int = UNLABELLED

    @property
    def name(self) -> str:
        """In the data set."""
        return self.said.name

    @property
    def video(self) -> str:
        """The video's id."""
        return self.said.video

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        said = self.said
        steps = " ".join(f"{step}:{start!r}:{end!r}" for step, start, end in said.intervals)
        return f"{said.name} {said.task} {said.duration!r} {said.region!r} {steps}"


class Columns(NamedTuple):
    """Some of the columns of a feature file: from the first to the last one (excluded), of so many in all."""

    first: int
    last: int
    of: int


class FeatureSource:
    """What a model sees of feature files.

    Args:
        dim: numbers in a row that the model wants.
        rate: rows a second.
        columns: those that are taken of each row; None for all.
    """

    def __init__(self, dim: int, rate: float, columns: Columns | None = None) -> None:
        self.dim, self.rate, self.columns = dim, rate, columns

    def open(self, path: Path) -> FeatureFile:
        """A file's rows of ``dim`` numbers each, to be closed.

        Raises:
            VideoError: as `FeatureFile`.
        """
        return ColumnFile(path, self.columns) if self.columns else FeatureFile(path, self.dim)

    def bounds(self, said: VideoAnnotation, count: int) -> tuple[int, int]:
        """The first and the last row (excluded) of what is looked at, of the ``count`` that a file has.

        Where a region is looked at, its bounds are those of the nearest rows.

        Raises:
            VideoError: the features end before it begins.
        """
        if not said.region:
            return 0, count
        first, last = (round(time * self.rate) for time in said.region)
        if first >= count:
            raise VideoError(
                f"the features of {said.video} end before its region of interest begins, at {said.region[0]:g} "
                "seconds. Is the rate right? Else compute them again."
            )
        return first, min(max(last, first + 1), count)


class ColumnFile(FeatureFile):
    """A file of features of which some columns are looked at.

    Raises:
        VideoError: as `FeatureFile`; or it does not have these columns.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path)
        self.columns, self.plain = columns, False
        if self.header.dim != columns.of:
            self.close()
            raise VideoError(
                f"{path} has rows of {self.header.dim} numbers, and columns {columns.first} to {columns.last - 1} of "
                f"{columns.of} are wanted. Give the release's features, or leave the option columns out."
            )

    def read_clips(self, starts: Sequence[int], length: int) -> np.ndarray:
        return super().read_clips(starts, length)[:, :, self.columns.first : self.columns.last]


class RecordVideos:
    """The videos of a list of records, as `zoo.data.order_sampling` takes them."""

    def __init__(self, records: Sequence[AnnotatedRecord], source: FeatureSource) -> None:
        self.records, self.source = records, source

    def __len__(self) -> int:
        return len(self.records)

    def name(self, number: int) -> str:
        return self.records[number].video

    def open(self, number: int) -> FeatureFile:
        return self.source.open(self.records[number].path)
