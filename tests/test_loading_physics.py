"""Intuitive physics as a user gets and asks it: from the release's file, from frames of any kind, with wrong words."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from tests.goldens import load
from tests.hub.python2_file import write_python2
from tests.small_physics import SIDE, SMALL
from zoo import models
from zoo.errors import WeightsError, ZooError
from zoo.hub.weights import save_weights
from zoo.loading import convert
from zoo.methods.collisions import PROPERTIES
from zoo.methods.intuitive_physics import RATIOS, IntuitivePhysics
from zoo.methods.physics_flow import FlowPhysics, LinearFlow
from zoo.networks.physics import identity_grid, warp

# The names of the release and ours, as section 9 of the specification lists them.
CONVOLUTIONS = (0, 3, 6, 8, 10)
NAMES = {
    **{f"alexnet.0.features.{n}": f"encoder.features.{n}" for n in CONVOLUTIONS},
    **{f"encoder1.{n}": f"encoder.together.{n}" for n in (0, 2)},
    **{f"encoder2.{n}.linear.0": f"encoder.linear.{2 * n}" for n in (0, 1, 2)},
    **{f"flownetwork.fc.{n}.linear.0": f"decoder.linear.{2 * n}" for n in (0, 1)},
    **{f"flownetwork.decoder.{n}": f"decoder.grow.{n}" for n in (0, 2, 4, 6, 8, 10)},
}
pytestmark = pytest.mark.usefixtures("one_thread")


def published(state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Our weights under the release's names."""
    keys = [f"{name}.{kind}" for name in NAMES for kind in ("weight", "bias")]
    ours = {f"{name}.{kind}": f"{NAMES[name]}.{kind}" for name in NAMES for kind in ("weight", "bias")}
    return OrderedDict((key, state[ours[key]]) for key in keys if ours[key] in state)


def write_release(path: Path, state: dict[str, Tensor]) -> Path:
    """As Python 2 and PyTorch 0.3 wrote it, on a GPU."""
    moments = {"step": 9, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.ones(2)}
    settings = {"lr": 1e-6, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": [140000000001]}
    optimizer = {"state": {140000000001: moments}, "param_groups": [settings]}
    content = {"epoch": 319, "best_epoch_error": 0.0123, "state_dict": state, "optimizer": optimizer}
    write_python2(path, content)
    written = path.read_bytes()
    assert b"U\x03cpu" in written
    path.write_bytes(written.replace(b"U\x03cpu", b"U\x06cuda:0"))
    return path


@pytest.fixture(scope="module")
def tiny() -> IntuitivePhysics:
    torch.manual_seed(0)
    return zoo.create("intuitive_physics_tiny", ratios=False).eval()


@pytest.fixture(scope="module")
def release(tiny, tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "model_best.pth", published(tiny.state_dict()))


@pytest.fixture(scope="module")
def model() -> IntuitivePhysics:
    torch.manual_seed(0)
    return IntuitivePhysics(SMALL).eval()


def collision(seed: int, frames: int = 5, side: int = SIDE) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (frames, 3, side, side), dtype=np.uint8))


def differing(a: Tensor, b: Tensor) -> set[int]:
    return set((a != b).nonzero().flatten().tolist())


def columns(model: IntuitivePhysics, *properties: str) -> set[int]:
    return {column for name in properties for column in model.block(name).tolist()}


# The release's file


@pytest.mark.slow
def test_the_released_network_gives_the_reference_vector(tmp_path):
    case = load("intuitive_physics_forward")
    state = case.state()
    assert set(state) == {f"{name}.{kind}" for name in NAMES for kind in ("weight", "bias")}
    model = zoo.load("intuitive_physics", weights=write_release(tmp_path / "model_best.pth", OrderedDict(state)))
    assert not model.training
    clips = torch.stack([case.input(f"frame{t}") for t in range(5)], dim=2)
    with torch.inference_mode():
        case.check("z", model.encode(clips))


def test_a_released_file_is_the_model(tiny, release):
    found = zoo.load("intuitive_physics_tiny", weights=str(release))
    assert not found.training
    assert found.state_dict().keys() == tiny.state_dict().keys()
    assert all(torch.equal(value, tiny.state_dict()[name]) for name, value in found.state_dict().items())
    assert not list(found.ratios)
    assert found.block("friction").tolist() == list(range(50, 75))
    assert torch.equal(found.predict(collision(0)).frame, tiny.predict(collision(0)).frame)
    with pytest.raises(ZooError, match="no networks that multiply mass: published ones have none"):
        found.edit(collision(0), mass=2.0)
    assert len(found.interpolate(collision(0), collision(1), "speed", steps=3)) == 3
    assert found.swap(collision(0), collision(1), "friction").frame.shape == (3, 64, 64)


def test_a_converted_file_is_the_model_too(tiny, release, tmp_path):
    assert convert("intuitive_physics_tiny", release, tmp_path / "x.safetensors") == len(tiny.state_dict())
    found = zoo.load("intuitive_physics_tiny", weights=tmp_path / "x.safetensors")
    assert torch.equal(found.predict(collision(0)).z, tiny.predict(collision(0)).z)


