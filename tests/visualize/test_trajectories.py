"""Trajectories in the plane: the drawing by its pixels, and the projection."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import ZooError
from zoo.visualize.drawing import INK, STATES
from zoo.visualize.trajectories import draw_trajectories, project, trajectories

GREEN = (0, 135, 105)
T_SNE = "t-SNE needs the package scikit-learn (videozoo[goals])"


def close(picture, place, colour, tolerance=12):
    """Whether the pixel at (x, y) has about this colour."""
    x, y = (round(v) for v in place)
    return np.abs(picture[y, x].astype(int) - colour).max() <= tolerance


def test_points_and_ways_lie_where_they_should(tmp_path):
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    before = torch.tensor([[0.5, 0.25], [1.5, 0.25]])
    after = torch.tensor([[0.5, 0.75], [1.5, 0.75]])
    path = draw_trajectories(corners, {"a": (before, after)}, tmp_path / "t.png", states=[0, 1, 2, -1])
    picture = np.asarray(Image.open(path))
    assert picture.shape == (62 + 480 + 30 + 26, 960, 3)  # as wide as high, for distances mean something

    def place(x, y):
        return 60 + 420 * x, 62 + 30 + 420 * (1 - y)

    for corner, colour in zip(corners.tolist(), STATES, strict=False):
        blended = 255 - 0.38 * (255 - np.array(colour))
        assert close(picture, place(*corner), blended)
    assert close(picture, place(0.8, 0.25), INK)
    assert close(picture, place(0.8, 0.75), GREEN)
    assert close(picture, place(1.5, 0.75), GREEN)
    assert close(picture, place(1.0, 0.5), (255, 255, 255))


@pytest.mark.slow
def test_neighbours_stay_neighbours_and_equal_clips_one_point():
    pytest.importorskip("sklearn", reason=T_SNE)
    dice = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(3, 16)
    which = torch.arange(60) % 3
    vectors = centres[which] + torch.randn(60, 16, generator=dice)
    vectors[7] = 2 * vectors[4]  # the same direction
    placed = project(vectors, seed=1)
    assert torch.equal(placed[7], placed[4])
    assert torch.equal(placed, project(vectors, seed=1))
    distances = torch.cdist(placed, placed).fill_diagonal_(torch.inf)
    distances[7, 4] = distances[4, 7] = torch.inf
    assert (which[distances.argmin(1)] == which).all()


@pytest.mark.slow
def test_a_figure_out_of_vectors_and_corrections(tmp_path):
    pytest.importorskip("sklearn", reason=T_SNE)
    dice = torch.Generator().manual_seed(0)
    clips = torch.randn(50, 8, generator=dice).half()
    found = SimpleNamespace(before=torch.randn(4, 8, generator=dice), after=torch.randn(4, 8, generator=dice))
    path = trajectories(clips, {"a": found}, tmp_path / "t.png", states=torch.arange(50) % 3, points=40)
    picture = np.asarray(Image.open(path)).reshape(-1, 3)
    for colour in (INK, GREEN):
        assert (picture == colour).all(1).sum() > 200
    narrow = SimpleNamespace(before=torch.zeros(4, 7), after=torch.zeros(4, 7))
    with pytest.raises(ZooError, match="its clips have 7 numbers, the others 8"):
        trajectories(clips, {"a": narrow}, tmp_path / "x.png")
    with pytest.raises(ZooError, match="four different clips or more, got 1"):
        project(torch.ones(9, 3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.png"]


def test_a_missing_package_says_what_to_install(monkeypatch):
    for name in ("sklearn", "sklearn.manifold"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ZooError, match=r"t-SNE projection needs the package 'sklearn'.*pip install 'videozoo\[goals\]'"
    ):
        project(torch.randn(9, 3))
