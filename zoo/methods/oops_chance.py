"""The last row of the tables on Oops!: a guess that has not seen the video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.methods.base import ZooModule
from zoo.metrics.intentionality import ChanceScore
from zoo.metrics.svo import POSITIONS, TOPK
from zoo.registry import register
from zoo.spec import TrajectorySpec, VideoSpec


class Chance(ZooModule):
    """Expected scores of a time drawn uniformly from the video, a label from three, and words from the vocabulary."""

    default_weights = "none"

    def __init__(self) -> None:
        super().__init__(VideoSpec(frames=16, fps=16, clips=1, crops=1, trajectory=TrajectorySpec(), pixels=False))
        self.score = ChanceScore()

    def protocol(self) -> dict[str, Any]:
        """The closed form."""
        return {"in_words": "the expected value of a uniform guess, by the median of the annotators' times"}

    def forward(self, clips: Tensor) -> Tensor:
        """Each label is as likely as the others: clips ``[B, ...]`` to logits ``[B, 3]``."""
        return clips.new_zeros(len(clips), 3)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        for annotated, duration, index in zip(batch["annotated"], batch["duration"], batch["index"], strict=True):
            self.score.update(torch.from_numpy(annotated), duration=float(duration), video=int(index))

    def on_test_epoch_end(self) -> None:
        values = {name: float(value) for name, value in self.score.compute().items()}
        self.score.reset()
        data = self.trainer.datamodule
        if getattr(data, "goals", False):
            values |= word_chance(len(data.vocabulary))
        self.log_dict(values, batch_size=1)


def word_chance(words: int) -> dict[str, float]:
    """Percent of guesses among so many words that hold one annotated word, or in all three positions theirs."""
    share = {k: min(k, words) / words for k in TOPK}
    single = {f"{name}_top{k}": 100 * p for name in (*POSITIONS, "average") for k, p in share.items()}
    return single | {f"all_top{k}": 100 * p ** len(POSITIONS) for k, p in share.items()}


@register("oops_chance", paper="epstein2020oops")
def oops_chance() -> Chance:
    """A uniform guess: the floor of every table on Oops!."""
    return Chance()
