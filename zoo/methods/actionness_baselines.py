"""What actionness is held against (Table 1 of Zhukov et al., ECCV 2020): chance, the middle of the video, motion.

Nothing in them learns. The paper's hand detector is not among them: it needs a network of its own that was trained on
boxes of hands.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.methods.actionness_curves import ActionnessModel
from zoo.metrics.actionness import ChanceAP
from zoo.registry import register
from zoo.spec import FeatureSpec, VideoSpec

_RATE = 5.0  # scores a second of what has no rows: one for each segment of 0.2 s


class Chance(ActionnessModel):
    """Scores drawn uniformly, in the long run, with the ends of every video behind everything else or not."""

    default_weights = "none"

    def __init__(self, trim: float) -> None:
        super().__init__(VideoSpec(features=FeatureSpec(1, trim=trim), pixels=False))
        self.val_metrics, self.test_metrics = ChanceAP(trim), ChanceAP(trim)

    def protocol(self) -> dict[str, Any]:
        """The closed form."""
        words = "the expected average precision of all 0.2 s segments of the test videos together"
        return {"in_words": words}

    def forward(self, features: Tensor) -> Tensor:
        """Every row is as likely as the others: ``[..., D]`` to ``[...]``."""
        return features.new_zeros(features.shape[:-1])

    def _score(self, batch: dict[str, Any], metric: ChanceAP) -> None:
        for intervals, duration, index in zip(batch["intervals"], batch["duration"], batch["index"], strict=True):
            metric.update(torch.as_tensor(intervals), float(duration), int(index))


class Middle(ActionnessModel):
    """The nearer to the middle of the video, the likelier: what a glance at any how-to video's shape tells."""

    default_weights = "none"

    def __init__(self) -> None:
        super().__init__(VideoSpec(features=FeatureSpec(1), pixels=False))

    def forward(self, features: Tensor) -> Tensor:
        """Rows of a whole video ``[T, D]`` to scores ``[T]``, 0 at its ends and 1 in its middle."""
        count = features.shape[-2]
        place = (torch.arange(count, device=features.device, dtype=torch.float32) + 0.5) / count
        return (1 - (2 * place - 1).abs()).expand(features.shape[:-1])

    def curve(self, batch: dict[str, Any], video: int, rows: slice) -> tuple[Tensor, float]:
        count = max(1, math.ceil(float(batch["duration"][video]) * _RATE))
        return self(torch.empty(count, 1, device=self.device)), _RATE


class Value(ActionnessModel):
    """The one number of a row is its score, such as the mean magnitude of motion."""

    default_weights = "none"

    def __init__(self) -> None:
        super().__init__(VideoSpec(features=FeatureSpec(1)))

    def forward(self, features: Tensor) -> Tensor:
        """Rows ``[..., 1]`` to scores ``[...]``.

        Raises:
            ZooError: rows of more numbers.
        """
        if features.shape[-1] != 1:
            count = features.shape[-1]
            raise ZooError(f"{self.name} takes rows of 1 number, got {count}; `zoo extract flow_magnitude` makes them.")
        return features.squeeze(-1)


@register("actionness_chance", paper="zhukov2020actionness")
def actionness_chance(trim: float = 0.0) -> Chance:
    """Scores drawn at random: the floor of the tables of actionness.

    Args:
        trim: part of a video at each end that is taken for background; 0.3 in the paper's second baseline.
    """
    return Chance(trim)


@register("actionness_middle", paper="zhukov2020actionness")
def actionness_middle() -> Middle:
    """The nearer to the middle of a video, the more is done: a prior without a look at it."""
    return Middle()


@register("actionness_flow", paper="zhukov2020actionness")
def actionness_flow() -> Value:
    """The more moves, the more is done: the mean magnitude of optical flow, as `flow_magnitude` extracts it."""
    return Value()
