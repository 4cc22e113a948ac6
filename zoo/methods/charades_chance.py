"""The first row of the tables on Charades: a guess that has not seen the video."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.methods.base import ScoredModule
from zoo.metrics.charades import POINTS, ChanceMAP
from zoo.registry import register
from zoo.spec import MomentSpec, VideoSpec


class Chance(ScoredModule):
    """The mean average precision that scores drawn uniformly get in the long run, for videos and for their moments.

    One draw lies about 0.07 percent off it for videos, and 0.005 for moments (standard deviations on Charades' test).
    `predict_step` makes one, to be written to a file for the official scripts.
    """

    default_weights = "none"

    def __init__(self, num_classes: int, seed: int) -> None:
        super().__init__(VideoSpec(frames=1, stride=1, fps=24, clips=1, crops=1, moments=MomentSpec(), pixels=False))
        if num_classes < 1 or seed < 0:
            raise ZooError(f"charades_chance needs num_classes >= 1 and seed >= 0, got {num_classes} and {seed}.")
        self.num_classes, self.seed = num_classes, seed
        self.val_metrics, self.test_metrics = ChanceMAP(num_classes), ChanceMAP(num_classes)

    def protocol(self) -> dict[str, Any]:
        """The closed form."""
        return {"in_words": "the mean over all orders of the videos, and of their moments"}

    def forward(self, frames: Tensor) -> Tensor:
        """Each class is as likely as the others: frames ``[B, ...]`` to scores ``[B, C]``."""
        return frames.new_zeros(len(frames), self.num_classes)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """For every video of the batch: its ``index``, ``scores`` ``[C]`` and at 25 ``moments`` ``[25, C]``, drawn.

        They depend on the seed and the video's number alone, in however many batches and processes the videos come.
        """
        found = []
        for index in batch["index"].tolist():
            draw = np.random.default_rng((self.seed, index)).random((1 + POINTS, self.num_classes), dtype=np.float32)
            scores = torch.from_numpy(draw)
            found.append({"index": index, "scores": scores[0], "moments": scores[1:]})
        return found

    def _score(self, batch: dict[str, Any], metric: ChanceMAP) -> None:
        metric.update(batch["label"], batch["moment_label"], batch["index"])


@register("charades_chance", paper="sigurdsson2016charades")
def charades_chance(num_classes: int = 157, seed: int = 0) -> Chance:
    """Scores drawn at random: the floor of every table on Charades."""
    return Chance(num_classes, seed)
