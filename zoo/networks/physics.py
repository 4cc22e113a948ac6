"""The parts of the intuitive physics network: four frames to a vector, a vector to a sampling grid, a grid to a frame.

Ye, Wang, Davidson, Gupta, "Interpretable Intuitive Physics Model" (ECCV 2018), section 9.3.1 of the thesis. The sizes
are those of the released code; the text counts one linear layer more in the encoder and one less in the decoder.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

START = 8  # side of the map that the decoder grows


@dataclass(frozen=True)
class Sizes:
    """Numbers of channels and neurons.

    Attributes:
        side: of the square frames, in pixels.
        stem: kernel, stride and padding of the first convolution.
        frame: channels of the five convolutions of a frame's features.
        together: channels of the two convolutions over all four frames.
        hidden: neurons of the encoder's hidden linear layers.
        vector: numbers in the physics vector.
        expand: neurons of the decoder's hidden linear layer.
        grow: channels of the decoder's map of 8 x 8, and of each that is twice as large as the one before.
        scratch: whether it is made to be trained from nothing, without AlexNet's features.
    """

    side: int = 256
    stem: tuple[int, int, int] = (11, 4, 2)
    frame: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)
    together: tuple[int, int] = (256, 64)
    hidden: tuple[int, ...] = (2048, 1024)
    vector: int = 306
    expand: int = 1024
    grow: tuple[int, ...] = (64, 256, 128, 64, 32, 16)
    scratch: bool = False

    def __post_init__(self) -> None:
        if START << (len(self.grow) - 1) != self.side:
            raise ValueError(f"{len(self.grow) - 1} doublings of {START} pixels do not make {self.side}.")

    @property
    def map_side(self) -> int:
        """Of the map that a frame's features are."""
        kernel, stride, padding = self.stem
        side = (self.side + 2 * padding - kernel) // stride + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        return side


RELEASED = Sizes()

#: A quarter of the side, and few channels: what two processor cores train in minutes.
TINY = Sizes(
    side=64,
    stem=(5, 2, 2),
    frame=(12, 24, 32, 32, 32),
    together=(64, 32),
    hidden=(256,),
    expand=256,
    grow=(32, 32, 24, 12),
    scratch=True,
)


class FrameFeatures(nn.Sequential):
    """AlexNet's convolutions (torchvision's single-column variant, under its numbers), ``[B, C, S, S]`` to a map."""

    def __init__(self, sizes: Sizes, channels: int = 3) -> None:
        kernel, stride, padding = sizes.stem
        a, b, c, d, e = sizes.frame
        super().__init__(
            nn.Conv2d(channels, a, kernel, stride, padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )


class PhysicsEncoder(nn.Module):
    """Images of one moment each to the physics vector."""

    def __init__(self, sizes: Sizes = RELEASED, images: int = 4, channels: int = 3, vector: int | None = None) -> None:
        """
        Args:
            sizes: of all layers.
            images: seen together, in the order of time.
            channels: of an image.
            vector: numbers that come out, ``sizes.vector`` by default.
        """
        super().__init__()
        first, second = sizes.together
        self.features = FrameFeatures(sizes, channels)
        self.together = nn.Sequential(
            nn.Conv2d(images * sizes.frame[-1], first, 3, padding=1),
            nn.LeakyReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.LeakyReLU(),
        )
        widths = (second * sizes.map_side**2, *sizes.hidden, vector or sizes.vector)
        self.linear = nn.Sequential(
            *(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU()))
        )

    def feature_map(self, clips: Tensor) -> Tensor:
        """What the images say together: ``[B, C, T, S, S]`` to ``[B, C', M, M]``."""
        batch, _, time = clips.shape[:3]
        maps = self.features(clips.transpose(1, 2).flatten(0, 1))  # all images at once
        return self.together(maps.unflatten(0, (batch, time)).flatten(1, 2))

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, C, T, S, S]`` to ``[B, vector]``."""
        return self.linear(self.feature_map(clips).flatten(1))


class GridDecoder(nn.Module):
    """The physics vector to where each pixel of the next frame comes from."""

    def __init__(self, sizes: Sizes = RELEASED) -> None:
        super().__init__()
        self.start = sizes.grow[0]
        self.linear = nn.Sequential(
            nn.Linear(sizes.vector, sizes.expand),
            nn.LeakyReLU(),
            nn.Linear(sizes.expand, self.start * START**2),
            nn.LeakyReLU(),
        )
        grown = (
            layer for a, b in pairwise(sizes.grow) for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.LeakyReLU())
        )
        self.grow = nn.Sequential(*grown, nn.ConvTranspose2d(sizes.grow[-1], 2, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """``[B, vector]`` to a grid ``[B, S, S, 2]`` of absolute positions (x, y) in -1..1: no offsets."""
        maps = self.grow[:-2](self.linear(z).unflatten(1, (self.start, START, START)))
        # Positions of sixteen bits would be up to half a pixel apart. Tensors without memory, which costs are counted
        # with, know no autocast.
        with nullcontext() if maps.is_meta else torch.autocast(maps.device.type, enabled=False):
            return self.grow[-2:](maps.to(self.grow[-2].weight.dtype)).permute(0, 2, 3, 1)


def warp(frame: Tensor, grid: Tensor) -> Tensor:
    """A frame seen through a grid: ``[B, 3, S, S]`` and ``[B, S, S, 2]`` to ``[B, 3, S, S]``.

    The centres of the border's pixels are at -1 and 1, and beyond them is zero: how grids were sampled when the
    network was published.
    """
    return grid_sample(frame, grid.to(frame.dtype), mode="bilinear", padding_mode="zeros", align_corners=True)


def identity_grid(side: int, device: torch.device | None = None) -> Tensor:
    """The grid ``[S, S, 2]`` through which a frame looks like itself."""
    line = torch.linspace(-1, 1, side, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def displacement(grid: Tensor) -> Tensor:
    """From each pixel to where it comes from, in pixels: of a grid ``[..., S, S, 2]``, x and y."""
    side = grid.shape[-2]
    return (grid - identity_grid(side, grid.device)) * (side - 1) / 2


def start(module: nn.Module, scratch: bool = False) -> None:
    """Draw weights and biases.

    By default uniform within one over the root of the inputs, as PyTorch drew them in 2018 (today's default counts the
    outputs of a transposed convolution instead). Behind AlexNet's trained features that is enough; from nothing,
    signals die out on the way through so many layers, and the network never looks at its input.

    Args:
        module: whose layers are drawn.
        scratch: draw so that signals keep their size (He et al., ICCV 2015).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            kernel = getattr(layer, "kernel_size", (1, 1))
            inputs = (getattr(layer, "in_channels", None) or layer.in_features) * kernel[0] * kernel[1]
            # Of the taps of a transposed convolution an output sees one in so many.
            unseen = layer.stride[0] * layer.stride[1] if isinstance(layer, nn.ConvTranspose2d) else 1
            bound = (6 * unseen / inputs) ** 0.5 if scratch else inputs**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            if scratch:
                nn.init.zeros_(layer.bias)
            else:
                nn.init.uniform_(layer.bias, -bound, bound)


class RatioNetwork(nn.Sequential):
    """A property's numbers at one scale to those at a multiple of it, ``[B, 25]`` to ``[B, 25]`` (table 9.3)."""

    def __init__(self, numbers: int, hidden: int = 256) -> None:
        super().__init__(
            nn.Linear(numbers, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, numbers),
        )
