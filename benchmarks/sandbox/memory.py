"""Training the sandbox's models from memory: videos that are decoded once, and clips cut out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from zoo.data import sampling
from zoo.data.clip_sampling import clip_table
from zoo.data.datamodule import VideoDataModule
from zoo.data.loader import TrainClips
from zoo.data.moment_loader import TrainMoments, WholeMoments
from zoo.data.moments import open_images
from zoo.data.pixels import draw_window
from zoo.data.sandbox.datamodules import SandboxCharades, SandboxOops
from zoo.data.trajectory_loader import FailureRecord, TrainTrajectories
from zoo.data.transforms import crop_view
from zoo.data.video import VideoReader
from zoo.files import write_whole
from zoo.spec import VideoSpec


class RememberedClips(TrainClips):
    """`TrainClips` out of decoded videos; the same draws give the same clips."""

    def __init__(self, records: list, spec: VideoSpec, seed: int, videos: np.ndarray) -> None:
        super().__init__(records, spec, seed)
        self.videos = videos  # uint8 [N, T, H, W, 3], already at the spec's one short side and rate

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, epoch = key
        rng = np.random.default_rng((self.seed, epoch, index))
        frames, spec = self.videos[index], self.spec
        sample = sampling.TRAINING[spec.sampling]
        chosen = sample(len(frames), frames=spec.frames, stride=spec.stride, rng=rng)
        sampling.short_side_jitter(spec.short_side, rng)
        corner = sampling.random_crop(*frames.shape[1:3], spec.crop, rng)
        clip = crop_view(frames[chosen], corner, spec.crop)
        return {"clips": clip, "label": self.records[index].label, "index": index, "unreadable": []}


class Remembered:
    """A datamodule of the sandbox that trains from memory and tests from the files; stands before it."""

    videos: np.ndarray

    def _training_data(self) -> RememberedClips:
        return RememberedClips(self.records("train"), self.spec, self.seed, self.videos)


def remember(data: VideoDataModule, path: Path) -> None:
    """Decode every training video once, whole, at the spec's short side, into one array on disk."""
    low, high = data.spec.short_side
    if low != high or data.spec.flip:
        raise zoo.ZooError("training from memory wants one short side and no mirroring; see RememberedClips.")
    videos = []
    for record in data.records("train"):
        with VideoReader(record.path, threads=1) as video:
            videos.append(video.read(np.arange(video.frames), short_side=low))
    np.save(path, np.stack(videos))


class RememberedTrajectories(TrainTrajectories):
    """`TrainTrajectories` out of scaled videos; the same draws give the same trajectories, rounded to bytes."""

    def __init__(self, *arguments: Any, frames: np.ndarray, index: dict[str, Any]) -> None:
        super().__init__(*arguments)
        self.frames, self.index = frames, index

    def _clips(
        self, record: FailureRecord, choose: Callable[[int], np.ndarray], rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start, fps, times, (height, width) = self.index[record.name]
        table = clip_table(fps, np.array(times), self.spec)
        table = table[choose(len(table))]
        clips = torch.empty(len(table), 3, self.spec.frames, self.spec.crop, self.spec.crop)
        windows = [draw_window(height, width, self.spec, rng) for _ in range(len(table))]
        for clip, window, numbers in zip(clips, windows, table.frames, strict=True):
            rows = self.frames[start + numbers, window.top : window.top + window.size]
            rows = rows[:, :, :: -1 if window.mirrored else 1]  # first mirrored, then cut, as in the datamodule
            cut = rows[:, :, window.left : window.left + window.size]
            clip.copy_(torch.from_numpy(np.ascontiguousarray(cut)).movedim(-1, 0))
        return clips, torch.from_numpy(table.times)


class RememberedOops(SandboxOops):
    """The sandbox's failures, trained on from memory and tested from the files."""

    def __init__(self, *arguments: Any, memory: Path, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.memory = memory

    def _training_data(self) -> RememberedTrajectories:
        return RememberedTrajectories(
            self.records("train"),
            self.spec,
            self.seed,
            self.words if self.goals else None,
            frames=np.load(self.memory / "videos.npy", mmap_mode="r"),
            index=json.loads((self.memory / "videos.json").read_text()),
        )


def remember_oops(data: SandboxOops, folder: Path) -> None:
    """Scale every training video once, annotated or not, into one array on disk with an index beside it."""
    size = data.spec.size
    if size is None:
        raise zoo.ZooError("training from memory wants one size of all frames (spec.size); see RememberedTrajectories.")
    if (folder / "videos.json").exists():
        return
    index, videos, start = {}, [], 0
    for record in (*data.records("train"), *data.unlabelled()):
        with VideoReader(record.path, threads=1) as video:
            frames = torch.from_numpy(video.read(np.arange(video.frames))).permute(0, 3, 1, 2).float()
            scaled = torch.nn.functional.interpolate(frames, size, mode="bilinear", align_corners=False)
            times = video.presentation_times().tolist()
            index[record.name] = (start, video.fps, times, tuple(frames.shape[2:]))
        videos.append(scaled.round().byte().permute(0, 2, 3, 1).numpy())
        start += len(frames)
    np.save(folder / "videos.npy", np.concatenate(videos))
    (folder / "videos.json").write_text(json.dumps(index))


class Shown:
    """A video's images out of an array, used as `zoo.data.moments.FileImages` is."""

    def __init__(self, count: int, numbers: np.ndarray, pictures: np.ndarray) -> None:
        self.count, self.numbers, self._pictures = count, numbers, pictures

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def has(self, number: int) -> bool:
        return 1 <= number <= self.count

    def pictures(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        yield from self._pictures[np.searchsorted(self.numbers, numbers)]


class RememberedMoments(TrainMoments):
    """`TrainMoments` out of decoded images; the same draws give the same samples."""

    def __init__(self, *arguments: Any, shown: list[Shown]) -> None:
        super().__init__(*arguments)
        self.shown = shown

    def _open(self, video: int) -> Shown:
        return self.shown[video]


class RememberedCharades(SandboxCharades):
    """The sandbox's household, trained on and validated from memory and tested from the files."""

    def __init__(self, *arguments: Any, memory: Path, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.memory = memory

    def _training_data(self) -> RememberedMoments:
        index = json.loads((self.memory / "household.json").read_text())
        pictures = np.load(self.memory / "household.npy", mmap_mode="r")
        shown, start = [], 0
        for count in index:
            numbers = np.arange(1, count + 1, self.spec.moments.every)
            shown.append(Shown(count, numbers, pictures[start : start + len(numbers)]))
            start += len(numbers)
        return RememberedMoments(self.records("train"), self.spec, self.seed, shown=shown)

    def _evaluation_data(self, spec: VideoSpec) -> list[dict[str, Any]]:
        if not hasattr(self, "_seen"):  # a validation after every so many steps decodes once
            self._seen = list(map(WholeMoments(self.records("val"), spec).__getitem__, range(len(self.records("val")))))
        return self._seen


def remember_charades(data: SandboxCharades, folder: Path) -> None:
    """Decode the images of every training video that training looks at, into one array on disk."""
    if (folder / "household.json").exists():
        return
    counts, pictures = [], []
    for record in data.records("train"):
        with open_images(record.path, data.spec.fps) as images:
            counts.append(images.count)
            pictures += images.pictures(np.arange(1, images.count + 1, data.spec.moments.every))
    np.save(folder / "household.npy", np.stack(pictures))
    write_whole(folder / "household.json", json.dumps(counts).encode())
