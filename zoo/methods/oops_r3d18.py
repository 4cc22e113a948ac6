"""Oops! Predicting unintentional action in video (Epstein, Chen, Vondrick, CVPR 2020): each clip by itself.

A 3D CNN labels one-second clips as before, at or after the failure. It is the baseline of the goals paper ("3D CNN
only"), and with a Kinetics trunk, frozen or not, its two Kinetics rows; it also makes the pseudo labels that the paper
trains on beside the annotated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from zoo.methods.base import Recipe
from zoo.methods.goal_trajectory import tiny_spec
from zoo.methods.intentionality import EPS, Intentionality, failure_loss, finite, started
from zoo.methods.video_resnets import from_torchvision
from zoo.networks.sequences import Layout, bare
from zoo.networks.video_resnet import VideoResNet
from zoo.registry import register
from zoo.spec import ONE_SECOND, TrajectorySpec, VideoSpec

#: 100 epochs of up to ten clips of each of 4,456 videos. The release states no batch; this one is ours.
RECIPE = Recipe(rate=1e-3, batch=64, iterations=100 * 44_516 // 64, schedule="constant", weight_decay=0.0)


class ClipIntentionality(Intentionality):
    """A trunk and a linear head; no clip sees another one."""

    optimizer = Adam

    def __init__(
        self,
        trunk: VideoResNet,
        *,
        spec: VideoSpec,
        recipe: Recipe = RECIPE,
        num_classes: int = 3,
        frozen: bool = False,
        weighted: bool = False,
        epsilon: float = EPS,
    ) -> None:
        """
        Args:
            trunk: clips to maps.
            spec: what it wants to eat.
            recipe: how it is trained.
            num_classes: three; another number is refused.
            frozen: the trunk keeps its weights and its statistics, only the head learns.
            weighted: weigh the labels by their inverse frequency in the training data.
            epsilon: of Adam.
        """
        super().__init__(
            trunk.out_channels,
            spec=spec,
            recipe=recipe,
            num_classes=num_classes,
            weighted=weighted,
            epsilon=epsilon,
        )
        self.trunk, self.frozen = trunk, frozen
        trunk.requires_grad_(not frozen)

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The release's names (torchvision's, or the goals code's in its CVPR mode) to ours."""
        names = {key: key.removeprefix("module.") for key in state}
        if any(name.startswith("cnn.") for name in names.values()):
            decoder = "cvpr_oops_decoder."
            names = {
                key: f"fc.{name.removeprefix(decoder)}" if name.startswith(decoder) else name.removeprefix("cnn.")
                for key, name in names.items()
            }
        return from_torchvision({names[key]: value for key, value in state.items()})

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another network's trunk, such as a Kinetics classifier's, under a fresh head."""
        return started(self, "trunk.", {key: value for key, value in state.items() if key.startswith("trunk.")})

    def train(self, mode: bool = True) -> ClipIntentionality:
        """A frozen trunk stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def encode(self, clips: Tensor) -> Tensor:
        return self.trunk.pooled(clips)

    def layout(self, lengths: Sequence[int], firsts: Sequence[int] | None = None) -> Layout:
        return bare(lengths)

    def contextualize(self, phi: Tensor, layout: Layout) -> Tensor:
        return layout.place(phi)

    def classify(self, h: Tensor) -> Tensor:
        return self.head(h)

    def loss(self, clips: Tensor, label: Tensor) -> Tensor:
        """The failure loss of clips ``[N, 3, T, H, W]``, not normalised, with labels ``[N]``."""
        with torch.set_grad_enabled(not self.frozen):
            phi = self.encode(self.normalize(clips))
        return failure_loss(self.head(phi), label, self.class_weights)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self.loss(batch["clips"], batch["label"])
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return finite(self, loss)


@register("oops_r3d18", paper="epstein2020oops")
def oops_r3d18(
    num_classes: int = 3,
    factorized: bool = False,
    frozen: bool = False,
    weighted: bool = False,
    stride: int = 4,
    cap: int | None = 50,
    learning_rate: float | None = None,
) -> ClipIntentionality:
    """R3D-18 on single one-second clips.

    Args:
        num_classes: labels of a clip, three; another number is refused.
        factorized: R(2+1)D-18 instead.
        frozen: only the head learns ("Kinetics supervision", from ``--weights r3d18.kinetics400``).
        weighted: weigh labels by their inverse frequency.
        stride: quarters of a second from one clip to the next when testing.
        cap: quarters of a second of a video that a test looks at; None looks at all.
        learning_rate: in place of the recipe's own.
    """
    spec = ONE_SECOND.replace(
        size=(128, 171),
        short_side=(128, 128),
        test_short_side=128,
        trajectory=TrajectorySpec(clips=(1, 1), balanced=True, stride=stride, cap=cap),
    )
    return ClipIntentionality(
        VideoResNet(factorized),
        spec=spec,
        recipe=RECIPE.with_rate(learning_rate),
        num_classes=num_classes,
        frozen=frozen,
        weighted=weighted,
    )


@register("oops_cnn_tiny", paper="epstein2020oops", summary="the clip encoder of goal_trajectory_tiny by itself")
def tiny(
    num_classes: int = 3,
    channels: int = 8,
    frames: int = 8,
    crop: int = 48,
    batch: int = 56,
    iterations: int = 600,
    frozen: bool = False,
    weighted: bool = False,
    stride: int = 4,
    cap: int | None = None,
    learning_rate: float | None = None,
) -> ClipIntentionality:
    """The sandbox's baseline without context.

    Args:
        num_classes: labels of a clip, three; another number is refused.
        channels: of the first stage.
        frames: in a second, all of a clip.
        crop: side of a frame.
        batch: clips in a step of its recipe.
        iterations: steps of its recipe.
        frozen: only the head learns.
        weighted: weigh labels by their inverse frequency.
        stride: quarters of a second from one clip to the next when testing.
        cap: quarters of a second of a video that a test looks at; None looks at all.
        learning_rate: in place of the recipe's own.
    """
    spec = tiny_spec(frames, crop, stride, cap)
    spec = spec.replace(trajectory=TrajectorySpec((1, 1), spec.trajectory.step, stride, balanced=True, cap=cap))
    recipe = Recipe(2e-3, batch, iterations, "cosine", warmup=20, weight_decay=0.01)
    return ClipIntentionality(
        VideoResNet(widths=tuple(channels * 2**i for i in range(4)), blocks=(1, 1, 1, 1)),
        spec=spec,
        recipe=recipe.with_rate(learning_rate),
        num_classes=num_classes,
        frozen=frozen,
        weighted=weighted,
        epsilon=1e-8,
    )
