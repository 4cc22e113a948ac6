"""S3D-G, the video tower of MIL-NCE (Miech et al., CVPR 2020): Inception blocks of separable convolutions, with gates.

Two stems exist. The released network folds blocks of 2x2x2 pixels into channels and begins with a 2x4x4 convolution;
the network of the public training code begins with a 3x7x7 convolution of stride 2. Modules have the published names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad

from zoo.errors import ZooError

# Of each block: the 1x1x1 branch, two branches of 1x1x1 then 3x3x3, and the pooled branch.
_BLOCKS = {
    "3b": (64, (96, 128), (16, 32), 32),
    "3c": (128, (128, 192), (32, 96), 64),
    "4b": (192, (96, 208), (16, 48), 64),
    "4c": (160, (112, 224), (24, 64), 64),
    "4d": (128, (128, 256), (24, 64), 64),
    "4e": (112, (144, 288), (32, 64), 64),
    "4f": (256, (160, 320), (32, 128), 128),
    "5b": (256, (160, 320), (32, 128), 128),
    "5c": (384, (192, 384), (48, 128), 128),
}


class ConvUnit(nn.Module):
    """A convolution without bias, batch norm and ReLU; a separable one does so over space, then over time."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int, int],
        stride: int = 1,
        padding: int | tuple[int, int, int] = 0,
        separable: bool = False,
    ) -> None:
        super().__init__()
        second = None
        if separable:
            kernel, padding = (1, kernel, kernel), (0, padding, padding)
            second = {"kernel_size": (kernel[1], 1, 1), "padding": (padding[1], 0, 0)}
        self.conv1 = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)
        if second:
            self.conv2 = nn.Conv3d(outputs, outputs, **second, bias=False)
            self.bn2 = nn.BatchNorm3d(outputs)
        self.separable = separable

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x)).relu() if self.separable else x


class SelfGating(nn.Module):
    """Channels times what the mean of all channels over time and space says of each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3, 4))).sigmoid()[:, :, None, None, None]


class InceptionBlock(nn.Module):
    """Four branches, each gated, side by side: ``[B, inputs, T, H, W]`` to ``[B, outputs, T, H, W]``."""

    def __init__(self, inputs: int, b0: int, b1: tuple[int, int], b2: tuple[int, int], b3: int) -> None:
        super().__init__()
        self.conv_b0 = ConvUnit(inputs, b0, 1)
        self.conv_b1_a = ConvUnit(inputs, b1[0], 1)
        self.conv_b1_b = ConvUnit(b1[0], b1[1], 3, padding=1, separable=True)
        self.conv_b2_a = ConvUnit(inputs, b2[0], 1)
        self.conv_b2_b = ConvUnit(b2[0], b2[1], 3, padding=1, separable=True)
        self.maxpool_b3 = nn.MaxPool3d(3, stride=1, padding=1)
        self.conv_b3_b = ConvUnit(inputs, b3, 1)
        for branch, channels in enumerate((b0, b1[1], b2[1], b3)):
            self.add_module(f"gating_b{branch}", SelfGating(channels))
        self.outputs = b0 + b1[1] + b2[1] + b3

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.gating_b0(self.conv_b0(x)),
            self.gating_b1(self.conv_b1_b(self.conv_b1_a(x))),
            self.gating_b2(self.conv_b2_b(self.conv_b2_a(x))),
            self.gating_b3(self.conv_b3_b(self.maxpool_b3(x))),
        )
        return torch.cat(branches, 1)


class MaxPool(nn.Module):
    """Maxima of a map padded with zeros at its far ends only, an odd rest included; TensorFlow would centre it."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        surplus = [max(k - s, 0) for k, s in zip(kernel, stride, strict=True)]
        self.padding = [side for total in reversed(surplus) for side in (total // 2, total - total // 2)]

    def forward(self, x: Tensor) -> Tensor:
        return max_pool3d(pad(x, self.padding), self.kernel, self.stride, ceil_mode=True)


class S3D(nn.Module):
    """The tower up to ``mixed_5c`` and the layer that turns its mean into an embedding.

    Attributes:
        channels: of ``mixed_5c``, 1024 at full width.
    """

    def __init__(self, *, embedding: int = 512, space_to_depth: bool = True, width: float = 1.0) -> None:
        """
        Args:
            embedding: numbers in a clip's embedding.
            space_to_depth: the released stem; else that of the public training code.
            width: what all numbers of channels are multiplied by.
        """
        super().__init__()

        def wide(channels: int) -> int:
            return max(2, round(channels * width))

        self.space_to_depth = space_to_depth
        stem = (24, wide(64), (2, 4, 4), 1, (1, 2, 2)) if space_to_depth else (3, wide(64), (3, 7, 7), 2, (1, 3, 3))
        self.conv1 = ConvUnit(*stem)
        self.maxpool_2a = MaxPool((1, 3, 3), (1, 2, 2))
        self.conv_2b = ConvUnit(wide(64), wide(64), 1)
        self.conv_2c = ConvUnit(wide(64), wide(192), 3, padding=1, separable=True)
        self.gating = SelfGating(wide(192))
        self.maxpool_3a = MaxPool((1, 3, 3), (1, 2, 2))
        self.maxpool_4a = MaxPool((3, 3, 3), (2, 2, 2))
        self.maxpool_5a = MaxPool((2, 2, 2), (2, 2, 2))
        channels = wide(192)
        for name, (b0, b1, b2, b3) in _BLOCKS.items():
            branches = (wide(b0), tuple(map(wide, b1)), tuple(map(wide, b2)), wide(b3))
            block = InceptionBlock(channels, *branches)
            self.add_module(f"mixed_{name}", block)
            channels = block.outputs
        self.channels = channels
        self.fc = nn.Linear(channels, embedding)

    def mixed_5c_pooled(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, T, H, W]``, RGB in 0..1, to the mean of ``mixed_5c`` over time and space, ``[B, channels]``.

        Raises:
            ZooError: the released stem, and a side is odd.
        """
        if self.space_to_depth:
            clips = space_to_depth(clips)
        x = self.conv1(clips)
        if self.space_to_depth:
            x = x[:, :, 1:, 1:, 1:]  # an even kernel with padding on both sides gives one place too many
        x = self.conv_2c(self.conv_2b(self.maxpool_2a(x)))
        x = self.maxpool_3a(self.gating(x))
        x = self.maxpool_4a(self.mixed_3c(self.mixed_3b(x)))
        x = self.mixed_4f(self.mixed_4e(self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))))
        return self.mixed_5c(self.mixed_5b(self.maxpool_5a(x))).mean((2, 3, 4))

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, T, H, W]``, RGB in 0..1, to embeddings ``[B, embedding]``, of any length."""
        return self.fc(self.mixed_5c_pooled(clips))


def space_to_depth(clips: Tensor) -> Tensor:
    """Blocks of 2x2x2 places as channels, ``[B, C, T, H, W]`` to ``[B, 8 C, T/2, H/2, W/2]``, the colour fastest.

    Raises:
        ZooError: a side is odd.
    """
    b, c, t, h, w = clips.shape
    if t % 2 or h % 2 or w % 2:
        raise ZooError(
            f"S3D takes clips of even length, height and width, got {t} x {h} x {w}; leave out a frame or row."
        )
    blocks = clips.reshape(b, c, t // 2, 2, h // 2, 2, w // 2, 2)
    return blocks.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(b, 8 * c, t // 2, h // 2, w // 2)
