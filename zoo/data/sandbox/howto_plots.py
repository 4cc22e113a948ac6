"""What happens when in the sandbox's how-to videos: steps in their order, and between them what has none.

A video is a row of shots. It starts with a title and a greeting, often with a look at what will come of it, and ends
with what came of it, a goodbye and credits. Between the two stand the task's steps: mostly in the task's order, some
left out, some swapped with the next, some taken up again. Around them the host talks, things are shown, stills and
texts stand; which of these, for how long and in which order says nothing about how far the work has come, but that it
is now and then shown as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from zoo.data.sandbox.howto_tasks import SUBCATEGORIES, THINGS, Task, tasks

FILLERS = ("talk", "show", "still", "text")  # what stands between steps
ENDS = ("greeting", "result", "goodbye", "title", "credits")  # what stands before the first and after the last
SHOTS = ("action", *FILLERS, *ENDS)

_BETWEEN = (0.4, 0.35, 0.15, 0.1)  # how often each filler is drawn
_LASTS = {  # seconds
    "action": (5.0, 17.0),
    "talk": (5.0, 16.0),
    "show": (3.0, 9.0),
    "still": (3.0, 8.0),
    "text": (2.0, 5.0),
    "greeting": (6.0, 20.0),
    "result": (4.0, 10.0),
    "goodbye": (5.0, 16.0),
    "title": (3.0, 7.0),
    "credits": (4.0, 12.0),
}
_WORK_SHOWN = 0.25  # how often the work is seen where something is shown
_MISSING, _SWAPPED, _AGAIN = 0.12, 0.12, 0.1  # how often a step is left out, swapped with the next, taken up again
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class Manner:
    """What sets the videos of a split apart.

    Attributes:
        kinds: of each subcategory's tasks, those that it has (places in `KINDS`).
        fillers: mean number of shots between one step and the next.
        ends: how long what comes before the first step and after the last one is, in terms of `_LASTS`.
        shares: how often each subcategory comes.
    """

    kinds: tuple[int, ...]
    fillers: float
    ends: float = 1.0
    shares: tuple[int, ...] = (1,) * len(SUBCATEGORIES)


MANNERS = {
    "howto100m": Manner((0, 1, 2, 3), 3.2, shares=(3, 2, 1, 1, 1, 1, 1, 1)),
    "coin training": Manner((2, 3, 4, 5), 1.0, 0.5),
    "coin testing": Manner((2, 3, 4, 5), 1.0, 0.5),
    "crosstask": Manner((3, 4), 2.6),
    "crosstask related": Manner((5,), 2.6),
}
SPLITS = tuple(MANNERS)


@dataclass(frozen=True)
class Shot:
    """What is seen from one cut to the next.

    Attributes:
        kind: one of `SHOTS`.
        start, stop: seconds.
        step: of an action, its number in the task; else -1.
        thing: what is seen, a place in `THINGS`; -1 where nothing is.
        done: how far the work has come, from 0 to 1, where the work is seen; else None.
    """

    kind: str
    start: float
    stop: float
    step: int = -1
    thing: int = -1
    done: float | None = None


@dataclass(frozen=True)
class Plan:
    """What truly happens in a video.

    Attributes:
        split: one of `SPLITS`.
        index: in the split, from 0.
        name: eleven letters and digits, unlike any other of the same seed.
        task: what is done.
        shots: one after another, from 0 to `duration`.
        seed: of all that is drawn for this video.
    """

    split: str
    index: int
    name: str
    task: Task
    shots: tuple[Shot, ...]
    seed: tuple[int, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.shots[-1].stop

    @property
    def actions(self) -> list[tuple[int, float, float]]:
        """The annotation: a step's number in its task, start and end in seconds; up to 0.4 s off at either end."""
        rng = np.random.default_rng((*self.seed, 2))
        shots = [shot for shot in self.shots if shot.step >= 0]
        off = rng.uniform(-0.4, 0.4, (len(shots), 2))
        return [
            (shot.step, round(shot.start + float(early), 2), round(shot.stop + float(late), 2))
            for shot, (early, late) in zip(shots, off, strict=True)
        ]


