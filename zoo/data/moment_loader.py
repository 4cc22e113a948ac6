"""Feeding single images of videos to a Trainer: data sets over a list of records, their sampler, their batches.

The promises of `zoo.data.loader` hold here too: a video that cannot be decoded never ends a run, every random draw
depends on (seed, epoch, sample) alone, and evaluation visits every video once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.activities import NO_SCENE, Action, frame_labels, localisation_labels, video_label
from zoo.data.loader import TrainSampler, read_patiently
from zoo.data.moment_sampling import MomentTable, image_count, image_seconds, last_image, progress
from zoo.data.moment_views import train_flow, train_rgb
from zoo.data.moments import FileImages, FlowFolder, FolderImages, open_images, test_moments
from zoo.errors import VideoError
from zoo.spec import MomentSpec, VideoSpec

_SUBSTITUTES, _LABELS, _RGB, _FLOW = range(4)  # what random numbers are for: a stream each


@dataclass(frozen=True)
class ActivityRecord:
    """One video and what is done in it.

    Attributes:
        path: where its images lie: a video file or a folder of pictures (where only flow is wanted, that of its flow).
        name: in the official list.
        actions: everything that is done.
        length: annotated seconds.
        classes: how many there are.
        scene: its number, -1 for none.
        flow: the folder of its flow, where that is wanted.
    """

    path: Path
    name: str
    actions: tuple[Action, ...]
    length: float
    classes: int
    scene: int = NO_SCENE
    flow: Path | None = None

    @property
    def label(self) -> list[int]:
        """0 or 1 for each class: whether it occurs; what `zoo.data.loader` serves with a clip."""
        return video_label(self.actions, self.classes).tolist()

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        return f"{self.name} {self.length!r} {' '.join(f'{c}:{s!r}:{e!r}' for c, s, e in self.actions)}"


class TrainMoments(torch.utils.data.Dataset):
    """Random images for training; asked with ``(row, epoch)``, where a row is one sample of `MomentTable`'s.

    A sample is of ``spec.moments.together`` images of one video. Nothing is opened or listed before it is drawn.
    """

    def __init__(self, records: Sequence[ActivityRecord], spec: VideoSpec, seed: int = 0) -> None:
        self.records, self.spec, self.seed = records, spec, seed
        self.moments, self.fps = spec.moments or MomentSpec(), spec.fps
        self.counts = [image_count(record.length, self.fps) for record in records]
        self.table = MomentTable([record.actions for record in records], self.counts, self.moments, self.fps)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        row, epoch = key
        substitutes = self._generator(epoch, row, _SUBSTITUTES)
        return read_patiently(
            row,
            partial(self._read, epoch=epoch),
            lambda: int(substitutes.integers(len(self))),
            video=self.table.video,
        )

    def _read(self, row: int, epoch: int) -> dict[str, Any]:
        video = self.table.video(row)
        numbers, pixels = self.table.images(row), {}
        if self.spec.pixels:
            numbers, pixels = self._pixels(row, numbers, epoch)
        return pixels | self._labels(row, numbers, epoch) | {
            "video": torch.full((len(numbers),), video),
            "scene": torch.full((len(numbers),), self.records[video].scene),
        }  # fmt: skip

    def _labels(self, row: int, numbers: np.ndarray, epoch: int) -> dict[str, Tensor]:
        record, seconds = self.records[self.table.video(row)], image_seconds(numbers, self.fps)
        if self.moments.labels == "all":
            return {"label": torch.from_numpy(frame_labels(record.actions, seconds, record.classes))}
        actions = self.table.annotated(row, numbers, self._generator(epoch, row, _LABELS))
        starts, ends = (np.array(values) for values in zip(*((a.start, a.end) for a in actions), strict=True))
        return {
            "label": torch.tensor([action.label for action in actions]),
            "progress": torch.from_numpy(progress(seconds, starts, ends, self.moments.progress)),
        }

    def _pixels(self, row: int, numbers: np.ndarray, epoch: int) -> tuple[np.ndarray, dict[str, Tensor]]:
        """The images that are really there, and their views."""
        video, found = self.table.video(row), {}
        record = self.records[video]
        with ExitStack() as stack:
            sources: dict[str, FileImages | FolderImages | FlowFolder] = {}
            if "rgb" in self.moments.streams:
                sources["rgb"] = stack.enter_context(self._open(video))
            if "flow" in self.moments.streams:
                sources["flow"] = FlowFolder(record.flow, self.moments.flow)
            if not all(source.has(int(numbers[-1])) for source in sources.values()):
                count = min(source.count for source in sources.values())
                if last_image(count, self.moments) < 1:
                    raise VideoError(f"{record.path} has {count} images, too few for one sample. Leave it out.")
                numbers = self.table.images(row, count)
            if "rgb" in sources:
                rng = self._generator(epoch, row, _RGB)
                views = [train_rgb(picture, self.spec, rng) for picture in sources["rgb"].pictures(numbers)]
                found["rgb"] = torch.stack(views)
            if "flow" in sources:
                rng = self._generator(epoch, row, _FLOW)
                views = [train_flow(sources["flow"].stack(n), self.spec, rng) for n in numbers.tolist()]
                found["flow"] = torch.stack(views)
        return numbers, found | {f"{stream}_time": torch.from_numpy(numbers) for stream in sources}

    def _open(self, video: int) -> FileImages | FolderImages:
        """A video's images."""
        return open_images(self.records[video].path, self.fps)

    def _generator(self, epoch: int, row: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, row, purpose))


