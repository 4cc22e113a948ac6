"""To the hub and back through the real client, against a server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from tests.hub import tiny
from tests.hub_server import TOKEN, HubServer
from zoo.errors import FetchError, WeightsError, ZooError
from zoo.hub.fetch import local_weights, proof_path
from zoo.hub.manifest import Hub, Protocol, Reported
from zoo.hub.proof import verify
from zoo.hub.publish import publish, read_repo, verify_repo
from zoo.hub.weights import load_strict, read_weights

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # how the client uploads is the client's affair
PROTOCOL = Protocol("toys", "val", "sum of softmax", 10, 3, 256, 256)


@pytest.fixture
def client(online: HubServer, tmp_path, monkeypatch) -> HubServer:
    """The hub's client pointed at the loopback; its environment was read when it was imported."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, online.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", online.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return online


@pytest.fixture
def model() -> tiny.Tiny:
    module = tiny.Tiny()
    load_strict(module, tiny.expected())
    return module


def entry():
    """A manifest entry with everything that a card can show."""
    by = "github:someone/something@abc1234"
    reported = Reported(by, {"top1": 74.9, "top5": 91.6}, PROTOCOL, "toys/1", "row")
    return tiny.checkpoint(reported=reported, measured={"top1": 74.7}, notes="Made of toys.")


def test_a_model_goes_to_the_hub_and_comes_back(client, model):
    address = publish(model, "org/tiny", checkpoint=entry())
    assert address == f"{client.url}/org/tiny"
    assert len(client.repos["org/tiny"].commits) == 2, "creation, and one commit of everything"
    config, path = read_repo("hf://org/tiny")
    assert config["model"] == "tiny"
    assert config["arguments"] == {"num_classes": 2}
    assert config["spec"] == tiny.Tiny.spec.to_dict()
    assert config["labels"] == ["sit", "stand"]
    assert config["license"] == "CC-BY-NC-4.0"
    back = tiny.Tiny()
    load_strict(back, read_weights(path)[0])
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    result = verify_repo("hf://org/tiny", tiny.Tiny())
    assert [step.ok for step in result.steps] == [True, True, True]


def test_the_card_is_for_people_and_machines(client, model):
    publish(model, "org/tiny", checkpoint=entry())
    card = ModelCard(client.repos["org/tiny"].commits[-1][1]["README.md"].decode())
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "videozoo"
    assert card.data.pipeline_tag == "video-classification"
    assert card.data.datasets == ["toys"]
    scores = {r.metric_name: (r.metric_value, r.dataset_type, r.dataset_split) for r in card.data.eval_results}
    assert scores == {
        "Top-1 accuracy (measured)": (74.7, "toys", "val"),
        "Top-1 accuracy (reported by github:someone/something@abc1234)": (74.9, "toys", "val"),
        "Top-5 accuracy (reported by github:someone/something@abc1234)": (91.6, "toys", "val"),
    }
    for text in (
        'zoo.load("hf://org/tiny")',
        "10 clips x 3 crops of 256",
        "Made of toys.",
        "code that trained them: Apache",
    ):
        assert text in card.text


