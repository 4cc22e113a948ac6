"""From a file to its clips: the right frames at the right times, each decoded once, a few at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.failures import SPEC
from tests.data.render import numbers_in, render
from zoo.data.decoder import Decoder
from zoo.data.pixels import centre_window
from zoo.data.trajectories import read_trajectory, read_whole_video, whole_video_clips
from zoo.data.video import VideoReader
from zoo.errors import VideoError


def shown(clips):
    """The numbers that clips ``[n, 3, T, H, W]`` show, ``[n][T]``."""
    return [numbers_in(clip.permute(1, 2, 3, 0).numpy()) for clip in clips]


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """Sixty frames in six seconds, square, so that a crop of full height shows a whole frame."""
    return render(tmp_path_factory.mktemp("videos") / "six seconds.mp4", frames=60, height=48, width=48, fps=10)


def test_the_clips_of_a_whole_video(square):
    clips, times = read_whole_video(square, SPEC)
    assert clips.shape == (6, 3, 4, 24, 24)
    assert (clips.dtype, times.dtype) == (torch.float32, torch.float64)
    assert shown(clips) == [[10 * n, 10 * n + 2, 10 * n + 5, 10 * n + 7] for n in range(6)]
    assert times.tolist() == [[n, n + 0.7] for n in range(6)]
    capped, _ = read_whole_video(square, SPEC.replace(trajectory=SPEC.trajectory.__class__(step=2, stride=2, cap=3)))
    assert shown(capped) == shown(clips[:2])  # of the three candidates at 0, 0.5 and 1 second


def test_the_pixels_are_those_of_the_native_frames(square):
    clips, _ = read_whole_video(square, SPEC.replace(test_crop=20))
    with VideoReader(square) as video:
        frames = video.read([10, 12, 15, 17])
    window = centre_window(48, 48, SPEC.replace(test_crop=20))
    np.testing.assert_array_equal(clips[1].numpy(), np.stack([window.cut(frame) for frame in frames], axis=1))


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_batches_join_to_the_whole(square, batch, stride):
    parts = list(whole_video_clips(square, SPEC, stride, batch=batch))
    starts = range(0, 11, stride)
    assert [len(clips) for clips, _ in parts] == [len(starts[at : at + batch]) for at in range(0, len(starts), batch)]
    numbers = [number for clips, _ in parts for number in shown(clips)]
    assert numbers == [[int(2.5 * (2 * start + k)) for k in range(4)] for start in starts]
    assert torch.cat([times for _, times in parts])[:, 0].tolist() == [number[0] / 10 for number in numbers]


def test_slow_videos_repeat_their_frames(tmp_path):
    path = render(tmp_path / "slow.mp4", frames=6, height=48, width=48, fps=1)
    numbers = shown(read_whole_video(path, SPEC)[0])
    assert numbers == [[n] * 4 for n in range(6)]
    overlapping = [n for clips, _ in whole_video_clips(path, SPEC, 1, batch=2) for n in shown(clips)]
    assert overlapping[:3] == [[0] * 4, [0, 0, 1, 1], [1] * 4]


def test_times_are_the_files_own(tmp_path):
    """And so is the rate: this file states 25 frames a second, and shows ten."""
    stamps = [2000 + 100 * n for n in range(60)]
    late = render(tmp_path / "late.mkv", frames=60, height=48, width=48, fps=25, times=stamps)
    clips, times = read_whole_video(late, SPEC)
    assert shown(clips)[1] == [10, 12, 15, 17]
    assert times.tolist() == [[2.0 + n, 2.7 + n] for n in range(6)]


def test_each_frame_is_decoded_once_and_few_are_held(square, monkeypatch):
    asked = []
    pictures = Decoder.pictures

    def watched(self, wanted, use):
        asked.extend(wanted)
        return pictures(self, wanted, use)

    monkeypatch.setattr(Decoder, "pictures", watched)
    list(whole_video_clips(square, SPEC, 1, batch=2))
    assert len(asked) == len(set(asked)) == 24  # six seconds at four a second
    asked.clear()
    read_trajectory(square, SPEC, lambda count: np.array([2, 4, 6]), np.random.default_rng(0))
    assert asked == [10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]


def test_every_clip_of_a_trajectory_has_a_window_of_its_own(tmp_path):
    def ramp(number, height, width):
        return np.broadcast_to(np.linspace(16, 235, width)[None, :, None], (height, width, 3)).astype(np.uint8)

    path = render(tmp_path / "ramp.mp4", frames=60, height=48, width=64, fps=10, picture=ramp)
    spec = SPEC.replace(flip=True)

    def read(seed):
        return read_trajectory(path, spec, lambda count: np.arange(0, count, 2), np.random.default_rng(seed))

    clips, times = read(0)
    assert times[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    slopes = clips[..., -1].mean((1, 3)) - clips[..., 0].mean((1, 3))  # [clips, T]
    assert (slopes.sign() == slopes.sign()[:, :1]).all()  # mirrored for all frames of a clip, or for none
    assert {-1.0, 1.0} <= set(slopes.sign()[:, 0].tolist())
    assert len({round(float(slope.abs()), 1) for slope in slopes[:, 0]}) > 2  # short sides differ
    torch.testing.assert_close(read(0)[0], clips, atol=0, rtol=0)
    assert not torch.equal(read(1)[0], clips)


def test_a_video_shorter_than_one_clip_says_so(tmp_path):
    path = render(tmp_path / "short.mp4", frames=7, height=48, width=48, fps=10)
    with pytest.raises(VideoError, match=r"short\.mp4 is shorter than one clip: it has 7 frames at 10 a second, and a"):
        read_whole_video(path, SPEC)
    with pytest.raises(VideoError, match="shorter than one clip"):
        read_trajectory(path, SPEC, np.arange, np.random.default_rng(0))


@pytest.mark.parametrize("rate", [0.0, 1e-9])
def test_a_rate_that_cannot_be_meant_is_refused(tmp_path, rate, monkeypatch):
    still = render(tmp_path / "still.mp4", frames=1, height=48, width=48, fps=10)
    monkeypatch.setattr(VideoReader, "fps", rate)
    with pytest.raises(VideoError, match=f"1 frames at {rate:g} a second cannot be counted at 4 a second"):
        read_whole_video(still, SPEC)


def test_a_video_that_breaks_off_gives_what_came_before(tmp_path):
    path = render(tmp_path / "torn.mkv", "mjpeg", frames=60, height=48, width=48, fps=10, pix_fmt="yuvj420p")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    clips, times = read_whole_video(path, SPEC)  # such a file promises no number of frames
    assert 1 <= len(clips) < 6
    assert len(times) == len(clips)
