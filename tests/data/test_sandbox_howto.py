"""The how-to world: ordered steps between what has no order, laid out as HowTo100M, COIN and CrossTask are."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from zoo.data.sandbox.howto import (
    constraints,
    describe,
    render_coin,
    render_crosstask,
    render_howto100m,
    scenario,
)
from zoo.data.sandbox.howto_datamodules import SandboxCoin, SandboxCrossTask, SandboxHowTo100M
from zoo.data.sandbox.howto_features import DIM, features, parts
from zoo.data.sandbox.howto_plots import FILLERS, SPLITS
from zoo.data.sandbox.howto_tasks import SUBCATEGORIES, VERBS, tasks
from zoo.errors import DataError
from zoo.spec import FeatureSpec, VideoSpec

SEED = 3
SPEC = VideoSpec(features=FeatureSpec(dim=DIM))


@pytest.fixture(scope="module")
def plans():
    return {split: [describe(SEED, split, index) for index in range(200)] for split in SPLITS}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    place = tmp_path_factory.mktemp("howto")
    return {
        "howto100m": render_howto100m(place / "howto100m", SEED, 60),
        "coin": render_coin(place / "coin", SEED, 3, 5),
        "crosstask": render_crosstask(place / "crosstask", SEED, 32),
    }


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def share(plans, first: float = 0.0, last: float = 1.0) -> float:
    """The part of the time between two places of a video in which something is done."""
    done = total = 0.0
    for plan in plans:
        low, high = first * plan.duration, last * plan.duration
        total += high - low
        done += sum(max(min(s.stop, high) - max(s.start, low), 0) for s in plan.shots if s.kind == "action")
    return done / total


# What happens


@pytest.mark.parametrize(
    ("split", "low", "high"), [("howto100m", 0.2, 0.3), ("coin testing", 0.38, 0.5), ("crosstask", 0.22, 0.32)]
)
def test_little_of_a_video_is_action_and_least_at_its_ends(plans, split, low, high):
    assert low < share(plans[split]) < high
    ends = (share(plans[split], 0.0, 0.3) + share(plans[split], 0.7, 1.0)) / 2
    assert share(plans[split], 0.3, 0.7) > 1.1 * share(plans[split]) > 1.15 * ends


def test_steps_come_in_their_order_mostly(plans):
    forwards = backwards = missing = again = 0
    for plan in plans["howto100m"]:
        steps = [step for step, _, _ in plan.actions]
        assert len(steps) >= 2
        assert set(steps) <= set(range(len(plan.task.steps)))
        forwards += sum(a < b for n, a in enumerate(steps) for b in steps[n + 1 :])
        backwards += sum(a > b for n, a in enumerate(steps) for b in steps[n + 1 :])
        missing += len(plan.task.steps) - len(set(steps))
        again += len(steps) > len(set(steps))
    assert 0.9 < forwards / (forwards + backwards) < 0.99
    assert missing > 50
    assert again > 20


def test_what_stands_between_steps_has_no_order(plans):
    """Each kind of filler is as frequent, and each thing as often shown, before a video's middle step as after it."""
    before, after = Counter(), Counter()
    for plan in plans["howto100m"]:
        steps = [shot.start for shot in plan.shots if shot.step >= 0]
        first, last = steps[0], steps[-1]
        for shot in plan.shots:
            if shot.kind in FILLERS and first < shot.start < last:
                (before if shot.start < (first + last) / 2 else after)[shot.kind] += 1
    for kind in FILLERS:
        assert abs(before[kind] - after[kind]) < 4 * np.sqrt(before[kind] + after[kind])


def test_tasks_share_verbs_and_half_of_those_that_are_tested_were_never_trained_on(plans):
    every = tasks(SEED)
    assert [task.number for task in every] == list(range(6 * len(SUBCATEGORIES)))
    assert {len(task.steps) for task in every} <= set(range(3, 10))
    assert min(Counter(verb for task in every for verb, _ in task.steps).values()) > 3
    trained = {plan.task.number for plan in plans["howto100m"]}
    for split in ("coin testing", "crosstask"):
        tested = {plan.task.number for plan in plans[split]}
        assert len(tested & trained) == len(tested) / 2
    places = {verb: [] for verb in VERBS}
    for task in every:
        for place, (verb, _) in enumerate(task.steps):
            places[verb].append(place / (len(task.steps) - 1))
    assert np.corrcoef(list(VERBS.values()), [np.mean(found) for found in places.values()])[0, 1] > 0.8
    food = sum(plan.task.category == "Food and Entertaining" for plan in plans["howto100m"]) / 200
    assert 0.35 < food < 0.55  # as 40% of HowTo100M are of cooking


