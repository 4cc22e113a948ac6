"""ResNets over video, two-dimensional (C2D) or inflated (I3D), with non-local blocks where they are asked for.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018, section 4 and table 1; where the paper and its
released code differ, this follows the code, whose weights are the published ones. Two later code bases are options.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError, unknown_name
from zoo.networks.nonlocal_block import NonLocalBlock
from zoo.networks.norm import Norm, build_norm

Inflation = Literal["3x1x1", "3x3x3"]
Triple = tuple[int, int, int]

STAGES = ("res2", "res3", "res4", "res5")
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4


@dataclass(frozen=True)
class Layout:
    """How a network walks through time and space before res2 and after it: all in (frames, rows, columns).

    Attributes:
        conv1_kernel: its frames are for an inflated network; a C2D one looks at a single frame.
        conv1_stride: of the first convolution, which pads by half its kernel.
        pool1_kernel, pool1_stride, pool1_padding: the max pooling that follows; a kernel of None leaves it out.
        pool2: frames that are max-pooled into one after res2 (1: none).
    """

    conv1_kernel: Triple = (5, 7, 7)
    conv1_stride: Triple = (2, 2, 2)
    pool1_kernel: Triple | None = (2, 3, 3)
    pool1_stride: Triple = (2, 2, 2)
    pool1_padding: Triple = (0, 0, 0)
    pool2: int = 2


_PAPER = Layout()
_SPARSE = Layout(conv1_stride=(1, 2, 2), pool1_kernel=(1, 3, 3), pool1_stride=(1, 2, 2))
_PADDED = replace(_SPARSE, pool1_padding=(0, 1, 1))

LAYOUTS = {
    # The release: dense clips (32 x 2, 128 x 1) and sparse ones (8 x 8, 32 x 4). At 224 pixels pool1 gives 55 x 55.
    "paper": _PAPER,
    "sparse": _SPARSE,
    # PySlowFast pads pool1 (56 x 56); its "nopool" networks keep all frames to the end.
    "pyslowfast": _PADDED,
    "pyslowfast_nopool": replace(_PADDED, pool2=1),
    # MMAction2 pads pool1 and skips every other frame there; its "heavy" network keeps all frames up to pool2.
    "mmaction": replace(_PAPER, pool1_kernel=(1, 3, 3), pool1_padding=(0, 1, 1)),
    "mmaction_heavy": _PADDED,
}


def is_inflated(stage: str, index: int) -> bool:
    """Whether an inflated network gives residual block ``index`` of ``stage`` a kernel in time.

    All blocks of res2, the even ones of res3 and res4, the odd ones of res5 (the paper says every second block; the
    release also inflates the middle block of res2).
    """
    return {"res2": True, "res3": index % 2 == 0, "res4": index % 2 == 0, "res5": index % 2 == 1}[stage]


def nonlocal_places(depth: int, count: int, stages: Sequence[str] | None = None) -> dict[str, tuple[int, ...]]:
    """The residual blocks after which the paper puts ``count`` non-local blocks, by stage, counted from 0.

    - 0: none.
    - 1: right before the last residual block of a stage: res4, or else of each one that ``stages`` names.
    - 5: two in res3 and three in res4, after every second residual block (ResNet-101: every seventh of res4).
    - 10: four in res3 and six in res4, after every residual block. Where six of ResNet-101's 23 are is not published:
      here they are the three of the 5-block network and the middles of the gaps before them.
    """
    if depth not in BLOCKS:
        raise ZooError(f"no published places of non-local blocks for depth {depth!r}; known depths: 50, 101.")
    if stages is not None and count != 1:
        raise ZooError(f"only a single non-local block can be moved to other stages, not {count}.")
    if count == 1:
        chosen = tuple(stages or ("res4",))
        if surplus := set(chosen) - set(STAGES):
            raise unknown_name("stage", min(surplus), STAGES)
        return {stage: (BLOCKS[depth][STAGES.index(stage)] - 2,) for stage in chosen}
    places = {
        0: {},
        5: {"res3": (1, 3), "res4": (1, 3, 5) if depth == 50 else (6, 13, 20)},
        10: {"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5) if depth == 50 else (3, 6, 10, 13, 17, 20)},
    }
    if count not in places:
        raise ZooError(
            f"the paper has 0, 1, 5 or 10 non-local blocks, not {count!r}; give the places themselves instead."
        )
    return places[count]


class ConvNorm(nn.Module):
    """A convolution without bias and its norm."""

    def __init__(self, channels: int, out_channels: int, kernel: Triple, stride: Triple, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, kernel, stride, padding=tuple(k // 2 for k in kernel), bias=False)
        self.norm = build_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` to ``[B, C', T', H', W']``."""
        return self.norm(self.conv(x))


class Stem(ConvNorm):
    """The first convolution, its norm, ReLU and the first pooling."""

    def __init__(self, channels: int, layout: Layout, inflated: bool, norm: Norm) -> None:
        frames, rows, columns = layout.conv1_kernel
        super().__init__(3, channels, (frames if inflated else 1, rows, columns), layout.conv1_stride, norm)
        if layout.pool1_kernel is None:
            self.pool = nn.Identity()
        else:
            self.pool = nn.MaxPool3d(layout.pool1_kernel, layout.pool1_stride, layout.pool1_padding)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` to ``[B, C, T', H', W']``."""
        return self.pool(F.relu(super().forward(x), inplace=True))


class Bottleneck(nn.Module):
    """1x1x1, 1x3x3 (which carries the stride) and 1x1x1 convolutions beside a shortcut.

    ``"3x1x1"`` gives the first convolution three frames, ``"3x3x3"`` the second one.
    """

    def __init__(self, channels: int, width: int, stride: int, inflate: Inflation | None, norm: Norm) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        first, second = 3 if inflate == "3x1x1" else 1, 3 if inflate == "3x3x3" else 1
        self.conv1 = nn.Conv3d(channels, width, (first, 1, 1), padding=(first // 2, 0, 0), bias=False)
        self.norm1 = build_norm(norm, width)
        self.conv2 = nn.Conv3d(
            width, width, (second, 3, 3), (1, stride, stride), padding=(second // 2, 1, 1), bias=False
        )
        self.norm2 = build_norm(norm, width)
        self.conv3 = nn.Conv3d(width, out_channels, 1, bias=False)
        self.norm3 = build_norm(norm, out_channels)
        if stride == 1 and channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = ConvNorm(channels, out_channels, (1, 1, 1), (1, stride, stride), norm)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` to ``[B, 4 * width, T, H / stride, W / stride]``."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        y = self.norm3(self.conv3(y)) + self.shortcut(x)
        return F.relu(y, inplace=True)


