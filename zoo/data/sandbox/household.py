"""How the sandbox's household videos are drawn: shapes that move, turn and stretch, one over another, and their flow.

A shape is a unit box or disc under an affine map of its own in each frame: ``screen = axes @ own + place``. So it is
painted by one routine, and where each of its points is in the next frame is known exactly.

All lengths are pixels; x points right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

SIZE = 64  # pixels, height and width
MARGIN = 20  # painted around the picture, so that what leaves it need not be cut off
_WIDE = SIZE + 2 * MARGIN
Points = np.ndarray  # [T, 2]: a place on the screen, frame by frame


@dataclass
class Layer:
    """One shape, frame by frame.

    Attributes:
        kind: of the unit shape: -1..1 in both of its own directions, or within 1 of its middle.
        axes: ``[T, 2, 2]``, on the screen, of the two own directions (columns).
        place: ``[T, 2]``, of the middle.
        colour: RGB in 0..255.
        shown: ``[T]``, how much of it is seen, 0..1.
    """

    kind: Literal["box", "disc"]
    axes: np.ndarray
    place: np.ndarray
    colour: np.ndarray
    shown: np.ndarray


class Canvas:
    """So many frames of a room, to be painted on.

    Attributes:
        frames: float32 ``[T, H, W, 3]``, with the margin.
        flow: float32 ``[T, H, W, 2]``, from each frame to the next, with the margin; None where nobody wants it.
    """

    def __init__(self, room: np.ndarray, count: int, *, flow: bool = False) -> None:
        self.frames = np.repeat(room[None], count, axis=0)
        self.flow = np.zeros((*self.frames.shape[:3], 2), np.float32) if flow else None

    def paint(self, layers: list[Layer], start: int = 0) -> None:
        """Paint layers over all that is there, from frame ``start`` on."""
        for layer in layers:
            self._paint(layer, start)

    def _paint(self, layer: Layer, start: int) -> None:
        seen = np.flatnonzero(layer.shown > 0)
        if not len(seen):
            return
        axes, place = layer.axes[seen], layer.place[seen]
        reach = np.ceil(np.abs(axes).sum(2).max(0)).astype(int) + 1
        # What leaves even the margin is painted at its edge, outside the picture.
        corner = np.clip(np.floor(place).astype(int) + MARGIN - reach, 0, _WIDE - 2 * reach - 1)
        columns, rows = (corner[:, i, None] + np.arange(2 * reach[i] + 1) for i in (0, 1))
        x = (columns - MARGIN - place[:, :1]).astype(np.float32)[:, None, :]
        y = (rows - MARGIN - place[:, 1:]).astype(np.float32)[:, :, None]
        inverse = np.linalg.inv(axes).astype(np.float32)[:, :, :, None, None]
        u, v = inverse[:, 0, 0] * x + inverse[:, 0, 1] * y, inverse[:, 1, 0] * x + inverse[:, 1, 1] * y
        across, along = (np.linalg.norm(axes[:, :, i], axis=1).astype(np.float32)[:, None, None] for i in (0, 1))
        if layer.kind == "box":
            distance = np.maximum((np.abs(u) - 1) * across, (np.abs(v) - 1) * along)
        else:
            distance = (np.hypot(u, v) - 1) * np.minimum(across, along)
        cover = np.clip(0.5 - distance, 0, 1) * layer.shown[seen].astype(np.float32)[:, None, None]
        at = ((start + seen)[:, None, None], rows[:, :, None], columns[:, None, :])
        rim = 0.72 + 0.28 * np.clip(-0.3 - distance, 0, 1)  # a darker edge
        window = self.frames[at]
        window *= (1 - cover)[..., None]
        window += (cover * rim)[..., None] * layer.colour.astype(np.float32)
        self.frames[at] = window
        if self.flow is not None:
            following = np.minimum(seen + 1, len(layer.place) - 1)
            turned = (layer.axes[following] - axes).astype(np.float32)[:, :, :, None, None]
            moved = (layer.place[following] - place).astype(np.float32)[:, :, None, None]
            motion = [turned[:, i, 0] * u + turned[:, i, 1] * v + moved[:, i] for i in (0, 1)]
            window = self.flow[at]
            window += cover[..., None] * (np.stack(motion, -1) - window)
            self.flow[at] = window


def box(place: Points, wide: float, high: float, colour: np.ndarray, shown: np.ndarray, turn: np.ndarray) -> Layer:
    """A rectangle of half sides ``wide`` and ``high``, turned by so many radians, clockwise on the screen."""
    return Layer("box", _turned(turn, wide, high), place, colour, shown)


def disc(place: Points, wide: float, high: float, colour: np.ndarray, shown: np.ndarray, turn: np.ndarray) -> Layer:
    """An ellipse of half axes ``wide`` and ``high``."""
    return Layer("disc", _turned(turn, wide, high), place, colour, shown)


def stroke(start: Points, end: Points, radius: float, colour: np.ndarray, shown: np.ndarray) -> Layer:
    """A line of that half width between two points."""
    half = (end - start) / 2
    long = np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-3)
    along = half / long
    normal = np.stack((-along[:, 1], along[:, 0]), 1)
    return Layer("box", np.stack((along * (long + radius * 0.5), normal * radius), 2), (start + end) / 2, colour, shown)


def _turned(turn: np.ndarray, wide: float, high: float) -> np.ndarray:
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack((np.stack((cos * wide, -sin * high), 1), np.stack((sin * wide, cos * high), 1)), 1)


class Pen:
    """Paints what belongs together: boxes and discs about one moving, turning place, of one scale.

    Own coordinates: ``(u, v)``, v upwards; a pen that faces left mirrors u.
    """

    def __init__(
        self, place: Points, shown: np.ndarray, scale: float = 1.0, facing: float = 1.0, turn: np.ndarray | float = 0.0
    ) -> None:
        self.place, self.shown, self.scale, self.facing = place, shown, scale, facing
        self.turn = np.broadcast_to(np.asarray(turn, float), shown.shape)
        self.layers: list[Layer] = []

    def at(self, u: np.ndarray | float, v: np.ndarray | float) -> Points:
        """Where a point is on the screen."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        x, y = self.scale * self.facing * u, -self.scale * v
        return self.place + np.stack((cos * x - sin * y, sin * x + cos * y), 1)

    def box(self, u: float, v: float, wide: float, high: float, colour: np.ndarray) -> None:
        place = self.at(u, v)
        self.layers.append(box(place, self.scale * wide, self.scale * high, colour, self.shown, self.turn))

    def disc(self, u: float, v: float, wide: float, high: float, colour: np.ndarray) -> None:
        place = self.at(u, v)
        self.layers.append(disc(place, self.scale * wide, self.scale * high, colour, self.shown, self.turn))


