"""Flow between feature maps: of a shift that is known, on features and on pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.networks.flow import correspondence_flow, flow_to_colour, flow_to_pixels, warp


def shifted(right: int, down: int, shape: tuple[int, int] = (9, 12)) -> tuple[Tensor, Tensor]:
    """Features of a scene, and of the scene moved by whole cells."""
    scene = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
    return scene, scene.roll((down, right), (1, 2))


@pytest.mark.parametrize("half", [False, True])
def test_the_hard_match_is_the_shift(half: bool) -> None:
    here, there = shifted(3, 2)
    flow = correspondence_flow(here, there, topk=1, half=half)
    assert flow.shape == (2, 9, 12)
    assert (flow[:, :7, :9] == torch.tensor([3.0, 2.0])[:, None, None]).all()
    assert (correspondence_flow(here, here, topk=1) == 0).all()


def test_the_soft_match_by_hand() -> None:
    """Two directions and one between them: the weights are a softmax of cosines over the kept cells."""
    here = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 3.0, 2.0]]])
    flow = correspondence_flow(here, here, topk=2, temperature=0.5)
    near = torch.softmax(torch.tensor([1.0, 0.5**0.5]) / 0.5, 0)
    torch.testing.assert_close(flow[0, 0, 0], near @ torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(flow[0, 0, 1], near @ torch.tensor([0.0, 1.0]))
    everywhere = correspondence_flow(here, here, topk=3, temperature=0.5)
    weights = torch.softmax(torch.tensor([1.0, 0.0, 0.5**0.5]) / 0.5, 0)
    torch.testing.assert_close(everywhere[0, 0, 0], weights @ torch.tensor([0.0, 1.0, 2.0]))
    assert (everywhere[1] == 0).all()


def test_wrong_features() -> None:
    here, there = shifted(0, 0)
    with pytest.raises(ZooError, match="alike"):
        correspondence_flow(here, there[:, 1:])
    with pytest.raises(ZooError, match="topk"):
        correspondence_flow(here, there, topk=0)


def test_flow_in_pixels() -> None:
    flow = torch.tensor([2.0, -1.0])[:, None, None].expand(2, 5, 10)
    pixels = flow_to_pixels(flow, (40, 160))
    assert pixels.shape == (2, 40, 160)
    torch.testing.assert_close(pixels, torch.tensor([32.0, -8.0])[:, None, None].expand(2, 40, 160))


@pytest.mark.parametrize("shape", [(6, 8), (1, 1), (480, 854)])
def test_warping_by_nothing_changes_nothing(shape: tuple[int, int]) -> None:
    frame = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    torch.testing.assert_close(warp(frame, torch.zeros(2, *shape)), frame.float(), atol=0.05, rtol=0)


def test_warping_by_hand() -> None:
    frame = torch.tensor([[[0.0, 10.0, 20.0, 60.0]]])
    right = torch.tensor([[[1.0, 0.5, -1.0, 5.0]], [[0.0, 0.0, 9.0, -9.0]]])
    torch.testing.assert_close(warp(frame, right), torch.tensor([[[10.0, 15.0, 10.0, 60.0]]]))


def test_warping_the_other_frame_reconstructs_this_one() -> None:
    """The direction of it all: flow from t to s, frame s warped, is frame t."""
    t, s = shifted(2, 1)
    features = [x.repeat_interleave(2, 1).repeat_interleave(2, 2)[:3] for x in (t, s)]
    flow = flow_to_pixels(correspondence_flow(t, s, topk=1), (18, 24))
    torch.testing.assert_close(warp(features[1], flow)[:, 2:13, 2:17], features[0][:, 2:13, 2:17], atol=1e-4, rtol=0)


def test_wrong_flows() -> None:
    with pytest.raises(ZooError, match="flow_to_pixels"):
        warp(torch.zeros(3, 16, 16), torch.zeros(2, 2, 2))


def test_colours() -> None:
    """The wheel's fixed points: right is red, down yellow, left cyan-blue, up violet; none is white; lost is black."""
    flow = torch.tensor([[[3.0, 0.0, -3.0, 0.0, 0.0, torch.nan, 1.5]], [[0.0, 3.0, 0.0, -3.0, 0.0, 0.0, 0.0]]])
    picture = flow_to_colour(flow)
    assert picture.shape == (3, 1, 7)
    assert picture.dtype == torch.uint8
    right, down, left, up, still, lost, half = picture[:, 0].T.tolist()
    assert right == [255, 0, 0]
    assert 200 < down[1] < 255
    assert (down[0], down[2]) == (255, 0)
    assert (left[0], left[2]) == (0, 255)
    assert 0 < up[0] < 255
    assert (up[1], up[2]) == (0, 255)
    assert still == [255, 255, 255]
    assert lost == [0, 0, 0]
    assert half == [255, 128, 128]
    assert flow_to_colour(flow, longest=1.5)[:, 0, 0].tolist() == [191, 0, 0]
    assert (flow_to_colour(torch.zeros(2, 3, 3)) == 255).all()
