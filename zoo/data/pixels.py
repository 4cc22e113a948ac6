"""The pixels of a clip as the failure videos' releases make them: bilinear without smoothing, in float32.

The other data sets are scaled by the decoder, which smooths when it shrinks and rounds to bytes. Here a window of the
scaled picture is computed right from the picture as it was decoded: an output pixel is four source pixels, so nothing
outside the window costs anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from zoo.data import sampling
from zoo.spec import VideoSpec


@dataclass(frozen=True)
class Window:
    """A square window of a picture that is mirrored (or not) and then scaled.

    Attributes:
        height: that the picture is scaled to.
        width: that the picture is scaled to.
        top: of the window in the scaled picture.
        left: of the window in the scaled picture.
        size: side of the window.
        mirrored: whether left and right change places.
    """

    height: int
    width: int
    top: int
    left: int
    size: int
    mirrored: bool = False

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The window of a picture, uint8 ``[H, W, 3]`` to float32 ``[3, size, size]`` in 0..255, not rounded."""
        height, width = picture.shape[:2]
        rows, down = _taps(height, self.height, self.top, self.size)
        columns, right = _column_taps(width, self.width, self.left, self.size, self.mirrored)
        half = len(right)
        corners = picture[rows].reshape(2 * self.size, -1).take(columns, axis=1).astype(np.float32)
        across = corners[:, :half] * (1 - right) + corners[:, half:] * right
        window = across[: self.size] * (1 - down[:, None]) + across[self.size :] * down[:, None]
        return window.reshape(self.size, 3, self.size).swapaxes(0, 1)


def draw_window(height: int, width: int, spec: VideoSpec, rng: np.random.Generator) -> Window:
    """A training window of a picture of this size; drawn in this order: mirroring, short side, top, left."""
    mirrored = spec.flip and rng.random() < 0.5
    scaled = spec.size or scaled_size(height, width, sampling.short_side_jitter(spec.short_side, rng))
    return Window(*scaled, *sampling.random_crop(*scaled, spec.crop, rng), spec.crop, mirrored)


def centre_window(height: int, width: int, spec: VideoSpec) -> Window:
    """The test window of a picture of this size: its centre (half pixels round to the even number)."""
    scaled = spec.size or scaled_size(height, width, spec.test_short_side)
    top, left = (round((side - spec.test_crop) / 2) for side in scaled)
    return Window(*scaled, top, left, spec.test_crop)


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """``(height, width)`` with ``short_side`` as the shorter side and the other in proportion, truncated."""
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


@lru_cache(maxsize=256)
def _taps(source: int, target: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where ``count`` output pixels from ``first`` on lie between two source pixels, where ``source`` pixels become
    ``target``: the numbers of the nearer-to-0 ones, then of their neighbours, int64 ``[2 * count]``; and the
    neighbours' weights, float32 ``[count]``. Pixel centres are half a pixel in (``align_corners=False``).
    """
    ratio = float(np.float32(source) / np.float32(target))
    # In float64 and rounded once: what a fused multiply-add gives in float32.
    places = ((np.arange(first, first + count) + 0.5) * ratio - 0.5).astype(np.float32)
    places = np.maximum(places, np.float32(0))
    lower = np.minimum(places.astype(np.int64), source - 1)
    return np.concatenate([lower, np.minimum(lower + 1, source - 1)]), places - lower.astype(np.float32)


@lru_cache(maxsize=256)
def _column_taps(source: int, target: int, first: int, count: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """`_taps` for a row of RGB pixels as it lies in memory: one colour after the other, each with its weights."""
    columns, weights = _taps(source, target, first, count)
    if mirrored:
        columns = source - 1 - columns
    colours = columns.reshape(2, 1, count) * 3 + np.arange(3)[:, None]
    return colours.ravel(), np.tile(weights, 3)