@pytest.mark.parametrize("ratios", [True, False])
def test_training_may_start_from_a_released_file(tiny, release, ratios):
    """As `zoo fit` starts, whose command line says every argument."""
    found = models.intuitive_physics_tiny(weights=str(release), ratios=ratios)
    assert found.training
    assert bool(found.ratios) is ratios
    assert torch.equal(found.decoder.grow[0].weight, tiny.decoder.grow[0].weight)


def test_every_name_without_a_place_is_named(tiny, tmp_path):
    state = published(tiny.state_dict())
    state["encoder3.0.weight"] = state["flownetwork.fc.0.linear.0.scale"] = torch.zeros(2)
    with pytest.raises(WeightsError, match=r"no place for 2 of 32 names: encoder3\.0\.weight, flownetwork.*scale\."):
        zoo.load("intuitive_physics_tiny", weights=write_release(tmp_path / "x.pth", state))


def test_what_is_missing_and_what_is_of_another_size_is_named(tiny, tmp_path):
    state = published(tiny.state_dict())
    del state["encoder1.2.bias"]
    state["flownetwork.decoder.6.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError) as error:
        zoo.load("intuitive_physics_tiny", weights=write_release(tmp_path / "x.pth", state))
    assert "missing: encoder.together.2.bias" in str(error.value)
    assert "wrong shape: decoder.grow.6.bias is [3], must be [2]" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "intuitive_physics_tiny",
        "intuitive_physics_baseline_tiny",
        "intuitive_physics_flow_physics_tiny",
        "intuitive_physics_flow_supervised_tiny",
    ],
)
def test_a_file_of_its_own_is_loaded_with_its_columns_and_networks(name, tmp_path):
    saved = zoo.create(name)
    saved.dims.copy_(torch.randperm(75).view(3, 25))
    about = {"model": name, "arguments": saved.arguments, "spec": saved.spec.to_dict()}
    save_weights(tmp_path / "x.safetensors", saved.state_dict(), about)
    found = zoo.load(name, weights=tmp_path / "x.safetensors")
    assert found.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in found.state_dict().items())
    assert len(getattr(found, "ratios", ())) == (0 if "flow" in name else 12)


# Frames


def test_a_folder_paths_and_a_tensor_are_the_same_frames(model, tmp_path):
    frames = collision(3)
    for number, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:02d}.png")
    paths = [tmp_path / f"{number:02d}.png" for number in range(5)]
    asked = {
        "predict": lambda f: [model.predict(f)],
        "edit": lambda f: [model.edit(f, speed=3.0)],
        "interpolate": lambda f: model.interpolate(f, collision(4), "mass"),
        "interpolate to": lambda f: model.interpolate(collision(4), f, "mass"),
        "swap": lambda f: [model.swap(f, collision(4), "mass")],
    }
    for name, ask in asked.items():
        wanted = ask(frames)
        # Of the fifth frame nothing is known.
        for source in (tmp_path, str(tmp_path), paths, [str(path) for path in paths[:4]], frames[:4]):
            for one, other in zip(ask(source), wanted, strict=True):
                assert torch.equal(one.z, other.z), name
                assert torch.equal(one.frame, other.frame), name


def test_a_future_is_the_fourth_frame_seen_through_its_grid(model):
    frames = collision(0)
    found = model.predict(frames)
    assert (found.frame.dtype, found.frame.shape) == (torch.uint8, (3, SIDE, SIDE))
    assert (found.grid.shape, found.z.shape) == ((SIDE, SIDE, 2), (SMALL.vector,))
    with torch.no_grad():
        clips = model.normalize(frames.transpose(0, 1)[None])
        z = model.encode(clips)
        grid = model.decoder(z)
        mean = torch.tensor(model.spec.mean).view(3, 1, 1)
        seen = (warp(clips[:, :, 3], grid)[0] + mean) * 255
    torch.testing.assert_close(found.z, z[0])
    torch.testing.assert_close(found.grid, grid[0])
    assert (found.frame - seen.clamp(0, 255)).abs().max() <= 0.51
    assert torch.equal(model(clips)[0], warp(clips[:, :, 3], grid)[0])
    places = identity_grid(SIDE) * (SIDE - 1) / 2
    torch.testing.assert_close(found.displacement, found.grid * (SIDE - 1) / 2 - places, rtol=0, atol=1e-5)


def test_frames_of_another_size_are_scaled(model):
    large = collision(0).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(model.predict(large).frame, model.predict(collision(0)).frame)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (collision(0).float(), "frames are uint8 .* got float32"),
        (collision(0)[0], "frames are uint8 of shape"),
        (collision(0).transpose(0, 1)[:, :4], r"of shape \[3, 4, 16, 16\]"),
        (collision(0)[..., 1:], "has 15 x 16 pixels. Frames of collisions are square"),
        ("nowhere", "there is no folder nowhere"),
        ([], "no frames"),
        (collision(0, frames=3), "3"),
    ],
)
def test_other_frames_are_refused(model, frames, message):
    for ask in (
        model.predict,
        lambda f: model.edit(f, mass=2.0),
        lambda f: model.swap(collision(1), f, "mass"),
        lambda f: model.interpolate(f, collision(1), "mass"),
    ):
        with pytest.raises(ZooError, match=message):
            ask(frames)


