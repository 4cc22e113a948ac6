"""Staggered training: one property first, then two, then three (Ye et al., ECCV 2018, section 9.3.3 of the thesis).

The released code trains each stage by hand, from the weights of the epoch of the stage before whose mean training loss
was lowest. This callback does the same within one run, and resumes in the middle of it. Here a stage begins with fresh
moments of Adam and looks for a best epoch of its own; the release carries both over. When all stages are over it
finishes the model: see `zoo.methods.physics_vector`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from zoo.methods.physics_vector import finish

_REMEMBERED = ("best_loss", "best_epoch", "best", "epoch", "batches", "loss")


class StaggeredTraining(pl.Callback):
    """Tells the data which properties to serve, keeps each stage's best weights, finishes the model at the end."""

    def __init__(self, properties: Sequence[str], epochs: Sequence[int]) -> None:
        """
        Args:
            properties: in the order in which they are added.
            epochs: of each stage; a single number is one stage with all properties.
        """
        self.properties, self.ends = tuple(properties), tuple(accumulate(epochs))
        self.best_loss, self.best_epoch = float("inf"), -1
        self.best: dict[str, Tensor] = {}
        self.finished = False
        # Of the epoch that is under way. Lightning's own mean of a resumed epoch is that of its rest.
        self.epoch, self.batches, self.loss = -1, 0, torch.zeros(())

    def stage(self, epoch: int) -> int:
        """The number of an epoch's stage, from 0; what lies beyond the last one is still of it."""
        return min(sum(epoch >= end for end in self.ends), len(self.ends) - 1)

    def active(self, epoch: int) -> tuple[str, ...]:
        """The properties that an epoch trains on."""
        return self.properties if len(self.ends) == 1 else self.properties[: self.stage(epoch) + 1]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The sampler asks for each epoch, so a resumed run is in its stage at once."""
        self.finished = False
        if stage != "fit":
            return
        if hasattr(trainer.datamodule, "schedule"):
            trainer.datamodule.schedule = self.active
        elif len(self.ends) > 1:
            warnings.warn(
                f"{pl_module.name}: training is not staggered, for the loader is not that of physics_collisions; every "
                "stage sees what it serves.",
                stacklevel=2,
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Another model may use the data next."""
        if stage == "fit" and hasattr(trainer.datamodule, "schedule"):
            trainer.datamodule.schedule = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("stage", float(self.stage(trainer.current_epoch) + 1), prog_bar=True)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Lightning passes over the end of an epoch after whose last batch a run was stopped; make up for it."""
        if self.batches and trainer.current_epoch != self.epoch:
            self._end_epoch(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.epoch = trainer.current_epoch
        if (loss := trainer.callback_metrics.get("train_loss_step")) is not None:
            self.batches, self.loss = self.batches + 1, self.loss + loss.detach()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_epoch(trainer, pl_module)
        # Lightning's last checkpoint of a run is mostly written after this hook and before `on_train_end`.
        by_steps = 0 < trainer.max_steps <= trainer.global_step
        if by_steps or trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            self._finish(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the last checkpoint lacks, where it was written with a validation or another callback ended the run."""
        if not self.finished:
            self._finish(trainer, pl_module)
        for callback in trainer.checkpoint_callbacks:
            path = getattr(callback, "last_model_path", "")
            if path and not Path(path).is_symlink():  # a link's file is another epoch's
                trainer.save_checkpoint(path)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._next_stage(trainer, pl_module)
        if not trainer.fast_dev_run:
            finish(pl_module, trainer.datamodule)
        self.finished = True

    def _end_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        mean = float(self.loss) / self.batches if self.batches else float("inf")
        if mean < self.best_loss:
            self.best_loss, self.best_epoch = mean, self.epoch
            self.best = {key: value.detach().clone() for key, value in pl_module.state_dict().items()}
        if self.epoch + 1 in self.ends[:-1]:  # the last one lasts as long as the run
            self._next_stage(trainer, pl_module)
        self.batches, self.loss = 0, torch.zeros(())

    def _next_stage(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best:
            pl_module.load_state_dict({key: value.to(pl_module.device) for key, value in self.best.items()})
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        self.best_loss, self.best_epoch, self.best = float("inf"), -1, {}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REMEMBERED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in _REMEMBERED:
            setattr(self, name, state_dict[name])
