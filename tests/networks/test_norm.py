"""Frozen and folded norms, and who is spared weight decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.networks.norm import Affine, FrozenBatchNorm, build_norm, fold_state, split_weight_decay
from zoo.networks.resnet3d import ResNet3d

TINY = {"widths": (4, 4, 8, 8), "blocks": (1, 1, 1, 1), "layout": "sparse", "nonlocal_after": {"res3": (0,)}}


def used(norm: str = "bn") -> ResNet3d:
    """A tiny network whose norms have seen something."""
    network = ResNet3d(**TINY, norm=norm)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.dim() == 1:
            nn.init.uniform_(value, 0.5, 1.5) if name.endswith(("var", "weight")) else nn.init.normal_(value)
    return network


def test_frozen_norm_keeps_its_statistics_and_takes_no_gradient() -> None:
    norm = FrozenBatchNorm(3).train()
    x = torch.randn(2, 3, 2, 4, 4, requires_grad=True)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    y = norm(x)
    y.sum().backward()
    assert not norm.training
    assert norm.weight.grad is None
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-5)  # mean 0, variance 1, so the identity


@torch.no_grad()
def test_folded_network_equals_the_one_it_was_folded_from() -> None:
    """The block of a folded network keeps its norm when it is asked to, folded as well."""
    source = used().eval()
    folded = ResNet3d(**TINY, norm="affine", nonlocal_options={"norm": "affine"}).train()
    folded.load_state_dict(fold_state(source.state_dict()))
    assert isinstance(folded.res3.nonlocal_blocks["0"].norm, Affine)
    x = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(folded(x), source(x), rtol=1e-4, atol=1e-4)


def test_frozen_network_loads_what_a_trained_one_saved() -> None:
    source, frozen = used().eval(), ResNet3d(**TINY, norm="frozen").train()
    frozen.load_state_dict(source.state_dict())
    x = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(frozen(x), source(x))
    learning = {name for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any("norm" in name for name in learning)


@pytest.mark.parametrize("norm", ["bn", "affine"])
def test_weight_decay_spares_norms_only(norm: str) -> None:
    network = ResNet3d(**TINY, norm=norm)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = {
        group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in split_weight_decay(network, 0.1)
    }
    spared = groups.get(0.0, set())
    assert all(".norm" in name for name in spared)
    assert not any(".norm" in name for name in groups[0.1])
    assert {"res3.nonlocal_blocks.0.theta.bias", "res3.blocks.0.conv1.weight"} <= groups[0.1]
    everything = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert spared | groups[0.1] == everything
    assert bool(spared) == (norm == "bn")


def test_unknown_norm() -> None:
    with pytest.raises(ZooError, match="'bn', 'frozen' or 'affine', got 'group'"):
        build_norm("group", 3)
