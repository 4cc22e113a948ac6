"""VIP's two measures of parts against the published scripts' numbers, and the cases that those do not show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.goldens import Case, load
from zoo.errors import ZooError
from zoo.metrics.part_instances import average_precision
from zoo.metrics.parts import PartAP, PartIoU

FRAMES = 3  # of each of the case's two videos


def with_background(column: Tensor) -> Tensor:
    """The case's lists start at id 1: a table by id has the background in front."""
    return torch.cat([column.new_zeros(1), column])


def check_with_nan(case: Case, name: str, values: Tensor) -> None:
    """`Case.check` of values that must be NaN exactly where the reference's are."""
    case.checked.add(name)
    tolerance = {key: case.manifest[key] for key in ("atol", "rtol")}
    torch.testing.assert_close(values, case.outputs[name], **tolerance, equal_nan=True)


def test_equals_the_published_scripts():
    case = load("time_cycle_vip_metrics")
    parts, instances = PartIoU(), PartAP()
    for video in range(2):
        prediction, truth = (
            torch.stack([case.stored[f"parsing.{video}.{frame}.{side}"] for frame in range(FRAMES)])
            for side in ("prediction", "annotation")
        )
        parts.update(prediction, truth, sequence=video, frames=torch.arange(FRAMES))
        for frame in range(FRAMES):
            prefix = f"instance.{video}.{frame}"
            listed = case.stored[f"{prefix}.annotation_list"]
            classes = torch.zeros(int(listed[:, 0].max()) + 1, dtype=torch.int64).index_put(
                (listed[:, 0],), listed[:, 1]
            )
            predicted = case.stored[f"{prefix}.prediction_list"]
            instances.update(
                case.stored[f"{prefix}.prediction"],
                with_background(predicted[:, 0].long()),
                with_background(predicted[:, 1]),
                case.stored[f"{prefix}.annotation"],
                classes,
                sequence=video,
                frame=frame,
            )

    case.check("hist", parts.confusion().double())
    by_class = parts.per_class()
    for name, key in (("iou", "iou"), ("class_accuracy", "accuracy")):
        values = torch.tensor([c[key] for c in by_class], dtype=torch.float64) / 100
        check_with_nan(case, name, values)
    result = parts.compute()
    for name, key in (("pixel_accuracy", "pixel_accuracy"), ("mean_iou", "miou"), ("mean_accuracy", "mean_accuracy")):
        case.check(name, result[key][None] / 100)
    assert result["videos"] == 2

    check_with_nan(case, "ap", instances.table())
    means = case.outputs["ap_mean_over_classes_with_annotation"]
    case.check("ap_mean_over_classes_with_annotation", instances.table().nanmean(0))
    result = instances.compute()
    assert result["ap_r_vol"] == pytest.approx(100 * float(means.mean()))
    for threshold in (3, 5, 7):
        assert result[f"ap_r_{threshold}0"] == pytest.approx(100 * float(means[threshold - 1]))
    assert result["videos"] == 2
    case.assert_complete()


def test_a_confusion_matrix_by_hand():
    truth = torch.tensor([[[0, 0, 1, 1], [2, 2, 255, 9]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 1, 1, 1], [0, 2, 2, 2]]], dtype=torch.uint8)
    metric = PartIoU(classes=4)
    metric.update(prediction, truth, sequence=0, frames=torch.tensor([7]))
    assert metric.confusion().tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    result = metric.compute()
    assert result["miou"] == pytest.approx(100 * (1 / 3 + 2 / 3 + 1 / 2) / 3)  # class 3 is in neither map
    assert result["pixel_accuracy"] == pytest.approx(100 * 4 / 6)
    assert result["mean_accuracy"] == pytest.approx(100 * (1 / 2 + 1 + 1 / 2) / 3)
    assert math.isnan(metric.per_class()[3]["iou"])
    assert [c["pixels"] for c in metric.per_class()] == [2, 2, 2, 0]


