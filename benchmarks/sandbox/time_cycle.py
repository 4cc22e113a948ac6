"""Trains the sandbox's TimeCycle and says what it carries from a first frame to the others.

    python benchmarks/sandbox/time_cycle.py --seeds 0 1 2 3 --out runs/sandbox/time_cycle [--bundle]

Renders the sandbox's videos, trains `time_cycle_tiny` by the recipe that it carries, once per seed and without labels,
and tests it as any model is tested: objects (DAVIS layout), joints (JHMDB), parts (VIP) and rebuilt frames. Beside it
stand the same network before training, seed by seed, and labels that stay where they were. ``results.json`` (each run's
scores, curve and seconds; mean and standard deviation; versions) and every run's weights go into the output folder. A
run that is already there is not repeated. ``--bundle`` then puts the weights of the first seed, whatever they score,
into the repository: weights/, checkpoints.yaml, benchmarks/tables/sandbox.yaml and benchmarks/results/.

The training videos are decoded once and kept as bytes; clips are cut out of them by the same draws that the datamodule
makes. Testing reads the files as any test does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from common import QUIET, REPOSITORY, as_json, bundle_weights, rewrite_manifest, rewrite_tables, seeds, spread
from memory import Remembered, remember

import zoo
from zoo.data.sandbox.correspondence import CLIPS, DESCRIPTION, SEQUENCES
from zoo.data.sandbox.datamodules import SandboxVlog
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.reproduce.provenance import about

SCRIPT = "time_cycle.py"
MODEL, BASELINE = "time_cycle_tiny", "label_propagation_identity"
ROWS = {"identity": "Identity", "random": "Random weights", "trained": "TimeCycle, tiny"}
PERCENT = {"unit": "percent", "higher_is_better": True}
ERROR = {"unit": "L1 over R, G, B in 0..255", "higher_is_better": False}


@dataclass(frozen=True)
class Test:
    """One of the tables: what it is measured on and what stands in it."""

    table: str
    title: str
    task: str
    layout: str
    data: str
    options: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    sequences: int


TESTS = {
    "masks": Test(
        "time_cycle",
        "Objects carried from the first frame through rendered videos",
        "video object segmentation",
        "DAVIS-2017",
        "sandbox_davis",
        {},
        dict.fromkeys(("jf_mean", "j_mean", "f_mean", "j_recall", "f_recall"), PERCENT),
        SEQUENCES["davis"],
    ),
    "pose": Test(
        "time_cycle_pose",
        "Joints carried from the first frame through rendered videos",
        "pose propagation",
        "JHMDB",
        "sandbox_jhmdb",
        {},
        dict.fromkeys(("pck_01", "pck_02", "pck_03", "pck_04", "pck_05"), PERCENT),
        SEQUENCES["jhmdb"],
    ),
    "parts": Test(
        "time_cycle_parts",
        "Body parts carried from the first frame through rendered videos",
        "part propagation",
        "VIP",
        "sandbox_vip",
        {},
        dict.fromkeys(("miou", "ap_r_vol"), PERCENT),
        SEQUENCES["vip"],
    ),
    "frames": Test(
        "time_cycle_frames",
        "Rendered frames rebuilt from those 5 and 10 before",
        "frame reconstruction",
        "DAVIS-2017",
        "sandbox_davis",
        {"task": "reconstruction"},
        dict.fromkeys(("l1_5f", "l1_10f"), ERROR),
        SEQUENCES["davis"],
    ),
}


class RememberedVlog(Remembered, SandboxVlog):
    """The sandbox's training videos out of memory."""


class Curve(pl.Callback):
    """The losses, as means over so many steps each."""

    def __init__(self, seed: int, every: int = 50) -> None:
        self.seed, self.every = seed, every
        self.held: list[dict[str, float]] = []
        self.points: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.held.append({key: float(value) for key, value in trainer.callback_metrics.items() if key[0] == "L"})
        if len(self.held) == self.every:
            means = {key: round(statistics.fmean(one[key] for one in self.held), 4) for key in self.held[0]}
            self.points.append({"step": trainer.global_step, **means})
            print(f"{module.name}, seed {self.seed}: {self.points[-1]}", flush=True)
            self.held.clear()


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    roots: dict[str, Path]
    out: Path
    steps: int
    threads: int
    precision: str
    tests: tuple[str, ...]