def plan(seed: int, split: str, index: int) -> Plan:
    """Video ``index`` of a split; tasks take turns."""
    number, key = SPLITS.index(split), (seed, SPLITS.index(split), index)
    turns = taking_turns(seed, split)
    task = turns[index % len(turns)]
    shots = _shots(np.random.default_rng((*key, 1)), task, MANNERS[split])
    return Plan(split, index, _name(seed, len(SPLITS) * index + number), task, shots, key)


@cache
def taking_turns(seed: int, split: str) -> tuple[Task, ...]:
    """The tasks of a split, those of frequent subcategories several times."""
    manner, groups = MANNERS[split], list(SUBCATEGORIES)
    drawn = [task for task in tasks(seed) if task.kind in manner.kinds]
    shares = [manner.shares[groups.index((task.category, task.subcategory))] for task in drawn]
    return tuple(task for turn in range(max(shares)) for task, share in zip(drawn, shares, strict=True) if turn < share)


def performed(rng: np.random.Generator, count: int) -> list[int]:
    """The steps of a task that a video shows, in its order; at least two."""
    order = list(range(count))
    missing = rng.random(count) < _MISSING
    swapped, again = rng.random((2, count))
    for place in range(count - 1):
        if swapped[place] < _SWAPPED:
            order[place], order[place + 1] = order[place + 1], order[place]
    shown = [step for step in order if not missing[step]]
    if len(shown) < 2:
        shown = order[:2]
    for place in reversed(range(2, len(shown) + 1)):
        if again[place - 1] < _AGAIN:
            shown.insert(place, shown[place - 2])
    return shown


def _shots(rng: np.random.Generator, task: Task, manner: Manner) -> tuple[Shot, ...]:
    steps = performed(rng, len(task.steps))
    things = [THINGS.index(thing) for _, thing in task.steps]
    kinds: list[tuple[str, int, int, float | None]] = []  # kind, step, thing, done
    if rng.random() < 0.8:
        kinds.append(("title", -1, -1, None))
    kinds.append(("greeting", -1, -1, None))
    if rng.random() < 0.5:
        kinds.append(("result", -1, -1, 1.0))
    far = 0.0
    kinds += [_filler(rng, things, far) for _ in range(1 + rng.poisson(manner.fillers))]
    for place, step in enumerate(steps):
        # How far the work has come is what has been done, not when: steps that are left out had been done before.
        far = max(far, (step + 0.5) / len(task.steps))
        kinds.append(("action", step, things[step], far))
        if place + 1 < len(steps):
            kinds += [_filler(rng, things, far) for _ in range(rng.poisson(manner.fillers))]
    kinds += [_filler(rng, things, far) for _ in range(rng.poisson(manner.fillers))]
    if rng.random() < 0.8:
        kinds.append(("result", -1, -1, 1.0))
    kinds.append(("goodbye", -1, -1, None))
    if rng.random() < 0.8:
        kinds.append(("credits", -1, -1, None))
    shots, now = [], 0.0
    for (kind, step, thing, done), share in zip(kinds, rng.random(len(kinds)), strict=True):
        low, high = _LASTS[kind]
        stop = now + (low + (high - low) * float(share)) * (manner.ends if kind in ENDS else 1.0)
        shots.append(Shot(kind, now, stop, step, thing, done))
        now = stop
    return tuple(shots)


def _filler(rng: np.random.Generator, things: list[int], far: float) -> tuple[str, int, int, float | None]:
    """A shot without a step, as its kind, no step, the thing and how far the work is that are seen.

    Nothing else in it goes with where in the video it stands.
    """
    kind = FILLERS[int(np.searchsorted(np.cumsum(_BETWEEN), rng.random(), side="right"))]
    thing = things[int(rng.integers(len(things)))]
    work, seen = rng.random(2)
    done = far if kind == "show" and work < _WORK_SHOWN else None
    return kind, -1, thing if kind in ("show", "still") or seen < 0.3 else -1, done


def _name(seed: int, number: int) -> str:
    """Eleven letters and digits; the factor shares no divisor with their number, so none comes twice."""
    number = (number * 11_400_714_819_323_198_485 + int(np.random.default_rng((seed, 2)).integers(2**63))) % 64**11
    return "".join(_ID_LETTERS[number // 64**k % 64] for k in range(11))
