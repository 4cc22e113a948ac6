"""The tracker's parts against TimeCycle's release, and against what they are defined as."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from tests.goldens import load
from zoo.networks.frame_encoder import unit
from zoo.networks.tracker import (
    OFFSET,
    TEMPERATURE,
    Localizer,
    affinity,
    alignment,
    crop,
    lattice,
    soft_inliers,
    transform,
)

LOCALIZER = {
    "module.afterconv3_trans.weight": "conv1.weight",
    "module.afterconv4_trans.weight": "conv2.weight",
    "module.linear2.weight": "linear.weight",
    "module.linear2.bias": "linear.bias",
}


def columns(affinities: Tensor, grid: int) -> Tensor:
    """The release's order of a frame's cells."""
    return affinities.unflatten(1, (grid, grid)).transpose(1, 2).flatten(1, 2)


@torch.inference_mode()
def test_every_part_is_the_releases():
    case = load("time_cycle_tracker")
    frames = case.manifest["config"]["T"]
    localizer = Localizer()
    scale = case.manifest["scale"]
    localizer.load_state_dict({LOCALIZER[key]: value * scale.get(key, 1) for key, value in case.state().items()})

    def check_sample(name: str, actual: Tensor, atol: float | None = None) -> None:
        case.check(f"{name}.sample", actual.flatten()[:: case.manifest["sample_stride"][name]], atol=atol)
        case.check(f"{name}.mean", actual.mean().view(1))
        case.check(f"{name}.std", actual.std(correction=0).view(1))

    query = unit(case.input("query").relu())
    maps = case.input("base").relu().transpose(1, 2).flatten(0, 1)
    found = affinity(query.repeat_interleave(frames, 0), unit(maps))
    check_sample("affinity", columns(found, 30))
    check_sample("localizer_hidden", localizer.hidden(found))
    raw = localizer(found)
    case.check("localizer_raw", raw)
    theta = transform(*raw.unbind(1))
    case.check("theta", theta)
    for name, offset in (("offset_227_210", OFFSET), ("offset_1", 1.0)):
        case.check(f"grid.{name}", lattice(theta, 10, offset))
        # A place's rounding, which differs between versions of torch, comes out times the map's slope over 15 cells.
        check_sample(f"crop.{name}", crop(maps, theta, 10, offset), atol=1e-4)
    case.check("inlier_score", soft_inliers(found, theta, 30))
    line = torch.linspace(0, 1, len(theta))
    x, y, angle = 0.1 + 0.8 * line, 0.8 - 0.6 * line, -0.7 + 1.4 * line
    truth = transform((2 * x - 1) * 2 / 3, (2 * y - 1) * 2 / 3, angle)
    case.check("theta_gt", truth)
    case.check("grid_loss", alignment(theta, truth).view(1))
    first = unit(maps).unflatten(0, (-1, frames))[:, 0].repeat_interleave(frames, 0)
    check_sample("reverse_affinity", columns(affinity(unit(crop(maps, theta, 10, OFFSET)), first), 30))
    case.assert_complete()


def test_a_patch_that_was_cut_out_is_found_where_it_was():
    torch.manual_seed(0)
    maps = unit(torch.randn(1, 64, 12, 9))
    found = affinity(maps[:, :, 3:5, 4:7], maps)
    assert found.shape == (1, 108, 2, 3)
    rows, cells = torch.arange(3, 5)[:, None], torch.arange(4, 7)[None]
    assert torch.equal(found[0].argmax(0), rows * 9 + cells)  # row by row
    torch.testing.assert_close(found.sum(1), torch.ones(1, 2, 3))


def test_affinity_is_of_32_bits_under_mixed_precision():
    torch.manual_seed(0)
    query, keys = unit(torch.randn(2, 16, 3, 3)), unit(torch.randn(2, 16, 8, 8))
    exact = affinity(query, keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affinity(query, keys), exact)
        half = affinity(query.bfloat16(), keys.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.sum(1), torch.ones(2, 3, 3))


def test_places_are_of_32_bits_under_mixed_precision():
    torch.manual_seed(0)
    x, y, angle = torch.rand(3, 4) - 0.5
    here, there = transform(x, y, angle), transform(x + 0.01, y, angle + 0.02)
    found = affinity(unit(torch.randn(4, 16, 3, 3)), unit(torch.randn(4, 16, 9, 9)))
    exact = alignment(here, there), soft_inliers(found, here, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alignment(here, there), exact[0])
        assert torch.equal(soft_inliers(found, here, 9), exact[1])


def test_nothing_found_is_everywhere():
    """A crop beside the frame is all zeros, stays so, and is as likely anywhere."""
    maps = torch.rand(1, 4, 6, 6)
    beside = unit(crop(maps, transform(torch.tensor([5.0]), torch.zeros(1), torch.zeros(1)), 2))
    assert (beside == 0).all()
    torch.testing.assert_close(affinity(beside, unit(maps)), torch.full((1, 36, 2, 2), 1 / 36))


def test_the_middle_is_cut_out_and_turned():
    rows = torch.arange(9.0).view(1, 1, 9, 1).expand(1, 1, 9, 9)
    zero = torch.zeros(1)
    upright = crop(rows, transform(zero, zero, zero, scale=0.25), 3)
    torch.testing.assert_close(upright[0, 0], torch.tensor([3.0, 4.0, 5.0])[:, None].expand(3, 3))
    turned = crop(rows, transform(zero, zero, torch.tensor([math.pi / 2]), scale=0.25), 3)
    torch.testing.assert_close(turned[0, 0], torch.tensor([3.0, 4.0, 5.0]).expand(3, 3))


def test_the_offset_moves_and_does_not_turn():
    theta = transform(torch.tensor([0.4]), torch.tensor([-0.2]), torch.tensor([0.3]))
    moved = lattice(theta, 4, 1.5) - lattice(theta, 4)
    torch.testing.assert_close(moved, torch.tensor([0.2, -0.1]).expand(1, 4, 4, 2))


def dense_inliers(affinities: Tensor, theta: Tensor, grid: int, offset: float) -> Tensor:
    """The definition: an identity volume over the frame, read at the patch's points, weighs the affinity."""
    volume = torch.eye(grid * grid).view(1, grid * grid, grid, grid).expand(len(theta), -1, -1, -1)
    mask = grid_sample(volume, lattice(theta, affinities.shape[-1], offset), align_corners=True)
    mask = mask / (mask + 1e-5).sum((1, 2, 3), keepdim=True)
    return (mask * affinities).sum((1, 2, 3))


