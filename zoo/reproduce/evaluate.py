"""One test run: named weights on a named data set by the weights' own protocol, and all that its numbers rest on."""

from __future__ import annotations

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
from pytorch_lightning.callbacks import RichProgressBar

import zoo
from zoo.errors import DataError, WeightsError
from zoo.files import cache_root
from zoo.hub.fetch import known_sha256, upstream_path
from zoo.hub.manifest import Checkpoint, Upstream, manifest
from zoo.reproduce.provenance import cores, device_name, sha256
from zoo.reproduce.results import Measurement

_PIXELS = 4 * 3 * 32 * 256 * 256  # in a batch by default: four rows of three crops of 32 frames
_WORKERS = 8


@dataclass(frozen=True)
class Settings:
    """How to test. ``limit`` is a number of videos; None of ``batch_size`` and ``num_workers`` picks a fitting one."""

    limit: int | None = None
    batch_size: int | None = None
    num_workers: int | None = None
    accelerator: str = "auto"
    devices: int = 1


def evaluate(
    weights: str, override: dict[str, Any], dataset: str, root: Path | None, settings: Settings
) -> Measurement:
    """Test a checkpoint on a data set.

    Args:
        weights: the checkpoint's name.
        override: arguments of its model.
        dataset: the data set's name.
        root: the folder of its official release; None where it needs none.
        settings: how to run.

    Raises:
        FetchError: the weights cannot be had here.
        WeightsError: they are not what the manifest says, or for other classes than the data's.
        DataError: the data is not there, or not one video of it could be scored.
    """
    checkpoint = manifest().get(weights)
    if root is not None:
        zoo.datamodule(dataset, root=root).records("val")  # a wrong root is to be an error before a long download
    model = zoo.load(weights, **override)
    spec = model.spec
    row_pixels = spec.crops * 3 * spec.frames * spec.test_crop**2
    data = zoo.datamodule(
        dataset,
        root=root,
        spec=spec,
        batch_size=settings.batch_size or max(1, _PIXELS // row_pixels),
        num_workers=min(cores(), _WORKERS) if settings.num_workers is None else settings.num_workers,
    )
    _check_classes(checkpoint, model, data)
    start = time.monotonic()
    metrics, seen = _test(model, data, settings)
    seconds = time.monotonic() - start
    records, expected = data.find_records("val")
    if not metrics.get("videos"):
        message = seen["unreadable"][0]["message"] if seen["unreadable"] else "none was handed out"
        raise DataError(f"{dataset}: not one of {len(records)} videos could be scored. The first: {message}")
    return Measurement(
        weights={
            "name": weights,
            "override": override,
            "sha256": _sha256(checkpoint),
            "source": str(checkpoint.source),
            "license": checkpoint.license,
        },
        data={
            "name": dataset,
            "split": "val",
            "expected": expected,
            "found": len(records),
            "scored": int(metrics.pop("videos")),
            "incomplete": int(metrics.pop("incomplete", 0)),
            "limit": settings.limit,
            "list_sha256": sha256(f"{record.name} {record.label}" for record in records),
        },
        unreadable=tuple(seen["unreadable"]),
        protocol={
            "clips": spec.clips,
            "crops": spec.crops,
            "short_side": spec.test_short_side,
            "crop": spec.test_crop,
            "frames": spec.frames,
            "stride": spec.stride,
            "score": "sum of the softmax scores of all views",
            "precision": "32-bit floats",
        },
        labels_sha256=sha256(model.labels) if model.labels else None,
        metrics=metrics,
        device=seen["device"],
        seconds=round(seconds, 2),
    )


def _check_classes(checkpoint: Checkpoint, model: Any, data: Any) -> None:
    """A score by a fresh head, or under another order of classes, would be a number about nothing."""
    if model.num_classes != checkpoint.num_classes:
        raise WeightsError(
            f"{checkpoint.name} has {checkpoint.num_classes} classes, the row asks for {model.num_classes}: the head "
            "would be a fresh one. Correct the row's override."
        )
    if model.labels and data.classes and tuple(model.labels) != tuple(data.classes):
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
