"""R3D-18 and R(2+1)D-18: the reference's outputs under the published names."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests import goldens
from zoo.hub.weights import load_strict


@pytest.mark.slow
def test_the_published_clip_network():
    case = goldens.load("oops_r3d18_forward")
    model = zoo.create("oops_r3d18").eval()
    load_strict(model, model.upstream_keys(case.state()))
    seen = {}
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        getattr(model.trunk, stage).register_forward_hook(lambda _, __, out, stage=stage: seen.update({stage: out}))
    with torch.no_grad():
        phi = model.encode(case.input("videos"))
        logits = model.classify(phi)
    case.check("features", phi)
    case.check("logits", logits)
    case.check("probabilities", logits.softmax(-1))
    for stage, out in seen.items():
        case.check(f"act.{stage}.sub", goldens.thin(out, 256)[:256])
        case.check(f"act.{stage}.mean", out.mean())
        case.check(f"act.{stage}.std", out.std(correction=0))
    pixels = {name for name in case.outputs if name.startswith("pixels.")}  # of tests/data/test_pixels.py
    assert case.checked | pixels == set(case.outputs)


def test_the_goals_code_keeps_the_same_network_under_other_names():
    model = zoo.create("oops_cnn_tiny")
    state = model.state_dict()
    theirs = {
        "module." + (f"cvpr_oops_decoder.{k[5:]}" if k.startswith("head.") else f"cnn.{k[6:]}"): v
        for k, v in state.items()
    }
    back = model.upstream_keys(theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.parametrize(("name", "parameters"), [("r3d18", 33_371_472), ("r2plus1d18", 31_505_325)])
def test_sizes_are_the_publishers(name, parameters):
    assert zoo.info(name).parameters == parameters
    assert abs(zoo.info(name).multiply_adds / 1e9 - {"r3d18": 40.697, "r2plus1d18": 40.519}[name]) < 0.05


def test_a_frozen_trunk_keeps_its_statistics():
    model = zoo.create("oops_cnn_tiny", frozen=True).train()
    before = {k: v.clone() for k, v in model.trunk.state_dict().items()}
    clips = torch.rand(4, 3, 8, 48, 48) * 255
    model.loss(clips, torch.tensor([0, 1, 2, -1])).backward()
    assert model.head.weight.grad.abs().sum() > 0
    assert all(torch.equal(v, before[k]) for k, v in model.trunk.state_dict().items())
