"""What a Trainer and its processes see of a data set."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor


class Learner(pl.LightningModule):
    """Counts what it is shown.

    Args:
        video: where a training batch has its videos' numbers.
        pixels: where it has its pixels.
    """

    def __init__(self, video: str, pixels: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.video, self.pixels = video, pixels
        self.trained: list[int] = []
        self.validated: list[int] = []

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        self.trained += batch[self.video].tolist()
        return self.weight * batch[self.pixels].float().mean()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        self.validated += batch["index"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def fit(self, data: pl.LightningDataModule, epochs: int = 1) -> None:
        """See so many epochs of it."""
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        pl.Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, **quiet).fit(self, data)


def seen_in_tests(make: Callable[[], pl.LightningDataModule], processes: int = 2) -> list[int]:
    """The videos that each of so many processes tests, one process after the other."""
    seen = []
    for rank in range(processes):
        data = make()
        data.trainer = type("Trainer", (), {"global_rank": rank, "world_size": processes})()
        seen += [index for batch in data.test_dataloader() for index in batch["index"].tolist()]
    return seen