class WholeMoments(torch.utils.data.Dataset):
    """Every video as the images that a test looks at; row v is video v.

    With ``spec.pixels`` False no file is opened: the annotations are all that there is of a video.
    """

    def __init__(self, records: Sequence[ActivityRecord], spec: VideoSpec) -> None:
        self.records, self.spec = records, spec

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, spec = self.records[index], self.spec
        sample = {
            "index": torch.tensor([index]),
            "scene": torch.tensor([record.scene]),
            "label": torch.from_numpy(video_label(record.actions, record.classes)[None]),
            "moment_label": torch.from_numpy(localisation_labels(record.actions, record.length, record.classes)[None]),
            "duration": np.array([record.length]),
            "lengths": torch.tensor([0]),
            "unreadable": [],
        }
        if not spec.pixels:
            return sample
        try:
            return sample | test_moments(record.path, spec, record.flow)
        except VideoError as error:
            return {
                **{key: value[:0] for key, value in sample.items()},
                **_nothing(spec),
                "unreadable": [(index, f"{record.name}: {error}")],
            }


class ShareSampler(TrainSampler):
    """As `TrainSampler`, of a part of the samples only: another one every epoch, drawn without repetition."""

    def __init__(self, dataset: TrainMoments, rank: int, world_size: int, seed: int, share: float) -> None:
        super().__init__(dataset, rank, world_size, seed)
        # As many for every process, and at least one.
        self.num_samples = max(ceil(share * len(dataset)) // world_size, 1)
        self.total_size = self.num_samples * world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.randperm(len(self.dataset), generator=generator)[: self.total_size]
        if len(drawn) < self.total_size:  # fewer samples than processes
            drawn = drawn.repeat(ceil(self.total_size / len(drawn)))[: self.total_size]
        # Millions may be drawn from: no list is made of more than this process's.
        return iter([(row, self.epoch) for row in drawn[self.rank :: self.num_replicas][start:].tolist()])


def collate_moments(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples to one batch: everything is joined. What could not be read has no rows (so a batch may be empty).

    Seconds (``duration``) are NumPy's doubles: half precision would round tensors of them.
    """
    batch: dict[str, Any] = {}
    for key in samples[0].keys() - {"unreadable"}:
        parts = [sample[key] for sample in samples]
        batch[key] = torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)
    return batch | {"unreadable": [entry for sample in samples for entry in sample["unreadable"]]}


def _nothing(spec: VideoSpec) -> dict[str, Tensor]:
    """What `test_moments` gives, of no image."""
    channels = {"rgb": 3, "flow": 2 * spec.moments.flow}
    found = {}
    for stream in spec.moments.streams:
        found[stream] = torch.empty(0, channels[stream], spec.test_crop, spec.test_crop, dtype=torch.uint8)
        found[f"{stream}_time"] = torch.empty(0, dtype=torch.int64)
    return found