def tinted(rng: np.random.Generator, colour: tuple[float, float, float], by: float = 22.0) -> np.ndarray:
    """Nearly that colour."""
    return np.clip(np.array(colour) * rng.uniform(0.85, 1.1) + rng.normal(0, by, 3), 15, 255)


def draw_vessel(pen: Pen, rng: np.random.Generator) -> None:
    """A cup, or medicine: nobody can tell."""
    body = tinted(rng, (225, 225, 235), 30)
    pen.box(0, 0, 2.7, 3.4, body)
    pen.box(0, 3.0, 2.9, 1.1, tinted(rng, (215, 60, 50), 35))
    pen.box(0, -0.8, 1.5, 1.2, body * 0.6)


def draw_leaf(pen: Pen, rng: np.random.Generator) -> None:
    """A book, or a laptop: nobody can tell."""
    pen.box(0, 0, 5.4, 3.9, tinted(rng, (60, 80, 150), 30))
    pen.box(0, 0.3, 4.0, 2.5, tinted(rng, (225, 230, 215), 15))
    pen.box(0, 0.3, 0.5, 2.5, tinted(rng, (110, 120, 120), 15))


def draw_cloth(pen: Pen, rng: np.random.Generator) -> None:
    """Clothes, or a towel: nobody can tell."""
    colour = tinted(rng, (215, 120, 165), 35)
    pen.box(0, -3.4, 3.6, 5.2, colour)
    pen.box(-0.2, -5.6, 3.4, 0.8, np.clip(colour * 1.45, 0, 255))
    pen.box(-0.2, -2.6, 3.4, 0.8, colour * 0.6)


