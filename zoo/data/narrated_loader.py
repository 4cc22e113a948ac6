"""Feeding clips with candidate captions to a Trainer: the data set over a list of records, and how samples are batched.

The promises of `zoo.data.loader` hold here too: a video that cannot be decoded, or whose captions cannot be read, never
ends a run, and every random draw depends on (seed, epoch, sample) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from zoo.data import sampling
from zoo.data.loader import UNLABELLED, read_patiently
from zoo.data.narration import Narration, candidates, clip_start, narration_of, read_captions
from zoo.data.transforms import crop_view
from zoo.data.video import VideoReader
from zoo.errors import DataError, VideoError
from zoo.spec import VideoSpec

LEAST = 5.0  # seconds that a caption counts for, however short it is


@dataclass(frozen=True)
class NarratedRecord:
    """One video, and where its captions are: a csv file, or their entry in caption.json.

    Attributes:
        label: none.
    """

    path: Path
    name: str
    captions: Path
    entry: Any = None
    label: int = UNLABELLED

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        return self.name

    def narration(self) -> Narration:
        """What is said.

        Raises:
            DataError: the captions are not there, or not as they should be.
        """
        if self.entry is None:
            return read_captions(self.captions)
        return narration_of(self.entry, f"{self.captions}, {self.name}")


@dataclass(frozen=True)
class Draw:
    """What a sample is of a video.

    Attributes:
        frames: numbers of the file's frames, int64 ``[T]``.
        texts: the candidate captions, first the one that the clip was cut by.
        times: start and end of the clip, seconds.
    """

    frames: np.ndarray
    texts: list[str]
    times: tuple[float, float]


class NarratedClips(Dataset):
    """Clips with candidate captions. Training asks with ``(index, epoch)``, evaluation with ``index`` alone."""

    def __init__(self, records: Sequence[NarratedRecord], spec: VideoSpec, seed: int = 0, captions: int = 4) -> None:
        """
        Args:
            records: the videos.
            spec: what the model wants.
            seed: of all draws.
            captions: candidates of a clip.
        """
        self.records, self.spec, self.seed, self.captions = records, spec, seed, captions

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        if isinstance(key, tuple):
            index, epoch = key
            rng = np.random.default_rng((self.seed, epoch, index))
            return read_patiently(
                index, lambda i: self.read(i, rng, training=True), lambda: int(rng.integers(len(self)))
            )
        try:
            return {**self.read(key, np.random.default_rng((self.seed, key)), training=False), "unreadable": []}
        except VideoError as error:
            return {"index": key, "unreadable": [(key, f"{self.records[key].name}: {error}")]}

    def read(self, index: int, rng: np.random.Generator, *, training: bool) -> dict[str, Any]:
        """A sample of a video.

        Raises:
            VideoError: the video or its captions cannot be read.
        """
        spec = self.spec
        try:
            narration = self.records[index].narration()
        except DataError as error:
            raise VideoError(str(error)) from None
        with self._open(index) as video:
            draw = draw_clip(frame_times(video), narration, spec, self.captions, rng)
            short = sampling.short_side_jitter(spec.short_side, rng) if training else spec.test_short_side
            frames = video.read(draw.frames, short_side=short, size=spec.size)
        clip = cut_clip(frames, spec, rng, training=training)
        return {"clips": clip, "captions": draw.texts, "times": draw.times, "index": index}

    def _open(self, index: int) -> VideoReader:
        return VideoReader(self.records[index].path, threads=1)


def frame_times(video: VideoReader) -> np.ndarray:
    """When each frame of a video comes on, seconds after the first, float64 ``[N]``.

    Raises:
        VideoError: the file does not tell.
    """
    # Where the file's index shows a steady rate nothing else need be read.
    times = np.arange(video.frames) / video.steady_rate if video.steady_rate else video.times()
    if len(times) > 1 and not 0 < times[-1] < np.inf:
        raise VideoError(
            f"{video.info.path} does not tell how fast its frames follow each other, so nobody knows where a caption "
            "is. Store it with a frame rate: `ffmpeg -r 25 -i FILE NEW.mp4`."
        )
    return times


def draw_clip(
    times: np.ndarray, narration: Narration, spec: VideoSpec, captions: int, rng: np.random.Generator
) -> Draw:
    """A random caption, a clip of it, and the captions nearest to it.

    A clip that would run over the video's end starts earlier; a video shorter than a clip goes on from its beginning.

    Args:
        times: of the video's frames.
        narration: its captions.
        spec: how long a clip is: ``frames`` of every ``stride``-th frame at ``fps``, or as the file has them.
        captions: candidates.
        rng: draws the caption, then where in it the clip starts.
    """
    number = int(rng.integers(len(narration)))
    fps = spec.fps or ((len(times) - 1) / times[-1] if len(times) > 1 else 1.0)
    span = spec.frames * spec.stride
    start = round(clip_start(narration.times[number], span / fps, LEAST, rng) * fps)
    count = sampling.count_at_rate(times, fps)
    first = max(0, min(start, count - span))
    numbers = (first + spec.stride * np.arange(spec.frames)) % count
    row = candidates(narration.times, number, captions)
    row.insert(0, row.pop(row.index(number)))
    frames = sampling.at_rate(times, fps, numbers)
    return Draw(frames, [narration.text[i] for i in row], (first / fps, (first + span) / fps))


def cut_clip(frames: np.ndarray, spec: VideoSpec, rng: np.random.Generator, *, training: bool) -> torch.Tensor:
    """A random window of scaled frames ``[T, H, W, 3]``, mirrored or not, or their middle; uint8 ``[3, T, S, S]``."""
    if not training:
        (corner,) = sampling.three_crops(*frames.shape[1:3], spec.test_crop, 1)
        return crop_view(frames, corner, spec.test_crop)
    corner = sampling.random_crop(*frames.shape[1:3], spec.crop, rng)
    return crop_view(frames, corner, spec.crop, mirrored=spec.flip and rng.random() < 0.5)


def collate_narrated(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples to one batch; those without clips only leave their mark in ``unreadable`` (so a batch may be empty)."""
    readable = [s for s in samples if "clips" in s]
    return {
        "clips": torch.stack([s["clips"] for s in readable]) if readable else torch.empty(0, dtype=torch.uint8),
        "captions": [s["captions"] for s in readable],
        "times": np.array([s["times"] for s in readable], dtype=np.float64).reshape(-1, 2),
        "index": torch.tensor([s["index"] for s in readable], dtype=torch.int64),
        "unreadable": [entry for s in samples for entry in s["unreadable"]],
    }
