"""The zoo's own weight files: whole, sealed, and loaded into every last parameter."""

from __future__ import annotations

import os
import stat

import pytest
import safetensors.torch
import torch
from torch import nn

from zoo._version import __version__
from zoo.errors import FetchError, WeightsError
from zoo.hub.weights import load_strict, read_weights, save_weights


def small() -> nn.Module:
    """A network with a trunk, a counter and a head."""
    module = nn.Module()
    module.trunk = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module.head = nn.Linear(2, 5)
    return module


def test_tensors_and_metadata_come_back(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    state = {
        "a": shared,
        "b": shared.T,
        "same": shared,
        "half": torch.ones(2, dtype=torch.float16),
        "n": torch.tensor(7),
    }
    story = {"labels": ["sit", "stand"], "spec": {"frames": 8}, "source_sha256": "ab" * 32}
    save_weights(tmp_path / "deep" / "x.safetensors", state, story)
    read, metadata = read_weights(tmp_path / "deep" / "x.safetensors")
    assert metadata == {**story, "version": __version__}
    assert set(read) == set(state)
    for name, value in state.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    assert os.listdir(tmp_path / "deep") == ["x.safetensors"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(os.stat(tmp_path / "deep" / "x.safetensors").st_mode) == 0o666 & ~mask


def test_any_flipped_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, {"w": torch.arange(4.0)}, {"labels": ["a"]})
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 3, 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(WeightsError, match=r"x\.safetensors"):
                read_weights(path)


def test_a_cut_file_is_refused_and_a_foreign_one_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, {"w": torch.arange(4.0)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        read_weights(path)
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    state, metadata = read_weights(path)
    assert torch.equal(state["w"], torch.ones(2))
    assert metadata == {}


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FetchError, match="not a usable folder"):
        save_weights(tmp_path / "file" / "x.safetensors", {"w": torch.ones(2)})
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(FetchError, match=r"cannot write x\.safetensors"):
        save_weights(tmp_path / "x.safetensors", {"w": torch.ones(2)})
    assert sorted(os.listdir(tmp_path)) == ["file", "x.safetensors"]


def test_load_strict_fills_everything_or_nothing():
    module = small()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {name: torch.full_like(value, 2) for name, value in before.items()}
    wrong = {**state, "trunk.2.weight": torch.ones(1), "head.weight": torch.ones(4, 2)}
    del wrong["trunk.1.running_mean"]
    del wrong["trunk.0.bias"]
    with pytest.raises(WeightsError) as error:
        load_strict(module, wrong)
    for line in (
        "missing: trunk.1.running_mean [2]",
        "missing: trunk.0.bias [2]",
        "unexpected: trunk.2.weight [1]",
        "wrong shape: head.weight is [4, 2], must be [5, 2]",
    ):
        assert line in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    load_strict(module, state)
    assert all((value == 2).all() for value in module.state_dict().values())


def test_a_replaced_head_stays_fresh_and_the_rest_stays_strict():
    module = small()
    head = module.head.weight.clone()
    state = {name: torch.full_like(value, 2) for name, value in module.state_dict().items()}
    state["head.weight"] = torch.ones(9, 2)
    load_strict(module, state, replaced_head=True)
    assert torch.equal(module.head.weight, head)
    assert (module.trunk[0].weight == 2).all()
    del state["trunk.0.bias"]
    with pytest.raises(WeightsError, match=r"missing: trunk\.0\.bias"):
        load_strict(module, state, replaced_head=True)


def test_half_precision_fills_a_full_precision_module():
    module = small()
    load_strict(module, {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()})
    assert module.head.weight.dtype == torch.float32
