"""The figure of average recall: curves and names in their order, read off its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zoo.errors import ZooError
from zoo.metrics.proposals import RecallCurve
from zoo.visualize.average_recall import _HUES, draw_average_recall

LEFT, TOP, RIGHT, BOTTOM, WIDTH, HEIGHT = 84, 62, 290, 64, 1000, 560  # pixels


def curve(numbers, average):
    return RecallCurve(np.tile(average, (10, 1)), np.asarray(average), np.asarray(numbers))


def near(picture, colour):
    return (np.abs(picture.astype(int) - colour) <= 10).all(-1)


def test_curves_stand_at_their_values_and_names_in_the_order_of_their_ends(tmp_path):
    numbers = np.arange(1, 101)
    curves = {"low": curve(numbers, 0.002 * numbers), "high": curve(numbers, 0.3 + 0.002 * numbers)}
    picture = np.asarray(Image.open(draw_average_recall(curves, tmp_path / "r.png")))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    plot = picture[TOP : HEIGHT - BOTTOM + 1, : WIDTH - RIGHT]
    for (_, recall, _), colour in zip(curves.values(), _HUES, strict=False):
        for number in (25, 75):
            rows = np.flatnonzero(near(plot[:, round(LEFT + (WIDTH - RIGHT - LEFT) * number / 100)], colour))
            share = recall[number - 1] / (1.08 * 0.5)
            assert rows.mean() == pytest.approx((HEIGHT - BOTTOM - TOP) * (1 - share), abs=2)
    legend = picture[:, WIDTH - RIGHT + 20 :]
    places = [np.flatnonzero(near(legend, colour).any(1)).mean() for colour in _HUES[:2]]
    assert places[1] < places[0], "the curve that ends higher is named first"


def test_more_curves_than_colours_differ_in_their_strokes(tmp_path):
    numbers = np.arange(1, 11)
    curves = {f"curve {n}": curve(numbers, np.full(10, 0.9 - 0.04 * n)) for n in range(20)}
    picture = np.asarray(Image.open(draw_average_recall(curves, tmp_path / "r.png")))
    assert picture.shape[0] == TOP + 21 * 30
    rows = picture[:, LEFT + 90 : WIDTH - RIGHT - 4]
    for colour in _HUES:
        shares = near(rows, colour).mean(1)  # of each row of pixels, how much is of the colour
        assert (shares > 0.97).any(), "one of its curves is solid"
        assert ((shares > 0.3) & (shares < 0.9)).any(), "and another is not"


def test_what_cannot_be_drawn_says_so(tmp_path):
    for curves, words in [
        ({}, "needs a curve or more"),
        ({"a": curve([1, 2], [0.1])}, "a: each number of proposals wants one average recall"),
        ({"a": curve([2, 1], [0.1, 0.2])}, "must ascend"),
        ({"a": curve([1, 2], [0.1, 41.0])}, "must lie in 0..1"),
        ({"a": curve([1, 2], [0.1, np.nan])}, "must lie in 0..1"),
    ]:
        with pytest.raises(ZooError, match=words):
            draw_average_recall(curves, tmp_path / "r.png")
    assert not list(tmp_path.iterdir())
