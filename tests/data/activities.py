"""A small Charades in the official layout, whose videos, images and flow show their own numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.data.render import render
from tests.data.trees import picture
from zoo.spec import MomentSpec, VideoSpec

#: Small squares of the whole picture, whose numbers stay legible: no colours change and nothing is cut off or mirrored.
PLAIN = MomentSpec(points=4, share=1.0, jitter=0.0, lighting=0.0, area=(1.0, 1.0))
SPEC = VideoSpec(
    fps=24, crop=24, short_side=(24, 24), test_crop=24, test_short_side=24, clips=1, crops=1, flip=False, moments=PLAIN,
)  # fmt: skip

FIELDS = (
    "id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions", "actions",
    "length",
)  # fmt: skip
#: Name to (actions, length, scene): what `charades` writes, of 48, 36 and 24 images.
TRAIN = {
    "AB12C": ("c008 0.00 1.00;c106 0.50 2.75", 2.0, "Kitchen"),
    "Q9ZZZ": ("", 1.5, "Bedroom"),
    "DE34F": ("c156 0.20 0.90", 1.0, ""),
}
VAL = {
    "00T1A": ("c011 0.10 1.20;c059 1.00 2.00", 2.0, "Living room"),
    "ZZZ00": ("c000 0.00 0.80", 1.0, "Other"),
    "7UPGT": ("", 1.5, "Home Office / Study (A room in a house used for work)"),
}
RATE = 12  # frames a second of the videos: two images show each


def row(name: str, actions: str = "", length: float | str = 1.0, scene: str = "Kitchen") -> list[str]:
    """A row of a csv, whose text holds what text may hold."""
    script = 'A person opens a door, then says "so; what?"'
    return [
        name, "S1X2", scene, "6", "7", "Yes", script, "cup;door", "Someone, somewhere.", actions, str(length),
    ]  # fmt: skip


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = FIELDS) -> Path:
    """A csv as the release has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def write_json(path: Path, train: Mapping[str, Any] = TRAIN, val: Mapping[str, Any] = VAL) -> Path:
    """The same annotations in the public layout, without their scenes."""
    entries = {}
    for subset, videos in (("training", train), ("testing", val)):
        for name, (actions, length, _) in videos.items():
            parts = [part.split() for part in actions.split(";") if part]
            listed = [[int(label[1:]), float(start), float(end)] for label, start, end in parts]
            entries[name] = {"subset": subset, "duration": length, "actions": listed}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def charades(
    root: Path,
    train: Mapping[str, Any] = TRAIN,
    val: Mapping[str, Any] = VAL,
    *,
    lengths: Mapping[str, float] | None = None,
    videos: bool = False,
    images: bool = False,
    flow: bool = False,
) -> Path:
    """A root with these annotations.

    Args:
        root: where to.
        train: name to (actions, length, scene).
        val: the same.
        lengths: real lengths in seconds of those whose annotated ones are wrong.
        videos: render videos, of `RATE` frames a second; frame k shows the number k.
        images: write folders of images, 24 a second; image n shows the number n.
        flow: write folders of flow, one field fewer than images; that from image n on is grey n in x, 255 - n in y.
    """
    for name, entries in (("train", train), ("test", val)):
        write_csv(root / "Charades" / f"Charades_v1_{name}.csv", [row(k, *v) for k, v in entries.items()])
    for name, (_, length, _) in {**train, **val}.items():
        seconds = (lengths or {}).get(name, length)
        count = round(seconds * 24)
        if videos:
            (root / "Charades_v1_480").mkdir(exist_ok=True)
            render(root / "Charades_v1_480" / f"{name}.mp4", frames=round(seconds * RATE), fps=RATE)
        for number in range(1, count + 1) if images else ():
            picture(root / "Charades_v1_rgb" / name / f"{name}-{number:06d}.jpg", number)
        for number in range(1, count) if flow else ():
            for letter, grey in (("x", number), ("y", 255 - number)):
                path = root / "Charades_v1_flow" / name / f"{name}-{number:06d}{letter}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (64, 48), grey).save(path)
    return root
