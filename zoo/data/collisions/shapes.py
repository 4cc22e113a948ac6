"""The five shapes, about their centres of mass: what is simulated of them, and where rays meet them.

Everything that is computed of rays is sums, products, quotients and square roots of single numbers, in an order that is
written here. Those are the same on every machine, which sums over matrices are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SIZE = 1.4  # metres: edge of cube and wedge, diameter of the sphere, height of the others, diameter of the cone's base
CYLINDER_RADIUS = 0.56
ROUND = ("sphere", "cylinder", "cone")  # a turn about the vertical isn't seen
REST_HEIGHT = {"sphere": SIZE / 2, "cube": SIZE / 2, "cylinder": SIZE / 2, "cone": SIZE / 4, "wedge": SIZE / 3}
_SIDES = 48  # of what is simulated for a circle


def _circle(radius: float, height: float) -> list[tuple[float, float, float]]:
    angles = [2 * math.pi * k / _SIDES for k in range(_SIDES)]
    return [(radius * math.cos(a), radius * math.sin(a), height) for a in angles]


def _cylinder() -> list[tuple[float, float, float]]:
    return _circle(CYLINDER_RADIUS, -SIZE / 2) + _circle(CYLINDER_RADIUS, SIZE / 2)


def _cone() -> list[tuple[float, float, float]]:
    return [*_circle(SIZE / 2, -SIZE / 4), (0.0, 0.0, 3 * SIZE / 4)]


def _wedge() -> list[tuple[float, float, float]]:
    """Half a cube: a right triangle, drawn out sideways."""
    triangle = ((-SIZE / 3, -SIZE / 3), (2 * SIZE / 3, -SIZE / 3), (-SIZE / 3, 2 * SIZE / 3))
    return [(x, y, z) for x, z in triangle for y in (-SIZE / 2, SIZE / 2)]


# Simulated as the convex hulls of these corners. A cylinder of MuJoCo's own (4.0) is given a wrong normal where it
# touches a flat side along a line, and gains energy from that: up to five times what it came with.
MESHES = {"cylinder": _cylinder(), "cone": _cone(), "wedge": _wedge()}


def corners(shape: str) -> np.ndarray:
    """Points ``[N, 3]`` whose convex hull holds a shape."""
    if shape in MESHES:
        return np.array(MESHES[shape])
    sides = (-SIZE / 2, SIZE / 2)
    return np.array([(x, y, z) for x in sides for y in sides for z in sides])


@dataclass(frozen=True)
class Solid:
    """A convex shape: what is on the inner side of all planes, and of a surface of the second order.

    Attributes:
        planes: (nx, ny, nz, d), of which the inner side is nx x + ny y + nz z <= d.
        surface: (g, h, k) of x^2 + y^2 + g z^2 + 2 h z + k <= 0.
    """

    planes: tuple[tuple[float, float, float, float], ...] = ()
    surface: tuple[float, float, float] | None = None

    def meet(self, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where rays enter and leave.

        Args:
            origin: ``[3, N]`` or ``[3, 1]``.
            ray: ``[3, N]`` or ``[3, 1]``.

        Returns:
            The distances ``[N]`` in lengths of the ray, of which the second is below the first where it misses, and
            through which side it enters, for `normal`.
        """
        count = np.broadcast_shapes(origin.shape, ray.shape)[1]
        enter, leave, side = np.full(count, -np.inf), np.full(count, np.inf), np.zeros(count, int)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.planes:  # all at once, [planes, N]
                *n, d = np.array(self.planes).T[:, :, None]
                slope, gap = dot(n, ray), d - dot(n, origin)
                at = gap / slope
                inwards = np.where(slope < 0, at, -np.inf)
                side, enter = inwards.argmax(0), inwards.max(0)
                leave = np.where(slope > 0, at, np.where((slope == 0) & (gap < 0), -np.inf, np.inf)).min(0)
            if self.surface:
                first, last = self._meet_surface(origin, ray)
                inwards = first > enter
                enter, side = np.where(inwards, first, enter), np.where(inwards, len(self.planes), side)
                leave = np.minimum(last, leave)
        return enter, leave, side

    def normal(self, side: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The outward normals ``[3, N]`` of sides ``[N]`` at points ``[3, N]``."""
        flat = np.array([plane[:3] for plane in self.planes] + [(0.0, 0.0, 1.0)]).T[:, side]
        if not self.surface:
            return flat
        (x, y, z), (g, h, _) = points, self.surface
        is_flat = side < len(self.planes)
        return np.where(is_flat, flat, unit(np.where(is_flat, flat, np.array([x, y, g * z + h]))))

    def _meet_surface(self, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (x, y, z), (u, v, w), (g, h, k) = origin, ray, self.surface
        a = u * u + v * v + g * (w * w)
        b = x * u + y * v + g * (z * w) + h * w
        c = x * x + y * y + g * (z * z) + 2 * h * z + k
        root = np.sqrt(np.maximum(b * b - a * c, 0))
        low, high = np.minimum((-b - root) / a, (-b + root) / a), np.maximum((-b - root) / a, (-b + root) / a)
        # Steeper than the side of a cone, a ray is in its lower half before or behind both places where it meets it.
        first, last = np.where(a > 0, low, np.where(w < 0, high, -np.inf)), np.where(a > 0, high, low)
        last = np.where((a < 0) & (w < 0), np.inf, last)
        is_missed = (a > 0) & (b * b < a * c)
        return np.where(is_missed, np.inf, first), np.where(is_missed, -np.inf, last)


def _between(axis: int, low: float, high: float) -> tuple[tuple[float, float, float, float], ...]:
    n = [0.0, 0.0, 0.0]
    n[axis] = 1.0
    return (*n, high), (*(-value for value in n), -low)


_HALF, _THIRD, _TIP = SIZE / 2, SIZE / 3, 3 * SIZE / 4
SOLIDS = {
    "sphere": Solid(surface=(1.0, 0.0, -_HALF * _HALF)),
    "cube": Solid(_between(0, -_HALF, _HALF) + _between(1, -_HALF, _HALF) + _between(2, -_HALF, _HALF)),
    "cylinder": Solid(_between(2, -_HALF, _HALF), (0.0, 0.0, -CYLINDER_RADIUS * CYLINDER_RADIUS)),
    "cone": Solid(_between(2, -SIZE / 4, _TIP), (-0.25, 0.25 * _TIP, -0.25 * _TIP * _TIP)),
    "wedge": Solid(
        (
            (-1.0, 0.0, 0.0, _THIRD),
            (0.0, 0.0, -1.0, _THIRD),
            *_between(1, -_HALF, _HALF),
            (math.sqrt(0.5), 0.0, math.sqrt(0.5), _THIRD * math.sqrt(0.5)),
        )
    ),
}


def dot(a, b):
    """The sum of three products, of numbers or arrays."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``[3, ...]`` of length 1."""
    return vectors / np.sqrt(dot(vectors, vectors))


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """The matrix ``[3, 3]`` of a quaternion (w, x, y, z) of any length."""
    w, x, y, z = (float(value) for value in quaternion)
    s = 2 / (w * w + x * x + y * y + z * z)
    return np.array(
        [
            [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
            [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
            [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
        ]
    )


def turn(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """A matrix times vectors ``[3, ...]``."""
    return np.stack([dot(row, vectors) for row in matrix])
