"""Feeding rows of features with annotated steps to a Trainer: data sets over a list of records, and their batches.

The promises of `zoo.data.loader` hold here too: a file that cannot be used never ends a run, every random draw depends
on (seed, epoch, sample) alone, and evaluation visits every video once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from zoo.data.annotated_records import AnnotatedRecord, FeatureSource
from zoo.data.feature_files import FeatureFile, as_float32, require_finite
from zoo.data.intervals import row_labels, rows_of
from zoo.data.loader import read_patiently
from zoo.errors import VideoError
from zoo.spec import FeatureSpec

_LISTS = ("video_id", "intervals", "steps", "task", "names", "constraints")


class RandomRows(Dataset):
    """Random rows of a video with what is annotated there, for training; asked with ``(index, epoch)``.

    ``spec.clips`` rows of one video make a sample, in order of time; no row comes twice where there are enough.
    """

    def __init__(
        self, records: Sequence[AnnotatedRecord], spec: FeatureSpec, source: FeatureSource, seed: int = 0
    ) -> None:
        self.records, self.spec, self.source, self.seed = records, spec, source, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, epoch = key
        rng = np.random.default_rng((self.seed, epoch, index))
        return read_patiently(index, partial(self._read, rng=rng), lambda: int(rng.integers(len(self.records))))

    def _read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        record = self.records[index]
        with self.source.open(record.path) as file:
            first, last = self.source.bounds(record.said, len(file))
            few = last - first < self.spec.clips
            drawn = np.sort(rng.choice(last - first, self.spec.clips, replace=few))
            rows = as_float32(file.read_clips((first + drawn).tolist(), 1)[:, 0])
        for place in np.flatnonzero(~np.isfinite(rows).all(axis=1))[:1]:
            require_finite(rows[place : place + 1], record.path, first + int(drawn[place]))
        _, intervals, _ = record.said.placed(len(file) / self.source.rate)
        label = row_labels(intervals, last - first, self.source.rate)[drawn]
        return {"features": torch.from_numpy(rows), "label": torch.from_numpy(label), "index": index}


class TrainVideos(Dataset):
    """Whole videos for training; asked with ``(index, epoch)``."""

    def __init__(self, records: Sequence[AnnotatedRecord], source: FeatureSource, seed: int = 0) -> None:
        self.records, self.source, self.seed = records, source, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, epoch = key
        rng = np.random.default_rng((self.seed, epoch, index))
        return read_patiently(
            index,
            lambda index: whole_video(self.records[index], index, self.source),
            lambda: int(rng.integers(len(self.records))),
        )


class WholeVideos(Dataset):
    """Every video whole; row v is video v.

    With ``pixels`` False there are no features: a file is opened only where nothing else says how long its video is.
    """

    def __init__(self, records: Sequence[AnnotatedRecord], source: FeatureSource, pixels: bool = True) -> None:
        self.records, self.source, self.pixels = records, source, pixels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        try:
            return {**whole_video(record, index, self.source, self.pixels), "unreadable": []}
        except VideoError as error:
            return {"unreadable": [(index, f"{record.name}: {error}")], "dim": self.source.dim}


def whole_video(record: AnnotatedRecord, index: int, source: FeatureSource, pixels: bool = True) -> dict[str, Any]:
    """A video with all that is said of it.

    Raises:
        VideoError: its features cannot be used, or end before what is looked at begins.
    """
    said, rate = record.said, source.rate
    features, length = np.empty((0, source.dim), dtype=np.float32), 0.0
    if pixels:
        with source.open(record.path) as file:
            first, last = source.bounds(said, len(file))
            features, length = as_float32(file.read(first, last)), len(file) / rate
        require_finite(features, record.path, first)
    elif said.duration is None:
        length = row_count(record.path) / rate
    duration, intervals, _ = said.placed(length)
    rows = len(features) if pixels else int(np.ceil(duration * rate))
    return {
        "features": torch.from_numpy(features),
        "rate": rate,
        "duration": duration,
        "index": index,
        "video_id": said.video,
        "intervals": np.array([i[1:] for i in intervals], dtype=np.float64).reshape(-1, 2),
        "steps": np.array([i.step for i in intervals], dtype=np.int64),
        "task": said.task,
        "names": said.steps,
        "constraints": None if said.constraints is None else rows_of(said.constraints, rows, rate),
    }


def row_count(path: Path) -> int:
    """How many rows a file of features has, by its header.

    Raises:
        VideoError: it is none.
    """
    with FeatureFile(path) as file:
        return len(file)


def collate_rows(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples of `RandomRows` to one batch."""
    return {
        "features": torch.stack([s["features"] for s in samples]),
        "label": torch.stack([s["label"] for s in samples]),
        "index": torch.tensor([s["index"] for s in samples], dtype=torch.int64),
        "unreadable": [entry for s in samples for entry in s["unreadable"]],
    }


def collate_videos(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Whole videos to one batch; unreadable ones only leave their mark in ``unreadable`` (so a batch may be empty).

    What is annotated stays in NumPy, on the CPU: half precision would round tensors of seconds, and Apple's GPUs take
    no doubles.
    """
    videos = [s for s in samples if "features" in s]
    nothing = torch.empty(0, next((s["dim"] for s in samples if "dim" in s), 0))
    return {
        "features": torch.cat([s["features"] for s in videos]) if videos else nothing,
        "lengths": torch.tensor([len(s["features"]) for s in videos], dtype=torch.int64),
        "index": torch.tensor([s["index"] for s in videos], dtype=torch.int64),
        **{key: np.array([s[key] for s in videos], dtype=np.float64) for key in ("rate", "duration")},
        **{key: [s[key] for s in videos] for key in _LISTS},
        "unreadable": [entry for s in samples for entry in s["unreadable"]],
    }
