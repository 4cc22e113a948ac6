"""The embedded how-to world: rows of features, laid out as HowTo100M, COIN and CrossTask are.

    HowTo100M_v1.csv                      video_id,category_1,category_2,rank,task_id
    task_ids.csv                          number and name of every task
    features/ID.npy                       float16 [seconds, 64]

    COIN.json                             subsets training and testing
    features/ID.npy

    crosstask_release/tasks_primary.txt, tasks_related.txt, videos.csv, videos_val.csv, annotations/TASK_ID.csv
    crosstask_constraints/TASK_ID.csv     when the host speaks of each step: about when it is done, or not at all
    crosstask_features/ID.npy

What happens in the videos says `zoo.data.sandbox.howto_plots`, what is seen of it `howto_features`. All three show the
same world, each in its own manner: HowTo100M has long videos with much talk, mostly of food, and nobody says what
happens when; COIN's are short. Half of the tasks of either of the other two are not among HowTo100M's, and no video is
in two of them. Rows are a second long, as CrossTask's own: step localisation counts seconds, and what a 0.2 s segment
loses at the ends of an interval is little beside what annotators disagree by.
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

from zoo.data.sandbox.howto_features import DIM, features
from zoo.data.sandbox.howto_plots import Plan, plan, taking_turns
from zoo.data.sandbox.howto_tasks import SUBCATEGORIES, tasks
from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole

HOWTO100M = 2000
COIN_TRAINING, COIN_TESTING = 320, 128
CROSSTASK = 288
RECIPE = 1  # raised whenever the rendered numbers change

DESCRIPTION = (
    f"Synthetic how-to videos by zoo.data.sandbox, as rows of {DIM} numbers a second that no network computed: sums of "
    "random directions for verbs, things, the state of the work, the host, titles and credits, with noise, rectified. "
    f"Tasks of {len(SUBCATEGORIES)} subcategories have three to nine ordered steps; between steps the host talks and "
    "things are shown in no order. Scores compare models that were trained on these rows and say nothing about real "
    "videos."
)

_FIRST_TASK = 1001  # number of the first task
_SPOKEN_OF = 0.85  # how often the host speaks of a step


def render_howto100m(root: str | Path, seed: int = 0, train: int = HOWTO100M, *, workers: int = 1) -> Path:
    """Render what is not there yet of the videos to learn from by order alone, and return their root.

    Files appear whole or not at all; a split counts as complete only when ``sandbox.json`` says so, which is written
    last. An interrupted render goes on where it stopped.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and sizes.
        seed: what every random choice follows from.
        train: videos.
        workers: processes that render; more than 1 want the calling script's ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    return render_splits(root, _about(seed), {"howto100m": train}, partial(_render_howto100m, seed, workers))


def render_coin(
    root: str | Path,
    seed: int = 0,
    training: int = COIN_TRAINING,
    testing: int = COIN_TESTING,
    *,
    workers: int = 1,
) -> Path:
    """The same of the videos in the layout of COIN; a subset of 0 is left alone."""
    counts = {"training": training, "testing": testing}
    return render_splits(root, _about(seed), counts, partial(_render_coin, seed, workers))


def render_crosstask(root: str | Path, seed: int = 0, annotated: int = CROSSTASK, *, workers: int = 1) -> Path:
    """The same of the videos in the layout of CrossTask; of each related task there is one more video."""
    return render_splits(root, _about(seed), {"crosstask": annotated}, partial(_render_crosstask, seed, workers))


def describe(seed: int, split: str, index: int) -> Plan:
    """What truly happens in video ``index`` of a split; see `zoo.data.sandbox.howto_plots.SPLITS`."""
    return plan(seed, split, index)


def scenario(split: str, index: int, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, float, float]], float]:
    """A video without its file.

    Returns:
        rows float16 ``[seconds, 64]``, the steps as (number in the task, start, end), and the length in seconds.
    """
    item = plan(seed, split, index)
    return features(item), item.actions, round(item.duration, 2)


