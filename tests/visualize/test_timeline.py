"""The figure of a timeline: what stands where, read off its pixels."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.data.render import number_in, render
from zoo.errors import VideoError, ZooError
from zoo.visualize.drawing import INK, PALE, STATES, clock, plain, shortened, ticks
from zoo.visualize.timeline import timeline

LEFT, ROOM, PLOT, STRIP = 74, 1102, 230, 104  # pixels


def moments(*rows):
    """Clips of a second, one after another, with these probabilities."""
    names = ("intentional", "transitional", "unintentional")
    return [
        SimpleNamespace(start=float(second), end=second + 15 / 16, **dict(zip(names, row, strict=True)))
        for second, row in enumerate(rows)
    ]


FOUR = moments((0.9, 0.1, 0.0), (0.6, 0.3, 0.1), (0.1, 0.5, 0.4), (0.2, 0.1, 0.7))


def cells(picture, count, top, height=STRIP):
    """The frames of the strip, without their rims."""
    edges = [round(LEFT + ROOM * n / count) for n in range(count + 1)]
    return [picture[top : top + height, a + 2 : b - 2] for a, b in pairwise(edges)]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four seconds of numbered frames, ten a second."""
    return render(tmp_path_factory.mktemp("video") / "four.mp4", frames=40, fps=10)


def drawn(*arguments, **options):
    return np.asarray(Image.open(timeline(*arguments, **options)))


def test_lines_stand_at_their_seconds_and_curves_at_their_values(video, tmp_path):
    picture = drawn(video, FOUR, 2.5, tmp_path / "t.png", annotated=[1.0, -1, float("nan")])
    assert picture.shape[1] == 1200
    top = 46 + 2 * 28
    columns = np.flatnonzero((picture[top + 3 : top + PLOT - 3] == INK).all(2).all(0))
    assert columns.mean() == pytest.approx(LEFT + ROOM * 2.5 / 4, abs=1.5)
    broken = (picture[top : top + PLOT] == INK).all(2).mean(0)
    assert 0.4 < broken[round(LEFT + ROOM * 1.0 / 4)] < 0.7, "the annotation's line is dashed"
    for moment in (FOUR[0], FOUR[3]):
        x = round(LEFT + ROOM * (moment.start + moment.end) / 8)
        for value, colour in zip((moment.intentional, moment.transitional, moment.unintentional), STATES, strict=True):
            if value == 0.2:  # another curve crosses here
                continue
            rows = np.flatnonzero((np.abs(picture[top - 2 : top + PLOT + 2, x].astype(int) - colour) < 12).all(1)) - 2
            assert rows.mean() == pytest.approx((1 - value) * PLOT, abs=2), colour


def test_the_strip_shows_frames_at_even_times(video, tmp_path):
    picture = drawn(video, FOUR, None, tmp_path / "t.png")
    count = 8
    shown = [number_in(cell) for cell in cells(picture, count, 46 + PLOT + 8)]
    assert shown == [int((n + 0.5) * 40 / count) for n in range(count)]


def test_a_clock_that_does_not_begin_at_zero_is_kept(tmp_path):
    late = render(tmp_path / "late.mkv", frames=40, times=[5000 + 100 * n for n in range(40)])
    shifted = [SimpleNamespace(**{**vars(m), "start": m.start + 5, "end": m.end + 5}) for m in FOUR]
    picture = drawn(late, shifted, 7.5, tmp_path / "t.png")
    assert number_in(cells(picture, 8, 46 + 28 + PLOT + 8)[0]) == 2
    columns = np.flatnonzero((picture[80 : 70 + PLOT] == INK).all(2).all(0))
    assert columns.mean() == pytest.approx(LEFT + ROOM * 2.5 / 4, abs=1.5)


def test_what_was_not_evaluated_is_grey(video, tmp_path):
    picture = drawn(video, FOUR[:2], None, tmp_path / "t.png")
    row = picture[46 + 40]
    seen = LEFT + ROOM * FOUR[1].end / 4
    assert (row[round(seen) + 3 : LEFT + ROOM - 2] == PALE).all()
    assert not (row[LEFT + 3 : round(seen) - 3] == PALE).all(1).any()


@pytest.mark.parametrize(
    ("size", "frames", "count", "height"),
    [((256, 144), 60, 13, 156), ((64, 64), 3, 3, STRIP), ((64, 640), 60, 1, STRIP)],
)
def test_any_shape_and_length_of_video(tmp_path, size, frames, count, height):
    video = render(tmp_path / "x.mp4", frames=frames, fps=10, height=size[0], width=size[1])
    picture = drawn(video, FOUR[:1], 0.2, tmp_path / "t.png", annotated=0.1)
    assert picture.shape == (46 + 56 + PLOT + 8 + height + 54, 1200, 3)
    if count == 13:
        shown = [number_in(cell) for cell in cells(picture, count, 46 + 56 + PLOT + 8, height)]
        assert shown[-1] == int(12.5 * frames / count)


@pytest.mark.slow
def test_ten_minutes(tmp_path):
    video = render(tmp_path / "long.mp4", frames=610, fps=1)
    many = [SimpleNamespace(**{**vars(FOUR[n % 4]), "start": float(n), "end": n + 1.0}) for n in range(610)]
    picture = drawn(video, many, 431.5, tmp_path / "t.png")
    assert number_in(cells(picture, 8, 46 + 28 + PLOT + 8)[-1]) == int(7.5 * 610 / 8)


def test_a_video_with_a_broken_end_is_drawn_as_far_as_it_goes(tmp_path):
    video = render(
        tmp_path / "x.mp4", frames=40, fps=10, options={"g": "1"}, container_options={"movflags": "faststart"}
    )
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    picture = drawn(video, FOUR, None, tmp_path / "t.png")
    frames = cells(picture, 8, 46 + PLOT + 8)
    assert [number_in(cell) for cell in frames[:4]] == [2, 7, 12, 17]
    assert (frames[-1][5:40, -20:] == PALE).all()


def test_what_cannot_be_drawn_says_so_and_leaves_nothing(video, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ZooError, match="without moments"):
        timeline(video, [], 1.0, out / "t.png")
    with pytest.raises(ZooError, match=r"t\.jpg is a PNG"):
        timeline(video, FOUR, 1.0, out / "t.jpg")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError):
        timeline(tmp_path / "no.mp4", FOUR, 1.0, out / "t.png")
    assert not out.exists()
    out.write_text("in the way")
    with pytest.raises(ZooError, match="not a usable folder"):
        timeline(video, FOUR, 1.0, out / "t.png")


def test_words_and_numbers_of_axes():
    assert ticks(0, 10, 15) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert ticks(0.05, 1.0, 5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(5, 3605, 15)[:3] == [300, 600, 900]
    assert [clock(t, True) for t in (0, 65, 3665.4)] == ["0:00", "1:05", "1:01:05"]
    assert clock(2.5, False) == "2.5"
    assert plain("“Über” – 日本") == '"Uber" - ??'
    short = shortened("a very long name of a video.mp4", 100, 15)
    assert short.startswith("a very")
    assert "..." in short
    assert short.endswith(".mp4")
