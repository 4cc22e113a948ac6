"""Proofs are recomputed, damage anywhere is found, and what cannot be checked is said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from tests.hub import tiny
from tests.hub.caffe2_file import caffe2_pickle
from tests.hub_server import Plain
from zoo.errors import WeightsError
from zoo.files import cache_root, sha256_of
from zoo.hub.fetch import upstream_path
from zoo.hub.manifest import Bundled
from zoo.hub.proof import check_proof, verify, write_proof
from zoo.hub.weights import load_strict, save_weights


@pytest.fixture
def model() -> tiny.Tiny:
    module = tiny.Tiny()
    load_strict(module, tiny.expected())
    return module


@pytest.fixture
def clips() -> dict[str, torch.Tensor]:
    return {"clips": torch.rand(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))}


@pytest.fixture
def bundled(tmp_path, model, clips, monkeypatch):
    """A checkpoint that travels with the package, and its two files."""
    monkeypatch.setattr("zoo.hub.fetch.resource", lambda relative: tmp_path / relative)
    save_weights(tmp_path / "tiny.safetensors", model.state_dict())
    write_proof(tmp_path / "proof.safetensors", model, clips)
    sha256 = sha256_of(tmp_path / "tiny.safetensors")
    return tiny.checkpoint(source=Bundled("tiny.safetensors"), sha256=sha256, proof="proof.safetensors")


def test_right_weights_give_the_outputs_and_changed_ones_do_not(tmp_path, model, clips):
    model.train()
    write_proof(tmp_path / "p", model, clips)
    assert model.training
    result = check_proof(tmp_path / "p", model)
    assert result.ok
    assert result.differences == {"output": 0.0}
    with torch.no_grad():
        model.trunk.weight[2, 1, 0, 1, 1] += 0.1
    result = check_proof(tmp_path / "p", model)
    assert not result.ok
    assert result.differences["output"] > 1e-4
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    assert check_proof(tmp_path / "p", model).differences == {"output": float("inf")}


def test_outputs_of_another_shape_or_name_fail(tmp_path, model, clips):
    write_proof(tmp_path / "p", model, clips)
    assert check_proof(tmp_path / "p", tiny.Tiny(num_classes=3)).outside == ("output",)
    model.forward = lambda clips: {"logits": tiny.Tiny.forward(model, clips)}
    assert check_proof(tmp_path / "p", model).outside == ("logits", "output")


def test_a_file_that_is_no_proof_is_refused(tmp_path, model):
    save_weights(tmp_path / "p", model.state_dict())
    with pytest.raises(WeightsError, match="is no proof"):
        check_proof(tmp_path / "p", model)


def test_verify_passes_from_bytes_to_outputs(bundled):
    result = verify(bundled, tiny.Tiny(), tiny.convert)
    assert result.ok
    assert [(step.name, step.ok) for step in result.steps] == [("file", True), ("weights", True), ("outputs", True)]
    assert str(result).splitlines()[0] == bundled.name  # of several, one can tell which is which
    assert "is the manifest's" in str(result)


@pytest.mark.parametrize("file", ["tiny.safetensors", "proof.safetensors"])
def test_verify_fails_on_a_flipped_byte_anywhere(bundled, tmp_path, file):
    path = tmp_path / file
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        result = verify(bundled, tiny.Tiny(), tiny.convert)
        assert not result.ok, at
        assert result.steps[-1].name == ("file" if file == "tiny.safetensors" else "outputs")
        assert file in result.steps[-1].detail
    path.write_bytes(whole)
    assert verify(bundled, tiny.Tiny(), tiny.convert).ok


def test_verify_fails_where_hash_and_seal_agree_but_the_model_does_not(bundled, tmp_path, model):
    with torch.no_grad():
        model.head.bias += 1
    save_weights(tmp_path / "tiny.safetensors", model.state_dict())
    changed = tiny.checkpoint(
        source=bundled.source, sha256=sha256_of(tmp_path / "tiny.safetensors"), proof="proof.safetensors"
    )
    result = verify(changed, tiny.Tiny(), tiny.convert)
    assert [step.ok for step in result.steps] == [True, True, False]
    assert "output differs by 1 " in str(result)
    result = verify(changed, tiny.Tiny(num_classes=3), tiny.convert)
    assert [step.ok for step in result.steps] == [True, False]
    assert "wrong shape: head.bias" in str(result)


def test_verify_of_published_weights_without_a_proof_says_so(online):
    data = caffe2_pickle(tiny.blobs())
    online.plain["/release/tiny.pkl"] = Plain(data)
    result = verify(tiny.checkpoint(), tiny.Tiny(), tiny.convert)
    assert result.ok
    assert result.steps[-1].ok is None
    assert "no proof was published" in str(result)
    assert f"{hashlib.sha256(data).hexdigest()} is that of the first download here; its publisher gives none" in str(
        result
    )
    for path in (upstream_path(tiny.checkpoint().source, cache_root()), next(Path(cache_root()).glob("converted/*"))):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        assert not verify(tiny.checkpoint(), tiny.Tiny(), tiny.convert).ok
        path.write_bytes(whole)
    upstream_path(tiny.checkpoint().source, cache_root()).unlink()
    result = verify(tiny.checkpoint(), tiny.Tiny(), tiny.convert)
    assert result.ok
    assert "only the conversion is here" in str(result)