@pytest.mark.parametrize("build", [FlowPhysics, lambda sizes: LinearFlow(sizes.side)])
def test_three_frames_are_too_few_for_flow_too(build):
    pytest.importorskip("cv2")
    with pytest.raises(ZooError, match="3"):
        build(SMALL).predict(collision(0, frames=3))


# Other physics


def test_editing_goes_through_the_networks_of_the_ratios():
    """Each of them made to give a number of its own."""
    model = IntuitivePhysics(SMALL).eval()
    numbers = {name: float(place + 1) for place, name in enumerate(model.ratios)}
    with torch.no_grad():
        for name, network in model.ratios.items():
            network[-1].weight.zero_()
            network[-1].bias.fill_(numbers[name])
    frames = collision(0)
    plain = model.predict(frames)
    found = model.edit(frames, mass=2.0, friction=0.5)
    assert set(found.z[model.block("mass")].tolist()) == {numbers["mass_double"]}
    assert set(found.z[model.block("friction")].tolist()) == {numbers["friction_half"]}
    assert differing(found.z, plain.z) == columns(model, "mass", "friction")
    for ratio, value in RATIOS.items():
        for name in PROPERTIES:
            z = model.edit(frames, **{name: value}).z
            assert set(z[model.block(name)].tolist()) == {numbers[f"{name}_{ratio}"]}
    assert torch.equal(model.edit(frames, speed=0.33).z, model.edit(frames, speed=1 / 3).z)
    assert torch.equal(model.edit(frames, speed=1.0).z, plain.z)
    with torch.no_grad():
        clips = model.normalize(frames.transpose(0, 1)[None])
        grid = model.decoder(found.z[None])[0]
        seen = (warp(clips[:, :, 3], grid[None])[0] + torch.tensor(model.spec.mean).view(3, 1, 1)) * 255
    torch.testing.assert_close(found.grid, grid)
    assert (found.frame - seen.clamp(0, 255)).abs().max() <= 0.51


@pytest.mark.parametrize("property", PROPERTIES)
def test_between_two_collisions_lies_a_line_in_one_property(model, property):
    a, b = collision(0), collision(1)
    futures = model.interpolate(a, b, property, steps=5)
    own, other, swapped = model.predict(a), model.predict(b), model.swap(a, b, property)
    for found, wanted in ((futures[0], own), (futures[-1], swapped)):
        torch.testing.assert_close(found.z, wanted.z)
        torch.testing.assert_close(found.grid, wanted.grid)
        assert (found.frame.int() - wanted.frame.int()).abs().max() <= 1
    block = model.block(property)
    for i, found in enumerate(futures):
        torch.testing.assert_close(found.z[block], own.z[block] + (other.z - own.z)[block] * i / 4)
        assert differing(found.z, own.z) <= columns(model, property)
    assert torch.equal(swapped.z[block], other.z[block])
    assert differing(swapped.z, own.z) == columns(model, property)
    assert torch.equal(model.swap(a, a, property).frame, own.frame)


def test_columns_that_were_found_are_used():
    """Those of the baseline lie anywhere."""
    torch.manual_seed(0)
    model = IntuitivePhysics(SMALL, constraint="none", ratios=False).eval()
    model.dims.copy_(torch.randperm(90)[:75].view(3, 25))
    a, b = collision(0), collision(1)
    own = model.predict(a)
    assert differing(model.swap(a, b, "speed").z, own.z) == set(model.dims[1].tolist())
    assert differing(model.interpolate(a, b, "speed")[2].z, own.z) == set(model.dims[1].tolist())


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, f: m.edit(f, weight=2.0), "no property is called 'weight'; there are mass, speed, friction"),
        (lambda m, f: m.edit(f, mass=7.0), "mass times 7: learned are the ratios 1/3, 1/2, 2 and 3"),
        (lambda m, f: m.edit(f, mass=2.0, friction=-1.0), "friction times -1"),
        (lambda m, f: m.swap(f, f, "force"), "no property is called 'force'"),
        (lambda m, f: m.interpolate(f, f, "Mass"), "no property is called 'Mass'"),
        (lambda m, f: m.interpolate(f, f, "mass", steps=1), "steps must be an integer of at least 2, got 1"),
        (lambda m, f: m.block("colour"), "no property is called 'colour'"),
        (lambda m, f: IntuitivePhysics(SMALL, constraint="some"), "constraint must be .* got 'some'"),
        (lambda m, f: IntuitivePhysics(SMALL, stages=(1, 2)), r"epochs of one stage or of 3 are wanted, got \(1, 2\)"),
        (lambda m, f: IntuitivePhysics(SMALL, stages=(1, 0, 2)), r"got \(1, 0, 2\)"),
    ],
)
def test_wrong_words_are_refused(model, ask, message):
    with pytest.raises(ZooError, match=message):
        ask(model, collision(0))
