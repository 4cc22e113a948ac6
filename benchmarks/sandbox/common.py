"""What the scripts that train the sandbox's checkpoints share: scores over seeds, and the way into the repository."""

from __future__ import annotations

import inspect
import json
import shutil
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import zoo
from zoo.files import sha256_of, write_whole
from zoo.hub.manifest import read_manifest
from zoo.hub.proof import write_proof

REPOSITORY = Path(__file__).resolve().parents[2]
QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
"""Options of a trainer that writes and prints nothing."""


def spread(runs: Sequence[dict[str, Any]], keys: Iterable[str]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of the sample) of runs' scores."""
    return {
        key: {
            "mean": round(statistics.fmean(run[key] for run in runs), 2),
            "std": round(statistics.stdev(run[key] for run in runs), 2) if len(runs) > 1 else 0.0,
        }
        for key in keys
    }


def seeds(results: dict[str, Any]) -> str:
    """The seeds of all runs, in words."""
    return "seeds " + ", ".join(str(seed) for seed in sorted({run["seed"] for run in results["runs"]}))


def as_json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def bundle_weights(name: str, source: Path, clip: Sequence[int], tag: str = "sandbox") -> dict[str, Any]:
    """Copy a checkpoint of model ``name`` into weights/ and write its proof.

    Args:
        name: the registered name.
        source: its safetensors file.
        clip: shape of the proof's random input, ``[B, 3, T, H, W]`` or of frames ``[B, 3, H, W]``.
        tag: of the checkpoint; ``"sandbox"`` is the model's default.

    Returns:
        The first fields of its entry in checkpoints.yaml.
    """
    weights, proof = (f"weights/{name}.{tag}.{kind}" for kind in ("safetensors", "proof.safetensors"))
    (REPOSITORY / "weights").mkdir(exist_ok=True)
    shutil.copyfile(source, REPOSITORY / weights)
    model = zoo.load(name, source)  # with the arguments that the file tells of, where it does
    clips = torch.randn(tuple(clip), generator=torch.Generator().manual_seed(0))
    (argument,) = inspect.signature(model.forward).parameters
    write_proof(REPOSITORY / proof, model.eval(), {argument: clips})
    return {
        "source": {"bundled": weights},
        "sha256": sha256_of(source),
        "bytes": source.stat().st_size,
        "license": "MIT",
        "code_license": "MIT",
        "proof": proof,
        "default": tag == "sandbox",
    }


def rewrite_manifest(path: Path, script: str, entries: dict[str, Any]) -> None:
    """Replace a script's part of checkpoints.yaml, or append it; what fails the schema is not kept."""
    begin = f"  # --- The sandbox, written by benchmarks/sandbox/{script}. `make sandbox` trains these again.\n"
    end = f"  # --- End of what benchmarks/sandbox/{script} wrote.\n"
    text = path.read_text()
    if begin in text:
        before, _, rest = text.partition(begin)
        text = before + rest.partition(end)[2]
    block = yaml.safe_dump(entries, sort_keys=False, width=120)
    new = path.with_suffix(".new.yaml")
    try:
        new.write_text(f"{text}{begin}{textwrap.indent(block, '  ')}{end}")
        read_manifest(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def rewrite_tables(path: Path, tables: Sequence[dict[str, Any]]) -> None:
    """Put a script's tables into the sandbox's group, in place of earlier ones of the same ids."""
    document = yaml.safe_load(path.read_text()) if path.exists() else {"tables": []}
    ours = {table["id"] for table in tables}
    kept = [table for table in document["tables"] if table["id"] not in ours]
    document["tables"] = sorted([*kept, *tables], key=lambda table: table["id"])
    write_whole(path, yaml.safe_dump(document, sort_keys=False, width=120).encode())