def test_a_plan_follows_from_its_seed_and_no_name_comes_twice(plans):
    assert describe(SEED, "crosstask", 7) == plans["crosstask"][7] != describe(SEED + 1, "crosstask", 7)
    names = [plan.name for of in plans.values() for plan in of]
    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {11}


# What is seen of it


def test_rows_are_halves_one_a_second_and_not_negative(plans):
    for plan in plans["coin testing"][:8]:
        rows = features(plan)
        assert rows.dtype == np.float16
        assert rows.shape == (int(np.ceil(plan.duration)), DIM)
        assert rows.min() == 0
        assert np.isfinite(rows).all()
        assert np.array_equal(rows, features(plan))


def test_how_far_the_work_is_is_seen_while_it_is_done_and_not_while_the_host_talks(plans):
    work = parts(SEED).work.mean(0)
    towards = work[1] - work[0]
    seen, far = {"action": [], "talk": []}, {"action": [], "talk": []}
    for plan in plans["howto100m"][:60]:
        rows = features(plan).astype(float) @ towards
        for shot in plan.shots:
            if shot.kind in seen:
                seen[shot.kind].append(rows[int(shot.start) + 1 : int(shot.stop)].mean() - np.median(rows))
                far[shot.kind].append(shot.start / plan.duration)
    assert np.corrcoef(seen["action"], far["action"])[0, 1] > 0.3
    assert abs(np.corrcoef(seen["talk"], far["talk"])[0, 1]) < 0.15


def test_the_camera_tells_what_comes_first_within_seconds_only(plans):
    """Where one of its two directions is seen least, the other one falls; minutes on, either may have."""
    sine, cosine = parts(SEED).turn
    sooner, later = [], []
    for plan in plans["howto100m"][:60]:
        rows = features(plan).astype(float)
        rows -= rows.mean(0)
        where = np.flatnonzero(rows[:-90] @ cosine < np.quantile(rows @ cosine, 0.2))
        sooner.append((rows[where + 3] - rows[where]) @ sine)
        later.append((rows[where + 90] - rows[where]) @ sine)
    sooner, later = np.concatenate(sooner), np.concatenate(later)
    assert (sooner < 0).mean() > 0.7
    assert abs((later < 0).mean() - 0.5) < 0.1


# How it is laid out


def test_same_seed_same_bytes_in_whatever_order(roots, tmp_path):
    again = render_coin(tmp_path / "coin", SEED, 0, 5)
    assert len(list((again / "features").iterdir())) == 5
    render_coin(again, SEED, 3, 5)
    one, other = contents(roots["coin"]), contents(again)
    assert json.loads(one.pop("sandbox.json"))["complete"] == json.loads(other.pop("sandbox.json"))["complete"]
    assert one == other
    with pytest.raises(DataError, match="seed 3, not recipe 1, seed 4"):
        render_coin(again, SEED + 1, 3, 5)


@pytest.mark.parametrize(
    ("render", "name", "count"), [(render_howto100m, "howto100m", 60), (render_crosstask, "crosstask", 32)]
)
def test_an_interrupted_render_is_taken_up(roots, tmp_path, monkeypatch, render, name, count):
    from zoo.data.sandbox import howto

    whole, made = contents(roots[name]), []

    def broken(item):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(item.name)
        return features(item)

    monkeypatch.setattr(howto, "features", broken)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / name, SEED, count)
    assert {path.stem for path in (tmp_path / name).rglob("*.npy")} == set(made)
    assert not json.loads((tmp_path / name / "sandbox.json").read_text())["complete"]
    monkeypatch.setattr(howto, "features", lambda item: made.append(item.name) or features(item))
    render(tmp_path / name, SEED, count)
    assert len(made) == len(set(made)) == sum(path.endswith(".npy") for path in whole)
    assert contents(tmp_path / name) == whole
    render(tmp_path / name, SEED, count)
    assert len(made) == len(set(made))


