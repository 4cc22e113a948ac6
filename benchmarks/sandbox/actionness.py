"""Trains the sandbox's actionness on order alone, and says what each part of that training is worth (section 4.2).

    python benchmarks/sandbox/actionness.py --seeds 0 1 2 3 4 --out runs/sandbox/actionness [--bundle]

Renders the sandbox's how-to world and trains, once per seed: actionness by order; the same on whole videos instead of
their middle, with other numbers of clips, and within short windows; the same with the clips of every sample in a random
order, which must find nothing; with labels, the upper bound; and the model of steps of CrossTask, which is tested with
and without actionness. Its share of actionness is the one that does best on training videos, one for all seeds. All are
tested as any model is tested, their weights rounded to half precision, as they are bundled. ``results.json`` (each
run's scores and seconds; mean and standard deviation; versions) and every run's weights go into the output folder. A
run that is already there is not repeated. ``--bundle`` then puts the weights of the first seed, whatever they score,
into the repository: weights/, checkpoints.yaml, benchmarks/tables/sandbox.yaml and benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from actionness_tables import ACTIONNESS, METRICS, SCRIPT, STEPS, bundle
from common import QUIET, as_json, spread
from torch.utils.data import DataLoader

import zoo
from zoo.data.annotated_loader import WholeVideos, collate_videos
from zoo.data.sandbox.howto import DESCRIPTION, render_coin, render_crosstask, render_howto100m
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.reproduce.provenance import about

TESTS = ("coin", "crosstask")
ALPHAS = tuple(round(0.1 * tenths, 1) for tenths in range(10))  # shares of actionness, 0 for none


@dataclass(frozen=True)
class Run:
    """A model that is trained.

    Attributes:
        arguments: of actionness.
        data: the data set that it learns from.
        batch: videos in a step.
        epochs: passes over the data.
        scrambled: whether the clips of a sample come in a random order, so that there is nothing to learn.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    data: str = "sandbox_howto100m"
    batch: int = 128
    epochs: int = 15
    scrambled: bool = False


RUNS = {
    "ours": Run(),
    "untrimmed": Run({"trim": 0.0}),
    "m3": Run({"clips": 3}),
    "m8": Run({"clips": 8}),
    **{f"d{seconds}": Run({"window": float(seconds)}) for seconds in (10, 20, 40, 80)},
    "scrambled": Run(scrambled=True),
    **{f"supervised_{name}": Run({"objective": "labels"}, f"sandbox_{name}", 32, 30) for name in TESTS},
    "steps": Run(data="sandbox_crosstask", batch=1),
}


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    root: Path | None
    out: Path
    threads: int
    accelerator: str

    def data(self, name: str, spec: zoo.VideoSpec, **options: Any) -> pl.LightningDataModule:
        """A data set of the world; no process reads for it."""
        return zoo.datamodule(name, root=self.place(name), spec=spec, num_workers=0, **options)

    def place(self, name: str) -> Path:
        """The folder of a data set; by default where it lies for everyone."""
        return self.root / name if self.root else zoo.datamodule(name).root

    def trainer(self, **options: Any) -> pl.Trainer:
        """One that is quiet."""
        return pl.Trainer(accelerator=self.accelerator, devices=1, **options, **QUIET)


