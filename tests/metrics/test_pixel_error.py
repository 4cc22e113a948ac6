"""The error of predicted frames in grey levels squared: what is averaged over what, and under several processes."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.pixel_error import PixelErrors, pixel_error


def test_a_frame_is_off_by_the_square_of_its_grey_levels():
    truth = torch.rand(2, 5, 3, 4, 6, dtype=torch.float16)
    off = torch.zeros(2, 5, 3, 4, 6)
    off[0] = 9.0  # everywhere
    off[1, 2, 0, 0, 0] = 72.0  # one value of 72
    found = pixel_error(truth.float() + off / 255, truth)
    assert found.shape == (2, 5)
    assert found[0].tolist() == pytest.approx([81.0] * 5, rel=1e-4)
    assert found[1].tolist() == pytest.approx([0, 0, 72.0, 0, 0], rel=1e-4)  # 72 squared over 72 values


def test_each_name_has_the_mean_of_its_own_sequences():
    metric = PixelErrors(("plain", "shape", "never"))
    metric.update({"plain": torch.tensor([1.0, 2.0]), "shape": torch.tensor([[10.0], [20.0]])}, rows=2)
    metric.update({"plain": torch.tensor([9.0])}, rows=5)  # three sequences count alike, whatever their batch
    assert {name: float(value) for name, value in metric.compute().items()} == {"plain": 4, "shape": 15, "videos": 7}


def test_nothing_seen_is_no_error_of_zero():
    metric = PixelErrors(("plain",))
    metric.update({"plain": torch.ones(1)}, rows=1)
    metric.reset()
    metric.update({}, rows=0)
    assert {name: float(value) for name, value in metric.compute().items()} == {"videos": 0}


def test_an_empty_part_adds_nothing():
    metric = PixelErrors(("plain", "shape"))
    metric.update({"plain": torch.tensor([3.0]), "shape": torch.empty(0, 4)}, rows=1)
    metric.update({"plain": torch.empty(0)}, rows=0)
    assert {name: float(value) for name, value in metric.compute().items()} == {"plain": 3, "videos": 1}


def test_many_small_numbers_are_not_lost_in_a_large_sum():
    metric = PixelErrors(("plain",))
    metric.update({"plain": torch.tensor([2.0**26])}, rows=1)
    for _ in range(3):
        metric.update({"plain": torch.ones(1)}, rows=1)
    assert float(metric.compute()["plain"]) == (2**26 + 3) / 4


def test_unknown_and_doubled_names_are_refused():
    metric = PixelErrors(("plain", "shape"))
    with pytest.raises(ZooError, match="no error is called 'shapes'; known: plain, shape"):
        metric.update({"shapes": torch.ones(1)}, rows=1)
    for names in ((), ("plain", "plain")):
        with pytest.raises(ZooError, match="names must be there and differ"):
            PixelErrors(names)


def test_two_processes_are_as_one():
    """One of them has nothing of the second error, and fewer of the first."""
    errors = torch.rand(7, generator=torch.Generator().manual_seed(0))
    whole, mine, other = (PixelErrors(("plain", "shape")) for _ in range(3))
    whole.update({"plain": errors, "shape": errors[:3]}, rows=7)
    mine.update({"plain": errors[:5], "shape": errors[:3]}, rows=5)
    other.update({"plain": errors[5:], "shape": errors[:0]}, rows=2)
    mine.merge_state(other)
    together, alone = mine.compute(), whole.compute()
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert float(together[name]) == pytest.approx(float(value), rel=1e-12), name
