"""The embedded data: small action videos that the zoo renders itself, laid out exactly like the Kinetics release.

In a restless scene a textured sprite appears in one corner, travels a short way and is gone. In half of the classes
that is all, and the class is its direction. In the others, after a pause in which nothing travels, a second sprite
does the same in the opposite corner, and the class is how the follower's way relates to the leader's: following it,
opposing it, turning left or right. Over these four classes each way alone is distributed alike, so no frame, no
colour, no corner and no single movement tells them apart: the relation lives in a pair of events far apart in space
and time, whose order matters. A sum of local evidence cannot express that; a comparison of all positions with all
positions (the non-local block) can.

Everything follows from a seed: the same seed gives the same bytes on the same machine and encoder.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole

# In quarter turns, counter-clockwise: from "to the right", and from the leader's way to the follower's.
HEADINGS = {"going right": 0, "going up": 1, "going left": 2, "going down": 3}
TURNS = {"following": 0, "turning left": 1, "opposing": 2, "turning right": 3}
CLASSES = tuple(sorted((*HEADINGS, *TURNS)))  # in alphabetical order, as Kinetics counts
TRAIN, VAL = 1536, 384
SIZE, FPS, FRAMES = 80, 20, 40  # pixels, frames per second, frames in a video: two seconds
ONSETS = (range(3), range(27, 30))  # the frames in which a leader and a follower may come
PRESENCE = 11  # frames that each of them is there

DESCRIPTION = (
    f"Synthetic videos rendered by zoo.data.sandbox, no recordings of people: {SIZE}x{SIZE} pixels, {FRAMES} frames, "
    "H.264. In four of the eight classes one sprite travels (up, down, left, right); in the other four a second one "
    "does so later in the opposite corner, and the class is how its direction relates to the first one's (following, "
    "opposing, turning left, turning right). Scores compare models that were trained on these videos and say nothing "
    "about real actions. A model that only adds up local evidence can tell the single ways, but must guess the "
    "relation: 62.5% top-1."
)

RECIPE = 2  # raised whenever the rendered pixels change
_CORNERS = ((24, 24), (56, 24), (56, 56), (24, 56))
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def render_kinetics(root: str | Path, seed: int = 0, train: int = TRAIN, val: int = VAL, workers: int = 1) -> Path:
    """Render what is not there yet of a sandbox data set in the Kinetics layout, and return its root.

    Written are ``train.csv`` and ``val.csv`` with the official columns (label, youtube_id, time_start, time_end, split,
    is_cc) and ``<split>/<class_name>/<id>_<start>_<end>.mp4``. Files appear whole or not at all; a split counts as
    complete only when ``sandbox.json`` says so, which is written last. An interrupted render goes on where it stopped.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and sizes.
        seed: what every random choice follows from.
        train: videos in the training split; 0 leaves the split alone. A multiple of 32 is balanced over
            classes and directions.
        val: the same for the validation split.
        workers: processes that render; 1 renders in this one. More are spawned, so the calling script needs its
            ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    about = {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}
    return render_splits(root, about, {"train": train, "val": val}, partial(_render_split, seed, workers))


