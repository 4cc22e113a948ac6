"""The trunk: its shapes, where its blocks and inflated kernels are, how it starts, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo.errors import ZooError
from zoo.networks.resnet3d import STAGES, ResNet3d, nonlocal_places


@pytest.mark.parametrize(
    ("layout", "frames", "pool1", "features"),
    [
        ("paper", 32, (8, 55, 55), (4, 7, 7)),
        ("paper", 128, (32, 55, 55), (16, 7, 7)),
        ("sparse", 8, (8, 55, 55), (4, 7, 7)),
        ("sparse", 32, (32, 55, 55), (16, 7, 7)),
        ("pyslowfast", 8, (8, 56, 56), (4, 7, 7)),
        ("pyslowfast_nopool", 8, (8, 56, 56), (8, 7, 7)),
        ("mmaction", 32, (8, 56, 56), (4, 7, 7)),
        ("mmaction_heavy", 32, (32, 56, 56), (16, 7, 7)),
    ],
)
def test_layouts(layout: str, frames: int, pool1: tuple, features: tuple) -> None:
    """Table 1 of the paper as its release has it, and the two later code bases, at 224 pixels."""
    with torch.device("meta"):
        trunk = ResNet3d(50, inflate="3x1x1", layout=layout)
        clip = torch.empty(1, 3, frames, 224, 224)
    assert trunk.stem(clip).shape == (1, 64, *pool1)
    assert trunk(clip).shape == (1, 2048, *features)


@pytest.mark.parametrize("family", [None, "3x1x1", "3x3x3"])
@pytest.mark.parametrize("depth", [50, 101])
def test_inflated_kernels(depth: int, family: str | None) -> None:
    with torch.device("meta"):
        trunk = ResNet3d(depth, inflate=family)
    inflated = {
        stage: [i for i, block in enumerate(trunk.get_submodule(stage).blocks) if kernel_frames(block) == 3]
        for stage in STAGES
    }
    if family is None:
        assert not any(inflated.values())
        assert trunk.stem.conv.kernel_size[0] == 1
    else:
        res4 = [0, 2, 4] if depth == 50 else list(range(0, 23, 2))
        assert inflated == {"res2": [0, 1, 2], "res3": [0, 2], "res4": res4, "res5": [1]}
        assert trunk.stem.conv.kernel_size[0] == 5
        first = trunk.res2.blocks[0]
        expected = ((3, 1, 1), (1, 3, 3)) if family == "3x1x1" else ((1, 1, 1), (3, 3, 3))
        assert (first.conv1.kernel_size, first.conv2.kernel_size) == expected


def kernel_frames(block: torch.nn.Module) -> int:
    return max(block.conv1.kernel_size[0], block.conv2.kernel_size[0])


def test_inflating_every_block() -> None:
    with torch.device("meta"):
        trunk = ResNet3d(50, inflate="3x1x1", inflate_all=True)
    assert all(kernel_frames(block) == 3 for stage in STAGES for block in trunk.get_submodule(stage).blocks)


@pytest.mark.parametrize(
    ("depth", "count", "stages", "places"),
    [
        (50, 0, None, {}),
        (50, 1, None, {"res4": (4,)}),
        (101, 1, None, {"res4": (21,)}),
        (50, 1, ["res2"], {"res2": (1,)}),
        (50, 1, ["res3"], {"res3": (2,)}),
        (50, 1, ["res5"], {"res5": (1,)}),
        (50, 5, None, {"res3": (1, 3), "res4": (1, 3, 5)}),
        (101, 5, None, {"res3": (1, 3), "res4": (6, 13, 20)}),
        (50, 10, None, {"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5)}),
    ],
)
def test_places(depth: int, count: int, stages: list[str] | None, places: dict) -> None:
    assert nonlocal_places(depth, count, stages) == places
    with torch.device("meta"):
        trunk = ResNet3d(depth, nonlocal_after=places)
    names = {f"{stage}.{key}" for stage in STAGES for key in trunk.get_submodule(stage).nonlocal_blocks}
    assert names == {f"{stage}.{index}" for stage, indices in places.items() for index in indices}


def test_ten_places_of_the_deep_network() -> None:
    places = nonlocal_places(101, 10)
    assert sum(map(len, places.values())) == 10
    assert set(nonlocal_places(101, 5)["res4"]) < set(places["res4"])


def test_fresh_network() -> None:
    """Residual branches that end in a learning norm start at zero, so that a block passes on its shortcut."""
    torch.manual_seed(0)
    trunk = ResNet3d(50, widths=(16, 32, 64, 128), blocks=(2, 1, 1, 1))
    block = trunk.res2.blocks[1].eval()
    x = torch.rand(1, 64, 2, 4, 4)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    weight = trunk.res4.blocks[0].conv2.weight
    fan_out = weight.shape[0] * weight[0, 0].numel()
    assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_every_parameter_of_a_tiny_network_learns() -> None:
    trunk = ResNet3d(
        inflate="3x1x1",
        layout="sparse",
        widths=(4, 4, 8, 8),
        blocks=(1, 1, 1, 1),
        nonlocal_after={"res3": (0,)},
        temporal_groups={"res3": 2},
    )
    for block in trunk.modules():  # open every branch that starts at zero
        if getattr(block, "norm3", None) is not None:
            torch.nn.init.ones_(block.norm3.weight)
    torch.nn.init.ones_(trunk.res3.nonlocal_blocks["0"].norm.weight)
    trunk(torch.randn(2, 3, 8, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 34}, "depth must be 50 or 101, got 34"),
        ({"layout": "sparce"}, "unknown layout 'sparce'. Did you mean sparse"),
        ({"inflate": "5x1x1"}, "inflate must be None, '3x1x1' or '3x3x3'"),
        ({"nonlocal_after": {"res6": (0,)}}, "unknown stage 'res6'"),
        ({"nonlocal_after": {"res5": (3,)}}, r"res5 has blocks 0 to 2; no non-local block fits after \[3\]"),
        ({"blocks": (1, 1)}, "each give a number for res2, res3, res4, res5"),
    ],
)
def test_refuses_what_it_cannot_build(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message), torch.device("meta"):
        ResNet3d(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((50, 3), "0, 1, 5 or 10 non-local blocks, not 3"),
        ((18, 5), "for depth 18"),
        ((50, 5, ["res2"]), "only a single non-local block"),
        ((50, 1, ["res7"]), "unknown stage 'res7'"),
    ],
)
def test_refuses_places_that_the_paper_lacks(arguments: tuple, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        nonlocal_places(*arguments)
