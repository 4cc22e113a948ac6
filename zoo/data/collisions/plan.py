"""Which collisions there are: the settings of the thesis' Table 9.1, the pairs of shapes, the draws, the mini-batches.

A collision is a pair of shapes, a variant (how both are turned at first, and how much they bounce) and a scale from 1
to 5 of each of three properties. A mini-batch is five collisions that differ in the scale of one property alone.

Table 9.1 counts in the units of a game engine; here they are SI. Mass is as printed (the mover's is not, and fixed).
Speed 10000..50000 becomes 0.8..4 metres a second, in the same ratios: faster, and things leave the picture. Friction
0.01..0.05 becomes 0.015..0.075: half more, since of the three it is seen least, and more than that would stop the
slowest objects before they meet anything.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cached_property

from zoo.errors import DataError
from zoo.spec import PROPERTIES

SCALES = (1, 2, 3, 4, 5)
TABLE = {  # Table 9.1 as printed
    "mass": (100, 200, 300, 400, 500),  # of the object that is hit
    "speed": (10000, 20000, 30000, 40000, 50000),  # of the object that moves
    "friction": (0.01, 0.02, 0.03, 0.04, 0.05),  # of the floor
}
UNITS = {"mass": 1.0, "speed": 0.8e-4, "friction": 1.5}  # Table 9.1 times this: kg, m/s, sliding coefficient

SHAPES = ("sphere", "cube", "cylinder", "cone", "wedge")
UNSEEN_PAIRS = (("cone", "cube"), ("cube", "sphere"))  # named in the thesis; the others are free choice
PAIRS = (  # what moves, what stands
    ("sphere", "sphere"),
    ("sphere", "cylinder"),
    ("sphere", "cone"),
    ("sphere", "wedge"),
    ("cylinder", "cube"),
    ("cylinder", "wedge"),
    ("cone", "cylinder"),
    ("wedge", "cone"),
    ("wedge", "cube"),
    *UNSEEN_PAIRS,
)
UNSEEN_SCALES = (3, 3, 3)  # of mass, speed, friction: left out of training
VARIANTS = 15
DAMPING = (0.3, 1.0)  # the contact's damping ratio, for a coefficient of restitution of about 0.5 to 0.14

SUBSETS = {"full": (256, VARIANTS), "small": (64, 3)}  # pixels of a side, variants

RELEASED = {"mass": "mass", "speed": "force", "friction": "friction"}  # the names in the released files
SPLITS = ("train", "shape_test", "parameter_test")


@dataclass(frozen=True)
class Variant:
    """One of the draws that all pairs and all scales share.

    Attributes:
        mover_yaw, static_yaw: radians by which the objects are turned about the vertical.
        damping: the damping ratio of the contact between them; the smaller, the more they bounce.
    """

    mover_yaw: float
    static_yaw: float
    damping: float


@dataclass(frozen=True)
class Collision:
    """One collision.

    Attributes:
        pair: the shapes of what moves and of what stands.
        variant: number of the draw.
        mass, speed, friction: scales, 1 to 5.
    """

    pair: tuple[str, str]
    variant: int
    mass: int
    speed: int
    friction: int

    @property
    def name(self) -> str:
        """Of the folder with its frames."""
        scales = f"mass{self.mass}_speed{self.speed}_friction{self.friction}"
        return f"{self.pair[0]}_{self.pair[1]}_{self.variant:02d}_{scales}"

    @property
    def scales(self) -> tuple[int, int, int]:
        """Of mass, speed and friction."""
        return self.mass, self.speed, self.friction

    @property
    def is_unseen(self) -> bool:
        """Whether its pair or its three scales are left out of training."""
        return self.pair in UNSEEN_PAIRS or self.scales == UNSEEN_SCALES

    def value(self, name: str) -> float:
        """The mass in kg, the speed in m/s or the friction."""
        return physical(name, getattr(self, name))


def physical(name: str, scale: int) -> float:
    """What a scale, 1 to 5, of a property stands for: kg, m/s, or the sliding coefficient."""
    return round(TABLE[name][scale - 1] * UNITS[name], 10)


class Plan:
    """All collisions of a data set, in order: pair by pair, then by variant, mass, speed, friction.

    Args:
        variants: how many draws.
        pairs: of `PAIRS`.
        seed: of the draws. A smaller number of them are the first ones of a larger number.

    Raises:
        DataError: no pair, a pair that there is not or that is given twice, or no variant.
    """

    def __init__(self, variants: int = VARIANTS, pairs: tuple[tuple[str, str], ...] = PAIRS, seed: int = 0) -> None:
        pairs = tuple((mover, static) for mover, static in pairs)
        if not pairs or not set(pairs) <= set(PAIRS) or len(set(pairs)) < len(pairs):
            known = ", ".join(f"{mover} and {static}" for mover, static in PAIRS)
            raise DataError(f"pairs {pairs} of collisions: each must be one of {known}, and once.")
        if variants < 1:
            raise DataError(f"{variants} variants of collisions: there must be one at least.")
        self.pairs, self.seed = pairs, seed
        self.variants = tuple(_draw(seed, number) for number in range(variants))

    def __len__(self) -> int:
        return len(self.pairs) * len(self.variants) * len(SCALES) ** 3

    @cached_property
    def collisions(self) -> list[Collision]:
        """All of them; a collision's place in the list is its number in `mini_batches`."""
        return [
            Collision(pair, variant, mass, speed, friction)
            for pair in self.pairs
            for variant in range(len(self.variants))
            for mass in SCALES
            for speed in SCALES
            for friction in SCALES
        ]

    def groups(self) -> list[list[Collision]]:
        """The mini-batches of mass: one for each pair, variant, speed and friction."""
        return [[self.collisions[number] for number in batch] for batch in self._batches("mass")]

    def mini_batches(self) -> dict[str, list[list[list[int]]]]:
        """The mini-batches of each property, for `SPLITS`: five numbers each, in the order of the scales.

        Those of the two unseen pairs are the shape test. Of the others, those that have the three unseen scales in
        them are the parameter test, and the rest is for training.
        """
        batches: dict[str, list[list[list[int]]]] = {}
        for name in PROPERTIES:
            batches[name] = train, shape_test, parameter_test = [], [], []
            for batch in self._batches(name):
                if self.collisions[batch[0]].pair in UNSEEN_PAIRS:
                    shape_test.append(batch)
                elif any(self.collisions[number].scales == UNSEEN_SCALES for number in batch):
                    parameter_test.append(batch)
                else:
                    train.append(batch)
        return {name: list(splits) for name, splits in batches.items()}

    def _batches(self, name: str) -> list[list[int]]:
        """Numbers of collisions that differ in the scale of one property, by the place of their first."""
        step = len(SCALES) ** (len(PROPERTIES) - 1 - PROPERTIES.index(name))
        firsts = (number for number, first in enumerate(self.collisions) if getattr(first, name) == SCALES[0])
        return [[first + step * k for k in range(len(SCALES))] for first in firsts]


def _draw(seed: int, number: int) -> Variant:
    """The draws of a variant, which depend on nothing else; `random.Random` is the same in all versions of Python."""
    source = random.Random(f"collisions {seed} {number}")
    low, high = (math.log(bound) for bound in DAMPING)
    draws = (
        2 * math.pi * source.random(),
        2 * math.pi * source.random(),
        math.exp(low + (high - low) * source.random()),
    )
    return Variant(*(round(value, 6) for value in draws))
