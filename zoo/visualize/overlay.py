"""What was propagated, painted over its frames: masks in the colours of DAVIS, joints as dots and limbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from zoo.data.masks import PALETTE


def paint_mask(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A frame, uint8 ``[H, W, 3]``, with each object of a mask ``[H, W]`` half covered by its colour, and outlined."""
    colours = np.asarray(PALETTE, dtype=np.uint8).reshape(-1, 3)
    painted = frame.copy()
    inside = mask > 0
    painted[inside] = (frame[inside].astype(np.uint16) + colours[mask[inside]]) // 2
    edge = np.zeros_like(inside)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    painted[edge] = 255
    return painted


def paint_keypoints(frame: np.ndarray, keypoints: np.ndarray, limbs: Sequence[tuple[int, int]] = ()) -> np.ndarray:
    """A frame with its joints ``[J, 2]`` (x, y) as dots and ``limbs`` as lines; what is lost is left out."""
    colours = np.asarray(PALETTE, dtype=np.uint8).reshape(-1, 3)
    picture = Image.fromarray(frame)
    pen = ImageDraw.Draw(picture)
    radius = max(2, round(min(frame.shape[:2]) / 80))
    there = np.isfinite(keypoints).all(1)
    for one, other in limbs:
        if there[one] and there[other]:
            pen.line([tuple(keypoints[one]), tuple(keypoints[other])], fill=(255, 255, 255), width=max(1, radius // 2))
    for number in np.flatnonzero(there):
        x, y = keypoints[number]
        box = [x - radius, y - radius, x + radius, y + radius]
        pen.ellipse(box, fill=tuple(int(c) for c in colours[1 + number % 254]), outline=(255, 255, 255))
    return np.asarray(picture)
