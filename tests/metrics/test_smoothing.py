"""The moving average over time against the port's, and which frames are points."""

from __future__ import annotations

import pytest
import torch

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.smoothing import localisation_points, moving_average


def test_the_port_s_average_and_every_third_of_75():
    case = goldens.load("temporal_fields_postprocess")
    p75, p50 = (case.input(name).sigmoid() for name in ("p75", "p50"))
    case.check("plain75.every3", localisation_points(p75))
    case.check("smooth75.k15", moving_average(p75, 15))
    case.check("smooth75.k15.every3", localisation_points(p75, half=15))
    for half in (1, 3):
        case.check(f"smooth50.k{half}", moving_average(p50, half))


def test_ends_are_means_of_what_is_there():
    ramp = torch.arange(5.0)[:, None]
    assert moving_average(ramp, 1)[:, 0].tolist() == [0.5, 1, 2, 3, 3.5]
    assert moving_average(ramp, 100)[:, 0].tolist() == [2] * 5
    assert torch.equal(moving_average(ramp, 0), ramp)
    assert moving_average(ramp[:1], 3).tolist() == [[0]]
    assert moving_average(ramp[:, :0], 3).shape == (5, 0)
    assert moving_average(ramp.double(), 1).dtype == torch.float64


@pytest.mark.parametrize(
    ("frames", "taken"),
    [(25, range(25)), (75, range(0, 75, 3)), (50, range(0, 50, 2)), (10, [j * 10 // 25 for j in range(25)])],
)
def test_which_frame_a_point_takes(frames, taken):
    assert localisation_points(torch.arange(frames)[:, None].float())[:, 0].tolist() == list(taken)


def test_no_frames_are_refused():
    with pytest.raises(ZooError, match="at least one frame"):
        localisation_points(torch.zeros(0, 3))
    with pytest.raises(ZooError, match=r"scores \[T, C\]"):
        moving_average(torch.zeros(3), 1)
    with pytest.raises(ZooError, match="half >= 0"):
        moving_average(torch.zeros(3, 1), -1)
