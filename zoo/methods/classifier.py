"""A video classifier: a trunk, a linear head, the 30-view protocol, prediction on files.

The protocol is that of the non-local release, which most Kinetics papers share: ten clips spread over the video, three
crops of each, softmax at every place of the fully convolutional network, the mean over places, the sum over views.
Where a video has several labels, as in Charades, sigmoids take the softmax's place, and the maximum that of the sum.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim import SGD

from zoo.data.transforms import test_views
from zoo.errors import DataError, WeightsError, ZooError, require_top
from zoo.methods.base import Recipe, ScoredModule
from zoo.metrics.multiview import MultiViewAccuracy
from zoo.metrics.multiview_map import MultiViewMAP
from zoo.networks.head import ClassifierHead
from zoo.networks.inflate import from_timm, inflate_into
from zoo.networks.norm import fold_state, split_weight_decay
from zoo.spec import VideoSpec

_VALUES = 3 * 4 * 32 * 256 * 256  # in a test batch


@dataclass(frozen=True)
class Prediction:
    """A class and its probability, by all views together."""

    label: str
    score: float
    index: int


class VideoClassifier(ScoredModule):
    """One label a video, softmax cross-entropy, top-1 and top-5 accuracy.

    With ``multilabel`` a video has any number of labels: sigmoid cross-entropy of each class, mean average precision.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        spec: VideoSpec,
        num_classes: int = 400,
        dropout: float = 0.5,
        window: int | None = 7,
        recipe: Recipe | None = None,
        multilabel: bool = False,
        combine: Literal["max", "mean"] = "max",
    ) -> None:
        """
        Args:
            trunk: clips ``[B, 3, T, H, W]`` to a feature map ``[B, trunk.out_channels, T', H', W']``.
            spec: what the trunk wants to eat.
            num_classes: of the head.
            dropout: probability, before the head, while training.
            window: rows and columns of the map that one prediction averages when testing; None averages all of it.
            recipe: of the optimiser; the paper's by default.
            multilabel: whether a video has several labels (or none).
            combine: what of the views' scores is a video's score where it has several labels.
        """
        super().__init__(spec, recipe)
        if num_classes < 1:
            raise ZooError(f"num_classes must be at least 1, got {num_classes}.")
        self.trunk = trunk
        self.head = ClassifierHead(trunk.out_channels, num_classes, dropout, window)
        self.num_classes = num_classes
        self.multilabel, self.combine = multilabel, combine
        self.val_metrics = self._metric(views=1)
        self.test_metrics = self._metric(spec.views)

    @property
    def test_batch_size(self) -> int:
        """Rows (a clip with its crops); one of three crops of 32 frames of 256 pixels takes a few gigabytes."""
        return max(1, _VALUES // (self.spec.crops * 3 * self.spec.frames * self.spec.test_crop**2))

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """The trunk from a 2D ResNet, its kernels repeated over time and divided (section 3.2 of the paper)."""
        state = from_timm(state)
        if not any(key.endswith("running_mean") for key in self.trunk.state_dict()):
            state = fold_state(state)
        inflate_into(self.trunk, state)

    def protocol(self) -> dict[str, Any]:
        """Clips, crops and sizes of the test views, and how views become a score."""
        spec, score = self.spec, "sum of the softmax scores of all views"
        if self.multilabel:
            score = f"{'maximum' if self.combine == 'max' else 'mean'} of the sigmoid scores of all views"
        words = f"{spec.clips} clips x {spec.crops} crops of {spec.test_crop} at short side {spec.test_short_side}"
        return {
            "clips": spec.clips,
            "crops": spec.crops,
            "short_side": spec.test_short_side,
            "crop": spec.test_crop,
            "frames": spec.frames,
            "stride": spec.stride,
            "score": score,
            "precision": "32-bit floats",
            "in_words": f"{words}, {score}",
        }

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised clips ``[B, 3, T, H, W]`` to logits ``[B, num_classes]``."""
        return self.head(self.trunk(clips))

    def view_scores(self, views: Tensor) -> Tensor:
        """Normalised views ``[N, 3, T, H, W]``, of any size, to class probabilities ``[N, num_classes]``."""
        features = self.trunk(views)
        if self.multilabel:
            return self.head.dense(features).sigmoid().mean(dim=(2, 3, 4))
        return self.head.probabilities(features)

    def features(self, clips: Tensor) -> Tensor:
        """The mean of the trunk's map, ``[B, channels]``; see `ZooModule.features`."""
        return self.trunk(self.normalize(clips)).mean((2, 3, 4)).float()

    def setup(self, stage: str) -> None:
        """Refuse labels of the other kind than the head was made for, or has learned from."""
        data = self.trainer.datamodule
        several = bool(getattr(data, "multilabel", False))
        if data is not None and several != self.multilabel:  # of a bare loader nobody knows
            kinds = {True: "any number of labels a video", False: "one label a video"}
            head = {"multilabel": several, "num_classes": len(getattr(data, "classes", ())) or self.num_classes}
            flags = " ".join(f"--model.{name} {str(value).lower()}" for name, value in head.items())
            words = ", ".join(f"{name}={value}" for name, value in head.items())
            raise DataError(
                f"{self.name} gives {kinds[self.multilabel]}, {data.name} has {kinds[several]}. "
                f"{'Give it a new head' if stage == 'fit' else 'Fine-tune it first, with a new head'}: {flags} on the "
                f"command line, {words} in Python."
            )
        super().setup(stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["zoo"]["multilabel"] = self.multilabel

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nor resume with another kind of labels than was trained on: the shapes are the same, the meaning is not."""
        super().on_load_checkpoint(checkpoint)
        several = checkpoint.get("zoo", {}).get("multilabel", False)
        if several != self.multilabel:
            raise WeightsError(
                f"the checkpoint was trained with multilabel={several}, this {self.name} has multilabel="
                f"{self.multilabel}: resume with --model.multilabel {str(several).lower()}, or start from its weights "
                "with --weights."
            )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self(self.normalize(batch["clips"]))
        if self.multilabel:
            loss = binary_cross_entropy_with_logits(logits, batch["label"].to(logits.dtype))
        else:
            loss = cross_entropy(logits, batch["label"])
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def on_test_start(self) -> None:
        self.test_metrics = self._metric(self.spec.views).to(self.device)  # the spec may have been replaced

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """The scores of every view ``[B, V, num_classes]`` beside the rows' video and view numbers."""
        return {"scores": self._row_scores(batch), "index": batch["index"], "view": batch["view"]}

    def _row_scores(self, batch: dict[str, Any]) -> Tensor:
        clips = batch["clips"]
        if not len(clips):  # no video of this batch could be decoded
            return torch.zeros(0, 1, self.num_classes, device=self.device)
        return self.view_scores(self.normalize(clips.flatten(0, 1))).unflatten(0, clips.shape[:2])

    def _metric(self, views: int) -> MultiViewAccuracy | MultiViewMAP:
        return MultiViewMAP(self.num_classes, views, self.combine) if self.multilabel else MultiViewAccuracy(views)

    def _score(self, batch: dict[str, Any], metric: MultiViewAccuracy | MultiViewMAP) -> None:
        metric.update(self._row_scores(batch), batch["label"], batch["index"], batch["view"])

    def configure_optimizers(self) -> dict[str, Any]:
        """The recipe, its rate scaled linearly with the global batch and its schedule with the run's length."""
        recipe = self.recipe
        optimizer = SGD(
            split_weight_decay(self, recipe.weight_decay),
            lr=recipe.rate * self.global_batch / recipe.batch,
            momentum=recipe.momentum,
            nesterov=True,
        )
        return self.scheduled(optimizer)

    @torch.inference_mode()
    def predict(
        self,
        video: str | os.PathLike,
        top: int = 5,
        *,
        clips: int | None = None,
        crops: int | None = None,
    ) -> list[Prediction]:
        """The likeliest classes of a video file, best first, by the model's test protocol.

        Args:
            video: any file that FFmpeg decodes.
            top: how many classes; all where there are fewer.
            clips: clips spread over the video; the spec's by default. One clip is several times faster and a little
                less accurate.
            crops: crops of each clip, 1 or 3; the spec's by default.

        Raises:
            zoo.VideoError: the file cannot be decoded.
            zoo.ZooError: ``top`` is below 1.
        """
        require_top(top)
        spec = self.spec.replace(clips=clips or self.spec.clips, crops=crops or self.spec.crops)
        by_maximum = self.multilabel and self.combine == "max"
        was_training, _ = self.training, self.eval()
        try:
            total = torch.zeros(self.num_classes, device=self.device)
            for clip in range(spec.clips):  # one clip at a time: memory does not grow with their number
                views = test_views(video, spec, clip).to(self.device)
                scores = self.view_scores(self.normalize(views))
                total = torch.maximum(total, scores.amax(0)) if by_maximum else total + scores.sum(0) / spec.views
        finally:
            self.train(was_training)
        scores, numbers = total.topk(min(top, self.num_classes))
        return [Prediction(self.label(n), s, n) for s, n in zip(scores.tolist(), numbers.tolist(), strict=True)]