def test_weights_of_nobody_known_are_published_without_scores(client, model):
    publish(model, "org/mine", license="MIT", private=True)
    card = ModelCard(client.repos["org/mine"].commits[-1][1]["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.eval_results is None
    publish(model, "org/unlicensed")
    card = ModelCard(client.repos["org/unlicensed"].commits[-1][1]["README.md"].decode())
    assert card.data.license is None
    assert "not stated" in card.text


def test_a_revision_keeps_its_weights(client, model):
    publish(model, "org/tiny")
    first = client.repos["org/tiny"].commits[-1][0]
    with torch.no_grad():
        model.head.bias += 1
    publish(model, "org/tiny")
    new, old = (read_weights(read_repo(uri)[1])[0] for uri in ("hf://org/tiny", f"hf://org/tiny@{first}"))
    assert torch.allclose(new["head.bias"] - old["head.bias"], torch.ones(2))


def test_what_was_fetched_once_serves_without_a_network(client, model, monkeypatch):
    publish(model, "org/tiny")
    _, path = read_repo("hf://org/tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    before = len(client.requests)
    assert read_repo("hf://org/tiny")[1] == path
    assert len(client.requests) == before
    with pytest.raises(FetchError, match=r"cannot fetch hf://org/other: config\.json"):
        read_repo("hf://org/other")


@pytest.mark.parametrize("file", ["model.safetensors", "proof.safetensors"])
def test_a_flipped_byte_on_the_hub_is_noticed(client, model, file):
    publish(model, "org/tiny")
    files = client.repos["org/tiny"].commits[-1][1]
    files[file] = files[file][:-1] + bytes([files[file][-1] ^ 1])
    result = verify_repo("hf://org/tiny", tiny.Tiny())
    assert not result.ok
    assert f"is not the {file} that was published at hf://org/tiny" in result.steps[-1].detail
    if file == "model.safetensors":
        with pytest.raises(WeightsError, match="SHA-256"):
            read_repo("hf://org/tiny")


def test_a_byte_flipped_in_the_cache_is_noticed_by_verify(client, model):
    publish(model, "org/tiny")
    _, path = read_repo("hf://org/tiny")
    real = path.resolve()
    data = bytearray(real.read_bytes())
    data[100] ^= 1
    real.write_bytes(data)
    assert not verify_repo("hf://org/tiny", tiny.Tiny()).ok


def test_a_manifest_entry_on_the_hub_is_fetched_checked_and_verified(client, model):
    publish(model, "org/tiny")
    commit, files = client.repos["org/tiny"].commits[-1]
    sha256 = json.loads(files["config.json"])["files"]["model.safetensors"]
    source = Hub("org/tiny", "model.safetensors", commit)
    found = tiny.checkpoint(source=source, sha256=sha256, proof="proof.safetensors")
    assert read_weights(local_weights(found, tiny.convert))[0].keys() == model.state_dict().keys()
    assert proof_path(found).name == "proof.safetensors"
    assert [step.ok for step in verify(found, tiny.Tiny(), tiny.convert).steps] == [True, True, True]
    with pytest.raises(WeightsError, match=f"the manifest has {'0' * 64}"):
        local_weights(tiny.checkpoint(source=source, sha256="0" * 64), tiny.convert)
    with pytest.raises(FetchError, match=r"cannot fetch tiny\.toys_4x1[\s\S]*HF_ENDPOINT"):
        local_weights(tiny.checkpoint(source=Hub("org/none", "x", "main"), sha256=sha256), tiny.convert)


def test_repositories_of_others_and_wrong_addresses_are_named(client, model):
    publish(model, "org/tiny")
    files = client.repos["org/tiny"].commits[-1][1]
    files["config.json"] = b'{"architectures": ["Bert"]}'
    with pytest.raises(WeightsError, match=r"holds no config\.json of videozoo"):
        read_repo("hf://org/tiny")
    files["config.json"] = b"not json"
    with pytest.raises(WeightsError, match=r"holds no config\.json of videozoo"):
        read_repo("hf://org/tiny@main")
    for uri in ("hf://org/absent", "hf://org/tiny@" + "0" * 40):
        with pytest.raises(FetchError, match="cannot fetch"):
            read_repo(uri)
    for uri in ("hf://tiny", "hf://org/tiny/model.safetensors", "hf://../tiny x"):
        with pytest.raises(FetchError, match="write hf://org/name"):
            read_repo(uri)


def test_publishing_without_permission_says_how_to_get_it(client, model, monkeypatch):
    with pytest.raises(FetchError, match=r"cannot publish to 'org/tiny'[\s\S]*hf auth login"):
        publish(model, "org/tiny", token="hf_wrong")
    assert client.repos == {}
    with pytest.raises(FetchError, match="cannot publish to 'not a name'"):
        publish(model, "not a name")
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(FetchError, match="HF_ENDPOINT"):
            publish(model, "org/tiny")
    model.arguments = {"trunk": model.trunk}
    with pytest.raises(ZooError, match="must be plain values"):
        publish(model, "org/tiny")
    assert client.repos == {}


@pytest.mark.slow
def test_the_environment_alone_points_the_client_at_another_hub(hub, tmp_path):
    """As a user has it: HF_ENDPOINT, HF_HOME and HF_TOKEN, nothing patched."""
    code = """
from tests.hub import tiny
from zoo.hub.publish import publish, read_repo, verify_repo
print(publish(tiny.Tiny(), "org/tiny", license="MIT"))
print(read_repo("hf://org/tiny")[0]["model"], verify_repo("hf://org/tiny", tiny.Tiny()).ok)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == [f"{hub.url}/org/tiny", "tiny", "True"], done.stderr
