"""Units, their words and their top clips: which clips, what the table says, what the picture shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.render import number_in, render
from zoo.clip_index import Hit
from zoo.errors import ZooError
from zoo.metrics.neurons import Neuron
from zoo.visualize.neurons import draw_neurons, neuron_rows, neuron_table

OWNER = torch.tensor([0, 0, 1, 1, 2])
H = torch.tensor([[0.1, 5.0], [0.9, 1.0], [0.8, 2.0], [0.2, 0.0], [-0.5, 3.0]])


@pytest.fixture
def clip(tmp_path):
    """Where the clips are: two videos of two seconds, ten frames a second, and one that is gone."""
    for number in range(2):
        render(tmp_path / f"v{number}.mp4", frames=20, fps=10)

    def place(number: int) -> Hit:
        second = float(number % 2)
        name = f"v{int(OWNER[number])}.mp4"
        return Hit("toys", name, str(tmp_path / name), second, second + 0.9, 1.0)

    return place


def test_top_clips_are_the_largest_of_each_video_or_the_smallest(clip):
    rows = neuron_rows([Neuron(0, "ride", 0.3), Neuron(1, "!land", -0.4)], H, OWNER, clip, k=2)
    assert [(row.unit, row.word) for row in rows] == [(1, "!land"), (0, "ride")]
    assert [(c.name, c.start) for c in rows[0].clips] == [("v1.mp4", 1.0), ("v0.mp4", 1.0)]
    assert [(c.name, c.start) for c in rows[1].clips] == [("v0.mp4", 1.0), ("v1.mp4", 0.0)]
    with pytest.raises(ZooError, match="unit 2 is none of the 2"):
        neuron_rows([Neuron(2, "ride", 0.3)], H, OWNER, clip)


def test_the_table_says_it_in_words(clip):
    rows = neuron_rows([Neuron(0, "ride", 0.3)], H, OWNER, clip, k=2)
    assert neuron_table(rows).splitlines()[-1] == "| 0 | ride | +0.300 | v0.mp4 (1.0-1.9 s), v1.mp4 (0.0-0.9 s) |"


def test_the_picture_shows_middle_frames_and_what_is_gone_as_grey(clip, tmp_path):
    rows = neuron_rows([Neuron(0, "ride", 0.3)], H, OWNER, clip, k=3)
    picture = np.asarray(Image.open(draw_neurons(rows, tmp_path / "n.png")))
    boxes = [picture[16 : 16 + 142, left : left + 190] for left in (230, 428, 626)]
    assert [number_in(box) for box in boxes[:2]] == [14, 4]
    assert (boxes[2][20:60, 120:180] == (236, 237, 240)).all()
    with pytest.raises(ZooError, match="no unit to draw"):
        draw_neurons([], tmp_path / "x.png")
