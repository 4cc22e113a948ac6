"""What sixteen bits must not spoil: positions in a grid, and differences from a mean."""

from __future__ import annotations

import pytest
import torch

from zoo.networks.physics import TINY, GridDecoder
from zoo.networks.selective_filter import pull, select


def test_positions_have_32_bits_under_autocast():
    torch.manual_seed(0)
    decoder, z = GridDecoder(TINY), torch.randn(1, TINY.vector)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        grid = decoder(z)
    assert grid.dtype == torch.float32
    assert (grid != grid.bfloat16()).float().mean() > 0.9  # and use them


@pytest.mark.parametrize("kind", ["select", "pull"])
def test_small_differences_teach_in_sixteen_bits_too(kind):
    """How far five numbers are from their mean: with a mean of sixteen bits, four of them would not be away at all."""
    wide = torch.ones(5, 4)
    wide[4] += 1 / 128  # which sixteen bits can hold, but not the mean, a fifth of that above 1
    wide.requires_grad_()
    narrow = wide.detach().bfloat16().requires_grad_()
    groups, dims = torch.arange(5)[None], torch.tensor([[0]])
    for z in (wide, narrow):
        seen = (
            select(z, groups, torch.tensor([0]), dims, torch.zeros(1, dtype=torch.bool))
            if kind == "select"
            else pull(z, groups, torch.tensor([0]), dims, 1e-7)
        )
        assert seen.dtype == z.dtype
        seen[:, 0].sum().mul(1e-7 if kind == "select" else 1.0).backward()
    torch.testing.assert_close(narrow.grad.float(), wide.grad, rtol=0.01, atol=0)
