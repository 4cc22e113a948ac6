"""The arithmetic of trajectories: equal to the published code on every number, and to its probabilities."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests import goldens
from zoo.data.clip_sampling import (
    balanced_starts,
    candidates,
    clip_table,
    draw_starts,
    draw_trajectory,
    labels,
    nominal_count,
    nominal_times,
    spans,
    start_count,
    whole_video,
)
from zoo.spec import TrajectorySpec, VideoSpec

PAPER = TrajectorySpec()
SPEC = VideoSpec(frames=16, stride=1, fps=16, trajectory=PAPER)


def frame_times(video):
    """When the frames of a golden video come on, at a constant rate and rounded to its time base."""
    numerator, denominator = video["time_base"]
    ticks = np.array([round(i / video["fps"] * denominator / numerator) for i in range(video["frames"])])
    return ticks * numerator / denominator


def test_clips_times_labels_and_tokens_are_the_published_ones():
    case = goldens.load("goal_trajectory_clips")
    starts = []
    for number, video in enumerate(case.manifest["config"]["videos"]):
        table = clip_table(video["fps"], frame_times(video), SPEC)
        case.check(f"v{number}.clip_count", torch.tensor(len(table)))
        starts.append(start_count(len(table), PAPER))
        if not len(table):
            continue
        classes = labels(table.times, float(np.median(video["t"])))
        tokens = whole_video(len(table), PAPER.stride, PAPER.cap)
        for name, value in {
            "frame_index_first": table.frames[:, 0],
            "frame_index_last": table.frames[:, -1],
            "frame_indices_first_clip": table.frames[0],
            "label": classes,
            "t_start": table.times[:, 0],
            "t_end": table.times[:, 1],
            "whole_video.labels": classes[tokens],
            "whole_video.centres": table.times[tokens].mean(1),
        }.items():
            case.check(f"v{number}.{name}", torch.from_numpy(value))
    case.check("train.start_positions_per_video", torch.tensor(starts))
    case.assert_complete()


def test_a_trajectory_has_six_to_eight_clips_with_the_published_probabilities():
    assert spans(PAPER) == range(21, 30)
    rng = np.random.default_rng(0)
    drawn = [draw_trajectory(100, 7, PAPER, rng) for _ in range(4500)]
    assert all(t.tolist() == list(range(7, 7 + 4 * len(t), 4)) for t in drawn)
    shares = Counter(len(t) for t in drawn)
    assert {n: round(9 * count / 4500, 0) for n, count in shares.items()} == {6: 4, 7: 4, 8: 1}


@pytest.mark.parametrize(
    ("clips", "stride", "expected"),
    [((1, 1), 4, [1]), ((7, 9), 4, [7, 8, 9]), ((1, 1), 1, [1]), ((2, 5), 1, [2, 3, 4, 5])],
)
def test_other_ranges_of_clips(clips, stride, expected):
    trajectory = TrajectorySpec(clips=clips, stride=stride)
    rng = np.random.default_rng(0)
    assert sorted({len(draw_trajectory(99, 0, trajectory, rng)) for _ in range(300)}) == expected
    shortest = (clips[0] - 1) * stride + 1
    assert [start_count(n, trajectory) for n in (shortest - 1, shortest, shortest + 4)] == [0, 1, 5]


def test_a_trajectory_is_cut_where_the_video_ends():
    rng = np.random.default_rng(0)
    last = start_count(37, PAPER) - 1
    assert {tuple(draw_trajectory(37, last, PAPER, rng)) for _ in range(50)} == {(16, 20, 24, 28, 32, 36)}


def test_starts_are_distinct_and_cover_the_video():
    seen = Counter()
    for seed in range(300):
        starts = draw_starts(37, PAPER, np.random.default_rng(seed)).tolist()
        assert len(set(starts)) == 10
        seen.update(starts)
    assert sorted(seen) == list(range(17))
    assert max(seen.values()) < 1.4 * min(seen.values())
    assert draw_starts(22, PAPER, np.random.default_rng(0)).tolist() in ([0, 1], [1, 0])
    assert draw_starts(20, PAPER, np.random.default_rng(0)).tolist() == []


def test_the_whole_video_is_capped_by_candidates():
    assert whole_video(61, 4, 50).tolist() == list(range(0, 50, 4))
    assert whole_video(61, 4, None).tolist() == list(range(0, 61, 4))
    assert whole_video(3, 1, 50).tolist() == [0, 1, 2]


def test_what_the_annotated_length_promises_is_what_a_file_at_that_rate_has():
    for frames in (15, 16, 20, 160, 163):
        table = clip_table(16.0, np.arange(frames) / 16, SPEC)
        assert nominal_count(frames / 16, SPEC) == len(table)
        np.testing.assert_array_equal(nominal_times(len(table), SPEC), table.times)


def test_clips_of_spread_frames():
    spec = SPEC.replace(frames=4, stride=3, fps=None)
    assert [candidates(n, spec) for n in (9, 10, 13, 14)] == [0, 1, 1, 2]
    assert clip_table(25.0, np.arange(14) / 25, spec).frames.tolist() == [[0, 3, 6, 9], [4, 7, 10, 13]]


def test_a_failure_between_two_clips_belongs_to_none():
    times = np.array([[0.0, 0.9375], [1.0, 1.9375]])
    assert labels(times, 0.9375).tolist() == [1, 2]
    assert labels(times, 0.95).tolist() == [0, 2]
    assert labels(times, 1.0).tolist() == [0, 1]
    assert labels(times, 7).tolist() == [0, 0]


def test_single_clips_are_balanced_within_a_video():
    label = np.array([0] * 20 + [1] * 4 + [2] * 6)
    rng = np.random.default_rng(0)
    spec = TrajectorySpec(clips=(1, 1), balanced=True, starts=1000)
    starts = balanced_starts(label, spec, rng)
    assert np.bincount(label[starts]).tolist() == [20, round(20 * 0.93), round(20 / 0.93)]
    assert len(set(starts[label[starts] == 0])) == 20  # the most frequent class is not repeated
    assert len(balanced_starts(label, TrajectorySpec(clips=(1, 1), balanced=True), rng)) == 10
