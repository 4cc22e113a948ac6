"""Actionness from order (Zhukov et al., "Learning actionness via long-range temporal order verification", ECCV 2020).

What is done in a how-to video has an order, what merely surrounds it has none. So a score S of clips is learned by
nothing but the question whether M clips of one video are shown forwards or backwards: every pair of them votes by a
score F for its order (Eq. 1), with a weight that grows with S of both (Eq. 2), and the sum of the votes is held against
the truth (Eq. 3). S comes out high where order can be told, which is where something is done.

S and F are linear in the features of a frozen network. The bias of S has no part in the loss (Eq. 2 does not change
when S is shifted), so it does not learn: Adam would turn the rounding noise in its gradient into steps. For the same
reason the loss of a reversed sample is that of the sample itself, and reversal changes nothing for these F and S.

Trained with labels instead of order the same S is the paper's supervised bound.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from zoo.errors import ZooError
from zoo.methods.actionness_curves import ActionnessModel
from zoo.methods.base import Recipe, ZooModule
from zoo.methods.extracting import extract
from zoo.metrics.actionness import ActionnessScore
from zoo.metrics.order import OrderAccuracy
from zoo.networks.grouping import Normalize
from zoo.registry import register
from zoo.spec import FeatureSpec, VideoSpec

Objective = Literal["order", "labels"]

RECIPE = Recipe(rate=1e-4, batch=1024, epochs=15, schedule="constant", weight_decay=0.0)
"""Section 4.1: Adam, 15 epochs, the rate times 0.9 after each (`Actionness.configure_optimizers`)."""

DECAY = 0.9


def pair_order(time: Tensor) -> Tensor:
    """F(x_i, x_j) of all pairs i < j: the differences of ``time`` = a h, ``[B, M]`` to ``[B, M (M - 1) / 2]``.

    Pairs are in lexicographic order: 01 02 ... 12 ...
    """
    first, second = _pairs(time)
    return time[:, first] - time[:, second]


def pair_weights(actionness: Tensor) -> Tensor:
    """W_ij (Eq. 2): the softmax over all pairs of S(x_i) + S(x_j), ``[B, M]`` to ``[B, M (M - 1) / 2]``."""
    first, second = _pairs(actionness)
    return (actionness[:, first] + actionness[:, second]).softmax(1)


def order_score(actionness: Tensor, time: Tensor) -> Tensor:
    """G(X) (Eq. 1): how sure the model is that clips are shown forwards, ``[B]``.

    Args:
        actionness: S of the clips as they are shown, ``[B, M]``.
        time: a h of the same, ``[B, M]``.
    """
    return (pair_weights(actionness) * pair_order(time)).sum(1)


def order_loss(score: Tensor, forwards: Tensor) -> Tensor:
    """Eq. 3, the mean over the batch: G ``[B]`` against 1 where clips are shown forwards and 0 where backwards."""
    return binary_cross_entropy_with_logits(score, forwards.to(score.dtype))


def _pairs(clips: Tensor) -> tuple[Tensor, Tensor]:
    return torch.triu_indices(clips.shape[1], clips.shape[1], 1, device=clips.device).unbind()


class Actionness(ActionnessModel):
    """S and F, learned from order or, as a bound, from labels.

    Attributes:
        actionness: S, `nn.Linear` to one number with a bias.
        order: a of F, `nn.Linear` to one number without.
        extractor: the name of the network whose features it scores; None where no network made them.
    """

    def __init__(
        self,
        spec: VideoSpec,
        *,
        objective: Objective = "order",
        extractor: str | None = "s3d_milnce",
        recipe: Recipe = RECIPE,
        normalize: Normalize = "minmax",
    ) -> None:
        """
        Args:
            spec: has features; what a training sample is goes with the objective.
            objective: ``"order"`` or ``"labels"``.
            extractor: the registered name of the network of the features.
            recipe: how it is trained.
            normalize: how scores become a curve for proposals.
        """
        super().__init__(spec, recipe, normalize)
        if objective not in ("order", "labels"):
            raise ZooError(f"objective must be 'order' or 'labels', got {objective!r}.")
        self.objective, self.extractor = objective, extractor
        self.actionness = nn.Linear(spec.features.dim, 1)
        if objective == "order":
            self.actionness.bias.requires_grad_(False)
            self.order = nn.Linear(spec.features.dim, 1, bias=False)
        self.agreement = OrderAccuracy()
        self._loaded: tuple[ZooModule, ...] = ()  # the extractor, once it was wanted; in a tuple it is no part of this

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """The width of the features."""
        asked = {"dim": state["actionness.weight"].shape[1]} if "actionness.weight" in state else {}
        return {**said, **asked}

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[..., D]`` to S ``[...]``."""
        return self.actionness(features).squeeze(-1)

    def order_scores(self, features: Tensor) -> Tensor:
        """G of clips as they are shown, ``[B, M, D]`` to ``[B]``."""
        return order_score(self(features), self.order(features).squeeze(-1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        features, label = batch["features"], batch["label"]
        score = self.order_scores(features) if self.objective == "order" else self(features)
        loss = order_loss(score, label)
        right = ((score > 0) == (label > 0)).float().mean()
        self.log_dict({"train_loss": loss, "train_accuracy": right}, prog_bar=True, batch_size=len(features))
        return loss

    def _score(self, batch: dict[str, Any], metric: ActionnessScore) -> None:
        if "intervals" in batch or self.objective == "labels":
            return super()._score(batch, metric)
        score = self.order_scores(batch["features"])
        self.agreement.update((score > 0) == (batch["label"] > 0), batch["index"])
        return None

    def _report(self, metric: ActionnessScore, prefix: str) -> None:
        """Of videos without annotations, how often their order was told; else the metric."""
        super()._report(self.agreement if self.agreement.update_called else metric, prefix)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam; the rate times 0.9 after every epoch."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = Adam(learning, self.recipe.rate, weight_decay=self.recipe.weight_decay)
        schedule = {"scheduler": ExponentialLR(optimizer, DECAY), "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def extract(self, video: str | os.PathLike, rate: float, extractor: ZooModule | None) -> Tensor:
        """The features of a video file by the extractor, ``[T, D]``."""
        if extractor is None:
            if self.extractor is None:
                raise ZooError(
                    f"{self.name} scores features that no network makes of a video; give {video}'s as a .npy file, or "
                    "take a model with an extractor, such as actionness_films."
                )
            if self.loader is None:
                raise ZooError(
                    f"{self.name} scores features of {self.extractor}; give them as a .npy file, or the network: "
                    f"predict(video, extractor=zoo.load({self.extractor!r}))."
                )
            if not self._loaded:
                with torch.inference_mode(False):
                    self._loaded = (self.loader(self.extractor),)
            extractor = self._loaded[0].to(self.device)
        return extract(extractor, video, rate=rate)


def _spec(features: FeatureSpec, objective: Objective) -> VideoSpec:
    if objective == "labels":
        features = FeatureSpec(features.dim, samples="rows", clips=32, trim=0.0, reverse=False)
    return VideoSpec(features=features)


@register("actionness", paper="zhukov2020actionness")
def actionness(
    dim: int = 1024,
    clips: int = 5,
    window: float | None = None,
    trim: float = 0.3,
    reverse: bool = True,
    objective: Objective = "order",
    extractor: str = "s3d_milnce",
    normalize: Normalize = "minmax",
    rate: float | None = None,
) -> Actionness:
    """A score of how much is done, linear in features, learned from the order of clips.

    Args:
        dim: numbers in a row of features.
        clips: of one video in a training sample (the M of the paper).
        window: seconds that they span at most (its d); None for all that trimming leaves.
        trim: part of a training video at each end that is left out.
        reverse: show half of the samples backwards.
        objective: "order", or "labels" for the supervised bound.
        extractor: the network of the features, for predictions on videos.
        normalize: how scores become a curve for proposals: sigmoid, minmax or rank.
        rate: learning rate in place of the recipe's.
    """
    spec = _spec(FeatureSpec(dim, "order", clips, window, trim, reverse), objective)
    recipe = RECIPE.with_rate(rate)
    return Actionness(spec, objective=objective, extractor=extractor, recipe=recipe, normalize=normalize)


@register("actionness_supervised", paper="zhukov2020actionness")
def actionness_supervised(
    dim: int = 1024, extractor: str = "s3d_milnce", normalize: Normalize = "minmax", rate: float | None = None
) -> Actionness:
    """The same score learned from annotated intervals: the paper's upper bound.

    Args:
        dim: numbers in a row of features.
        extractor: the network of the features, for predictions on videos.
        normalize: how scores become a curve for proposals: sigmoid, minmax or rank.
        rate: learning rate in place of the recipe's.
    """
    return actionness(dim, objective="labels", extractor=extractor, normalize=normalize, rate=rate)


@register("actionness_tiny", paper="zhukov2020actionness", summary="actionness on the sandbox's features")
@register(
    "actionness_films",
    paper="zhukov2020actionness",
    summary="actionness on features of the sandbox's films",
    dim=128,
    extractor="s3d_milnce_tiny",
)
def actionness_tiny(
    dim: int = 64,
    clips: int = 5,
    window: float | None = None,
    trim: float = 0.3,
    reverse: bool = True,
    objective: Objective = "order",
    extractor: str | None = None,
    normalize: Normalize = "minmax",
    rate: float = 1e-2,
) -> Actionness:
    """The same on features of 64 numbers, or of films on the 128 of the small S3D.

    Args:
        dim: numbers in a row of features.
        clips: of one video in a training sample.
        window: seconds that they span at most; None for all that trimming leaves.
        trim: part of a training video at each end that is left out.
        reverse: show half of the samples backwards.
        objective: "order", or "labels" for the supervised bound.
        extractor: the network of the features, for predictions on videos; none made those of 64 numbers.
        normalize: how scores become a curve for proposals: sigmoid, minmax or rank.
        rate: learning rate.
    """
    spec = _spec(FeatureSpec(dim, "order", clips, window, trim, reverse), objective)
    recipe = dataclasses.replace(RECIPE, rate=rate, batch=128)
    return Actionness(spec, objective=objective, extractor=extractor, recipe=recipe, normalize=normalize)
