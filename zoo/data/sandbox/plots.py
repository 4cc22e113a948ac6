"""What happens in each film of mishaps, and what it is called: drawn from (seed, split, index), without rendering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.sandbox.cast import KINDS, THINGS
from zoo.data.sandbox.mishaps import MISHAPS, STACKABLE, act, hoop
from zoo.data.sandbox.stage import Look, Track, draw

FPS = 8
FRAMES = (64, 104)  # in a film, fewest and most: 8 to 13 seconds
# Of a film's length, when it goes wrong and how likely. Were it anywhere alike, a clip's place in the film would tell
# much of its label; so it is mostly early or late, and in between a place tells next to nothing.
MOMENTS = (((0.12, 0.3), 0.42), ((0.3, 0.72), 0.16), ((0.72, 0.9), 0.42))

# Ten films take turns; the usual mishap of an activity comes twice, the other one once in ten or twenty.
_TURNS = (
    *((activity, mishaps[0]) for activity, mishaps in MISHAPS.items()),
    *((activity, mishaps[0]) for activity, mishaps in MISHAPS.items()),
    ("carry", "trip"),
    ("throw", "drop"),
)
_TITLES = (  # with all that is found in the release's file names
    "Best Fails of the Week #{} _ Sandbox",
    'Funny "Oops!" Moments & More Vol. {}.',
    "Kids, Bears and Robots at Play (2018) [{}] - 100% Fails",
    "Ouch! That's gotta hurt {} - ",
    "Les ratés de l'été n°{} – ",
)


@dataclass(frozen=True)
class Plot:
    """What truly happens in a film.

    Attributes:
        split: train or val.
        index: in the split, from 0.
        name: the file's, without ``.mp4``.
        activity: stack, throw, carry or jump.
        mishap: topple, miss, drop, trip; None where nothing goes wrong.
        subject: who does it, a key of `zoo.data.sandbox.cast.KINDS`.
        thing: with what, a key of `zoo.data.sandbox.cast.THINGS`.
        frames: in the film.
        frame: in which it goes wrong; None where nothing does.
        annotated: whether anybody said when and what.
        seed: of all that is drawn for this film.
    """

    split: str
    index: int
    name: str
    activity: str
    mishap: str | None
    subject: str
    thing: str
    frames: int
    frame: int | None
    annotated: bool
    seed: tuple[int, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / FPS

    @property
    def moment(self) -> float | None:
        """Seconds after the start at which it goes wrong."""
        return None if self.frame is None else self.frame / FPS

    @property
    def goal(self) -> tuple[str, str, str]:
        """What is intended, as subject, verb and object."""
        return self.subject, self.activity, self.thing

    @property
    def wrong(self) -> tuple[str, str, str] | None:
        """What goes wrong, in the same form; an object may be missing ("")."""
        return {
            None: None,
            "topple": ("tower", "topple", ""),
            "miss": (self.subject, "miss", "basket"),
            "drop": (self.subject, "drop", self.thing),
            "trip": (self.subject, "trip", self.thing if self.activity == "jump" else ""),
        }[self.mishap]

    def act(self) -> tuple[Track, Look]:
        """Where everything is in each frame, and how the room is laid out."""
        rng = np.random.default_rng((*self.seed, 1))
        look = Look(
            scale=float(rng.uniform(0.85, 1.1)),
            floor=float(rng.uniform(38, 43)),
            hoop=hoop(rng) if self.activity == "throw" else None,
        )
        moment = self.frames // 2 if self.frame is None else self.frame
        return act(rng, self.activity, self.mishap, self.thing, self.frames, moment, look), look

    def render(self) -> np.ndarray:
        """The pictures, uint8 ``[T, H, W, 3]``."""
        return draw(np.random.default_rng((*self.seed, 4)), *self.act(), self.subject, self.thing)


def plot(seed: int, split: str, index: int) -> Plot:
    """Video ``index`` of a split. Activities and mishaps take turns; any 20 neighbours are balanced."""
    key = (seed, ("train", "val").index(split), index)
    rng = np.random.default_rng((*key, 0))
    activity, mishap = _TURNS[index % len(_TURNS)]
    if (activity, mishap) == ("throw", "drop") and index // 10 % 4 >= 2:
        activity = "stack"
    if index % 60 == 7:
        mishap = None
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    part = MOMENTS[int(rng.choice(len(MOMENTS), p=[share for _, share in MOMENTS]))][0]
    frame = None if mishap is None else round(float(rng.uniform(*part)) * frames)
    things = STACKABLE if activity == "stack" else tuple(THINGS)
    return Plot(
        split,
        index,
        f"{_TITLES[index % len(_TITLES)].format(index // 10 + 1)}{2 * index + (split == 'val')}",
        activity,
        mishap,
        str(rng.choice(list(KINDS))),
        str(rng.choice(things)),
        frames,
        frame,
        split == "val" or index % 20 < 10,
        key,
    )
