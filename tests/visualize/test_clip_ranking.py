"""The figure of ranked clips: each shows its own middle, read off its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.data.render import number_in, render
from zoo.curves import Clip
from zoo.errors import ZooError
from zoo.visualize.clip_ranking import draw_ranking
from zoo.visualize.drawing import GREY, PALE

MARGIN, HEADING, CAPTION, AFTER, BETWEEN = 24, 34, 44, 12, 8  # pixels


def picture_of(rows, path, films):
    return np.asarray(Image.open(draw_ranking(rows, path, films)))


def test_each_clip_shows_the_frame_in_its_middle(tmp_path):
    film = render(tmp_path / "a.mp4", frames=60, fps=10, height=96, width=128)
    clips = [Clip("a", n * 1.0, n + 1.0, 5.0 - n) for n in range(3)]
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"no video")
    lost = [Clip("b", 0.0, 1.0, -1.0), Clip("elsewhere", 0.0, 1.0, -2.0)]
    picture = picture_of({"highest": clips, "none": [], "lowest": lost}, tmp_path / "r.png", {"a": film, "b": broken})
    width, height = 220, 165
    assert picture.shape[1] == 2 * MARGIN + 3 * width + 2 * BETWEEN
    lefts = [MARGIN + n * (width + BETWEEN) for n in range(3)]
    top = MARGIN + HEADING
    assert [number_in(picture[top : top + height, left : left + width]) for left in lefts] == [5, 15, 25]
    top += height + CAPTION + AFTER + HEADING
    for left in lefts[:2]:  # a crossed box in place of what cannot be had
        box = picture[top : top + height, left : left + width]
        assert set(map(tuple, box.reshape(-1, 3).tolist())) == {PALE, GREY}


def test_more_clips_than_have_room_go_on_below(tmp_path):
    film = render(tmp_path / "a.mp4", frames=60, fps=10, height=96, width=128)
    clips = [Clip("a", n * 0.5, n * 0.5 + 0.2, float(-n)) for n in range(12)]
    picture = picture_of({"lowest": clips}, tmp_path / "r.png", {"a": film})
    width = (1200 - 2 * MARGIN - 9 * BETWEEN) // 10
    height = width * 3 // 4
    tops = [MARGIN + HEADING + line * (height + CAPTION) for line in range(2)]
    shown = [
        number_in(picture[tops[n // 10] :, MARGIN + n % 10 * (width + BETWEEN) :][:height, :width]) for n in range(12)
    ]
    assert shown == [5 * n + 1 for n in range(12)]


def test_what_cannot_be_drawn_says_so(tmp_path):
    with pytest.raises(ZooError, match="no clip was ranked"):
        draw_ranking({"highest": []}, tmp_path / "r.png", {})
    assert not list(tmp_path.iterdir())
