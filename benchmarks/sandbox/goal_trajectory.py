"""Trains the sandbox's models of goals and says what they know of failures, before and after correcting them.

    python benchmarks/sandbox/goal_trajectory.py --seeds 0 1 2 --out runs/sandbox/goals [--bundle]

Renders the sandbox's mishaps and trains, once per seed: the clip network by itself; from its weights the trajectory
model, with and without the coherence loss, with and without pseudo labels (which the seed's clip network makes); and
read-outs of goals in words from the clip network, from an untrained trajectory model and from the full one. The paper
trains its trajectories from scratch; in minutes on a CPU only some seeds do so. All are tested as any model is tested,
their weights rounded to half precision, as they are bundled. ``results.json`` (each run's scores and seconds;
mean and standard deviation; versions) and every run's weights go into the output folder. A run that is already there is
not repeated. ``--bundle`` then puts the weights of the first seed, whatever they score, into the repository: weights/,
checkpoints.yaml, benchmarks/tables/sandbox.yaml and benchmarks/results/.

The training videos are decoded once and kept as bytes of the size that the network sees; trajectories are cut out of
them by the same draws that the datamodule makes.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import QUIET, REPOSITORY, as_json, bundle_weights, rewrite_manifest, rewrite_tables, seeds, spread
from memory import RememberedOops, remember_oops

import zoo
from zoo.data.sandbox.oops import DESCRIPTION, TRAIN, VAL
from zoo.files import write_whole
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.pseudo_labels import pseudo_label
from zoo.reproduce.provenance import about

SCRIPT = "goal_trajectory.py"
CNN, OURS, CNN_WORDS, OUR_WORDS = "oops_cnn_tiny", "goal_trajectory_tiny", "goal_decoder_cnn_tiny", "goal_decoder_tiny"
PERCENT = {"unit": "percent", "higher_is_better": True}
SVO = [f"{what}_top{k}" for what in ("subject", "verb", "object", "average", "all") for k in (1, 5)]
FAILURE = dict.fromkeys(("loc_1s", "loc_025s", "cls_acc"), PERCENT)
SHIFT = {
    "intentional_d_acc": {"unit": "percentage points", "higher_is_better": True},
    "intentional_d_rank_percent": {"unit": "percent of all triples", "higher_is_better": True},
    "unintentional_d_acc": {"unit": "percentage points", "higher_is_better": False},
    "unintentional_d_rank_percent": {"unit": "percent of all triples", "higher_is_better": False},
}


@dataclass(frozen=True)
class Run:
    """A model that is trained: on what, and after what.

    Attributes:
        model: its registered name.
        title: of its row.
        arguments: of the model.
        pseudo: trains on the clip network's pseudo labels too.
        start: the run whose weights it starts from, as far as they fit; None starts from scratch.
        tag: of its checkpoint.
    """

    model: str
    title: str
    arguments: dict[str, Any]
    pseudo: bool = False
    start: str | None = None
    tag: str = "sandbox"


RUNS = {
    "cnn": Run(CNN, "3D CNN only", {}),
    "classification": Run(
        OURS, "Our model: classification only", {"coherence": False}, start="cnn", tag="sandbox_classification"
    ),
    "pseudo": Run(
        OURS,
        "Our model: classification + pseudo-GT",
        {"coherence": False},
        True,
        start="cnn",
        tag="sandbox_classification_pseudo",
    ),
    "coherence": Run(OURS, "Our model: + coherence loss", {}, start="cnn", tag="sandbox_coherence"),
    "full": Run(OURS, "Our model: + coherence loss + pseudo-GT", {}, True, start="cnn"),
    "words_cnn": Run(CNN_WORDS, "3D CNN", {}, start="cnn"),
    "words_scratch": Run(OUR_WORDS, "Scratch", {}, tag="sandbox_scratch"),
    "words_full": Run(OUR_WORDS, "Our model", {}, start="full"),
}
#: What may run at once: a later stage starts from an earlier one's weights or labels.
STAGES = (
    ("cnn", "words_scratch"),
    ("full", "classification", "coherence", "pseudo", "words_cnn"),
    ("words_full",),
)
WORDS = [name for name, run in RUNS.items() if run.model in (CNN_WORDS, OUR_WORDS)]
FAILURES = [name for name in RUNS if name not in WORDS]
#: Rows of the third table: which read-out, corrected how.
SHIFTS = {
    "3D CNN": ("words_cnn", "adversarial"),
    "Ours (linearized)": ("words_full", "linearized"),
    "Ours (adversarial)": ("words_full", "adversarial"),
}


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    root: Path
    out: Path
    iterations: int | None
    threads: int


def run(settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """Train and score one model, or read what an earlier call wrote down."""
    name, seed = job
    torch.set_num_threads(settings.threads)
    record = settings.out / f"{name}.seed{seed}.json"
    if record.exists():
        return json.loads(record.read_text())
    what = RUNS[name]
    model = _model(settings, what, seed)
    story = _train(settings, model, what, seed)
    weights = record.with_suffix(".safetensors")
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    about_it = {"script": f"benchmarks/sandbox/{SCRIPT}", "model": model.name, "seed": seed}
    save_weights(weights, {key: value.contiguous() for key, value in state.items()}, about_it)
    load_strict(model, read_weights(weights)[0])  # what is bundled is rounded; score just that
    if name == "cnn":
        _pseudo(settings, model.eval(), seed)
    result = {"script": f"benchmarks/sandbox/{SCRIPT}", "run": name, "model": model.name, "seed": seed, **story}
    start = time.monotonic()
    for key, arguments in _tests(name).items():
        scores = _score(settings, model, arguments)
        result |= {f"{key}{metric}": value for metric, value in scores.items()}
    result["test_seconds"] = round(time.monotonic() - start, 1)
    write_whole(record, json.dumps(result, indent=1).encode())
    shown = {
        k: v for k, v in result.items() if k.endswith(("cls_acc", "loc_1s", "average_top1", "d_acc", "d_rank_percent"))
    }
    print(name, seed, f"{result['seconds']} s", shown, flush=True)
    return result


def _tests(name: str) -> dict[str, dict[str, Any]]:
    """The tests of a run: prefix of the scores to what is changed in the model."""
    if name in FAILURES:
        return {"": {}}
    ways = [way for which, way in SHIFTS.values() if which == name]
    return {"": {"autocorrect": None}, **{f"{way}.": {"autocorrect": way} for way in ways}}


def _model(settings: Settings, what: Run, seed: int) -> pl.LightningModule:
    pl.seed_everything(seed, verbose=False)
    arguments = dict(what.arguments)
    if settings.iterations:
        arguments["iterations"] = settings.iterations
    model = zoo.create(what.model, **arguments)
    if what.start:
        load_strict(model, model.adapt(read_weights(settings.out / f"{what.start}.seed{seed}.safetensors")[0]))
    return model


def _data(settings: Settings, model: pl.LightningModule, seed: int, **options: Any) -> RememberedOops:
    return RememberedOops(
        settings.root, model.spec, model.recipe.batch, num_workers=0, seed=seed, memory=settings.out, **options
    )


def _train(settings: Settings, model: pl.LightningModule, what: Run, seed: int) -> dict[str, Any]:
    options: dict[str, Any] = {"goals": True} if what.model in (CNN_WORDS, OUR_WORDS) else {}
    if what.pseudo:
        options["pseudo"] = settings.out / f"times.seed{seed}.json"
    data = _data(settings, model, seed, **options)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=model.recipe.iterations,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=1.0,  # so high a rate wants it
        **QUIET,
    )
    start, start_cpu = time.monotonic(), time.process_time()
    trainer.fit(model.to(memory_format=torch.channels_last_3d), data)  # faster on a CPU
    return {
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - start_cpu, 1),
        "train_loss": round(float(trainer.callback_metrics["train_loss"]), 4),
    }


def _pseudo(settings: Settings, model: pl.LightningModule, seed: int) -> None:
    """The seed's pseudo labels, made by its clip network as `zoo pseudo-label` does."""
    path = settings.out / f"times.seed{seed}.json"
    path.unlink(missing_ok=True)
    print("pseudo labels", seed, pseudo_label(model, _data(settings, model, seed).unlabelled(), path), flush=True)


