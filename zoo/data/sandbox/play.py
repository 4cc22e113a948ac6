"""A figure and its things, moved step by step: the alphabet of which the sandbox's small films are spelt."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np

from zoo.data.sandbox.cast import THINGS
from zoo.data.sandbox.stage import WIDTH, Look, Track

REST, HOLD, UP = (2.0, 6.0), (6.0, 9.5), (-2.0, 16.5)  # where the hand is: hanging, before the chest, above
_GRAVITY = 1.5  # pixels per frame and frame
LEFT, RIGHT = 5.0, WIDTH - 5.0  # where things may lie


class Play:
    """A figure and some things, moved step by step; every step writes down where everything is."""

    def __init__(self, rng: np.random.Generator, thing: str, count: int, look: Look) -> None:
        self.rng, self.look = rng, look
        self.half = THINGS[thing].half * look.scale
        self.speed = float(rng.uniform(2.2, 3.2))  # pixels per frame
        self.x, self.lift, self.facing = float(rng.uniform(LEFT, RIGHT)), 0.0, float(rng.choice((-1, 1)))
        self.tilt, self.crouch, self.hand, self.phase = 0.0, 0.0, np.array(REST), 0.0
        self.things = np.zeros((count, 3))
        self.things[:, 0], self.things[:, 1] = rng.uniform(LEFT, RIGHT, count), self.half
        self.held: int | None = None
        self.moment = -1  # the frame of the mishap
        self._flights: dict[int, deque[tuple[float, float, float]]] = {}
        self._rows: list[tuple] = []

    def __len__(self) -> int:
        return len(self._rows)

    def track(self, start: int, stop: int) -> Track:
        """What was written down of the frames ``start .. stop - 1``."""
        x, lift, facing, tilt, crouch, hand, phase, things = (
            np.array(column) for column in zip(*self._rows[start:stop], strict=True)
        )
        return Track(x, lift, facing, tilt, crouch, hand, phase, things)

    def step(self, count: int = 1) -> None:
        """Let so many frames pass; what flies goes on flying, what is held is where the hand is."""
        for _ in range(count):
            for i in list(self._flights):
                self.things[i] = self._flights[i].popleft()
                if not self._flights[i]:
                    del self._flights[i]
            if self.held is not None:
                self.things[self.held] = *self.reached(), 0.0
            state = (self.x, self.lift, self.facing, self.tilt, self.crouch, self.hand.copy(), self.phase)
            self._rows.append((*state, self.things.copy()))

    def reached(self) -> tuple[float, float]:
        """Where the hand is, x and height."""
        return self.x + self.facing * self.hand[0] * self.look.scale, self.lift + self.hand[1] * self.look.scale

    def walk(self, to: float, pace: float = 1.0) -> None:
        for _ in self.walking(to, pace):
            pass

    def walking(self, to: float, pace: float = 1.0) -> Iterator[None]:
        """Walk, and hand over after every step."""
        to = float(np.clip(to, 2, WIDTH - 2))
        way = to - self.x
        if abs(way) < 0.7:
            return
        self.facing = math.copysign(1, way)
        count = max(1, round(abs(way) / (self.speed * pace)))
        for _ in range(count):
            self.x += way / count
            self.phase += 1.1
            self.step()
            yield
        self.phase = 0.0

    def pose(self, hand: tuple[float, float], crouch: float, count: int) -> None:
        """Move the hand and bend the back within so many frames."""
        start, low, end = self.hand.copy(), self.crouch, np.array(hand)
        for k in range(1, count + 1):
            self.hand, self.crouch = start + (end - start) * k / count, low + (crouch - low) * k / count
            self.step()

    def face(self, x: float) -> None:
        self.facing = 1.0 if x > self.x else -1.0

    def approach(self, x: float) -> None:
        """Walk to where the hand reaches ``x``, from this side of it."""
        side = 1.0 if x > self.x else -1.0
        arm = 6 * self.look.scale
        if not 2 <= x - side * arm <= WIDTH - 2:
            side = -side
        self.walk(x - side * arm)
        self.facing = side

    def take(self, i: int) -> None:
        """Go to a thing, reach for it and hold it before the chest."""
        self.approach(self.things[i, 0])
        height = self.things[i, 1]
        self.pose((6, height / self.look.scale), float(height < 8), 3)
        self.held = i
        self.pose(HOLD, 0, 3)

    def put(self, height: float) -> None:
        """Lay down what is held, its middle so high, without haste."""
        self.pose((6, height / self.look.scale), float(height < 8), int(self.rng.integers(4, 6)))
        i, self.held = self.held, None
        self.things[i, 1] = height
        self.pose(REST, 0, 3)

    def lie_down(self, count: int) -> None:
        """Fall or lie down within so many frames, stay for a little, get up."""
        for k in range(1, count + 1):
            self.tilt, self.lift = math.pi / 2 * k / count, max(self.lift - 3, 2.5 * self.look.scale * k / count)
            self.step()
        self.step(int(self.rng.integers(2, 6)))
        for k in range(1, 5):
            self.tilt, self.lift = math.pi / 2 * (1 - k / 4), 2.5 * self.look.scale * (1 - k / 4)
            self.step()

    def hop(self, way: float, height: float, count: int) -> None:
        """A leap of so many frames."""
        start, floor = self.x, self.lift
        for k in range(1, count + 1):
            self.x, self.lift = start + way * k / count, floor + 4 * height * k / count * (1 - k / count)
            self.step()

    def idle(self) -> None:
        """Something that belongs to no activity, or nothing."""
        match int(self.rng.integers(8)):
            case 0:
                self.step(int(self.rng.integers(3, 8)))
            case 1:
                self.step(2)
                self.facing = -self.facing
                self.step(int(self.rng.integers(2, 5)))
            case 2:
                self.pose(UP, 0, 2)
                self.hop(0, 5, 4)
                self.pose(REST, 0, 2)
            case 3:
                self.lie_down(6)
            case 4:
                self.walk(self.rng.uniform(LEFT, RIGHT))

    def toss(self) -> None:
        """Throw what is held a little into the air and catch it."""
        i, (x, height) = self.held, self.reached()
        count = int(self.rng.integers(6, 8))
        rise = self.rng.uniform(6, 10) * 4 / count**2
        self.held = None
        self._flights[i] = deque(
            (x, height + rise * k * (count - k), k / count * 2 * math.pi) for k in range(1, count + 1)
        )
        self.step(count)
        self.held = i

    def fly(self, i: int, way: list[tuple[float, float, float]]) -> None:
        """Let go of a thing; it takes this way, frame by frame."""
        self.held = None if self.held == i else self.held
        self._flights[i] = deque(way)

    def settle(self, i: int) -> None:
        """Wait until a thing has come to rest."""
        while i in self._flights:
            self.step()

    def fall(self, x: float, height: float, across: float, up: float, bounce: float = 0.62) -> list[tuple]:
        """The way of a thing that falls, hits the floor, jumps, rolls and lies, from a place and a velocity."""
        way, spin = [], 0.0
        while len(way) < 24:
            up -= _GRAVITY
            x, height = x + across, height + up
            if not LEFT - 2 <= x <= RIGHT + 2:
                across = -across * 0.6
                x = float(np.clip(x, LEFT - 2, RIGHT + 2))
            if height < self.half:
                height, up, across = self.half, -up * bounce, across * 0.75
                if up < 1.6:
                    break
            spin += 0.9 * math.copysign(1, across)
            way.append((x, height, spin))
        for _ in range(3):
            across *= 0.5
            x = float(np.clip(x + across, LEFT, RIGHT))
            way.append((x, self.half, 0.0))
        return way

    def lose(self) -> None:
        """What is held slips out of the hand."""
        i, (x, height) = self.held, self.reached()
        ahead = self.facing * self.rng.uniform(0.6, 2.2)
        self.fly(i, self.fall(x, max(height, self.half + 6), ahead, 1.0))
        self.moment = len(self) + 3
        self.pose(REST, 0, 2)
        self.step(int(self.rng.integers(1, 7)))

    def stumble(self, i: int | None) -> None:
        """Fall flat; a thing that is held or in the way is flung off."""
        if i is not None:
            x, height = self.things[i, :2]
            self.fly(i, self.fall(x, max(height, self.half + 1), self.facing * self.rng.uniform(1.5, 3), 2.5))
        self.moment = len(self) + 2
        self.hand = np.array(HOLD)
        self.x += 2 * self.facing
        self.lie_down(3)
        self.hand = np.array(REST)
        self.step(int(self.rng.integers(0, 4)))
