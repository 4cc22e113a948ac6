"""What the intuitive physics model is compared with: a line through flow, flow as the teacher, told physics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.small_physics import SIDE, SMALL
from zoo.methods.collisions import RECIPE, Views, interpolated
from zoo.methods.physics_flow import LINE, FlowPhysics, FlowSupervised, LinearFlow, grid_of
from zoo.networks.physics import identity_grid, warp

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def moving(count: int, right: int, down: int) -> Tensor:
    """Five frames of scenes that move so many pixels from each to the next, uint8 ``[count, 3, 5, SIDE, SIDE]``."""
    scene = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    return torch.stack([scene.roll((down * t, right * t), (2, 3)) for t in range(5)], dim=2)


def constant(count: int, x: float, y: float) -> Tensor:
    """Four fields of flow that is the same everywhere, ``[count, 4, 2, SIDE, SIDE]``."""
    return torch.tensor([float(x), float(y)]).view(1, 1, 2, 1, 1).expand(count, 4, 2, SIDE, SIDE).clone()


def views(model, clips: Tensor, flow: Tensor, scales: Tensor | None = None) -> Views:
    scales = torch.full((len(clips), 3), 3.0) if scales is None else scales
    return Views(model.normalize(clips), scales, flow)


# Flow as a grid


def test_no_flow_leaves_a_frame_as_it_is():
    grid = grid_of(torch.zeros(2, 2, SIDE, SIDE))
    assert torch.equal(grid, identity_grid(SIDE).expand(2, -1, -1, -1))
    frame = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(warp(frame, grid), frame, rtol=0, atol=1e-5)


def test_flow_says_where_pixels_come_from():
    """Backward flow: the frame after looks at p as the one before looks at p + flow(p); x is the first channel."""
    clips = moving(1, right=3, down=-2).float()
    before, after = clips[:, :, 3], clips[:, :, 4]
    seen = warp(before, grid_of(constant(1, -3, 2)[:, 3]))
    torch.testing.assert_close(seen[..., :-2, 3:], after[..., :-2, 3:], rtol=0, atol=1e-2)
    assert seen[..., -1, :].abs().max() < 1e-2  # from beyond the border, where nothing is


# A line through three fields


def test_the_line_is_that_of_least_squares():
    slope, height = np.polyfit([0, 1, 2], np.eye(3), 1)
    np.testing.assert_allclose(3 * slope + height, LINE, atol=1e-12)
    flow = torch.randn(2, 3, 2, SIDE, SIDE)
    slope, height = np.polyfit([0, 1, 2], flow.transpose(0, 1).flatten(1).double(), 1)
    continued = torch.from_numpy(3 * slope + height).float().view(2, 2, SIDE, SIDE)
    torch.testing.assert_close(LinearFlow(SIDE)(flow), grid_of(continued))


def test_what_moves_evenly_is_predicted_and_the_future_is_not_looked_at():
    model = LinearFlow(SIDE)
    clips, flow = moving(2, right=1, down=2), constant(2, -1, -2)
    flow[:, 3] = 7.0  # that from the fifth frame, which is to be predicted
    seen = views(model, clips, flow)
    frame, grid = model.decode(model.latent(seen), seen.clips[:, :, 3])
    torch.testing.assert_close(grid, grid_of(constant(2, -1, -2)[:, 0]))
    torch.testing.assert_close(frame[..., 2:, 1:], seen.clips[:, :, 4, 2:, 1:], rtol=0, atol=1e-4)


def test_a_line_is_scored_in_plain_prediction_alone():
    """A mini-batch of each kind; where nothing moves, the fifth frame's difference to the fourth is the error."""
    model = LinearFlow(SIDE)
    clips = torch.randint(0, 256, (4, 5, 3, 5, SIDE, SIDE), dtype=torch.uint8)
    batch = {
        "clips": clips,
        "flow": torch.zeros(4, 5, 4, 2, SIDE, SIDE),
        "scales": torch.ones(4, 5, 3),
        "property": torch.tensor([0, 1, 0, 2]),
        "split": torch.tensor([0, 0, 1, 1]),
        "unseen": torch.tensor([[True] * 5] * 2 + [[False, False, True, False, False]] * 2),
    }
    model.test_step(batch, 0)
    error = (clips[:, :, :, 4].double() - clips[:, :, :, 3].double()).square().mean(dim=(2, 3, 4))
    found = {name: float(value) for name, value in model.test_metrics.compute().items()}
    # Mass has every sequence once; of the parameter test only the third was never trained on.
    expected = {"pixel_error": float(error[0].mean()), "parameter_error": float(error[2, 2]), "videos": 4}
    assert found == pytest.approx(expected, rel=1e-5)


# Taught by flow


