"""Feeding trajectories of clips to a Trainer: data sets over a list of records, and how their samples become a batch.

The promises of `zoo.data.loader` hold here too: a video that cannot be decoded never ends a run, every random draw
depends on (seed, epoch, sample) alone, and evaluation visits every video once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.clip_sampling import (
    CLASSES,
    INTENTIONAL,
    balanced_starts,
    draw_starts,
    draw_trajectory,
    labels,
    nominal_count,
    nominal_times,
    start_count,
)
from zoo.data.goals import Annotator, Vocabulary, all_triples, draw_triples
from zoo.data.loader import UNLABELLED, read_patiently
from zoo.data.trajectories import read_trajectory, read_whole_video
from zoo.errors import VideoError
from zoo.spec import VideoSpec

_STARTS, _SUBSTITUTES, _TRAJECTORY = range(3)  # what random numbers are for: a stream each


@dataclass(frozen=True)
class FailureRecord:
    """One video in which something goes wrong, or may.

    Attributes:
        path: where it lies.
        name: in the official list.
        times: when annotators saw the failure, seconds; -1 for one who saw none. Empty where nobody was asked.
        length: annotated seconds; 0 where they are not known.
        goals: what annotators said of it.
        label: none; each clip has its own.
    """

    path: Path
    name: str
    times: tuple[float, ...]
    length: float
    goals: tuple[Annotator, ...] = ()
    label: int = UNLABELLED

    @property
    def failure(self) -> float:
        """The median over the annotators, seconds."""
        return median(self.times)

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        return f"{self.name} {' '.join(map(repr, self.times))}"

    def sample(self, index: int) -> dict[str, Any]:
        """What a batch says of the video whatever its pixels show."""
        return {"index": index, "annotated": self.times, "duration": self.length}

    def clip_labels(self, times: Tensor) -> Tensor:
        """The classes of clips that last from ``times[:, 0]`` to ``times[:, 1]``, int64 ``[n]``."""
        if not self.times:
            return torch.full((len(times),), UNLABELLED, dtype=torch.int64)
        return torch.from_numpy(labels(times.numpy(), self.failure))


class TrainTrajectories(Dataset):
    """Random trajectories for training; asked with ``(row, epoch)``.

    A row is one trajectory of an epoch: of each video up to ``spec.trajectory.starts``, from different starts. How many
    a video has follows from its annotated length, so nothing is opened before it is needed; a video with less than the
    shortest trajectory has none.
    """

    def __init__(
        self,
        records: Sequence[FailureRecord],
        spec: VideoSpec,
        seed: int = 0,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """
        Args:
            records: the videos.
            spec: what the model wants.
            seed: of all draws.
            vocabulary: serve triples of word numbers too (``svo``).
        """
        self.records, self.spec, self.seed, self.vocabulary = records, spec, seed, vocabulary
        self._promised = [nominal_count(record.length, spec) for record in records]
        numbers = [min(start_count(count, spec.trajectory), spec.trajectory.starts) for count in self._promised]
        self.videos = np.repeat(np.arange(len(records)), numbers)
        self.turns = np.concatenate([np.arange(0), *map(np.arange, numbers)])

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        row, epoch = key
        substitutes = self._generator(epoch, row, _SUBSTITUTES)
        return read_patiently(
            row,
            partial(self._read, epoch=epoch),
            lambda: int(substitutes.integers(len(self))),
            video=lambda row: int(self.videos[row]),
        )

    def class_counts(self, epoch: int = 0) -> Tensor:
        """Clips of each class in an epoch, int64 ``[3]``, from the annotations alone."""
        counts = np.zeros(CLASSES, dtype=np.int64)
        times = nominal_times(max(self._promised, default=0), self.spec)
        starts = np.arange(0)
        for row, (index, turn) in enumerate(zip(self.videos.tolist(), self.turns.tolist(), strict=True)):
            count = self._promised[index]
            if not turn:  # a video's rows follow each other
                starts = self._starts(count, index, epoch)
            rng = self._generator(epoch, row, _TRAJECTORY)
            chosen = draw_trajectory(count, int(starts[turn]), self.spec.trajectory, rng)
            counts += np.bincount(labels(times[chosen], self.records[index].failure), minlength=CLASSES)
        return torch.from_numpy(counts)

    def _read(self, row: int, epoch: int) -> dict[str, Any]:
        index = int(self.videos[row])
        record, rng = self.records[index], self._generator(epoch, row, _TRAJECTORY)
        choose = partial(self._choose, row=row, epoch=epoch, rng=rng)
        clips, times = self._clips(record, choose, rng)
        sample = record.sample(index) | {"clips": clips, "times": times, "label": record.clip_labels(times)}
        if self.vocabulary:
            goal, went_wrong = torch.tensor(draw_triples(record.goals, self.vocabulary, rng))
            sample["svo"] = torch.where(sample["label"][:, None] == INTENTIONAL, goal, went_wrong)
        return sample

    def _clips(
        self, record: FailureRecord, choose: Callable[[int], np.ndarray], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        return read_trajectory(record.path, self.spec, choose, rng)

    def _choose(self, count: int, row: int, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """The candidates of a row's trajectory, of the ``count`` that the file really has."""
        starts = self._starts(count, int(self.videos[row]), epoch)
        # A file with fewer starts than its annotated length promises gives some of them twice, or its beginning.
        start = int(starts[self.turns[row] % len(starts)]) if len(starts) else 0
        return draw_trajectory(count, start, self.spec.trajectory, rng)

    def _starts(self, count: int, index: int, epoch: int) -> np.ndarray:
        rng = self._generator(epoch, index, _STARTS)
        if count and self.spec.trajectory.balanced and self.spec.trajectory.clips == (1, 1):
            label = labels(nominal_times(count, self.spec), self.records[index].failure)
            return balanced_starts(label, self.spec.trajectory, rng)
        return draw_starts(count, self.spec.trajectory, rng)

    def _generator(self, epoch: int, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, number, purpose))


