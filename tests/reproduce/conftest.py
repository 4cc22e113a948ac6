"""A small zoo of its own for the runner: real models, weights, tables and videos, none of them the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import zoo
import zoo.resources
from zoo.files import sha256_of
from zoo.hub.manifest import manifest
from zoo.hub.weights import save_weights
from zoo.reproduce import tables

PERCENT = {"unit": "percent", "higher_is_better": True}


def row(name: str, weights: str | None, **more) -> dict:
    """An own row of the trial table; ``weights`` names its model too."""
    model = weights and weights.partition(".")[0]
    return {"name": name, "own": True, "weights": weights, "model": model, "values": {"top1": 50.0, "top5": 90}, **more}


FLOW = "charades_two_stream_flow_tiny"


def streams(name: str, **more) -> dict:
    """A row of two models."""
    weights = ["charades_two_stream_rgb_tiny.trial", f"{FLOW}.trial"]
    options = {"model": "charades_two_stream_tiny", "weights": weights, "override": {"points": 5}}
    return row(name, None, values={"map": 50.0}) | options | more


TABLES = [
    {
        "id": "trial",
        "title": "tiny networks nobody has trained",
        "task": "video classification",
        "dataset": "a few rendered videos",
        "split": "val",
        "data": "sandbox_kinetics",
        "protocol": "a guess",
        "metrics": {"top1": PERCENT, "top5": PERCENT, "printed": {**PERCENT, "measure": None}},
        "rows": [
            row("plain", "i3d_tiny.trial", spread={"top1": 1.25}),
            row("the same again", "i3d_tiny.trial", values={"top1": 12.34, "printed": 3}),
            row("with a block", "nonlocal_i3d_tiny.trial"),
            row("untrained", None, model="i3d_tiny"),
            row("not fetched", "i3d_tiny.elsewhere"),
            row("flipped", "i3d_tiny.flipped"),
            row("other classes", "i3d_tiny.kinetics"),
            row("other head", "i3d_tiny.trial", override={"num_classes": 5}),
            {"name": "theirs", "own": False, "values": {"top1": 70.0, "top5": None}},
            row("printed", "i3d_tiny.trial", values={"printed": 70.0}),
        ],
    },
    {
        "id": "curve",
        "title": "what the paper draws",
        "task": "video classification",
        "dataset": "a few rendered videos",
        "split": "val",
        "data": "sandbox_kinetics",
        "metrics": {"top1": PERCENT},
        "rows": [
            row("drawn", "i3d_tiny.trial", values={"top1": None}, unreported=True, data_options={"seed": 3}),
        ],
    },
    {
        "id": "size",
        "title": "what the block costs",
        "task": "video classification",
        "dataset": "none",
        "split": "none",
        "metrics": {
            "params": {"unit": "count", "higher_is_better": False},
            "more": {"unit": "ratio", "higher_is_better": False, "measure": "params", "relative_to": "without"},
        },
        "rows": [
            row("without", None, model="i3d_tiny", values={"params": 1.0, "more": 1.0}),
            row("with", None, model="i3d_tiny", override={"nonlocal_blocks": 1}, values={"params": 1.0, "more": 1.0}),
        ],
    },
    {
        "id": "real",
        "title": "on data that must be given",
        "task": "video classification",
        "dataset": "Kinetics-400",
        "split": "val",
        "data": "kinetics",
        "metrics": {"top1": PERCENT, "mean_ap": PERCENT},
        "rows": [row("plain", "i3d_tiny.trial", values={"top1": 1.0})],
    },
    {
        "id": "boxes",
        "title": "what the zoo has no network for",
        "task": "object detection",
        "dataset": "COCO",
        "split": "val",
        "needs": "a detector",
        "metrics": {"ap": {**PERCENT, "measure": None}},
        "rows": [{"name": "box", "own": True, "values": {"ap": 38.0}}],
    },
    {
        "id": "unlogged",
        "title": "a number that the model does not log",
        "task": "video classification",
        "dataset": "a few rendered videos",
        "split": "val",
        "data": "sandbox_kinetics",
        "metrics": {"mean_ap": PERCENT},
        "rows": [row("plain", "i3d_tiny.trial", values={"mean_ap": 1.0})],
    },
    {
        "id": "streams",
        "title": "two models in one",
        "task": "multi-label video classification",
        "dataset": "Charades",
        "split": "test",
        "data": "charades",
        "metrics": {"map": PERCENT},
        "rows": [
            streams("both"),
            streams("multiplied", override={"points": 5, "fusion": "product"}),
            streams("exchanged", weights=[f"charades_two_stream_{s}_tiny.trial" for s in ("flow", "rgb")]),
            streams("not fetched", weights=["charades_two_stream_rgb_tiny.trial", f"{FLOW}.elsewhere"]),
            row("guess", "none", model="charades_chance", values={"map": 6.0}),
            row(
                "another guess", "none", model="charades_chance", values={"map": 5.0}, measure={"map": "map_all_videos"}
            ),
        ],
    },
]


@pytest.fixture(scope="session")
def trial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's data files: checkpoints.yaml, benchmarks/tables, weights."""
    folder = tmp_path_factory.mktemp("trial")
    entries = {}
    models = (("i3d_tiny.trial", 8), ("nonlocal_i3d_tiny.trial", 8), ("i3d_tiny.kinetics", 400))
    frames = (("charades_two_stream_rgb_tiny.trial", 157), (f"{FLOW}.trial", 157))
    for name, classes in (*models, *frames):
        torch.manual_seed(len(entries))
        model = zoo.create(name.partition(".")[0], num_classes=classes)
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)  # zeros would make the blocks identities
        path = folder / "weights" / f"{name}.safetensors"
        save_weights(path, model.state_dict(), {"model": model.name})
        entries[name] = {
            "source": {"bundled": f"weights/{path.name}"},
            "sha256": sha256_of(path),
            "license": "MIT",
            "code_license": "MIT",
            "trained_on": ["nothing"],
            "num_classes": classes,
            "default": name.endswith(".trial"),
        }
    entries["i3d_tiny.kinetics"]["labels"] = "kinetics400"
    for name, _ in frames:
        entries[name]["labels"] = "charades"
    plain = entries["i3d_tiny.trial"]
    flipped = bytearray((folder / plain["source"]["bundled"]).read_bytes())
    flipped[-100] ^= 1
    (folder / "weights" / "flipped.safetensors").write_bytes(flipped)
    away = {"upstream": {"url": "https://weights.invalid/i3d.pkl", "format": "caffe2"}}
    entries["i3d_tiny.flipped"] = {**plain, "source": {"bundled": "weights/flipped.safetensors"}, "default": False}
    entries["i3d_tiny.elsewhere"] = {**plain, "source": away, "sha256": None, "default": False}
    entries[f"{FLOW}.elsewhere"] = {**entries[f"{FLOW}.trial"], "source": away, "sha256": None, "default": False}
    (folder / "checkpoints.yaml").write_text(yaml.safe_dump({"checkpoints": entries}))
    (folder / "benchmarks" / "tables").mkdir(parents=True)
    (folder / "benchmarks" / "tables" / "trial.yaml").write_text(yaml.safe_dump({"tables": TABLES}, sort_keys=False))
    return folder


@pytest.fixture
def trial(trial_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The zoo with these data files in place of its own."""
    monkeypatch.setattr(zoo.resources, "_PACKAGE", trial_folder / "zoo")
    manifest.cache_clear()
    tables.load_tables.cache_clear()
    yield trial_folder
    monkeypatch.undo()
    manifest.cache_clear()
    tables.load_tables.cache_clear()
