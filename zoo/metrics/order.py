"""How often it is told whether the clips of a video are shown in their order."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.metrics.rows import SEQUENCE, FrameRows

_RIGHT = 1


class OrderAccuracy(FrameRows):
    """The percentage of videos whose order was told; each counts once, whichever process saw it and how often."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(key=1, columns=2)

    def update(self, right: Tensor, video: Tensor) -> None:
        """Take a batch.

        Args:
            right: whether each video's order was told, bool ``[B]``.
            video: their numbers in the list, int64 ``[B]``.
        """
        self._add(video, right)

    def compute(self) -> dict[str, Tensor]:
        """``order_accuracy`` in percent, NaN of no video, and ``videos``."""
        table = self._table()
        share = table[:, _RIGHT].double().mean() if len(table) else torch.nan
        return self._result({"order_accuracy": 100 * share, "videos": len(table[:, SEQUENCE])})
