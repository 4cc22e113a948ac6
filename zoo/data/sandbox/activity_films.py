"""The sandbox's household videos as pictures: a figure in a room acts what a plan says.

What it uses comes into view only while it is used: furniture that stood about for good would tell every frame the whole
story. What does stand about, pictures and paler things on and before the wall, is drawn without looking at the plan.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from zoo.data.sandbox.activities import FPS, SCENES, Plan
from zoo.data.sandbox.household import (
    CABINETS,
    MARGIN,
    SIZE,
    STILL,
    Canvas,
    Layer,
    Pen,
    Points,
    box,
    disc,
    draw_cabinet,
    stroke,
    tinted,
)

FADE = 3  # frames in which things come into view, and go
_REST = (2.0, 8.5)  # where a hand hangs: forward of the feet and above the floor
_CHEST = (7.5, 17.0)
_PACE = 1.3  # pixels a frame


@dataclass
class Figure:
    """Who acts, frame by frame: feet, facing, where the hands are, swing of the legs, how much it laughs.

    Attributes:
        x: ``[T]``.
        facing: ``[T]``, 1 to the right, -1 to the left.
        hands: ``[2, T, 2]``, on the screen; the nearer one first.
        phase: ``[T]``, of the legs' swing, radians.
        laugh: ``[T]``, 0..1.
        floor: the row that it stands on.
        scale: of it and of the things that it uses.
    """

    x: np.ndarray
    facing: np.ndarray
    hands: np.ndarray
    phase: np.ndarray
    laugh: np.ndarray
    floor: float
    scale: float

    def point(self, forward: np.ndarray | float, up: np.ndarray | float) -> Points:
        """A place relative to the feet, forward and upwards, on the screen."""
        x = self.x + self.facing * self.scale * forward
        return np.stack((x, np.broadcast_to(self.floor - self.scale * np.asarray(up, float), x.shape)), 1)

    def cut(self, start: int, stop: int) -> Figure:
        """These frames of it; what is changed there is changed here."""
        x, facing, phase, laugh = (values[start:stop] for values in (self.x, self.facing, self.phase, self.laugh))
        return Figure(x, facing, self.hands[:, start:stop], phase, laugh, self.floor, self.scale)

    def halted(self, frame: int) -> Figure:
        """It, where it is in one frame, for as long."""
        x, facing = (np.full(len(self.x), values[frame]) for values in (self.x, self.facing))
        return dataclasses.replace(self, x=x, facing=facing)


def render(item: Plan, *, flow: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures of a plan.

    Args:
        item: what happens.
        flow: whether the motion is wanted too.

    Returns:
        uint8 ``[T, 64, 64, 3]``, and float32 ``[T - 1, 64, 64, 2]``: how many pixels to the right and down what is seen
        at a pixel goes until the next frame; None unless wanted.
    """
    rng = np.random.default_rng((*item.seed, 3))
    canvas = Canvas(_room(rng, item.room), item.frames, flow=flow)
    figure = _figure(rng, item)
    looks = rng.integers(2**32, size=len(item.episodes))
    behind, before = [], []
    for number, look in enumerate(looks):
        use = _Use(np.random.default_rng(look), figure, item, number)
        for layers, painted in zip((behind, before), use.layers(), strict=True):
            layers.append((painted, use.start))
    passer = _passer_by(rng, item.frames)
    for layers, start in behind:
        canvas.paint(layers, start)
    canvas.paint(_far_side(figure, body := _colours(rng)))
    for layers, start in before:
        canvas.paint(layers, start)
    canvas.paint(_near_side(figure, body))
    canvas.paint(passer)
    inner = slice(MARGIN, MARGIN + SIZE)
    frames = _film(rng, canvas.frames[:, inner, inner])
    return frames, canvas.flow[:-1, inner, inner].copy() if flow else None


# The room


