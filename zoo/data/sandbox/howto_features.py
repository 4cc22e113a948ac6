"""What a frozen network sees of the sandbox's how-to videos: a row of 64 numbers a second.

No network computes them. What is seen at a moment is a sum of parts, each a fixed random direction: a verb and hands
where a step is done, the thing that it is done with, the work as it is before and as it is when done, the host, the
picture of a still, the letters of a text. To it come the video's own look (its room, light and camera), and noise. The
rectified sum, averaged over the moments of a second, is the row: like the averages over a network's last maps, rows are
not negative, and there are more parts than numbers, so that no number stands for one.

- *The work* is seen while it is worked on; how well, goes with the shot. Now and then it is shown between steps too,
  and finished where results are. It looks different in every category, but not altogether.
- *Things* are also seen where they are merely shown, and hands also move while somebody talks.
- *The camera* slowly goes round, at a pace of its own in every video, whatever is seen. Over seconds this tells what
  comes first; over minutes it does not.
- *Titles and credits*, greetings and goodbyes look like nothing else, and much alike in every video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from zoo.data.sandbox.howto_plots import SHOTS, Plan
from zoo.data.sandbox.howto_tasks import CATEGORIES, THINGS, VERBS

DIM = 64
RATE = 1.0  # rows a second
MOMENTS = 5  # in a second

_LOOKS = 4  # a kind of shot has so many looks
_STRENGTH = {  # length of each part's direction
    "verb": 1.0,
    "hands": 0.8,
    "thing": 1.6,
    "work": 1.2,
    "turn": 1.2,
    "title": 4.0,
    "credits": 4.0,
    "greeting": 2.4,
    "goodbye": 2.4,
    "talk": 2.4,
    "show": 1.6,
    "still": 2.4,
    "text": 3.0,
    "result": 1.6,
}
_ROUND = (14.0, 24.0)  # seconds that the camera takes to go round
_VIDEO, _SECOND, _MOMENT = 0.35, 0.6, 0.4  # standard deviations of each number: of a video's look, a second, a moment


@dataclass(frozen=True)
class Parts:
    """The directions of all that can be seen.

    Attributes:
        verbs: ``[V, 64]``.
        things: ``[O, 64]``.
        work: before and when done, by category ``[C, 2, 64]``.
        hands: ``[64]``.
        turn: the two between which the camera goes round ``[2, 64]``.
        looks: of every kind of shot but the action ``[kinds, looks, 64]``.
        rest: what is seen when nothing is ``[64]``.
    """

    verbs: np.ndarray
    things: np.ndarray
    work: np.ndarray
    hands: np.ndarray
    turn: np.ndarray
    looks: np.ndarray
    rest: np.ndarray


@cache
def parts(seed: int) -> Parts:
    """The directions of a world."""
    rng = np.random.default_rng((seed, 1))

    def directions(*shape: int) -> np.ndarray:
        drawn = rng.standard_normal((*shape, DIM))
        return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)

    common, own = directions(1, 2), directions(len(CATEGORIES), 2)
    looks = directions(len(SHOTS), 1) * 0.8 + directions(len(SHOTS), _LOOKS) * 0.6
    return Parts(
        verbs=_STRENGTH["verb"] * directions(len(VERBS)),
        things=_STRENGTH["thing"] * directions(len(THINGS)),
        work=_STRENGTH["work"] * (0.8 * common + 0.6 * own),
        hands=_STRENGTH["hands"] * directions(),
        turn=_STRENGTH["turn"] * directions(2),
        looks=looks * np.array([_STRENGTH.get(kind, 0.0) for kind in SHOTS], np.float32)[:, None, None],
        rest=rng.uniform(0.1, 0.5, DIM).astype(np.float32),
    )


def features(item: Plan) -> np.ndarray:
    """The rows of a video, float16 ``[ceil(duration), 64]``; row k stands for the second from k on."""
    rng = np.random.default_rng((*item.seed, 3))
    rows = int(np.ceil(item.duration * RATE))
    moments = (np.arange(rows * MOMENTS) + 0.5) / (MOMENTS * RATE)
    stops = np.array([shot.stop for shot in item.shots])
    shot = np.minimum(np.searchsorted(stops, moments, side="right"), len(stops) - 1)
    world = parts(item.seed[0])
    still, moving = _seen(rng, item, world)
    # What is done comes and goes while it is done: hands stop, a back is in the way.
    effort = np.repeat(np.clip(rng.normal(1.0, 0.5, rows), 0.0, None), MOMENTS)
    along = 2 * np.pi * (moments / rng.uniform(*_ROUND) + rng.random())
    turn = np.stack((np.sin(along), np.cos(along)), 1).astype(np.float32) @ world.turn
    seen = still[shot] + effort[:, None].astype(np.float32) * moving[shot] + turn
    seen += world.rest + _VIDEO * rng.standard_normal(DIM, np.float32)
    seen = seen.reshape(rows, MOMENTS, DIM)
    seen += _SECOND * rng.standard_normal((rows, 1, DIM), np.float32)
    seen += _MOMENT * rng.standard_normal(seen.shape, np.float32)
    return np.maximum(seen, 0.0, out=seen).mean(1).astype(np.float16)


def _seen(rng: np.random.Generator, item: Plan, world: Parts) -> tuple[np.ndarray, np.ndarray]:
    """What stands in each shot and what moves in it, ``[shots, 64]`` each."""
    verbs = {verb: place for place, verb in enumerate(VERBS)}
    work = world.work[CATEGORIES.index(item.task.category)]
    looks = rng.integers(_LOOKS, size=len(SHOTS))  # a video keeps to its host, its letters, its table
    still = np.zeros((len(item.shots), DIM), np.float32)
    moving = np.zeros_like(still)
    clear, off, gesture = rng.random((3, len(item.shots)))
    for place, shot in enumerate(item.shots):
        kind = SHOTS.index(shot.kind)
        still[place] = world.looks[kind, looks[kind]]
        if shot.thing >= 0:
            still[place] += world.things[shot.thing] * (0.6 + 0.4 * clear[place])
        if shot.done is not None:
            done = np.clip(shot.done + 0.3 * (off[place] - 0.5), 0.0, 1.0)
            still[place] += (0.4 + 0.6 * clear[place]) * ((1 - done) * work[0] + done * work[1])
        if shot.step >= 0:
            moving[place] = world.verbs[verbs[item.task.steps[shot.step][0]]] + world.hands
        elif shot.kind in ("talk", "greeting", "goodbye"):
            moving[place] = world.hands * gesture[place]
    return still, moving
