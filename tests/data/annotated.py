"""Small copies of COIN and CrossTask in the official layouts, whose features show their own numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.spec import FeatureSpec, VideoSpec

DIM = 4


def spec(samples: str = "videos", *, dim: int = DIM, clips: int = 3, pixels: bool = True, **options: Any) -> VideoSpec:
    """What a small model wants."""
    return VideoSpec(features=FeatureSpec(dim=dim, samples=samples, clips=clips, **options), pixels=pixels)


def rows(video: int, count: int, dim: int = DIM) -> np.ndarray:
    """Rows that show which they are: row k of video v has 100 v + k in column 0, and c more in column c."""
    return (100 * video + np.arange(count)[:, None] + np.arange(dim)).astype(np.float16)


def write_rows(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def entry(subset: str, duration: Any, *segments: tuple[Any, str, Any], task: str = "MakeTea", **more: Any) -> dict:
    """A video of COIN.json: subset, seconds, and (step's id, its name, [start, end]) of each annotation."""
    return {
        "duration": duration, "class": task, "recipe_type": 7, "subset": subset, "start": 1.0, "end": 9.0,
        "video_url": "https://www.youtube.com/embed/x",
        "annotation": [{"id": number, "label": label, "segment": segment} for number, label, segment in segments],
        **more,
    }  # fmt: skip


#: Ids begin with anything that YouTube has; what is annotated stands in any order, and overlaps.
VIDEOS = {
    "-aaaaaaaaa1": entry("training", 12.0, ("41", "boil water", [2.0, 4.0]), ("105", "add tea", [6.5, 8.0])),
    "_bbbbbbbbb2": entry(
        "testing", 10.0, ("105", "add tea", [5.0, 7.5]), ("9", "fill the pot", [1.5, 3.0]), ("41", "boil water", [2, 6])
    ),
    "ccccccccc3-": entry("training", 6.0, ("7", "lift the car", [0.5, 5.5]), task="JackUpCar"),
    "ddddddddd4_": entry("testing", 8.0, task="JackUpCar"),
}
ROWS = {"-aaaaaaaaa1": 12, "_bbbbbbbbb2": 10, "ccccccccc3-": 6, "ddddddddd4_": 8}


def coin(root: Path, videos: Mapping[str, Any] = VIDEOS, *, features: bool = True) -> Path:
    """COIN with these videos, and a row of features a second of those of `ROWS`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "COIN.json").write_text(json.dumps({"database": videos}))
    for number, (video, count) in enumerate(ROWS.items()) if features else ():
        write_rows(root / "features" / f"{video}.npy", rows(number, count))
    return root


LATTE, OTHER, RELATED = "53193", "9001", "9002"
TASKS = {LATTE: ("Make a Latte", ("add coffee", "steam milk", "pour milk")), OTHER: ("Fold a Shirt", ("fold", "iron"))}


def block(name: str, title: str, steps: Sequence[str]) -> str:
    """A task of tasks_primary.txt."""
    url = f"http://www.example.org/{title.replace(' ', '-')}"
    return f"{name}\n{title}\n{url}\n{len(steps)}\n{','.join(steps)}\n\n"


def crosstask(
    root: Path, annotations: Mapping[tuple[str, str], str], *, listed: Sequence[tuple[str, str]] = (), seconds: int = 20
) -> Path:
    """CrossTask with these annotations, by task and video; videos that are ``listed`` too have none.

    Every video has a row of features a second.
    """
    release = root / "crosstask_release"
    (release / "annotations").mkdir(parents=True, exist_ok=True)
    (release / "tasks_primary.txt").write_text("".join(block(name, *task) for name, task in TASKS.items()))
    (release / "tasks_related.txt").write_text(block(RELATED, "Make a Latte at Home", ("grind", "pour")))
    pairs = [*annotations, *listed]
    lines = [f"{task},{video},https://www.youtube.com/watch?v={video}\n" for task, video in pairs]
    (release / "videos.csv").write_text("".join(lines))
    (release / "videos_val.csv").write_text("")
    for (task, video), text in annotations.items():
        (release / "annotations" / f"{task}_{video}.csv").write_text(text)
    for number, video in enumerate(dict.fromkeys(video for _, video in pairs)):
        write_rows(root / "crosstask_features" / f"{video}.npy", rows(number, seconds))
    return root
