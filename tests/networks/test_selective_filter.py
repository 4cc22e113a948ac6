"""What the released goldens do not cover: the paper's own sum of losses, and rows that belong to no mini-batch."""

from __future__ import annotations

import pytest
import torch

from zoo.methods.intuitive_physics import average_loss
from zoo.networks.selective_filter import pull, select

DIMS = torch.arange(6).view(3, 2)
GROUPS = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
PROPERTY = torch.tensor([0, 2])


@pytest.fixture
def z():
    return torch.randn(11, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)


@pytest.fixture
def taught(z):
    """The gradient of a prediction's error."""
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(2), dtype=z.dtype)


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_the_papers_gradient_is_that_of_both_losses(z, taught, strength):
    seen = pull(z, GROUPS, PROPERTY, DIMS, strength)
    assert torch.equal(seen, z)
    seen.backward(taught)
    other = z.detach().clone().requires_grad_()
    average = sum(average_loss(other, GROUPS[i : i + 1], DIMS[PROPERTY[i]]).sum() for i in range(2))
    average.backward()
    weight = (
        strength * taught.abs().max() / other.grad.abs().max()
    )  # lambda: as large as the other's, times the strength
    torch.testing.assert_close(z.grad, taught + weight * other.grad)


def test_a_row_outside_all_mini_batches_stays_and_learns_nothing(z, taught):
    seen = select(z, GROUPS, PROPERTY, DIMS, torch.zeros(3, dtype=torch.bool))
    assert torch.equal(seen[10], z[10])
    seen.backward(taught)
    assert not z.grad[10].any()
    assert z.grad[:10].any()


def test_columns_of_an_absent_property_count_for_the_power_of_ten_and_learn_nothing(taught):
    """The release looks for the largest number before it sets these columns' gradient to zero."""
    z = torch.zeros(11, 9, dtype=torch.float64)
    z[0, 2] = 1000.0  # of speed, which changes in no mini-batch
    z[0, 8] = 1.0
    z.requires_grad_()
    taught = taught.clamp(-1, 1).index_fill(1, DIMS[0], 1.0)
    select(z, GROUPS, PROPERTY, DIMS, torch.ones(3, dtype=torch.bool)).backward(taught)
    assert not z.grad[:, 2:4].any()
    assert float(z.grad[0, 8]) == pytest.approx(0.8 * 10.0 ** (-3 - 2))  # floor(log10(1) - log10(800)) is -3


def test_equal_vectors_are_not_pulled(taught):
    z = torch.ones(11, 9, dtype=torch.float64, requires_grad=True)
    select(z, GROUPS, PROPERTY, DIMS, torch.zeros(3, dtype=torch.bool)).backward(taught)
    assert z.grad.isfinite().all()
    assert torch.equal(z.grad[:5, :2], taught[:5, :2])
    assert not z.grad[:5, 2:].any()
