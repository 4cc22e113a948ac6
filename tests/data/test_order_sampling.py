"""Samples of order by the invariants that the sampling rules leave: there is no published code to compare with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.data.order_sampling import OrderSampler, OrderSamples, draw_clips, enough_rows, uniform, usable_rows
from zoo.errors import DataError
from zoo.spec import FeatureSpec


@dataclass
class Record:
    path: Path
    name: str


def write(folder, count, dim=3, least=30):
    """Videos whose row k is (video, k, 1000)."""
    records = []
    for number in range(count):
        rows = np.full((least + 7 * number, dim), 1000, np.float16)
        rows[:, 0], rows[:, 1] = number, np.arange(len(rows))
        np.save(folder / f"v{number}.npy", rows)
        records.append(Record(folder / f"v{number}.npy", f"v{number}"))
    return records


def test_draws_are_uniform_and_hang_on_nothing_but_their_sample():
    drawn = uniform(3, 5, np.arange(20_000), 1, 4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = [np.histogram(drawn[:, k], 10, (0, 1))[0] for k in range(4)]
    assert np.abs(np.array(counts) - 2000).max() < 200  # 4.7 standard deviations
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03
    assert np.abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03
    assert np.array_equal(uniform(3, np.array([5, 5]), np.array([77, 9]), 1, 2), drawn[[77, 9], :2])
    for other in ((4, 5, 1), (3, 6, 1), (3, 5, 2), (-1, 5, 1)):
        assert not np.isclose(uniform(other[0], other[1], np.arange(50), other[2], 4), drawn[:50]).any()


def test_trimming_costs_no_row_to_rounding():
    rows = np.arange(10, 2000, 10)
    first, last = usable_rows(rows, 0.3)
    assert np.array_equal(first, 3 * rows // 10)
    assert np.array_equal(last, 7 * rows // 10)
    assert [int(x[0]) for x in usable_rows(np.array([11]), 0.3)] == [4, 7]
    assert [int(x[0]) for x in usable_rows(np.array([11]), 0)] == [0, 11]


@pytest.mark.parametrize(
    ("spec", "rate", "window", "length"),
    [
        (FeatureSpec(), 1, None, None),
        (FeatureSpec(window=60), 1, 60, 6),
        (FeatureSpec(window=60), 5, 300, 30),
        (FeatureSpec(window=14), 1, 14, 1),
        (FeatureSpec(window=1e9), 1, None, None),
        (FeatureSpec(window=15, clips=8), 1, 15, 2),  # 8 x 2 > 15: they overlap
        (FeatureSpec(trim=0, clips=12), 1.5, None, None),  # 12 tenths
        (FeatureSpec(clips=2, window=2), 1, 2, 1),
    ],
)
def test_clips_lie_within_the_window_and_apart(spec, rate, window, length):
    counts = np.repeat(np.array([13 * spec.clips, 250, 777, 5000]), 500)
    assert enough_rows(counts, spec).all()
    chance = uniform(0, 0, np.arange(len(counts)), 0, spec.clips + 1)
    starts, lengths = draw_clips(counts, rate, spec, chance)
    first, last = usable_rows(counts, spec.trim)
    assert (starts[:, 0] >= first).all()
    assert (starts[:, -1] + lengths <= last).all()
    gaps = np.diff(starts, axis=1)
    span = (last - first) if window is None else np.minimum(window, last - first)
    cut = span < (window or 1e9)
    assert np.array_equal(lengths, np.where(cut, np.maximum(span // 10, 1), length or 0))
    assert (starts[:, -1] + lengths - starts[:, 0] <= span).all()
    apart = spec.clips * lengths <= span
    assert (gaps[apart] >= lengths[apart][:, None]).all()
    assert (gaps >= 1).all()  # an order there always is
    # All of the range is used: both ends are reached, nearly.
    long = counts == 5000
    assert starts[long].min() < first[long][0] + 0.05 * (last - first)[long][0]
    assert (starts[long] + lengths[long][:, None]).max() > last[long][0] - 0.05 * (last - first)[long][0]


def test_no_clip_where_there_are_too_few_rows():
    spec = FeatureSpec()
    enough = enough_rows(np.arange(30), spec)
    assert [bool(e) for e in enough] == [int(0.7 * n + 1e-9) - -int(-0.3 * n // 1) >= 5 for n in range(30)]
    starts, lengths = draw_clips(np.array([13]), 1, spec, np.zeros((1, 6)))
    assert (starts.tolist(), lengths.tolist()) == ([[4, 5, 6, 7, 8]], [1])


def test_a_batch_holds_the_means_of_the_rows_it_tells_of(tmp_path):
    data = OrderSamples(write(tmp_path, 12), FeatureSpec(dim=3), seed=1, rate=2.0, categories=np.arange(12) % 5)
    batch = data.__getitems__([(k, 3) for k in range(12)])
    assert batch["unreadable"] == []
    assert batch["index"].tolist() == list(range(12))
    assert batch["video_id"] == [f"v{k}" for k in range(12)]
    assert batch["category"].tolist() == [k % 5 for k in range(12)]
    assert {batch[k].dtype for k in ("label", "index", "category")} == {torch.int64}
    assert batch["features"].dtype == torch.float32
    assert set(batch["label"].tolist()) == {0, 1}
    rows = (
        torch.from_numpy(batch["times"]) * 2
    )  # an array, for Apple's GPUs take no doubles; first row, row after the last; a clip's mean row is their middle
    middle = (rows.sum(2) - 1) / 2
    forward = torch.where(batch["label"][:, None] == 1, middle, middle.flip(1))
    assert torch.allclose(batch["features"][..., 1].double(), forward, atol=1e-3)
    assert (batch["features"][..., 0] == batch["index"][:, None]).all()
    assert torch.allclose(batch["features"][..., 2], torch.tensor(1000.0))
    assert (rows[:, 1:, 0] >= rows[:, :-1, 1]).all()


def test_a_sample_does_not_depend_on_its_batch(tmp_path):
    data = OrderSamples(write(tmp_path, 9), FeatureSpec(dim=3), seed=1)
    whole = data.__getitems__([(k, 0) for k in range(9)])
    again = data.__getitems__([(7, 0), (2, 0)])
    assert torch.equal(again["features"], whole["features"][[7, 2]])
    assert np.array_equal(again["times"], whole["times"][[7, 2]])
    later = data.__getitems__([(k, 1) for k in range(9)])
    assert not np.array_equal(later["times"], whole["times"])
    fixed = data.__getitems__([7, 2])
    assert torch.equal(data[7]["features"], fixed["features"][:1])
    assert not np.array_equal(OrderSamples(data.videos, data.spec, seed=2)[7]["times"], fixed["times"][:1])


def test_half_is_reversed_unless_none_is_to_be(tmp_path):
    records = write(tmp_path, 1)
    keys = [(0, epoch) for epoch in range(400)]
    labels = OrderSamples(records, FeatureSpec(dim=3)).__getitems__(keys)["label"]
    assert 160 < labels.sum() < 240
    batch = OrderSamples(records, FeatureSpec(dim=3, reverse=False)).__getitems__(keys)
    assert batch["label"].all()
    assert (batch["features"][:, 1:, 1] > batch["features"][:, :-1, 1]).all()


def test_categories_are_drawn_alike_and_videos_within_them(tmp_path):
    categories = np.array([7] * 90 + [2] * 9 + [4])
    data = OrderSamples([Record(tmp_path, "")] * 100, FeatureSpec(), categories=categories, balanced=True)
    drawn = np.concatenate([data.draw_videos(np.arange(100), epoch) for epoch in range(60)])
    assert np.array_equal(data.draw_videos(np.arange(100), 0), drawn[:100])
    by_category = {c: (categories[drawn] == c).sum() for c in (2, 4, 7)}
    assert all(1850 < count < 2150 for count in by_category.values())
    assert set(drawn.tolist()) == set(range(100))
    assert np.bincount(drawn)[90:99].max() < 290  # 222 each
    plain = OrderSamples([Record(tmp_path, "")] * 100, FeatureSpec(), categories=categories)
    assert plain.draw_videos(np.arange(100), 0).tolist() == list(range(100))


def damage(records):
    records[1].path.unlink()
    os.truncate(records[2].path, 200)
    rows = np.load(records[3].path)
    rows[:, 1] = np.nan
    np.save(records[3].path, rows)
    np.save(records[4].path, rows[:8, :3] * 0)


def test_what_cannot_be_read_is_replaced_and_told_of(tmp_path):
    records = write(tmp_path, 10)
    damage(records)
    data = OrderSamples(records, FeatureSpec(dim=3))
    batch = data.__getitems__([(k, 0) for k in range(10)])
    assert len(batch["features"]) == 10
    assert torch.isfinite(batch["features"]).all()
    assert not {1, 2, 3, 4} & set(batch["index"].tolist())
    assert (batch["features"][..., 0] == batch["index"][:, None]).all()
    told = dict(batch["unreadable"])
    assert {1, 2, 3, 4} == set(told)
    for number, words in enumerate(("no such file", "truncated", r"holds NaN", "8 rows, too few"), 1):
        assert words in told[number]
        assert told[number].startswith(f"v{number}: ")
    fixed = data.__getitems__(list(range(10)))  # nothing takes a video's place in a test
    assert fixed["index"].tolist() == [0, 5, 6, 7, 8, 9]
    assert sorted(dict(fixed["unreadable"])) == [1, 2, 3, 4]
    assert fixed["times"].shape == (6, 5, 2)
    nothing = data.__getitems__([1, 2])
    assert nothing["features"].shape == (0, 5, 3)
    assert nothing["label"].shape == (0,)


def test_nothing_but_broken_videos_is_an_error(tmp_path):
    data = OrderSamples([Record(tmp_path / "gone.npy", "gone")], FeatureSpec())
    with pytest.raises(DataError, match=r"in a row could not be read; the last: gone: .*no such file"):
        data.__getitems__([(0, 0)])
    assert data.__getitems__([0])["index"].tolist() == []
    with pytest.raises(DataError, match="rate must be above 0"):
        OrderSamples([], FeatureSpec(), rate=0)


@pytest.mark.parametrize("places", [None, np.arange(1000) // 50])
def test_processes_share_an_epoch_and_resume_in_it(tmp_path, places):
    data = OrderSamples([Record(tmp_path, "")] * 1000, FeatureSpec())
    shares = []
    for rank in range(3):
        sampler = OrderSampler(data, rank, 3, seed=4, places=places, spread=4)
        sampler.set_epoch(2)
        shares.append(list(sampler))
        assert {epoch for _, epoch in shares[-1]} == {2}
        sampler.start = 100
        assert list(sampler) == shares[-1][100:]
        assert len(list(sampler)) == len(sampler) == 333
    seen = [sample for share in shares for sample, _ in share]
    assert len(set(seen)) == 999
    if places is not None:  # each process opens few shards, and each for a short time
        assert max(len({places[s] for s, _ in share}) for share in shares) <= 14
        assert len({places[s] for s, _ in shares[0][:50]}) <= 6
        assert len({places[s] for s, _ in shares[0][100:150]}) >= 3
    few = OrderSampler(OrderSamples([Record(tmp_path, "")] * 2, FeatureSpec()), 4, 5, 0)
    assert len(list(few)) == 1
