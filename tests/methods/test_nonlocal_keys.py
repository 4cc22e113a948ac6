"""Published names: every format is told apart, mapped whole, and refused by name where something does not belong."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.goldens import load, recipe
from zoo.errors import WeightsError
from zoo.methods.nonlocal_keys import convert, detect, from_caffe2, from_mmaction, from_pytorch_resnet3d
from zoo.networks.head import ClassifierHead
from zoo.networks.resnet3d import ResNet3d


@pytest.fixture(scope="module")
def ours() -> dict[str, torch.Tensor]:
    """The whole state dict of the canonical network, without memory."""
    with torch.device("meta"):
        trunk = ResNet3d(50, inflate="3x1x1", nonlocal_after={"res3": (1, 3), "res4": (1, 3, 5)})
        network = torch.nn.ModuleDict({"trunk": trunk, "head": ClassifierHead(2048, 400)})
    return network.state_dict()


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("nonlocal_i3d_r50_nl5_32f_small", "caffe2"),
        ("nonlocal_pyslowfast_i3d_nln_8x8", "pyslowfast"),
        ("nonlocal_mmaction_i3d_r50_nl_embedded_gaussian", "mmaction"),
    ],
)
def test_formats_are_told_apart_and_complete(case: str, name: str, ours: dict) -> None:
    state = {key: torch.empty(shape) for key, shape in load(case).manifest["shapes"].items()}
    assert detect(state) == name
    converted = convert(state)
    # mmcv's output projection has no bias where a norm follows it.
    lacking = {key for key in ours if key.endswith("out.bias")} if name == "mmaction" else set()
    assert set(converted) == set(ours) - lacking
    assert {key: value.shape for key, value in converted.items()} == {key: ours[key].shape for key in converted}


def test_pytorch_port() -> None:
    """Its names are torchvision's, its blocks are called ``nl``; its files do not count batches."""
    names = {
        "conv1.weight": "trunk.stem.conv.weight",
        "bn1.running_var": "trunk.stem.norm.running_var",
        "layer1.0.conv3.weight": "trunk.res2.blocks.0.conv3.weight",
        "layer1.0.bn3.running_mean": "trunk.res2.blocks.0.norm3.running_mean",
        "layer2.0.downsample.0.weight": "trunk.res3.blocks.0.shortcut.conv.weight",
        "layer2.0.downsample.1.bias": "trunk.res3.blocks.0.shortcut.norm.bias",
        "layer3.5.nl.theta.bias": "trunk.res4.nonlocal_blocks.5.theta.bias",
        "layer3.5.nl.out.weight": "trunk.res4.nonlocal_blocks.5.out.weight",
        "layer3.5.nl.bn.weight": "trunk.res4.nonlocal_blocks.5.norm.weight",
        "fc.weight": "head.weight",
    }
    assert detect(names) == "pytorch_resnet3d"
    converted = convert({name: torch.full((1, 1), float(number)) for number, name in enumerate(names)})
    assert {key: value.item() for key, value in converted.items() if "num_batches" not in key} == {
        ours: float(number) for number, ours in enumerate(names.values())
    }
    assert converted["trunk.res2.blocks.0.norm3.num_batches_tracked"] == 0


@torch.no_grad()
def test_pytorch_port_whole() -> None:
    """All weights of the canonical network under the port's names load strictly and give the same logits as ours."""
    model = zoo.create("nonlocal_i3d_r50").eval()
    theirs, ours = {}, {}
    for key, value in model.state_dict().items():
        name = port_name(key)
        theirs[name] = ours[key] = torch.from_numpy(recipe.fill(name, value.shape, seed=3))
    assert len(theirs) == len(ours)
    clip = torch.from_numpy(recipe.inputs("clip", (1, 3, 8, 64, 64), seed=3))
    model.load_state_dict(ours)
    expected = model(clip)
    for tensor in model.state_dict().values():
        tensor.zero_()
    counted = {name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    assert detect(counted) == "pytorch_resnet3d"
    model.load_state_dict(convert(counted))
    assert torch.equal(model(clip), expected)


def port_name(key: str) -> str:
    """What the port calls one of our weights."""
    owner, *parts, last = key.split(".")
    if owner == "head":
        return f"fc.{last}"
    if parts[0] == "stem":
        return f"{'conv1' if parts[1] == 'conv' else 'bn1'}.{last}"
    stage, kind, index, part, *rest = parts
    if kind == "nonlocal_blocks":
        part = f"nl.{'bn' if part == 'norm' else part}"
    elif part == "shortcut":
        part = f"downsample.{['conv', 'norm'].index(rest[0])}"
    return f"layer{int(stage[3:]) - 1}.{index}.{part.replace('norm', 'bn')}.{last}"


def test_solver_state_is_left_out_and_classifiers_are_flattened() -> None:
    blobs = {
        "lr": 0.01,
        "model_iter": 400000,
        "pred_w": torch.zeros(400, 2048, 1, 1, 1).numpy(),
        "pred_w_momentum": torch.zeros(400, 2048).numpy(),
        "res_conv1_bn_riv": torch.ones(64).numpy(),
        "res_conv1_bn_rm": torch.zeros(64).numpy(),
    }
    converted = from_caffe2(blobs)
    assert converted["head.weight"].shape == (400, 2048)
    assert converted["trunk.stem.norm.running_var"].sum() == 64
    assert converted["trunk.stem.norm.num_batches_tracked"] == 0
    assert len(converted) == 4


def test_affine_models_have_no_statistics() -> None:
    converted = from_caffe2({"res2_0_branch1_bn_s": torch.ones(4), "res2_0_branch1_bn_b": torch.ones(4)})
    assert set(converted) == {f"trunk.res2.blocks.0.shortcut.norm.{part}" for part in ("weight", "bias")}


def test_our_own_names_pass_unchanged(ours: dict) -> None:
    assert detect(ours) == "zoo"
    assert convert(ours).keys() == ours.keys()


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (from_caffe2, "res6_0_branch3_w"),
        (from_mmaction, "backbone.layer1.0.conv1.bn.gamma"),
        (from_pytorch_resnet3d, "layer1.0.conv9.weight"),
    ],
)
def test_a_name_without_a_place_is_an_error(function, key: str) -> None:
    with pytest.raises(WeightsError, match=key.replace(".", r"\.")):
        function({key: torch.zeros(1)})


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(WeightsError, match="known formats: zoo, caffe2, pyslowfast, mmaction, pytorch_resnet3d"):
        detect({"encoder.weight": 1})
