"""Parameters and multiply-adds of the release's networks at 224 pixels, counted by running its graph builder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.networks.cost import cost
from zoo.networks.head import ClassifierHead
from zoo.networks.resnet3d import ResNet3d, nonlocal_places

I3D = {"inflate": "3x1x1"}
FIVE, FIVE_101 = {"nonlocal_after": nonlocal_places(50, 5)}, {"nonlocal_after": nonlocal_places(101, 5)}
LONG = {**I3D, **FIVE, "norm": "affine", "temporal_groups": {"res3": 4}}

NETWORKS = [
    (32, {}, 24_327_632, 20.23),
    (32, {"nonlocal_after": nonlocal_places(50, 1)}, 26_429_392, 21.42),
    (32, FIVE, 31_686_096, 28.36),
    (32, {"nonlocal_after": nonlocal_places(50, 10)}, 39_044_560, 36.49),
    (32, I3D, 28_043_472, 32.83),
    (32, {"inflate": "3x3x3"}, 33_433_808, 38.69),
    (32, {**I3D, **FIVE}, 35_401_936, 40.96),
    (32, {"depth": 101}, 43_319_760, 35.08),
    (32, {"depth": 101, **FIVE_101}, 50_678_224, 43.21),
    (32, {"depth": 101, **I3D}, 51_754_192, 51.38),
    (32, {"depth": 101, "inflate": "3x3x3"}, 63_042_768, 61.86),
    (32, {"depth": 101, **I3D, **FIVE_101}, 59_112_656, 59.51),
    (8, {"layout": "sparse"}, 24_327_632, 19.29),
    (8, {"layout": "sparse", **I3D}, 28_043_472, 28.11),
    (8, {"layout": "sparse", **I3D, **FIVE}, 35_401_936, 36.24),
    # The release's own counts of these two, 155.77 and 136.89, have one of res3's four groups of frames instead of all:
    # each of its two blocks there is 9.146 G for the four.
    (128, LONG, 35_393_744, 155.77 + 2 * 3 / 4 * 9.146),
    (32, {**LONG, "layout": "sparse"}, 35_393_744, 136.89 + 2 * 3 / 4 * 9.146),
]


@pytest.mark.parametrize(("frames", "options", "parameters", "giga_multiply_adds"), NETWORKS)
def test_published_networks(frames: int, options: dict[str, Any], parameters: int, giga_multiply_adds: float) -> None:
    with torch.device("meta"):
        trunk = ResNet3d(**options)
        network = nn.Sequential(trunk, ClassifierHead(trunk.out_channels, 400))
    actual_parameters, multiply_adds = cost(network, (1, 3, frames, 224, 224))
    assert actual_parameters == parameters
    assert multiply_adds / 1e9 == pytest.approx(giga_multiply_adds, abs=0.006)


@pytest.mark.parametrize(
    ("name", "millions", "giga_multiply_adds"),
    [("mmaction_i3d_r50", 28.0, 43.5), ("mmaction_i3d_r50_heavy", 33.0, 166.3)],
)
def test_mmaction2_counts_the_same(name: str, millions: float, giga_multiply_adds: float) -> None:
    """Its published counts are of a test crop, and have norms in them, less than a hundredth."""
    with torch.device("meta"):
        model = zoo.create(name)
    parameters, multiply_adds = cost(model, (1, 3, 32, 256, 256))
    assert round(parameters / 1e6, 1) == millions
    assert multiply_adds / 1e9 == pytest.approx(giga_multiply_adds, rel=0.01)


def test_leaves_the_network_alone() -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert cost(network, (2, 3, 1, 5, 5)) == (3 * 4 + 4 + 8, 2 * 25 * 3 * 4)
    assert network.training
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
