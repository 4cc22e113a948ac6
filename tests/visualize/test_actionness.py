"""The figure of actionness over time: what stands where, read off its pixels."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.data.render import number_in, render
from zoo.errors import VideoError, ZooError
from zoo.visualize.actionness import _ANNOTATED, _CURVE, _PROPOSED, draw_curve

LEFT, ROOM, TOP, PLOT, STRIP, LANE, AXIS = 84, 1042, 46, 230, 104, 17, 54  # pixels
BAND = np.round(0.3 * np.array(_ANNOTATED) + 0.7 * 255)


def curve(scores, rate=1.0, proposals=()):
    starts = np.arange(len(scores)) / rate
    return SimpleNamespace(
        video="latte.mp4",
        times=np.stack([starts, starts + 1 / rate], axis=1),
        scores=np.asarray(scores, dtype=np.float32),
        duration=len(scores) / rate,
        proposals=[SimpleNamespace(start=s, end=e, score=x) for s, e, x in proposals],
    )


FOUR = curve([-1.0, 3.0, 1.0, 2.0], proposals=[(1.0, 2.0, 3.0), (0.5, 4.0, 2.0)])


def drawn(*arguments, **options):
    return np.asarray(Image.open(draw_curve(*arguments, **options)))


def near(picture, colour, tolerance=6):
    return (np.abs(picture.astype(int) - colour) <= tolerance).all(-1)


def height_of(value, scores):
    """Where in the plot a value stands, pixels from its top: 7 percent of the spread are above and below the curve."""
    low, high = min(scores), max(scores)
    return PLOT * (high + 0.07 * (high - low) - value) / (1.14 * (high - low))


def test_the_curve_is_at_its_scores_under_frames_at_their_times(tmp_path):
    film = render(tmp_path / "film.mp4", frames=40, fps=10, height=64, width=96)
    picture = drawn(film, FOUR, tmp_path / "c.png")
    assert picture.shape == (TOP + STRIP + 8 + PLOT + 8 + 2 * LANE + AXIS, 1200, 3)
    count = 7
    edges = [round(LEFT + ROOM * n / count) for n in range(count + 1)]
    strip = picture[TOP : TOP + STRIP]
    shown = [number_in(strip[:, a + 2 : b - 2]) for a, b in pairwise(edges)]
    assert shown == [int((n + 0.5) * 40 / count) for n in range(count)]
    plot = picture[TOP + STRIP + 8 :][:PLOT]
    for second, score in enumerate(FOUR.scores):
        rows = np.flatnonzero(near(plot[:, round(LEFT + ROOM * (second + 0.5) / 4)], _CURVE))
        assert rows.mean() == pytest.approx(height_of(score, FOUR.scores), abs=3), second


def test_intervals_are_a_band_and_proposals_bars_where_they_belong(tmp_path):
    picture = drawn(None, FOUR, tmp_path / "c.png", intervals=[(3.0, 3.5), (1.0, 1.5), (1.25, 2.0)])
    row = near(picture[TOP + PLOT - 6], BAND)
    columns = np.flatnonzero(row)
    expected = [x for a, b in ((1, 2), (3, 3.5)) for x in range(LEFT + round(ROOM * a / 4), LEFT + round(ROOM * b / 4))]
    assert len(set(columns) ^ set(expected)) <= 8  # no darker part where two overlap
    for lane, (start, end) in enumerate([(1.0, 2.0), (0.5, 4.0)]):
        bar = np.flatnonzero(near(picture[TOP + PLOT + 8 + lane * LANE + 5], _PROPOSED))
        assert (bar[0], bar[-1]) == pytest.approx((LEFT + ROOM * start / 4, LEFT + ROOM * end / 4), abs=2)
        assert len(bar) == bar[-1] - bar[0] + 1


def test_a_file_of_features_has_no_strip_and_given_proposals_go_before_the_curve_s(tmp_path):
    picture = drawn("features/latte.npy", FOUR, tmp_path / "c.png", proposals=[])
    assert picture.shape == (TOP + PLOT + AXIS, 1200, 3)
    assert not near(picture[TOP:], _PROPOSED).any()


def test_many_rows_are_drawn_as_their_mean(tmp_path):
    scores = np.tile([0.0, 2.0, 1.0, 1.0], 3000)
    plot = drawn(None, curve(scores, rate=5), tmp_path / "c.png")[TOP : TOP + PLOT]
    rows = np.flatnonzero(near(plot[:, LEFT + 5 : LEFT + ROOM - 5], _CURVE, 40).any(1))
    assert rows.mean() == pytest.approx(height_of(1.0, scores), abs=2)
    assert np.ptp(rows) < 40  # of a band that reaches over 200 pixels
    assert near(plot[round(height_of(1.8, scores)), LEFT + 200 : LEFT + ROOM - 200], (201, 219, 239), 8).mean() > 0.9


@pytest.mark.parametrize("scores", [[0.25], [1.0, 1.0], [1e9, -1e9], np.linspace(0, 1e-7, 9)])
def test_any_scores(scores, tmp_path):
    assert drawn(None, curve(scores), tmp_path / "c.png").shape == (TOP + PLOT + AXIS, 1200, 3)


def test_what_cannot_be_drawn_says_so_and_leaves_nothing(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    with pytest.raises(VideoError):
        draw_curve(tmp_path / "no.mp4", FOUR, out / "c.png")
    with pytest.raises(ZooError, match=r"c\.jpg is a PNG"):
        draw_curve(None, FOUR, out / "c.jpg")
    with pytest.raises(ZooError, match=r"latte\.mp4: there is nothing to draw without scores"):
        draw_curve(None, curve([]), out / "c.png")
    with pytest.raises(ZooError, match="the score of row 1 is nan"):
        draw_curve(None, curve([0.0, np.nan]), out / "c.png")
    with pytest.raises(ZooError, match="an annotated interval is from a start to an end"):
        draw_curve(None, FOUR, out / "c.png", intervals=[(2.0, 1.0)])
    shuffled = curve([0.0, 1.0])
    shuffled.times = shuffled.times[::-1]
    with pytest.raises(ZooError, match="must be seconds that ascend"):
        draw_curve(None, shuffled, out / "c.png")
    assert not out.exists()
