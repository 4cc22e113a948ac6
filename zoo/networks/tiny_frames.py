"""A small network for single frames, for the sandbox's models."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from torch import Tensor, nn


class TinyFrames(nn.Module):
    """A residual network of one block a stage, its features averaged over the frame, and dropout.

    Attributes:
        out_features: of a frame.
    """

    def __init__(self, channels: Sequence[int] = (8, 16, 32, 64), dropout: float = 0.5) -> None:
        super().__init__()
        self.network = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=list(channels), num_classes=0)
        self.dropout = nn.Dropout(dropout)
        self.out_features = self.network.num_features

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames ``[N, 3, H, W]`` to ``[N, out_features]``."""
        return self.dropout(self.network(frames))
