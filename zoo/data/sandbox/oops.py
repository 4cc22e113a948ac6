"""The embedded data of goals and failures: small films of mishaps, laid out and annotated like the Oops! release.

    oops_video/{train,val}/NAME.mp4
    annotations/{train,val}.txt                        every film's name; of train, half have no annotation
    annotations/{train,val}_filtered.txt, filtered_vids.txt       without those in which most saw no failure
    annotations/transition_times.json                  three annotators' seconds (-1: saw none)
    annotations/heldout_transition_times.json          a fourth one's
    svos/{train,val}.json, vocab.json, corrections.json           goals in sentences and in subject-verb-object triples

In the films (see `zoo.data.sandbox.mishaps`) somebody stacks, throws, carries or jumps, again and again; once it goes
wrong. Before and after are drawn from one random process, so that one second of a film does not tell on which side of
the mishap it lies, and the films' order does. Unlike the release's, all films have one size and one frame rate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from zoo.data.sandbox.goals import CORRECTIONS, VOCABULARY, annotate_goals
from zoo.data.sandbox.kinetics import encode
from zoo.data.sandbox.plots import FPS, Plot, plot
from zoo.data.sandbox.stage import HEIGHT, WIDTH
from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole

TRAIN, VAL = 480, 120
RECIPE = 1  # raised whenever the rendered pixels change
JITTER = 0.15  # seconds that an annotator is off at most

DESCRIPTION = (
    f"Synthetic videos rendered by zoo.data.sandbox, no recordings of people: {HEIGHT}x{WIDTH} pixels, {FPS} frames a "
    "second, 8 to 13 seconds, H.264. A figure stacks, throws, carries or jumps; once it goes wrong (the tower topples, "
    "the throw misses, the thing is dropped, the figure trips), and it tries again. Attempts before and after are "
    "alike: one second alone does not tell whether the mishap has happened yet. Scores compare models that were "
    "trained on these videos and say nothing about real ones."
)


def render_oops(root: str | Path, seed: int = 0, train: int = TRAIN, val: int = VAL, workers: int = 1) -> Path:
    """Render what is not there yet of a sandbox data set in the layout of Oops!, and return its root.

    Files appear whole or not at all; a split counts as complete only when ``sandbox.json`` says so, which is written
    last. An interrupted render goes on where it stopped.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and sizes.
        seed: what every random choice follows from.
        train: videos in the training split; 0 leaves the split alone. Of every 20, 10 are annotated.
        val: the same for the validation split, where all are.
        workers: processes that render; more than 1 want the calling script's ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    about = {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}
    return render_splits(root, about, {"train": train, "val": val}, partial(_render_split, seed, workers))


def describe(seed: int, split: str, index: int) -> Plot:
    """What truly happens in video ``index`` of a split: when, who, what; see `zoo.data.sandbox.plots.Plot`."""
    return plot(seed, split, index)


def video_path(root: Path, item: Plot) -> Path:
    """Where a video lies."""
    return root / "oops_video" / item.split / f"{item.name}.mp4"


def _render_split(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    items = [describe(seed, split, index) for index in range(count)]
    each(partial(_render_file, root), [item for item in items if not video_path(root, item).exists()], workers)
    annotations = root / "annotations"
    times = {item.name: annotate_times(item) for item in items if item.annotated}
    passed = [item.name for item in items if item.name not in times or times[item.name]["n_notfound"] < 2]
    goals = {_mojibake(item.name): annotate_goals(item) for item in items if item.annotated}
    fourth = {item.name: annotate_times(item, 1) for item in items if item.annotated and item.name in set(passed)}
    _write_lines(annotations / f"{split}_filtered.txt", passed)
    _write_json(root / "svos" / f"{split}.json", goals)
    _write_json(root / "svos" / "vocab.json", VOCABULARY)
    _write_json(root / "svos" / "corrections.json", CORRECTIONS)
    # What both splits share: of the other one's, that which its list names.
    other = "val" if split == "train" else "train"
    known = set(_read_lines(annotations / f"{other}.txt"))
    _merge(annotations / "transition_times.json", times, known)
    _merge(annotations / "heldout_transition_times.json", fourth, known)
    union = {*passed, *(name for name in _read_lines(annotations / f"{other}_filtered.txt") if name in known)}
    _write_lines(annotations / "filtered_vids.txt", sorted(union))
    _write_lines(annotations / f"{split}.txt", [item.name for item in items])


def _render_file(root: Path, item: Plot) -> None:
    write_whole(video_path(root, item), encode(item.render(), FPS))


def annotate_times(item: Plot, heldout: int = 0) -> dict[str, object]:
    """What annotators say of when it goes wrong, with the fields of the release; ``heldout=1`` is the fourth one alone.

    Each is off by up to `JITTER` seconds; now and then one of the three sees nothing. Where nothing goes wrong, two of
    three say so, and the third is mistaken.
    """
    rng = np.random.default_rng((*item.seed, 2, heldout))
    count = 1 if heldout else 3
    moment = rng.uniform(0.2, 0.8) * item.duration if item.moment is None else item.moment
    t = [round(float(moment + np.clip(rng.normal(0, 0.07), -JITTER, JITTER)), 3) for _ in range(count)]
    if item.moment is None:
        t = [t[0], -1, -1] if count == 3 else [-1]
    elif count == 3 and rng.random() < 0.1:
        t[int(rng.integers(3))] = -1
    relative = [value / item.duration for value in t]
    return {
        "t": t,
        "rel_t": relative,
        "len": item.duration,
        "stdev": float(np.std(t)),
        "rel_stdev": float(np.std(relative)),
        "n_notfound": t.count(-1),
    }


def _mojibake(name: str) -> str:
    """A name as the release's goal annotation spells it: its UTF-8 bytes read as cp1252."""
    return name.encode().decode("cp1252")


def _merge(path: Path, ours: dict[str, object], known: set[str]) -> None:
    theirs = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept = {name: value for name, value in theirs.items() if name in known}
    _write_json(path, dict(sorted({**kept, **ours}.items())))


def _write_json(path: Path, content: object) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False).encode())


def _read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
