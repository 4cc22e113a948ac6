"""Scenes of which everything is known: deforming textured bodies that pass before one another over a moving ground.

All surfaces of a scene wear random patterns of the same few colours, so a colour or a speck of texture is found in
many places; the arrangement of a neighbourhood tells one place from the others. Bodies travel, turn, change in size and
ripple, the ground pans, the light drifts in time and over the picture, and a camera adds a little blur and noise.
Because each body is a known map from the screen to its own coordinates, masks, parts and joints are exact.

Coordinates are (x, y) in pixels, 0-based at pixel centres; y points down. All maps of a body have an exact inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

HEIGHT, WIDTH = 128, 160
TILE = 128  # side of the periodic textures in pixels


@dataclass
class Scene:
    """Pictures and all that is known about them.

    Attributes:
        frames: uint8 ``[T, H, W, 3]``, RGB.
        objects: uint8 ``[T, H, W]``, number of the annotated body that is seen at a pixel, from 1; 0 elsewhere.
        parts: uint8 ``[T, H, W]``, VIP's class of what is seen of a figure; 0 elsewhere.
        joints: float32 ``[F, T, 15, 2]``, of the F figures, hidden ones too; the order is JHMDB's.
    """

    frames: np.ndarray
    objects: np.ndarray
    parts: np.ndarray
    joints: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 15, 2), np.float32))


class Texture:
    """A periodic picture, two bands of noise through a palette, to be read anywhere."""

    def __init__(self, rng: np.random.Generator, palette: np.ndarray, wavelength: float) -> None:
        """``palette``: float ``[K, 3]``, colours in 0..255; ``wavelength``: of the colours' change, in pixels."""
        hue = _noise(rng, wavelength) + 0.35 * _noise(rng, wavelength / 3)
        light = _noise(rng, rng.uniform(8, 12))
        place = (0.5 + 0.5 * np.tanh(0.9 * hue)) * (len(palette) - 1)
        low = np.minimum(place.astype(np.int64), len(palette) - 2)
        share = (place - low)[..., None]
        colours = palette[low] * (1 - share) + palette[low + 1] * share
        self.pixels = (colours + 11 * light[..., None]).astype(np.float32).reshape(-1, 3)

    def read(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Colours at the places (u, v), bilinear, float32 ``[..., 3]``."""
        left, top = np.floor(u), np.floor(v)
        right, down = (u - left)[..., None], (v - top)[..., None]
        x, y = left.astype(np.int64) % TILE, top.astype(np.int64) % TILE
        x_next, y_next = (x + 1) % TILE, (y + 1) % TILE
        above = self.pixels[y * TILE + x] * (1 - right) + self.pixels[y * TILE + x_next] * right
        below = self.pixels[y_next * TILE + x] * (1 - right) + self.pixels[y_next * TILE + x_next] * right
        return above * (1 - down) + below * down


def _noise(rng: np.random.Generator, wavelength: float) -> np.ndarray:
    """Periodic random field of about one wavelength, zero mean, unit variance, ``[TILE, TILE]``."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE), indexing="ij")) * wavelength
    band = np.exp(-2 * (frequency - 1) ** 2)
    result = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * band, (TILE, TILE))
    return (result - result.mean()) / result.std()


