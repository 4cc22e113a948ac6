"""One test run: named weights on a named data set by the weights' own protocol, and all that its numbers rest on."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

import zoo
from zoo.errors import DataError, WeightsError
from zoo.files import cache_root
from zoo.hub.fetch import known_sha256, upstream_path
from zoo.hub.manifest import Checkpoint, Upstream, manifest
from zoo.loading import on_paper
from zoo.reproduce.provenance import cores, device_name, sha256
from zoo.reproduce.results import Measurement
from zoo.reproduce.tables import UNTRAINED, Row

_WORKERS = 8


@dataclass(frozen=True)
class Settings:
    """How to test. ``limit`` is a number of videos; None of ``batch_size`` and ``num_workers`` picks a fitting one."""

    limit: int | None = None
    batch_size: int | None = None
    num_workers: int | None = None
    accelerator: str = "auto"
    devices: int = 1


def evaluate(row: Row, dataset: str, options: dict[str, Any], root: Path | None, settings: Settings) -> Measurement:
    """Test a row's weights on a data set.

    Args:
        row: its model, weights and override.
        dataset: the data set's name.
        options: of its datamodule.
        root: the folder of its official release; None where it needs none.
        settings: how to run.

    Raises:
        FetchError: the weights cannot be had here.
        WeightsError: they are not what the manifest says, or for other classes than the data's.
        DataError: the data is not there, or not one video of it could be scored.
    """
    checkpoints = [manifest().get(name) for name in row.checkpoints]
    if root is not None:  # an error before a long download, not after it
        zoo.datamodule(dataset, root=root, spec=on_paper(row.model, **row.override).spec, **options).records("val")
    model = _model(row)
    data = zoo.datamodule(
        dataset,
        root=root,
        spec=model.spec,
        batch_size=settings.batch_size or model.test_batch_size,
        num_workers=min(cores(), _WORKERS) if settings.num_workers is None else settings.num_workers,
        **options,
    )
    for checkpoint in checkpoints:
        _check_classes(checkpoint, model, data)
    start = time.monotonic()
    metrics, seen = _test(model, data, settings)
    seconds = time.monotonic() - start
    records, expected = data.find_records("val")
    if not metrics.get("videos"):
        message = seen["unreadable"][0]["message"] if seen["unreadable"] else "none was handed out"
        raise DataError(f"{dataset}: not one of {len(records)} videos could be scored. The first: {message}")
    return Measurement(
        weights=_weights(row, checkpoints),
        data={
            "name": dataset,
            "split": "val",
            "expected": expected,
            "found": len(records),
            "scored": int(metrics.pop("videos")),
            "incomplete": int(metrics.pop("incomplete", 0)),
            "limit": settings.limit,
            "options": options,
            "list_sha256": sha256(record.identity for record in records),
        },
        unreadable=tuple(seen["unreadable"]),
        protocol=model.protocol(),
        labels_sha256=sha256(model.labels) if model.labels else None,
        metrics=metrics,
        device=seen["device"],
        seconds=round(seconds, 2),
    )


_WORDS = {"none": "nothing to learn", "random": "random weights of seed 0", "imagenet": "ImageNet weights of timm"}


def _model(row: Row) -> Any:
    """The row's model with its weights, in eval mode."""
    if row.checkpoints and isinstance(row.weights, str):
        return zoo.load(*row.checkpoints, **row.override)
    if row.weights not in UNTRAINED:
        return zoo.load(row.model, row.weights, **row.override)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return zoo.create(row.model, **row.override).eval()


def _weights(row: Row, checkpoints: list[Checkpoint]) -> dict[str, Any]:
    """What is measured; of a model of several streams each stream's weights, too."""
    parts = [{"name": c.name, "sha256": _sha256(c), "source": str(c.source), "license": c.license} for c in checkpoints]
    if len(parts) == 1:
        return {**parts[0], "override": row.override}
    name = " + ".join(row.checkpoints) or f"{row.model}, {_WORDS[row.weights]}"
    nothing = dict.fromkeys(("sha256", "source", "license"))
    return {"name": name, "override": row.override, **nothing, **({"streams": parts} if parts else {})}


def _check_classes(checkpoint: Checkpoint, model: Any, data: Any) -> None:
    """A score by a fresh head, or under another order of classes, would be a number about nothing."""
    if getattr(model, "num_classes", None) != checkpoint.num_classes:
        raise WeightsError(
            f"{checkpoint.name} has {checkpoint.num_classes} classes, the row asks for {model.num_classes}: the head "
            "would be a fresh one. Correct the row's override."
        )
    tells = getattr(model, "num_classes", None) is not None  # not so a model whose labels are the words of goals
    if tells and model.labels and data.classes and tuple(model.labels) != tuple(data.classes):
        raise WeightsError(
            f"{checkpoint.name} was trained on other classes than {data.name} has, or in another order; a score would "
            "mean nothing. Give the data set that it was trained on, or correct its labels in checkpoints.yaml."
        )


def _sha256(checkpoint: Checkpoint) -> str | None:
    """Of the published file: the manifest's, or that of the first download where the publisher gave none."""
    if isinstance(checkpoint.source, Upstream):
        return known_sha256(checkpoint, upstream_path(checkpoint.source, cache_root()))
    return checkpoint.sha256


def _test(model: Any, data: Any, settings: Settings) -> tuple[dict[str, float], dict[str, Any]]:
    """What the model logged, and what the witness saw."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        witness = _Witness(Path(folder) / "witness.json", settings.limit)
        bar = [RichProgressBar(console_kwargs={"stderr": True})] if sys.stderr.isatty() else []
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            # Spawned processes give their results back to this one, which goes on alone.
            strategy="auto" if settings.devices == 1 else "ddp_spawn",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bool(bar),
            callbacks=[witness, *bar],
        )
        (metrics,) = trainer.test(model, data, verbose=False)
        return {name: round(value, 4) for name, value in metrics.items()}, json.loads(witness.path.read_text())


class _Witness(pl.Callback):
    """Cuts the data to the limit, and brings home from the processes of a test what their metrics do not say."""

    def __init__(self, path: Path, limit: int | None) -> None:
        self.path, self.limit = path, limit

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            atexit.register(_leave_group)
        records = trainer.datamodule.records("val")
        if self.limit and self.limit < len(records):  # spread over the list, which may be sorted by class
            records[:] = [records[i * len(records) // self.limit] for i in range(self.limit)]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not trainer.is_global_zero:  # to which the datamodule has brought all messages before
            return
        data, records = trainer.datamodule, trainer.datamodule.records("val")
        unreadable = [
            {"index": i, "name": records[i].name, "message": message.replace(f"{data.root}{os.sep}", "")}
            for i, message in sorted(data.unreadable.items())
        ]
        self.path.write_text(
            json.dumps({"unreadable": unreadable, "device": device_name(trainer.strategy.root_device)})
        )


def _leave_group() -> None:
    """Lightning leaves gloo's group standing, and a process can be aborted for threads that outlive it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks on devices and its tips out of a report; its warnings stay."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
