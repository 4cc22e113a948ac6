"""What happens in the sandbox's how-to films: tasks of ordered steps, the shots of a film, and what is said over them.

A film shows one task. Its steps come in the task's order, each in one or two close-ups; between them, in any order,
come shots that tell nothing of how far the work is: the host talks, the camera looks about, things stand there
untouched or finished. What is said names a step about when it is done, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

FPS = 10
SPLITS = ("train", "training", "testing")  # HowTo100M, and COIN's two subsets
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # of the names of videos

Verb = Literal["lay", "spread", "sprinkle", "pour", "stir", "press", "cut", "heat", "brush"]
Kind = Literal["title", "host", "outside", "room", "step", "untouched", "finished", "credits"]


@dataclass(frozen=True)
class Step:
    """A verb and what it is done with or to."""

    verb: Verb
    thing: str

    @property
    def label(self) -> str:
        return f"{self.verb} the {self.thing}"


@dataclass(frozen=True)
class Task:
    """What a film teaches.

    Attributes:
        number: as the csv file of all tasks counts.
        title: in the words of the task list.
        category: of the two levels of HowTo100M.
        base: what all is done on or in.
        steps: in their order.
    """

    number: int
    title: str
    category: tuple[str, str]
    base: Literal["board", "plate", "tray", "glass", "bowl", "pot"]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """In the manner of COIN."""
        return "".join(word.capitalize() for word in self.title.split() if word not in ("a", "the"))


def _task(number: int, title: str, category: tuple[str, str], base: str, *steps: str) -> Task:
    return Task(number, title, category, base, tuple(Step(*step.split()) for step in steps))  # type: ignore[arg-type]


_FOOD, _HOME = "Food and Entertaining", "Home and Garden"
TASKS = (
    _task(101, "Make a Sandwich", (_FOOD, "Recipes"), "board",
          "lay bread", "spread butter", "lay cheese", "sprinkle herbs", "cut sandwich"),
    _task(102, "Bake a Pizza", (_FOOD, "Recipes"), "tray",
          "lay dough", "press dough", "spread sauce", "lay cheese", "sprinkle herbs", "heat pizza"),
    _task(103, "Make a Cake", (_FOOD, "Recipes"), "plate",
          "lay sponge", "spread cream", "sprinkle berries", "pour syrup", "cut cake"),
    _task(104, "Make Pancakes", (_FOOD, "Recipes"), "bowl",
          "sprinkle flour", "pour milk", "stir batter", "heat batter", "pour syrup"),
    _task(105, "Mix a Smoothie", (_FOOD, "Drinks"), "glass",
          "pour milk", "sprinkle berries", "stir smoothie", "pour juice"),
    _task(106, "Plant a Seed", (_HOME, "Gardening"), "pot",
          "pour soil", "sprinkle seeds", "press soil", "pour water"),
    _task(107, "Restore a Mosaic", (_HOME, "Home Improvements and Repairs"), "tray",
          "spread glue", "lay tile", "press tile", "pour grout", "brush varnish"),
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """What is seen for a while.

    Attributes:
        kind: of shot.
        start: its first frame.
        stop: the frame after its last.
        step: of the task's steps, the one that is done; -1 in all other shots.
        done: how far that step has gone on when the shot begins and when it ends, 0..1.
    """

    kind: Kind
    start: int
    stop: int
    step: int = -1
    done: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Film:
    """A whole film; ``seed`` is what its pictures follow from.

    Attributes:
        name: eleven characters, as those of the web's videos.
        rank: in the search results for its task.
        captions: start and end in seconds, and what is said.
    """

    seed: tuple[int, ...]
    name: str
    task: Task
    rank: int
    shots: tuple[Shot, ...]
    captions: tuple[tuple[float, float, str], ...] = field(repr=False)

    @property
    def frames(self) -> int:
        return self.shots[-1].stop

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / FPS

    @property
    def steps(self) -> list[tuple[int, float, float]]:
        """Number, start and end in seconds of every stretch of a step."""
        return [(shot.step, shot.start / FPS, shot.stop / FPS) for shot in self.shots if shot.kind == "step"]


def plot(seed: int, split: str, index: int) -> Film:
    """Film ``index`` of a split; the same arguments give the same film."""
    key = (seed, SPLITS.index(split), index)
    rng = np.random.default_rng((*key, 20))
    task = TASKS[int(rng.integers(len(TASKS)))]
    # Seven drawn letters, and four that no other film of this seed has.
    digits = [(SPLITS.index(split) << 20 | index) >> shift & 63 for shift in (18, 12, 6, 0)]
    name = "".join(LETTERS[i] for i in (*rng.integers(64, size=7), *digits))
    shots = _shots(rng, len(task.steps))
    return Film(key, name, task, int(rng.integers(1, 201)), shots, _captions(rng, task, shots))


def _shots(rng: np.random.Generator, steps: int) -> tuple[Shot, ...]:
    shots: list[Shot] = []

    def add(kind: Kind, low: float, high: float, **what: object) -> None:
        start = shots[-1].stop if shots else 0
        shots.append(Shot(kind, start, start + round(rng.uniform(low, high) * FPS), **what))  # type: ignore[arg-type]

    def between() -> None:
        kinds, shares = ("host", "outside", "room", "untouched", "finished"), (0.4, 0.1, 0.12, 0.19, 0.19)
        add(str(rng.choice(kinds, p=shares)), 1.5, 3.3)  # type: ignore[arg-type]

    add("title", 1.5, 3.0)
    add("host", 2.0, 4.0)
    if rng.random() < 0.5:
        between()
    for step in range(steps):
        if rng.random() < 0.75:
            between()
        if rng.random() < 0.3:  # the film cuts away and comes back
            cut = float(rng.uniform(0.35, 0.65))
            add("step", 1.6, 2.8, step=step, done=(0.0, cut))
            between()
            add("step", 1.6, 2.8, step=step, done=(cut, 1.0))
        else:
            add("step", 2.4, 5.0, step=step)
    between()
    add("host", 1.5, 3.0)
    add("credits", 1.5, 3.0)
    while shots[-1].stop < 30 * FPS:  # a film of few short steps lasts half a minute, too
        longer = round(rng.uniform(1, 3) * FPS)
        at = int(rng.choice([i for i, shot in enumerate(shots) if shot.kind == "host"]))
        shots = [
            Shot(s.kind, s.start + longer * (i > at), s.stop + longer * (i >= at), s.step, s.done)
            for i, s in enumerate(shots)
        ]
    return tuple(shots)


_SAID: dict[str, tuple[str, ...]] = {
    "lay": ("now lay the {} on top", "put the {} down right here", "we lay our {} flat"),
    "spread": ("spread the {} all over", "spread some {} with a knife", "spread a layer of {}"),
    "sprinkle": ("sprinkle some {} over it", "some {} goes in", "now sprinkle the {}"),
    "pour": ("pour the {} slowly", "now we pour in some {}", "pour the {} right here"),
    "stir": ("stir the {} with a spoon", "now stir the {}", "stir it until the {} is ready"),
    "press": ("press the {} down with both hands", "press on the {}", "now press the {}"),
    "cut": ("cut the {} into pieces", "take a knife and cut the {}", "now cut the {}"),
    "heat": ("heat the {} until it is brown", "now heat the {}", "let the {} heat"),
    "brush": ("brush the {} all over", "take a brush and some {}", "brush on a layer of {}"),
}
_TALK = (
    "hello and welcome back to my channel", "thank you for watching", "i really like to do this",
    "today i want to show you something", "this is easy you will love it", "let me know what you like",
    "thank you and welcome", "so that is what i do today", "this will take a little time", "do not worry it is easy",
)  # fmt: skip
_LOOK = {
    "outside": ("here is our house", "what a day outside"),
    "room": ("this is our room", "welcome to our kitchen"),
    "untouched": ("this is what you will need", "get your things ready"),
    "finished": ("look how it turned out", "this is what it will look like"),
}


def _captions(rng: np.random.Generator, task: Task, shots: tuple[Shot, ...]) -> tuple[tuple[float, float, str], ...]:
    """What is said, in the order of its beginning; half a second more or less off what is seen, or a good deal."""
    end = shots[-1].stop / FPS
    said: list[tuple[float, float, str]] = []

    def say(start: float, text: str) -> None:
        start = float(np.clip(start, 0, end - 0.5))
        said.append((round(start, 2), round(min(start + float(rng.uniform(1.6, 3.4)), end), 2), text))

    for shot in shots:
        start, stop = shot.start / FPS, shot.stop / FPS
        if shot.kind == "step":
            step = task.steps[shot.step]
            if rng.random() < 0.85:
                late = rng.normal(0, 0.6) if rng.random() < 0.7 else rng.normal(0, 3.0)
                say(start + late, str(rng.choice(_SAID[step.verb])).format(step.thing))
            if stop - start > 3 and rng.random() < 0.5:
                again = (
                    str(rng.choice(_SAID[step.verb])).format(step.thing) if rng.random() < 0.6 else rng.choice(_TALK)
                )
                say((start + stop) / 2 + rng.normal(0, 0.6), str(again))
        elif shot.kind in _LOOK and rng.random() < 0.6:
            say(start + rng.normal(0, 0.5), str(rng.choice(_LOOK[shot.kind])))
        elif shot.kind not in ("title", "credits"):
            for at in np.arange(start, stop - 1, 2.5):
                say(at + rng.normal(0, 0.3), str(rng.choice(_TALK)))
    return tuple(sorted(said))


def words() -> list[str]:
    """Every word that is ever said, sorted."""
    things = {step.thing for task in TASKS for step in task.steps}
    lines = [*_TALK, *(line for lines in (*_SAID.values(), *_LOOK.values()) for line in lines), *things]
    return sorted({word for line in lines for word in line.split() if word != "{}"})