@dataclass(frozen=True)
class Motion:
    """Where a body is in every frame: ``screen = centre + scale * rotation(angle) * ripple(own coordinates)``."""

    centre: np.ndarray  # [T, 2]
    angle: np.ndarray  # [T]
    scale: np.ndarray  # [T]
    ripple: tuple[float, float]  # height of the two shear waves in pixels
    wave: float  # their wave number, per pixel
    phase: np.ndarray  # [T, 2]

    def to_screen(self, t: int, points: np.ndarray) -> np.ndarray:
        """Own coordinates ``[..., 2]`` to the screen in frame t."""
        u, v = points[..., 0], points[..., 1]
        v = v - self.ripple[1] * np.sin(self.wave * u + self.phase[t, 1])
        u = u - self.ripple[0] * np.sin(self.wave * v + self.phase[t, 0])
        cos, sin = self.scale[t] * math.cos(self.angle[t]), self.scale[t] * math.sin(self.angle[t])
        return np.stack([cos * u - sin * v, sin * u + cos * v], -1) + self.centre[t]

    def to_own(self, t: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places on the screen in frame t to own coordinates; the inverse of `to_screen`."""
        x, y = x - self.centre[t, 0], y - self.centre[t, 1]
        cos, sin = math.cos(self.angle[t]) / self.scale[t], math.sin(self.angle[t]) / self.scale[t]
        u, v = cos * x + sin * y, -sin * x + cos * y
        u = u + self.ripple[0] * np.sin(self.wave * v + self.phase[t, 0])
        return u, v + self.ripple[1] * np.sin(self.wave * u + self.phase[t, 1])


def travel(rng: np.random.Generator, frames: int, *, turn: float, growth: float, margin: float = 26.0) -> Motion:
    """A smooth way by way of three places, turning by up to ``turn`` radians, growing by up to e^``growth``."""
    s = np.linspace(0, 1, frames)
    places = _places(rng, margin)
    weights = np.stack([(2 * s - 1) * (s - 1), 4 * s * (1 - s), s * (2 * s - 1)], 1)  # a parabola through the three
    angle = rng.uniform(-math.pi, math.pi) + rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1) * turn * s
    scale = np.exp(rng.uniform(-growth, growth) * (s - 0.5) + rng.uniform(-0.1, 0.1))
    phase = rng.uniform(0, 2 * math.pi, 2) + s[:, None] * rng.uniform(2, 5, 2) * rng.choice([-1.0, 1.0], 2)
    return Motion(weights @ places, angle, scale, tuple(rng.uniform(1.5, 3, 2)), rng.uniform(0.12, 0.17), phase)


def _places(rng: np.random.Generator, margin: float) -> np.ndarray:
    """Three places in the picture, the neighbours 35 to 80 pixels apart, so that nobody stays where it was."""
    places = [rng.uniform([margin, margin], [WIDTH - margin, HEIGHT - margin])]
    while len(places) < 3:
        way, far = rng.uniform(-math.pi, math.pi), rng.uniform(35, 80)
        place = places[-1] + far * np.array([math.cos(way), math.sin(way)])
        if (place >= margin).all() and (place <= [WIDTH - margin, HEIGHT - margin]).all():
            places.append(place)
    return np.stack(places)


@dataclass(frozen=True)
class Layer:
    """One painted piece of a body in one frame."""

    pixels: tuple[np.ndarray, np.ndarray]  # rows and columns, [N] each, of the pixels that it touches
    cover: np.ndarray  # [N], in 0..1
    colours: np.ndarray  # [N, 3]
    part: int  # VIP's class, 0 for a blob


class Blob:
    """A soft-edged body of random outline."""

    def __init__(self, rng: np.random.Generator, palette: np.ndarray, frames: int) -> None:
        self.texture = Texture(rng, palette, rng.uniform(18, 28))
        self.motion = travel(rng, frames, turn=1.8, growth=0.45)
        self.radius = rng.uniform(17, 27)
        self.bumps = rng.uniform(0.03, 0.16, 4), rng.uniform(0, 2 * math.pi, 4)

    def layers(self, t: int) -> Iterator[Layer]:
        """The one piece that it consists of."""
        reach = 1.7 * self.radius * self.motion.scale[t] + 4
        (rows, columns), (u, v) = _window(self.motion, t, reach)
        angle, (heights, phases) = np.arctan2(v, u), self.bumps
        edge = 1 + sum(h * np.cos((k + 2) * angle + p) for k, (h, p) in enumerate(zip(heights, phases, strict=True)))
        distance = (self.radius * edge - np.hypot(u, v)) * self.motion.scale[t]
        if len(at := np.flatnonzero(distance > -0.5)):
            colours = self.texture.read(u[at], v[at]) * _rim(distance[at])
            yield Layer((rows[at], columns[at]), np.clip(distance[at] + 0.5, 0, 1), colours, 0)


# The pieces of a figure, painted in this order: from joint, to joint, half width in pixels, VIP's class in the order of
# ATEN's loader (2 hair, 5 upper-clothes, 9 pants, 13 face, 14/15 arms, 16/17 legs, 18/19 shoes; left first).
_PIECES = (
    *((6, 10, 6.5, 9), (10, 14, 5.5, 16), (14, 14, 6.0, 18), (4, 8, 5.5, 14), (8, 12, 5.0, 14)),
    *((5, 9, 6.5, 9), (9, 13, 5.5, 17), (13, 13, 6.0, 19)),
    *((0, 1, 10.0, 5), (3, 4, 6.0, 5), (5, 6, 7.0, 9)),
    *((2, 2, 9.5, 2), (2, 0, 6.0, 13), (3, 7, 5.5, 15), (7, 11, 5.0, 15)),
)  # fmt: skip


class Figure:
    """A jointed figure with JHMDB's fifteen joints, clothed in VIP's classes; it ripples as a whole, too."""

    def __init__(self, rng: np.random.Generator, palette: np.ndarray, frames: int) -> None:
        self.textures = {
            part: Texture(rng, palette, rng.uniform(14, 22)) for part in sorted({piece[3] for piece in _PIECES})
        }
        self.motion = travel(rng, frames, turn=0.5, growth=0.3, margin=38.0)
        self.motion.angle[:] -= self.motion.angle[0] - rng.uniform(-0.4, 0.4)  # upright, more or less
        self.pose = _pose(rng, frames)
        self.shifts = rng.uniform(0, TILE, (len(_PIECES), 2))

    def joints(self, t: int) -> np.ndarray:
        """The joints on the screen in frame t, ``[15, 2]``."""
        return self.motion.to_screen(t, self.pose[t])

    def layers(self, t: int) -> Iterator[Layer]:
        """Its pieces, the hindmost first."""
        reach = (np.abs(self.pose[t]).max() + 14) * 1.5 * self.motion.scale[t]
        (rows, columns), (u, v) = _window(self.motion, t, reach)
        for (start, end, width, part), shift in zip(_PIECES, self.shifts, strict=True):
            origin, bone = self.pose[t, start], self.pose[t, end] - self.pose[t, start]
            length = float(np.hypot(*bone))
            # A round piece keeps upright, a long one carries its texture along and across its bone.
            along = bone / length if length > 0 else np.array([0.0, 1.0])
            a = (u - origin[0]) * along[0] + (v - origin[1]) * along[1]
            c = (v - origin[1]) * along[0] - (u - origin[0]) * along[1]
            distance = (width - np.hypot(a - np.clip(a, 0, length), c)) * self.motion.scale[t]
            if len(at := np.flatnonzero(distance > -0.5)):
                colours = self.textures[part].read(a[at] + shift[0], c[at] + shift[1]) * _rim(distance[at])
                yield Layer((rows[at], columns[at]), np.clip(distance[at] + 0.5, 0, 1), colours, part)


def _pose(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Own coordinates of the joints over time, ``[T, 15, 2]``, the belly near the origin."""
    s = np.linspace(0, 1, frames)

    def swing(middle: float, reach: float) -> np.ndarray:
        phase = rng.uniform(0, 2 * math.pi)
        return middle + rng.uniform(0.5, 1) * reach * np.sin(phase + rng.uniform(3, 7) * s)

    def bone(origin: np.ndarray, angle: np.ndarray, length: float) -> np.ndarray:
        return origin + length * np.stack([np.sin(angle), np.cos(angle)], -1)  # angle 0 points down

    pose = np.zeros((frames, 15, 2))
    spine = swing(math.pi, 0.25)
    pose[:, 1] = [0, 2]
    pose[:, 0] = bone(pose[:, 1], spine, 22)
    pose[:, 2] = bone(pose[:, 0], spine + swing(0, 0.3), 13)
    for side, sign in ((0, -1.0), (1, 1.0)):  # the right side first, on the left of a figure that faces us
        across = np.stack([np.cos(spine), -np.sin(spine)], -1) * -sign
        pose[:, 3 + side] = pose[:, 0] + 10 * across + [0, 4]
        pose[:, 5 + side] = pose[:, 1] + 7 * across + [0, 6]
        upper = swing(sign * 0.8, 0.8)
        pose[:, 7 + side] = bone(pose[:, 3 + side], upper, 15)
        pose[:, 11 + side] = bone(pose[:, 7 + side], upper + swing(sign * 0.4, 0.6), 14)
        thigh = swing(sign * 0.25, 0.45)
        pose[:, 9 + side] = bone(pose[:, 5 + side], thigh, 17)
        pose[:, 13 + side] = bone(pose[:, 9 + side], thigh - swing(sign * 0.15, 0.35), 16)
    return pose


def _rim(distance: np.ndarray) -> np.ndarray:
    """Bodies are round: they darken over the last pixels before their edge. A gain, ``[..., 1]``."""
    return (0.72 + 0.28 * np.clip(distance / 6, 0, 1))[..., None]


def _window(motion: Motion, t: int, reach: float) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The pixels within ``reach`` of a body: rows and columns, and the body's own coordinates, ``[N]`` each."""
    (x, y), reach = motion.centre[t], max(reach, 1.0)
    columns = np.arange(max(0, int(x - reach)), min(WIDTH, int(x + reach) + 2))
    rows = np.arange(max(0, int(y - reach)), min(HEIGHT, int(y + reach) + 2))
    rows, columns = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    return (rows, columns), motion.to_own(t, columns, rows)


def render(seed: tuple[int, ...], frames: int, *, figures: int = 0, blobs: int = 0, passers: int = 0) -> Scene:
    """Render one scene; the same arguments give the same bytes.

    Args:
        seed: what every random choice follows from.
        frames: pictures in the video.
        figures: jointed figures, annotated as objects 1, 2, ... with parts and joints.
        blobs: annotated blobs, numbered after the figures.
        passers: blobs that nobody annotates; they pass behind and before the others.
    """
    rng = np.random.default_rng(seed)
    palette = rng.uniform(50, 205, (6, 3))
    palette += 0.35 * (palette.mean(1, keepdims=True) - palette)  # colours of things are seldom pure

    def own_palette() -> np.ndarray:
        """Four of the scene's colours in an order of one's own, each a little off."""
        return rng.permutation(palette)[:4] + rng.uniform(-15, 15, (4, 3))

    ground = Texture(rng, own_palette(), rng.uniform(28, 40))
    camera = travel(rng, frames, turn=0.3, growth=0.3)
    bodies: list[tuple[int, Blob | Figure]] = [
        (number + 1, (Figure if number < figures else Blob)(rng, own_palette(), frames))
        for number in range(figures + blobs)
    ]
    bodies += [(0, Blob(rng, own_palette(), frames)) for _ in range(passers)]
    order = rng.permutation(len(bodies))
    light = _light(rng, frames)
    result = Scene(
        np.empty((frames, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((frames, HEIGHT, WIDTH), np.uint8),
        np.zeros((frames, HEIGHT, WIDTH), np.uint8),
        np.array([[body.joints(t) for t in range(frames)] for _, body in bodies[:figures]], np.float32).reshape(
            figures, frames, 15, 2
        ),
    )
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float64), np.arange(HEIGHT, dtype=np.float64))
    for t in range(frames):
        picture = ground.read(*camera.to_own(t, x, y))
        for number, body in (bodies[i] for i in order):
            for layer in body.layers(t):
                under = picture[layer.pixels]
                picture[layer.pixels] = under + layer.cover[:, None] * (layer.colours - under)
                seen = tuple(place[layer.cover > 0.5] for place in layer.pixels)
                result.objects[t][seen] = number
                result.parts[t][seen] = layer.part
        picture = _blur(picture * light(t, x, y)) + rng.normal(0, 3, picture.shape)
        result.frames[t] = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return result


def _light(rng: np.random.Generator, frames: int) -> Callable[[int, np.ndarray, np.ndarray], np.ndarray]:
    """A gain per pixel and channel that drifts: overall, in colour, and by a slope that turns over the picture."""
    s = np.linspace(-1, 1, frames)
    overall = 1 + rng.uniform(-0.22, 0.22) * s
    colour = 1 + rng.uniform(-0.1, 0.1, 3) * s[:, None]
    slope, way = rng.uniform(0.05, 0.2), rng.uniform(-math.pi, math.pi) + rng.uniform(-2, 2) * s

    def gain(t: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        tilt = math.cos(way[t]) * (2 * x / WIDTH - 1) + math.sin(way[t]) * (2 * y / HEIGHT - 1)
        return ((1 + slope * tilt) * overall[t])[..., None] * colour[t]

    return gain


def _blur(picture: np.ndarray) -> np.ndarray:
    """Weights 1/6, 2/3, 1/6 along both axes, the border repeated."""
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        padded, n = np.pad(picture, pad, mode="edge"), picture.shape[axis]
        before, after = (padded.take(range(start, start + n), axis) for start in (0, 2))
        picture = (before + 4 * picture + after) / 6
    return picture
