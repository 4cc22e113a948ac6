"""The paper's tables of correspondence, run by name on small trees in the official layouts."""

from __future__ import annotations

import pytest

import zoo
from tests.data import trees
from zoo.data.sandbox.correspondence import render_davis, render_jhmdb, render_vip
from zoo.reproduce.evaluate import Settings, evaluate
from zoo.reproduce.tables import Row

TABLES = {
    "2.1": ("davis2017", render_davis, 30),
    "2.2": ("jhmdb", render_jhmdb, 268),
    "2.3": ("vip", render_vip, 50),
    "2.5": ("davis2017", render_davis, 30),
}


@pytest.mark.parametrize("table", TABLES)
def test_identity_is_measured_and_other_rows_say_what_they_need(table, tmp_path):
    name, render, videos = TABLES[table]
    root = render(tmp_path / name, val=2)
    report = zoo.reproduce(f"time_cycle/{table}", {name: root}, ["Identity"], out=None)
    (row,) = report.rows
    assert row.status == f"partial: 2 of {videos} videos"  # whatever the copy's own list says
    assert set(row.reproduced) == set(row.row.values)
    assert all(value >= 0 for value in row.reproduced.values())
    assert row.measurement.data["scored"] == 2


def test_without_data_every_row_says_so():
    report = zoo.reproduce("time_cycle", out=None)
    status = {(row.table.name, row.row.name): row.status for row in report.rows}
    assert status["time_cycle/2.1", "Identity"] == "needs data: davis2017"
    assert status["time_cycle/2.3", "Ours (ResNet-50)"] == "needs data: vip"
    assert status["time_cycle/2.1", "Ours (ResNet-18)"] == "needs weights"
    assert status["time_cycle/2.1", "SIFT Flow"] == "reported only"


@pytest.mark.slow
def test_random_weights_of_the_released_network_are_measured(tmp_path):
    root = trees.davis(tmp_path, {"walk": 3})
    report = zoo.reproduce("time_cycle/2.1", {"davis2017": root}, ["Random Weights (ResNet-50)"], out=None)
    (row,) = report.rows
    assert row.status == "partial: 1 of 30 videos"
    assert row.measurement.weights["name"] == "time_cycle_r50, random weights of seed 0"


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """Three sequences, one with a broken frame, in spawned processes."""
    root = trees.davis(tmp_path, {"walk": 9, "run": 5, "jump": 4})
    (root / "JPEGImages/480p/run/00003.jpg").write_bytes(b"no picture")
    row = Row("staying", True, {}, model="label_propagation_identity", weights="none")
    one, two = (evaluate(row, "davis2017", {}, root, Settings(None, 4, 0, "cpu", devices)) for devices in (1, 2))
    assert one.data["scored"] == 2
    assert two.metrics == one.metrics
    assert two.data == one.data
    assert [video["name"] for video in two.unreadable] == ["run"]
    assert two.unreadable == one.unreadable
