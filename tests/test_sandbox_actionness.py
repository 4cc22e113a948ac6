"""The script that trains the sandbox's actionness: what it writes down holds, and what it shows follows from it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

import zoo
from zoo.data.sandbox.howto import render_coin, render_crosstask, render_howto100m
from zoo.reproduce.tables import read_tables

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    folder = str(REPOSITORY / "benchmarks/sandbox")
    sys.path.insert(0, folder)
    try:
        import actionness
    finally:
        sys.path.remove(folder)
    return actionness


@pytest.fixture(scope="module")
def results():
    return json.loads((REPOSITORY / "benchmarks/results/sandbox_actionness_training.json").read_text())


def test_order_finds_more_than_any_guess_and_less_than_labels(results):
    """As Table 1 and section 4.2 have it, by five points; and where there is no order, nothing is found."""

    def mean(name: str, key: str) -> float:
        return results["summary"][name][key]["mean"]

    for data in ("coin", "crosstask"):
        key = f"{data}_ap"
        guesses = {name: found[key] for name, found in results["guesses"].items()}
        assert guesses["chance"] < guesses["trimmed"] < guesses["middle"] < mean("ours", key) - 5
        assert mean("ours", key) + 5 < mean(f"supervised_{data}", key)
        assert mean("untrimmed", key) < guesses["chance"]
        assert abs(mean("scrambled", key) - guesses["chance"]) < 5
        assert mean("d10", key) < mean("d40", key) < mean("d80", key)
        assert mean("m3", key) < mean("ours", key)
    steps = results["summary"]["steps"]
    assert steps[f"alpha_{steps['alpha']}"]["mean"] > steps["alpha_0.0"]["mean"] + 5
    assert results["world"] == 0


def test_training_videos_choose_the_share_of_actionness(script):
    alphas = {f"alpha_{alpha}": 90.0 if alpha == 0.7 else 10.0 for alpha in script.ALPHAS}
    trained = {f"trained_alpha_{alpha}": 50.0 - 10 * abs(alpha - 0.2) for alpha in script.ALPHAS}
    summary = script.summarize([{"run": "steps", "seed": seed, **alphas, **trained} for seed in (0, 1)])
    assert summary["steps"]["alpha"] == 0.2


def test_the_tables_are_those_of_the_results(script, results, tmp_path):
    import actionness_tables as tables

    made = [tables.actionness_table(results, data) for data in ("coin", "crosstask")] + [tables.steps_table(results)]
    (tmp_path / "sandbox.yaml").write_text(yaml.safe_dump({"tables": made}))
    bundled = {table.name: table for table in read_tables(REPOSITORY / "benchmarks/tables/sandbox.yaml")}
    for table in read_tables(tmp_path / "sandbox.yaml"):
        assert bundled[table.name] == table


def test_clips_are_scrambled_within_their_sample(script):
    torch.manual_seed(0)
    features = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3)
    batch = {"features": features}
    script.Scramble().on_train_batch_start(None, None, batch, 0)
    assert not torch.equal(batch["features"], features)
    assert torch.equal(batch["features"].sort(1).values, features)


def test_a_run_is_written_down_and_not_repeated(script, tmp_path, monkeypatch):
    render_howto100m(tmp_path / "sandbox_howto100m", 1, 160)
    render_coin(tmp_path / "sandbox_coin", 1, 4, 4)
    render_crosstask(tmp_path / "sandbox_crosstask", 1, 32)
    small = {name: dataclasses.replace(script.RUNS[name], epochs=1, batch=32) for name in ("ours", "supervised_coin")}
    monkeypatch.setattr(script, "RUNS", {**script.RUNS, **small})
    options = zoo.datamodule
    monkeypatch.setattr(
        zoo,
        "datamodule",
        lambda name, **more: options(name, **({"min_videos": 0} if name == "sandbox_howto100m" else {}), **more),
    )
    settings = script.Settings(tmp_path, tmp_path, 1, "cpu")
    for name in small:
        found = script.run(settings, (name, 3))
        again = zoo.load("actionness_tiny", tmp_path / f"{name}.seed3.safetensors")
        assert again.objective == ("labels" if "supervised" in name else "order")
        assert script._score(settings, again) == {key: found[key] for key in found if key.startswith(script.TESTS)}
        assert found["steps"] >= 1
    monkeypatch.setattr(script, "_train", None)
    assert script.run(settings, ("ours", 3)) == json.loads((tmp_path / "ours.seed3.json").read_text())
