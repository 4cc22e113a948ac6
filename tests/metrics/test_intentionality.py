"""Classes of clips and times of failures: the released script's numbers, and each of its rules alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.intentionality import ChanceScore, IntentionalityScore, chance


def probabilities(clip: dict[str, Any], *, locating: bool) -> list[float]:
    """The clip's three, as the case has them, but for two clips of one video.

    There the case wrote 0.999 over the transition's probability, for a tie, and left the other two and the class as
    they were: no softmax gives that. Of them localisation reads the 0.999, and classification reads the class.
    """
    vector = clip["y_hat_vec"]
    if abs(sum(vector) - 1) < 1e-5:
        return vector
    assert vector[1] == 0.999
    return [0.0005, 0.999, 0.0005] if locating else [0.9 if c == clip["y_hat"] else 0.05 for c in range(3)]


def test_released_script():
    case = goldens.load("goal_trajectory_metrics")
    config = case.manifest["config"]
    names = list(config["annotations"])
    places, classes, guess = IntentionalityScore(), IntentionalityScore(), ChanceScore()
    for video, (name, facts) in enumerate(config["annotations"].items()):
        annotated = torch.tensor(facts["t"], dtype=torch.float64)
        clips = [clip for clip in config["results"] if clip["fn"] == f"val/{name}.mp4"]
        for metric in (places, classes):
            vectors = [probabilities(clip, locating=metric is places) for clip in clips]
            metric.update(
                torch.tensor(vectors, dtype=torch.float64).reshape(-1, 3).log(),
                torch.tensor([clip["y"] for clip in clips], dtype=torch.int64),
                torch.tensor([[clip["t_start"], clip["t_end"]] for clip in clips], dtype=torch.float64).reshape(-1, 2),
                annotated=annotated,
                duration=facts["len"],
                video=video,
            )
        if clips:
            guess.update(annotated, facts["len"], video)
    result, by_chance, videos = places.compute(), guess.compute(), places.per_video()
    case.check("cls_acc_percent", classes.compute()["cls_acc"])
    case.check("confusion_gt_by_pred", classes.confusion().float())
    for name in ("loc_1s", "loc_025s", "mean_rel_error", "median_rel_error"):
        case.check(f"{name}_percent", result[name])
    for name in ("mean_abs_error", "median_abs_error"):
        case.check(f"{name}_seconds", result[name])
    for name in ("loc_1s", "loc_025s"):
        case.check(f"chance_{name}_percent", by_chance[name])
        case.check(f"{name}_per_video", torch.tensor([100.0 * row[name] for row in videos]))
    case.assert_complete()
    assert [names[row["video"]] for row in videos] == config["counted_videos"]
    assert (result["videos"], result["located"], by_chance["videos"]) == (40, 30, 30)
    assert by_chance["cls_acc"] == 100 / 3


def update(
    metric: IntentionalityScore,
    transition: list[float],
    annotated: list[float],
    *,
    duration: float = 10.0,
    video: int = 0,
    label: list[int] | None = None,
    order: list[int] | None = None,
) -> None:
    """A clip a second, from 0 to 15/16 s, with such logits of the transition beside two of 0."""
    logits = torch.zeros(len(transition), 3)
    logits[:, 1] = torch.tensor(transition)
    start = torch.arange(len(transition)).double()
    times = torch.stack([start, start + 15 / 16], dim=1)
    labels = torch.tensor(label or [-1] * len(transition), dtype=torch.int64)
    by = torch.tensor(order or range(len(transition)), dtype=torch.int64)
    metric.update(logits[by], labels[by], times[by], annotated=torch.tensor(annotated), duration=duration, video=video)


def found(transition: list[float], annotated: list[float], **options) -> dict | None:
    metric = IntentionalityScore()
    update(metric, transition, annotated, **options)
    rows = metric.per_video()
    return rows[0] if rows else None


def test_the_likeliest_transition_the_earliest_of_equals():
    assert found([0, 3, 1, 3], [2.0])["time"] == 1 + 15 / 32
    assert found([0, 3, 1, 3], [2.0], order=[3, 2, 1, 0])["time"] == 1 + 15 / 32
    assert found([0, 3, 1, 3.001], [2.0])["time"] == 3 + 15 / 32
    metric = IntentionalityScore()  # the largest probability, not the largest logit
    logits = torch.tensor([[9.0, 10.0, 9.0], [0.0, 5.0, 0.0]])
    metric.update(
        logits,
        torch.tensor([0, 0]),
        torch.tensor([[0.0, 1.0], [4.0, 5.0]]),
        annotated=torch.tensor([4.5]),
        duration=9.0,
        video=0,
    )
    assert metric.per_video()[0]["time"] == 4.5


def test_the_nearest_annotator_counts_and_tolerances_are_inclusive():
    row = found([0, 5, 0], [8.0, 1 + 15 / 32 + 0.25, 5.0])
    assert (row["error"], row["loc_025s"], row["loc_1s"]) == (0.25, True, True)
    row = found([0, 5, 0], [8.0, 1 + 15 / 32 + 1, 5.0])
    assert (row["error"], row["loc_025s"], row["loc_1s"]) == (1, False, True)
    # 0.5 s after the start, but 1.47 s after "saw no failure", which stays a time; the third annotator does not exist.
    assert found([5, 0, 0], [-1.0, 3.0, 4.0, math.nan])["error"] == 1 + 15 / 32


@pytest.mark.parametrize(
    ("annotated", "scored"),
    [
        ([0.1], True),
        ([0.0999], False),
        ([9.9], True),
        ([9.91], False),
        ([-1.0, -1.0, 5.0], False),
        ([-1.0, 5.0, 5.0], True),
        ([-1.0, 5.0], True),  # the median of two is their mean
        ([-1.0, 0.5], False),
        ([], False),
        ([math.nan, math.nan], False),
        ([math.nan, 5.0], True),
    ],
)
def test_which_videos_count(annotated, scored):
    metric, guess = IntentionalityScore(), ChanceScore()
    update(metric, [0.0, 1.0], annotated, label=[1, 1])
    guess.update(torch.tensor(annotated, dtype=torch.float64), 10.0, 0)
    result = metric.compute()
    assert result["located"] == len(metric.per_video()) == guess.compute()["videos"] == scored
    assert (result["videos"], result["cls_acc"]) == (1, 50)  # classes count all the same


def test_unlabelled_clips_and_videos_without_clips():
    metric = IntentionalityScore()
    update(metric, [1.0, 1.0, -1.0], [2.0], label=[1, -1, 2])  # of equal logits the lower class: 0, not 2
    update(metric, [], [2.0], video=1)
    assert metric.confusion().tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    result = metric.compute()
    assert (result["cls_acc"], result["videos"]) == (50, 1)


def test_errors_in_seconds_and_of_the_length():
    metric = IntentionalityScore()
    for video, (off, duration) in enumerate([(0.5, 5.0), (1.0, 20.0), (2.0, 10.0), (4.0, 8.0)]):
        update(metric, [5.0, 0.0], [15 / 32 + off], duration=duration, video=video)
    result = {name: float(value) for name, value in metric.compute().items()}
    assert result["mean_abs_error"] == 7.5 / 4
    assert result["median_abs_error"] == 1.5
    assert result["mean_rel_error"] == pytest.approx((10 + 5 + 20 + 50) / 4)
    assert result["median_rel_error"] == pytest.approx(15)
    assert (result["loc_025s"], result["loc_1s"]) == (0, 50)


def test_a_guess_at_random_meets_its_expectation():
    draw = torch.Generator().manual_seed(0)
    for moment, duration in ((0.4, 6.0), (3.0, 6.0), (5.9, 6.0)):
        guesses = duration * torch.rand(200_000, generator=draw, dtype=torch.float64)
        for tolerance in (1.0, 0.25):
            share = float(((guesses - moment).abs() <= tolerance).double().mean())
            assert chance(moment, duration, tolerance) == pytest.approx(share, abs=0.005)


def test_what_cannot_be_scored_is_refused_by_name():
    logits, label, times = torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [1.0, 2.0]])

    def give(
        logits: Tensor = logits,
        label: Tensor = label,
        times: Tensor = times,
        duration: float = 5.0,
        video: int = 7,
        annotated: Tensor = torch.tensor([1.0]),  # noqa: B008
    ) -> None:
        IntentionalityScore().update(logits, label, times, annotated=annotated, duration=duration, video=video)

    give()
    broken = logits.clone()
    broken[1, 2] = torch.nan
    with pytest.raises(ZooError, match=r"video 7, clip 1: the logits .* are not finite"):
        give(broken)
    with pytest.raises(ZooError, match=r"video 7, clip 0: the times \[inf, inf\] are not finite"):
        give(times=times + torch.inf)
    with pytest.raises(ZooError, match=r"video 7: labels must be -1, 0, 1 or 2, got \[0, 3\]"):
        give(label=torch.tensor([0, 3]))
    with pytest.raises(ZooError, match=r"video 7: logits \(2, 3\), label \(1,\)"):
        give(label=label[:1])
    for duration in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ZooError, match="video 7: a duration of"):
            give(duration=duration)
    with pytest.raises(ZooError, match=r"video 7: annotated must be \[A\] seconds"):
        give(annotated=torch.tensor([torch.inf]))
    with pytest.raises(ZooError, match="numbered from 0"):
        give(video=-1)
    with pytest.raises(ZooError, match=r"ChanceScore\.update: video 7: a duration"):
        ChanceScore().update(torch.tensor([1.0]), 0.0, 7)
