"""Rows are measured as a user would measure them, and every other row says truthfully why it was not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.data.activities import charades
from zoo.data.activities import video_label
from zoo.data.sandbox import CLASSES
from zoo.files import NoPlaceError
from zoo.metrics.ranking import average_precision
from zoo.reproduce import runner, tables
from zoo.reproduce.evaluate import Settings, evaluate
from zoo.reproduce.results import Measurement, Report, RowResult
from zoo.reproduce.tables import Row

ROWS = ["plain", "with a block"]


def by_hand(weights: str, root: Path) -> dict[str, float]:
    """Top-1 and top-5 over the validation videos by `predict`, one file at a time: no Trainer, loader or metric."""
    model = zoo.load(weights)
    right = {"top1": 0, "top5": 0}
    videos = sorted((root / "val").glob("*/*.mp4"))
    for video in videos:
        label = CLASSES.index(video.parent.name.replace("_", " "))
        numbers = [p.index for p in model.predict(video, top=5)]
        right["top1"] += label == numbers[0]
        right["top5"] += label in numbers
    return {name: round(100 * count / len(videos), 4) for name, count in right.items()}


@pytest.fixture(scope="module")
def options() -> dict:
    return {"num_workers": 0, "batch_size": 8, "accelerator": "cpu"}


def rows_of(report: Report) -> dict[str, RowResult]:
    return {row.row.name: row for row in report.rows}


def test_every_row_says_what_came_of_it(trial, kinetics_root, tmp_path, options):
    """One run over all kinds of rows; what was measured equals what prediction file by file gives."""
    report = zoo.reproduce("trial/trial", {"sandbox_kinetics": kinetics_root}, out=tmp_path, **options)
    rows = rows_of(report)
    assert rows["plain"].reproduced == pytest.approx(by_hand("i3d_tiny.trial", kinetics_root))
    assert rows["with a block"].reproduced == pytest.approx(by_hand("nonlocal_i3d_tiny.trial", kinetics_root))
    assert rows["the same again"].measurement is rows["plain"].measurement
    assert set(rows["the same again"].reproduced) == {"top1"}  # what the row does not report is not filled in
    assert rows["plain"].difference("top1") == rows["plain"].reproduced["top1"] - 50
    assert {name: row.status.partition(":")[0] for name, row in rows.items()} == {
        "plain": "reproduced",
        "the same again": "reproduced",
        "with a block": "reproduced",
        "untrained": "needs weights",
        "not fetched": "weights not reachable",
        "flipped": "failed",
        "other classes": "failed",
        "other head": "failed",
        "theirs": "reported only",
        "printed": "reported only",
    }
    assert "HF_HUB_OFFLINE" in rows["not fetched"].status
    assert "SHA-256" in rows["flipped"].status
    assert "other classes than sandbox_kinetics has" in rows["other classes"].status
    assert "has 8 classes, the row asks for 5" in rows["other head"].status
    assert [row.row.name for row in report.failed] == ["flipped", "other classes", "other head"]
    assert all(not row.reproduced for row in rows.values() if row.status != "reproduced")

    (file,) = (tmp_path / "trial" / "trial").glob("*.json")
    assert {p.suffix for p in file.parent.iterdir()} == {".json", ".md", ".html"}
    text = file.read_text()
    assert str(kinetics_root) not in text
    saved = json.loads(text)
    assert saved["rows"] == json.loads(json.dumps(report.to_json()))
    assert saved["about"]["versions"]["torch"] == torch.__version__
    first = saved["measurements"][0]
    assert first["rows"] == ["trial/trial: plain", "trial/trial: the same again"]
    assert (first["data"]["expected"], first["data"]["found"], first["data"]["scored"]) == (9, 9, 9)
    assert (first["protocol"]["clips"], first["protocol"]["crops"]) == (1, 1)
    assert first["weights"]["sha256"] == zoo.files.sha256_of(trial / "weights" / "i3d_tiny.trial.safetensors")
    assert "clip_top1" in first["metrics"]
    assert first["seconds"] > 0


def test_an_unreadable_video_is_reported_beside_the_score(trial, kinetics_root, tmp_path, options):
    root = tmp_path / "copy"
    shutil.copytree(kinetics_root, root)
    victim = sorted((root / "val").glob("*/*.mp4"))[3]
    victim.write_bytes(victim.read_bytes()[:300])
    gone = sorted((root / "val").glob("*/*.mp4"))[5]
    gone.unlink()
    with pytest.warns(UserWarning, match="1 of 9 videos"):
        report = zoo.reproduce("trial/trial", {"sandbox_kinetics": root}, ["plain"], out=None, **options)
    (row,) = report.rows
    assert row.status == "partial: 7 of 9 videos"
    assert (row.measurement.data["expected"], row.measurement.data["found"], row.measurement.data["scored"]) == (
        9,
        8,
        7,
    )
    (video,) = row.measurement.unreadable
    assert video["name"] == victim.stem
    assert victim.name in video["message"]
    assert str(root) not in video["message"]


def test_a_copy_that_lacks_few_videos_counts_and_says_so(trial, kinetics_root, tmp_path, options, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(kinetics_root, root)
    sorted((root / "val").glob("*/*.mp4"))[5].unlink()
    statuses = []
    for enough in (8 / 9, 0.9):
        monkeypatch.setattr(runner, "ENOUGH", enough)
        (row,) = zoo.reproduce("trial/trial", {"sandbox_kinetics": root}, ["plain"], out=None, **options).rows
        statuses.append((row.status, row.kind))
    assert statuses == [("reproduced: 8 of 9 videos", "reproduced"), ("partial: 8 of 9 videos", "partial")]


@pytest.mark.parametrize(
    ("scored", "limit", "status"),
    [
        (19_761, None, "reproduced"),
        (18_434, None, "reproduced: 18434 of 19761 videos"),
        (50, None, "partial: 50 of 19761 videos"),
        (19_000, 19_000, "partial: 19000 of 19761 videos"),
    ],
)
def test_how_many_videos_of_kinetics_are_enough(scored, limit, status):
    data = {"scored": scored, "found": scored, "expected": 19_761, "limit": limit}
    (table,) = tables.get("nonlocal/5.2f")
    assert runner._verdict(Measurement({}, data, (), {}, None, {}, "CPU", 1.0), table, table.rows[0]) == status


def test_a_list_that_was_cut_short_does_not_make_a_part_the_whole():
    """The copy's own list names two sequences; DAVIS-2017 has thirty."""
    (table,) = tables.get("time_cycle/2.1")
    found = Measurement({}, {"scored": 2, "expected": 2, "limit": None}, (), {}, None, {}, "CPU", 1.0)
    assert runner._verdict(found, table, table.rows[0]) == "partial: 2 of 30 videos"