def test_howto100m_is_drawn_by_subcategory_and_has_what_was_drawn(roots):
    with (roots["howto100m"] / "HowTo100M_v1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video_id"] for row in rows] == [describe(SEED, "howto100m", n).name for n in range(60)]
    pairs = Counter((row["category_1"], row["category_2"]) for row in rows)
    assert set(pairs) == set(SUBCATEGORIES)
    assert max(pairs.values()) >= 2.5 * min(pairs.values())
    data = SandboxHowTo100M(roots["howto100m"], SPEC, batch_size=60, num_workers=0, min_videos=0, val_share=0.0)
    (batch,) = data.train_dataloader()
    assert batch["features"].shape == (60, 5, DIM)
    assert not batch["unreadable"]
    for place in range(10):
        rows = scenario("howto100m", int(batch["index"][place]), SEED)[0]
        assert batch["video_id"][place] == describe(SEED, "howto100m", int(batch["index"][place])).name
        first, last = batch["times"][place, 0].astype(int).tolist()
        seen = batch["features"][place, 0 if batch["label"][place] else -1]
        assert torch.allclose(seen, torch.from_numpy(rows[first:last]).float().mean(0), atol=1e-5)
    samples = data.train_dataloader().dataset
    drawn = [samples.categories[samples.draw_videos(np.arange(60), epoch)] for epoch in range(100)]
    counts = np.bincount(np.concatenate(drawn))
    assert len(counts) == len(SUBCATEGORIES)
    assert counts.max() < 1.2 * counts.min()


def test_coin_says_what_happens(roots):
    data = SandboxCoin(roots["coin"], SPEC, batch_size=5, num_workers=0, expected=None)
    (batch,) = data.test_dataloader()
    assert batch["video_id"] == sorted(describe(SEED, "coin testing", n).name for n in range(5))
    start = 0
    for place, name in enumerate(batch["video_id"]):
        index = next(n for n in range(5) if describe(SEED, "coin testing", n).name == name)
        rows, actions, duration = scenario("coin testing", index, SEED)
        count = int(batch["lengths"][place])
        assert torch.equal(batch["features"][start : start + count], torch.from_numpy(rows).float())
        start += count
        assert batch["duration"][place] == duration
        wanted = sorted((begin, end) for _, begin, end in actions)
        assert np.allclose(batch["intervals"][place], wanted)
        names = describe(SEED, "coin testing", index).task.names
        said = [batch["names"][place][step] for step in batch["steps"][place]]
        assert said == [names[step] for step, _, _ in sorted(actions, key=lambda action: action[1:])]
    assert {split: len(data.records(split)) for split in ("train", "val")} == {"train": 3, "val": 5}


def test_crosstask_says_what_happens_and_what_is_said(roots):
    spec = SPEC.replace(features=FeatureSpec(dim=DIM, samples="videos"))
    data = SandboxCrossTask(roots["crosstask"], spec, batch_size=4, num_workers=0, expected=32)
    assert {split: len(data.records(split)) for split in ("train", "val")} == {"train": 24, "val": 8}
    plans = {describe(SEED, "crosstask", n).name: describe(SEED, "crosstask", n) for n in range(32)}
    spoken = heard = 0
    for batch in data.train_dataloader():
        for place, name in enumerate(batch["video_id"]):
            plan = plans[name]
            assert batch["names"][place] == plan.task.names
            actions = sorted((start, end) for _, start, end in plan.actions)
            assert np.allclose(batch["intervals"][place], actions)
            said = constraints(plan)
            assert len(batch["constraints"][place]) == len(said)
            spoken += len(said)
            heard += len(plan.actions)
    assert 0.75 < spoken / heard < 0.95
    related = SandboxCrossTask(roots["crosstask"], spec, num_workers=0, related=True, expected=32)
    assert len(related.records("train")) == 24 + len(SUBCATEGORIES)
    report = related.check()
    assert not any(split.unreadable for split in report.splits.values())


@pytest.mark.slow
def test_order_alone_finds_what_is_done_where_titles_are_left_out(tmp_path):
    root = render_howto100m(tmp_path / "howto100m", SEED, 300)
    coin = render_coin(tmp_path / "coin", SEED, 0, 16)

    def score(**arguments) -> float:
        pl.seed_everything(0, verbose=False)
        model = zoo.create("actionness_tiny", **arguments)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        data = SandboxHowTo100M(root, model.spec, batch_size=64, num_workers=0, min_videos=0)
        trainer = pl.Trainer(accelerator="cpu", max_epochs=15, limit_val_batches=0, **quiet)
        trainer.fit(model, data)
        (found,) = trainer.test(model, SandboxCoin(coin, model.spec, num_workers=0, expected=None), verbose=False)
        return found["ap"]

    guess = 100 * share([describe(SEED, "coin testing", n) for n in range(16)])
    assert (found := score()) > guess + 8
    assert score(trim=0.0) < found - 8  # titles and credits tell the order best
