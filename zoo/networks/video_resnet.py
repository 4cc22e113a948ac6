"""R3D-18 and R(2+1)D-18 (Tran et al., CVPR 2018): residual networks of 3D convolutions, whole or factorised.

Modules have torchvision's names, under which the published weights are stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class VideoResNet(nn.Module):
    """Four stages of basic blocks; the last three halve time and space.

    Attributes:
        out_channels: of the last stage's map.
    """

    def __init__(
        self,
        factorized: bool = True,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        features: int | None = None,
    ) -> None:
        """
        Args:
            factorized: R(2+1)D, each convolution one in space and one in time; else R3D.
            widths: channels of the stages.
            blocks: basic blocks in each stage.
            features: of a linear layer on the pooled map (``fc``); None leaves it out.
        """
        super().__init__()
        conv = _Factorized if factorized else _Conv
        first = widths[0]
        if factorized:
            middle = first * 45 // 64
            self.stem = nn.Sequential(
                nn.Conv3d(3, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                nn.BatchNorm3d(middle),
                nn.ReLU(inplace=True),
                nn.Conv3d(middle, first, (3, 1, 1), padding=(1, 0, 0), bias=False),
                nn.BatchNorm3d(first),
                nn.ReLU(inplace=True),
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv3d(3, first, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
                nn.BatchNorm3d(first),
                nn.ReLU(inplace=True),
            )
        channels = first
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            stage = []
            for block in range(count):
                stride = 2 if number > 1 and block == 0 else 1
                stage.append(_BasicBlock(conv, channels, width, stride))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.out_channels = channels
        self.fc = None if features is None else nn.Linear(channels, features)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[N, 3, T, H, W]`` to the last stage's map ``[N, C, T / 8, H / 16, W / 16]``."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))

    def pooled(self, clips: Tensor) -> Tensor:
        """The map's mean over time and space ``[N, C]``, through ``fc`` where there is one."""
        mean = self(clips).mean((2, 3, 4))
        return mean if self.fc is None else self.fc(mean)


class _Conv(nn.Conv3d):
    """A 3 x 3 x 3 convolution; ``middle`` is the factorised one's."""

    def __init__(self, channels: int, width: int, middle: int, stride: int = 1) -> None:
        super().__init__(channels, width, 3, stride, 1, bias=False)


class _Factorized(nn.Sequential):
    """A 1 x 3 x 3 convolution to ``middle`` channels, norm and ReLU, and a 3 x 1 x 1 convolution."""

    def __init__(self, channels: int, width: int, middle: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(channels, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class _BasicBlock(nn.Module):
    def __init__(self, conv: type[nn.Module], channels: int, width: int, stride: int) -> None:
        super().__init__()
        # As many weights as one whole convolution; the block's two share the number that fits its input.
        middle = 27 * channels * width // (9 * channels + 3 * width)
        self.conv1 = nn.Sequential(conv(channels, width, middle, stride), nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(conv(width, width, middle), nn.BatchNorm3d(width))
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv3d(channels, width, 1, stride, bias=False), nn.BatchNorm3d(width))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + shortcut)
