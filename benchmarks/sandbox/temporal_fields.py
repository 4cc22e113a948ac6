"""Trains the sandbox's temporal fields and says what each part of their structure is worth (figures 6 and 8, in small).

    python benchmarks/sandbox/temporal_fields.py --seeds 0 1 2 --out runs/sandbox/fields [--accelerator gpu] [--bundle]

Renders the sandbox's household and trains, once per seed: single frames with a softmax; the field with everything, and
without one part or several; and the whole field synchronously, 4 videos of 16 frames a batch in place of 64 frames of
any videos. All are tested as any model is tested, their weights rounded to half precision, as they are bundled.
``results.json`` (each run's scores, seconds and curve; mean and standard deviation; versions) and every run's weights
go into the output folder. A run that is already there is not repeated. ``--bundle`` then puts the weights of the first
seed, whatever they score, into the repository: weights/, checkpoints.yaml, benchmarks/tables/sandbox.yaml and
benchmarks/results/.

The training videos are decoded once; samples are cut out of them by the same draws that the datamodule makes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
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
from memory import RememberedCharades, remember_charades

import zoo
from zoo.data.activities import localisation_labels
from zoo.data.sandbox.activities import CLASSES, TWINS
from zoo.data.sandbox.charades import DESCRIPTION, TEST, TRAIN, render_charades
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.reproduce.provenance import about, device_name

SCRIPT = "temporal_fields.py"
FULL = "temporal_fields_tiny"
PERCENT = {"unit": "percent", "higher_is_better": True}
METRICS = {"map": PERCENT, "point_map": PERCENT, "point_map_post": PERCENT}
TOGETHER = 16  # frames of a video in synchronous training
EVERY = 200  # steps from one point of a curve to the next


@dataclass(frozen=True)
class Run:
    """A model that is trained.

    Attributes:
        model: its registered name.
        title: of its row.
        arguments: of the model.
        tag: of its checkpoint.
        curve: whether it is tested all along.
    """

    model: str
    title: str
    arguments: dict[str, Any]
    tag: str = "sandbox"
    curve: bool = False


RUNS = {
    "frames": Run("charades_frames_tiny", "Nothing: single frames", {}, curve=True),
    "semantic": Run(f"{FULL}_semantic", "Semantic only", {}),
    "no_xx": Run(f"{FULL}_no_xx", "Without phi_XX", {}),
    "no_xi": Run(f"{FULL}_no_xi", "Without phi_XI", {}),
    "no_p": Run(f"{FULL}_no_p", "Without progress", {}),
    "full": Run(FULL, "All, asynchronous", {}, curve=True),
    "synchronous": Run(FULL, "All, synchronous", {"together": TOGETHER}, "sandbox_synchronous", curve=True),
}


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    root: Path
    out: Path
    iterations: int | None
    threads: int
    accelerator: str


class Curve(pl.Callback):
    """The mean average precision on the test videos as training goes on."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.points.append((trainer.global_step, round(float(trainer.callback_metrics["val_map"]), 2)))