class WholeVideos(Dataset):
    """Every video as the sequence of its clips; row v is video v.

    With ``spec.pixels`` False no file is opened: the annotations are all that there is of a video.
    """

    def __init__(self, records: Sequence[FailureRecord], spec: VideoSpec, vocabulary: Vocabulary | None = None) -> None:
        self.records, self.spec, self.vocabulary = records, spec, vocabulary

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, spec = self.records[index], self.spec
        sample = record.sample(index) | {"unreadable": []}
        if self.vocabulary:
            sample["triples"] = all_triples(record.goals, self.vocabulary)
        clips, times = (
            torch.empty(0, 3, spec.frames, spec.test_crop, spec.test_crop),
            torch.empty(0, 2, dtype=torch.float64),
        )
        if spec.pixels:
            try:
                clips, times = read_whole_video(record.path, spec)
            except VideoError as error:
                return sample | {"unreadable": [(index, f"{record.name}: {error}")]}
        return sample | {"clips": clips, "times": times, "label": record.clip_labels(times)}


def collate_trajectories(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples to one batch; those without clips only leave their mark in ``unreadable`` (so a batch may be empty).

    Clips, their ``label`` and ``times`` are joined, ``lengths`` says how many belong to each video; ``annotated`` is
    filled up with NaN where some videos have more annotators than others. Seconds (``times``, ``annotated``,
    ``duration``) are NumPy's doubles: half precision would round tensors of them, and Apple's GPUs take none.
    """
    readable = [sample for sample in samples if "clips" in sample]
    most = max((len(sample["annotated"]) for sample in readable), default=0)
    annotated = [[*s["annotated"], *[np.nan] * (most - len(s["annotated"]))] for s in readable]
    batch = {
        "clips": _joined([s["clips"] for s in readable], torch.empty(0)),
        "lengths": torch.tensor([len(s["clips"]) for s in readable], dtype=torch.int64),
        "label": _joined([s["label"] for s in readable], torch.empty(0, dtype=torch.int64)),
        "times": _joined([s["times"] for s in readable], torch.empty(0, 2, dtype=torch.float64)).numpy(),
        "index": torch.tensor([s["index"] for s in readable], dtype=torch.int64),
        "annotated": np.array(annotated, dtype=np.float64).reshape(len(readable), most),
        "duration": np.array([s["duration"] for s in readable], dtype=np.float64),
        "unreadable": [entry for s in samples for entry in s["unreadable"]],
    }
    if any("svo" in s for s in samples):
        batch["svo"] = torch.cat([s["svo"] for s in readable])
    if any("triples" in s for s in samples):
        batch["triples"] = [s["triples"] for s in readable]
    return batch


def _joined(parts: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.cat(parts) if parts else nothing
