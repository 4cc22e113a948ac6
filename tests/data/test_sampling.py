"""Frame numbers and windows against the published protocol, and the laws of the random ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests import goldens
from zoo.data import sampling

GOLDEN = {name: value.numpy() for name, value in goldens.load("nonlocal_protocol").outputs.items()}


def test_clips_start_where_the_release_starts_them():
    for (n, frames, stride), starts, last in zip(
        GOLDEN["sampling/cases_nframes_length_rate"],
        GOLDEN["sampling/start_frame_of_clip_0_to_9"],
        GOLDEN["sampling/frame_indices_clip_9"],
        strict=True,
    ):
        clips = sampling.test_clips(int(n), int(frames), int(stride), 10)
        assert clips.dtype == np.int64
        assert clips[:, 0].tolist() == starts.tolist()
        assert clips[9].tolist() == last[:frames].tolist()


def test_scaled_sizes_and_crops_are_those_of_the_release():
    clamped = 0
    for (height, width, short_side, crop), row in zip(
        GOLDEN["crop/cases_h_w_short_side_crop"],
        GOLDEN["crop/scaled_h_scaled_w_then_top_left_of_positions_0_1_2"],
        strict=True,
    ):
        size = sampling.scaled_size(height, width, short_side)
        corners = np.array(sampling.three_crops(*size, crop)).ravel().tolist()
        if row[2] < 0:  # the release loses a pixel here and has no crop; ours is clamped to the target
            clamped += 1
            assert size == tuple(np.maximum(row[:2], short_side))
        else:
            assert [*size, *corners] == row.tolist()
    assert clamped == 1


@pytest.mark.parametrize("short_side", [112, 128, 224, 256, 288, 320])
def test_no_side_falls_below_the_short_side(short_side):
    for side in range(1, 700):
        assert sampling.scaled_size(side, side + 80, short_side)[0] == short_side
        assert sampling.scaled_size(side + 80, side, short_side)[1] == short_side


def test_crops_lie_along_the_longer_side():
    assert sampling.three_crops(256, 340, 224) == [(16, 0), (16, 58), (16, 116)]
    assert sampling.three_crops(340, 256, 224) == [(0, 16), (58, 16), (116, 16)]
    assert sampling.three_crops(256, 341, 256, crops=1) == [(0, 42)]


def test_a_training_clip_starts_anywhere_that_it_fits_and_nowhere_else():
    rng = np.random.default_rng(0)
    starts = [sampling.train_clip(70, 32, 2, rng)[0] for _ in range(500)]
    assert set(starts) == set(range(70 - 64 + 1))  # the span is frames x stride, not (frames - 1) x stride + 1


@pytest.mark.parametrize("n", [1, 7, 63, 64])
def test_a_short_video_wraps_round(n):
    clip = sampling.train_clip(n, 32, 2, np.random.default_rng(0))
    assert clip.tolist() == [2 * k % n for k in range(32)]


def test_random_choices_reach_both_ends_and_follow_the_seed():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [(sampling.short_side_jitter((10, 12), rng), *sampling.random_crop(9, 11, 8, rng)) for _ in range(300)]

    sides, tops, lefts = map(set, zip(*draw(3), strict=True))
    assert (sides, tops, lefts) == ({10, 11, 12}, {0, 1}, {0, 1, 2, 3})
    assert draw(3) == draw(3) != draw(4)


def test_a_video_without_frames_is_an_error():
    with pytest.raises(ValueError, match="at least one frame"):
        sampling.test_clips(0, 8, 8, 10)


VLOG = {name: value.numpy() for name, value in goldens.load("time_cycle_vlog_sample").outputs.items()}


def test_past_and_target_are_the_frames_of_the_release():
    for n, start, last, *numbers in VLOG["frames"].tolist():
        assert sampling.last_start(n) == last
        chosen = sampling.past_and_target(n, np.random.default_rng(0), start=start)
        assert chosen.dtype == np.int64
        assert (chosen + 1).tolist() == numbers  # the release counts from 1
    for sample, (n, start) in enumerate([(30, 7), (26, 4)]):
        chosen = sampling.past_and_target(n, np.random.default_rng(0), start=start)
        assert (chosen + 1).tolist() == VLOG[f"{sample}.frames"].tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 15, 16, 17, 40])
def test_past_and_target_start_anywhere_and_stay_in_the_video(n):
    rng = np.random.default_rng(0)
    drawn = {tuple(sampling.past_and_target(n, rng)) for _ in range(400)}
    assert drawn == {tuple(sampling.past_and_target(n, rng, start=s)) for s in range(sampling.last_start(n) + 1)}
    assert all(0 <= number < n for numbers in drawn for number in numbers)
    assert all(list(numbers) == sorted(numbers) for numbers in drawn)


def test_past_and_target_scale_with_the_clip():
    chosen = sampling.past_and_target(100, np.random.default_rng(0), 3, 5, start=10)
    assert chosen.tolist() == [10, 15, 20, 10 + 2 * 3 * 5 - 1, 10 + 2 * 3 * 5 - 1 + 5]


@pytest.mark.parametrize("fps", [8, 12, 24, 25, 60])
def test_counting_at_a_rate_shows_the_frame_that_is_on(fps):
    times = np.arange(50) / 25
    n = sampling.count_at_rate(times, fps)
    assert n == 2 * fps
    assert sampling.at_rate(times, fps, np.arange(n)).tolist() == [k * 25 // fps for k in range(n)]


def test_counting_at_a_rate_follows_uneven_frames():
    times = np.array([0, 0.1, 0.2, 0.7, 0.8])  # the last one stays for 0.2 s, as the frames do on average
    assert sampling.count_at_rate(times, 10) == 10
    assert sampling.at_rate(times, 10, np.arange(10)).tolist() == [0, 1, 2, 2, 2, 2, 2, 3, 4, 4]
    rounded = np.round(np.arange(48) / 24, 3)  # as WebM stores them
    assert sampling.at_rate(rounded, 24, np.arange(48)).tolist() == list(range(48))
    assert sampling.count_at_rate(np.zeros(1), 12) == 1
    assert sampling.at_rate(np.zeros(1), 12, np.zeros(3)).tolist() == [0, 0, 0]