class Stage(nn.Module):
    """Residual blocks of one width, some followed by a non-local block (whose key is that residual block's number)."""

    def __init__(self, blocks: Sequence[Bottleneck], nonlocal_blocks: Mapping[int, NonLocalBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.nonlocal_blocks = nn.ModuleDict({str(index): block for index, block in nonlocal_blocks.items()})

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` to ``[B, C', T, H', W']``."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if str(index) in self.nonlocal_blocks:
                x = self.nonlocal_blocks[str(index)](x)
        return x


class ResNet3d(nn.Module):
    """A bottleneck ResNet from normalised clips ``[B, 3, T, H, W]`` to features ``[B, 2048, T', H / 32, W / 32]``.

    Args:
        depth: 50 or 101: how many residual blocks a stage has, unless ``blocks`` says so itself.
        inflate: None for C2D, ``"3x1x1"`` or ``"3x3x3"`` for I3D, in the blocks that `is_inflated` tells.
        inflate_all: inflate every residual block instead (MMAction2's "heavy" network).
        layout: a name in `LAYOUTS` or a `Layout` of one's own.
        nonlocal_after: of each stage, the residual blocks (from 0) that a non-local block follows (`nonlocal_places`).
        nonlocal_options: arguments of every `NonLocalBlock`. Their ``norm`` is the network's own unless given here, and
            none at all with ``norm="affine"``, as in the released long-clip models.
        temporal_groups: for each stage, into groups of how many frames its non-local blocks cut the clip.
        norm: ``"bn"``, ``"frozen"`` or ``"affine"`` (see `zoo.networks.norm`).
        widths: bottleneck channels of each stage; a stage gives four times as many, and the stem as many as the first.
        blocks: residual blocks of each stage.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        inflate: Inflation | None = None,
        inflate_all: bool = False,
        layout: str | Layout = "paper",
        nonlocal_after: Mapping[str, Collection[int]] | None = None,
        nonlocal_options: Mapping[str, Any] | None = None,
        temporal_groups: Mapping[str, int] | None = None,
        norm: Norm = "bn",
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(layout, str):
            if layout not in LAYOUTS:
                raise unknown_name("layout", layout, LAYOUTS)
            layout = LAYOUTS[layout]
        if blocks is None:
            if depth not in BLOCKS:
                raise ZooError(f"ResNet3d: depth must be 50 or 101, got {depth!r}; other shapes are given by blocks=.")
            blocks = BLOCKS[depth]
        if len(blocks) != len(STAGES) or len(widths) != len(STAGES):
            raise ZooError(f"ResNet3d: blocks and widths each give a number for {', '.join(STAGES)}.")
        if inflate not in (None, "3x1x1", "3x3x3"):
            raise ZooError(f"ResNet3d: inflate must be None, '3x1x1' or '3x3x3', got {inflate!r}.")
        places, groups = dict(nonlocal_after or {}), dict(temporal_groups or {})
        for stage in (*places, *groups):
            if stage not in STAGES:
                raise unknown_name("stage", stage, STAGES)
        options = {"norm": None if norm == "affine" else norm, **(nonlocal_options or {})}

        self.stem = Stem(widths[0], layout, inflate is not None, norm)
        channels = widths[0]
        for stage, width, count in zip(STAGES, widths, blocks, strict=True):
            residual = []
            for index in range(count):
                stride = 2 if index == 0 and stage != "res2" else 1
                kind = inflate if inflate_all or is_inflated(stage, index) else None
                residual.append(Bottleneck(channels, width, stride, kind, norm))
                channels = width * EXPANSION
            after = sorted(places.get(stage, ()))
            if outside := [index for index in after if not 0 <= index < count]:
                raise ZooError(
                    f"ResNet3d: {stage} has blocks 0 to {count - 1}; no non-local block fits after {outside}."
                )
            nonlocal_blocks = {
                index: NonLocalBlock(channels, temporal_group=groups.get(stage), **options) for index in after
            }
            self.add_module(stage, Stage(residual, nonlocal_blocks))
        self.pool2 = nn.MaxPool3d((layout.pool2, 1, 1)) if layout.pool2 > 1 else nn.Identity()
        self.out_channels = channels
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal weights by fan-out; the last norm of every residual branch starts at zero (if it learns).

        The non-local blocks see to themselves.
        """
        for module in self.modules():
            if isinstance(module, Bottleneck):
                for conv in (module.conv1, module.conv2, module.conv3):
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                if module.norm3.weight.requires_grad:
                    nn.init.zeros_(module.norm3.weight)
            elif isinstance(module, ConvNorm):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[B, out_channels, T', H', W']`` of clips ``[B, 3, T, H, W]`` (float, normalised)."""
        x = self.pool2(self.res2(self.stem(x)))
        return self.res5(self.res4(self.res3(x)))
