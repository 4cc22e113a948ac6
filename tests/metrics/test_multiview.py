"""The 30-view protocol against the published reference, and against itself over batches, orders and processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.goldens import recipe
from tests.pairs import in_two
from zoo.errors import ZooError
from zoo.metrics.multiview import MultiViewAccuracy, ViewRows
from zoo.metrics.multiview_map import MultiViewMAP

GOLDEN = Path(__file__).parent.parent / "goldens" / "nonlocal_protocol"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    """40 videos x 30 views x 12 classes as the case's manifest tells: softmaxes [40, 30, 12], labels [40], results."""
    out = load_file(GOLDEN / "outputs.safetensors")
    labels = out["accuracy/labels"]
    logits = torch.from_numpy(recipe.inputs("clip_logits", (1200, 12))).view(40, 30, 12)
    logits[1::2] += 1.2 * torch.nn.functional.one_hot(labels[1::2], 12)[:, None]
    return {
        "softmax": logits.softmax(-1),
        "labels": labels,
        "several": torch.nn.functional.one_hot(labels, 12) | torch.nn.functional.one_hot(labels.flip(0), 12),
        "sums": out["accuracy/video_score_sum"],
        "percent": out["accuracy/clip1_clip_top1_top5_percent"],
    }


def feed(metric: ViewRows, case: dict[str, torch.Tensor], per_row: int, rows: list[int], batch: int = 7) -> None:
    """Update with the given rows (of ``per_row`` views each, video-major), in that order."""
    softmax = case["softmax"].view(-1, per_row, 12)
    labels = case["several" if isinstance(metric, MultiViewMAP) else "labels"]
    rows_of_video = 30 // per_row
    for at in torch.tensor(rows, dtype=torch.int64).split(batch):
        index = at // rows_of_video
        metric.update(softmax[at], labels[index], index, at % rows_of_video * per_row)


def assert_golden(result: dict[str, torch.Tensor], case: dict[str, torch.Tensor]) -> None:
    got = torch.stack([result[k] for k in ("first_top1", "clip_top1", "top1", "top5")])
    torch.testing.assert_close(got.float(), case["percent"], atol=1e-5, rtol=1e-5)
    assert (result["videos"], result["incomplete"]) == (40, 0)


