"""From a decoded image or a stack of flow to the square that a network eats, uint8: scaled, cropped and, in training,
recoloured and mirrored as the releases of Charades' models do it.

Scaling is Pillow's bilinear, which smooths when it shrinks: what the PyTorch port uses. The Torch release scales by a
bicubic. Colours change in floating point and are rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.opening import check_size
from zoo.data.pixels import centre_window
from zoo.spec import VideoSpec

_TRIES = 10  # at a window that fits, before the largest one in the middle is taken
_ASPECT = (3 / 4, 4 / 3)  # width to height of a training window
_GREY = np.array([0.299, 0.587, 0.114])
# Of ImageNet's colours in 0..1, by Krizhevsky et al. 2012: the columns are the principal components.
_COMPONENTS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_STRENGTHS = np.array([0.2175, 0.0188, 0.0045])

Box = tuple[int, int, int, int]


def train_rgb(picture: np.ndarray, spec: VideoSpec, rng: np.random.Generator) -> Tensor:
    """A random training view of a picture, uint8 ``[H, W, 3]`` to ``[3, crop, crop]``.

    Drawn in this order: window, colours, mirroring.
    """
    window = _cut(picture, random_window(*picture.shape[:2], spec.moments.area, rng), spec.crop)
    colours, shift = draw_colours(window.mean(axis=(0, 1)), spec.moments.jitter, spec.moments.lighting, rng)
    flat = window.reshape(-1, 3).astype(np.float32) @ colours.T.astype(np.float32) + shift.astype(np.float32)
    window = np.clip(np.rint(flat), 0, 255).astype(np.uint8).reshape(window.shape)
    if spec.flip and rng.random() < 0.5:
        window = window[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))


def train_flow(planes: Sequence[np.ndarray], spec: VideoSpec, rng: np.random.Generator) -> Tensor:
    """A random training view of a stack of flow, ``[H, W]`` each, as uint8 ``[2F, crop, crop]``: one window for all.

    A mirrored flow would have to change its sign too, and the releases mirror none.
    """
    box = random_window(*planes[0].shape, spec.moments.area, rng)
    return torch.from_numpy(np.stack([_cut(plane, box, spec.crop) for plane in planes]))


def test_rgb(picture: np.ndarray, spec: VideoSpec, path: Path) -> Tensor:
    """The centre of a picture of a file, uint8 ``[H, W, 3]`` to ``[3, test_crop, test_crop]``.

    Raises:
        VideoError: its shape is so odd that it would become absurdly large.
    """
    return torch.from_numpy(np.ascontiguousarray(_centre(picture, spec, path).transpose(2, 0, 1)))


def test_flow(planes: Sequence[np.ndarray], spec: VideoSpec, path: Path) -> Tensor:
    """The centre of a stack of flow, ``[H, W]`` each, as uint8 ``[2F, test_crop, test_crop]``; see `test_rgb`."""
    return torch.from_numpy(np.stack([_centre(plane, spec, path) for plane in planes]))


def random_window(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> Box:
    """A window ``(left, top, right, bottom)`` that covers a random part of a picture, of a random aspect.

    The area is uniform, the aspect's logarithm too. Where ten of them do not fit it is the largest one in the middle
    of an aspect that may be.
    """
    for _ in range(_TRIES):
        pixels = height * width * rng.uniform(*area)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        across, down = round(float(np.sqrt(pixels * aspect))), round(float(np.sqrt(pixels / aspect)))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
            return left, top, left + across, top + down
    low, high = _ASPECT
    across = min(width, max(round(height * high), 1))
    down = min(height, max(round(width / low), 1))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def draw_colours(
    mean: np.ndarray, jitter: float, lighting: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random change of colours as one affine map: ``colour @ matrix.T + shift``, ``[3, 3]`` and ``[3]``, in 0..255.

    Brightness, contrast and saturation change in random order, each by a factor within ``jitter`` of 1: towards black,
    towards the mean grey of the picture as it is by then, towards each pixel's grey. Then every pixel is shifted along
    the principal components of colour, by normal numbers of deviation ``lighting``. All of these are affine and so is
    their chain, so a pixel is touched once.

    Args:
        mean: colour of the picture, ``[3]`` in 0..255.
        jitter: largest change of the three.
        lighting: deviation of the shift.
        rng: draws the order, the three factors, the shift.
    """
    matrix, shift = np.eye(3), np.zeros(3)
    order = rng.permutation(3)
    factors = rng.uniform(max(1 - jitter, 0), 1 + jitter, 3)
    for change in order.tolist():
        factor = factors[change]
        if change == 0:
            matrix, shift = factor * matrix, factor * shift
        elif change == 1:
            grey = _GREY @ (matrix @ mean + shift)
            matrix, shift = factor * matrix, factor * shift + (1 - factor) * grey
        else:
            mix = factor * np.eye(3) + (1 - factor) * np.tile(_GREY, (3, 1))
            matrix, shift = mix @ matrix, mix @ shift
    return matrix, shift + 255 * _COMPONENTS @ (rng.normal(0, 1, 3) * lighting * _STRENGTHS)


def _cut(picture: np.ndarray, box: Box, size: int) -> np.ndarray:
    """A window of a picture, scaled to ``size`` x ``size``; nothing outside it bleeds in."""
    scaled = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(scaled)


def _centre(picture: np.ndarray, spec: VideoSpec, path: Path) -> np.ndarray:
    window = centre_window(*picture.shape[:2], spec)
    check_size(path, window.height, window.width)
    image = Image.fromarray(picture)
    if image.size != (window.width, window.height):
        image = image.resize((window.width, window.height), Image.Resampling.BILINEAR)
    box = (window.left, window.top, window.left + window.size, window.top + window.size)
    return np.asarray(image.crop(box))