def constraints(item: Plan) -> list[tuple[int, float, float]]:
    """When the host speaks of a step: its number in the task, start and end in seconds; about when it is done."""
    rng = np.random.default_rng((*item.seed, 4))
    said = []
    for step, start, end in item.actions:
        spoken, shift, length = rng.random(), rng.normal(-2, 4), rng.uniform(8, 20)
        if spoken < _SPOKEN_OF:
            middle = (start + end) / 2 + shift
            first, last = max(middle - length / 2, 0.0), min(middle + length / 2, item.duration)
            said.append((step, round(float(first), 2), round(float(last), 2)))
    return said


def _about(seed: int) -> dict[str, Any]:
    return {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}


def _render_howto100m(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    items = [plan(seed, split, index) for index in range(count)]
    _render_files(root / "features", items, workers)
    _write_table(root / "task_ids.csv", [(task.number + _FIRST_TASK, task.title) for task in tasks(seed)])
    heading = ("video_id", "category_1", "category_2", "rank", "task_id")
    rows = [
        (item.name, item.task.category, item.task.subcategory, item.index + 1, item.task.number + _FIRST_TASK)
        for item in items
    ]
    _write_table(root / "HowTo100M_v1.csv", [heading, *rows])


def _render_coin(seed: int, workers: int, root: Path, subset: str, count: int) -> None:
    items = [plan(seed, f"coin {subset}", index) for index in range(count)]
    _render_files(root / "features", items, workers)
    place = root / "COIN.json"
    database = json.loads(place.read_text())["database"] if place.exists() else {}
    database |= {item.name: _coin(item, subset) for item in items}
    # By name, whichever of the two was rendered first.
    write_whole(place, json.dumps({"database": dict(sorted(database.items()))}, indent=1).encode())


def _coin(item: Plan, subset: str) -> dict[str, Any]:
    """A video's entry in COIN.json."""
    # Steps are numbered through all tasks.
    first = 1 + sum(len(task.steps) for task in tasks(item.seed[0])[: item.task.number])
    annotation = [
        {"id": str(first + step), "segment": [start, end], "label": item.task.names[step]}
        for step, start, end in item.actions
    ]
    return {
        "recipe_type": item.task.number,
        "annotation": annotation,
        "subset": subset,
        "start": annotation[0]["segment"][0],
        "class": item.task.title.replace(" ", ""),
        "end": annotation[-1]["segment"][1],
        "duration": round(item.duration, 2),
    }


def _render_crosstask(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    items = [plan(seed, split, index) for index in range(count)]
    related = [plan(seed, f"{split} related", index) for index in range(len(SUBCATEGORIES))]
    _render_files(root / "crosstask_features", [*items, *related], workers)
    release = root / "crosstask_release"
    for item in items:
        _write_intervals(release / "annotations" / f"{_pair(item)}.csv", item.actions)
    for item in [*items, *related]:
        _write_intervals(root / "crosstask_constraints" / f"{_pair(item)}.csv", constraints(item))
    for kind, name in (("primary", split), ("related", f"{split} related")):
        blocks = (
            (task.number + _FIRST_TASK, task.title, "synthetic", len(task.steps), ",".join(task.names), "")
            for task in taking_turns(seed, name)
        )
        lines = "".join(f"{line}\n" for block in blocks for line in block)
        write_whole(release / f"tasks_{kind}.txt", lines.encode())
    _write_table(release / "videos.csv", map(_listed, [*items, *related]))
    # As many of every task, for tasks take turns.
    _write_table(release / "videos_val.csv", map(_listed, items[-(-count // 8) :][: count // 8]))


def _listed(item: Plan) -> tuple[Any, ...]:
    return item.task.number + _FIRST_TASK, item.name, "synthetic"


def _pair(item: Plan) -> str:
    return f"{item.task.number + _FIRST_TASK}_{item.name}"


def _write_intervals(path: Path, intervals: Iterable[tuple[int, float, float]]) -> None:
    _write_table(path, [(step + 1, f"{start:.2f}", f"{end:.2f}") for step, start, end in intervals])


def _render_files(folder: Path, items: Sequence[Plan], workers: int) -> None:
    each(partial(_render_file, folder), [item for item in items if not _file(folder, item).exists()], workers)


def _render_file(folder: Path, item: Plan) -> None:
    content = io.BytesIO()
    np.save(content, features(item), allow_pickle=False)
    write_whole(_file(folder, item), content.getvalue())


def _file(folder: Path, item: Plan) -> Path:
    return folder / f"{item.name}.npy"


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_whole(path, table.getvalue().encode())
