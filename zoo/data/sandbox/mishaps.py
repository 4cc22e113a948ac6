"""What happens in the sandbox's small films: somebody does something, and once it goes wrong.

A figure stacks, throws, carries or jumps, one attempt after another, all of them drawn from the same random process;
one goes wrong. Then it goes on as before. The film is a window of this process about the moment of the mishap, so what
comes long before and long after it look alike: what lies about may have been dropped or put down, a walk to it may be
the first or the second one. Only who has seen the mishap knows on which side of it he is.

Harmless things look like mishaps in part: what is put down gets to the floor too (but is laid there, not dropped), what
is thrown into the basket falls out of it (but is not knocked away), a block taken off makes a tower lower, what is
tossed up is caught again, and some lie down to rest.
"""

from __future__ import annotations

import numpy as np

from zoo.data.sandbox.play import LEFT, REST, RIGHT, UP, Play
from zoo.data.sandbox.stage import Look, Track

MISHAPS = {  # activity -> how it can go wrong
    "stack": ("topple", "drop"),
    "throw": ("miss", "drop"),
    "carry": ("drop", "trip"),
    "jump": ("trip",),
}
STACKABLE = ("box", "pillow", "book")
AGAIN = 0.15  # of the attempts after the mishap that go wrong in the same way
_LEAD = 40  # frames that are acted before the film begins, so that it may begin anywhere


def act(
    rng: np.random.Generator, activity: str, mishap: str | None, thing: str, frames: int, moment: int, look: Look
) -> Track:
    """A film of so many frames in which an attempt goes wrong in frame ``moment``; none does if ``mishap`` is None."""
    play = Play(rng, thing, 3 if activity == "stack" else 1, look)
    attempts = _ACTIVITIES[activity](play)
    while len(play) < moment + _LEAD:
        attempts.attempt(None)
    if mishap:
        attempts.attempt(mishap)
    start = play.moment - moment if mishap else _LEAD
    while len(play) < start + frames:
        attempts.attempt(mishap if rng.random() < AGAIN else None)
    return play.track(start, start + frames)


def hoop(rng: np.random.Generator) -> tuple[float, float]:
    """Where a basket's ring hangs: x and height above the floor."""
    return float(rng.uniform(44, 50)), float(rng.uniform(19, 23))


class _Carry:
    """Fetch a thing, carry it elsewhere, lay it down there."""

    def __init__(self, play: Play) -> None:
        self.play = play

    def attempt(self, mishap: str | None) -> None:
        play, rng = self.play, self.play.rng
        play.take(0)
        if rng.random() < 0.3:
            play.toss()
        to = _elsewhere(rng, play.x, 18)
        if mishap:
            steps = play.walking(to)
            for _ in range(int(rng.integers(2, 6))):
                next(steps, None)
            if mishap == "drop":
                play.lose()
            else:
                play.held = None
                play.stumble(0)
            play.settle(0)
        else:
            play.walk(to)
            play.put(play.half)
        play.idle()


class _Throw:
    """Fetch a thing, go to a place before the basket, throw; what passes the ring falls out of the net and rolls."""

    def __init__(self, play: Play) -> None:
        self.play = play

    def attempt(self, mishap: str | None) -> None:
        play, rng = self.play, self.play.rng
        ring, height = play.look.hoop
        play.take(0)
        stand = ring - rng.uniform(20, 32)
        if rng.random() < 0.3:
            play.toss()
        play.walk(stand)
        play.face(ring)
        play.pose(UP, 0, 3)
        if mishap == "drop":
            play.lose()
            play.settle(0)
            play.idle()
            return
        play.pose((5, 17), 0, 1)
        x, start = play.reached()
        aim = ring + (rng.choice((-6.5, 6.5)) if mishap else 0)
        count = int(rng.integers(6, 9))
        arc = [
            (x + (aim - x) * k / count, start + (height + 3 - start) * k / count + 1.1 * k * (count - k), 0.8 * k)
            for k in range(1, count + 1)
        ]
        if mishap:
            after = play.fall(aim, height + 3, rng.uniform(1.5, 3.0) * (1 if aim > ring else -1), 2.5)
            play.moment = len(play) + count + 2
        else:
            net = [(ring, height + 3 - 1.9 * k, 0.0) for k in range(1, 6)]
            after = net + play.fall(ring, net[-1][1], rng.uniform(0.5, 3) * rng.choice((-1, 1)), -1.0, bounce=0.25)
        play.fly(0, arc + after)
        play.step(3)
        play.pose(REST, 0, 2)
        play.step(int(rng.integers(2, 8)))
        if rng.random() < 0.5:
            play.settle(0)
        play.idle()
        play.settle(0)


