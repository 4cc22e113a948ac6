"""What the sandbox's how-to films add to the repository: weights, their entries, and the two tables of ``films``.

They are a group of their own: the sandbox's runs with nothing at hand, these want rendered films and their features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import REPOSITORY, as_json, bundle_weights, rewrite_manifest, rewrite_tables, seeds

import zoo
from zoo.data.sandbox.film_plots import TASKS
from zoo.data.sandbox.howto_films import DESCRIPTION
from zoo.files import write_whole

SCRIPT = "milnce.py"
EXTRACTOR, ACTIONNESS = "s3d_milnce_tiny", "actionness_films"
OURS, BOUND = "ours", "supervised"  # what is learned by order and by labels
BY_ORDER, SUPERVISED, RETRIEVER = "Order alone", "Supervised", "MIL-NCE, tiny"  # rows
METRICS = ("ap", "ap_video", "ar_10", "auc")
PERCENT = {"unit": "percent", "higher_is_better": True}


def bundle(out: Path, results: dict[str, Any]) -> None:
    """Put the first seed's weights, their proofs, their entries and the tables into the repository."""
    first = min(results["runs"], key=lambda one: one["seed"])
    spec, seed = zoo.create(EXTRACTOR).spec, first["seed"]
    clips = (2, 3, spec.frames, spec.test_crop, spec.test_crop)
    rows = (8, zoo.create(ACTIONNESS).spec.features.dim)
    films = "sandbox_films_segments", "actionness"
    entries = {
        f"{name}.{tag}": {
            **bundle_weights(name, out / f"{source}.seed{seed}.safetensors", shape, tag=tag),
            "trained_on": ["sandbox_howto100m_films"],
            "reported": {
                "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
                "scores": {key: value["mean"] for key, value in results["summary"][row].items()},
                "protocol": protocol,
                "table": f"films/{table}",
                "row": title,
                "videos": results["films"][2],
            },
            "measured": {key: measured[key] for key in results["summary"][row]},
            "notes": f"Seed {seed}, in half precision. Knows the sandbox's films and no real ones.",
        }
        for name, tag, source, shape, protocol, table, title, row, measured in (
            (EXTRACTOR, "sandbox", EXTRACTOR, clips, "sandbox_films_retrieval", "milnce", RETRIEVER, EXTRACTOR, first),
            *(
                (ACTIONNESS, tag, f"{ACTIONNESS}.{by}", rows, *films, title, by, first[by])
                for tag, by, title in (("sandbox", OURS, BY_ORDER), ("sandbox_supervised", BOUND, SUPERVISED))
            ),
        )
    }
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, entries)
    rewrite_tables(REPOSITORY / "benchmarks/tables/films.yaml", [actionness_table(results), milnce_table(results)])
    write_whole(REPOSITORY / "benchmarks/results/sandbox_films_training.json", as_json(results))


def actionness_table(results: dict[str, Any]) -> dict[str, Any]:
    """Table 1 on the sandbox's films."""
    guesses = [
        {
            "name": name,
            "own": True,
            "model": "actionness_chance",
            "weights": "none",
            **more,
            "values": results["chance"][key],
        }
        for name, key, more in (("Chance", "whole", {}), ("Chance, trimmed", "trimmed", {"override": {"trim": 0.3}}))
    ]
    learned = [
        {"name": name, "own": True, "model": ACTIONNESS, "weights": f"{ACTIONNESS}.{tag}", **_scores(results, by)}
        for name, tag, by in ((BY_ORDER, "sandbox", OURS), (SUPERVISED, "sandbox_supervised", BOUND))
    ]
    return {
        "id": "actionness",
        "title": "Actionness of rendered how-to films, on features that learned from their narration",
        "task": "action against background",
        "dataset": "sandbox films in the layout of COIN, with the features that s3d_milnce_tiny extracts of them",
        "split": "test",
        "data": "coin",
        "data_options": {"expected": None},
        **_told(results),
        "metrics": {key: dict(PERCENT) for key in METRICS},
        "rows": [*guesses, *learned],
    }


def milnce_table(results: dict[str, Any]) -> dict[str, Any]:
    """How captions find their clips."""
    clips = results["films"][2]
    labels = len({step.label for task in TASKS for step in task.steps})
    guess = {"recall_1": 100 / clips, "recall_10": min(1000 / clips, 100.0), "median_rank": (clips + 1) / 2}
    ours = {"model": EXTRACTOR, "weights": f"{EXTRACTOR}.sandbox"}
    return {
        "id": "milnce",
        "title": "Clips of rendered how-to films by what is said over them",
        "task": "text-to-clip retrieval",
        "dataset": "sandbox films in the layout of HowTo100M",
        "split": "test",
        "data": "sandbox_howto100m_films",
        "protocol": zoo.create(EXTRACTOR).protocol()["in_words"],
        **_told(results),
        "note": "A caption often says nothing of its clip, or is said of several. step_top1: a step of a test film "
        f"gets its name among all {labels} from its features. The bundled weights are those of the first seed.",
        "metrics": {
            "recall_1": dict(PERCENT),
            "recall_10": dict(PERCENT),
            "median_rank": {"unit": "rank", "higher_is_better": False},
            "step_top1": {**PERCENT, "measure": None},
        },
        "rows": [
            {"name": "Chance", "own": False, "values": {k: round(v, 2) for k, v in guess.items()}},
            {"name": RETRIEVER, "own": True, **ours, **_scores(results, EXTRACTOR)},
        ],
    }


def _told(results: dict[str, Any]) -> dict[str, str]:
    train, training, testing = results["films"]
    return {
        "description": DESCRIPTION,
        "source": f"benchmarks/sandbox/{SCRIPT}: {train} films by narration and order, {training} annotated ones for "
        f"the supervised bound, {testing} test films, mean and standard deviation over {seeds(results)}",
        "note": "The bundled weights are those of the first seed, by rule and not by score.",
    }


def _scores(results: dict[str, Any], row: str) -> dict[str, dict[str, float]]:
    found = results["summary"][row]
    return {
        to: {key: value[part] for key, value in found.items()} for to, part in (("values", "mean"), ("spread", "std"))
    }