def _score(settings: Settings, model: pl.LightningModule, changes: dict[str, Any]) -> dict[str, float]:
    """All numbers of the tables, by the tests that the zoo has for everyone."""
    for key, value in changes.items():
        setattr(model, key, value)
    options = {"goals": True} if changes else {}
    data = zoo.datamodule("sandbox_oops", root=settings.root, spec=model.spec, batch_size=8, num_workers=0, **options)
    (found,) = pl.Trainer(accelerator="cpu", **QUIET).test(model.eval(), data, verbose=False)
    wanted = [*FAILURE, *SVO, *SHIFT]
    return {key: round(found[key], 4) for key in wanted if key in found}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each row of the three tables, mean and standard deviation of its runs' scores."""
    of = {name: [one for one in runs if one["run"] == name] for name in RUNS}
    rows = {name: spread(of[name], FAILURE) for name in FAILURES} | {name: spread(of[name], SVO) for name in WORDS}
    for title, (name, way) in SHIFTS.items():
        found = spread(of[name], [f"{way}.{key}" for key in SHIFT])
        rows[title] = {key.partition(".")[2]: value for key, value in found.items()}
    return rows


def bundle(out: Path, results: dict[str, Any], chance: dict[str, float]) -> None:
    """Put the first seed's weights, their proofs, their entries and the tables into the repository."""
    entries = {}
    for name, what in RUNS.items():
        first = min((one for one in results["runs"] if one["run"] == name), key=lambda one: one["seed"])
        spec = zoo.create(what.model).spec
        metrics = list(FAILURE if name in FAILURES else SVO)
        started = f", started from {RUNS[what.start].model}'s" if what.start else ""
        entries[f"{what.model}.{what.tag}"] = {
            **bundle_weights(
                what.model,
                out / f"{name}.seed{first['seed']}.safetensors",
                (3, 3, spec.frames, 16, 16),  # the encoder takes any size
                tag=what.tag,
            ),
            "trained_on": ["sandbox_oops"],
            **({"num_classes": 3} if name in FAILURES else {}),
            "labels": "oops" if name in FAILURES else "sandbox_oops_words",
            "reported": {
                "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
                "scores": {key: results["summary"][name][key]["mean"] for key in metrics},
                "protocol": "sandbox_oops_clips",
                "table": "sandbox/goals" if name in FAILURES else "sandbox/goals_words",
                "row": what.title,
                "videos": VAL,
            },
            "measured": {key: first[key] for key in metrics},
            "notes": f"Seed {first['seed']}, in half precision{started}. Knows the sandbox's videos and no real ones.",
        }
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, entries)
    rewrite_tables(REPOSITORY / "benchmarks/tables/sandbox.yaml", tables(results, chance))
    write_whole(REPOSITORY / "benchmarks/results/sandbox_goals_training.json", as_json(results))


