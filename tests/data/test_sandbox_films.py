"""The rendered how-to films: steps in their order, everything else in any, laid out as HowTo100M and COIN are."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zoo.data.coin import read_coin
from zoo.data.narration import read_captions
from zoo.data.sandbox.film_datamodules import SandboxHowTo100MFilms
from zoo.data.sandbox.film_plots import FPS, TASKS, Film, Shot, plot, words
from zoo.data.sandbox.film_shots import shoot
from zoo.data.sandbox.howto_films import describe, film, render_howto_films, video_path
from zoo.data.video import VideoReader
from zoo.errors import DataError
from zoo.spec import VideoSpec

SPEC = VideoSpec(
    frames=8, stride=1, fps=5, crop=64, short_side=(64, 64), test_crop=64, test_short_side=64, clips=1, crops=1,
    flip=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return render_howto_films(tmp_path_factory.mktemp("films") / "root", seed=5, train=2, training=1, testing=1)


@pytest.fixture(scope="module")
def films():
    return [plot(0, "train", index) for index in range(200)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# What happens


def test_steps_are_in_order_and_nothing_else_is(films):
    places: dict[str, list[float]] = {}
    for item in films:
        assert 29 <= item.duration <= 65
        assert all(one.stop == following.start for one, following in itertools.pairwise(item.shots))
        numbers = [step for step, *_ in item.steps]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(len(item.task.steps)))
        for number in set(numbers):  # what is cut in two goes on where it was
            parts = [shot.done for shot in item.shots if shot.step == number and shot.kind == "step"]
            assert (parts[0][0], parts[-1][1]) == (0, 1)
            assert all(one[1] == following[0] for one, following in itertools.pairwise(parts))
        # The middle of a film, all that learning from order sees.
        for shot in item.shots:
            at = (shot.start + shot.stop) / 2 / item.frames
            if 0.3 < at < 0.7 and shot.kind != "step":
                places.setdefault(shot.kind, []).append(at)
    assert set(places) == {"host", "outside", "room", "untouched", "finished"}
    for kind, at in places.items():
        assert len(at) > 30
        assert abs(np.mean(at) - 0.5) < 0.04, kind
    share = np.mean([sum(end - start for _, start, end in item.steps) / item.duration for item in films])
    assert 0.36 < share < 0.5
    assert {item.task.number for item in films} == {task.number for task in TASKS}
    verbs = Counter(step.verb for task in TASKS for step in task.steps)
    assert verbs["pour"] > 4  # shared by tasks


def test_narration_goes_along_with_the_steps_roughly(films):
    named = heard = apart = 0
    for item in films:
        assert list(item.captions) == sorted(item.captions)
        assert all(0 <= start < end <= item.duration for start, end, _ in item.captions)
        for number, start, end in item.steps:
            thing = item.task.steps[number].thing
            about = [begin for begin, _, text in item.captions if thing in text.split()]
            near = [begin for begin in about if start - 2 < begin < end + 2]
            named, heard, apart = named + 1, heard + bool(near), apart + (len(about) > len(near))
    assert 0.7 < heard / named < 0.97
    assert apart / named > 0.1
    said = {word for item in films for *_, text in item.captions for word in text.split()}
    assert said <= set(words())
    assert len(words()) < 128  # the tiny network's table


def test_names_are_unlike(films):
    names = [plot(seed, split, index).name for seed in (0, 1) for split in ("train", "testing") for index in range(99)]
    assert len(set(names)) == len(names)
    assert all(len(name) == 11 for name in names)
    assert describe(0, "train", 3) == films[3] != describe(1, "train", 3)


# What is drawn


def acted(task, **shot) -> np.ndarray:
    """One shot alone, float ``[T, 64, 64, 3]``."""
    item = Film((0, 0, 0), "aaaaaaaaaaa", task, 1, (Shot(start=0, stop=24, **shot),), ())
    return shoot(item).astype(float)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_step_changes_the_work_for_good(task):
    """What stands there after it is not what stood there before, and no hand hides it."""
    stages = [
        acted(dataclasses.replace(task, steps=task.steps[:number]), kind="finished")[12]
        for number in range(len(task.steps) + 1)
    ]
    for step, before, after in zip(task.steps, stages[:-1], stages[1:], strict=True):
        assert (np.abs(after - before).max(-1) > 20).sum() > 30, step.label


def test_what_is_no_close_up_tells_nothing_of_the_work():
    """Bit for bit: another task, further on, and the host, the house, the room and the writing stay as they are."""
    for kind in ("title", "host", "outside", "room", "credits"):
        assert np.array_equal(acted(TASKS[0], kind=kind), acted(TASKS[5], kind=kind))


def test_hands_move_and_what_stands_there_does_not():
    still = acted(TASKS[2], kind="finished")
    moved = acted(TASKS[2], kind="step", step=1, done=(0.3, 0.7))
    # Of what stands there a frame is another one shifted by a pixel or two; of what is done it is not.
    for frames, low, high in ((still, 0, 4.2), (moved, 4.5, 99)):
        shifts = [
            np.abs(np.roll(frames[20], (dy, dx), (0, 1))[16:48, 16:48] - frames[4][16:48, 16:48]).mean()
            for dy in range(-2, 3)
            for dx in range(-13, 14)
        ]
        assert low < min(shifts) < high


# How it is laid out


def test_videos_decode_to_what_was_drawn(root):
    item = describe(5, "testing", 0)
    with VideoReader(video_path(root, item)) as video:
        decoded, info = video.read(range(0, video.frames, 7)), video.info
    drawn = film("testing", 0, seed=5)
    assert (info.fps, info.codec, info.frames) == (FPS, "h264", len(drawn))
    assert info.duration == pytest.approx(item.duration)
    assert np.abs(decoded.astype(int) - drawn[::7]).mean() < 6


def test_layout_of_both_releases(root):
    with (root / "HowTo100M_v1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    items = [describe(5, "train", index) for index in range(2)]
    assert [row["video_id"] for row in rows] == [item.name for item in items]
    assert rows[0].keys() == {"video_id", "category_1", "category_2", "rank", "task_id"}
    assert f"{rows[0]['task_id']},{items[0].task.title}" in (root / "task_ids.csv").read_text().splitlines()
    for item in items:
        said = read_captions(root / "captions" / f"{item.name}.csv")
        assert [(*times, text) for times, text in zip(said.times.tolist(), said.text, strict=True)] == [*item.captions]
    found = read_coin(root / "COIN.json")
    for split, subset in (("train", "training"), ("val", "testing")):
        assert not found[split].problems
        (video,) = found[split].videos
        item = describe(5, subset, 0)
        assert (video.name, video.duration) == (item.name, pytest.approx(item.duration))
        assert len(video.intervals) == len(item.steps)
    entry = json.loads((root / "COIN.json").read_text())["database"][item.name]
    assert [part["segment"] for part in entry["annotation"]] == [[start, end] for _, start, end in item.steps]
    assert [part["label"] for part in entry["annotation"]] == [item.task.steps[step].label for step, *_ in item.steps]


def test_same_seed_same_bytes_and_an_interrupted_render_is_finished(root, tmp_path):
    whole = contents(root)
    place = tmp_path / "again"
    for name in [name for name in whole if name.endswith(".mp4")][1:]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(whole[name])
        caption = f"captions/{Path(name).stem}.csv"
        (place / caption).parent.mkdir(exist_ok=True)
        (place / caption).write_bytes(whole[caption])
    (place / "sandbox.json").write_text(json.dumps({**json.loads(whole["sandbox.json"]), "complete": {}}))
    render_howto_films(place, seed=5, train=0, training=0, testing=1)
    again = contents(render_howto_films(place, seed=5, train=2, training=1, testing=1))
    assert {**again, "sandbox.json": b""} == {**whole, "sandbox.json": b""}
    with pytest.raises(DataError, match="seed 5"):
        render_howto_films(root, seed=0)


def test_films_train_and_those_of_the_test_subset_are_held_out(root):
    data = SandboxHowTo100MFilms(root, SPEC, batch_size=2, num_workers=0)
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (2, 3, 8, 64, 64)
    assert [len(said) for said in batch["captions"]] == [4, 4]
    assert [record.name for record in data.records("val")] == [describe(5, "testing", 0).name]
    assert set(data.vocabulary()) <= set(words())
    assert data.check().ok
