"""Trains the sandbox's MIL-NCE on the narration of how-to films, and actionness on its features by order alone.

    python benchmarks/sandbox/milnce.py --seeds 0 1 2 --jobs 3 --out runs/sandbox/milnce --accelerator gpu [--bundle]

Renders the films, and once per seed: trains `s3d_milnce_tiny` on clips and captions; tells how often it finds the clip
of a held-out caption, and what a clip's step is called; extracts the features of all films at two rows a second; trains
a linear actionness on them by order alone, of films that nobody annotated, and another by labels, of COIN's training
subset; and tests both on COIN's test subset, beside chance. ``results.json`` (each run's scores and seconds; mean and
standard deviation; versions) and every run's weights and features go into the output folder. A run that is already
there is not repeated. ``--bundle`` then puts the weights of the first seed, whatever they score, into the repository:
weights/, checkpoints.yaml, benchmarks/tables/sandbox.yaml and benchmarks/results/.

The training films are decoded once; clips are cut out of them by the same draws that the datamodule makes.
"""

from __future__ import annotations

import argparse
import json
import shutil
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
from common import QUIET, as_json, spread
from films_memory import RememberedFilms, remember_films
from films_tables import ACTIONNESS, BOUND, EXTRACTOR, METRICS, OURS, SCRIPT, bundle

import zoo
from zoo.data.coin import Coin
from zoo.data.howto100m import HowTo100MFeatures
from zoo.data.sandbox.film_datamodules import SandboxHowTo100MFilms
from zoo.data.sandbox.film_plots import TASKS, Film
from zoo.data.sandbox.howto_films import (
    COIN_TESTING,
    COIN_TRAINING,
    DESCRIPTION,
    TRAIN,
    describe,
    render_howto_films,
)
from zoo.extraction import extract_collection
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.metrics.actionness import ChanceAP
from zoo.reproduce.provenance import about, device_name

RATE = 2.0  # rows of features a second
EPOCHS, BATCH = 40, 16  # of actionness: the rate is nothing after that, and the films are few
RETRIEVAL = ("recall_1", "recall_10", "median_rank", "step_top1")


@dataclass(frozen=True)
class Settings:
    """What all runs share.

    Attributes:
        films: how many are rendered: of HowTo100M, of COIN's training subset, of its test subset.
        workers: processes of each run that decode.
    """

    root: Path
    out: Path
    films: tuple[int, int, int]
    iterations: int | None
    batch: int | None
    threads: int
    workers: int
    accelerator: str


def run(settings: Settings, seed: int) -> dict[str, Any]:
    """Everything of one seed, or what an earlier call wrote down."""
    torch.set_num_threads(settings.threads)
    record = settings.out / f"seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    weights = settings.out / f"{EXTRACTOR}.seed{seed}.safetensors"
    story = weights.with_suffix(".json")
    model = zoo.create(EXTRACTOR)
    if not story.exists():
        write_whole(story, as_json(_train(settings, seed, weights)))
    # What is bundled is rounded; score just that.
    load_strict(model, read_weights(weights)[0])
    result = {"script": f"benchmarks/sandbox/{SCRIPT}", "seed": seed, **json.loads(story.read_text())}
    result |= _retrieve(settings, model)
    home = settings.out / f"seed{seed}"
    start = time.monotonic()
    _extract(settings, model, home)
    result["extract_seconds"] = round(time.monotonic() - start, 1)
    result["step_top1"] = _name_steps(settings, model.cpu().eval(), home)
    for name in (OURS, BOUND):
        result[name] = _learn_actionness(settings, home, name, seed)
    write_whole(record, as_json(result))
    print(seed, {key: result[key] for key in ("seconds", *RETRIEVAL, OURS, BOUND)}, flush=True)
    return result


def _train(settings: Settings, seed: int, weights: Path) -> dict[str, Any]:
    """Train MIL-NCE, and write its weights in half precision."""
    pl.seed_everything(seed, verbose=False)
    model = zoo.create(EXTRACTOR)
    batch = settings.batch or model.recipe.batch
    data = RememberedFilms(settings.root, model.spec, batch, num_workers=0, seed=seed, memory=settings.out)
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        max_steps=settings.iterations or model.recipe.iterations,
        max_epochs=-1,
        limit_val_batches=0,
        **QUIET,
    )
    start = time.monotonic()
    trainer.fit(model, data)
    seconds = time.monotonic() - start
    _save(model, weights, seed)
    return {
        "model": model.name,
        "steps": trainer.global_step,
        "batch": batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": device_name(trainer.strategy.root_device),
        "seconds": round(seconds, 1),
        "train_loss": round(float(trainer.callback_metrics["train_loss"]), 4),
    }


def _save(model: pl.LightningModule, weights: Path, seed: int) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    about_it = {
        "script": f"benchmarks/sandbox/{SCRIPT}",
        "seed": seed,
        "model": model.name,
        "arguments": model.arguments,
    }
    save_weights(weights, {k: v.contiguous().cpu() for k, v in state.items()}, about_it)


def _retrieve(settings: Settings, model: pl.LightningModule) -> dict[str, float]:
    """How the held-out captions find their clips, one of each test film."""
    data = SandboxHowTo100MFilms(settings.root, model.spec, batch_size=16, num_workers=0)
    (found,) = pl.Trainer(accelerator=settings.accelerator, devices=1, **QUIET).test(model, data, verbose=False)
    return {key: round(found[key], 2) for key in ("recall_1", "recall_5", "recall_10", "median_rank")}


