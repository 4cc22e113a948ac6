"""Training the sandbox's models from memory: videos that are decoded once, and clips cut out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from zoo.data import sampling
from zoo.data.datamodule import VideoDataModule
from zoo.data.loader import TrainClips, TrainSampler, collate
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

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        data = RememberedClips(self.records("train"), self.spec, self.seed, self.videos)
        sampler = TrainSampler(data, *self._place(), seed=self.seed)
        return torch.utils.data.DataLoader(data, self.batch_size, sampler=sampler, collate_fn=collate, drop_last=True)


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
