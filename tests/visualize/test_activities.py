"""The figure of activities over time: what stands where, and how dark, read off its pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.render import number_in, render
from zoo.data.video import read_frames
from zoo.errors import VideoError, ZooError
from zoo.visualize.activities import Row, draw_activities, likeliest
from zoo.visualize.drawing import INK, PALE

LEFT, ROOM, TOP, STRIP = 316, 810, 46, 104  # pixels
FIRST = TOP + STRIP + 10 + 26  # the top of the first row of cells
TIMES = [0.0, 1.0, 2.0, 3.0]
ROWS = [
    Row("category", "Opening a door", [0.0, 0.5, 1.0, 0.5]),
    Row("category", "Holding a book", [0.5, 0.5, 0.25, 0.0]),
    Row("action", "open", torch.tensor([0.1, 0.2, 0.1, 0.05])),
    Row("object", "door", np.array([0.0, 0.0, 0.0, 0.0])),
]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four seconds of numbered frames, ten a second."""
    return render(tmp_path_factory.mktemp("video") / "four.mp4", frames=40, fps=10)


def drawn(*arguments, **options):
    return np.asarray(Image.open(draw_activities(*arguments, **options)))


def row_of(picture, number, groups):
    """The middle line of a row of cells; ``groups`` kinds have begun before it."""
    top = FIRST + number * 28 + groups * 36
    return picture[top + 12, LEFT : LEFT + ROOM].astype(int)


def at(line, seconds):
    return line[round(ROOM * seconds / 4)]


def test_darker_is_likelier_and_cells_lie_around_their_times(video, tmp_path):
    picture = drawn(video, TIMES, ROWS, tmp_path / "a.png")
    first, second = row_of(picture, 0, 0), row_of(picture, 1, 0)
    lightness = [at(first, t).sum() for t in (0.2, 1.0, 2.0)]
    assert lightness[0] == sum(PALE)
    assert lightness[0] > lightness[1] + 100 > lightness[2] + 200
    assert (at(second, 0.2) == at(first, 1.0)).all(), "a kind has one scale"
    edges = np.flatnonzero((first[1:] != first[:-1]).any(1)) + 1
    assert edges.tolist() == pytest.approx([ROOM * t / 4 for t in (0.5, 1.5, 2.5)], abs=1)
    assert at(row_of(picture, 2, 1), 1.0).sum() == pytest.approx(lightness[2], abs=60), "and each kind its own"
    assert (row_of(picture, 3, 2) == PALE).all()
    assert picture.shape == (FIRST - 26 + 3 * 36 + 4 * 28 + 54, 1200, 3)


def test_the_strip_shows_frames_at_even_times(video, tmp_path):
    picture = drawn(video, TIMES, ROWS, tmp_path / "a.png")
    count = 6
    edges = [round(LEFT + ROOM * n / count) for n in range(count + 1)]
    shown = [number_in(picture[TOP : TOP + STRIP, a + 2 : b - 2]) for a, b in pairwise(edges)]
    assert shown == [int((n + 0.5) * 40 / count) for n in range(count)]


def test_a_folder_of_pictures_and_a_clock_that_begins_late_give_the_same_cells(video, tmp_path):
    folder = tmp_path / "AB12C"
    folder.mkdir()
    for number, frame in enumerate(read_frames(video, range(40)), 1):
        Image.fromarray(frame).save(folder / f"AB12C-{number:06d}.png")
    late = render(tmp_path / "late.mkv", frames=40, times=[5000 + 100 * n for n in range(40)])
    expected = drawn(video, TIMES, ROWS, tmp_path / "a.png")
    for other in (folder, late):
        picture = drawn(other, TIMES, ROWS, tmp_path / "b.png", fps=10)
        assert (picture[FIRST - 26 :] == expected[FIRST - 26 :]).all()
        strip = picture[TOP : TOP + STRIP, LEFT : LEFT + ROOM]
        assert number_in(strip[:, 2 : ROOM // 6 - 2]) == 3
        assert number_in(strip[:, ROOM * 5 // 6 + 2 : -2]) == 36


def test_annotated_times_are_lines_under_their_row(video, tmp_path):
    seen = {"Opening a door": [(1.0, 2.0), (3.5, 99.0), (50.0, 60.0)], "Sitting": [(0.0, 4.0)]}
    picture = drawn(video, TIMES, ROWS, tmp_path / "a.png", annotated=seen)
    under = (picture[FIRST + 25, LEFT : LEFT + ROOM] == INK).all(1)
    expected = np.zeros(ROOM, dtype=bool)
    for start, end in ((1.0, 2.0), (3.5, 4.0)):
        expected[round(ROOM * start / 4) : round(ROOM * end / 4) + 1] = True
    assert (under != expected).sum() <= 3
    assert not (picture[FIRST + 28 + 25, LEFT : LEFT + ROOM] == INK).all(1).any()


@pytest.mark.parametrize("times", [[1.0], [0.0, 0.0, 0.0, 3.9], [0.0, 1.0, 2.0, 30.0]])
def test_any_times(times, video, tmp_path):
    rows = [Row("category", "a very long name " * 9, [0.5] * len(times))]
    line = row_of(drawn(video, times, rows, tmp_path / "a.png"), 0, 0)
    assert (line != PALE).any(1).all()


def test_the_likeliest():
    values = torch.tensor([[0.1, 0.9, 0.3], [0.5, 0.0, 0.2]])
    rows = likeliest("action", ("sit", "open", "hold"), values, 2)
    assert [(row.kind, row.name) for row in rows] == [("action", "open"), ("action", "sit")]
    assert torch.equal(rows[1].values, values[:, 0])
    assert len(likeliest("action", ("sit", "open", "hold"), values, 9)) == 3


def test_what_cannot_be_drawn_says_so_and_leaves_nothing(video, tmp_path):
    out = tmp_path / "out"
    for times, rows, message in (
        (TIMES, [], "nothing to draw"),
        ([], [Row("object", "door", [])], "nothing to draw"),
        (TIMES, [Row("object", "door", [0.1])], "the object 'door' needs a number"),
        (TIMES, [Row("object", "door", [0.1, float("nan"), 0, 0])], "the object 'door' needs"),
        (TIMES, [Row("object", "door", [0.1, -1, 0, 0])], "negative or not finite"),
        ([0.0, 2.0, 1.0, 3.0], ROWS, "seconds that ascend"),
    ):
        with pytest.raises(ZooError, match=message):
            draw_activities(video, times, rows, out / "a.png")
    with pytest.raises(ZooError, match="is a PNG"):
        draw_activities(video, TIMES, ROWS, out / "a.gif")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError):
        draw_activities(tmp_path / "no.mp4", TIMES, ROWS, out / "a.png")
    assert not out.exists()
