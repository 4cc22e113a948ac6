"""The tasks of the sandbox's how-to world: what is done with what, in which order, and in which category.

Eight subcategories in four categories, each with its own things and six tasks. A task is an ordered list of steps, a
step a verb with a thing, and the same verbs and things recur over tasks, so that a task nobody trained on is still made
of parts that were seen. Verbs tend to come early or late in any task (things are washed before they are wiped off); how
far that tendency goes in one task is drawn. The seed draws the tasks, the words are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

VERBS = {  # name -> where in a task it tends to come, from 0 to 1
    "wash": 0.05,
    "open": 0.1,
    "measure": 0.15,
    "remove": 0.25,
    "cut": 0.3,
    "fill": 0.4,
    "pour": 0.45,
    "add": 0.5,
    "mix": 0.5,
    "fold": 0.55,
    "press": 0.6,
    "heat": 0.65,
    "attach": 0.7,
    "turn": 0.75,
    "coat": 0.85,
    "wipe": 0.9,
    "close": 0.95,
}
SUBCATEGORIES = {  # (category, subcategory) -> what its tasks are called, and its things
    ("Food and Entertaining", "Baking"): ("Bake {} Cake", "dough butter sugar tray bowl egg"),
    ("Food and Entertaining", "Drinks"): ("Make {} Cordial", "glass lemon sugar ice milk spoon"),
    ("Home and Garden", "Gardening"): ("Grow {} Hedge", "soil seed pot water fence rake"),
    ("Home and Garden", "Repairs"): ("Mend {} Sink", "pipe wall board screw tap tile"),
    ("Hobbies and Crafts", "Paper Crafts"): ("Craft {} Lantern", "paper glue ribbon bead cloth frame"),
    ("Hobbies and Crafts", "Woodworking"): ("Build {} Stool", "board glue screw frame handle drawer"),
    ("Cars & Other Vehicles", "Cars"): ("Service {} Van", "wheel oil filter hose lamp cap"),
    ("Cars & Other Vehicles", "Bicycles"): ("Repair {} Bicycle", "wheel chain brake pedal tube cap"),
}
KINDS = ("Plain", "Round", "Tall", "Small", "Double", "Old")  # of each, a task
CATEGORIES = tuple(dict.fromkeys(category for category, _ in SUBCATEGORIES))
THINGS = tuple(dict.fromkeys(thing for _, things in SUBCATEGORIES.values() for thing in things.split()))
STEPS = (3, 9)  # in a task

_ORDERLY = 0.15  # standard deviation of a verb's place around where it tends to come


@dataclass(frozen=True)
class Task:
    """An ordered list of steps.

    Attributes:
        number: from 0, over all subcategories.
        title: as somebody searches for it.
        category: the principal one.
        subcategory: within it.
        kind: its place in `KINDS`.
        steps: verb and thing of each.
    """

    number: int
    title: str
    category: str
    subcategory: str
    kind: int
    steps: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The steps in words."""
        return tuple(map(" ".join, self.steps))


@cache
def tasks(seed: int) -> tuple[Task, ...]:
    """All tasks, those of a subcategory one after the other."""
    rng = np.random.default_rng((seed, 0))
    drawn = []
    for (category, subcategory), (title, things) in SUBCATEGORIES.items():
        for kind, word in enumerate(KINDS):
            count = int(rng.integers(STEPS[0], STEPS[1] + 1))
            verbs = rng.choice(list(VERBS), count, replace=False)
            order = np.argsort([VERBS[verb] + rng.normal(0, _ORDERLY) for verb in verbs])
            steps = tuple((str(verbs[place]), str(rng.choice(things.split()))) for place in order)
            drawn.append(Task(len(drawn), title.format(word), category, subcategory, kind, steps))
    return tuple(drawn)
