"""Training the sandbox's models from memory: videos that are decoded once, and clips cut out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from zoo.data import sampling
from zoo.data.clip_sampling import clip_table
from zoo.data.datamodule import VideoDataModule
from zoo.data.loader import TrainClips
from zoo.data.pixels import draw_window
from zoo.data.sandbox.datamodules import SandboxOops
from zoo.data.trajectory_loader import FailureRecord, TrainTrajectories
from zoo.data.transforms import crop_view
from zoo.data.video import VideoReader
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