def _room(rng: np.random.Generator, scene: str) -> np.ndarray:
    """Wall, floor and what stands about, float32 ``[H, W, 3]`` with the margin. A scene has colours of its own."""
    hue = 2 * math.pi * SCENES.index(scene) / len(SCENES)
    tone = 26 * np.array([math.cos(hue), math.cos(hue - 2.1), math.cos(hue + 2.1)])
    wall = rng.uniform(95, 150) + tone + rng.uniform(-10, 10, 3)
    ground = wall * rng.uniform(0.6, 0.8) + rng.uniform(-12, 12, 3)
    wide = SIZE + 2 * MARGIN
    y = np.arange(wide, dtype=np.float32)[:, None] - MARGIN
    coarse = rng.uniform(-12, 12, (6, 6, 3))
    weights = np.clip(1 - np.abs(np.linspace(0, 5, wide)[:, None] - np.arange(6)), 0, 1)
    room = wall + np.einsum("hi,wj,ijc->hwc", weights, weights, coarse, optimize=True)
    horizon = rng.uniform(46, 54)
    room += np.clip(y - horizon + 0.5, 0, 1)[..., None] * (ground + (y - horizon)[..., None] * 0.6 - room)
    canvas, one, still = Canvas(room.astype(np.float32), 1), np.ones(1), np.zeros(1)
    for _ in range(int(rng.integers(2, 5))):  # pictures, cupboards
        place, half = rng.uniform((0, 2), (SIZE, horizon))[None], rng.uniform((3, 3), (9, 9))
        canvas.paint([box(place, *half, wall + rng.uniform(-35, 35, 3), one * 0.7, still)])
    for _ in range(int(rng.integers(1, 4))):  # paler than what is used
        pen = Pen(
            rng.uniform((2, 18), (SIZE - 2, 56))[None], one * 0.45, rng.uniform(0.6, 0.9), rng.choice((-1.0, 1.0))
        )
        name = str(rng.choice([*STILL, *CABINETS]))
        if name in STILL:
            STILL[name](pen, rng)
        else:
            draw_cabinet(pen, rng, name, rng.uniform(0, 1, 1))
        canvas.paint(pen.layers)
    return canvas.frames[0] + rng.normal(0, rng.uniform(0.5, 2.5), (wide, wide, 1)).astype(np.float32)


def _passer_by(rng: np.random.Generator, frames: int) -> list[Layer]:
    """A ball that rolls through the picture, once or not at all."""
    start, speed = rng.uniform(-0.3, 0.9) * frames, rng.uniform(0.5, 1.2) * rng.choice((-1, 1))
    radius, colour = rng.uniform(1.8, 2.8), tinted(rng, (200, 70, 60), 45)
    x = SIZE / 2 - math.copysign(42, speed) + speed * (np.arange(frames) - start)
    shown = ((x > -8) & (x < SIZE + 8)) * float(rng.random() < 0.6)
    place, turn = np.stack((x, np.full(frames, rng.uniform(56, 61))), 1), x / radius
    return [
        disc(place, radius, radius, colour, shown, turn),
        box(place, radius * 0.8, 0.6, np.clip(colour * 1.6, 0, 255), shown, turn),
    ]


