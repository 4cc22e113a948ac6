"""The L1 error of reconstructed frames: what is summed, what is averaged, and over what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.frame_error import FrameError


def update(metric: FrameError, error: list[float], gap: int = 5, sequence: int = 0, first: int = 10) -> None:
    """Frames whose every channel of every pixel is off by so much, above or below."""
    frame = torch.full((len(error), 3, 4, 6), 100.0)
    sign = torch.ones(4, 6)
    sign[::2] = -1
    off = torch.tensor(error)[:, None, None, None] * sign
    numbers = torch.arange(first, first + len(error))
    metric.update(frame + off, frame, gap=gap, sequence=sequence, frames=numbers)


def test_channels_are_summed_and_the_rest_is_averaged():
    metric = FrameError()
    update(metric, [1.0, 3.0])  # 6 a pixel on average
    update(metric, [10.0], sequence=1)  # 30: sequences count alike, however long
    update(metric, [20.0], gap=10, sequence=1)
    result = metric.compute()
    assert (result["l1_5f"], result["l1_10f"], result["videos"]) == (18, 60, 2)
    assert metric.per_sequence() == [
        {"sequence": 0, "gap": 5, "l1": 6.0},
        {"sequence": 1, "gap": 5, "l1": 30.0},
        {"sequence": 1, "gap": 10, "l1": 60.0},
    ]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_any_pixels(dtype):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 256, (2, 3, 3, 50, 70), generator=generator)
    metric = FrameError(gaps=(3,))
    metric.update(a.to(dtype), b.byte(), gap=3, sequence=0, frames=torch.arange(3))
    assert float(metric.compute()["l1_3f"]) == pytest.approx(float((a - b).abs().sum() / (3 * 50 * 70)), rel=1e-6)


def test_runs_repeats_and_discarding():
    errors = torch.rand(9, generator=torch.Generator().manual_seed(0)).tolist()
    whole, pieces = FrameError(), FrameError()
    update(whole, errors)
    update(pieces, errors[4:], first=14)
    update(pieces, errors[:6])
    update(pieces, [50.0], sequence=1)
    pieces.discard(1)
    assert torch.equal(pieces.compute()["l1_5f"], whole.compute()["l1_5f"])
    assert pieces.compute()["videos"] == 1


def test_the_error_of_nothing_is_not_zero():
    metric = FrameError()
    update(metric, [1.0])
    assert math.isnan(metric.compute()["l1_10f"])
    metric.discard(0)
    assert math.isnan(metric.compute()["l1_5f"])
    assert metric.compute()["videos"] == 0


def test_what_cannot_be_measured_is_refused_by_name():
    frame = torch.zeros(2, 3, 4, 6)

    def give(reconstruction: Tensor, frame: Tensor = frame, gap: int = 5) -> None:
        FrameError().update(reconstruction, frame, gap=gap, sequence=7, frames=torch.tensor([5, 6]))

    with pytest.raises(ZooError, match=r"sequence 7: reconstruction \(2, 3, 4, 5\)"):
        give(frame[..., 1:])
    with pytest.raises(ZooError, match=r"gap 6 is none of \(5, 10\)"):
        give(frame, gap=6)
    with pytest.raises(ZooError, match="frame must be bytes or floating-point"):
        give(frame, frame.long())
    broken = frame.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ZooError, match=r"sequence 7, frame 6: .* not finite"):
        give(broken)
    with pytest.raises(ZooError, match="gaps must be"):
        FrameError(gaps=(5, 5))
