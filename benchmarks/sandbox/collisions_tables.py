"""What the simulated collisions add to the repository: weights, their entries, and the table of ``collisions``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import REPOSITORY, as_json, bundle_weights, rewrite_manifest, rewrite_tables, seeds

import zoo
from zoo.files import write_whole

SCRIPT = "intuitive_physics.py"
ROWS = {
    "ours": "intuitive_physics_tiny",
    "baseline": "intuitive_physics_baseline_tiny",
    "flow_supervised": "intuitive_physics_flow_supervised_tiny",
    "flow_physics": "intuitive_physics_flow_physics_tiny",
}
TITLES = {
    "ours": "Ours",
    "baseline": "Baseline",
    "flow_supervised": "Taught by optical flow",
    "flow_physics": "Flow + Physics",
}
LINE, STILL = "intuitive_physics_linear_flow_tiny", "still"
METRICS = (
    *("pixel_error", "parameter_error", "shape_2", "shape_3", "shape_4", "shape_5", "parameter_3"),
    *("shape_ratio_2", "shape_ratio_3", "parameter_ratio_3"),
)
TAG = "simulated"

DESCRIPTION = (
    "Collisions of two objects that MuJoCo simulated again, {size} x {size} pixels, made by `zoo data make "
    "physics_collisions --size {size}`: 11 pairs of shapes, {variants} rotations and restitutions, 125 triples of "
    "mass, speed and friction. Neither the paper's renders nor its objects; scores compare models on these collisions "
    "and say nothing about real ones."
)


def bundle(out: Path, results: dict[str, Any]) -> None:
    """Put the first seed's weights, their proofs, their entries and the table into the repository."""
    seed = min(run["seed"] for run in results["runs"])
    entries = {}
    for row, name in ROWS.items():
        run = next(run for run in results["runs"] if (run["model"], run["seed"]) == (name, seed))
        shape = (2, *zoo.create(name).input_shape())
        entries[f"{name}.{TAG}"] = {
            **bundle_weights(name, out / f"{name}.seed{seed}.safetensors", shape, tag=TAG),
            "default": True,
            "trained_on": ["physics_collisions"],
            "reported": {
                "by": f"benchmarks/sandbox/{SCRIPT}, mean over {seeds(results)}",
                "scores": {key: value["mean"] for key, value in results["summary"][name].items()},
                "protocol": "physics_collisions_64",
                "table": "collisions/intuitive_physics",
                "row": TITLES[row],
                "videos": results["mini_batches"],
            },
            "measured": {key: run[key] for key in results["summary"][name]},
            "notes": f"Seed {seed}, in half precision. Learned from {run['samples']:,} samples in "
            f"{run['seconds'] / 60:.0f} minutes on one processor core. Knows the simulated collisions and no others.",
        }
    rewrite_manifest(REPOSITORY / "checkpoints.yaml", SCRIPT, entries)
    rewrite_tables(REPOSITORY / "benchmarks/tables/collisions.yaml", [table(results)])
    write_whole(REPOSITORY / "benchmarks/results/collisions_training.json", as_json(results))


def table(results: dict[str, Any]) -> dict[str, Any]:
    """All numbers of chapter 9 on the simulated collisions."""
    learned = [
        {
            "name": TITLES[row],
            "own": True,
            "model": name,
            "weights": f"{name}.{TAG}",
            **{
                to: {key: value[part] for key, value in results["summary"][name].items()}
                for to, part in (("values", "mean"), ("spread", "std"))
            },
        }
        for row, name in ROWS.items()
    ]
    line = {"name": "Linear in optical flow", "own": True, "model": LINE, "weights": "none"}
    return {
        "id": "intuitive_physics",
        "title": "The fifth frame of simulated collisions, as it is and with one property changed",
        "task": "future frame prediction",
        "dataset": f"physics_collisions at {results['size']} pixels",
        "split": "shape test, parameter test",
        "data": "physics_collisions",
        "videos": results["mini_batches"],
        "description": DESCRIPTION.format(**results),
        "source": f"benchmarks/sandbox/{SCRIPT}, mean and standard deviation over {seeds(results)}",
        "note": "The bundled weights are those of the first seed, by rule and not by score. Videos are mini-batches of "
        "five collisions here.",
        "metrics": {key: {"unit": "grey levels squared", "higher_is_better": False} for key in METRICS},
        "rows": [
            {"name": "The fourth frame as it is", "own": False, "values": results["untrained"][STILL]},
            {**line, "values": results["untrained"][LINE]},
            *learned,
        ],
    }
