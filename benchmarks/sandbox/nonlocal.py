"""Trains the sandbox's two networks, with and without non-local blocks, and says what they score.

    python benchmarks/sandbox/nonlocal.py --seeds 0 1 2 3 4 --out runs/sandbox/nonlocal [--bundle]

Renders the sandbox's videos, trains `nonlocal_i3d_tiny` and its block-free twin `i3d_tiny` by the recipe that both
carry, once per seed, tests each on the validation split by the protocol of its spec, and writes ``results.json``
(each seed's scores, curve and seconds; mean and standard deviation; versions) and every run's weights into the output
folder. A run that is already there is not trained again. ``--bundle`` then puts the weights of the first seed,
whatever they score, into the repository: weights/, checkpoints.yaml, benchmarks/tables/sandbox.yaml and
benchmarks/results/.

The videos are decoded once and kept as bytes; training clips are cut out of them by the same draws that the datamodule
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
from zoo.data.kinetics import SandboxKinetics
from zoo.data.sandbox import DESCRIPTION, TRAIN, VAL, render_kinetics
from zoo.files import write_whole
from zoo.hub.weights import save_weights
from zoo.reproduce.provenance import about

TWIN, NONLOCAL = "i3d_tiny", "nonlocal_i3d_tiny"
ROWS = {TWIN: "I3D, tiny", NONLOCAL: "Non-local I3D, tiny"}
SCRIPT = "nonlocal.py"


class RememberedKinetics(Remembered, SandboxKinetics):
    """The sandbox's datamodule, trained from memory and tested from the files."""


class Curve(pl.Callback):
    """Mean training loss of every epoch, and the validation accuracy where it was taken."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.points: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        point = {"epoch": trainer.current_epoch + 1, "train_loss": round(statistics.fmean(self.losses), 4)}
        if (
            "val_top1" in trainer.callback_metrics
            and (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        ):
            point["val_top1"] = round(float(trainer.callback_metrics["val_top1"]), 2)
        print(f"{module.name}: {point}", flush=True)
        self.points.append(point)
        self.losses.clear()


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    root: Path
    out: Path
    epochs: int
    threads: int
    precision: str


def train(settings: Settings, run: tuple[str, int]) -> dict[str, Any]:
    """One run, or what an earlier one wrote down; the weights lie beside it."""
    name, seed = run
    record = settings.out / f"{name}.seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    torch.set_num_threads(settings.threads)
    pl.seed_everything(seed, verbose=False)
    model = zoo.create(name).to(memory_format=torch.channels_last_3d)  # a third faster on a CPU
    data = RememberedKinetics(settings.root, model.spec, model.recipe.batch, num_workers=0, seed=seed)
    data.videos = np.load(settings.out / "videos.npy", mmap_mode="r")
    curve = Curve()
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=settings.precision,
        max_epochs=settings.epochs,
        check_val_every_n_epoch=max(1, settings.epochs // 2),
        num_sanity_val_steps=0,
        callbacks=[curve],
        **QUIET,
    )
    start, start_cpu = time.monotonic(), time.process_time()
    trainer.fit(model, data)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - start_cpu
    (scores,) = pl.Trainer(accelerator="cpu", **QUIET).test(model, data, verbose=False)  # in 32 bits, as everywhere
    story = {"script": "benchmarks/sandbox/nonlocal.py", "model": name, "seed": seed, "epochs": settings.epochs}
    story["precision"] = settings.precision
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_weights(record.with_suffix(".safetensors"), state, {**story, "labels": list(model.labels)})
    result = {
        **story,
        **{key: round(scores[key], 4) for key in ("top1", "top5")},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "curve": curve.points,
    }
    write_whole(record, json.dumps(result, indent=1).encode())
    return result


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each model, mean and standard deviation of its runs' scores in percent."""
    names = dict.fromkeys(run["model"] for run in runs)
    return {name: spread([run for run in runs if run["model"] == name], ("top1", "top5")) for name in names}


def bundle(out: Path, results: dict[str, Any]) -> None:
    """Put the first seed's weights, their proofs, entries and the table into the repository."""
    seed = min(run["seed"] for run in results["runs"])
    entries = {}
    for name in ROWS:
        (run,) = (run for run in results["runs"] if (run["model"], run["seed"]) == (name, seed))
        entries[f"{name}.sandbox"] = _entry(out / f"{name}.seed{seed}.safetensors", run, results)
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, entries)
    rewrite_tables(REPOSITORY / "benchmarks/tables/sandbox.yaml", [_table(results)])
    write_whole(REPOSITORY / "benchmarks/results/sandbox_nonlocal_training.json", as_json(results))


def _entry(source: Path, run: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Copy one checkpoint, write its proof, and return its entry in checkpoints.yaml."""
    name = run["model"]
    model = zoo.create(name)
    spec = model.spec
    return {
        **bundle_weights(name, source, (1, 3, spec.frames, spec.test_crop, spec.test_crop)),
        "trained_on": ["sandbox_kinetics"],
        "num_classes": model.num_classes,
        "labels": "sandbox_kinetics",
        "reported": {
            "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
            "scores": {key: value["mean"] for key, value in results["summary"][name].items()},
            "protocol": "sandbox_kinetics_1view",
            "table": "sandbox/nonlocal",
            "row": ROWS[name],
            "videos": VAL,
        },
        "measured": {key: run[key] for key in ("top1", "top5")},
        "notes": f"Seed {run['seed']}. Knows the classes of the rendered sandbox videos and nothing of real actions.",
    }


def _table(results: dict[str, Any]) -> dict[str, Any]:
    percent = {"unit": "percent", "higher_is_better": True}
    return {
        "id": "nonlocal",
        "title": "A small I3D on rendered videos, without and with two non-local blocks",
        "task": "video classification",
        "dataset": "sandbox videos in the Kinetics layout",
        "split": "val",
        "data": "sandbox_kinetics",
        "protocol": "the middle clip, the centre crop",
        "description": DESCRIPTION,
        "source": f"benchmarks/sandbox/{SCRIPT}: {TRAIN} training and {VAL} validation videos, "
        f"{results['epochs']} epochs, mean and standard deviation over {seeds(results)}",
        "note": "The bundled weights are those of the first seed, by rule and not by score.",
        "metrics": {"top1": percent, "top5": dict(percent)},
        "rows": [
            {
                "name": row,
                "own": True,
                "model": name,
                "weights": f"{name}.sandbox",
                "values": {key: value["mean"] for key, value in results["summary"][name].items()},
                "spread": {key: value["std"] for key, value in results["summary"][name].items()},
            }
            for name, row in ROWS.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", default=list(ROWS), choices=list(ROWS), help="train these only")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--root", type=Path, help="where the videos are or shall be; the user's cache by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/nonlocal"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--precision", default="bf16-mixed", help="of training; 32-true where bf16 is slow")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    data = SandboxKinetics(options.root, zoo.create(NONLOCAL).spec)
    render_kinetics(data.root, workers=options.jobs)
    if not (options.out / "videos.npy").exists():
        remember(data, options.out / "videos.npy")
    settings = Settings(data.root, options.out, options.epochs, options.threads, options.precision)
    todo = [(name, seed) for seed in options.seeds for name in options.models]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(train, settings), todo))
    results = {"epochs": options.epochs, "data": DESCRIPTION, **about(), "summary": summary(runs), "runs": runs}
    write_whole(options.out / "results.json", as_json(results))
    for name, scores in results["summary"].items():
        print(name, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results)


if __name__ == "__main__":
    main()
