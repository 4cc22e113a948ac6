"""The sandbox's videos: reproducible, in the official layout, whole or absent, labelled by what really moves."""

from __future__ import annotations

import collections
import csv
import json
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from zoo.data import sandbox
from zoo.data.labels import class_names
from zoo.data.sandbox import CLASSES, FRAMES, HEADINGS, SIZE, TURNS, render_kinetics
from zoo.errors import DataError

VIDEOS = 32  # every pair of class and leading direction once


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return render_kinetics(tmp_path_factory.mktemp("sandbox"), seed=7, train=0, val=VIDEOS)


def contents(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_same_seed_same_bytes_whatever_the_workers(rendered, tmp_path):
    assert contents(render_kinetics(tmp_path, seed=7, train=0, val=VIDEOS, workers=1)) == contents(rendered)


def test_another_seed_is_another_set(rendered, tmp_path):
    other = contents(render_kinetics(tmp_path, seed=8, train=0, val=8, workers=1))
    videos = {name for name in other if name.endswith(".mp4")}
    assert len(videos) == 8
    assert not videos & set(contents(rendered))


def test_official_layout(rendered):
    table = rows(rendered / "val.csv")
    assert list(table[0]) == ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    listed = {
        f"val/{r['label'].replace(' ', '_')}/{r['youtube_id']}_{int(r['time_start']):06d}_{int(r['time_end']):06d}.mp4"
        for r in table
    }
    assert listed == {name for name in contents(rendered) if name.endswith(".mp4")}
    assert {len(r["youtube_id"]) for r in table} == {11}
    assert {r["split"] for r in table} == {"val"}
    assert collections.Counter(r["label"] for r in table) == dict.fromkeys(CLASSES, VIDEOS // len(CLASSES))
    assert list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == 8
    assert class_names("sandbox_kinetics") == CLASSES  # what names the bundled weights' outputs


def test_either_way_alone_says_nothing_about_the_relation():
    items = [sandbox.describe(0, "train", index) for index in range(96)]
    for label, name in enumerate(CLASSES):
        ways = [item.headings for item in items if item.label == label]
        assert len(ways) == 12
        if name in TURNS:
            for when in (0, 1):
                assert collections.Counter(way[when] for way in ways) == dict.fromkeys(range(4), 3)


def seen_heading(before: np.ndarray, after: np.ndarray) -> int | None:
    """Where the one thing went that is not where it was, in quarter turns from "right", from pictures [H, W, 3]."""
    change = after.astype(float).mean(-1) - before.astype(float).mean(-1)
    change -= np.median(change)  # the light drifts
    if change.max() < 40:
        return None
    y, x = np.mgrid[:SIZE, :SIZE]

    def centre(mass):
        mass = np.where(mass > 20, mass, 0)
        return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()

    step = centre(change) - centre(-change)  # sprites are lighter than what they cover
    return int(np.round(np.arctan2(-step[1], step[0]) / (np.pi / 2))) % 4


def test_labels_are_what_moves(tmp_path, monkeypatch):
    """Found in the decoded files: who travels early, who late, whereto, and the turn from one to the other."""
    # The simple eye of this test would see trembling bystanders; the travellers are as ever.
    monkeypatch.setattr(sandbox.kinetics, "_stay", lambda rng, corner: np.tile(np.array(corner, float), (FRAMES, 1)))
    render_kinetics(tmp_path, seed=3, train=VIDEOS, val=0, workers=1)
    for index in range(VIDEOS):
        item = sandbox.describe(3, "train", index)
        frames = decode(tmp_path / item.path)
        assert frames.shape == (FRAMES, SIZE, SIZE, 3)
        # Whenever a traveller came, it is there in both pictures of its time, and on its way between them.
        seen = seen_heading(frames[2], frames[10]), seen_heading(frames[29], frames[37])
        assert seen == item.headings
        if (name := CLASSES[item.label]) in TURNS:
            assert (seen[1] - seen[0]) % 4 == TURNS[name]
        else:
            assert [way for way in seen if way is not None] == [HEADINGS[name]]


def test_killed_render_is_finished_later(rendered, tmp_path):
    script = (
        f"from zoo.data.sandbox import render_kinetics; render_kinetics({str(tmp_path)!r}, 7, 0, {VIDEOS}, workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(tmp_path.rglob("*.mp4")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert json.loads((tmp_path / "sandbox.json").read_text())["complete"] == {}
    render_kinetics(tmp_path, seed=7, train=0, val=VIDEOS, workers=1)
    got = contents(tmp_path)
    assert {name: got.get(name) for name in contents(rendered)} == contents(rendered)


def test_complete_split_is_left_alone(rendered):
    before = {path: path.stat().st_mtime_ns for path in rendered.rglob("*")}
    render_kinetics(rendered, seed=7, train=0, val=VIDEOS)
    assert before == {path: path.stat().st_mtime_ns for path in rendered.rglob("*")}


def test_another_recipe_is_refused(rendered):
    with pytest.raises(DataError, match="seed 7"):
        render_kinetics(rendered, seed=0)
    with pytest.raises(DataError, match="32 val videos"):
        render_kinetics(rendered, seed=7, train=0, val=64)


def test_a_strangers_folder_is_refused(tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(DataError, match="not a sandbox"):
        render_kinetics(tmp_path)
    assert contents(tmp_path) == {"holiday.mp4": b"mine"}
