"""A tiny set of collisions in the official layout, drawn instead of simulated: two discs on a line.

What is seen follows a closed form of mass, speed and friction, so that it can be learned from; what is written is what
Python 2 wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.collisions.plan import PROPERTIES, RELEASED, Collision, Plan

PAIRS = (("sphere", "cylinder"), ("cone", "cube"))  # one to train on, one of the two that are not
_COLOURS = {"sphere": (217, 89, 56), "cylinder": (64, 115, 89), "cone": (204, 179, 102), "cube": (92, 82, 97)}
_WALL = (173, 173, 166)
_RADIUS = 0.08  # of a disc, in widths of the picture, as all lengths here
_MOVER = 300.0  # its mass


def write_collisions(
    root: Path, size: int = 16, variants: int = 1, pairs: tuple[tuple[str, str], ...] = PAIRS, seed: int = 0
) -> Path:
    """All 125 collisions of every pair and variant, and their lists: of each property and pair that is trained 24
    mini-batches for training and one for the parameter test, of each other pair 25 for the shape test.

    Args:
        root: the folder.
        size: side of the frames, pixels.
        variants: of the bounce.
        pairs: of `zoo.data.collisions.plan.PAIRS` of these four shapes.
        seed: of the variants.
    """
    plan = Plan(variants, pairs, seed)
    for collision in plan.collisions:
        folder = root / collision.name
        folder.mkdir(parents=True)
        for number in range(5):
            picture = Image.fromarray(draw(collision, plan, number, size))
            picture.save(folder / f"{number:02d}.png", compress_level=1)
    lists = {RELEASED[name]: splits for name, splits in plan.mini_batches().items()}
    write_lists(root, [[c.name, *(getattr(c, name) for name in PROPERTIES)] for c in plan.collisions], lists)
    return root


def write_lists(root: Path, data: Any, batch: Any) -> None:
    """info/data.p and info/batch.p."""
    (root / "info").mkdir(parents=True, exist_ok=True)
    (root / "info" / "data.p").write_bytes(python2(data))
    (root / "info" / "batch.p").write_bytes(python2(batch))


def places(collision: Collision, plan: Plan, number: int) -> tuple[float, float]:
    """Where the two centres are in a frame."""
    time = 0.5 * (number - 2)  # from the contact, which the third frame shows
    speed = 0.04 + 0.04 * collision.speed
    slowing = 0.02 * collision.friction
    mover, hit = 0.5 - 2 * _RADIUS, 0.5
    if time <= 0:  # it arrives with its speed, and was faster before
        return mover + speed * time - slowing * time**2 / 2, hit
    mass = 100.0 * collision.mass
    bounce = 1 - plan.variants[collision.variant].damping / 2
    after = [speed * (_MOVER - bounce * mass) / (_MOVER + mass), speed * (1 + bounce) * _MOVER / (_MOVER + mass)]
    mover, hit = (x + _glide(v, slowing, time) for x, v in zip((mover, hit), after, strict=True))
    return mover, hit


def draw(collision: Collision, plan: Plan, number: int, size: int) -> np.ndarray:
    """A frame, uint8 ``[size, size, 3]``."""
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2)
    picture = np.broadcast_to(np.array(_WALL, float), (size, size, 3))
    for shape, centre in zip(collision.pair, places(collision, plan, number), strict=True):
        inside = np.clip((_RADIUS - np.hypot(x - centre, y - 0.6)) * size + 0.5, 0, 1)[..., None]
        picture = picture * (1 - inside) + inside * _COLOURS[shape]
    return picture.round().astype(np.uint8)


def python2(value: Any) -> bytes:
    """A pickle in Python 2's text protocol, which Python 3 cannot write: its texts are Python 2's."""
    return _put(value) + b"."


def _put(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"(d" + b"".join(_put(key) + _put(one) + b"s" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return b"(l" + b"".join(_put(one) + b"a" for one in value)
    if isinstance(value, str):
        return b"S" + repr(value).encode("latin-1") + b"\n"
    if isinstance(value, float):
        return b"F" + repr(value).encode() + b"\n"
    return b"I" + str(value).encode() + b"\n"


def _glide(speed: float, slowing: float, time: float) -> float:
    """How far something gets in a time while it is slowed down to a stop."""
    time = min(time, abs(speed) / slowing)
    return speed * time - np.sign(speed) * slowing * time**2 / 2
