"""From a file to the views that a network eats: decoded, scaled, cropped, mirrored, as uint8 tensors.

`train_view` and `test_views` are all that a datamodule needs. Normalisation is the model's, on its own device.
"""

from __future__ import annotations

import os
from os import PathLike

import numpy as np
import torch

from zoo.data import sampling
from zoo.data.images import ImageFolder
from zoo.data.video import VideoReader
from zoo.errors import VideoError
from zoo.spec import VideoSpec


def train_view(
    path: str | PathLike[str], spec: VideoSpec, rng: np.random.Generator, *, threads: int = 1
) -> torch.Tensor:
    """One random training view of a video, uint8 ``[3, T, crop, crop]`` RGB.

    ``T`` is ``spec.frames``, and two more for the sampling ``"past_and_target"``. Clip, short side, window and
    mirroring are drawn from ``rng`` in this order, one draw each for the whole clip. A folder of pictures is a video
    too; it counts as prepared at ``spec.fps``.

    Raises:
        VideoError: the file cannot be decoded, or ``spec.fps`` asks for a rate and the file does not tell its own.
    """
    sample = sampling.TRAINING[spec.sampling]
    with _open(path, threads) as video:
        n, times = _counted(video, path, spec.fps)
        indices = sample(n, frames=spec.frames, stride=spec.stride, rng=rng)
        frames = video.read(
            indices if times is None else sampling.at_rate(times, spec.fps, indices),
            short_side=sampling.short_side_jitter(spec.short_side, rng),
            size=spec.size,
        )
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
    """The test views of a video, uint8 ``[V, 3, T, test_crop, test_crop]`` RGB: plain clips of ``T = spec.frames``.

    Args:
        path: the video file.
        spec: what the model wants to eat.
        clip: a number in ``0 .. spec.clips - 1`` for that clip's ``V = spec.crops`` views, or None for all
            ``V = spec.views``. View ``clip * spec.crops + crop`` shows crop ``crop`` of clip ``clip`` (clip-major).
        threads: decoder threads; keep 1 inside a loader's worker.

    Raises:
        VideoError: the file cannot be decoded, or ``spec.fps`` asks for a rate and the file does not tell its own.
    """
    with _open(path, threads) as video:
        n, times = _counted(video, path, spec.fps)
        clips = sampling.test_clips(n, spec.frames, spec.stride, spec.clips)
        clips = clips if clip is None else clips[clip : clip + 1]
        clips = clips if times is None else sampling.at_rate(times, spec.fps, clips)
        wanted, place = np.unique(clips, return_inverse=True)
        frames = video.read(wanted, short_side=spec.test_short_side, size=spec.size)
    corners = sampling.three_crops(*frames.shape[1:3], spec.test_crop, spec.crops)
    views = torch.empty(len(clips) * len(corners), 3, spec.frames, spec.test_crop, spec.test_crop, dtype=torch.uint8)
    for number, indices in enumerate(place.reshape(clips.shape)):
        for crop, corner in enumerate(corners):
            views[number * len(corners) + crop] = crop_view(frames[indices], corner, spec.test_crop)
    return views


def _open(path: str | PathLike[str], threads: int) -> VideoReader | ImageFolder:
    return ImageFolder(path) if os.path.isdir(path) else VideoReader(path, threads=threads)


def _counted(
    video: VideoReader | ImageFolder, path: str | PathLike[str], fps: float | None
) -> tuple[int, np.ndarray | None]:
    """How many frames a video has at the rate asked for, and when its own come on (None: its own are counted)."""
    if fps is None or isinstance(video, ImageFolder):
        return video.frames, None
    steady = video.steady_rate
    # Reading all time stamps reads the file to its end, which is a lot where a clip is wanted out of hours.
    times = np.arange(video.frames) / steady if steady else video.times()
    if len(times) > 1 and not 0 < times[-1] < np.inf:
        raise VideoError(
            f"{path} does not tell how fast its frames follow each other, and {fps:g} frames per second are asked for. "
            "Store it with a frame rate: `ffmpeg -r 25 -i FILE NEW.mp4`."
        )
    return sampling.count_at_rate(times, fps), times


def crop_view(frames: np.ndarray, corner: tuple[int, int], size: int, *, mirrored: bool = False) -> torch.Tensor:
    """Cut one square window out of all frames, ``[T, H, W, 3]`` to a contiguous ``[3, T, size, size]`` tensor."""
    top, left = corner
    window = frames[:, top : top + size, left : left + size]
    if mirrored:
        window = window[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(window.transpose(3, 0, 1, 2)))
