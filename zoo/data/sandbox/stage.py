"""How the sandbox's small films of mishaps are drawn: a room, a figure and its things in it, and a camera.

Everything is painted over all frames at once, from the signed distances of `zoo.data.sandbox.cast`, with soft edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoo.data.sandbox.cast import KINDS, THINGS, Kind, Shape, Thing, limb, slab

HEIGHT, WIDTH = 48, 64
MARGIN = 24  # pixels painted around the picture, so that what leaves it need not be cut off


@dataclass
class Track:
    """What moves, frame by frame; lengths in pixels, heights above the floor.

    Attributes:
        x: ``[T]``, of the figure's feet.
        lift: ``[T]``, of the feet.
        facing: ``[T]``, 1 to the right, -1 to the left.
        tilt: ``[T]``, radians that the figure leans forward; pi / 2 when it lies.
        crouch: ``[T]``, 0 upright .. 1 bent down.
        hand: ``[T, 2]``, forward of the feet and above them, for a figure of scale 1.
        phase: ``[T]``, of the legs' swing, radians.
        things: ``[T, N, 3]``, of each thing the middle's x and height, and the radians that it is turned.
    """

    x: np.ndarray
    lift: np.ndarray
    facing: np.ndarray
    tilt: np.ndarray
    crouch: np.ndarray
    hand: np.ndarray
    phase: np.ndarray
    things: np.ndarray


@dataclass(frozen=True)
class Look:
    """What holds for a whole film.

    Attributes:
        scale: of figure and things.
        floor: the picture's row of the floor line.
        hoop: x and height of a basket's ring, or None.
    """

    scale: float
    floor: float
    hoop: tuple[float, float] | None = None


def draw(rng: np.random.Generator, track: Track, look: Look, kind: str, thing: str) -> np.ndarray:
    """The pictures of a track, uint8 ``[T, HEIGHT, WIDTH, 3]``."""
    room = _room(rng, look.floor)
    if look.hoop:
        _paint_hoop(room, look, back=True)
    frames = np.repeat(room, len(track.x), axis=0)
    tint = rng.normal(0, 10, 3)
    _paint_figure(frames, track, KINDS[kind], rng.normal(0, 10, 3), look)
    for i in range(track.things.shape[1]):  # in front of the figure, which would hide what it holds
        _paint_thing(frames, track.things[:, i], THINGS[thing], tint, look)
    if look.hoop:
        _paint_hoop(frames, look, back=False)
    return _film(rng, frames)


def _room(rng: np.random.Generator, floor: float) -> np.ndarray:
    """Wall, floor and what stands about, float32 ``[1, H, W, 3]`` with the margin."""
    high, wide = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    wall = rng.uniform(70, 150) + rng.uniform(-22, 22, 3)
    ground = wall + rng.choice((-1, 1)) * rng.uniform(25, 45) + rng.uniform(-10, 10, 3)
    y, x = np.mgrid[:high, :wide].astype(np.float32) - MARGIN
    coarse = rng.uniform(-12, 12, (6, 6, 3))
    rows, columns = (np.clip(1 - np.abs(np.linspace(0, 5, n)[:, None] - np.arange(6)), 0, 1) for n in (high, wide))
    room = wall + np.einsum("hi,wj,ijc->hwc", rows, columns, coarse, optimize=True)
    for _ in range(int(rng.integers(1, 4))):  # pictures, cupboards
        middle, half = rng.uniform((0, 4), (WIDTH, floor)), rng.uniform((3, 3), (9, 9))
        cover = np.clip(0.5 - slab(x, y, middle[0], middle[1], half[0], half[1]), 0, 1)[..., None]
        room += 0.7 * cover * (wall + rng.uniform(-35, 35, 3) - room)
    cover = np.clip(y - floor + 0.5, 0, 1)[..., None]
    room += cover * (ground + rng.uniform(-8, 8) * (y - floor)[..., None] / 10 - room)
    room += rng.normal(0, rng.uniform(0.5, 2.5), (high, wide, 1))
    return room[None].astype(np.float32)


def _paint(
    frames: np.ndarray,
    place: np.ndarray,
    reach: int,
    turn: np.ndarray,
    facing: np.ndarray,
    parts: list[tuple[Shape, np.ndarray]],
    middle: float = 0.0,
) -> None:
    """Paint parts one over another about ``place`` (``[T, 2]``, x and y in the picture) onto ``frames``, in place.

    Args:
        reach: half the side of the window that the parts may touch, pixels.
        turn: ``[T]``, radians clockwise about the place, for one who looks to the right.
        facing: ``[T]``, -1 mirrors.
        parts: shapes in (u, v), v upwards, with their colours.
        middle: how far up from the place, turned with it, the window's middle is.

    Where ``place``, ``turn`` and ``facing`` have length 1, they hold for all frames.
    """
    high, wide = frames.shape[1:3]
    up = middle * np.stack((facing * np.sin(turn), -np.cos(turn)), axis=1)
    corner = np.floor(place + up).astype(int) + MARGIN - reach
    # What leaves even the margin is painted at its edge, outside the picture.
    corner = np.clip(corner, 0, (wide - 2 * reach, high - 2 * reach))
    span = np.arange(2 * reach)
    rows, columns = corner[:, 1, None] + span, corner[:, 0, None] + span
    at = (np.arange(len(frames))[:, None, None], rows[:, :, None], columns[:, None, :])
    window = frames[at]
    x = ((columns - MARGIN - place[:, :1]) * facing[:, None]).astype(np.float32)[:, None, :]
    y = (place[:, 1:] - rows + MARGIN).astype(np.float32)[:, :, None]
    cos, sin = (f(turn).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    u, v = x * cos - y * sin, x * sin + y * cos
    for shape, colour in parts:
        distance = shape(u, v)
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        light = 0.7 + 0.3 * np.clip(-0.3 - distance, 0, 1)[..., None]  # a darker rim
        window += cover * (light * colour.astype(np.float32) - window)
    frames[at] = window


def _paint_thing(frames: np.ndarray, states: np.ndarray, thing: Thing, tint: np.ndarray, look: Look) -> None:
    place = np.stack((states[:, 0], look.floor - states[:, 1]), axis=1)
    parts = [
        (lambda u, v, shape=shape: shape(u / look.scale, v / look.scale), (np.array(thing.colour) + tint) * factor)
        for shape, factor in thing.parts
    ]
    _paint(frames, place, 7, states[:, 2], np.ones(len(states)), parts)


def _paint_figure(frames: np.ndarray, track: Track, kind: Kind, tint: np.ndarray, look: Look) -> None:
    def over_time(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)[:, None, None]

    squash = over_time(1 - 0.3 * track.crouch)
    swing, hand = over_time(2.6 * np.sin(track.phase)), (over_time(track.hand[:, 0]), over_time(track.hand[:, 1]))
    body, head, top = (np.clip(np.array(c) + tint, 0, 255) for c in (kind.body, kind.head, kind.top))

    def upper(shape: Shape) -> Shape:  # what bends down with the back: lower, and further forward the higher it is
        return lambda u, v: shape(u - (1 - squash) * 0.9 * np.maximum(v, 0), v / squash)

    drawn: list[tuple[Shape, np.ndarray]] = [
        (lambda u, v: limb(u, v, (0, 6 * squash), (-swing, 0.8), 1.2), body * 0.55),
        (lambda u, v: limb(u, v, (0, 6 * squash), (swing, 0.8), 1.2), body * 0.7),
        (upper(kind.trunk), body),
        (upper(kind.skull), head),
        (upper(kind.crown), top),
        (lambda u, v: limb(u, v, (0.3 + 3 * (1 - squash), 10.4 * squash), hand, 1.1), head * 0.85),
    ]
    scaled = [(lambda u, v, f=f: look.scale * f(u / look.scale, v / look.scale), colour) for f, colour in drawn]
    place = np.stack((track.x, look.floor - track.lift), axis=1)
    _paint(frames, place, 14, track.tilt, track.facing, scaled, middle=9 * look.scale)


def _paint_hoop(frames: np.ndarray, look: Look, *, back: bool) -> None:
    x, height = look.hoop
    place, still = np.array([[x, look.floor - height]]), np.zeros(1)
    if back:
        parts = [
            (lambda u, v: np.maximum(np.abs(u - 8) - 0.8, np.maximum(v - 5, -v - height)), np.full(3, 60.0)),
            (lambda u, v: slab(u, v, 6.8, 2.5, 0.9, 5), np.full(3, 235.0)),
        ]
    else:
        parts = [
            (lambda u, v: slab(u, v, 0.9, 0, 6, 0.8), np.array((255.0, 110, 20))),
            (lambda u, v: np.maximum(np.abs(np.abs(u) - 5 - 0.35 * v) - 0.4, np.abs(v + 3) - 3), np.full(3, 225.0)),
        ]
    _paint(frames, place, 24, still, still + 1, parts)


def _film(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """The camera: it drifts a little, its light changes, its sensor is noisy; one in two films is mirrored."""
    count = len(frames)
    drift = np.rint(
        rng.uniform(0, 3, 2) * np.sin(np.linspace(0, rng.uniform(1, 6), count) + rng.uniform(0, 7))[:, None]
    )
    rows, columns = (drift[:, i].astype(int)[:, None] + MARGIN + np.arange(n) for i, n in ((1, HEIGHT), (0, WIDTH)))
    film = frames[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    light = rng.uniform(0.8, 1.1) + rng.uniform(-0.05, 0.05) * np.sin(
        np.linspace(0, math.pi, count) + rng.uniform(0, 6)
    )
    film = film * light.astype(np.float32)[:, None, None, None]
    film += rng.uniform(0, 0.4) * rng.standard_normal(film.shape[:3], dtype=np.float32)[..., None]
    film = np.clip(film + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(film[:, :, ::-1]) if rng.integers(2) else film
