"""A small Oops! in the official layout, whose videos show their own frame numbers, under names as odd as the real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.data.render import render
from tests.data.trees import write_list
from zoo.spec import TrajectorySpec, VideoSpec

#: Four frames a second, clips of four: a video of ten frames a second has one candidate every half second.
SPEC = VideoSpec(
    frames=4, stride=1, fps=4, crop=24, short_side=(24, 36), test_crop=24, test_short_side=24, clips=1, crops=1,
    flip=False, trajectory=TrajectorySpec(clips=(2, 3), step=2, stride=2, starts=3, cap=None),
)  # fmt: skip
RATE = 10

TRAIN = (
    'Don\'t! - "Fails" of the Week (May 2018) _ FailArmy12',
    "100% #1 & more | Snow vs. Surf.mp4.3",
    "Best Fails - Piñata Party0",
    "短い動画 5",
)
VAL = ("Snow vs. Surf7", " leading and trailing 8 ", "It's [over]; right? no9")


def entry(times: list[float], length: float) -> dict[str, Any]:
    """What transition_times.json says of a video."""
    return {
        "t": times,
        "rel_t": [time / length for time in times],
        "len": length,
        "stdev": 0.0,
        "rel_stdev": 0.0,
        "n_notfound": times.count(-1),
    }


def said(goals: list[list[str]], wrongs: list[list[str]]) -> dict[str, Any]:
    """What an annotator says of a video in svos/*.json."""
    return {"goal": "Somebody tries.", "wentwrong": "It fails.", "kgoalsvos": goals, "kwentwrongsvos": wrongs}


def mojibake(name: str) -> str:
    """A name as the goal annotations store it; the five bytes that Windows-1252 has no letter for pass as they are."""
    letters = [bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in name.encode()]
    return "".join(letters)


def oops(
    root: Path,
    annotations: Mapping[str, Any],
    lists: Mapping[str, tuple[str, ...]] | None = None,
    frames: Mapping[str, int] | None = None,
    *,
    videos: bool = True,
) -> Path:
    """A root with these annotations, lists (`TRAIN` and `VAL`), and a video of each name.

    Args:
        root: the folder to make.
        annotations: of transition_times.json.
        lists: names by split.
        frames: of each video, `RATE` a second; 60 where nothing is said.
        videos: whether there are any.
    """
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "transition_times.json").write_text(json.dumps(annotations))
    rendered: dict[int, Path] = {}
    for split, names in (lists or {"train": TRAIN, "val": VAL}).items():
        write_list(root / "annotations" / f"{split}.txt", names)
        for name in names if videos else ():
            count = (frames or {}).get(name, 60)
            place = root / "oops_video" / split / f"{name}.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            if count in rendered:
                shutil.copy(rendered[count], place)
            else:
                rendered[count] = render(place, frames=count, fps=RATE, height=48, width=48)
    return root


def annotated(times: Mapping[str, list[float]], length: float = 6.0) -> dict[str, Any]:
    """Annotations of videos that are all of one length."""
    return {name: entry(seconds, length) for name, seconds in times.items()}


def usual() -> dict[str, Any]:
    """Annotations of all of `TRAIN` and `VAL`: each fails at half of its length."""
    return annotated({name: [3.0, 3.1, -1] for name in (*TRAIN, *VAL)})


def goals(root: Path, splits: Mapping[str, Mapping[str, Any]], words: list[str], corrections: Any = None) -> Path:
    """Goal annotations in a folder, by the names that the release would give the videos."""
    root.mkdir(parents=True)
    for split, entries in splits.items():
        (root / f"{split}.json").write_text(json.dumps({mojibake(name): value for name, value in entries.items()}))
    (root / "vocab.json").write_text(json.dumps(words))
    if corrections is not None:
        (root / "corrections.json").write_text(json.dumps(corrections))
    return root