class _Stack:
    """Three things: one lies where the tower is, the others are put on it, or taken off again."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.place = float(play.rng.uniform(22, 42))
        self.tower = [0]
        play.things[0, 0] = self.place
        for i in (1, 2):
            play.things[i, 0] = self._spot()

    def attempt(self, mishap: str | None) -> None:
        play, rng = self.play, self.play.rng
        if mishap == "topple" and len(self.tower) == 1 and rng.random() < 0.3:
            self._add()
        lying = [i for i in range(3) if i not in self.tower]
        if mishap and not lying:
            self._remove()
            self.attempt(mishap)
            return
        if mishap == "drop":
            i = int(rng.choice(lying))
            play.take(i)
            steps = play.walking(self.place - play.facing * 6)
            for _ in range(int(rng.integers(1, 4))):
                next(steps, None)
            play.lose()
            play.settle(i)
        elif mishap == "topple":
            self._add()
            self._topple()
        elif lying and (len(self.tower) == 1 or rng.random() < 0.4):
            self._add()
        else:
            self._remove()
        if rng.random() < 0.6:
            play.idle()

    def _spot(self) -> float:
        while abs((x := self.play.rng.uniform(LEFT, RIGHT)) - self.place) < 11:
            pass
        return float(x)

    def _level(self, k: int) -> float:
        return self.play.half * (2 * k + 1)

    def _add(self) -> None:
        play = self.play
        i = int(play.rng.choice([i for i in range(3) if i not in self.tower]))
        play.take(i)
        play.approach(self.place)
        play.put(self._level(len(self.tower)))
        self.tower.append(i)

    def _remove(self) -> None:
        i = self.tower.pop()
        self.play.take(i)
        self.play.walk(self._spot())
        self.play.put(self.play.half)

    def _topple(self) -> None:
        play, rng = self.play, self.play.rng
        play.moment = len(play) + 2
        side = rng.choice((-1, 1))
        for i in self.tower[1:]:
            x, height = play.things[i, :2]
            play.fly(i, play.fall(x, height, side * rng.uniform(2, 3.5), 2.0))
            side = -side if rng.random() < 0.5 else side
        self.tower = [0]
        play.step(int(rng.integers(3, 8)))
        for i in (1, 2):
            play.settle(i)


class _Jump:
    """Leap over a thing, to and fro."""

    def __init__(self, play: Play) -> None:
        self.play = play
        play.things[0, 0] = play.rng.uniform(20, 44)

    def attempt(self, mishap: str | None) -> None:
        play, rng = self.play, self.play.rng
        if not 18 <= play.things[0, 0] <= 46 or rng.random() < 0.15:
            play.take(0)
            play.walk(rng.uniform(22, 42))
            play.put(play.half)
        hurdle = float(play.things[0, 0])
        side = 1.0 if hurdle > play.x else -1.0
        play.walk(hurdle - side * rng.uniform(14, 18))
        play.facing = side
        play.step(int(rng.integers(0, 4)))
        play.walk(hurdle - side * 7, pace=1.4)
        if mishap:
            play.hop(side * 4, 3, 2)
            play.stumble(0)
            play.settle(0)
        else:
            play.hop(side * 15, 10, 6)
            play.walk(play.x + side * rng.uniform(3, 6))
        play.idle()


_ACTIVITIES = {"stack": _Stack, "throw": _Throw, "carry": _Carry, "jump": _Jump}


def _elsewhere(rng: np.random.Generator, x: float, distance: float) -> float:
    """A place at least so far away."""
    while abs((to := rng.uniform(LEFT + 4, RIGHT - 4)) - x) < distance:
        pass
    return float(to)
