"""Clips for rows of features: which frames they hold, that each is decoded once, and in how much memory."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch

import zoo
from tests.data.render import numbers_in, render
from zoo.data import row_clips as module
from zoo.data.row_clips import row_clips
from zoo.data.trajectories import whole_video_clips
from zoo.data.video import VideoReader
from zoo.spec import ONE_SECOND, VideoSpec

#: Shows whole pictures, so that their numbers can be read.
SPEC = VideoSpec(
    frames=8, stride=2, crop=48, short_side=(48, 48), test_crop=48, test_short_side=48, size=(48, 48), crops=1
)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """4.44 seconds: 111 frames, 25 a second."""
    return render(tmp_path_factory.mktemp("film") / "film.mp4", frames=111, options={"g": "12", "bf": "2"})


def shown(path, spec, rate, batch=4) -> list[list[int]]:
    """The numbers that each row's frames show."""
    rows = []
    for clips, repeats in row_clips(path, spec, rate, batch):
        assert len(clips) == len(repeats) <= batch
        for clip, count in zip(clips, repeats.tolist(), strict=True):
            rows += [numbers_in(clip.permute(1, 2, 3, 0).numpy())] * count
    return rows


def expected(times, spec, rate) -> list[list[int]]:
    """The rule in words: of equal steps in time around a row's middle, the picture that is on; nothing is clever."""
    seconds = times[-1] * len(times) / (len(times) - 1)
    rows = []
    for row in range(math.ceil(round((seconds - 1e-3) * rate, 6))):
        middle = (row + 0.5) / rate
        if spec.fps:
            ticks = [
                math.floor(middle * spec.fps + 1e-6) + (i - spec.frames // 2) * spec.stride for i in range(spec.frames)
            ]
            on = [max(n for n, time in enumerate(times) if n == 0 or time <= tick / spec.fps + 1e-3) for tick in ticks]
        else:
            more = times[-1] + times[-1] / (len(times) - 1) * np.arange(1, 60)  # if it went on
            centre = max(n for n, time in enumerate([*times, *more]) if n == 0 or time <= middle + 1e-3)
            on = [centre + (i - spec.frames // 2) * spec.stride for i in range(spec.frames)]
        rows.append([min(max(n, 0), len(times) - 1) for n in on])
    return rows


@pytest.mark.parametrize("rate", [1.0, 0.4, 3.0, 12.5])
@pytest.mark.parametrize("fps", [None, 10.0, 50.0])
def test_a_row_sees_the_frames_around_its_middle(film, fps, rate):
    spec = SPEC.replace(fps=fps)
    times = np.arange(111) / 25
    assert shown(film, spec, rate) == expected(times, spec, rate)


def test_the_first_rows_by_hand(film):
    rows = shown(film, SPEC, 1.0)
    assert len(rows) == 5  # 4.44 s
    assert rows[0] == [4, 6, 8, 10, 12, 14, 16, 18]  # frame 12 is on at 0.5 s
    assert rows[4] == [104, 106, 108, 110, 110, 110, 110, 110]  # the last repeats
    assert shown(film, SPEC.replace(frames=1), 1.0) == [[12], [37], [62], [87], [110]]


def test_uneven_frames_are_found_by_their_times(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(0).integers(20, 90, 59)]).tolist()
    path = render(tmp_path / "uneven.webm", "libvpx-vp9", frames=60, times=times)
    for spec in (SPEC, SPEC.replace(fps=16.0, stride=1)):
        with VideoReader(path) as video:
            assert video.times() == pytest.approx(np.array(times) / 1000, abs=2e-3)
            assert shown(path, spec, 2.0) == expected(video.times(), spec, 2.0)


def test_rows_that_see_the_same_share_a_clip(tmp_path):
    path = render(tmp_path / "slow.mp4", frames=6, fps=2)
    (clips, repeats), *rest = row_clips(path, SPEC.replace(stride=1), rate=10.0, batch=8)
    assert repeats.tolist() == [5] * 6
    assert len(clips) == 6
    assert not rest
    assert len(shown(path, SPEC, 10.0)) == 30


def test_a_single_frame_is_a_row(tmp_path):
    path = render(tmp_path / "one.mp4", frames=1)
    assert shown(path, SPEC, 1.0) == [[0] * 8]


def test_pixels_are_those_of_a_test_view(film):
    from zoo.data.transforms import test_views

    spec = VideoSpec(
        frames=6, stride=3, crop=32, short_side=(40, 40), test_crop=32, test_short_side=40, clips=1, crops=1
    )
    (view,) = test_views(film, spec, 0)  # the middle clip begins at frame (111 - 18) // 2 = 46
    found = torch.cat([clips for clips, _ in row_clips(film, spec, rate=111 / 25 / 4.44 / 4.44)])
    assert len(found) == 1  # one row, its middle frame 55 = 46 + 9
    assert torch.equal(found[0], view)


def test_models_of_trajectories_get_the_pixels_that_they_know(film):
    spec = ONE_SECOND.replace(crop=40, short_side=(44, 44), test_crop=40, test_short_side=44)
    found = torch.cat([clips for clips, _ in row_clips(film, spec, rate=1.0)])
    known = torch.cat([clips for clips, _ in whole_video_clips(film, spec)])  # a clip of a second, every second
    assert found.dtype == torch.float32
    assert torch.equal(found[: len(known)], known)


def test_frames_are_decoded_once_and_forgotten(film, monkeypatch):
    decoded, alive = [], []

    class Counting(VideoReader):
        def select(self, numbers, **options):
            assert not decoded
            for number, picture in zip(numbers, super().select(numbers, **options), strict=True):
                decoded.append(number)
                yield picture

    def cutter(height, width, spec):
        def cut(picture):
            window = picture.transpose(2, 0, 1).copy()
            alive.append(weakref.ref(window))
            return window

        return cut

    monkeypatch.setattr(module, "VideoReader", Counting)
    monkeypatch.setattr(module, "_cutter", cutter)
    spec, most = SPEC.replace(stride=1), 0
    for number, _ in enumerate(row_clips(film, spec, rate=5.0, batch=1)):
        assert decoded[-1] == min(number * 5 + 2 + 3, 110)  # not a frame further than the clip's last
        most = max(most, sum(one() is not None for one in alive))
    assert decoded == sorted(set(decoded))
    assert most <= spec.frames + 1


@pytest.mark.parametrize(("name", "content"), [("empty.mp4", b""), ("text.mp4", b"no video" * 100)])
def test_what_is_no_video_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(zoo.VideoError, match=name):
        list(row_clips(tmp_path / name, SPEC))


def test_clips_before_the_damage_come_first(tmp_path):
    options = {"container_options": {"movflags": "faststart"}}
    broken = render(tmp_path / "broken.mp4", "mpeg4", frames=100, options={"g": "1"}, **options)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 6 // 10])
    clips = row_clips(broken, SPEC, 1.0, batch=1)
    assert numbers_in(next(clips)[0][0].permute(1, 2, 3, 0).numpy())[0] == 4
    with pytest.raises(zoo.VideoError, match=r"broken\.mp4"):
        list(clips)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_cannot_be(film, rate):
    with pytest.raises(zoo.ZooError, match="a rate above 0"):
        list(row_clips(film, SPEC, rate))


def test_time_stamps_that_run_away(tmp_path):
    path = render(tmp_path / "far.mkv", frames=2, times=[0, 10**12])
    with pytest.raises(zoo.VideoError, match=r"far\.mkv.*time stamps are damaged"):
        list(row_clips(path, SPEC))