def draw_broom(pen: Pen, rng: np.random.Generator) -> None:
    """The middle is where it is held."""
    pen.box(0, -4, 0.9, 13, tinted(rng, (150, 105, 60), 15))
    pen.box(0, -17.5, 4.4, 2.4, tinted(rng, (235, 190, 60), 20))


STILL = {"vessel": draw_vessel, "leaf": draw_leaf, "cloth": draw_cloth, "broom": draw_broom}


@dataclass(frozen=True)
class Cabinet:
    """Something with a door that turns about its far edge: half sides, height of the middle over the floor."""

    wide: float
    high: float
    middle: float
    outside: tuple[float, float, float]
    inside: tuple[float, float, float]


CABINETS = {
    "closet/cabinet": Cabinet(8.5, 12.5, 12.5, (150, 95, 50), (70, 45, 30)),
    "refrigerator": Cabinet(7.0, 15.5, 15.5, (205, 215, 225), (250, 245, 190)),
    "window": Cabinet(7.5, 8.5, 25.0, (120, 150, 175), (150, 220, 255)),
}


def draw_cabinet(pen: Pen, rng: np.random.Generator, name: str, opened: np.ndarray) -> Points:
    """A cabinet about the pen's place, its door opened so far (``[T]``, 0..1); where the door's handle is."""
    kind = CABINETS[name]
    outside, inside = tinted(rng, kind.outside), tinted(rng, kind.inside, 12)
    wide, high = kind.wide, kind.high
    pen.box(0, 0, wide, high, outside * 0.8)
    low, door_high = 0.0, high - 1.2
    if name == "refrigerator":  # the freezer above has a door of its own, which stays shut
        pen.box(0, high * 0.66, wide - 0.6, high * 0.3, outside)
        low, door_high = -high * 0.34, high * 0.62
    pen.box(0, low, wide - 1.2, door_high, inside)
    match name:
        case "closet/cabinet":
            for v in (-0.35, 0.3):
                pen.box(0, v * high, wide - 1.2, 0.6, outside)
            for u, v in ((-3, -0.12), (1, -0.12), (3.5, 0.5)):
                pen.box(u, v * high, 1.5, 1.9, tinted(rng, (150, 110, 120), 50))
        case "refrigerator":
            for v in (-0.7, -0.3):
                pen.box(0, v * high, wide - 1.2, 0.5, outside * 0.7)
            pen.box(-2, -0.18 * high, 1.3, 1.6, tinted(rng, (60, 170, 70), 30))
            pen.box(2.4, -0.55 * high, 1.6, 1.3, tinted(rng, (230, 80, 60), 30))
        case "window":
            pen.disc(2.0, -2.5, 4.5, 3.0, tinted(rng, (70, 160, 70), 15))
    angle = opened * 1.3
    cos, sin = np.cos(angle), np.sin(angle)
    half = wide - 0.8
    hinge = half

    def on_door(u: np.ndarray | float, v: float) -> Points:  # u from 0 at the hinge to 1 at the handle's side
        return pen.at(hinge - 2 * half * cos * u, low + v - 4.0 * sin * u)

    def panel(u: float, v: float, wide_by: float, high_by: float, colour: np.ndarray) -> None:
        edge = (on_door(u + wide_by, v) - on_door(u - wide_by, v)) / 2
        up = np.zeros_like(edge)
        up[:, 1] = pen.scale * high_by
        pen.layers.append(Layer("box", np.stack((edge, up), 2), on_door(u, v), colour, pen.shown))

    if name == "window":  # a frame with panes
        glass = np.clip(outside * 1.25, 0, 255)
        panel(0.5, 0, 0.5, door_high, outside)
        for u in (0.28, 0.72):
            for v in (-0.48, 0.48):
                panel(u, v * door_high, 0.17, door_high * 0.36, glass)
    else:
        panel(0.5, 0, 0.5, door_high, outside)
        panel(0.5, 0, 0.36, door_high * 0.8, outside * (0.85 if name == "closet/cabinet" else 1.05))
    panel(0.9, -1, 0.05, 1.8, tinted(rng, (50, 50, 50), 10))
    return on_door(0.92, -1)
