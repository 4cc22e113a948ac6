"""When steps happen: put in order, cut to a video, seen at rows; and what cannot be an interval."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tests.goldens import load
from zoo.data.intervals import Interval, cut, in_order, in_words, interval, row_labels, rows_of, seconds, slug


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 0.0, 1.0, 3), "step 4 is annotated, and the task has 3"),
        ((-1, 0.0, 1.0, 3), "step 0 is annotated, and the task has 3"),
        ((0, 4.5, 2.0, 3), "step 1 is annotated from 4.5 to 2 seconds: it ends before it starts"),
        ((0, math.nan, 2.0, 3), "no seconds of a video"),
        ((0, 0.0, math.inf, 3), "no seconds of a video"),
    ],
)
def test_what_is_no_interval(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        interval(*arguments)


@pytest.mark.parametrize("value", ["", "1,5", "nan", "-inf", None, True, [1.0], "9" * 400])
def test_what_is_no_number_of_seconds(value):
    with pytest.raises(ValueError, match="no number of seconds"):
        seconds(value)


def test_in_order_each_once():
    listed = [Interval(1, 5, 7), Interval(0, 2, 6), Interval(1, 5, 7), Interval(2, 3, 3), Interval(0, 2, 4)]
    kept, tally = in_order(listed)
    assert kept == ((0, 2, 4), (0, 2, 6), (1, 5, 7))
    assert tally == {"twice": 1, "empty": 1}


def test_cut_to_a_video_or_a_part_of_it():
    listed = [Interval(0, -2, -1), Interval(1, -1, 2), Interval(2, 3, 4), Interval(0, 8, 12), Interval(1, 10, 11)]
    assert cut(listed, 0, 10)[0] == ((1, 0, 2), (2, 3, 4), (0, 8, 10))
    kept, tally = cut(listed, 3.5, 9)
    assert kept == ((2, 0, 0.5), (0, 4.5, 5.5))
    assert tally == {"cut": 2, "outside": 3}
    assert in_words(tally) == (
        "2 annotated intervals reach beyond what is looked at of their video and are cut; "
        "3 annotated intervals lie outside of it and are left out"
    )


def test_row_labels_are_those_of_segments_of_their_length():
    """The golden case's segments of 0.2 s are rows at 5 a second, but for what is left of a second at the end."""
    case = load("actionness_action_background_ap")
    for video in range(case.manifest["config"]["videos"]):
        spans, (duration,) = case.stored[f"intervals{video}"].tolist(), case.stored[f"duration{video}"].tolist()
        labels = case.outputs[f"labels{video}"].numpy()
        intervals, _ = cut([Interval(0, *span) for span in spans], 0.0, duration)
        assert np.array_equal(row_labels(intervals, len(labels), 5.0), labels)


def test_row_labels_without_intervals():
    assert row_labels((), 3, 1.0).tolist() == [0, 0, 0]


def test_rows_are_those_of_the_crosstask_code():
    listed = [Interval(3, 8.33, 10.48), Interval(1, 4.0, 6.0), Interval(2, 19.5, 30.0), Interval(0, 25.0, 26.0)]
    assert rows_of(listed, 22, 1.0).tolist() == [[3, 8, 10], [1, 4, 5], [2, 19, 21]]
    assert rows_of(listed[:1], 100, 2.5).tolist() == [[3, 20, 26]]
    assert rows_of((), 5, 1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Make a Latte", "make_a_latte"), ("MakeTea", "make_tea"), ("ReplaceSIMCard", "replace_sim_card"),
        ("  Jack-Up  a_Car! ", "jack_up_a_car"), ("MakeRJ45Cable", "make_rj45_cable"), ("", ""),
    ],
)  # fmt: skip
def test_keys_of_titles(title, key):
    assert slug(title) == key