def _extract(settings: Settings, model: pl.LightningModule, home: Path) -> None:
    """Features of all films, in a root for who learns from features; what is there is not computed again."""
    home.mkdir(exist_ok=True)
    for name in ("HowTo100M_v1.csv", "COIN.json"):
        shutil.copyfile(settings.root / name, home / name)
    extract_collection(
        model,
        settings.root / "videos",
        home / "features",
        rate=RATE,
        batch_size=64,
        workers=settings.workers,
        accelerator=settings.accelerator,
        devices=1,
    )


def _name_steps(settings: Settings, model: pl.LightningModule, home: Path) -> float:
    """Percent of the test films' steps whose name, among those of all tasks, scores highest on their rows."""
    labels = list(dict.fromkeys(step.label for task in TASKS for step in task.steps))
    right: list[bool] = []
    for film in _tested(settings):
        rows = torch.from_numpy(np.load(home / "features" / f"{film.name}.npy", allow_pickle=False)).float()
        with torch.inference_mode():
            scores = model.step_scores(rows, labels)
        for step, start, end in film.steps:
            best = int(scores[int(start * RATE) : max(int(end * RATE), int(start * RATE) + 1)].mean(0).argmax())
            right.append(labels[best] == film.task.steps[step].label)
    return round(100 * float(np.mean(right)), 2)


def _tested(settings: Settings) -> list[Film]:
    return [describe(0, "testing", index) for index in range(settings.films[2])]


def _learn_actionness(settings: Settings, home: Path, name: str, seed: int) -> dict[str, float]:
    """Train a linear score by order or by labels, and test it on COIN's test subset."""
    pl.seed_everything(seed, verbose=False)
    by = {OURS: "order", BOUND: "labels"}[name]
    model = zoo.create(ACTIONNESS, objective=by)
    options = {"num_workers": 0, "seed": seed, "rate": RATE}
    coin = Coin(home, model.spec, BATCH, expected=None, **options)
    data = coin
    if name == OURS:
        data = HowTo100MFeatures(home, model.spec, BATCH, exclude=str(home / "COIN.json"), min_videos=0, **options)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, limit_val_batches=0, **QUIET)
    start = time.monotonic()
    trainer.fit(model, data)
    seconds = time.monotonic() - start
    _save(model, settings.out / f"{ACTIONNESS}.{name}.seed{seed}.safetensors", seed)
    load_strict(model, read_weights(settings.out / f"{ACTIONNESS}.{name}.seed{seed}.safetensors")[0])
    (found,) = pl.Trainer(accelerator="cpu", **QUIET).test(model, coin, verbose=False)
    scores = {key: round(found[key], 2) for key in (*METRICS, "positive_rate", "ar_1", "ar_100")}
    return {
        **scores,
        "train_loss": round(float(trainer.callback_metrics["train_loss"]), 4),
        "seconds": round(seconds, 1),
    }


def chance(films: Sequence[Film], trim: float) -> dict[str, float]:
    """What a score drawn at random gets; where segments at both ends are lowest, too."""
    metric = ChanceAP(trim)
    for number, film in enumerate(films):
        metric.update([step[1:] for step in film.steps], film.duration, number)
    return {key: round(float(metric.compute()[key]), 2) for key in ("ap", "ap_video")}


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation of every row's scores."""
    rows = {name: spread([one[name] for one in runs], METRICS) for name in (OURS, BOUND)}
    return {EXTRACTOR: spread(runs, RETRIEVAL), **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, help="of MIL-NCE; the recipe's by default")
    parser.add_argument("--batch", type=int, help="clips in a step of MIL-NCE; the recipe's by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/milnce"))
    parser.add_argument("--root", type=Path, help="where the films are rendered; the user's cache by default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode, for each run")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    parser.add_argument(
        "--films",
        type=int,
        nargs=3,
        default=[TRAIN, COIN_TRAINING, COIN_TESTING],
        help="that are rendered, for a trial",
    )
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    data = SandboxHowTo100MFilms(options.root, zoo.create(EXTRACTOR).spec)
    settings = Settings(
        *(data.root, options.out, tuple(options.films), options.iterations, options.batch),
        *(options.threads, options.workers, options.accelerator),
    )
    place = options.out / "results.json"
    if all((options.out / f"seed{seed}.json").exists() for seed in options.seeds):
        if place.exists():  # all is done; it may be bundled on another machine than trained on
            return bundle(options.out, json.loads(place.read_text())) if options.bundle else None
    else:
        start = time.monotonic()
        render_howto_films(data.root, 0, *options.films, workers=options.workers * options.jobs)
        print(f"rendered: {time.monotonic() - start:.1f} s", flush=True)
        remember_films(data, options.out, options.workers * options.jobs)
        print(f"decoded: {time.monotonic() - start:.1f} s", flush=True)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(run, settings), options.seeds))
    films = _tested(settings)
    results = {
        "data": DESCRIPTION,
        "films": options.films,
        **about(),
        "chance": {"whole": chance(films, 0.0), "trimmed": chance(films, 0.3)},
        "summary": summarize(runs),
        "runs": runs,
    }
    write_whole(place, as_json(results))
    print("chance", results["chance"])
    for row, scores in results["summary"].items():
        print(row, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results)
    return None


if __name__ == "__main__":
    main()