def test_a_prediction_of_another_size_is_read_at_the_nearest_pixel():
    truth = torch.arange(16).view(1, 4, 4)
    coarse = torch.tensor([[[1, 2], [3, 4]]])
    metric, expected = PartIoU(), PartIoU()
    at = {"sequence": 0, "frames": torch.tensor([1])}
    metric.update(coarse, truth, **at)
    expected.update(coarse.repeat_interleave(2, 1).repeat_interleave(2, 2), truth, **at)
    assert torch.equal(metric.confusion(), expected.confusion())
    fine = torch.arange(9).view(1, 3, 3).repeat_interleave(3, 1).repeat_interleave(3, 2)  # ids never mix
    metric, expected = PartIoU(), PartIoU()
    metric.update(fine, truth[:, :3, :3], **at)
    expected.update(torch.arange(9).view(1, 3, 3), truth[:, :3, :3], **at)
    assert torch.equal(metric.confusion(), expected.confusion())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_runs_repeats_and_discarding_of_maps(dtype):
    generator = torch.Generator().manual_seed(0)
    prediction, truth = torch.randint(0, 20, (2, 7, 20, 30), generator=generator).to(dtype)
    truth[:, :2] = 200
    whole, pieces = PartIoU(), PartIoU()
    whole.update(prediction, truth, sequence=3, frames=torch.arange(7))
    for numbers in (torch.arange(4, 7), torch.arange(0, 4), torch.arange(2, 6)):
        pieces.update(prediction[numbers], truth[numbers], sequence=3, frames=numbers)
    pieces.update(truth % 20, truth, sequence=2, frames=torch.arange(7))
    pieces.discard(2)
    assert pieces.compute() == whole.compute()
    expected = torch.zeros(20, 20, dtype=torch.int64)
    for t, p in zip(truth[:, 2:].flatten().tolist(), prediction[:, 2:].flatten().tolist(), strict=True):
        expected[t, p] += 1
    assert torch.equal(whole.confusion(), expected)


def row_of(*lengths: int) -> Tensor:
    """An id map ``[1, 20]`` of ids 1, 2, ... with these lengths, and background."""
    ids = torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths))
    return torch.nn.functional.pad(ids, (0, 20 - len(ids)))[None]


def add(
    metric: PartAP,
    prediction: Tensor,
    classes: list[int],
    scores: list[float],
    truth: Tensor,
    truth_classes: list[int],
    frame: int = 0,
    sequence: int = 0,
) -> None:
    """A frame whose tables are given without the background's entry."""
    metric.update(
        prediction,
        torch.tensor([0, *classes]),
        torch.tensor([0.0, *scores]),
        truth,
        torch.tensor([0, *truth_classes]),
        sequence=sequence,
        frame=frame,
    )