def _film(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """The camera: its light changes a little, its sensor is noisy."""
    count = len(frames)
    light = rng.uniform(0.85, 1.1) + 0.04 * np.sin(np.linspace(0, rng.uniform(2, 7), count) + rng.uniform(0, 7))
    film = frames * light.astype(np.float32)[:, None, None, None]
    film += rng.uniform(0.4, 1.6) * rng.standard_normal(film.shape[:3], dtype=np.float32)[..., None]
    return np.clip(film + 0.5, 0, 255, out=film).astype(np.uint8)


# Who acts


def _figure(rng: np.random.Generator, item: Plan) -> Figure:
    """Where the figure is before anything is in its hands: it walks to a place for each episode."""
    scale, floor = rng.uniform(0.9, 1.12), rng.uniform(54, 61)
    count = item.frames
    x, facing, phase = np.zeros(count), np.ones(count), np.zeros(count)
    here, now, side = rng.uniform(18, SIZE - 18), 0, rng.choice((-1.0, 1.0))
    for episode in item.episodes:
        begin, stop = round(episode[0].begin * FPS), round(episode[-1].stop * FPS)
        to = _walk(rng, (x, facing, phase), (now, begin), here, side)
        # What is used is before the figure, so it turns to where there is room.
        side = 1.0 if to < SIZE / 2 - 6 else -1.0 if to > SIZE / 2 + 6 else float(rng.choice((-1, 1)))
        x[begin:stop], facing[begin - FADE : stop] = to, side
        here, now = to, min(stop, count)
    _walk(rng, (x, facing, phase), (now, count), here, side)
    if not item.episodes:  # to and fro
        x[:] = SIZE / 2 + 18 * np.sin(np.linspace(0, rng.uniform(4, 12), count) + rng.uniform(0, 7))
        facing[:] = np.sign(np.gradient(x) + 1e-9)
        phase[:] = np.cumsum(np.abs(np.gradient(x))) * 0.35
    laugh, seconds = np.zeros(count), np.arange(count) / FPS
    for act in item.laughs:
        laugh = np.maximum(laugh, np.clip(np.minimum(seconds - act.begin, act.stop - seconds) / 0.15, 0, 1))
    figure = Figure(x, facing, np.zeros((2, count, 2)), phase, laugh, floor, scale)
    sway = 0.5 * np.sin(np.arange(count) * rng.uniform(0.08, 0.16)) + 1.2 * np.sin(phase)
    figure.hands[0], figure.hands[1] = figure.point(_REST[0] + sway, _REST[1]), figure.point(-sway, _REST[1])
    return figure


def _walk(
    rng: np.random.Generator,
    track: tuple[np.ndarray, np.ndarray, np.ndarray],
    span: tuple[int, int],
    here: float,
    side: float,
) -> float:
    """Fill in x, facing and phase of the frames ``span`` with a walk to somewhere, and say where that is.

    It begins when what was used is gone and ends before what is used next is seen.
    """
    begin, stop = span
    free = max(stop - begin - 2 * FADE, 0)
    to = float(np.clip(rng.uniform(14, SIZE - 14), here - _PACE * free, here + _PACE * free))
    steps = min(free, max(6, math.ceil(abs(to - here) / _PACE)))
    share = np.clip((np.arange(begin, stop) - (begin + FADE + free - steps)) / max(steps, 1), 0, 1)
    moving = (share > 0) & (share < 1)
    x, facing, phase = track
    x[begin:stop] = here + (to - here) * share
    facing[begin:stop] = np.where(moving, math.copysign(1, to - here), side)
    phase[begin:stop] = np.where(moving, np.abs(to - here) * share * 0.35, 0)
    return to


def _colours(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of skin, hair, shirt and trousers."""
    skin = np.array((245, 205, 170)) * rng.uniform(0.5, 1.0)
    return {
        "skin": skin,
        "hair": tinted(rng, (80, 60, 40), 25),
        "shirt": rng.uniform(30, 230, 3),
        "legs": rng.uniform(25, 120, 3),
    }


def _shake(figure: Figure) -> np.ndarray:
    """How far a laugh lifts the shoulders, frame by frame."""
    return figure.laugh * (0.6 + 0.9 * np.sin(np.arange(len(figure.x)) * 1.3))


def _far_side(figure: Figure, colours: dict[str, np.ndarray]) -> list[Layer]:
    """The arm behind, the legs and the body."""
    one, up, lean = np.ones(len(figure.x)), _shake(figure), figure.laugh * 2.2
    s, swing = figure.scale, 3.2 * np.sin(figure.phase)
    layers = [stroke(figure.point(-0.5, 20 + up), figure.hands[1], 1.3 * s, colours["shirt"] * 0.6, one)]
    layers.append(disc(figure.hands[1], 1.6 * s, 1.6 * s, colours["skin"] * 0.8, one, one * 0))
    for sign, shade in ((-1, 0.65), (1, 0.9)):
        layers.append(
            stroke(figure.point(0, 11), figure.point(sign * swing, 0.8), 1.7 * s, colours["legs"] * shade, one)
        )
    layers.append(stroke(figure.point(0, 9.5), figure.point(-lean * 0.4, 20.5 + up), 3.6 * s, colours["shirt"], one))
    head = figure.point(0.4 - lean * 0.9, 26.5 + up)
    layers.append(disc(head, 4.2 * s, 4.6 * s, colours["skin"], one, one * 0))
    layers.append(disc(figure.point(-0.9 - lean * 1.1, 28.3 + up), 4.2 * s, 3.2 * s, colours["hair"], one, one * 0))
    layers.append(box(figure.point(2.6 - lean * 0.6, 27.2 + up), 0.7 * s, 0.7 * s, np.zeros(3) + 20, one, one * 0))
    mouth = figure.point(2.2 - lean * 0.6, 24.2 + up)
    layers.append(disc(mouth, 2.0 * s, 1.9 * s, np.array((120, 10, 20)), figure.laugh, one * 0))
    layers.append(box(mouth, 1.3 * s, 0.6 * s, np.zeros(3) + 250, figure.laugh, one * 0))
    return layers


def _near_side(figure: Figure, colours: dict[str, np.ndarray]) -> list[Layer]:
    """The arm in front."""
    one, s = np.ones(len(figure.x)), figure.scale
    shoulder = figure.point(0.5, 20 + _shake(figure))
    return [
        stroke(shoulder, figure.hands[0], 1.4 * s, np.clip(colours["shirt"] * 1.15, 0, 255), one),
        disc(figure.hands[0], 1.8 * s, 1.8 * s, colours["skin"], one, one * 0),
    ]


# What it does


class _Use:
    """An episode: what the hands do, and the things that they do it with, over the frames in which these are seen."""

    def __init__(self, rng: np.random.Generator, figure: Figure, item: Plan, number: int) -> None:
        episode = item.episodes[number]
        begin, stop = episode[0].begin, episode[-1].stop
        # The shortest gap is longer than what comes and what goes take together, so there are never two at once.
        self.start, end = max(round(begin * FPS) - FADE, 0), min(round(stop * FPS) + FADE, item.frames)
        seconds = np.arange(self.start, end) / FPS
        self.rng, self.look, self.verbs = rng, episode[0].look, [act.verb for act in episode]
        self.figure = figure.cut(self.start, end)
        self.stand = self.figure.halted(FADE)
        self.shown = np.clip(np.minimum(seconds - begin, stop - seconds) * FPS / FADE + 1, 0, 1)
        self.done = [np.clip((seconds - act.begin) / (act.stop - act.begin), 0, 1) for act in episode]

    def layers(self) -> tuple[list[Layer], list[Layer]]:
        """What is behind the figure and what is before it; moves the figure's hands."""
        if self.look in CABINETS:
            return self._door(), []
        return self._carry() if self.look in ("vessel", "cloth") else ([], self._hold())

    def _pen(self, place: Points, turn: np.ndarray | float = 0.0) -> Pen:
        return Pen(place, self.shown, self.figure.scale, float(self.stand.facing[0]), turn)

    def _reach(self, hand: int, to: Points, share: np.ndarray) -> None:
        """Move a hand so far from where it hangs to somewhere."""
        self.figure.hands[hand] += (share * self.shown)[:, None] * (to - self.figure.hands[hand])

    def _door(self) -> list[Layer]:
        """Opening and closing: soon the door is where it stays."""
        rng, kind, figure = self.rng, CABINETS[self.look], self.figure
        begin, end = rng.uniform((0.05, 0.35), (0.15, 0.6))
        opened = np.zeros(len(self.shown))
        for place, (verb, share) in enumerate(zip(self.verbs, self.done, strict=True)):
            way = _ease(share, begin, end)
            opened = np.where((share > 0) | (place == 0), way if verb == "open" else 1 - way, opened)
        pen = self._pen(self.stand.point(kind.wide + rng.uniform(5.5, 8.5), kind.middle))
        handle = draw_cabinet(pen, rng, self.look, opened)
        touching = _ease(self.done[0], 0, begin) * (1 - _ease(self.done[-1], 0.9, 1))
        step = self.stand.facing * figure.scale * 5.0 * opened * touching * self.shown  # after the door
        figure.x += step
        figure.hands[:, :, 0] += step
        self._reach(0, handle, touching)
        return pen.layers

    def _carry(self) -> tuple[list[Layer], list[Layer]]:
        """Taking from a table to the chest; putting, which goes the same way back, on a table or over a rail."""
        rng, vessel = self.rng, self.look == "vessel"
        begin, end = rng.uniform((0.1, 0.45), (0.25, 0.65))
        far, top = rng.uniform(12.5, 15.5), rng.uniform(9, 13) if vessel else rng.uniform(15, 19)
        raised, touching = np.zeros(len(self.shown)), np.zeros(len(self.shown))
        for place, (verb, share) in enumerate(zip(self.verbs, self.done, strict=True)):
            up, at = _ease(share, begin, end), _ease(share, 0, begin)
            if verb == "put":
                up, at = 1 - up, 1 - _ease(share, 0.85, 1)
            now = (share > 0) | (place == 0)
            raised, touching = np.where(now, up, raised), np.where(now, at, touching)
        low, high = (
            self.stand.point(far, top + 4.6 * vessel),
            self.stand.point(_CHEST[0], _CHEST[1] + rng.uniform(-1, 1.5)),
        )
        place = low + raised[:, None] * (high - low)
        place[:, 1] -= self.figure.scale * 3.0 * np.sin(math.pi * raised)
        wood, stand = tinted(rng, (130, 95, 65), 25), self._pen(self.stand.point(far, top))
        stand.box(1.0 * vessel, 0, 6.5, 1.2 if vessel else 0.9, wood)
        stand.box(1.0 if vessel else 5.6, -top / 2, 1.2, top / 2, wood * 0.8)
        thing = self._pen(place, 0.12 * np.sin(np.arange(len(raised)) * 0.2) * raised)
        STILL[self.look](thing, rng)
        self._reach(0, place + np.array((0.0, 0.5)), touching)
        return stand.layers, thing.layers

    def _hold(self) -> list[Layer]:
        """With both hands."""
        rng, done = self.rng, self.done[0]
        if self.look == "leaf":  # it comes up slowly
            wobble = 0.6 * np.sin(np.arange(len(done)) * rng.uniform(0.1, 0.25) + rng.uniform(0, 6))
            pen = self._pen(self.stand.point(8.0 + 0.3 * wobble, 12.5 + 8.0 * done + wobble), 0.25 - 0.5 * done)
            hands = pen.at(-3.0, -3.0), pen.at(3.0, -3.0)
        else:  # a broom goes to and fro, and from one side to the other
            swing = (done - 0.5) * 0.5 + 0.3 * np.sin(done * rng.uniform(2, 4) * 2 * math.pi)
            pen = self._pen(self.stand.point(7.5, 16.5), swing)
            hands = pen.at(0, 2.0), pen.at(0, -4.0)
        STILL[self.look](pen, rng)
        for number, hand in enumerate(hands):
            self._reach(number, hand, np.ones(len(done)))
        return pen.layers


def _ease(share: np.ndarray, begin: float, stop: float) -> np.ndarray:
    """From 0 to 1 between two shares of the time, slowly at either end."""
    share = np.clip((share - begin) / (stop - begin), 0, 1)
    return share * share * (3 - 2 * share)