def run(settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """Train and score one model, or read what an earlier call wrote down."""
    name, seed = job
    torch.set_num_threads(settings.threads)
    record = settings.out / f"{name}.seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    what = RUNS[name]
    pl.seed_everything(seed, verbose=False)
    steps = {"iterations": settings.iterations} if settings.iterations else {}
    model = zoo.create(what.model, **what.arguments, **steps)
    story = _train(settings, model, what, seed)
    weights = record.with_suffix(".safetensors")
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    about_it = {"script": f"benchmarks/sandbox/{SCRIPT}", "model": model.name, "seed": seed}
    save_weights(weights, {key: value.contiguous().cpu() for key, value in state.items()}, about_it)
    load_strict(model, read_weights(weights)[0])  # what is bundled is rounded; score just that
    result = {"script": f"benchmarks/sandbox/{SCRIPT}", "run": name, "model": model.name, "seed": seed, **story}
    start = time.monotonic()
    result |= _score(settings, model)
    result["test_seconds"] = round(time.monotonic() - start, 1)
    write_whole(record, json.dumps(result, indent=1).encode())
    print(name, seed, f"{result['seconds']} s", {k: result[k] for k in (*METRICS, "twins")}, flush=True)
    return result


def _train(settings: Settings, model: pl.LightningModule, what: Run, seed: int) -> dict[str, Any]:
    rows = model.spec.moments.together
    data = RememberedCharades(
        settings.root, model.spec, model.recipe.batch // rows, num_workers=0, seed=seed, memory=settings.out
    )
    curve = Curve()
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        max_steps=model.recipe.iterations,
        max_epochs=-1,
        gradient_clip_val=5.0,
        **(
            {"val_check_interval": EVERY, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
            if what.curve
            else {"limit_val_batches": 0}
        ),
        callbacks=[curve],
        **QUIET,
    )
    start = time.monotonic()
    trainer.fit(model, data)
    return {
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": device_name(trainer.strategy.root_device),
        "seconds": round(time.monotonic() - start, 1),
        "train_loss": round(float(trainer.callback_metrics["train_loss"]), 4),
        "curve": curve.points,
    }


def _score(settings: Settings, model: pl.LightningModule) -> dict[str, float]:
    """All numbers of the table, by the test that the zoo has for everyone, and how often twins are told apart."""
    data = zoo.datamodule("sandbox_charades", root=settings.root, spec=model.spec, batch_size=4, num_workers=0)
    trainer = pl.Trainer(accelerator=settings.accelerator, devices=1, **QUIET)
    (found,) = trainer.test(model.eval(), data, verbose=False)
    told = twins(data.records("val"), [video for batch in trainer.predict(model, data) for video in batch])
    return {key: round(found[key], 4) for key in METRICS} | {key: round(value, 2) for key, value in told.items()}


def twins(records: Sequence[Any], predictions: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Percent of the moments of look-alikes at which the right one of two classes scores higher, for each pair."""
    number = {pair: n for n, pair in enumerate(CLASSES.values())}
    right: dict[str, list[bool]] = {}
    for video in predictions:
        record, moments = records[video["index"]], video["moments"].numpy()
        label = localisation_labels(record.actions, record.length, record.classes) > 0
        for look, (one, other) in TWINS.items():
            for verb in {verb for thing, verb in number if thing == one}:
                a, b = number[one, verb], number[other, verb]
                only = label[:, a] ^ label[:, b]
                right.setdefault(look, []).extend(((moments[:, a] > moments[:, b]) == label[:, a])[only])
    every = [hit for hits in right.values() for hit in hits]
    return {"twins": 100 * np.mean(every), **{f"twins_{look}": 100 * np.mean(hits) for look, hits in right.items()}}


def bundle(out: Path, results: dict[str, Any], chance: dict[str, float]) -> None:
    """Put the first seed's weights, their proofs, their entries and the table into the repository."""
    entries = {}
    for name, what in RUNS.items():
        first = min((one for one in results["runs"] if one["run"] == name), key=lambda one: one["seed"])
        entries[f"{what.model}.{what.tag}"] = {
            **bundle_weights(what.model, out / f"{name}.seed{first['seed']}.safetensors", (2, 3, 64, 64), tag=what.tag),
            "trained_on": ["sandbox_charades"],
            "num_classes": len(CLASSES),
            "labels": "sandbox_charades",
            "reported": {
                "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
                "scores": {key: results["summary"][name][key]["mean"] for key in METRICS},
                "protocol": "sandbox_charades_25frames_max",
                "table": "sandbox/activities",
                "row": what.title,
                "videos": TEST,
            },
            "measured": {key: first[key] for key in METRICS},
            "notes": f"Seed {first['seed']}, in half precision. Knows the sandbox's videos and no real ones.",
        }
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, entries)
    rewrite_tables(REPOSITORY / "benchmarks/tables/sandbox.yaml", [table(results, chance)])
    write_whole(REPOSITORY / "benchmarks/results/sandbox_activities_training.json", as_json(results))


def table(results: dict[str, Any], chance: dict[str, float]) -> dict[str, Any]:
    """Figure 8 on the sandbox."""
    rows = [
        {
            "name": what.title,
            "own": True,
            "model": what.model,
            "weights": f"{what.model}.{what.tag}",
            "values": {metric: results["summary"][name][metric]["mean"] for metric in METRICS},
            "spread": {metric: results["summary"][name][metric]["std"] for metric in METRICS},
        }
        for name, what in RUNS.items()
    ]
    guess = {"name": "Chance", "own": True, "model": "charades_chance", "weights": "none", "values": chance}
    guess["override"] = {"num_classes": len(CLASSES)}
    return {
        "id": "activities",
        "title": "What people do in rendered household videos, and what each part of the field's structure is worth",
        "task": "video classification and temporal localisation",
        "dataset": "sandbox videos in the layout of Charades",
        "split": "test",
        "data": "sandbox_charades",
        "protocol": zoo.create(FULL).protocol()["in_words"],
        "description": DESCRIPTION,
        "source": f"benchmarks/sandbox/{SCRIPT}: {TRAIN} training videos, {TEST} test videos, mean and standard "
        f"deviation over {seeds(results)}",
        "note": "Three pairs of objects look alike; nothing but the rest of a video tells them apart. The bundled "
        "weights are those of the first seed, by rule and not by score.",
        "metrics": {key: dict(value) for key, value in METRICS.items()},
        "rows": [*rows, guess],
    }


def _chance(root: Path) -> dict[str, float]:
    model = zoo.create("charades_chance", num_classes=len(CLASSES))
    data = zoo.datamodule("sandbox_charades", root=root, spec=model.spec, num_workers=0)
    (found,) = pl.Trainer(accelerator="cpu", **QUIET).test(model, data, verbose=False)
    return {key: round(found[key], 2) for key in METRICS if key in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, help="of training; the recipes' by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/fields"))
    parser.add_argument("--root", type=Path, help="where the household is rendered; the user's cache by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these runs")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    parser.add_argument("--videos", type=int, nargs=2, default=[TRAIN, TEST], help="that are rendered, for a trial")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    data = zoo.datamodule("sandbox_charades", root=options.root, spec=zoo.create(FULL).spec)
    jobs = [(name, seed) for name in options.only for seed in options.seeds]
    place = options.out / "results.json"
    if all((options.out / f"{name}.seed{seed}.json").exists() for name, seed in jobs) and place.exists():
        render_charades(data.root, train=0)  # all is done; it may be bundled on another machine than trained on
        return bundle(options.out, json.loads(place.read_text()), _chance(data.root)) if options.bundle else None
    render_charades(data.root, 0, *options.videos, workers=options.jobs)
    remember_charades(data, options.out)
    settings = Settings(data.root, options.out, options.iterations, options.threads, options.accelerator)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(run, settings), jobs))
    names = dict.fromkeys(one["run"] for one in runs)
    summary = {n: spread([one for one in runs if one["run"] == n], [*METRICS, "twins"]) for n in names}
    results = {"data": DESCRIPTION, **about(), "summary": summary, "runs": runs}
    write_whole(place, as_json(results))
    for row, scores in results["summary"].items():
        print(row, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results, _chance(data.root))
    return None


if __name__ == "__main__":
    main()
