"""What a close-up of the sandbox's how-to films shows: a piece of work, how far it is, and hands that go on with it.

All is seen from the front and stands on a table. Own coordinates are pixels about the middle of the piece's foot, u to
the right and v upwards. A piece is what its steps have made of it: layers one over another, grains on them, and what
changes them all (stirred, pressed, cut, browned, brushed). How far each step is, 0..1, is given frame by frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.sandbox.film_plots import Step, Task
from zoo.data.sandbox.household import Layer, Pen, stroke

Values = np.ndarray | float  # one for each frame, or one for all

THINGS: dict[str, tuple[int, int, int]] = {
    "bread": (226, 178, 105), "butter": (250, 228, 80), "cheese": (252, 186, 30), "herbs": (35, 140, 45),
    "dough": (242, 222, 182), "sauce": (205, 35, 20), "sponge": (205, 145, 75), "cream": (252, 248, 240),
    "berries": (185, 15, 70), "syrup": (135, 60, 15), "flour": (236, 214, 165), "milk": (242, 246, 255),
    "juice": (255, 135, 15), "soil": (82, 50, 30), "seeds": (232, 212, 120), "water": (70, 135, 235),
    "glue": (215, 232, 190), "tile": (30, 130, 170), "grout": (172, 172, 168), "varnish": (165, 90, 25),
}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """What all is made on or in: half its width and its height, half the width of what it takes, and its colour."""

    wide: float
    high: float
    room: float
    floor: float
    colour: tuple[int, int, int]
    hollow: bool


BASES = {
    "board": Base(21, 3.0, 15.5, 3.0, (150, 100, 55), False),
    "plate": Base(20, 2.5, 14.5, 2.5, (235, 238, 245), False),
    "tray": Base(21, 2.5, 16.5, 2.5, (75, 80, 90), False),
    "glass": Base(9.5, 27, 8.3, 1.5, (205, 225, 235), True),
    "bowl": Base(17, 17, 15.6, 2.0, (85, 110, 175), True),
    "pot": Base(13, 20, 11.6, 2.5, (200, 110, 70), True),
}
_LAID = {"dough": (10.0, 0.55), "sponge": (7.0, 1.0)}  # height, and width as a part of the room
_POURED = {"glass": 8.5, "bowl": 5.0, "pot": 7.0}
_GRAINS = 15


class Work:
    """A piece of work over the frames of a shot.

    Attributes:
        top: ``[T]``, the height of the uppermost surface.
    """

    def __init__(
        self, rng: np.random.Generator, pen: Pen, task: Task, done: np.ndarray, tints: dict[str, np.ndarray]
    ) -> None:
        """
        Args:
            rng: where grains fall; the same in all shots of a film.
            pen: what all is painted with; its place is the middle of the foot.
            task: whose steps.
            done: ``[S, T]``, how far each step is.
            tints: the film's colours of all things.
        """
        self.rng, self.pen, self.task, self.done, self.tints = rng, pen, task, done, tints
        self.base = BASES[task.base]
        flat = 1 - sum((0.42 * done[i] for i, step in enumerate(task.steps) if step.verb == "press"), np.zeros(1))
        self.squash = np.broadcast_to(flat, done.shape[1:]).astype(float)
        self.top = np.full(done.shape[1], self.base.floor)
        self._colours: list[tuple[np.ndarray, float]] = []  # of what is in it, and how much

    def paint(self) -> None:
        """The whole piece, by way of the pen."""
        base, tint = self.base, np.array(self.base.colour, float)
        if base.hollow:
            self.slab(0, base.high / 2, base.wide, base.high / 2, tint, 0.45 * self.pen.shown)
        for number, step in enumerate(self.task.steps):
            getattr(self, f"_{step.verb}")(step, self.done[number])
        if base.hollow:
            for side in (-1, 1):
                self.pen.box(side * (base.wide - 0.6), base.high / 2, 0.9, base.high / 2, tint)
            self.pen.box(0, base.floor / 2, base.wide, base.floor / 2, tint * (0.9 if base.wide > 10 else 1))
        else:
            self.pen.box(0, base.floor / 2, base.wide, base.floor / 2, tint)

    def slab(
        self, u: Values, v: Values, wide: Values, high: Values, colour: np.ndarray | tuple, shown: Values | None = None
    ) -> None:
        """A box of which everything may change."""
        pen, count = self.pen, len(self.top)
        axes = np.zeros((count, 2, 2))
        axes[:, 0, 0] = pen.scale * np.maximum(wide, 0.05)
        axes[:, 1, 1] = pen.scale * np.maximum(high, 0.05)
        shown = pen.shown if shown is None else np.broadcast_to(shown, (count,))
        pen.layers.append(Layer("box", axes, pen.at(np.broadcast_to(u, (count,)), v), np.asarray(colour, float), shown))

    def _pile(
        self, thing: str, high: float, grown: np.ndarray, wide: Values, u: Values = 0.0, lift: Values = 0.0
    ) -> None:
        """One more layer on all that there is."""
        height = high * grown * self.squash
        self.slab(u, self.top + height / 2 + lift, wide, height / 2 + 0.3, self.tints[thing], (grown > 0) * 1.0)
        self.top = self.top + height
        self._colours.append((self.tints[thing], high))

    # What each verb makes of it

    def _lay(self, step: Step, done: np.ndarray) -> None:
        high, part = _LAID.get(step.thing, (4.5, 1.0))
        wide = part * self.base.room * (1 + (1 / part - 1) * (1 - self.squash) / 0.42)  # what is pressed goes broad
        fly = np.clip(1 - done / 0.55, 0, 1)
        self._pile(step.thing, high, (done > 0) * 1.0, wide, 30 * fly * self.pen.facing, 20 * fly)

    def _spread(self, step: Step, done: np.ndarray) -> None:
        wide = self.base.room
        self._pile(step.thing, 3.0, np.minimum(done * 4, 1), wide * done, -wide * (1 - done))

    def _pour(self, step: Step, done: np.ndarray) -> None:
        high = _POURED.get(self.task.base, 2.2)
        before = self.top
        self._pile(step.thing, high, done, self.base.room * (1 if self.base.hollow else np.minimum(0.3 + done, 1)))
        if not self.base.hollow:  # it runs down at the sides
            for u, long in ((-0.9, 5.0), (-0.35, 3.0), (0.2, 4.5), (0.75, 3.5)):
                run = np.minimum(long * np.clip(2 * done - 0.6, 0, 1), before - self.base.floor)
                self.slab(u * self.base.room, before - run / 2, 1.2, run / 2, self.tints[step.thing], (run > 0) * 1.0)

    def _sprinkle(self, step: Step, done: np.ndarray) -> None:
        powder = step.thing == "flour"
        size = 1.9 if step.thing == "berries" else 1.2
        places = self.rng.uniform((-0.9, 0), (0.9, 1), (_GRAINS, 2)) * (self.base.room, 1)
        fall = self.base.floor + 30
        before, colour = self.top, self.tints[step.thing]
        self._pile(step.thing, 5.0 if powder else 0.8, done, self.base.room * 0.95)
        for n, (u, jitter) in enumerate(places):
            age = (done - n / _GRAINS * 0.85) * 10  # a grain takes a tenth of the step to come down
            way = np.clip(1 - age, 0, 1)
            rest = np.where(way > 0, before, before + (0.5 + jitter) * self.squash)
            at = self.pen.at(u * (1 - 0.5 * way), rest + (fall - rest) * way)
            count = len(self.top)
            axes = np.broadcast_to(np.eye(2) * self.pen.scale * size, (count, 2, 2)).copy()
            self.pen.layers.append(Layer("disc", axes, at, colour, ((age > 0) & ~(powder & (way == 0))) * 1.0))

    def _stir(self, step: Step, done: np.ndarray) -> None:
        weights = np.array([weight for _, weight in self._colours])
        mixed = (np.stack([colour for colour, _ in self._colours]) * weights[:, None]).sum(0) / weights.sum()
        middle = (self.top + self.base.floor) / 2
        self.slab(0, middle, self.base.room, self.top - middle + 1.2, mixed, done)
        self._colours = [(mixed, float(weights.sum()))]

    def _press(self, step: Step, done: np.ndarray) -> None:
        """Every layer knows of it already."""

    def _cut(self, step: Step, done: np.ndarray) -> None:
        for n, u in enumerate((-0.5, 0.0, 0.5)):
            deep = np.clip(3 * done - n, 0, 1) * (self.top - self.base.floor)
            self.slab(u * self.base.room, self.top - deep / 2, 0.9, deep / 2, (45, 25, 20), (deep > 0) * 1.0)

    def _heat(self, step: Step, done: np.ndarray) -> None:
        middle = (self.top + self.base.floor) / 2
        self.slab(0, middle, self.base.room, self.top - middle + 0.6, (120, 62, 20), 0.62 * done)
        self._colours.append((np.array((120.0, 62, 20)), 8.0))

    def _brush(self, step: Step, done: np.ndarray) -> None:
        middle, wide = (self.top + self.base.floor) / 2, self.base.room
        colour = self.tints[step.thing]
        self.slab(-wide * (1 - done), middle, wide * done, self.top - middle + 0.8, colour, 0.75 * (done > 0))


class Hands:
    """The hands and what they hold, in one shot of a step."""

    def __init__(
        self, rng: np.random.Generator, work: Work, step: Step, done: np.ndarray, skin: np.ndarray, sleeve: np.ndarray
    ) -> None:
        self.rng, self.work, self.step, self.done = rng, work, step, done
        self.skin, self.sleeve, self.pen = skin, sleeve, work.pen
        self.time = np.arange(len(done)) * rng.uniform(0.85, 1.2) + rng.uniform(0, 6)

    def paint(self) -> None:
        """Over the work, by way of its pen."""
        getattr(self, f"_{self.step.verb}")()

    def _hand(self, u: np.ndarray, v: np.ndarray, side: float, *, low: bool = False) -> None:
        """A fist at a place, its arm from the picture's edge; ``side`` 1 is the pen's right."""
        pen, one = self.pen, self.pen.shown
        at = pen.at(u, v)
        elbow = at + np.array((side * pen.facing * 26.0, -4.0 if low else -16.0))
        cuff = at + 0.42 * (elbow - at)
        pen.layers += [
            stroke(at, cuff, 3.4, self.skin * 0.92, one),
            stroke(cuff, elbow, 4.6, self.sleeve, one),
        ]
        pen.disc(u, v, 4.6, 4.2, self.skin)
        for n in range(3):
            pen.disc(u - side * (2.6 - 0.3 * n), v + 2.2 - 2.3 * n, 2.2, 1.25, self.skin * 1.06)

    def _tool(self, u: np.ndarray, v: np.ndarray, turn: np.ndarray | float) -> Pen:
        """A pen for what a hand holds; its layers go before the hand's."""
        pen = Pen(self.pen.at(u, v), self.pen.shown, self.pen.scale, self.pen.facing, turn)
        pen.layers = self.pen.layers
        return pen

    def _lay(self) -> None:
        fly = np.clip(1 - self.done / 0.55, 0, 1) + np.clip((self.done - 0.65) / 0.35, 0, 1)
        high = _LAID.get(self.step.thing, (4.5, 1.0))[0]
        u, v = 10 + 30 * fly, self.work.top - high / 2 + 3.5 + 20 * fly
        self._hand(u, v, 1)
        self._hand(u - 20, v, -1)

    def _spread(self) -> None:
        self._blade((60, 60, 65), (205, 210, 218), 5.5, 1.0)

    def _brush(self) -> None:
        self._blade((165, 110, 60), (60, 45, 40), 3.2, 2.6)

    def _blade(self, handle: tuple, head: tuple, long: float, high: float) -> None:
        wide = self.work.base.room
        u = np.clip(-wide + 2 * wide * self.done + 5 * np.sin(self.time * 1.1), -wide, wide)
        v = self.work.top + high + 0.4
        tool = self._tool(u, v, 0.0)
        tool.box(0, 0, long, high, np.array(head, float))
        tool.box(long + 3, 1.5, 4.0, 1.1, np.array(handle, float))
        self._hand(u + 10, v + 2.5, 1)

    def _sprinkle(self) -> None:
        shake = np.sin(self.time * 2.4)
        u, v = 1.5 * shake + 3 * np.sin(self.time * 0.4), self.work.base.floor + 32 + 1.6 * np.cos(self.time * 2.4)
        self._hand(u, v, 1)
        pen = self.pen
        for n in (-1, 0, 1):
            pen.disc(u - 1.5 + 2 * n, v - 4.2, 0.9, 0.9, self.work.tints[self.step.thing])

    def _pour(self) -> None:
        work, colour = self.work, self.work.tints[self.step.thing]
        tilt = np.clip(np.minimum(self.done / 0.12, (1 - self.done) / 0.12), 0, 1)
        reach = 0.0 if work.base.hollow else 7 * np.sin(self.time * 0.35)
        u, v = 9.0 + reach + 5 * (1 - tilt), np.full(len(tilt), work.base.high + 17 if work.base.hollow else 30.0)
        lip_u, lip_v = u - 8.4 * tilt, v - 1.5
        flow = (tilt > 0.9) * 1.0
        middle = (lip_v + work.top) / 2
        work.slab(lip_u + 0.6 * np.sin(self.time * 3), middle, 1.3, (lip_v - work.top) / 2, colour, flow)
        tool = self._tool(u, v, -1.15 * tilt * self.pen.facing)  # a pen's turn is not mirrored
        tool.box(0, 0, 5.5, 7.0, np.array((235, 235, 240.0)))
        tool.box(0, -1.0, 4.0, 4.5, colour)
        tool.box(-5.0, 6.0, 1.6, 1.2, np.array((215, 215, 225.0)))
        self._hand(u + 6.5, v + 1.5, 1)

    def _stir(self) -> None:
        wide = self.work.base.room
        u = 0.62 * wide * np.sin(self.time * 0.75)
        v = self.work.top - 2 + 1.2 * np.cos(self.time * 0.75)
        grip_u, grip_v = u * 0.7 + 2, np.full(len(u), self.work.base.high + 9.0)
        spoon = self.pen.at(u, v), self.pen.at(grip_u, grip_v + 5)
        self.pen.layers.append(stroke(*spoon, 1.2, np.array((150, 100, 55.0)), self.pen.shown))
        self._hand(grip_u, grip_v, 1)

    def _press(self) -> None:
        push = 1.6 * np.sin(self.time * 0.9)
        v = self.work.top + 3 + push
        self._hand(5 + 2 * np.sin(self.time * 0.45), v, 1)
        self._hand(-6 + 2 * np.sin(self.time * 0.45), v, -1)

    def _cut(self) -> None:
        turns = np.minimum((3 * self.done).astype(int), 2)
        u = (turns - 1) * 0.5 * self.work.base.room
        deep = 3 * self.done - turns
        v = self.work.top + 5 - (self.work.top - self.work.base.floor) * deep + 1.5 * np.abs(np.sin(self.time * 1.5))
        tool = self._tool(u, v, 0.0)
        tool.box(0, 0, 1.1, 7.0, np.array((215, 220, 228.0)))
        tool.box(0, 9.5, 1.6, 3.5, np.array((50, 45, 45.0)))
        self._hand(u + 1.5, v + 11.5, 1)
        self._hand(np.full(len(u), -self.work.base.room - 1.0), self.work.base.floor + 3.5 + 0 * u, -1, low=True)

    def _heat(self) -> None:
        work, one = self.work, self.pen.shown
        for n in range(5):
            u = (n - 2) * 0.42 * work.base.wide
            lick = 1 + 0.35 * np.sin(self.time * 2.2 + 2 * n)
            work.slab(u, -2.6 + lick, 2.2, 2.4 * lick, (255, 120, 20))
            work.slab(u, -3.2 + lick, 1.1, 1.6 * lick, (255, 225, 90))
        for n in range(3):  # steam
            rise = (self.time * 0.09 + n / 3) % 1
            at = self.pen.at((n - 1) * 8 + 2 * np.sin(self.time * 0.4 + n), work.top + 4 + 22 * rise)
            axes = np.broadcast_to(np.eye(2) * 3.4, (len(rise), 2, 2)) * (0.6 + 0.6 * rise)[:, None, None]
            self.pen.layers.append(Layer("disc", axes, at, np.array((225.0, 225, 230)), 0.4 * (1 - rise) * one))
        u, v = np.full(len(self.time), work.base.wide + 4.0), work.base.floor + 3 + 0.8 * np.sin(self.time * 0.8)
        self._hand(u, v, 1, low=True)
