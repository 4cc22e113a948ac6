"""The embedded how-to films: laid out as HowTo100M's videos are, with narration, and annotated as COIN is.

    videos/ID.mp4                        all films
    captions/ID.csv                      start,end,text: what is said, seconds
    HowTo100M_v1.csv                     video_id,category_1,category_2,rank,task_id of the films to train on
    task_ids.csv                         number and name of every task
    COIN.json                            the steps of other films, with their times: subsets training and testing

What happens in the films says `zoo.data.sandbox.film_plots`; `film_shots` draws it. The films of COIN.json are not in
HowTo100M_v1.csv, as those of COIN are taken out of HowTo100M by who tests on it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.sandbox.film_plots import FPS, LETTERS, TASKS, Film, plot
from zoo.data.sandbox.film_shots import shoot
from zoo.data.sandbox.household import SIZE
from zoo.data.sandbox.kinetics import encode
from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole

TRAIN, COIN_TRAINING, COIN_TESTING = 320, 60, 80
RECIPE = 1  # raised whenever the rendered pixels change

DESCRIPTION = (
    f"Synthetic how-to films rendered by zoo.data.sandbox, no recordings of people: {SIZE}x{SIZE} pixels, {FPS} frames "
    f"a second, about half a minute to a minute, H.264. Hands do the four to six ordered steps of one of {len(TASKS)} "
    "tasks in close-ups; between them a host talks, the camera looks about, and things stand there untouched or "
    "finished. Captions tell what a host says, steps among it. Scores compare models that were trained on these films "
    "and say nothing about real ones."
)


def render_howto_films(
    root: str | Path,
    seed: int = 0,
    train: int = TRAIN,
    training: int = COIN_TRAINING,
    testing: int = COIN_TESTING,
    *,
    workers: int = 1,
) -> Path:
    """Render what is not there yet of the films, and return their root.

    Files appear whole or not at all; a split counts as complete only when ``sandbox.json`` says so, which is written
    last. An interrupted render goes on where it stopped.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and sizes.
        seed: what every random choice follows from.
        train: films to learn from by narration and order alone; 0 leaves the split alone.
        training: films of COIN's training subset, the same.
        testing: films of COIN's test subset, the same.
        workers: processes that render; more than 1 want the calling script's ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    about = {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}
    counts = {"train": train, "training": training, "testing": testing}
    return render_splits(root, about, counts, partial(_render_split, seed, workers))


def describe(seed: int, split: str, index: int) -> Film:
    """What truly happens in film ``index`` of a split (train, training or testing)."""
    return plot(seed, split, index)


def film(split: str, index: int, seed: int = 0) -> np.ndarray:
    """A film without its file, uint8 ``[T, 64, 64, 3]``."""
    return shoot(plot(seed, split, index))


def video_path(root: Path, item: Film) -> Path:
    """Where a film lies."""
    return root / "videos" / f"{item.name}.mp4"


def annotation(item: Film, subset: str) -> dict[str, Any]:
    """A film's entry in COIN.json."""
    numbers = _step_numbers()
    steps = [
        {"id": str(numbers[item.task.name] + step), "label": item.task.steps[step].label, "segment": [start, end]}
        for step, start, end in item.steps
    ]
    return {
        "duration": item.duration,
        "class": item.task.name,
        "recipe_type": TASKS.index(item.task),
        "subset": subset,
        "start": steps[0]["segment"][0],
        "end": steps[-1]["segment"][1],
        "annotation": steps,
    }


def _step_numbers() -> dict[str, int]:
    """The number of each task's first step; they run through all tasks."""
    firsts = np.cumsum([1, *(len(task.steps) for task in TASKS)]).tolist()
    return {task.name: first for task, first in zip(TASKS, firsts, strict=False)}


def _render_split(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    items = [plot(seed, split, index) for index in range(count)]
    each(partial(_render_file, root), [item for item in items if not video_path(root, item).exists()], workers)
    _write_table(root / "task_ids.csv", [(task.number, task.title) for task in TASKS])
    if split == "train":
        heading = ("video_id", "category_1", "category_2", "rank", "task_id")
        rows = [(item.name, *item.task.category, item.rank, item.task.number) for item in items]
        _write_table(root / "HowTo100M_v1.csv", [heading, *rows])
        return
    place = root / "COIN.json"
    database = json.loads(place.read_text())["database"] if place.exists() else {}
    database |= {item.name: annotation(item, split) for item in items}
    # By subset and number, whichever of the two was rendered first.
    order = sorted(database, key=lambda name: [LETTERS.index(letter) for letter in name[-4:]])
    write_whole(place, json.dumps({"database": {name: database[name] for name in order}}, indent=1).encode())


def _render_file(root: Path, item: Film) -> None:
    # First what is said: where a film is, its captions are.
    lines = [(f"{start:.2f}", f"{end:.2f}", text) for start, end, text in item.captions]
    _write_table(root / "captions" / f"{item.name}.csv", [("start", "end", "text"), *lines])
    write_whole(video_path(root, item), encode(shoot(item), FPS))


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_whole(path, table.getvalue().encode())
