"""Who and what appears in the sandbox's small films of mishaps: four kinds of figure, six kinds of thing.

A shape is a signed distance (in pixels, negative inside) to its outline. A figure has its feet at its origin, looks
along u and stands along v; things are drawn about their middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (u, v), each [T, P, P] -> distance [T, P, P]


@dataclass(frozen=True)
class Thing:
    """A kind of thing: its colour, half of its height as it lies, its parts and their factors on the colour."""

    colour: tuple[int, int, int]
    half: float
    parts: tuple[tuple[Shape, float], ...]


@dataclass(frozen=True)
class Kind:
    """A kind of figure: the colours of body, head and what it wears on the head, and the shapes of body and head."""

    body: tuple[int, int, int]
    head: tuple[int, int, int]
    top: tuple[int, int, int]
    trunk: Shape
    skull: Shape
    crown: Shape


def disc(u: np.ndarray, v: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    return np.hypot(u - x, v - y) - radius


def slab(u: np.ndarray, v: np.ndarray, x: float, y: float, wide: float, high: float) -> np.ndarray:
    return np.maximum(np.abs(u - x) - wide, np.abs(v - y) - high)


def oval(u: np.ndarray, v: np.ndarray, x: float, y: float, wide: float, high: float) -> np.ndarray:
    return (np.hypot((u - x) / wide, (v - y) / high) - 1) * min(wide, high)


def limb(u: np.ndarray, v: np.ndarray, start: tuple, end: tuple, radius: float) -> np.ndarray:
    """A stroke between two points, each a pair of numbers or of arrays that broadcast against u."""
    du, dv = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv + 1e-6), 0, 1)
    return np.hypot(u - start[0] - along * du, v - start[1] - along * dv) - radius


KINDS = {
    "boy": Kind(
        (40, 90, 225),
        (240, 200, 165),
        (240, 215, 60),
        lambda u, v: slab(u, v, 0, 8.4, 2.6, 3.4),
        lambda u, v: disc(u, v, 0.4, 14.2, 2.7),
        lambda u, v: np.maximum(disc(u, v, 0.2, 14.4, 3), 15 - v),
    ),
    "girl": Kind(
        (235, 70, 150),
        (245, 210, 180),
        (90, 45, 25),
        lambda u, v: np.maximum(np.abs(v - 7.6) - 4.2, np.abs(u) - 4.6 + 0.34 * (v - 3.4)),
        lambda u, v: disc(u, v, 0.5, 14.2, 2.6),
        lambda u, v: np.maximum(oval(u, v, -1.2, 13.6, 3.2, 4.0), np.minimum(u - 0.2, 15.4 - v)),
    ),
    "robot": Kind(
        (150, 160, 170),
        (200, 208, 215),
        (60, 255, 120),
        lambda u, v: slab(u, v, 0, 8, 3.6, 3.6),
        lambda u, v: slab(u, v, 0.3, 14, 2.7, 2.2),
        lambda u, v: np.minimum(slab(u, v, 1.4, 14.2, 0.9, 0.7), slab(u, v, 0, 17.4, 0.6, 1.6)),
    ),
    "bear": Kind(
        (125, 75, 35),
        (150, 95, 50),
        (80, 45, 20),
        lambda u, v: oval(u, v, 0, 7.8, 4.0, 4.6),
        lambda u, v: np.minimum(disc(u, v, 0.3, 14, 3.2), oval(u, v, 3.2, 13.2, 1.7, 1.2)),
        lambda u, v: np.minimum(disc(u, v, -2.2, 17, 1.5), disc(u, v, 1.8, 17.2, 1.5)),
    ),
}

THINGS = {
    "ball": Thing(
        (230, 30, 30), 3.2, ((lambda u, v: disc(u, v, 0, 0, 3.2), 1), (lambda u, v: slab(u, v, 0, 0, 3, 0.5), 1.9))
    ),
    "box": Thing(
        (235, 165, 40),
        3.0,
        ((lambda u, v: slab(u, v, 0, 0, 3.2, 3), 1), (lambda u, v: slab(u, v, 0, 0, 0.5, 2.6), 0.5)),
    ),
    "vase": Thing(
        (40, 215, 225),
        3.4,
        (
            (lambda u, v: np.minimum(disc(u, v, 0, -0.9, 2.6), slab(u, v, 0, 2, 1, 1.2)), 1),
            (lambda u, v: slab(u, v, 0, 3.0, 1.9, 0.5), 0.7),
        ),
    ),
    "bottle": Thing(
        (30, 165, 50),
        3.8,
        (
            (lambda u, v: np.minimum(slab(u, v, 0, -1, 1.9, 2.8), slab(u, v, 0, 2.2, 0.8, 1.6)), 1),
            (lambda u, v: slab(u, v, 0, -1, 1.5, 0.8), 1.9),
        ),
    ),
    "pillow": Thing(
        (175, 70, 230), 2.3, ((lambda u, v: oval(u, v, 0, 0, 4.6, 2.3), 1), (lambda u, v: disc(u, v, 0, 0, 0.8), 0.5))
    ),
    "book": Thing(
        (245, 245, 235),
        1.9,
        ((lambda u, v: slab(u, v, 0, 0, 4, 1.9), 1), (lambda u, v: slab(u, v, -2.8, 0, 1.2, 1.9), 0.35)),
    ),
}
