"""Which frames and which windows: the sampling arithmetic of the published releases, on numbers alone.

Everything random comes from a `numpy.random.Generator` that the caller passes, so a seed decides every view. The
deterministic parts repeat the non-local release's float32 arithmetic, truncation included; `past_and_target` is the
rule of TimeCycle (Wang, Jabri and Efros 2019).
"""

from __future__ import annotations

import math

import numpy as np

_LATE = 1e-3  # seconds that a time stamp may lag behind its frame: WebM rounds them to milliseconds


def train_clip(n: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Frame numbers of one training clip, int64 ``[frames]``, out of a video of ``n`` frames.

    The start is uniform on ``0 .. n - frames * stride`` (both ends included) where the video is longer than the clip
    spans, else 0; a clip that runs over the end goes on from the beginning.
    """
    _check(n)
    start = int(rng.integers(0, n - frames * stride + 1)) if n > frames * stride else 0
    return (start + stride * np.arange(frames, dtype=np.int64)) % n


def past_and_target(
    n: int, rng: np.random.Generator, frames: int = 4, stride: int = 2, *, start: int | None = None
) -> np.ndarray:
    """Frame numbers of a clip to track through and of what comes later, int64 ``[frames + 2]``, of ``n`` frames.

    The first ``frames`` lie ``stride`` apart; then come the target, ``2 * frames * stride - 1`` after the first one,
    and the frame ``stride`` after the target (or the video's last), which tells where the target moves. The start is
    uniform over the places where first to target fit. A video that is shorter is sampled more densely: first to target
    span two thirds of it, in fractional steps.

    Args:
        n: frames of the video.
        rng: draws the start.
        frames: in the clip.
        stride: frames from one to the next.
        start: the first frame's number instead of a random one, at most `last_start`.
    """
    _check(n)
    last, span = last_start(n, frames, stride), 2 * frames * stride
    start = int(rng.integers(0, last + 1)) if start is None else start
    if n >= span:
        step, target = float(stride), start + span - 1
    else:
        step = (n - last - 1) / span
        target = int(start + span * step)
    clip = [int(start + i * step) for i in range(frames)]
    return np.array([*clip, target, min(int(target + step), n - 1)], dtype=np.int64)


def last_start(n: int, frames: int = 4, stride: int = 2) -> int:
    """The largest number that the first frame of `past_and_target` may have in a video of ``n`` frames."""
    span = 2 * frames * stride
    return n - span if n >= span else n - max(1, 2 * n // 3)


def count_at_rate(times: np.ndarray, fps: float) -> int:
    """Frames that a video has when it is counted ``fps`` frames a second.

    Args:
        times: when each frame comes on, seconds after the first, ascending, ``[N]``; the last one stays on for as long
            as its predecessors do on average.
        fps: frames per second to count by.
    """
    if len(times) == 1:
        return 1
    end = times[-1] * len(times) / (len(times) - 1)
    return max(1, math.ceil((end - _LATE) * fps))


def at_rate(times: np.ndarray, fps: float, numbers: np.ndarray) -> np.ndarray:
    """The frames of the file, int64, that are on at ``numbers / fps`` seconds; see `count_at_rate`."""
    return np.maximum(np.searchsorted(times, numbers / fps + _LATE, side="right") - 1, 0)


def test_clips(n: int, frames: int, stride: int, clips: int) -> np.ndarray:
    """Frame numbers of the ``clips`` test clips, int64 ``[clips, frames]``, out of a video of ``n`` frames.

    Clip c starts at ``c * n / clips``, computed in float32 and truncated; clips near the end go on from the beginning.
    A single clip is the middle one: the release has no such protocol, and a video's beginning says least about it.
    """
    _check(n)
    if clips == 1:
        return (max(0, (n - frames * stride) // 2) + stride * np.arange(frames, dtype=np.int64)[None]) % n
    step = np.float32(n) / np.float32(clips)
    starts = (step * np.arange(clips, dtype=np.float32)).astype(np.int64) % n
    return (starts[:, None] + stride * np.arange(frames, dtype=np.int64)) % n


def short_side_jitter(short_side: tuple[int, int], rng: np.random.Generator) -> int:
    """A short side in pixels, uniform on the closed range ``short_side``."""
    low, high = short_side
    return int(rng.integers(low, high + 1))


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """``(height, width)`` after scaling the shorter side to ``short_side`` and keeping the shape.

    Both sides are multiplied by one float32 ratio and truncated. That can leave the shorter side a pixel below the
    target (220 to 256 gives 255), which no crop of the target's size survives, so no side falls below ``short_side``.
    """
    ratio = np.float32(short_side) / np.float32(min(height, width))
    return tuple(max(short_side, int(np.float32(side) * ratio)) for side in (height, width))


def random_crop(height: int, width: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """The ``(top, left)`` corner of a ``size`` x ``size`` window, uniform over the places where it fits."""
    return int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))


def three_crops(height: int, width: int, size: int, crops: int = 3) -> list[tuple[int, int]]:
    """The ``(top, left)`` corners of the test crops: 1 (the centre) or 3 (start, middle, end of the longer side)."""
    top, left = (height - size) // 2, (width - size) // 2
    if crops == 1:
        return [(top, left)]
    return [(top * p, left) if height > width else (top, left * p) for p in range(3)]


def _check(n: int) -> None:
    if n < 1:
        raise ValueError(f"a video needs at least one frame to sample from, got {n}")


#: How a training clip's frames are chosen, by `VideoSpec.sampling`.
TRAINING = {"clip": train_clip, "past_and_target": past_and_target}