def test_a_place_that_cannot_be_written_to_is_an_error_before_the_work(trial, kinetics_root, tmp_path, options):
    (tmp_path / "file").write_text("in the way")
    arguments = ("trial/trial", {"sandbox_kinetics": kinetics_root})
    with pytest.raises(NoPlaceError, match=r"not a usable folder: .*Give one that is"):
        zoo.reproduce(*arguments, ["plain"], out=tmp_path / "file" / "results", **options)
    (row,) = zoo.reproduce(*arguments, ["theirs"], out=tmp_path / "file").rows  # nothing to save, no need of a place
    assert row.status == "reported only"


def test_rows_outlive_a_disk_that_fails_in_the_end(trial, tmp_path):
    """The folder can be written to, the table's own in it cannot."""
    (tmp_path / "trial").write_text("in the way")
    with pytest.warns(UserWarning, match=r"trial/size: the results were measured but not saved: .*usable folder"):
        report = zoo.reproduce("trial/size", out=tmp_path)
    assert [row.status for row in report.rows] == ["reproduced", "reproduced"]


def test_not_one_readable_video_is_a_failure_not_a_zero(trial, kinetics_root, tmp_path, options):
    root = tmp_path / "copy"
    shutil.copytree(kinetics_root, root)
    for video in (root / "val").glob("*/*.mp4"):
        video.write_bytes(b"")
    report = zoo.reproduce("trial/trial", {"sandbox_kinetics": root}, ["plain"], out=tmp_path / "out", **options)
    (row,) = report.failed
    assert "not one of 9 videos could be scored" in row.status
    assert not row.reproduced
    assert not (tmp_path / "out").exists()  # nothing was measured, so there is no result