def test_soft_inliers_are_those_of_the_dense_mask_with_their_gradients():
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 49, 3, 3)).requires_grad_()
    place = torch.tensor([[0.1, -0.3, 0.2], [0.9, 0.9, -1.0], [-1.4, 0.5, 2.0], [3.0, 0.0, 0.0], [0.02, 0.01, 0.4]])
    place.requires_grad_()
    answers = []
    for score in (soft_inliers, dense_inliers):
        scores = score(logits.softmax(1), transform(*place.unbind(1)), 7, OFFSET)
        weights = torch.arange(1.0, 6.0)
        answers.append((scores, *torch.autograd.grad((scores * weights).sum(), (logits, place))))
    for ours, dense in zip(*answers, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-7)
    assert answers[0][0][3] == 0  # wholly beside the frame


def test_alignment_is_the_mean_squared_distance_of_the_points():
    zero = torch.zeros(2)
    here = transform(zero, zero, zero)
    torch.testing.assert_close(alignment(here, transform(zero + 0.3, zero - 0.4, zero)), torch.tensor(0.25))
    assert alignment(here, here) == 0
    assert alignment(here, transform(zero, zero, zero + 0.5)) > 0


def test_the_first_guess_is_the_centre():
    torch.manual_seed(0)
    guess = Localizer()(torch.rand(3, 900, 10, 10).softmax(1))
    assert guess.shape == (3, 3)
    assert guess.abs().max() < 0.05


def test_other_geometries():
    localizer = Localizer(grid=12, patch=4, widths=(8, 6), kernel=2)
    assert localizer(torch.rand(2, 144, 4, 4)).shape == (2, 3)
    with pytest.raises(ValueError, match="leave nothing of 4 x 4"):
        Localizer(grid=12, patch=4, kernel=4)


def test_the_temperature_is_one_by_the_root_of_the_width():
    assert pytest.approx(0.0441942, abs=1e-7) == TEMPERATURE