def test_the_error_of_flow_is_in_pixels():
    model = FlowSupervised(SMALL)
    flow = constant(2, 3, 0)
    flow[:, :3] = 50.0  # only that between the last two frames is taught
    seen = views(model, moving(2, 0, 0), flow)
    still = identity_grid(SIDE).expand(2, -1, -1, -1)
    assert float(model.loss(None, still, seen)) == pytest.approx((3 + 0) / 2, rel=1e-5)
    assert float(model.loss(None, grid_of(flow[:, 3]), seen)) == pytest.approx(0, abs=1e-5)
    assert model.spec.collisions.flow


def test_a_constant_shift_is_learned_from_flow():
    """One step's gradient after the other, of the training step itself."""
    model = FlowSupervised(SMALL, groups=1, settle=0).train()
    model.log = model.log_dict = lambda *_, **__: None
    batch = {
        "clips": moving(5, right=2, down=-1),
        "flow": constant(5, -2, 1),
        "scales": torch.full((5, 3), 3.0),
        "property": torch.tensor([0]),
        "groups": torch.arange(5)[None],
    }
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for step in range(80):
        optimizer.zero_grad()
        loss = model.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2  # pixels; the grid began in the middle of the frame
    assert losses[-1] < 0.6
    grid = model.eval().decoder(model.encode(model.normalize(batch["clips"])))
    moved = (grid - identity_grid(SIDE)).mean(dim=(0, 1, 2)) * (SIDE - 1) / 2
    assert moved.tolist() == pytest.approx([-2, 1], abs=0.4)


# Told the physics


def test_it_interpolates_by_the_scales_that_it_is_told():
    """A property's part of the vector is a line through its scales, so that between 1 and 5 there are 2, 3 and 4."""
    model = FlowPhysics(SMALL).eval()
    flow = torch.randn(5, 4, 2, SIDE, SIDE)[:1].expand(5, -1, -1, -1, -1)
    scales = torch.tensor([[2.0, 0.0, 4.0]] * 5)
    scales[:, 1] = torch.arange(1, 6)
    with torch.no_grad():
        z = model.latent(views(model, moving(5, 1, 0), flow, scales))
        between = interpolated(z[:1], z[-1:], model.dims[1][None])[0]
    torch.testing.assert_close(between, z, rtol=1e-4, atol=1e-5)
    speed = model.block("speed")
    assert (z[1:] - z[0]).abs()[:, speed].min() > 0
    other = torch.ones(90, dtype=torch.bool).index_fill(0, speed, False)
    assert torch.equal(z[1:, other], z[:1, other].expand(4, -1))


def test_it_looks_at_the_flow_of_four_frames_and_at_none_of_the_fifth():
    model = FlowPhysics(SMALL).eval()
    flow = torch.randn(1, 4, 2, SIDE, SIDE)
    clips = moving(1, 1, 0)
    with torch.no_grad():
        z = model.latent(views(model, clips, flow))
        for t, seen in enumerate((True, True, True, False)):
            changed = flow.clone()
            changed[:, t] += 1
            assert torch.equal(model.latent(views(model, clips, changed)), z) is not seen


def test_told_physics_is_learned():
    """The same flow every time: how far things went in the end is in the mass that was told."""
    model = FlowPhysics(SMALL, groups=1).train()
    model.log = lambda *_, **__: None
    scene = moving(1, 0, 0).expand(5, -1, -1, -1, -1).clone()
    for row in range(5):  # it stays where it is, moved in the fifth frame by the scale
        scene[row, :, 4] = scene[row, :, 3].roll(row, 2)
    scales = torch.full((5, 3), 3.0)
    scales[:, 0] = torch.arange(1, 6)
    batch = {"clips": scene, "flow": torch.zeros(5, 4, 2, SIDE, SIDE), "scales": scales}
    optimizer = torch.optim.Adam(model.parameters(), RECIPE.rate * 5000)
    losses = []
    for step in range(10):
        optimizer.zero_grad()
        loss = model.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.told[:1])
    assert losses[-1] < losses[0]


def test_predicting_from_frames_with_told_physics():
    pytest.importorskip("cv2")
    frames = moving(1, right=1, down=0)[0].transpose(0, 1)
    told = FlowPhysics(SMALL).eval()
    plain, heavy = told.predict(frames), told.predict(frames[:4], mass=5.0)
    mass = told.block("mass")
    assert plain.frame.shape == (3, SIDE, SIDE)
    assert plain.frame.dtype == torch.uint8
    step = heavy.z[mass] - plain.z[mass]
    torch.testing.assert_close(step, told.told[0].weight[:, 0].detach() * 2)
    assert torch.equal(heavy.z[25:], plain.z[25:])
    line = LinearFlow(SIDE).predict(frames)
    # Uniform motion to the right, by flow that was measured: most of what is seen comes from one pixel further left.
    inner = line.displacement[4:-4, 4:-4]
    assert inner[..., 0].median() == pytest.approx(-1, abs=0.3)
    assert inner[..., 1].median() == pytest.approx(0, abs=0.3)
