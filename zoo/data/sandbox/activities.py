"""What happens in the sandbox's household videos: activities that follow each other because somebody wants something.

Each video has an intent that no file names. It says which things are used: to get well somebody opens a closet and
takes medicine, the thirsty one opens a refrigerator and takes a cup. The activities are verbs with objects, and three
pairs of objects are twins: drawn alike to the last bit, in the same places, with the same movements, equally often. One
frame does not tell which twin it shows (a guess is right half of the time), and the rest of the video does:

- medicine or cup: a closet is used somewhere in the video, or a refrigerator; before it or after it;
- book or laptop: a window, or a broom;
- clothes or towel: clothes are put away before all of these four, towels after them. Here the intent says nothing, nor
  does what else is in the video, but the order does.

Verbs are told in part. What is put goes the way back of what is taken, and a door that closes that of one that opens;
a frame on the way leaves open which of the two it is, and one in which all has come to rest mostly tells. A laugh goes
with anything. Rooms, colours, sizes, sides, and what stands about say nothing about any of this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FPS = 24
SECONDS = (8.0, 16.0)  # a video lasts
LASTING = (1.5, 4.0)  # an activity lasts, seconds

CLASSES = {  # name -> object, verb; in the order of the classes' numbers
    "Holding a book": ("book", "hold"),
    "Holding a broom": ("broom", "hold"),
    "Closing a closet/cabinet": ("closet/cabinet", "close"),
    "Opening a closet/cabinet": ("closet/cabinet", "open"),
    "Putting clothes somewhere": ("clothes", "put"),
    "Putting a cup/glass/bottle somewhere": ("cup/glass/bottle", "put"),
    "Taking a cup/glass/bottle from somewhere": ("cup/glass/bottle", "take"),
    "Holding a laptop": ("laptop", "hold"),
    "Putting some medicine somewhere": ("medicine", "put"),
    "Taking some medicine from somewhere": ("medicine", "take"),
    "Closing a refrigerator": ("refrigerator", "close"),
    "Opening a refrigerator": ("refrigerator", "open"),
    "Putting a towel/s somewhere": ("towel", "put"),
    "Closing a window": ("window", "close"),
    "Opening a window": ("window", "open"),
    "Someone is laughing": ("None", "laugh"),
}
OBJECTS = ("None", *sorted({thing for thing, _ in CLASSES.values()} - {"None"}))
VERBS = tuple(sorted({verb for _, verb in CLASSES.values()}))
TWINS = {"vessel": ("medicine", "cup/glass/bottle"), "leaf": ("book", "laptop"), "cloth": ("clothes", "towel")}
KEYS = ("closet/cabinet", "refrigerator", "window", "broom")  # each unlike everything else; they tell what twins are
INTENTS = {  # what is used, as pairs of what tells and what is told; every twin is as frequent as the other
    "get well": (("closet/cabinet", "medicine"),),
    "quench a thirst": (("refrigerator", "cup/glass/bottle"),),
    "study": (("window", "book"),),
    "work": (("broom", "laptop"),),
    "stay in bed": (("closet/cabinet", "medicine"), ("window", "book")),
    "stay up late": (("refrigerator", "cup/glass/bottle"), ("broom", "laptop")),
}
SCENES = ("Bathroom", "Bedroom", "Dining room", "Hallway", "Kitchen", "Living room", "Pantry", "Stairs")

_LOOK = {twin: look for look, twins in TWINS.items() for twin in twins}
_NUMBER = {pair: number for number, pair in enumerate(CLASSES.values())}
_CHAINS = {  # what can be done with a thing in one go
    "closet/cabinet": (("open",), ("close",), ("open", "close")),
    "refrigerator": (("open",), ("close",), ("open", "close")),
    "window": (("open",), ("close",), ("open", "close")),
    "vessel": (("take",), ("put",), ("take", "put")),
    "leaf": (("hold",),),
    "cloth": (("put",),),
    "broom": (("hold",),),
}
_MOST = 6  # activities in a video
_PLAIN = 20  # of so many videos, one shows nothing that has a name
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Act:
    """One activity.

    Attributes:
        thing: one of `OBJECTS`.
        verb: one of `VERBS`.
        begin, stop: seconds between which it is seen.
        start, end: seconds that the annotation has; the end may lie behind the video's.
    """

    thing: str
    verb: str
    begin: float
    stop: float
    start: float
    end: float

    @property
    def look(self) -> str:
        """What is drawn: the thing, or what it and its twin both look like."""
        return _LOOK.get(self.thing, self.thing)

    @property
    def label(self) -> int:
        """The class number."""
        return _NUMBER[self.thing, self.verb]


@dataclass(frozen=True)
class Plan:
    """What truly happens in a video.

    Attributes:
        split: train or test.
        index: in the split, from 0.
        name: the file's, without ``.mp4``; five letters and digits, unlike any other of the same seed.
        intent: a key of `INTENTS`, or None where nothing that has a name happens; in no file.
        room: where it happens, one of `SCENES`.
        episodes: one after another, each one or two activities with one thing.
        laughs: while anything else happens.
        frames: in the video.
        seed: of all that is drawn for this video.
    """

    split: str
    index: int
    name: str
    intent: str | None
    room: str
    episodes: tuple[tuple[Act, ...], ...]
    laughs: tuple[Act, ...]
    frames: int
    seed: tuple[int, ...]

    @property
    def length(self) -> float:
        """Seconds."""
        return self.frames / FPS

    @property
    def acts(self) -> list[Act]:
        """All activities, in the order in which they start."""
        return sorted((act for episode in (*self.episodes, self.laughs) for act in episode), key=lambda act: act.start)

    @property
    def actions(self) -> list[tuple[int, float, float]]:
        """The annotation: class number, start and end in seconds."""
        return [(act.label, act.start, act.end) for act in self.acts]


def plan(seed: int, split: str, index: int) -> Plan:
    """Video ``index`` of a split. Intents take turns in a drawn order: any six from a multiple of six on have all."""
    key = (seed, ("train", "test").index(split), index)
    rng = np.random.default_rng((*key, 0))
    intents = np.random.default_rng((*key[:2], index // len(INTENTS), 1)).permutation(list(INTENTS))
    intent = None if index % _PLAIN == _PLAIN // 2 else str(intents[index % len(INTENTS)])
    laughing = rng.random() < 0.4
    chains = _chains(rng, _story(rng, intent, 3 - laughing), _MOST - laughing) if intent else []
    laughing &= sum(map(len, chains)) < _MOST
    episodes, length = _times(rng, chains)
    frames = round(length * FPS)
    laughs = []
    if chains and laughing:
        during = episodes[int(rng.integers(len(episodes)))]  # no laugh stands alone: idling has no name
        begin, stop = during[0].begin, during[-1].stop
        lasts = rng.uniform(LASTING[0], min(stop - begin, 2.5))
        begin = rng.uniform(begin, stop - lasts)
        laughs = [_annotated(rng, "None", "laugh", begin, begin + lasts)]
    return Plan(
        split,
        index,
        _name(seed, 2 * index + (split == "test")),
        intent,
        str(rng.choice(SCENES)),
        tuple(map(tuple, episodes)),
        tuple(laughs),
        frames,
        key,
    )


def _story(rng: np.random.Generator, intent: str, least: int) -> list[str]:
    """The things that are used, in order; so many at least, whatever the intent."""
    pairs = list(INTENTS[intent])
    rng.shuffle(pairs)
    # What tells mostly comes before what is told, be it at once or after what tells the other.
    pairs = [pair if rng.random() < 0.75 else pair[::-1] for pair in pairs]
    apart = rng.random() < 0.5
    things = [pair[i] for i in (0, 1) for pair in pairs] if apart else [thing for pair in pairs for thing in pair]
    keys = [place for place, thing in enumerate(things) if thing in KEYS]
    before, after = ((True, False), (False, True), (True, True), (False, False))[
        int(rng.choice(4, p=(0.32, 0.32, 0.14, 0.22)))
    ]
    if len(things) + before + after < least:
        before = rng.random() < 0.5
        after = not before
    if after:
        things.insert(int(rng.integers(keys[-1] + 1, len(things) + 1)), "towel")
    if before:
        things.insert(int(rng.integers(0, keys[0] + 1)), "clothes")
    return things


def _chains(rng: np.random.Generator, things: list[str], most: int) -> list[list[tuple[str, str]]]:
    """What is done with each thing: verbs with their object, so that there are no more than ``most`` in all."""
    chains = []
    for thing in things:
        choices = _CHAINS[_LOOK.get(thing, thing)]
        chains.append([(thing, verb) for verb in choices[int(rng.integers(len(choices)))]])
    for chain in (chains[i] for i in rng.permutation(len(chains))):
        if sum(map(len, chains)) > most and len(chain) > 1:
            chain.pop(int(rng.integers(2)))
    return chains


def _times(rng: np.random.Generator, chains: list[list[tuple[str, str]]]) -> tuple[list[list[Act]], float]:
    """When everything happens, and how long the video is."""
    count = sum(map(len, chains))
    lasting = rng.uniform(*LASTING, count)
    # Before each, and after the last; short, for of 25 moments of a video of Charades 24 show something that is named.
    gaps = rng.uniform(0.3, 0.45, len(chains) + 1)
    if count and rng.random() < 0.15:  # the video ends before the last activity does
        gaps[-1] = -rng.uniform(0.2, 0.9)
    longest = SECONDS[1] - gaps.sum()
    if lasting.sum() > longest:
        least = LASTING[0] * count
        lasting = LASTING[0] + (lasting - LASTING[0]) * (longest - least) / (lasting.sum() - least)
    missing = rng.uniform(SECONDS[0], SECONDS[0] + 2) - lasting.sum() - gaps.sum()
    if missing > 0 and count:
        room = LASTING[1] - lasting
        lasting = lasting + room * min(missing / room.sum(), 1)
        missing -= min(missing, room.sum())
    if missing > 0:
        gaps[: max(len(chains), 1)] += missing * rng.dirichlet(np.ones(max(len(chains), 1)))
    now, episodes, durations = 0.0, [], iter(lasting)
    for chain, gap in zip(chains, gaps, strict=False):
        now += gap
        episode = []
        for place, (thing, verb) in enumerate(chain):
            stop = now + next(durations)
            over = rng.uniform(0, 0.4) if place + 1 < len(chain) else 0.0  # it still ends when the next one starts
            episode.append(_annotated(rng, thing, verb, now, stop, over))
            now = stop
        episodes.append(episode)
    return episodes, float(now + gaps[-1])


def _annotated(rng: np.random.Generator, thing: str, verb: str, begin: float, stop: float, over: float = 0.0) -> Act:
    """An activity as an annotator says it: off by up to a tenth of a second."""
    start, end = max(begin + rng.uniform(-0.1, 0.1), 0), stop + over + rng.uniform(-0.1, 0.1)
    return Act(thing, verb, float(begin), float(stop), round(float(start), 2), round(float(end), 2))


def _name(seed: int, number: int) -> str:
    """Five letters and digits; the factor shares no divisor with their number, so none comes twice."""
    number = (number * 25_214_903 + int(np.random.default_rng((seed, 2)).integers(36**5))) % 36**5
    return "".join(_ID_LETTERS[number // 36**k % 36] for k in range(5))