def score(model: pl.LightningModule, roots: dict[str, Path], tests: tuple[str, ...]) -> dict[str, float]:
    """All numbers of the tables, by the tests that the zoo has for everyone."""
    scores = {}
    for test in (TESTS[name] for name in tests):
        data = zoo.datamodule(
            test.data, root=roots[test.data], spec=model.spec, batch_size=8, num_workers=0, **test.options
        )
        (found,) = pl.Trainer(accelerator="cpu", **QUIET).test(model, data, verbose=False)
        scores |= {name: round(found[name], 4) for name in test.metrics}
    return scores


def run(settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """A row for one seed, or what an earlier call wrote down."""
    row, seed = job
    record = settings.out / f"{row}.seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    torch.set_num_threads(settings.threads)
    pl.seed_everything(seed, verbose=False)
    model = zoo.create(BASELINE if row == "identity" else MODEL)
    result: dict[str, Any] = {"script": f"benchmarks/sandbox/{SCRIPT}", "row": row, "model": model.name, "seed": seed}
    if row == "trained":
        result |= trained(settings, model, record)
    start = time.monotonic()
    result |= score(model.eval(), settings.roots, settings.tests)  # in 32 bits, as everywhere
    result["test_seconds"] = round(time.monotonic() - start, 1)
    write_whole(record, json.dumps(result, indent=1).encode())
    print(row, seed, {key: result[key] for key in ("jf_mean", "pck_02", "miou", "l1_10f") if key in result}, flush=True)
    return result


def trained(settings: Settings, model: pl.LightningModule, record: Path) -> dict[str, Any]:
    """Train, or take the weights that an earlier call trained; they and their story lie beside the record."""
    weights, story = record.with_suffix(".safetensors"), record.with_suffix(".training.json")
    if story.exists():
        load_strict(model, read_weights(weights)[0])
        return json.loads(story.read_text())
    seed = int(record.stem.rpartition("seed")[2])
    result = train(settings, model, seed)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    about_it = {"script": f"benchmarks/sandbox/{SCRIPT}", "model": model.name, "seed": seed}
    save_weights(weights, state, {**about_it, **{key: result[key] for key in ("steps", "precision")}})
    write_whole(story, json.dumps(result, indent=1).encode())
    return result


def train(settings: Settings, model: pl.LightningModule, seed: int) -> dict[str, Any]:
    """Train by the model's recipe; returns what there is to tell of it."""
    root = settings.roots["sandbox_vlog"]
    data = RememberedVlog(root, model.spec, model.recipe.batch, num_workers=0, seed=seed)
    data.videos = np.load(settings.out / "videos.npy", mmap_mode="r")
    curve = Curve(seed)
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=settings.precision,
        max_steps=settings.steps,
        limit_val_batches=0,
        callbacks=[curve],
        **QUIET,
    )
    start, start_cpu = time.monotonic(), time.process_time()
    trainer.fit(model.to(memory_format=torch.channels_last), data)  # faster on a CPU
    return {
        "steps": trainer.global_step,
        "precision": settings.precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - start_cpu, 1),
        "curve": curve.points,
    }


