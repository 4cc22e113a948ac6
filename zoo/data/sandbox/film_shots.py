"""How the sandbox's how-to films are drawn: shot after shot, each a scene of its own before a camera that drifts."""

from __future__ import annotations

import numpy as np

from zoo.data.sandbox.film_plots import Film, Shot
from zoo.data.sandbox.film_work import BASES, THINGS, Hands, Work
from zoo.data.sandbox.household import (
    CABINETS,
    MARGIN,
    SIZE,
    STILL,
    Canvas,
    Layer,
    Pen,
    box,
    disc,
    draw_cabinet,
    stroke,
    tinted,
)

_WIDE = SIZE + 2 * MARGIN
_ONE, _STILL = np.ones(1), np.zeros(1)


class Looks:
    """What stays the same through a film: colours of people and things, the room, the table."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.skin = np.array((245, 205, 170)) * rng.uniform(0.5, 1.0)
        self.shirt, self.hair = rng.uniform(30, 225, 3), tinted(rng, (90, 65, 40), 30)
        self.wall = rng.uniform(90, 165) + rng.uniform(-30, 30, 3)
        self.table = tinted(rng, (165, 135, 105), 18)
        self.paper = rng.uniform(25, 225, 3)
        self.tints = {name: tinted(rng, colour, 7) for name, colour in THINGS.items()}
        self.side = float(rng.choice((-1, 1)))
        self.scale = rng.uniform(0.92, 1.12)
        self.grains = int(rng.integers(2**32))
        self.long_hair = bool(rng.integers(2))


def shoot(film: Film) -> np.ndarray:
    """The pictures of a film, uint8 ``[T, 64, 64, 3]``."""
    rng = np.random.default_rng((*film.seed, 21))
    looks = Looks(rng)
    pictures = np.concatenate([_SHOTS[shot.kind](rng, film, shot, looks) for shot in film.shots])
    count = len(pictures)
    light = rng.uniform(0.88, 1.08) + 0.03 * np.sin(np.linspace(0, rng.uniform(3, 9), count) + rng.uniform(0, 7))
    pictures *= light.astype(np.float32)[:, None, None, None]
    pictures += rng.uniform(0.4, 1.4) * rng.standard_normal(pictures.shape[:3], dtype=np.float32)[..., None]
    return np.clip(pictures + 0.5, 0, 255, out=pictures).astype(np.uint8)


def _shown(rng: np.random.Generator, canvas: Canvas, far: float = 1.5) -> np.ndarray:
    """What the camera sees: a window that drifts by up to ``far`` pixels to each side."""
    count = len(canvas.frames)
    way = np.linspace(0, 1, count)[:, None] * rng.uniform(1.5, 3.5, 2) + rng.uniform(0, 6, 2)
    moved = np.rint(np.minimum((far, 1.5), far) * np.sin(way)).astype(int) + MARGIN
    return _cut(canvas.frames, moved)


def _cut(frames: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The window of every frame at its corner (x, y); one frame is there for all."""
    seen = np.empty((len(corner), SIZE, SIZE, 3), np.float32)
    for to, frame, (x, y) in zip(seen, np.broadcast_to(frames, (len(corner), *frames.shape[1:])), corner, strict=True):
        to[:] = frame[y : y + SIZE, x : x + SIZE]
    return seen


def _plain(colour: np.ndarray, slope: float = 0.0) -> np.ndarray:
    y = np.linspace(-1, 1, _WIDE, dtype=np.float32)[:, None, None]
    return np.broadcast_to(colour.astype(np.float32) + slope * y, (_WIDE, _WIDE, 3)).copy()


def _still(room: np.ndarray, layers: list[Layer]) -> np.ndarray:
    """A room with what does not move painted once."""
    canvas = Canvas(room, 1)
    canvas.paint(layers)
    return canvas.frames[0]


def _at(x: float, y: float) -> np.ndarray:
    return np.array([[x, y]], float)


def _off(points: np.ndarray, x: float, y: float) -> np.ndarray:
    """Places beside others."""
    return points + np.array((x, y))


# Shots of the work


