"""Average precision against plain loops, by hand, and in the long run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.ranking import average_precision, expected_average_precision, tied_average_precision


def plainly(scores: np.ndarray, labels: np.ndarray) -> float:
    """The AP of one class as the scripts write it."""
    hits, total = 0, 0.0
    for rank, row in enumerate(np.argsort(-scores, kind="stable"), 1):
        hits += labels[row]
        total += labels[row] * hits / rank
    return total / labels.sum()


def test_average_precision_by_hand():
    scores = torch.tensor([[0.9, 0.5], [0.8, 0.5], [0.7, 0.5], [0.6, -torch.inf]])
    labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 1]], dtype=torch.bool)
    assert average_precision(scores, labels).tolist() == [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3 + 3 / 4) / 3]
    assert average_precision(scores[:0], labels[:0]).isnan().all()
    assert average_precision(scores[:, :0], labels[:, :0]).shape == (0,)


def test_many_classes_and_rows_are_what_one_is(monkeypatch):
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 40, (150, 11)).astype(np.float32)
    labels = draw.random((150, 11)) < 0.2
    expected = [plainly(scores[:, c], labels[:, c]) for c in range(11)]
    for at_once in (1, 400, 1 << 20):
        monkeypatch.setattr("zoo.metrics.ranking._AT_ONCE", at_once)
        found = average_precision(torch.from_numpy(scores), torch.from_numpy(labels))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-14)


def test_what_random_scores_get_in_the_long_run():
    draw = torch.Generator().manual_seed(0)
    labels = torch.zeros(30, 4000, dtype=torch.uint8)
    for positives in (0, 1, 2, 13, 30):
        labels[:positives] = 1
        found = average_precision(torch.rand(labels.shape, generator=draw), labels)
        (expected,) = expected_average_precision(torch.tensor([positives]), 30)
        assert float(found.mean()) == pytest.approx(float(expected), abs=0.008, nan_ok=True)
        labels[:] = 0
    assert expected_average_precision(torch.tensor([1]), 1).tolist() == [1]


@pytest.mark.parametrize("interpolated", [False, True])
def test_equal_scores_enter_together(interpolated):
    draw = np.random.default_rng(0)
    for levels in (1, 2, 5, 1000):
        scores, labels = draw.integers(0, levels, 200).astype(np.float32), draw.random(200) < 0.3
        precision, recall = [], [0.0]
        for score in sorted(set(scores.tolist()), reverse=True):
            entered = labels[scores >= score]
            precision.append(entered.mean())
            recall.append(entered.sum() / labels.sum())
        if interpolated:
            precision = [max(precision[i:]) for i in range(len(precision))]
        expected = sum(p * (b - a) for p, a, b in zip(precision, recall, recall[1:], strict=False))
        found = tied_average_precision(torch.from_numpy(scores), torch.from_numpy(labels), interpolated=interpolated)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_the_ends_of_a_list():
    scores = torch.tensor([1.0, -torch.inf, torch.inf])
    assert tied_average_precision(scores, torch.tensor([0, 0, 1])) == 1
    assert tied_average_precision(scores, torch.tensor([0, 1, 0])) == 1 / 3
    assert tied_average_precision(scores, torch.zeros(3)).isnan()
    assert tied_average_precision(scores[:0], torch.zeros(0)).isnan()


def test_what_has_no_rank_is_refused():
    with pytest.raises(ZooError, match="row 1 and class 0 is NaN"):
        average_precision(torch.tensor([[1.0], [torch.nan]]), torch.ones(2, 1))
    with pytest.raises(ZooError, match=r"must both be \[N, C\]"):
        average_precision(torch.ones(2), torch.ones(2))
    with pytest.raises(ZooError, match="row 1 is NaN"):
        tied_average_precision(torch.tensor([1.0, torch.nan]), torch.ones(2))
    with pytest.raises(ZooError, match=r"must both be \[N\]"):
        tied_average_precision(torch.ones(2), torch.ones(3))
    with pytest.raises(ZooError, match="labels must be 0 or 1"):
        tied_average_precision(torch.ones(2), torch.tensor([0, 2]))
