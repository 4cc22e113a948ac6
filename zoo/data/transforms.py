"""From a file to the views that a network eats: decoded, scaled, cropped, mirrored, as uint8 tensors.

`train_view` and `test_views` are all that a datamodule needs. Normalisation is the model's, on its own device.
"""

from __future__ import annotations

from os import PathLike

import numpy as np
import torch

from zoo.data import sampling
from zoo.data.video import VideoReader
from zoo.spec import VideoSpec


def train_view(
    path: str | PathLike[str], spec: VideoSpec, rng: np.random.Generator, *, threads: int = 1
) -> torch.Tensor:
    """One random training view of a video, uint8 ``[3, T, crop, crop]`` RGB.

    Clip, short side, window and mirroring are drawn from ``rng`` in this order, one draw each for the whole clip.

    Raises:
        VideoError: the file cannot be decoded.
    """
    with VideoReader(path, threads=threads) as video:
        indices = sampling.train_clip(video.frames, spec.frames, spec.stride, rng)
        frames = video.read(indices, short_side=sampling.short_side_jitter(spec.short_side, rng))
    corner = sampling.random_crop(*frames.shape[1:3], spec.crop, rng)
    mirrored = spec.flip and rng.random() < 0.5
    return crop_view(frames, corner, spec.crop, mirrored=mirrored)


def test_views(
    path: str | PathLike[str],
    spec: VideoSpec,
    clip: int | None,
    *,
    threads: int = 1,  # noqa: PT028 (not a pytest function)
) -> torch.Tensor:
    """The test views of a video, uint8 ``[V, 3, T, test_crop, test_crop]`` RGB.

    Args:
        path: the video file.
        spec: what the model wants to eat.
        clip: a number in ``0 .. spec.clips - 1`` for that clip's ``V = spec.crops`` views, or None for all
            ``V = spec.views``. View ``clip * spec.crops + crop`` shows crop ``crop`` of clip ``clip`` (clip-major).
        threads: decoder threads; keep 1 inside a loader's worker.

    Raises:
        VideoError: the file cannot be decoded.
    """
    with VideoReader(path, threads=threads) as video:
        clips = sampling.test_clips(video.frames, spec.frames, spec.stride, spec.clips)
        clips = clips if clip is None else clips[clip : clip + 1]
        wanted, place = np.unique(clips, return_inverse=True)
        frames = video.read(wanted, short_side=spec.test_short_side)
    corners = sampling.three_crops(*frames.shape[1:3], spec.test_crop, spec.crops)
    views = torch.empty(len(clips) * len(corners), 3, spec.frames, spec.test_crop, spec.test_crop, dtype=torch.uint8)
    for number, indices in enumerate(place.reshape(clips.shape)):
        for crop, corner in enumerate(corners):
            views[number * len(corners) + crop] = crop_view(frames[indices], corner, spec.test_crop)
    return views


def crop_view(frames: np.ndarray, corner: tuple[int, int], size: int, *, mirrored: bool = False) -> torch.Tensor:
    """Cut one square window out of all frames, ``[T, H, W, 3]`` to a contiguous ``[3, T, size, size]`` tensor."""
    top, left = corner
    window = frames[:, top : top + size, left : left + size]
    if mirrored:
        window = window[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(window.transpose(3, 0, 1, 2)))