def test_a_trial_on_some_videos_is_no_reproduction(trial, kinetics_root, options):
    data = {"sandbox_kinetics": kinetics_root}
    report = zoo.reproduce("trial/trial", data, ["plain", "the same again"], out=None, limit=4, **options)
    assert [row.status for row in report.rows] == ["partial: 4 of 9 videos"] * 2
    assert report.rows[0].measurement.data["limit"] == 4


def test_costs_are_counted_without_weights_or_data(trial, tmp_path):
    report = zoo.reproduce("trial/size", out=tmp_path)
    without, with_block = (
        sum(p.numel() for p in zoo.create("i3d_tiny", nonlocal_blocks=blocks).parameters()) for blocks in (0, 1)
    )
    assert [row.status for row in report.rows] == ["reproduced", "reproduced"]
    assert [row.reproduced["params"] for row in report.rows] == [without, with_block]
    assert report.rows[1].reproduced["more"] == with_block / without
    assert list(tmp_path.rglob("*.json"))


def test_what_the_user_must_give_is_named(trial, kinetics_root, options):
    assert [row.status for row in zoo.reproduce("trial/real", out=None).rows] == ["needs data: kinetics"]
    assert [row.status for row in zoo.reproduce("trial/boxes", out=None).rows] == ["not in the zoo: needs a detector"]
    (row,) = zoo.reproduce("trial/real", {"kinetics": kinetics_root / "nowhere"}, out=None, **options).rows
    assert row.status.startswith("failed: ")
    assert "no such folder" in row.status
    (row,) = zoo.reproduce("trial/unlogged", {"sandbox_kinetics": kinetics_root}, out=None, **options).rows
    assert row.status == "failed: the model did not log mean_ap"


def test_a_group_runs_all_its_tables_and_tests_no_weights_twice(trial, kinetics_root, options):
    report = zoo.reproduce("trial", {"sandbox_kinetics": kinetics_root}, ["plain"], out=None, **options)
    assert list(report.tables) == ["trial/trial", "trial/real", "trial/unlogged"]
    first, _, last = report.rows
    assert first.measurement is last.measurement


def test_a_row_of_two_streams_has_weights_for_each(trial, tmp_path, options):
    root = charades(tmp_path, videos=True, flow=True)
    report = zoo.reproduce("trial/streams", {"charades": root}, out=tmp_path / "out", **options)
    rows = rows_of(report)
    statuses = {name: row.status.partition(":")[0] for name, row in rows.items()}
    assert statuses == {
        "both": "reproduced",
        "multiplied": "reproduced",
        "exchanged": "failed",
        "not fetched": "weights not reachable",
        "guess": "reproduced",
        "another guess": "reproduced",
    }
    assert "this stream of charades_two_stream_tiny is a charades_two_stream_rgb_tiny" in rows["exchanged"].status
    names = ["charades_two_stream_rgb_tiny.trial", "charades_two_stream_flow_tiny.trial"]
    said = rows["both"].measurement.weights
    assert said["name"] == " + ".join(names)
    assert [one["name"] for one in said["streams"]] == names
    digests = [zoo.files.sha256_of(trial / "weights" / f"{name}.safetensors") for name in names]
    assert [one["sha256"] for one in said["streams"]] == digests
    assert said["override"] == {"points": 5}
    assert "mean of both" in rows["both"].measurement.summary()
    saved = json.loads(next((tmp_path / "out").rglob("*.json")).read_text())
    assert saved["rows"][0]["weights"] == names
    text = next((tmp_path / "out").rglob("*.md")).read_text()
    assert "zoo.load('charades\\_two\\_stream\\_tiny', \\['charades" in text

    data = zoo.datamodule("charades", root=root)
    labels = torch.from_numpy(np.stack([video_label(record.actions, 157) for record in data.records("val")]))
    for name, how in (("both", "mean"), ("multiplied", "product")):
        model = zoo.fuse(*(zoo.load(one, points=5) for one in names), how)
        scores = torch.zeros(len(labels), 157)
        for row, record in zip(scores, data.records("val"), strict=True):
            for one in model.predict(record.path, 157, flow=root / "Charades_v1_flow" / record.name):
                row[one.index] = one.score
        scores[labels.sum(1) == 0] = -torch.inf
        by_hand = 100 * float(average_precision(scores, labels).nanmean())
        assert rows[name].reproduced["map"] == pytest.approx(by_hand, abs=1e-3), name


