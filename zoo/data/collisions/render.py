"""Pictures of two bodies on a floor, by casting rays: no OpenGL, no display, and the same pixels on any machine.

A pixel is the mean of several rays. The empty floor and the wall are cast once; of a picture only what may show an
object or its shadow is cast anew. One light is on the camera's side and throws no shadow, the other is high up on the
left and does. Nothing here needs MuJoCo: poses that were written down can be drawn anew in any size.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache

import numpy as np
from PIL import Image

from zoo.data.collisions.shapes import SOLIDS, corners, dot, rotation, turn, unit

CAMERA = np.array([-0.95, -14.0, 2.2])  # metres
FORWARD = unit(np.array([0.0, 1.0, -0.02]))  # where it looks
RIGHT, UP = np.array([1.0, 0.0, 0.0]), np.array([0.0, -FORWARD[2], FORWARD[1]])
WIDTH = 12.2  # metres that are seen in the plane y = 0
WALL = 5.0  # metres behind the bodies
TO_LIGHT = unit(np.array([-6.0, -9.0, 14.0]))
AMBIENT, HEAD, LAMP = 0.45, 0.35, 0.35  # what comes from everywhere, from the camera's side and from the light
# Warm and cool, so that the mean of a picture is about that of the thesis' pictures, (0.672, 0.668, 0.648), and neither
# is as grey as the mean: the published loss weighs a pixel by how colourful it is beside that.
FLOOR_COLOUR, WALL_COLOUR = (0.957, 0.914, 0.805), (0.674, 0.695, 0.712)
COLOURS = {
    "sphere": (0.85, 0.35, 0.22),
    "cube": (0.42, 0.27, 0.50),
    "cylinder": (0.25, 0.45, 0.35),
    "cone": (0.80, 0.70, 0.40),
    "wedge": (0.30, 0.40, 0.60),
}
COMPRESSION = 6  # of the PNGs
_LEAST_RAYS = 256  # in a row: small pictures need more of them in a pixel, or small movements don't show
_ASIDE = 1e-4  # metres: what shades a point is further away


class Renderer:
    """Draws two bodies of given shapes.

    Args:
        pair: the shapes of what moves and of what stands.
        size: pixels of a side of the square pictures.
    """

    def __init__(self, pair: tuple[str, str], size: int) -> None:
        self.pair, self.size = pair, size
        self._samples = max(2, math.ceil(_LEAST_RAYS / size))
        self._rays, self._ground, self._dark, self._bright = _background(size * self._samples)
        self._empty = _pixels(self._dark + self._bright, self._samples)

    def draw(self, poses: np.ndarray) -> np.ndarray:
        """A picture, uint8 ``[size, size, 3]`` RGB.

        Args:
            poses: ``[2, 7]``: position (metres) and quaternion of the mover and of the static body.
        """
        bodies = [_Body(shape, pose) for shape, pose in zip(self.pair, poses, strict=True)]
        picture = self._empty.copy()
        regions = [self._around(np.concatenate([body.box, body.shadow], 1)) for body in bodies]
        for region in regions:
            if region[0] < region[1] and region[2] < region[3]:
                here = [body for body, other in zip(bodies, regions, strict=True) if _overlap(region, other)]
                picture[region[0] : region[1], region[2] : region[3]] = self._draw_region(here, *region)
        return picture

    def _draw_region(self, bodies: list[_Body], top: int, bottom: int, left: int, right: int) -> np.ndarray:
        n = self._samples
        part = slice(None), slice(top * n, bottom * n), slice(left * n, right * n)
        rays, ground, dark, bright = (
            values[part].reshape(3, -1) for values in (self._rays, self._ground, self._dark, self._bright)
        )
        colours = dark + bright * ~_is_shaded(ground, bodies, bodies)
        nearest = np.full(rays.shape[1], np.inf)
        for body in bodies:
            places, distance, normal = body.meet(rays)
            closer = distance < nearest[places]
            places, distance, normal = places[closer], distance[closer], normal[:, closer]
            points = CAMERA[:, None] + distance * rays[:, places]
            lamp = np.maximum(0, dot(TO_LIGHT, normal)) * ~_is_shaded(points, [b for b in bodies if b is not body], ())
            light = AMBIENT + HEAD * np.maximum(0, -dot(FORWARD, normal)) + LAMP * lamp
            colours[:, places] = np.array(COLOURS[body.shape])[:, None] * light
            nearest[places] = distance
        return _pixels(colours.reshape(3, (bottom - top) * n, (right - left) * n), n)

    def _around(self, points: np.ndarray) -> tuple[int, int, int, int]:
        """Pixels (top, bottom, left, right) between which points ``[3, N]`` are seen."""
        offset = points - CAMERA[:, None]
        scale = self.size * -CAMERA[1] / WIDTH / dot(FORWARD, offset)
        rows, columns = self.size / 2 - dot(UP, offset) * scale, self.size / 2 + dot(RIGHT, offset) * scale
        bounds = rows.min() - 1, rows.max() + 2, columns.min() - 1, columns.max() + 2
        return tuple(int(min(max(math.floor(bound), 0), self.size)) for bound in bounds)


class _Body:
    """A shape in its place."""

    def __init__(self, shape: str, pose: np.ndarray) -> None:
        self.shape, self._solid = shape, SOLIDS[shape]
        self._place, self._matrix = pose[:3, None], rotation(pose[3:])
        points = turn(self._matrix, corners(shape).T) + self._place
        ends = np.stack([points.min(1), points.max(1)], 1)
        self.box = np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]]).T  # holds it
        self.shadow = _shadow(self.box)
        self._radius = float(np.sqrt(dot(corners(shape).T, corners(shape).T).max()))

    def meet(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which of the camera's rays ``[3, N]`` of length 1 meet it, how far away, and the normals ``[3, M]`` there."""
        to = self._place - CAMERA[:, None]
        along = dot(to, rays)
        places = np.flatnonzero(dot(to, to) - along * along < self._radius * self._radius)
        origin, rays = self._inside(CAMERA[:, None], rays[:, places])
        enter, leave, side = self._solid.meet(origin, rays)
        hit = np.flatnonzero((enter < leave) & (enter > 0))
        normal = self._solid.normal(side[hit], origin + enter[hit] * rays[:, hit])
        return places[hit], enter[hit], turn(self._matrix, normal)

    def shades(self, points: np.ndarray) -> np.ndarray:
        """Whether it is between points ``[3, N]`` and the light."""
        enter, leave, _ = self._solid.meet(*self._inside(points, TO_LIGHT[:, None]))
        return (enter < leave) & (leave > _ASIDE)

    def _inside(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rays as the body sees them."""
        back = self._matrix.T
        return turn(back, origin - self._place), turn(back, rays)


def encode(picture: np.ndarray) -> bytes:
    """A picture as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()


def _is_shaded(points: np.ndarray, bodies, within) -> np.ndarray:
    """Whether bodies throw shadow on points ``[3, N]``, which for those of ``within`` lie on floor or wall."""
    shaded = np.zeros(points.shape[1], bool)
    for body in bodies:
        places = slice(None)
        if body in within:
            low, high = body.shadow.min(1)[:, None] - _ASIDE, body.shadow.max(1)[:, None] + _ASIDE
            places = np.flatnonzero(((points >= low) & (points <= high)).all(0))
        shaded[places] |= body.shades(points[:, places])
    return shaded


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two rectangles of pixels (top, bottom, left, right) have some in common."""
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


@lru_cache(maxsize=1)
def _background(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rays, where each meets floor or wall, the colour there in the shadow, and what the light adds to it.

    Each ``[3, count, count]``, row by row.
    """
    places = ((np.arange(count) + 0.5) / count - 0.5) * (WIDTH / -CAMERA[1])
    right, up, forward = (axis[:, None, None] for axis in (RIGHT, UP, FORWARD))
    rays = unit(forward + places[None, None, :] * right - places[None, :, None] * up)
    to_wall = (WALL - CAMERA[1]) / rays[1]
    to_floor = np.where(rays[2] < 0, -CAMERA[2] / np.where(rays[2] < 0, rays[2], -1), np.inf)
    is_floor = to_floor < to_wall
    colours = np.where(is_floor, np.array(FLOOR_COLOUR)[:, None, None], np.array(WALL_COLOUR)[:, None, None])
    head, lamp = np.where(is_floor, -FORWARD[2], FORWARD[1]), np.where(is_floor, TO_LIGHT[2], -TO_LIGHT[1])
    points = CAMERA[:, None, None] + np.minimum(to_floor, to_wall) * rays
    return rays, points, colours * (AMBIENT + HEAD * head), colours * (LAMP * lamp)


def _shadow(points: np.ndarray) -> np.ndarray:
    """Points on floor and wall between which the shadow lies of what is between points ``[3, N]``."""
    light = TO_LIGHT[:, None]
    floor = points - light * (points[2] / light[2])
    if floor[1].max() <= WALL:
        return floor
    wall = points - light * ((points[1] - WALL) / light[1])
    return np.concatenate(
        [np.minimum(floor, [[np.inf], [WALL], [np.inf]]), np.maximum(wall, [[-np.inf], [-np.inf], [0.0]])], 1
    )


def _pixels(colours: np.ndarray, samples: int) -> np.ndarray:
    """The mean over the rays ``[3, rows, columns]`` of each pixel in whole steps: uint8, the colours last."""
    total = np.zeros((3, colours.shape[1] // samples, colours.shape[2] // samples))
    for row in range(samples):
        for column in range(samples):
            total += colours[:, row::samples, column::samples]
    return np.rint(255 * np.clip(total / samples**2, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
