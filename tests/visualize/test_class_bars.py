"""The figure of one bar a class: lengths and order, read off its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zoo.errors import ZooError
from zoo.visualize.class_bars import draw_class_bars
from zoo.visualize.drawing import STATES

BLUE, RED = STATES[0], STATES[2]


def drawn(*arguments, **options):
    return np.asarray(Image.open(draw_class_bars(*arguments, **options)))


def bars(picture, colour, columns=slice(None)):
    """The lengths in pixels of the bars of a colour, from top to bottom."""
    there = (picture[:, columns] == colour).all(2)
    rows = there.sum(1)
    starts = np.flatnonzero((rows[1:] > 0) & (rows[:-1] == 0)) + 1
    return [int(rows[start : start + 12].max()) for start in starts]


def test_bars_are_sorted_and_as_long_as_their_values(tmp_path):
    picture = drawn([10.0, 40.0, float("nan"), 20.0], ["a", "b", "c", "d"], tmp_path / "b.png")
    lengths = bars(picture, BLUE)
    assert len(lengths) == 3  # the class without a number is left out
    assert [n / lengths[0] for n in lengths] == pytest.approx([1, 0.5, 0.25], abs=0.01)
    assert bars(picture, RED) == []


def test_differences_go_to_both_sides(tmp_path):
    picture = drawn([30.0, 10.0, 20.0], ["a", "b", "c"], tmp_path / "b.png", against=[10.0, 20.0, 15.0])
    right, left = bars(picture, BLUE), bars(picture, RED)
    assert [n / right[0] for n in (*right, *left)] == pytest.approx([1, 0.25, 0.5], abs=0.02)
    blue, red = (np.flatnonzero((picture == colour).all(2).any(0)) for colour in (BLUE, RED))
    assert red.max() < blue.min() <= red.max() + 4


def test_many_classes_go_on_in_a_second_column_or_only_the_ends_are_drawn(tmp_path):
    values, names = np.arange(1.0, 158.0), [f"class {c}" for c in range(157)]
    picture = drawn(values, names, tmp_path / "b.png")
    middle = picture.shape[1] // 2
    first, second = bars(picture, BLUE, slice(middle)), bars(picture, BLUE, slice(middle, None))
    assert (len(first), len(second)) == (79, 78)
    assert first == sorted(first, reverse=True)
    assert second == sorted(second, reverse=True)
    assert second[0] / first[0] == pytest.approx(78 / 157, abs=0.01)
    ends = bars(drawn(values, names, tmp_path / "e.png", top=2), BLUE)
    assert [n / ends[0] for n in ends] == pytest.approx([1, 156 / 157, 2 / 157, 1 / 157], abs=0.01)


@pytest.mark.parametrize("values", [[0.0, 0.0], [-3.0, -5.0], [1e-4, 2e-4], [1e6]])
def test_any_values(values, tmp_path):
    assert drawn(values, ["x"] * len(values), tmp_path / "b.png").shape[2] == 3


def test_what_cannot_be_drawn_says_so(tmp_path):
    with pytest.raises(ZooError, match="no class has a number"):
        draw_class_bars([float("nan")], ["a"], tmp_path / "b.png")
    with pytest.raises(ZooError, match=r"3 classes have \[2, 3\] numbers"):
        draw_class_bars([1.0, 2.0], ["a", "b", "c"], tmp_path / "b.png")
    with pytest.raises(ZooError, match="is a PNG"):
        draw_class_bars([1.0], ["a"], tmp_path / "b.pdf")
    assert not list(tmp_path.iterdir())
