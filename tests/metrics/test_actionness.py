"""Action against background: scikit-learn's numbers, segments read plainly, proposals, and chance against draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.actionness import (
    ActionnessScore,
    ChanceAP,
    segment_labels,
    segment_scores,
    untrimmed,
)
from zoo.metrics.proposals import average_recall
from zoo.metrics.ranking import tied_average_precision
from zoo.networks.grouping import proposals


def test_segments_of_four_videos():
    case = goldens.load("actionness_action_background_ap")
    metrics = {name: ActionnessScore(proposals=False) for name in ("scores", "trimmed_chance", "constant")}
    for video in range(4):
        duration, intervals = float(case.stored[f"duration{video}"]), case.stored[f"intervals{video}"]
        case.check(f"labels{video}", segment_labels(intervals, duration))
        trimmed = case.stored[f"trimmed_chance{video}"] == -1
        assert torch.equal(~trimmed, untrimmed(duration, 0.3))
        for name, metric in metrics.items():
            scores = torch.full(trimmed.shape, 0.7) if name == "constant" else case.stored[f"{name}{video}"]
            assert torch.equal(segment_scores(scores, 5.0, duration), scores)
            metric.update(scores, intervals=intervals, duration=duration, rate=5.0, video=video)
    result = metrics["scores"].compute()
    case.check("ap.pooled", result["ap"][None] / 100)
    case.check("ap.mean_per_video", result["ap_video"][None] / 100)
    case.check("positive_rate", result["positive_rate"][None] / 100)
    own = [row["ap"] / 100 for row in metrics["scores"].per_video()]
    case.check("ap.per_video", torch.tensor(own, dtype=torch.float64))
    case.check("ap.trimmed_chance_pooled", metrics["trimmed_chance"].compute()["ap"][None] / 100)
    case.check("ap.constant_score", metrics["constant"].compute()["ap"][None] / 100)
    scores = torch.cat([case.stored[f"scores{video}"] for video in range(4)])
    labels = torch.cat([case.outputs[f"labels{video}"] for video in range(4)])
    case.check("ap.voc_interpolated_pooled", tied_average_precision(scores, labels, interpolated=True)[None])
    case.assert_complete()


def test_labels_read_plainly():
    draw = np.random.default_rng(0)
    for duration in (0.05, 0.2, 0.2 + 1e-7, 3.0, 7.13, 12.6):
        for count in (0, 1, 6):
            intervals = np.sort(draw.integers(-3, 75, (count, 2)) / 5 + draw.choice([0, 0.05], (count, 1)), axis=1)
            expected = []
            for k in range(math.ceil(duration / 0.2 - 1e-6)):
                start, end = 0.2 * k, min(0.2 * (k + 1), duration)
                expected.append(int(any(min(b, end) - max(a, start) > 1e-6 for a, b in intervals)))
            assert segment_labels(intervals, duration).tolist() == expected


def test_a_segment_has_the_score_of_the_nearest_row():
    assert segment_scores(torch.arange(2), 1.0, 2.0).tolist() == [0] * 5 + [1] * 5
    assert segment_scores(torch.arange(9), 10.0, 0.8).tolist() == [1, 3, 5, 7]  # of two as near the later
    assert segment_scores(torch.arange(4), 5.0, 1.2).tolist() == [0, 1, 2, 3, 3, 3]
    rows = torch.arange(700)
    for rate in (1.0, 1.5, 2.5, 3.7, 5.0, 24.0):
        centres = 0.2 * (torch.arange(100, dtype=torch.float64) + 0.5)
        off = (rows + 0.5) / rate - centres[:, None]
        nearest = off.gather(1, segment_scores(rows, rate, 20.0).long()[:, None])[:, 0].abs()
        torch.testing.assert_close(nearest, off.abs().amin(1), atol=1e-5, rtol=0)


def video_of_noise(video: int) -> dict:
    draw = torch.Generator().manual_seed(video)
    rows = 3 + 90 * video
    ends = rows / 5 * torch.rand(video % 4, 2, generator=draw, dtype=torch.float64)
    return {
        "row_scores": 3 * torch.randn(rows, generator=draw),
        "intervals": ends.sort(1).values,
        "duration": rows / 5 + 0.05 * (video % 3),
        "rate": 5.0,
        "video": video,
    }


def test_recall_of_proposals_is_that_of_whole_videos():
    metric, given = ActionnessScore(normalize="rank", iou=0.97), [video_of_noise(video) for video in range(9)]
    for video in given:
        metric.update(**video)
    found = {
        v["video"]: proposals(v["row_scores"], len(v["row_scores"]) / 5, normalize="rank", iou=0.97) for v in given
    }
    curve = average_recall({v["video"]: v["intervals"] for v in given}, found, 100)
    result = metric.compute()
    for number in (1, 5, 10, 50, 100):
        assert result[f"ar_{number}"] == 100 * curve.average[number - 1]
    assert 0 < result["ar_10"] < result["ar_100"]
    assert result["auc"] == curve.auc
    assert np.array_equal(metric.curve().recall, curve.recall)
    assert sum(map(len, found.values())) > 100 * 6 > sum(len(found[v]) for v in range(9) if v % 4)  # some are cut
    assert [row["proposals"] for row in metric.per_video()] == [len(found[video]) for video in range(9)]


def test_a_video_without_action_one_full_of_it_and_one_without_rows():
    metric = ActionnessScore()
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    metric.update(scores, intervals=[], duration=1.0, rate=5.0, video=0)
    assert {name: float(value) for name, value in metric.compute().items()} == dict.fromkeys(
        ("ap", "ap_video", "positive_rate", "ar_1", "ar_5", "ar_10", "ar_50", "ar_100", "auc"), 0
    ) | {"videos": 1}
    metric.update(scores, intervals=[[0.5, 1.0], [-1.0, 0.7]], duration=1.0, rate=5.0, video=1)
    metric.update(scores[:0], intervals=[[0.0, 1.0]], duration=1.0, rate=5.0, video=2)
    result = metric.compute()
    assert (result["ap"], result["ap_video"], result["positive_rate"], result["videos"]) == (50, 100, 50, 2)
    single = ActionnessScore()  # of one segment
    single.update(torch.tensor([0.3]), intervals=[[0.0, 0.1]], duration=0.1, rate=5.0, video=0)
    assert (single.compute()["ap"], single.compute()["positive_rate"]) == (100, 100)


def test_chance_is_the_mean_of_draws():
    draw = np.random.default_rng(0)
    durations = (9.97, 6.0, 4.4)
    intervals = [np.array([[0.5, 2.0], [6.0, 8.0]]), np.array([[3.0, 3.5]]), np.zeros((0, 2))]
    for trim in (0.0, 0.3):
        metric, pooled, own = ChanceAP(trim), [], []
        for video, (times, duration) in enumerate(zip(intervals, durations, strict=True)):
            metric.update(times, duration, video)
        labels = [segment_labels(*video) for video in zip(intervals, durations, strict=True)]
        for _ in range(250):
            scores = [torch.from_numpy(draw.random(len(y))) for y in labels]
            scores = [s.where(untrimmed(d, trim), -1) for s, d in zip(scores, durations, strict=True)]
            pooled.append(float(tied_average_precision(torch.cat(scores), torch.cat(labels))))
            own.append(np.mean([tied_average_precision(s, y) for s, y in zip(scores[:2], labels[:2], strict=True)]))
        result = metric.compute()
        assert float(result["ap"]) == pytest.approx(100 * np.mean(pooled), abs=0.8)
        assert float(result["ap_video"]) == pytest.approx(100 * np.mean(own), abs=1)
        assert float(result["positive_rate"]) == pytest.approx(100 * float(torch.cat(labels).double().mean()))
    everywhere = ChanceAP(0.49)  # nothing of what is done lies in the middle: all that is done enters last
    everywhere.update([[0.0, 1.0]], 10.0, 0)
    assert everywhere.compute()["ap"] == 10


def test_what_cannot_be_scored_is_refused_by_name():
    metric, chance = ActionnessScore(), ChanceAP()

    def give(
        scores=(0.0, 1.0), intervals=((0.0, 0.2),), duration: float = 0.4, rate: float = 5.0, video: int = 7
    ) -> None:
        metric.update(torch.tensor(scores), intervals=intervals, duration=duration, rate=rate, video=video)

    give()
    for bad in (math.nan, math.inf):
        with pytest.raises(ZooError, match=f"video 7: the score of row 1 is {bad}; scores must be finite"):
            give((0.0, bad))
    with pytest.raises(ZooError, match=r"video 7: scores must be \[T\], one for each row, got \(1, 2\)"):
        give(((0.0, 1.0),))
    for times in (((3.0, 4.0), (2.0, 1.0)), ((3.0, 4.0), (1.0, math.nan))):
        with pytest.raises(ZooError, match=r"video 7: interval 1 is \[.*\]; intervals must be finite"):
            give(intervals=times)
        with pytest.raises(ZooError, match=r"ChanceAP\.update: video 7: interval 1"):
            chance.update(times, 0.4, 7)
    with pytest.raises(ZooError, match=r"video 7: intervals must be \[K, 2\]"):
        give(intervals=(1.0, 2.0))
    for duration in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ZooError, match="video 7: a duration of"):
            give(duration=duration)
        with pytest.raises(ZooError, match="video 7: a duration of"):
            chance.update([[0.0, 1.0]], duration, 7)
    for rate in (0.0, math.nan):
        with pytest.raises(ZooError, match="video 7: scores"):
            give(rate=rate)
    with pytest.raises(ZooError, match="numbered from 0"):
        give(video=-1)
    with pytest.raises(ZooError, match=r"0 to below 0\.5, got 0\.5"):
        ChanceAP(0.5)
    assert metric.compute()["videos"] == 1