@pytest.mark.parametrize("per_row", [1, 3, 30])
def test_equals_the_published_protocol(reference, per_row):
    metric = MultiViewAccuracy(30)
    feed(metric, reference, per_row, list(range(40 * 30 // per_row)))
    assert_golden(metric.compute(), reference)


def test_the_order_and_repeats_change_nothing(reference):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(1200, generator=generator)
    metric = MultiViewAccuracy(30)
    feed(metric, reference, 1, torch.cat([order, order[:333]]).tolist())
    assert_golden(metric.compute(), reference)


def test_scores_are_the_sums_over_views(reference):
    """Whether folded on the way or not, a video's score is the reference's sum, to the last bit the same."""
    sums = []
    for fold_every_batch in (True, False):
        metric = MultiViewAccuracy(30)
        feed(metric, reference, 3, list(range(400)), batch=1)
        if fold_every_batch:
            metric._fold()
        else:
            assert sum(len(rows) for rows in metric.rows) == 400
            metric._fold()
        sums.append(torch.cat(metric.scores).view(40, 12))
    torch.testing.assert_close(sums[0], reference["sums"], atol=1e-5, rtol=1e-5)
    assert torch.equal(*sums)


def test_memory_is_bounded_by_the_videos():
    """30,000 rows of 1,000 videos leave one row a video, plus at most the rows since the last fold."""
    metric = MultiViewAccuracy(30, topk=(1,))
    held = 0
    for video in range(1000):
        index = torch.full((30,), video)
        metric.update(torch.rand(30, 8), index % 8, index, torch.arange(30))
        held = max(held, sum(len(rows) for rows in metric.rows))
    assert held <= 1000 + 1024 + 30
    assert metric.compute()["videos"] == 1000


def test_incomplete_and_absent_videos_are_counted():
    metric = MultiViewAccuracy(views=4, topk=(1, 5))
    with pytest.warns(UserWarning, match="before the ``update``"):
        empty = metric.compute()
    assert set(empty) == {f"{p}top{k}" for p in ("", "clip_", "first_") for k in (1, 5)} | {"videos", "incomplete"}
    assert all(value == 0 for value in empty.values())  # and so none is NaN

    metric.reset()
    metric.update(torch.zeros(0, 2, 3), *torch.zeros(3, 0, dtype=torch.int64))
    right, wrong = torch.tensor([[0.1, 0.7, 0.2]] * 2), torch.tensor([[0.9, 0.0, 0.1]] * 2)
    metric.update(
        torch.stack([right, right, wrong]),
        label=torch.tensor([1, 1, 1]),
        index=torch.tensor([5, 5, 9]),
        view=torch.tensor([0, 2, 2]),
    )
    result = metric.compute()
    assert (result["videos"], result["incomplete"]) == (2, 1)
    assert (result["top1"], result["top5"]) == (50, 100)  # 5 of 3 classes: everything
    assert result["clip_top1"] == pytest.approx(100 * 4 / 6)
    assert result["first_top1"] == 100  # the only first view there is


def test_ties_and_broken_scores_never_flatter():
    metric = MultiViewAccuracy(views=1, topk=(1, 2))
    scores = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [float("nan")] * 3])
    metric.update(scores, torch.tensor([0, 1, 0]), torch.arange(3), torch.zeros(3, dtype=torch.int64))
    result = metric.compute()
    assert result["top1"] == pytest.approx(100 / 3)
    assert result["top2"] == pytest.approx(200 / 3)


def test_half_precision_and_pickling(reference):
    metric = MultiViewAccuracy(30)
    half = reference | {"softmax": reference["softmax"].bfloat16()}
    feed(metric, half, 30, list(range(20)))
    metric = pickle.loads(pickle.dumps(metric))
    feed(metric, half, 30, list(range(20, 40)))
    assert metric.compute()["top5"] == pytest.approx(float(reference["percent"][3]), abs=5)
    assert metric.scores[0].dtype == torch.float32


def test_wrong_shapes_and_surplus_views_are_refused():
    metric = MultiViewAccuracy(views=3)
    zero = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ZooError, match="one label"):
        metric.update(torch.rand(3, 3, 5), zero, zero, zero)
    with pytest.raises(ZooError, match="told of 3 views"):
        metric.update(torch.rand(2, 3, 5), zero, zero, zero + 1)
    with pytest.raises(ZooError, match="views=0"):
        MultiViewAccuracy(views=0)


METRICS = {
    "accuracy": lambda: MultiViewAccuracy(30),
    "largest": lambda: MultiViewMAP(12, 30),
    "mean": lambda: MultiViewMAP(12, 30, "mean"),
}


def _one_of_two(rank: int, case: dict[str, torch.Tensor], splits: dict[str, list[list[int]]]) -> dict:
    results = {}
    for name, rows in splits.items():
        for kind, make in METRICS.items():
            metric = make()
            feed(metric, case, 3, rows[rank])
            results[name, kind] = metric.compute()
            metric.reset()
            feed(metric, case, 3, rows[rank])  # the second test run of the same object
            assert metric.compute() == results[name, kind]
    return results


def test_two_processes_give_the_number_of_one(reference, tmp_path):
    """39 videos of 10 rows (odd), shared out in three ways; Lightning's sampler repeats the first rows at the end."""
    everything = list(range(390))
    splits = {
        "strided, padded": [[*everything[::2], 0], [*everything[1::2], 0, 1]],
        "one has all": [everything, []],
        "halves, one video in both": [[*everything[:215], 5], everything[195:]],
    }
    single = {}
    for kind, make in METRICS.items():
        metric = make()
        feed(metric, reference, 3, everything)
        single[kind] = metric.compute()
        assert single[kind]["videos"] == 39
    for found in in_two(tmp_path, _one_of_two, reference, splits):
        assert found == {(name, kind): single[kind] for name in splits for kind in METRICS}