class Scramble(pl.Callback):
    """Puts the clips of every sample into a random order."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        features = batch["features"]
        order = torch.rand(features.shape[:2], device=features.device).argsort(1)
        batch["features"] = features.gather(1, order[..., None].expand_as(features))


def render(settings: Settings, world: int) -> None:
    """All three data sets."""
    for name, make in (("howto100m", render_howto100m), ("coin", render_coin), ("crosstask", render_crosstask)):
        make(settings.place(f"sandbox_{name}"), world)


def run(settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """Train and score one model, or read what an earlier call wrote down."""
    name, seed = job
    torch.set_num_threads(settings.threads)
    record = settings.out / f"{name}.seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    what = RUNS[name]
    pl.seed_everything(seed, verbose=False)
    model = zoo.create(STEPS if name == "steps" else ACTIONNESS, **what.arguments)
    story = _train(settings, model, what, seed)
    weights = record.with_suffix(".safetensors")
    state = {key: value.detach().half().contiguous().cpu() for key, value in model.state_dict().items()}
    story |= {"script": f"benchmarks/sandbox/{SCRIPT}", "run": name, "model": model.name, "seed": seed}
    save_weights(weights, state, {**story, "arguments": model.arguments})
    load_strict(model, read_weights(weights)[0])  # what is bundled is rounded; score just that
    start = time.monotonic()
    scores = _score_steps(settings, weights, seed) if name == "steps" else _score(settings, model.eval())
    result = {**story, **scores, "test_seconds": round(time.monotonic() - start, 1)}
    write_whole(record, json.dumps(result, indent=1).encode())
    print(name, seed, f"{result['seconds']} s", {k: v for k, v in scores.items() if "ap" in k or "alpha" in k})
    return result


def _train(settings: Settings, model: pl.LightningModule, what: Run, seed: int) -> dict[str, Any]:
    data = settings.data(what.data, model.spec, batch_size=what.batch, seed=seed)
    length = {"max_steps": model.recipe.iterations, "max_epochs": -1} if model.name == STEPS else {}
    trainer = settings.trainer(
        **(length or {"max_epochs": what.epochs}),
        limit_val_batches=0,
        callbacks=[Scramble()] if what.scrambled else [],
    )
    start = time.monotonic()
    trainer.fit(model, data)
    seen = {key: round(float(value), 4) for key, value in trainer.callback_metrics.items() if "train" in key}
    return {"steps": trainer.global_step, "seconds": round(time.monotonic() - start, 1), **seen}


def _score(settings: Settings, model: pl.LightningModule) -> dict[str, float]:
    """All numbers of the tables, by the test that the zoo has for everyone."""
    scores = {}
    for name in TESTS:
        data = settings.data(f"sandbox_{name}", model.spec, batch_size=16)
        (found,) = settings.trainer().test(model, data, verbose=False)
        scores |= {f"{name}_{key}": round(found[key], 4) for key in METRICS if key in found}
    return scores


def _score_steps(settings: Settings, weights: Path, seed: int) -> dict[str, float]:
    """Recall with every share of actionness, that of the same seed: of test videos, and of those that it learned from.

    The latter choose the share.
    """
    both = zoo.create("step_localization", steps=STEPS, actionness=ACTIONNESS)
    both.take(zoo.load(STEPS, weights), zoo.load(ACTIONNESS, settings.out / f"ours.seed{seed}.safetensors"))
    data = settings.data("sandbox_crosstask", both.spec, batch_size=16)
    trained = DataLoader(WholeVideos(data.records("train"), data.source), 16, collate_fn=collate_videos)
    scores = {}
    for alpha in ALPHAS:
        both.alpha = alpha
        (learned,) = settings.trainer().test(both.eval(), trained, verbose=False)
        (found,) = settings.trainer().test(both, data, verbose=False)
        scores[f"trained_alpha_{alpha}"] = round(learned["average"], 4)
        scores[f"alpha_{alpha}"] = round(found["average"], 4)
    return scores


def guesses(settings: Settings) -> dict[str, dict[str, float]]:
    """What needs no training, by row."""
    models = {
        "chance": zoo.create("actionness_chance"),
        "trimmed": zoo.create("actionness_chance", trim=0.3),
        "middle": zoo.create("actionness_middle"),
    }
    return {name: _score(settings, model) for name, model in models.items()}


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every run's scores, and the share of actionness that training videos choose."""
    summary = {}
    for name in dict.fromkeys(one["run"] for one in runs):
        mine = [one for one in runs if one["run"] == name]
        keys = [key for key in mine[0] if key.startswith((*TESTS, "alpha", "trained_alpha", "train_accuracy"))]
        summary[name] = spread(mine, keys)
    if "steps" in summary:
        learned = {alpha: summary["steps"][f"trained_alpha_{alpha}"]["mean"] for alpha in ALPHAS}
        summary["steps"]["alpha"] = max(ALPHAS, key=learned.get)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/actionness"))
    parser.add_argument("--root", type=Path, help="where the world is rendered; the user's cache by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument(
        "--world", type=int, default=0, help="its seed; other than 0 with --root. Its strengths were chosen on 1"
    )
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these runs; steps want ours")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(options.root, options.out, options.threads, options.accelerator)
    place = options.out / "results.json"
    jobs = [(name, seed) for name in options.only for seed in options.seeds]
    if all((options.out / f"{name}.seed{seed}.json").exists() for name, seed in jobs) and place.exists():
        return bundle(options.out, json.loads(place.read_text())) if options.bundle else None
    render(settings, options.world)
    runs = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for steps in (False, True):  # those of steps take actionness that is trained
            runs += pool.map(partial(run, settings), [job for job in jobs if (job[0] == "steps") == steps])
    results = {
        "data": DESCRIPTION,
        "world": options.world,
        **about(),
        "guesses": guesses(settings),
        "summary": summarize(runs),
        "runs": runs,
    }
    write_whole(place, as_json(results))
    for row, scores in results["guesses"].items():
        print(row, scores)
    for row, scores in results["summary"].items():
        means = {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items() if key != "alpha"}
        print(row, means, scores.get("alpha", ""))
    if options.bundle:
        bundle(options.out, results)
    return None


if __name__ == "__main__":
    main()
