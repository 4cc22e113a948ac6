"""The embedded data of activities: household videos, laid out and annotated like the Charades release.

    Charades/Charades_v1_train.csv, Charades_v1_test.csv      scripts, scenes, actions with their times
    Charades/Charades_v1_classes.txt, _objectclasses.txt, _verbclasses.txt, _mapping.txt
    Charades_v1_480/ID.mp4
    Charades_v1_flow/ID/ID-000001x.jpg, ID-000001y.jpg ...    where asked for: the exact motion, not an estimate

What happens in the videos, and what only their context tells, says `zoo.data.sandbox.activities`. As in the release
there are rows without actions and without a scene, actions that go on where the video ends, and two at once. Flow is
that of the same video shown 320 pixels wide, as the release's images are, and is kept small.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from zoo.data.flow_files import encode_flow, flow_paths
from zoo.data.sandbox.activities import CLASSES, FPS, OBJECTS, VERBS, Act, Plan, plan
from zoo.data.sandbox.activity_films import render
from zoo.data.sandbox.household import SIZE
from zoo.data.sandbox.kinetics import encode
from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole, writing

TRAIN, TEST = 1000, 120
RECIPE = 2  # raised whenever the rendered pixels change
WIDTH = 320  # pixels: how wide the video is that flow is measured on
MAPPING = tuple((OBJECTS.index(thing), VERBS.index(verb)) for thing, verb in CLASSES.values())

DESCRIPTION = (
    f"Synthetic videos rendered by zoo.data.sandbox, no recordings of people: {SIZE}x{SIZE} pixels, {FPS} frames a "
    f"second, 8 to 16 seconds, H.264. A figure does three to six things of {len(CLASSES)} kinds, as its hidden intent "
    "and their order have it. Three pairs of objects look alike; one frame does not tell them apart, the other "
    "activities of the video do. Scores compare models that were trained on these videos and say nothing about real "
    "ones."
)

_COLUMNS = (
    *("id", "subject", "scene", "quality", "relevance", "verified"),
    *("script", "objects", "descriptions", "actions", "length"),
)
_SAID = {"open": "opens", "close": "closes", "take": "takes", "put": "puts down", "hold": "holds", "laugh": "laughs"}


def render_charades(
    root: str | Path, seed: int = 0, train: int = TRAIN, test: int = TEST, *, flow: bool = False, workers: int = 1
) -> Path:
    """Render what is not there yet of a sandbox data set in the layout of Charades, and return its root.

    Files appear whole or not at all; a split counts as complete only when ``sandbox.json`` says so, which is written
    last. An interrupted render goes on where it stopped.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and sizes.
        seed: what every random choice follows from.
        train: videos in the training split; 0 leaves the split alone.
        test: the same for the test split.
        flow: render the optical flow too: two small pictures a frame.
        workers: processes that render; more than 1 want the calling script's ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    about = {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}
    counts = {"train": train, "test": test}
    if flow:
        counts |= {f"{split} flow": count for split, count in counts.items()}
    return render_splits(root, about, counts, partial(_render_split, seed, workers))


def describe(seed: int, split: str, index: int) -> Plan:
    """What truly happens in video ``index`` of a split (train or test); see `zoo.data.sandbox.activities.Plan`."""
    return plan(seed, split, index)


def scenario(split: str, index: int, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, float, float]], float]:
    """A video without its file.

    Returns:
        frames uint8 ``[T, 64, 64, 3]``, the actions as (class, start, end), and the length in seconds, as annotated.
    """
    item = describe(seed, split, index)
    return render(item)[0], item.actions, round(item.length, 2)


def motion(split: str, index: int, seed: int = 0) -> np.ndarray:
    """The flow of a video without its files, as their bytes: x and y from each frame to the next, uint8 ``[T - 1, 64,
    64, 2]``."""
    return _encoded(describe(seed, split, index))


def video_path(root: Path, item: Plan) -> Path:
    """Where a video lies."""
    return root / "Charades_v1_480" / f"{item.name}.mp4"


def flow_folder(root: Path, item: Plan) -> Path:
    """Where its flow lies."""
    return root / "Charades_v1_flow" / item.name


def _render_split(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    split, _, flow = split.partition(" ")
    items = [describe(seed, split, index) for index in range(count)]
    if flow:
        each(partial(_render_flow, root), [item for item in items if not flow_folder(root, item).exists()], workers)
        return
    each(partial(_render_file, root), [item for item in items if not video_path(root, item).exists()], workers)
    folder = root / "Charades"
    _write_lines(folder / "Charades_v1_classes.txt", (f"c{n:03d} {name}" for n, name in enumerate(CLASSES)))
    _write_lines(folder / "Charades_v1_objectclasses.txt", (f"o{n:03d} {name}" for n, name in enumerate(OBJECTS)))
    _write_lines(folder / "Charades_v1_verbclasses.txt", (f"v{n:03d} {name}" for n, name in enumerate(VERBS)))
    _write_lines(
        folder / "Charades_v1_mapping.txt",
        (f"c{n:03d} o{thing:03d} v{verb:03d}" for n, (thing, verb) in enumerate(MAPPING)),
    )
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(map(annotate, items))
    write_whole(folder / f"Charades_v1_{split}.csv", table.getvalue().encode())


def _render_file(root: Path, item: Plan) -> None:
    write_whole(video_path(root, item), encode(render(item)[0], FPS))


def _render_flow(root: Path, item: Plan) -> None:
    folder = flow_folder(root, item)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A folder that is there is complete: it gets its name last.
        half = Path(mkdtemp(prefix=f".{item.name}.", dir=folder.parent))
        try:
            for number, field in enumerate(_encoded(item), 1):
                for axis, path in enumerate(flow_paths(folder, number)):
                    Image.fromarray(field[..., axis]).save(half / path.name, quality=95)
            half.chmod(0o755)
            half.rename(folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)


def _encoded(item: Plan) -> np.ndarray:
    return encode_flow(render(item, flow=True)[1] * (WIDTH / SIZE))


def annotate(item: Plan) -> tuple[str, ...]:
    """A row of the official csv. What people wrote tells what happens, and not why."""
    rng = np.random.default_rng((*item.seed, 4))
    acts = item.acts
    said = [_said(act) for act in acts] or ["does nothing in particular"]
    script = f"A person in the {item.room.lower()} {', then '.join(said)}."
    if rng.random() < 0.15:
        script += ' "That will do," the person says.'
    subject = "".join(("ABCDEFGH"[int(rng.integers(8))], str(rng.integers(10)), "XYZ"[int(rng.integers(3))], "1"))
    scene = "" if rng.random() < 0.08 else item.room
    things = dict.fromkeys(_word(act.thing) for act in acts if act.thing != "None")
    return (
        *(
            item.name,
            subject,
            scene,
            str(rng.integers(4, 8)),
            str(rng.integers(5, 8)),
            ("No", "Yes")[rng.random() < 0.8],
        ),
        *(script, ";".join(things), f"Someone {said[0]}, {said[-1]}.;A person {said[0]}."),
        *(";".join(f"c{label:03d} {start:.2f} {end:.2f}" for label, start, end in item.actions), f"{item.length:.2f}"),
    )


def _said(act: Act) -> str:
    return _SAID[act.verb] if act.thing == "None" else f"{_SAID[act.verb]} the {_word(act.thing)}"


def _word(thing: str) -> str:
    return thing.partition("/")[0]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