def test_average_precision_by_hand():
    """Precisions 1, 1/2, 2/3, 2/4, 3/5 at recalls 1/4, 1/4, 2/4, 2/4, 3/4; one of the four is never found."""
    right = np.array([True, False, True, False, True])
    assert average_precision(right, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert average_precision(right[:0], 4) == 0
    assert average_precision(np.ones(3, bool), 1) == 3  # double claims: recall goes to 3, as published


def test_the_overlap_must_exceed_the_threshold():
    metric = PartAP()
    add(metric, row_of(5), [4], [0.5], row_of(10), [4])  # IoU 1/2 exactly
    assert metric.table()[3].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert metric.table()[[0, 1, 2, *range(4, 19)]].isnan().all()
    result = metric.compute()
    assert result["ap_r_vol"] == pytest.approx(400 / 9)
    assert [result[f"ap_r_{t}"] for t in (30, 50, 70)] == [100, 0, 0]


def test_predictions_are_ranked_over_all_frames():
    metric = PartAP(thresholds=(0.5,))
    add(metric, row_of(10), [1], [0.2], row_of(10), [1], frame=0)
    add(metric, row_of(10), [1], [0.9], row_of(0, 10), [2, 1], frame=1)  # id 1 has no pixels: as if not listed
    add(metric, row_of(10), [1], [0.6], row_of(10), [3], sequence=1)  # another class: wrong
    assert float(metric.table()[0, 0]) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert float(metric.table()[2, 0]) == 0
    assert metric.table()[1].isnan().all()
    result = metric.compute()
    assert result["ap_r_50"] == result["ap_r_vol"] == pytest.approx(100 * (5 / 6 + 0) / 2)
    assert result["videos"] == 2
    assert "ap_r_30" not in result


def test_equal_scores_are_ranked_by_sequence_frame_and_id():
    """In whatever order the frames come: first the wrong one of sequence 0, then the right one of sequence 1."""
    tables = []
    for order in ((0, 1), (1, 0)):
        metric = PartAP(thresholds=(0.5,))
        for sequence in order:
            add(metric, row_of(10), [1], [1.0], row_of(10), [1 + (sequence == 0)], sequence=sequence)
        tables.append(float(metric.table()[0, 0]))
    assert tables == [0.5, 0.5]


def test_instances_without_pixels_or_class_count_for_nothing():
    metric = PartAP(thresholds=(0.5,))
    add(metric, row_of(0, 10, 4), [1, 1, 0], [1.0, 0.5, 0.9], row_of(10, 0, 4), [1, 1, 0])
    assert float(metric.table()[0, 0]) == 1
    assert metric.table()[1:].isnan().all()
    metric = PartAP()
    add(metric, torch.zeros(4, 4).byte(), [], [], torch.zeros(4, 4).byte(), [])
    assert (metric.compute()["ap_r_vol"], metric.compute()["videos"]) == (0, 1)


def test_numbers_of_instances_may_be_far_apart():
    """A table over all numbers up to these would take 72 GB."""
    classes = torch.zeros(95_001, dtype=torch.int64)
    classes[90_000], classes[95_000] = 3, 5
    maps = torch.full((4, 10), 90_000)
    maps[2:] = 95_000
    metric = PartAP(thresholds=(0.5,))
    metric.update(maps, classes, torch.ones(len(classes)), maps, classes, sequence=0, frame=0)
    assert [c + 1 for c in range(19) if float(metric.table()[c, 0]) == 1] == [3, 5]


def test_repeats_and_discarding_of_instances():
    once, twice = PartAP(), PartAP()
    for metric in (once, twice, twice):
        add(metric, row_of(4, 6, 3), [1, 2, 1], [0.2, 0.4, 0.7], row_of(5, 5, 3), [1, 2, 1])
    add(twice, row_of(10), [2], [1.0], row_of(10), [1], sequence=5)
    twice.discard(5)
    assert twice.compute() == once.compute()
    assert 0 < once.compute()["ap_r_vol"] < 100


def test_what_cannot_be_scored_is_refused_by_name():
    maps = torch.zeros(2, 4, 5, dtype=torch.uint8)
    at = {"sequence": 6, "frames": torch.tensor([3, 4])}
    with pytest.raises(ZooError, match=r"sequence 6, frame 4: the prediction has a class outside 0\.\.19"):
        PartIoU().update(torch.stack([maps[0], maps[1] + 20]), maps, **at)
    with pytest.raises(ZooError, match="prediction must be class numbers"):
        PartIoU().update(maps.float(), maps, **at)
    with pytest.raises(ZooError, match="as many frames"):
        PartIoU().update(maps[:1], maps, **at)
    with pytest.raises(ZooError, match="classes must be"):
        PartIoU(classes=256)
    with pytest.raises(ZooError, match="sequence 0, frame 0: both id maps"):
        add(PartAP(), row_of(3)[:, 1:], [1], [1.0], row_of(3), [1])
    with pytest.raises(ZooError, match=r"prediction_ids has ids 0\.\.2, prediction_classes 0\.\.1"):
        add(PartAP(), row_of(3, 3), [1], [1.0], row_of(3), [1])
    with pytest.raises(ZooError, match=r"truth_classes must be within 0\.\.19"):
        add(PartAP(), row_of(3), [1], [1.0], row_of(3), [20])
    with pytest.raises(ZooError, match="entry 0 of prediction_classes"):
        PartAP().update(
            row_of(3), torch.tensor([1, 1]), torch.ones(2), row_of(3), torch.tensor([0, 1]), sequence=0, frame=0
        )
    with pytest.raises(ZooError, match="prediction_scores must be"):
        add(PartAP(), row_of(3), [1], [1.0, 2.0], row_of(3), [1])
    with pytest.raises(ZooError, match="truth_ids and truth_classes must be whole"):
        add(PartAP(), row_of(3), [1], [1.0], row_of(3).float(), [1])
    with pytest.raises(ZooError, match="classes and thresholds"):
        PartAP(thresholds=())