def test_a_row_may_have_a_number_of_its_own(trial, tmp_path, options):
    root = charades(tmp_path)
    guesses = ["guess", "another guess"]
    first, second = zoo.reproduce("trial/streams", {"charades": root}, guesses, out=None, **options).rows
    assert first.measurement is second.measurement
    assert first.reproduced["map"] == first.measurement.metrics["map"]
    assert second.reproduced["map"] == first.measurement.metrics["map_all_videos"] < first.reproduced["map"]

    # Annotations alone are a root for these; to others it lacks something, which is no failure.
    report = zoo.reproduce("trial/streams", {"charades": root}, ["both"], out=None, **options)
    assert report.rows[0].status.startswith(f"needs data: charades: {root}: no ")
    assert (report.rows[0].kind, report.failed) == ("needs data: charades", [])


def test_what_nobody_reported_is_measured_by_the_data_options_of_its_row(trial, kinetics_root, options):
    report = zoo.reproduce("trial/curve", {"sandbox_kinetics": kinetics_root}, out=None, **options)
    (row,) = report.rows
    assert row.status == "measured"
    assert row.reproduced["top1"] >= 0
    assert row.difference("top1") is None
    assert row.measurement.data["options"] == {"seed": 3}


def test_a_table_in_parts_is_all_of_them():
    assert [table.name for table in tables.get("actionness/1")] == ["actionness/1-coin", "actionness/1-crosstask"]


def test_wrong_names_are_errors_before_anything_runs(trial):
    with pytest.raises(zoo.UnknownNameError, match="trial/trial"):
        zoo.reproduce("trial/trail")
    with pytest.raises(zoo.UnknownNameError, match="with a block"):
        zoo.reproduce("trial/trial", rows=["with block"])
    with pytest.raises(zoo.UnknownNameError, match="kinetics"):
        zoo.reproduce("trial/trial", {"kinetic": "/data"})


@pytest.mark.slow
def test_two_processes_measure_what_one_does(trial, kinetics_root, tmp_path):
    """9 videos of 2 rows each in spawned processes; one of them meets a broken file, and both tell of it."""
    root = tmp_path / "copy"
    shutil.copytree(kinetics_root, root)
    victim = sorted((root / "val").glob("*/*.mp4"))[3]
    victim.write_bytes(victim.read_bytes()[:300])
    row = Row("plain", True, {}, model="i3d_tiny", weights="i3d_tiny.trial")
    one, two = (evaluate(row, "sandbox_kinetics", {}, root, Settings(None, 3, 0, "cpu", devices)) for devices in (1, 2))
    assert two.metrics == one.metrics
    assert two.data == one.data
    assert two.unreadable == one.unreadable
    assert [video["name"] for video in two.unreadable] == [victim.stem]


@pytest.mark.slow
def test_the_papers_cost_ratios_come_out():
    """Table 5.2e, parameters and multiply-adds relative to C2D, to the decimal that was printed."""
    rows = zoo.reproduce("nonlocal/5.2e", out=None).rows
    for row in rows:
        assert row.status == "needs weights"
        reported = {name: row.row.values[name] for name in ("params_rel", "flops_rel")}
        assert {name: round(value, 1) for name, value in row.reproduced.items()} == reported
