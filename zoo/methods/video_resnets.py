"""R3D-18 and R(2+1)D-18 on Kinetics-400 (Tran et al., CVPR 2018), as torchvision publishes them.

Other methods start from their trunks: the Kinetics rows of the tables on goals are these networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.methods.base import Recipe
from zoo.methods.classifier import VideoClassifier
from zoo.networks.video_resnet import VideoResNet
from zoo.registry import register
from zoo.spec import VideoSpec

#: torchvision's test: five clips, frames scaled to one size whatever their shape.
SPEC = VideoSpec(
    frames=16,
    stride=1,
    fps=15,
    crop=112,
    size=(128, 171),
    short_side=(128, 128),
    test_crop=112,
    test_short_side=128,
    clips=5,
    crops=1,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)

#: Section 4: 45 epochs of a million clips; the rate falls every ten after ten of warm-up.
RECIPE = Recipe(
    rate=0.01,
    batch=32,
    iterations=45 * 10**6 // 32,
    milestones=tuple(epoch * 10**6 // 32 for epoch in (20, 30, 40)),
    warmup=10 * 10**6 // 32,
)


class VideoResNetClassifier(VideoClassifier):
    """The network with a linear classifier."""

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """torchvision's names to ours: ``fc`` is the head, everything else the trunk."""
        return from_torchvision(state)


def from_torchvision(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict of torchvision's video ResNets under the names of a trunk with a head."""
    names = {key: key.removeprefix("module.") for key in state}
    return {
        f"head.{name[3:]}" if name.startswith("fc.") else f"trunk.{name}": torch.as_tensor(state[key])
        for key, name in names.items()
    }


@register("r2plus1d18", paper="tran2018r2plus1d")
@register("r3d18", paper="tran2018r2plus1d", factorized=False)
def video_resnet(
    factorized: bool = True, num_classes: int = 400, dropout: float = 0.0, learning_rate: float | None = None
) -> VideoResNetClassifier:
    """A residual network of 18 layers of 3D convolutions, whole or factorised.

    Args:
        factorized: each convolution as one in space and one in time.
        num_classes: of the head.
        dropout: before the head, while training.
        learning_rate: at the recipe's batch, in place of the recipe's own.
    """
    trunk, recipe = VideoResNet(factorized), RECIPE.with_rate(learning_rate)
    return VideoResNetClassifier(trunk, spec=SPEC, num_classes=num_classes, dropout=dropout, window=None, recipe=recipe)