def summary(runs: list[dict[str, Any]], tests: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Of each row, mean and standard deviation of its runs' scores."""
    keys = [metric for name in tests for metric in TESTS[name].metrics]
    return {row: spread([one for one in runs if one["row"] == row], keys) for row in ROWS}


def bundle(out: Path, results: dict[str, Any]) -> None:
    """Put the first seed's weights, their proof, their entry and the tables into the repository."""
    trained = [one for one in results["runs"] if one["row"] == "trained"]
    first = min(trained, key=lambda one: one["seed"])
    side = zoo.create(MODEL).spec.crop
    entry = {
        **bundle_weights(MODEL, out / f"trained.seed{first['seed']}.safetensors", (1, 3, 2, side, side)),
        "trained_on": ["sandbox_vlog"],
        "reported": {
            "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
            "scores": {key: results["summary"]["trained"][key]["mean"] for key in TESTS["masks"].metrics},
            "protocol": "sandbox_davis_propagation",
            "table": f"sandbox/{TESTS['masks'].table}",
            "row": ROWS["trained"],
            "videos": TESTS["masks"].sequences,
        },
        "measured": {key: first[key] for key in TESTS["masks"].metrics},
        "notes": f"Seed {first['seed']}. Knows the textures of the rendered sandbox videos and nothing of real ones.",
    }
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, {f"{MODEL}.sandbox": entry})
    tables = [_table(name, results) for name in results["tests"]]
    rewrite_tables(REPOSITORY / "benchmarks/tables/sandbox.yaml", tables)
    write_whole(REPOSITORY / "benchmarks/results/sandbox_time_cycle_training.json", as_json(results))


def _table(name: str, results: dict[str, Any]) -> dict[str, Any]:
    test = TESTS[name]
    weights = {"identity": "none", "random": "random", "trained": f"{MODEL}.sandbox"}
    rows = []
    for row, title in ROWS.items():
        scores = results["summary"][row]
        entry = {"name": title, "own": True, "model": BASELINE if row == "identity" else MODEL, "weights": weights[row]}
        entry["values"] = {key: scores[key]["mean"] for key in test.metrics}
        if row != "identity":
            entry["spread"] = {key: scores[key]["std"] for key in test.metrics}
        rows.append(entry)
    return {
        "id": test.table,
        "title": test.title,
        "task": test.task,
        "dataset": f"sandbox videos in the {test.layout} layout",
        "split": "val",
        "data": test.data,
        **({"data_options": test.options} if test.options else {}),
        "protocol": zoo.create(MODEL).protocol()["in_words"],
        "description": DESCRIPTION,
        "source": f"benchmarks/sandbox/{SCRIPT}: {CLIPS} training clips without labels, {results['steps']} steps, "
        f"{test.sequences} test sequences, mean and standard deviation over {seeds(results)}",
        "note": "The bundled weights are those of the first seed, by rule and not by score. Random weights are the "
        "same network before training, over the same seeds.",
        "metrics": {key: dict(value) for key, value in test.metrics.items()},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--steps", type=int, help="of training; the recipe's by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/time_cycle"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--precision", default="bf16-mixed", help="of training; 32-true where bf16 is slow")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), choices=list(TESTS), help="these only")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    options = parser.parse_args()
    if options.bundle and set(options.tests) != set(TESTS):
        parser.error("--bundle wants all tests.")

    options.out.mkdir(parents=True, exist_ok=True)
    roots = {}
    for name in ("sandbox_vlog", *(test.data for test in TESTS.values())):
        data = zoo.datamodule(name)
        data.prepare_data()
        roots[name] = data.root
    model = zoo.create(MODEL)
    if not (options.out / "videos.npy").exists():
        remember(SandboxVlog(roots["sandbox_vlog"], model.spec), options.out / "videos.npy")
    steps, tests = options.steps or model.recipe.iterations, tuple(options.tests)
    settings = Settings(roots, options.out, steps, options.threads, options.precision, tests)
    # The long runs first, so that none is left over for one process at the end.
    jobs = [(row, seed) for row in ("trained", "random") for seed in options.seeds]
    jobs.append(("identity", options.seeds[0]))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(run, settings), jobs))
    results = {"steps": steps, "tests": tests, "data": DESCRIPTION, **about(), "summary": summary(runs, tests)}
    results["runs"] = runs
    write_whole(options.out / "results.json", as_json(results))
    for row, scores in results["summary"].items():
        print(row, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results)


if __name__ == "__main__":
    main()
