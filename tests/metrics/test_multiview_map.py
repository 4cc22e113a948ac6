"""Mean average precision of videos seen in many views, against the plain computation, over batches and processes."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.charades import CharadesClassificationMAP
from zoo.metrics.multiview_map import MultiViewMAP

VIDEOS, VIEWS, CLASSES = 23, 6, 5


@pytest.fixture(scope="module")
def case() -> dict[str, torch.Tensor]:
    """Scores [23, 6, 5] on a coarse grid, so that many are equal, and labels [23, 5]; video 4 has none."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 50, (VIDEOS, VIEWS, CLASSES), generator=generator) / 50
    labels = (torch.rand(VIDEOS, CLASSES, generator=generator) < 0.3).long()
    labels[4] = 0
    return {"scores": scores, "labels": labels}


def feed(metric: MultiViewMAP, case: dict[str, torch.Tensor], per_row: int, rows: list[int], batch: int = 7) -> None:
    """Update with the given rows (of ``per_row`` views each, video-major), in that order."""
    scores = case["scores"].view(-1, per_row, CLASSES)
    rows_of_video = VIEWS // per_row
    for at in torch.tensor(rows, dtype=torch.int64).split(batch):
        index = at // rows_of_video
        metric.update(scores[at], case["labels"][index], index, at % rows_of_video * per_row)


def whole(case: dict[str, torch.Tensor], scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """The result for videos' scores that were combined by hand."""
    metric = CharadesClassificationMAP(CLASSES)
    metric.update(scores, case["labels"], torch.arange(VIDEOS))
    return metric.compute()


@pytest.mark.parametrize("combine", ["max", "mean"])
@pytest.mark.parametrize("per_row", [1, 3, 6])
def test_views_are_combined_in_whatever_order_they_come(case, combine, per_row):
    expected = whole(case, case["scores"].amax(1) if combine == "max" else case["scores"].double().mean(1).float())
    order = torch.randperm(VIDEOS * VIEWS // per_row, generator=torch.Generator().manual_seed(1))
    for rows in (order.sort()[0], order, torch.cat([order, order[:11]])):
        metric = MultiViewMAP(CLASSES, VIEWS, combine)
        feed(metric, case, per_row, rows.tolist())
        found = metric.compute()
        assert found.pop("incomplete") == 0
        assert {name: value.item() for name, value in found.items()} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, abs=1e-9 if combine == "max" else 1e-4
        )
        assert found["videos"] == VIDEOS
        metric._fold()
        feed(metric, case, per_row, rows.tolist()[:5])  # what was folded counts once, too
        assert metric.compute()["map"] == found["map"]


def test_folding_changes_nothing(case):
    scores = []
    for fold in (True, False):
        metric = MultiViewMAP(CLASSES, VIEWS, "mean")
        for row in range(VIDEOS * VIEWS):
            feed(metric, case, 1, [row])
            if fold:
                metric._fold()
        scores.append(metric._videos()[1])
    assert torch.equal(*scores)


def test_what_is_lacking_is_counted(case):
    metric = MultiViewMAP(CLASSES, VIEWS)
    with pytest.warns(UserWarning, match="before the ``update``"):
        empty = metric.compute()
    assert (empty["map"], empty["videos"], empty["incomplete"]) == (0, 0, 0)
    metric.reset()
    metric.update(torch.zeros(0, 1, CLASSES), *torch.zeros(3, 0, dtype=torch.int64))  # nothing could be decoded
    feed(metric, case, 3, [0, 1, 5])
    found = metric.compute()
    assert (found["videos"], found["incomplete"]) == (2, 1)


def test_mistakes_are_named():
    metric = MultiViewMAP(CLASSES, VIEWS)
    zero = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ZooError, match=r"labels \(2,\) must both have 5 classes"):
        metric.update(torch.rand(2, 3, CLASSES), zero, zero, zero)
    with pytest.raises(ZooError, match="told of 6 views"):
        metric.update(torch.rand(2, 3, CLASSES), torch.zeros(2, CLASSES), zero, zero + 4)
    broken = torch.rand(2, 3, CLASSES)
    broken[1, 2, 0] = torch.nan
    with pytest.raises(ZooError, match="video 9 has a score that is NaN"):
        metric.update(broken, torch.zeros(2, CLASSES), torch.tensor([8, 9]), zero)
    with pytest.raises(ZooError, match="'max' or 'mean', got 'sum'"):
        MultiViewMAP(CLASSES, VIEWS, "sum")


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_the_parts_of_two_processes_give_the_number_of_one(case, combine):
    """What a gather puts together; `test_multiview` has true processes, for this metric too."""
    everything = list(range(2 * VIDEOS))
    parts = [[*everything[:23], 5], everything[21:]]  # one video in both
    single = MultiViewMAP(CLASSES, VIEWS, combine)
    feed(single, case, 3, everything)
    shards = [MultiViewMAP(CLASSES, VIEWS, combine) for _ in parts]
    for shard, rows in zip(shards, parts, strict=True):
        feed(shard, case, 3, rows)
        shard._fold()
    merged = MultiViewMAP(CLASSES, VIEWS, combine)
    feed(merged, case, 3, everything[:1])
    merged.rows = torch.cat([shard.rows[0] for shard in shards])
    merged.scores = torch.cat([shard.scores[0] for shard in shards])
    assert merged.compute() == single.compute()