def _close(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """The work on the table, and where it is a step the hands that do it."""
    count = shot.stop - shot.start
    done = np.zeros((len(film.task.steps), count))
    if shot.kind == "step":
        done[: shot.step] = 1
        done[shot.step] = np.linspace(*shot.done, count)
    elif shot.kind == "finished":
        done[:] = 1
    base = BASES[film.task.base]
    horizon = rng.uniform(26, 33)
    room = _plain(looks.wall * rng.uniform(0.85, 1.1), 6)
    y = np.arange(_WIDE, dtype=np.float32)[:, None, None] - MARGIN
    room += np.clip(y - horizon + 0.5, 0, 1) * (looks.table + 0.3 * (y - 48) - room)
    stuff: list[Layer] = []
    for _ in range(int(rng.integers(0, 3)) + 2 * (shot.kind == "untouched")):
        stuff += _ingredient(rng, film, looks, _at(rng.uniform(2, 62), rng.uniform(horizon + 4, horizon + 12)))
    if shot.kind != "step":  # one picture, past which the camera goes
        done = done[:, :1]
    frames = done.shape[1]
    place = np.array((32 + rng.uniform(-3, 3), (56 if base.hollow else 51) + rng.uniform(-2, 2)))
    scale = looks.scale * rng.uniform(0.95, 1.05) * (1 if base.hollow else 1.2)
    pen = Pen(np.broadcast_to(place, (frames, 2)), np.ones(frames), scale, looks.side)
    work = Work(np.random.default_rng(looks.grains), pen, film.task, done, looks.tints)
    work.paint()
    if shot.kind != "step":
        return _pan(rng, _still(room, stuff + pen.layers), count, 6)
    step = film.task.steps[shot.step]
    Hands(rng, work, step, done[shot.step], looks.skin, looks.shirt).paint()
    # What does not change before the first that does is painted once.
    first = next((i for i, layer in enumerate(pen.layers) if not _is_still(layer)), len(pen.layers))
    canvas = Canvas(_still(room, [*stuff, *map(_first_frame, pen.layers[:first])]), count)
    canvas.paint(pen.layers[first:])
    return _shown(rng, canvas)


def _is_still(layer: Layer) -> bool:
    return all((values == values[:1]).all() for values in (layer.axes, layer.place, layer.shown))


def _first_frame(layer: Layer) -> Layer:
    return Layer(layer.kind, layer.axes[:1], layer.place[:1], layer.colour, layer.shown[:1])


def _ingredient(rng: np.random.Generator, film: Film, looks: Looks, place: np.ndarray) -> list[Layer]:
    """Something that a task may need, on the table."""
    colour = looks.tints[str(rng.choice(list(THINGS)))]
    pen = Pen(place, _ONE, rng.uniform(0.7, 0.95))
    match int(rng.integers(3)):
        case 0:  # a jar
            pen.box(0, 5, 4, 5, colour)
            pen.box(0, 10.5, 3.2, 1.2, np.array((90, 90, 95.0)))
        case 1:  # a jug
            pen.box(0, 6, 5, 6, np.array((228, 228, 235.0)))
            pen.box(0, 5, 3.6, 4, colour)
        case _:  # a heap
            pen.disc(0, 2, 6.5, 3.4, colour)
    return pen.layers


# Shots of everything else


def _host(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """Somebody behind a counter, who talks and waves; what is on the counter is shut."""
    count = shot.stop - shot.start
    pen = Pen(_at(rng.uniform(4, 60), rng.uniform(14, 22)), _ONE, 0.55, rng.choice((-1.0, 1.0)))
    draw_cabinet(pen, rng, "window", _STILL)
    things = [*pen.layers, box(_at(rng.uniform(4, 60), 26), 9, 0.8, looks.table * 0.8, _ONE, _STILL)]
    room = _still(_plain(looks.wall, 12), things)
    canvas, one, t = Canvas(room, count), np.ones(count), np.arange(count) + rng.uniform(0, 20)
    x = 32 + rng.uniform(-9, 9) + 1.2 * np.sin(t * 0.11)
    body = np.stack((x, np.full(count, 44.0)), 1)
    head = np.stack((x + 0.6 * np.sin(t * 0.23), 22 + 0.5 * np.sin(t * 0.31)), 1)
    zero = 0 * one
    layers = [
        disc(_off(head, 0, 1.5 if looks.long_hair else -2), 6.6, 8.0 if looks.long_hair else 5.6, looks.hair, one, zero)
    ]
    layers += [
        box(body, 8.5, 14.0, looks.shirt, one, zero),
        box(_off(body, 0, -15), 2.4, 3, looks.skin * 0.9, one, zero),
    ]
    layers += [disc(head, 5.4, 6.4, looks.skin, one, zero), disc(_off(head, 0, -5.2), 5.6, 2.6, looks.hair, one, zero)]
    for side in (-1, 1):
        layers.append(disc(_off(head, 2.2 * side, -0.6), 0.9, 0.9, np.zeros(3) + 25, one, zero))
        speed, reach = rng.uniform(0.25, 0.6), rng.uniform(2, 6)
        hand = body + np.stack((side * (11 + 0.4 * reach * np.sin(t * speed)), -4 - reach * np.sin(t * speed + 1)), 1)
        layers.append(stroke(_off(body, side * 7.5, -11), hand, 2.2, looks.shirt * 0.85, one))
        layers.append(disc(hand, 2.4, 2.4, looks.skin, one, zero))
    talk = np.clip(0.6 + np.sin(t * 1.5) + np.sin(t * 0.9), 0.15, 1)
    axes = np.zeros((count, 2, 2))
    axes[:, 0, 0], axes[:, 1, 1] = 1.9, 0.5 + 1.1 * talk
    layers.append(Layer("disc", axes, _off(head, 0, 3.4), np.array((120.0, 25, 30)), one))
    canvas.paint(layers)
    counter = Canvas(np.zeros((_WIDE, _WIDE, 3), np.float32), 1)
    top = 47 + MARGIN
    counter.frames[:, top:] = looks.table
    counter.frames[:, top : top + 2] = looks.table * 1.2
    for _ in range(3):
        on = Pen(_at(rng.uniform(2, 62), 51), _ONE, rng.uniform(0.6, 0.8))
        STILL[str(rng.choice(("vessel", "leaf")))](on, rng)
        counter.paint(on.layers)
    canvas.frames[:, top:] = counter.frames[:, top:]
    return _shown(rng, canvas)


def _outside(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """A house, trees and clouds; the camera pans."""
    count = shot.stop - shot.start
    room = _plain(np.array((120, 170, 230.0)), 40)
    room[MARGIN + 42 :] = np.array((90, 150, 70.0)) * rng.uniform(0.8, 1.1)
    layers = [
        disc(_at(*rng.uniform((-10, 2), (74, 16))), rng.uniform(6, 12), 3, np.zeros(3) + 245, _ONE, _STILL)
        for _ in range(4)
    ]
    house = rng.uniform(22, 42)
    layers.append(box(_at(house, 36), 13, 10, looks.wall * 1.1, _ONE, _STILL))
    layers.append(box(_at(house, 24), 11, 11, tinted(rng, (150, 60, 50)), _ONE, np.array([np.pi / 4])))
    layers.append(box(_at(house, 37), 13, 10, looks.wall * 1.1, _ONE, _STILL))
    layers.append(box(_at(house - 4, 41), 2.6, 5, tinted(rng, (90, 60, 40)), _ONE, _STILL))
    layers.append(box(_at(house + 6, 36), 3, 3, np.array((180, 215, 240.0)), _ONE, _STILL))
    for x in rng.uniform(-14, 78, 4):
        layers.append(box(_at(x, 42), 1.2, 6, np.array((95, 65, 40.0)), _ONE, _STILL))
        layers.append(disc(_at(x, 32), 6, 8, tinted(rng, (50, 120, 50), 15), _ONE, _STILL))
    return _pan(rng, _still(room, layers), count)


def _room(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """The room that all is done in, with cupboards and shelves; the camera pans."""
    count = shot.stop - shot.start
    room = _plain(looks.wall, 14)
    room[MARGIN + 54 :] = looks.wall * 0.6
    layers: list[Layer] = []
    for x in np.arange(-8, 80, 22) + rng.uniform(-4, 4):
        name = str(rng.choice(list(CABINETS)))
        pen = Pen(_at(x, 55 - CABINETS[name].middle), _ONE, 1.0, rng.choice((-1.0, 1.0)))
        draw_cabinet(pen, rng, name, _STILL)
        layers += pen.layers
    for x in rng.uniform(-8, 72, 3):
        layers.append(box(_at(x, 16), 8, 0.9, looks.table * 0.7, _ONE, _STILL))
        pen = Pen(_at(x + rng.uniform(-4, 4), 12.5), _ONE, 0.8)
        STILL["vessel"](pen, rng)
        layers += pen.layers
    return _pan(rng, _still(room, layers), count)


def _pan(rng: np.random.Generator, picture: np.ndarray, count: int, far: float = MARGIN - 1) -> np.ndarray:
    """A slow look from one side to the other, ``far`` pixels each at most."""
    way = rng.choice((-1, 1)) * rng.uniform(far / 4, far)
    x = np.rint(np.linspace(-way, way, count)).astype(int) + MARGIN
    return _cut(picture[None], np.stack((x, np.full(count, MARGIN)), 1))


def _title(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """Lines of writing on a plain ground."""
    light = np.full(3, 245.0) if looks.paper.mean() < 135 else np.full(3, 25.0)
    layers = _lines(rng, light, 24, 2)
    layers += [box(_at(32, 45), 12, 0.7, light, _ONE, _STILL), disc(_at(32, 52), 3, 3, looks.shirt, _ONE, _STILL)]
    picture = _still(_plain(looks.paper, 10), layers)
    return _cut(picture[None], np.full((shot.stop - shot.start, 2), MARGIN))


def _credits(rng: np.random.Generator, film: Film, shot: Shot, looks: Looks) -> np.ndarray:
    """Lines of writing that go up."""
    count = shot.stop - shot.start
    picture = _still(_plain(np.full(3, 18.0)), _lines(rng, np.full(3, 225.0), -12, 12, 8.0))
    y = np.rint(np.linspace(0, 2 * MARGIN, count)).astype(int)
    return _cut(picture[None], np.stack((np.full(count, MARGIN), y), 1))


def _lines(rng: np.random.Generator, colour: np.ndarray, top: float, count: int, pitch: float = 9.0) -> list[Layer]:
    """Words as bars."""
    layers = []
    for line in range(count):
        wide = rng.uniform(1.5, 5.5, 4)
        x = 32 - (wide.sum() + 4.5)
        for half in wide:
            layers.append(box(_at(x + half, top + pitch * line), half, 0.28 * pitch, colour, _ONE, _STILL))
            x += 2 * half + 3
    return layers


_SHOTS = {
    "title": _title,
    "host": _host,
    "outside": _outside,
    "room": _room,
    "step": _close,
    "untouched": _close,
    "finished": _close,
    "credits": _credits,
}
