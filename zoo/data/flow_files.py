"""Optical flow as grey pictures, the way Charades' official release keeps it: one JPEG for x and one for y."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BOUND = 20.0  # pixels: what moves further is cut to it


def encode_flow(flow: np.ndarray) -> np.ndarray:
    """Displacements in pixels, of any shape, as uint8 of the same shape: ``255 (x + 20) / 40``, cut to 0..255.

    No motion is 127.5, which no byte is: it becomes 128. The release's rounding is not published; this is the nearest
    whole number, and of two the even one, as OpenCV rounds.
    """
    grey = (np.asarray(flow, dtype=np.float64) + BOUND) * (255 / (2 * BOUND))
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def decode_flow(grey: np.ndarray) -> np.ndarray:
    """The displacements in pixels, float32, that `encode_flow` made bytes of: each at most 0.08 off, or cut."""
    return np.asarray(grey, dtype=np.float32) * np.float32(2 * BOUND / 255) - np.float32(BOUND)


def flow_paths(folder: Path, image: int) -> tuple[Path, Path]:
    """The files of the flow from image ``image`` (from 1) to the next one, x and y, in a video's folder ``.../ID``."""
    stem = f"{folder.name}-{image:06d}"
    return folder / f"{stem}x.jpg", folder / f"{stem}y.jpg"
