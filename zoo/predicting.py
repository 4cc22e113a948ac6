"""What a model says of every test video of a data set, as the tables that Charades' official scripts score."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from zoo.errors import ZooError
from zoo.score_files import ScoreTable, tables_of


def predict_scores(model: Any, data: Any, *, accelerator: str = "auto") -> tuple[ScoreTable, ScoreTable]:
    """The scores of videos and of 25 moments of each, by the model's test protocol.

    Args:
        model: of moments, such as ``zoo.load("temporal_fields")``.
        data: the datamodule, made for ``model.spec``; its ``unreadable`` says afterwards which videos lack.
        accelerator: Lightning's.

    Raises:
        ZooError: the model scores no moments, or other classes than the data's; no video could be read.
    """
    name = getattr(model, "name", "") or type(model).__name__
    if model.spec.moments is None:
        raise ZooError(
            f"{name} scores clips, not moments, so there is nothing for both scripts; take a model such as "
            "temporal_fields. `zoo test` scores this one."
        )
    if not getattr(data, "multilabel", False):
        raise ZooError(f"{data.name} says of no video all that is done and when; files of scores are of charades.")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator=accelerator, devices=1, **quiet)
    predictions = [one for batch in trainer.predict(model, data) for one in batch]
    return tables_of(predictions, [record.name for record in data.records("val")])
