"""Average recall over the number of proposals: the challenge's numbers, and its rules read plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.proposals import IOUS, POINTS, average_recall, overlaps


def test_challenge_s_code():
    case = goldens.load("actionness_ar_an")
    rows = (case.stored["ground_truth"].numpy(), case.stored["proposals"].numpy())
    truth, proposals = ({video: own[own[:, 0] == video, 1:] for video in own[:, 0]} for own in rows)
    for name, budget in (("none", None), ("5", 5), ("100", 100)):
        curve = average_recall(truth, proposals, budget)
        case.check(f"recall.max_{name}", torch.from_numpy(curve.recall))
        case.check(f"average_recall.max_{name}", torch.from_numpy(curve.average))
        case.check(f"avg_nr_proposals.max_{name}", torch.from_numpy(curve.numbers))
        case.check(f"auc_percent.max_{name}", torch.tensor([curve.auc], dtype=torch.float64))
    case.check("iou", torch.from_numpy(overlaps(proposals[0], truth[0])))
    case.assert_complete()


def plainly(truth: dict, proposals: dict, budget: float) -> list[float]:
    """The average recall, video after video and interval after interval, at all points."""
    known = {video: own for video, own in truth.items() if len(own)}
    sorted_ = {video: sorted(own, key=lambda row: -row[2]) for video, own in proposals.items()}
    ratio = budget * float(len(known)) / sum(map(len, proposals.values()))
    kept = {v: sorted_.get(v, [])[: int(len(sorted_.get(v, [])) * ratio)] for v in known}
    whole, curve = sum(map(len, kept.values())), []
    for point in range(1, POINTS + 1):
        share = point / 100.0 * (budget * float(len(known)) / whole)
        recalls = []
        for iou in IOUS:
            found = [
                any(
                    max(0, min(b, end) - max(a, start)) / (max(b, end) - min(a, start)) >= iou
                    for a, b, _ in kept[v][: int(len(kept[v]) * share)]
                    if max(a, start) < min(b, end)
                )
                for v, own in known.items()
                for start, end in own
            ]
            recalls.append(sum(found) / len(found))
        curve.append(sum(recalls) / len(recalls))
    return curve


@pytest.mark.parametrize("budget", [3, 40])
def test_rules_read_plainly(budget):
    draw = np.random.default_rng(0)

    def intervals(count: int) -> np.ndarray:
        start = draw.integers(0, 20, count)
        return np.stack([start, start + draw.integers(1, 9, count)], axis=1).astype(float)

    truth = {video: intervals(video % 4) for video in range(9)}  # 0, 4 and 8 have none
    proposals = {v: np.column_stack([intervals(n), draw.random(n)]) for v, n in enumerate([5, 50, 0, 7, 90, 1, 200])}
    curve = average_recall(truth, proposals, budget)
    np.testing.assert_allclose(curve.average, plainly(truth, proposals, budget), atol=1e-12)
    assert curve.average[9] < curve.average[-1] < 1
    assert curve.numbers == pytest.approx(np.arange(1, POINTS + 1) / 100 * budget)


def test_an_exact_overlap_finds_and_an_interval_is_found_once():
    truth = {"a": [[0, 10]], "b": [[0, 4], [20, 30]]}
    proposals = {"a": [[0, 5, 1.0]], "b": [[0, 4, 1.0], [0, 4, 0.5]]}
    curve = average_recall(truth, proposals, 100)
    assert curve.recall[:, -1].tolist() == [2 / 3] + [1 / 3] * 9


def test_videos_without_proposals_and_nothing_at_all():
    half = average_recall({0: [[0, 2]], 1: [[0, 2]]}, {0: [[0, 2, 1.0]]})
    assert half.average[-1] == 0.5
    for truth, proposals in (({}, {0: [[0, 1, 1.0]]}), ({0: []}, {}), ({0: [[0, 2]]}, {0: []}), ({0: [[0, 2]]}, {})):
        for budget in (None, 100):
            curve = average_recall(truth, proposals, budget)
            assert (curve.average.tolist(), curve.auc) == ([0] * POINTS, 0)
    assert overlaps(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [[0, 0]]


def test_what_is_no_interval_is_refused_by_its_video():
    with pytest.raises(ZooError, match=r"video 'x': the proposals must be \[n, 3\] finite numbers, got \(1, 2\)"):
        average_recall({"x": [[0, 1]]}, {"x": [[0, 1]]})
    with pytest.raises(ZooError, match=r"video 'x': the ground truth must be \[n, 2\] finite"):
        average_recall({"x": [[0, np.nan]]}, {})