def _render_split(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    items = [describe(seed, split, index) for index in range(count)]
    each(partial(_render_file, root), [item for item in items if not (root / item.path).exists()], workers)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
    writer.writerows((CLASSES[item.label], item.name, item.start, item.end, split, 0) for item in items)
    write_whole(root / f"{split}.csv", table.getvalue().encode())


@dataclass(frozen=True)
class Item:
    """One video of a split: what happens in it and what it is called."""

    split: str
    label: int  # index into CLASSES
    headings: tuple[
        int | None, int | None
    ]  # early and late, in quarter turns from "to the right"; None: nobody travels
    name: str  # eleven letters, as YouTube's
    start: int  # seconds into the video that it claims to be cut from
    seed: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + FRAMES // FPS

    @property
    def path(self) -> str:
        """Relative to the data set's root."""
        folder = CLASSES[self.label].replace(" ", "_")
        return f"{self.split}/{folder}/{self.name}_{self.start:06d}_{self.end:06d}.mp4"


def describe(seed: int, split: str, index: int) -> Item:
    """Video ``index`` of a split. Labels, headings and times take turns: any 32 neighbours are balanced."""
    key = (seed, ("train", "val").index(split), index)
    rng = np.random.default_rng((*key, 0))
    name = "".join(_ID_LETTERS[i] for i in rng.integers(len(_ID_LETTERS), size=11))
    label, turn = index % len(CLASSES), index // len(CLASSES) % 4
    if (action := CLASSES[label]) in TURNS:
        headings = (turn, (turn + TURNS[action]) % 4)
    else:
        headings = (HEADINGS[action], None) if turn % 2 else (None, HEADINGS[action])
    return Item(split, label, headings, name, int(rng.integers(300)), (*key, 1))


def _render_file(root: Path, item: Item) -> None:
    write_whole(root / item.path, encode(render_frames(item)))


def render_frames(item: Item) -> np.ndarray:
    """The pictures of one video, uint8 ``[T, H, W, 3]``."""
    rng = np.random.default_rng(item.seed)
    corner = int(rng.integers(4))
    frames = _background(rng)
    level = float(frames.mean())
    for place in (1, 3):
        _paint(rng, frames, _stay(rng, _CORNERS[(corner + place) % 4]), level)
    for place, onsets, heading in zip((0, 2), ONSETS, item.headings, strict=True):
        if heading is not None:
            way = _travel(rng, _CORNERS[(corner + place) % 4], heading)
            onset = int(rng.integers(onsets.start, onsets.stop))
            _paint(rng, frames[onset : onset + len(way)], way, level)
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A soft random colour field whose brightness drifts, float32 ``[T, H, W, 3]``."""
    coarse = rng.uniform(-30, 30, (5, 5, 3)) + rng.uniform(30, 110, 3)
    at = np.linspace(0, 4, SIZE)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(5)), 0, 1)  # bilinear: [SIZE, 5]
    field = np.einsum("hi,wj,ijc->hwc", weights, weights, coarse) + rng.normal(0, 3, (SIZE, SIZE, 1))
    drift = rng.uniform(-12, 12) * np.linspace(-1, 1, FRAMES)
    return (field[None] + drift[:, None, None, None]).astype(np.float32)


def _travel(rng: np.random.Generator, corner: tuple[int, int], heading: int) -> np.ndarray:
    """Where a traveller is in the frames that it is there at all, ``[PRESENCE, 2]`` as x, y in pixels.

    It comes, rests for a frame, is eight frames on its way, rests and is gone: were it to stay, its place alone would
    still tell its way when the other sprite sets out.
    """
    along = rng.uniform(24, 30) * (np.clip(np.arange(PRESENCE) - 1, 0, 8) / 8 - 0.5)
    angle = heading * math.pi / 2
    direction = np.array([math.cos(angle), -math.sin(angle)])  # y points down on screen
    return corner + rng.uniform(-2, 2, 2) + along[:, None] * direction


def _stay(rng: np.random.Generator, corner: tuple[int, int]) -> np.ndarray:
    """Where a bystander is: it trembles about its place and never gets anywhere."""
    return corner + rng.uniform(-6, 6, 2) + rng.choice([0.0, 0.5, 1.0]) * rng.standard_normal((FRAMES, 2))


def _paint(rng: np.random.Generator, frames: np.ndarray, way: np.ndarray, level: float) -> None:
    """Paint one sprite of random shape, size, colours and stripes along its ``way`` onto ``frames``, in place."""
    radius = rng.uniform(7, 11)
    light = level + rng.uniform(80, 140) + rng.uniform(-30, 30, 3)  # lighter than the background: it can be seen
    dark = light + rng.uniform(-50, 30, 3)
    tilt, pitch, phase = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 1.2), rng.uniform(0, 2 * math.pi)
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    way = way.astype(np.float32)
    left, top = np.floor(way.min(0) - 1.5 * radius).astype(int).clip(0)  # the window that the sprite ever touches
    right, bottom = np.ceil(way.max(0) + 1.5 * radius).astype(int).clip(max=SIZE)
    window = frames[:, top:bottom, left:right]
    x = (np.arange(left, right, dtype=np.float32) - way[:, :1])[:, None, :]  # [T, 1, W], relative to the sprite
    y = (np.arange(top, bottom, dtype=np.float32) - way[:, 1:])[:, :, None]  # [T, H, 1]
    cover = np.clip(0.5 - shape(x, y, radius), 0, 1)[..., None]  # distance to the edge in pixels -> smooth edge
    stripes = 0.5 + 0.5 * np.sin(pitch * (math.cos(tilt) * x + math.sin(tilt) * y) + phase)[..., None]
    window += cover * (dark.astype(np.float32) + stripes * (light - dark).astype(np.float32) - window)


# Signed distances (about, in pixels; negative inside) to the outline of each shape.
_SHAPES = (
    lambda x, y, r: np.hypot(x, y) - r,
    lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) - 0.85 * r,
    lambda x, y, r: 0.7 * (np.abs(x) + np.abs(y) - 1.25 * r),
    lambda x, y, r: np.abs(np.hypot(x, y) - 0.7 * r) - 0.35 * r,
    lambda x, y, r: np.minimum(
        np.maximum(np.abs(x) - r, np.abs(y) - 0.4 * r), np.maximum(np.abs(y) - r, np.abs(x) - 0.4 * r)
    ),
)


# One thread, as frame threads change the bits; no macroblock tree, whose decisions vary from call to call.
_ENCODER = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "mbtree=0"}


def encode(frames: np.ndarray, fps: int = FPS) -> bytes:
    """An mp4 file with one H.264 stream (4:2:0, as the web has it) from uint8 RGB ``[T, H, W, 3]`` with even sides."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for packet in _packets(stream, frames):
            container.mux(packet)
    return file.getvalue()


def _packets(stream: av.VideoStream, frames: np.ndarray) -> Iterator[av.Packet]:
    for picture in frames:
        yield from stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    yield from stream.encode()
