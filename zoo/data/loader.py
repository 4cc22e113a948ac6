"""Feeding videos to a Trainer: data sets over a list of records, samplers that repeat nothing, a loader that resumes.

Three promises are kept here. A video that cannot be decoded never ends a run: training draws another one, evaluation
reports it. Every random draw depends on (seed, epoch, sample) alone, so a resumed run sees what the first would have.
Evaluation under several processes visits every sample once, because no sampler pads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from zoo.data.transforms import test_views, train_view
from zoo.errors import DataError, VideoError
from zoo.spec import VideoSpec

UNLABELLED = -1  # the class number of a video without one
_PATIENCE = 10  # other videos that training tries in place of one that cannot be decoded


@dataclass(frozen=True)
class VideoRecord:
    """One video of a data set: where it lies, its class number, and its name in the official list."""

    path: Path
    label: int
    name: str

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        return f"{self.name} {self.label}"


def read_patiently(
    number: int, read: Callable[[int], dict[str, Any]], redraw: Callable[[], int], video: Callable[[int], int] = int
) -> dict[str, Any]:
    """A training sample, or another in its place while a video cannot be decoded; with what was ``unreadable``.

    Args:
        number: of the sample.
        read: gives the sample of a number.
        redraw: gives the number of another.
        video: gives the number of a sample's video, where the two differ.

    Raises:
        DataError: too many in a row cannot be decoded.
    """
    unreadable = []
    for _ in range(_PATIENCE):
        try:
            return {**read(number), "unreadable": unreadable}
        except VideoError as error:
            unreadable.append((video(number), str(error)))
            number = redraw()
    raise DataError(
        f"{_PATIENCE} videos in a row could not be decoded; the last: {unreadable[-1][1]} "
        "`zoo data check` lists every unreadable video."
    )


class TrainClips(Dataset):
    """Random clips for training; asked with ``(index, epoch)``."""

    def __init__(self, records: Sequence[VideoRecord], spec: VideoSpec, seed: int = 0) -> None:
        self.records, self.spec, self.seed = records, spec, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, epoch = key
        rng = np.random.default_rng((self.seed, epoch, index))

        def read(index: int) -> dict[str, Any]:
            record = self.records[index]
            return {"clips": train_view(record.path, self.spec, rng), "label": record.label, "index": index}

        return read_patiently(index, read, lambda: int(rng.integers(len(self.records))))


class TestClips(Dataset):
    """Clip ``c`` of video ``v`` is row ``v * clips + c``; a row holds the clip's crops as its views.

    With ``clips=1`` the one clip is the middle one, as validation during training wants it.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    def __init__(self, records: Sequence[VideoRecord], spec: VideoSpec) -> None:
        self.records, self.spec = records, spec

    def __len__(self) -> int:
        return len(self.records) * self.spec.clips

    def __getitem__(self, row: int) -> dict[str, Any]:
        index, clip = divmod(row, self.spec.clips)
        record = self.records[index]
        sample = {"label": record.label, "index": index, "view": clip * self.spec.crops, "unreadable": []}
        try:
            sample["clips"] = test_views(record.path, self.spec, clip)
        except VideoError as error:
            sample["unreadable"] = [(index, str(error))]
        return sample


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples to one batch; those without clips only leave their mark in ``unreadable`` (so a batch may be empty)."""
    readable = [s for s in samples if "clips" in s]
    batch: dict[str, Any] = {"unreadable": [entry for s in samples for entry in s["unreadable"]]}
    batch["clips"] = torch.stack([s["clips"] for s in readable]) if readable else torch.empty(0, dtype=torch.uint8)
    for key in samples[0].keys() - {"clips", "unreadable"}:
        batch[key] = torch.tensor([s[key] for s in readable], dtype=torch.int64)
    return batch


class TrainSampler(DistributedSampler):
    """A new order every epoch, the same in all processes; yields ``(index, epoch)`` and can start in mid-epoch."""

    def __init__(self, dataset: Dataset, rank: int, world_size: int, seed: int) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, seed=seed, drop_last=len(dataset) >= world_size)
        self.start = 0  # samples of this process that an interrupted epoch has already seen

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        return iter([(index, self.epoch) for index in super().__iter__()][start:])


class OnceSampler(DistributedSampler):
    """Every sample once over all processes. Only where a process would get none does it repeat the first sample

    (a process without a batch would leave the others waiting); metrics know samples by number and drop repeats.
    """

    def __init__(self, dataset: Dataset, rank: int, world_size: int) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=False)
        # A share is a run of neighbours, so that most videos have all their views in one process.
        first, last = (len(dataset) * r // world_size for r in (rank, rank + 1))
        self.rows = list(range(first, last)) or [0][: len(dataset)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class ResumableLoader(DataLoader):
    """A training loader that Lightning's checkpoints restart at the batch after the last one that was handed out."""

    _handed_out = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._handed_out = self.sampler.start // self.batch_size
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._handed_out % max(len(self), 1)}  # a finished epoch restarts at nothing

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.start = state["batches"] * self.batch_size
