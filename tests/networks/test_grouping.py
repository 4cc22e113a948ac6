"""Temporal actionness grouping: the released code's boxes, and a plain reading of its rules on many curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.proposals import overlaps
from zoo.networks.grouping import THRESHOLDS, TOLERANCES, group, proposals, smooth, suppress


def test_released_code():
    case = goldens.load("actionness_tag")
    score = case.stored["score"].numpy()
    curve = smooth(expit(score))
    case.check("smoothed", torch.from_numpy(curve))
    case.check("labels", torch.from_numpy((curve > np.array(THRESHOLDS)[:, None]).astype(np.int8)))
    boxes, sums = group(curve, score)
    case.check("boxes", torch.from_numpy(boxes))
    case.check("box_scores", torch.from_numpy(sums))
    for iou in (0.8, 0.9):
        kept = suppress(boxes, sums, iou)
        case.check(f"kept{iou}.boxes", torch.from_numpy(boxes[kept]))
        case.check(f"kept{iou}.scores", torch.from_numpy(sums[kept]))
        # One sample a second: the same boxes, though equal ones were dropped before suppression.
        found = proposals(score, len(score), iou=iou, quirks=True)
        np.testing.assert_allclose(found, np.column_stack([boxes[kept], sums[kept]]), atol=1e-9)
    truth = len(score) * np.array([[0.1, 0.2], [0.35, 0.5], [0.8, 0.93]])
    best = overlaps(case.outputs["kept0.8.boxes"].double().numpy(), truth).max(0)
    case.check("hit_recall", torch.tensor([(best > iou).mean() for iou in (0.5, 0.7, 0.9)], dtype=torch.float64))
    case.assert_complete()


def plainly(curve: list[float], logits: list[float], quirks: bool) -> list[tuple[int, int, float]]:
    """The rules, sample after sample: start, end and score of every box in the order found."""
    count, found = len(curve), []
    for threshold in THRESHOLDS:
        above = [p > threshold for p in curve]
        rises = [t for t in range(count) if above[t] and not (t and above[t - 1])]
        falls = [t for t in range(1, count + 1) if above[t - 1] and not (t < count and above[t])]
        for tolerance in TOLERANCES:
            grown = [sum(not a for a in above[: t + 1]) - tolerance * t for t in range(count)]
            for x, rise in enumerate(rises):
                last = next((y for y in range(x + 1, len(rises)) if grown[rises[y]] > grown[rise]), len(rises)) - 1
                end = falls[last] + quirks
                found.append((rise, end, sum(logits[rise:end])))
            for x in reversed(range(len(falls))):
                value = grown[falls[x]] if falls[x] < count else grown[-1] - tolerance
                before = next((y for y in reversed(range(x)) if grown[falls[y]] < value), None)
                start, end = rises[0 if before is None else before + 1], falls[x] + quirks
                summed = logits[: falls[x] + 2] if quirks and before is None else logits[start:end]
                found.append((start, end, sum(summed)))
    return found


@pytest.mark.parametrize("quirks", [True, False])
def test_all_thresholds_at_once_are_each_alone(quirks):
    draw = np.random.default_rng(0)
    for length in (1, 2, 3, 7, 20, 41):
        # Coarse values: long runs, values on thresholds, and stretches that just meet their tolerance.
        for curve in (draw.random(length), draw.integers(0, 5, length) / 4, draw.choice([0.005, 0.6, 0.97], length)):
            logits = draw.integers(-8, 9, length) / 8
            boxes, scores = group(curve, logits, quirks=quirks)
            expected = plainly(curve.tolist(), logits.tolist(), quirks)
            assert [*zip(*boxes.T.tolist(), scores.tolist(), strict=True)] == expected


def test_nothing_above_any_threshold_gives_no_box():
    boxes, scores = group(np.full(9, 0.01), np.ones(9))
    assert (boxes.shape, scores.shape) == ((0, 2), (0,))
    assert proposals(np.full(9, -20.0), 9).shape == (0, 3)


def plain_suppression(boxes: NDArray, scores: NDArray, iou: float, plus_one: bool) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], -i)):
        worst = 0.0
        for j in kept:
            both = max(0, min(boxes[i, 1], boxes[j, 1]) - max(boxes[i, 0], boxes[j, 0]) + plus_one)
            either = sum(boxes[k, 1] - boxes[k, 0] + plus_one for k in (i, j)) - both
            worst = max(worst, both / either if either else 0.0)
        if worst <= iou:
            kept.append(i)
    return kept


@pytest.mark.parametrize("plus_one", [True, False])
def test_suppression(plus_one):
    draw = np.random.default_rng(1)
    for iou in (0.0, 0.5, 0.8, 1.0):
        boxes = np.sort(draw.integers(0, 12, (60, 2)), axis=1)
        scores = draw.integers(0, 9, 60).astype(float)
        assert suppress(boxes, scores, iou, plus_one).tolist() == plain_suppression(boxes, scores, iou, plus_one)
    assert suppress(np.array([[0, 10], [0, 8]]), np.array([2.0, 1.0]), 0.8, False).tolist() == [
        0,
        1,
    ]  # at 0.8, not above
    assert suppress(np.zeros((0, 2)), np.zeros(0)).shape == (0,)


def test_proposals_are_what_is_left_of_all_boxes():
    scores = 3 * np.random.default_rng(6).standard_normal(90)
    boxes, sums = group(smooth(expit(scores)), scores, quirks=False)
    kept = plain_suppression(boxes, sums, 0.8, False)
    np.testing.assert_allclose(proposals(scores, 90), np.column_stack([boxes[kept], sums[kept]]), atol=1e-9)
    assert len(kept) == 1 + len(plain_suppression(boxes, sums, 0.8, True))


def test_what_was_done_is_proposed_first():
    scores = np.full(200, -4.0)
    scores[60:110] = 4
    best = proposals(torch.from_numpy(scores), 100.0)[0]
    assert best[:2] == pytest.approx([30, 55])  # at half a second a sample, and no end is a sample too far
    assert best[2] == pytest.approx(200)
    assert proposals(scores, 100.0, quirks=True)[0, 1] > 55


def test_normalised_within_a_video_the_zero_of_scores_does_not_matter():
    scores = np.random.default_rng(2).standard_normal(300).cumsum()
    for normalize, same in (("minmax", 0.25 * scores - 7), ("rank", np.exp(scores / 8))):
        found = proposals(scores, 60, normalize=normalize)
        assert len(found) > 5
        np.testing.assert_allclose(proposals(same, 60, normalize=normalize), found, atol=1e-9)
    assert len(proposals(scores - scores.min() + 9, 60)) == 1  # a sigmoid sees all of it above all thresholds


@pytest.mark.parametrize("normalize", ["sigmoid", "minmax", "rank"])
def test_a_video_without_any_change_is_one_proposal_and_without_samples_none(normalize):
    for count in (1, 2, 40):
        assert proposals(np.full(count, 0.5), 8.0, normalize=normalize)[:, :2].tolist() == [[0, 8]]
    assert proposals(torch.zeros(0), 8.0, normalize=normalize).shape == (0, 3)


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(ZooError, match=r"\[T\] finite numbers, got nan at 3"):
        proposals([0, 1, 2, math.nan], 4)
    with pytest.raises(ZooError, match=r"finite numbers, got \(4, 1\)"):
        proposals(torch.zeros(4, 1), 4)
    for duration in (0, -1, math.nan, math.inf):
        with pytest.raises(ZooError, match="a duration of"):
            proposals([0.0, 1.0], duration)
    with pytest.raises(ZooError, match="one of sigmoid, minmax, rank, got 'softmax'"):
        proposals([0.0, 1.0], 4, normalize="softmax")
    with pytest.raises(ZooError, match=r"must both be \[T\]"):
        group(np.zeros(3), np.zeros(4))
