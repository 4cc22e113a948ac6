"""The classifier on top of a video trunk, for training clips and for larger, fully convolutional views."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ClassifierHead(nn.Linear):
    """Average, dropout, linear: ``weight`` ``[classes, channels]`` and ``bias`` ``[classes]``.

    Args:
        channels: of the feature map.
        classes: how many.
        dropout: probability, while training.
        window: rows and columns of the map that one prediction averages over: a training crop's map, 7 at 224 pixels.
            None averages over the whole map, as MMAction2's head does.
    """

    def __init__(self, channels: int, classes: int, dropout: float = 0.5, window: int | None = 7) -> None:
        super().__init__(channels, classes)
        self.dropout = nn.Dropout(dropout)
        self.window = window

    def reset_parameters(self) -> None:
        """Normal weights of deviation 0.01 and zero biases, as in the released training code."""
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of ``[B, C, T, H, W]``: the mean over the whole map, classified."""
        return super().forward(self.dropout(x.mean(dim=(2, 3, 4))))

    def pool(self, x: Tensor) -> Tensor:
        """``[B, C, 1, H', W']``: means over all frames and ``window`` x ``window`` places, or all of a smaller map."""
        frames, height, width = x.shape[2:]
        rows, columns = (min(self.window or side, side) for side in (height, width))
        return F.avg_pool3d(x, (frames, rows, columns), stride=1)

    def dense(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes, 1, H', W']``, one at each place of `pool`."""
        return F.linear(self.pool(x).movedim(1, -1), self.weight, self.bias).movedim(-1, 1)

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities ``[B, classes]``: softmax at every place, then the mean over places.

        On a map no larger than the window this is the softmax of the logits.
        """
        return self.dense(x).softmax(dim=1).mean(dim=(2, 3, 4))
