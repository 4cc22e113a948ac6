"""Every name in `zoo list`: it builds, runs forward and backward, saves, loads, and exports its spec."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

import zoo
import zoo.registry
from zoo.hub.weights import load_strict, read_weights, save_weights
from zoo.loading import on_paper
from zoo.papers import PAPERS
from zoo.spec import VideoSpec

NAMES = zoo.list_models()
# Nothing in them learns here.
UNTRAINED = (
    *("label_propagation_identity", "timm_encoder", "oops_chance", "charades_chance", "flow_magnitude"),
    *("actionness_chance", "actionness_middle", "actionness_flow"),
    *("intuitive_physics_linear_flow", "intuitive_physics_linear_flow_tiny"),
)
LINEAR = ("actionness", "crosstask_weak", "step_localization")  # a score or two on features, which are small
LARGEST = 100_000_000  # parameters
# The deepest networks run once each: these differ from a sibling in the clips that they want alone.
SIBLINGS = tuple(name for name in NAMES if re.search(r"r101_(8x8|128x1)$|physics_(baseline|flow_supervised)$", name))
GOLDEN = ("async_tf",)  # whose whole network is held against the reference's anyway
TRAINING_ONLY = (
    *("localizer.", "head.linear", "encoder.layer4.", "coherence_head.", "head.left", "head.right"),
    *("order.", "text.", "actionness.order."),
)


def everything(output) -> torch.Tensor:
    """One number that all of an output has a part in: of a tensor, a field's potentials, or one for each stream."""
    if isinstance(output, torch.Tensor):
        return output.mean()
    parts = output if isinstance(output, tuple) else output.tensors().values()
    return sum(map(everything, parts))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_lives(name, tmp_path):
    if sum(p.numel() for p in on_paper(name).parameters()) > LARGEST:
        pytest.skip("half a gigabyte of weights; its forward pass is tried without them, and its small sibling with")
    if name in SIBLINGS:
        pytest.skip("the network of its sibling")
    if name in GOLDEN:
        pytest.skip("hundreds of layers, tried elsewhere: forward, from a file, and its criterion step by step")
    torch.manual_seed(0)
    classes = {"num_classes": 3} if "num_classes" in inspect.signature(zoo.registry.builder(name)).parameters else {}
    model = zoo.create(name, **classes)
    assert VideoSpec.from_dict(model.spec.to_dict()) == model.spec
    # Batch norm wants more than one value, and the map of a small frame, or a short clip of them, is one.
    rows = 2 if model.spec.moments or name.startswith("s3d") else 1
    clips = torch.randint(0, 256, (rows, *model.input_shape(32)), dtype=torch.uint8)
    if not any(p.requires_grad for p in model.parameters()):
        assert name in UNTRAINED
        return

    model.train()
    everything(
        model(model.normalize(clips))
    ).backward()  # a loss could saturate: frozen norms do not tame fresh weights
    # A tracker helps in training alone, an affinity when frames talk: what needs them has tests of its own.
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(TRAINING_ONLY)}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning.values())
    assert next(iter(learning.values())).grad.abs().sum() > 0  # the signal reaches the first layer

    model.eval().zero_grad()
    with torch.no_grad():
        before = everything(model(model.normalize(clips)))
        save_weights(tmp_path / "w.safetensors", model.state_dict())
        for value in model.state_dict().values():
            value.zero_()
        load_strict(model, read_weights(tmp_path / "w.safetensors")[0])
        assert torch.equal(everything(model(model.normalize(clips))), before)
        assert before.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    info = zoo.info(name)
    assert info.summary
    if name in UNTRAINED and name != "timm_encoder":
        assert info.parameters == 0
    elif not name.startswith(LINEAR):
        assert info.parameters > 50_000
        assert info.multiply_adds > info.parameters
    assert info.paper


@pytest.mark.parametrize(
    "override",
    [
        {"nonlocal_blocks": 1, "stages": ["res2"]},
        {"nonlocal_blocks": 1, "instantiation": "concatenation"},
        {"nonlocal_blocks": 1, "instantiation": "dot_product"},
        {"nonlocal_blocks": 10},
        {"nonlocal_blocks": 5, "attention": "space"},
        {"nonlocal_blocks": 5, "attention": "time"},
        {"nonlocal_blocks": 5, "norm": "frozen"},
        {"nonlocal_blocks": 5, "sub_sample": False},
        {"nonlocal_blocks": 5, "pool_position": "after", "scale": False},  # as the paper's text has it
    ],
)
def test_overrides_build_the_rows_of_the_tables(override):
    with torch.device("meta"):
        model = zoo.create("c2d_r50", **override)
        assert model(torch.empty(1, 3, 32, 64, 64)).shape == (1, 400)
    assert model.arguments == override


def test_the_papers_of_the_package_are_known():
    assert {zoo.registry.entry(name).paper for name in NAMES} == set(PAPERS)
