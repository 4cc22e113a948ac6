"""The last row of the tables on Oops!: a guess that has not seen the video."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.methods.base import ZooModule
from zoo.metrics.intentionality import ChanceScore
from zoo.registry import register
from zoo.spec import TrajectorySpec, VideoSpec


class Chance(ZooModule):
    """Expected scores of a time drawn uniformly from the video and a label drawn uniformly from three."""

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
            self.score.update(annotated, duration=float(duration), video=int(index))

    def on_test_epoch_end(self) -> None:
        values = self.score.compute()
        self.score.reset()
        self.log_dict({name: value.float() for name, value in values.items()}, batch_size=1)


@register("oops_chance", paper="epstein2020oops")
def oops_chance() -> Chance:
    """A uniform guess: the floor of every table on Oops!."""
    return Chance()
