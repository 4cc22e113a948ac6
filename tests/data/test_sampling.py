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
