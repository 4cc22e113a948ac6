"""PCK by JHMDB's protocol against the published code's numbers, and its cases where joints or frames are missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.goldens import load
from zoo.errors import ZooError
from zoo.metrics.pck import PCK, person_size

NAMES = ("pck_01", "pck_02", "pck_03", "pck_04", "pck_05")
# Label maps drawn from joints and joints read from label maps are no metric: the tests of the label maps check these.
OTHERS = {"draw.sigma_0.5", "draw.sigma_1", "draw.sigma_4", "coords.top3", "coords.top5"}
CELLS = 40


def from_cells(points: Tensor, height: int, width: int) -> Tensor:
    """The case's ``[2, J, T]`` places in cells of a 40 x 40 grid as ``[T, J, 2]`` pixels; lost: x < 0, then NaN."""
    pixels = points.permute(2, 1, 0) / CELLS * torch.tensor([width, height])
    return torch.where(points.permute(2, 1, 0)[..., :1] < 0, torch.nan, pixels)


def from_annotation(pos_img: Tensor) -> Tensor:
    """``[2, J, T]`` pixels counted from 1, as JHMDB's files have them, as ``[T, J, 2]`` pixels counted from 0."""
    return pos_img.permute(2, 1, 0) - 1


def test_equals_the_published_protocol():
    case = load("time_cycle_jhmdb_pck")
    metric = PCK()
    for video in range(3):
        truth = from_annotation(case.stored[f"{video}.pos_img"])
        prediction = from_cells(case.stored[f"{video}.prediction"], *case.stored[f"{video}.size_hw"].tolist())
        assert len(prediction) - len(truth) == (2 if video == 1 else 0)  # the surplus is ignored
        metric.update(prediction, truth, sequence=video, frames=torch.arange(len(truth)))
        case.check(f"box.{video}", person_size(prediction[: len(truth)], truth))
    result, joints = metric.compute(), metric.per_joint()
    assert result["videos"] == 3
    case.check("counts", torch.tensor([joint["frames"] for joint in joints]))
    table = [[joint[name] for joint in joints] + [float(result[name])] for name in NAMES]
    case.check("pck_per_joint_then_mean", torch.tensor(table, dtype=torch.float64))
    assert case.checked == set(case.outputs) - OTHERS


def person(frames: int) -> Tensor:
    """Three joints: the corners of a right triangle of 60 x 80 pixels, so that the person's size is 60."""
    return torch.tensor([[10.0, 10.0], [70.0, 10.0], [10.0, 90.0]]).repeat(frames, 1, 1)


def update(metric: PCK, prediction: Tensor, truth: Tensor, first: int = 1, sequence: int = 0) -> None:
    metric.update(prediction, truth, sequence=sequence, frames=torch.arange(first, first + len(truth)))


def test_a_joint_is_right_up_to_a_share_of_the_persons_size():
    truth = person(2)
    prediction = truth.clone()
    prediction[0, 0, 0] += 6.0  # exactly 0.1
    prediction[1, 0, 0] += 6.001
    prediction[:, 1] += 1000
    metric = PCK(joints=3, thresholds=(0.1, 0.25))
    update(metric, prediction, truth)
    joints = metric.per_joint()
    assert [(joint["pck_01"], joint["pck_025"]) for joint in joints] == [(50, 100), (0, 0), (100, 100)]
    assert metric.compute()["pck_01"] == 50


def test_lost_joints_are_left_out_of_the_count_and_of_the_box():
    truth = person(2)
    prediction = truth + torch.tensor([5.0, 0.0])
    prediction[0, 2, 1] = torch.nan  # what is left is 60 wide: the size is 36, and 5 pixels are beyond a tenth of it
    metric = PCK(joints=3)
    update(metric, prediction, truth)
    assert person_size(prediction, truth).tolist() == pytest.approx([36, 60])
    assert [(joint["frames"], joint["pck_01"]) for joint in metric.per_joint()] == [(2, 50), (2, 50), (1, 100)]
    assert metric.compute()["pck_01"] == pytest.approx(200 / 3)  # a mean over joints, not over frames

    metric = PCK(joints=3)
    prediction[:, 2] = torch.nan  # in no frame at all: the mean is over two joints
    update(metric, prediction, truth)
    assert metric.compute()["pck_02"] == 100
    metric = PCK(joints=3)
    prediction[:, 1] = torch.nan  # a person of one joint has no size, so nothing is near
    update(metric, prediction, truth)
    assert (metric.compute()["pck_05"], metric.per_joint()[0]["frames"]) == (0, 2)
    metric = PCK(joints=3)
    update(metric, prediction * torch.nan, truth)
    assert (metric.compute()["pck_05"], metric.compute()["videos"]) == (0, 1)


def test_joints_without_annotation_are_left_out():
    truth = person(1)
    truth[0, 0] = torch.nan
    metric = PCK(joints=3)
    update(metric, person(1), truth)
    assert [joint["frames"] for joint in metric.per_joint()] == [0, 1, 1]
    assert metric.compute()["pck_01"] == 100


def test_the_first_frame_is_given_and_not_scored():
    metric = PCK(joints=3)
    update(metric, person(3) + torch.tensor([1000.0, 0, 0]).view(3, 1, 1), person(3), first=0)
    assert metric.compute()["pck_01"] == 100
    update(metric, person(1), person(1), first=0, sequence=1)
    assert metric.compute()["videos"] == 1


def test_runs_repeats_and_discarding():
    generator = torch.Generator().manual_seed(0)
    truth = person(9)
    prediction = truth + 20 * torch.randn(truth.shape, generator=generator)
    whole, pieces = PCK(joints=3), PCK(joints=3)
    update(whole, prediction, truth, first=0)
    update(pieces, prediction[4:], truth[4:], first=4)
    update(pieces, prediction[:6], truth[:6], first=0)
    update(pieces, person(5) + 1000, person(5), sequence=1)
    pieces.discard(1)
    update(pieces, person(5) + 1000, person(5), sequence=1)  # what comes after counts for nothing either
    assert pieces.compute() == whole.compute()
    assert 0 < whole.compute()["pck_02"] < 100


def test_what_cannot_be_scored_is_refused_by_name():
    metric = PCK(joints=3)
    with pytest.raises(ZooError, match=r"sequence 4: prediction must be floating-point \[T, 3, 2\].*\(2, 4, 2\)"):
        update(metric, torch.zeros(2, 4, 2), person(2), sequence=4)
    with pytest.raises(ZooError, match=r"truth must be floating-point .*int64"):
        update(metric, person(2), person(2).long())
    with pytest.raises(ZooError, match="1 frames were predicted, but 2"):
        update(metric, person(1), person(2))
    with pytest.raises(ZooError, match="numbered from 0"):
        update(metric, person(2), person(2), first=-1)
    with pytest.raises(ZooError, match="ascending"):
        PCK(thresholds=(0.2, 0.1))
