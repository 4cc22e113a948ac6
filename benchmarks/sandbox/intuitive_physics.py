"""Trains the intuitive physics models on simulated collisions, and what the paper compares them with.

    python benchmarks/sandbox/intuitive_physics.py --seeds 0 1 2 --jobs 2 --out runs/sandbox/physics [--bundle]

Simulates the collisions at 64 pixels where they are not there yet (`zoo data make physics_collisions`), trains every
model of `ROWS` once per seed, and tests it on the unseen shapes and the unseen parameters. ``results.json`` (each run's
scores, seconds and curve; mean and standard deviation; versions) and every run's weights go into the output folder. A
run that is already there is not repeated. ``--bundle`` then puts the weights of the first seed, whatever they score,
into the repository: weights/, checkpoints.yaml, benchmarks/tables/collisions.yaml and benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from collisions_tables import LINE, METRICS, ROWS, SCRIPT, STILL, bundle
from common import QUIET, as_json, spread
from torch import Tensor

import zoo
from zoo.data.collisions.make import make_collisions
from zoo.data.collisions.plan import Plan
from zoo.data.collisions.store import CollisionStore
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.methods.collisions import RECIPE, CollisionModel, Views, collision_spec
from zoo.reproduce.provenance import about, device_name

_STORES: dict[bool, CollisionStore] = {}  # with and without flow, which takes minutes to compute


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    root: Path
    out: Path
    share: float
    threads: int
    accelerator: str

    def data(self, model: pl.LightningModule, seed: int = 0) -> PhysicsCollisions:
        """The collisions as a model wants them, in the memory that all runs of this process share."""
        data = PhysicsCollisions(self.root, model.spec, num_workers=0, seed=seed, cache=True)
        data.store = _STORES.setdefault(model.spec.collisions.flow, data.store)
        return data

    def trainer(self, **options: Any) -> pl.Trainer:
        return pl.Trainer(accelerator=self.accelerator, devices=1, **{**QUIET, **options})


class Curve(pl.Callback):
    """What each epoch logged, and how many collisions were seen."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.samples = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_
    ) -> None:
        self.samples += len(batch["clips"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {k.removesuffix("_epoch"): round(float(v), 4) for k, v in trainer.callback_metrics.items()}
        self.epochs.append({k: v for k, v in found.items() if not k.endswith("_step")})


def run(settings: Settings, job: tuple[int, str]) -> dict[str, Any]:
    """Train and test one model on one seed, or read what an earlier call wrote down."""
    seed, name = job
    torch.set_num_threads(settings.threads)
    record = settings.out / f"{name}.seed{seed}.json"
    if record.exists():
        found = json.loads(record.read_text())
        if found["share"] != settings.share:
            raise SystemExit(f"{record} is of --share {found['share']}, not {settings.share}: give another --out.")
        return found
    pl.seed_everything(seed, verbose=False)
    model = zoo.create(name).to(memory_format=torch.channels_last)  # a third faster on a processor
    data, curve = settings.data(model, seed), Curve()
    data.setup("fit")
    data.train_dataloader()  # into memory, before the clock runs
    trainer = settings.trainer(
        max_epochs=model.recipe.epochs,
        limit_train_batches=settings.share,
        limit_val_batches=0,
        callbacks=[curve],
    )
    start = time.monotonic()
    trainer.fit(model, data)
    seconds = time.monotonic() - start
    weights = settings.out / f"{name}.seed{seed}.safetensors"
    _save(model, weights, seed)
    load_strict(model, read_weights(weights)[0])  # what is bundled is rounded; score just that
    (found,) = settings.trainer().test(model, data, verbose=False)
    result = {
        "script": f"benchmarks/sandbox/{SCRIPT}",
        "model": name,
        "seed": seed,
        "arguments": model.arguments,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": trainer.global_step,
        "samples": curve.samples,
        "share": settings.share,
        "seconds": round(seconds, 1),
        "device": device_name(trainer.strategy.root_device),
        "threads": settings.threads,
        **{key: round(found[key], 2) for key in METRICS if key in found},
        "curve": curve.epochs,
    }
    write_whole(record, as_json(result))
    print(name, seed, {k: result[k] for k in ("seconds", *METRICS) if k in result}, flush=True)
    return result


def _save(model: pl.LightningModule, weights: Path, seed: int) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    told = {"script": f"benchmarks/sandbox/{SCRIPT}", "seed": seed, "model": model.name, "arguments": model.arguments}
    save_weights(weights, {k: v.contiguous().cpu() for k, v in state.items()}, told)


class Still(CollisionModel):
    """The fourth frame as it is."""

    interpolates = False

    def latent(self, views: Views) -> Tensor:
        return views.clips.new_zeros(len(views.clips), 0)

    def decode(self, z: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return frame, frame


def untrained(settings: Settings) -> dict[str, dict[str, float]]:
    """What needs no training: a line through the flow, and the fourth frame as it is."""
    side, found = zoo.create(ROWS["ours"]).spec.crop, {}
    for name, model in ((LINE, zoo.create(LINE)), (STILL, Still(collision_spec(side), RECIPE))):
        (scores,) = settings.trainer().test(model, settings.data(model), verbose=False)
        found[name] = {key: round(scores[key], 2) for key in METRICS if key in scores}
    return found


def told(settings: Settings) -> dict[str, Any]:
    """What the tables say of the collisions."""
    model = zoo.create(ROWS["ours"])
    data = settings.data(model)
    pairs = 11 * 125
    return {
        "size": model.spec.crop,
        "collisions": len(data.index),
        "variants": len(data.index) // pairs,
        "mini_batches": len(data.records("val")),
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every model's scores over the seeds."""
    of_name = {name: [one for one in runs if one["model"] == name] for name in ROWS.values()}
    return {n: spread(rows, [k for k in METRICS if k in rows[0]]) for n, rows in of_name.items() if rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="which models")
    parser.add_argument("--share", type=float, default=0.4, help="part of the batches that an epoch has (0.4)")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/physics"))
    parser.add_argument("--root", type=Path, help="of the collisions; made within --out by default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        *(options.root or options.out / "collisions", options.out, options.share),
        *(options.threads, options.accelerator),
    )
    if not (settings.root / "info" / "data.p").exists():
        make_collisions(settings.root, Plan(), size=zoo.create(ROWS["ours"]).spec.crop, workers=options.jobs)
    place, jobs = options.out / "results.json", list(product(options.seeds, (ROWS[row] for row in options.rows)))
    if options.bundle and set(options.rows) != set(ROWS):
        parser.error("--bundle wants every row.")
    if place.exists() and all((options.out / f"{name}.seed{seed}.json").exists() for seed, name in jobs):
        return bundle(options.out, json.loads(place.read_text())) if options.bundle else None  # all is done
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(run, settings), jobs))
    results = {
        **about(),
        **told(settings),
        "untrained": untrained(settings),
        "summary": summarize(runs),
        "runs": runs,
    }
    write_whole(place, as_json(results))
    for name, scores in results["untrained"].items():
        print(name, scores)
    for name, scores in results["summary"].items():
        print(name, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results)
    return None


if __name__ == "__main__":
    main()