def tables(results: dict[str, Any], chance: dict[str, float]) -> list[dict[str, Any]]:
    """The three tables of the paper, on the sandbox."""
    rows = results["summary"]

    def row(title: str, key: str, metrics: Any, what: Run, override: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": title,
            "own": True,
            "model": what.model,
            **({"override": override} if override else {}),
            "weights": f"{what.model}.{what.tag}",
            "values": {metric: rows[key][metric]["mean"] for metric in metrics},
            "spread": {metric: rows[key][metric]["std"] for metric in metrics},
        }

    guess = {"name": "Chance", "own": True, "model": "oops_chance", "weights": "none", "values": chance}
    third = [row(title, title, SHIFT, RUNS[name], {"autocorrect": way}) for title, (name, way) in SHIFTS.items()]
    return [
        _table(
            "goals",
            "When things go wrong in rendered films of mishaps",
            "temporal localisation and clip classification",
            {},
            FAILURE,
            [*(row(RUNS[name].title, name, FAILURE, RUNS[name], {}) for name in FAILURES), guess],
            results,
        ),
        _table(
            "goals_words",
            "Goals and failures in words, read off frozen representations",
            "goal prediction",
            {"goals": True},
            dict.fromkeys(SVO, PERCENT),
            [row(RUNS[name].title, name, dict.fromkeys(SVO), RUNS[name], {}) for name in WORDS],
            results,
        ),
        _table(
            "goals_corrected",
            "What correcting a failed trajectory does to the words that are read off it",
            "action auto-correct",
            {"goals": True},
            SHIFT,
            third,
            results,
        ),
    ]


def _table(
    name: str,
    title: str,
    task: str,
    options: dict[str, Any],
    metrics: dict[str, Any],
    rows: list[dict[str, Any]],
    results: dict[str, Any],
) -> dict[str, Any]:
    return {
        "id": name,
        "title": title,
        "task": task,
        "dataset": "sandbox videos in the layout of Oops!",
        "split": "val",
        "data": "sandbox_oops",
        **({"data_options": options} if options else {}),
        "protocol": zoo.create(OURS).protocol()["in_words"],
        "description": DESCRIPTION,
        "source": f"benchmarks/sandbox/{SCRIPT}: {TRAIN} training videos, half of them annotated, {VAL} test videos, "
        f"mean and standard deviation over {seeds(results)}",
        "note": "Trajectory models start from the clip network's weights and train on, so they have had more training "
        "than it; the paper's start from scratch. The bundled weights are those of the first seed, by rule and not by "
        "score.",
        "metrics": {key: dict(value) for key, value in metrics.items()},
        "rows": rows,
    }


def _chance(root: Path) -> dict[str, float]:
    model = zoo.create("oops_chance")
    data = zoo.datamodule("sandbox_oops", root=root, spec=model.spec, num_workers=0)
    (found,) = pl.Trainer(accelerator="cpu", **QUIET).test(model, data, verbose=False)
    return {key: round(found[key], 2) for key in FAILURE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, help="of training; the recipes' by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/goals"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--bundle", action="store_true", help="put the first seed's weights into the repository")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    data = zoo.datamodule("sandbox_oops", spec=zoo.create(OURS).spec)
    data.prepare_data()
    remember_oops(data, options.out)
    settings = Settings(data.root, options.out, options.iterations, options.threads)
    runs = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for names in STAGES:
            runs += pool.map(partial(run, settings), [(name, seed) for name in names for seed in options.seeds])
    results = {"data": DESCRIPTION, **about(), "summary": summary(runs), "runs": runs}
    write_whole(options.out / "results.json", as_json(results))
    for row, scores in results["summary"].items():
        print(row, {key: f"{value['mean']} +- {value['std']}" for key, value in scores.items()})
    if options.bundle:
        bundle(options.out, results, _chance(data.root))


if __name__ == "__main__":
    main()
