"""MIL-NCE: the loss against the public code, published files under our names, words, retrieval."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import zoo
from tests.goldens import load
from tests.hub_server import HubServer, Plain
from zoo.errors import WeightsError, ZooError
from zoo.files import cache_root
from zoo.hub.weights import load_strict
from zoo.methods.s3d_milnce import DICTIONARY, MilNce, milnce_loss
from zoo.metrics.text_to_clip import TextToClip
from zoo.networks.dictionary import LETTERS, Dictionary, encode


def test_the_loss_and_its_gradients():
    case = load("actionness_milnce_loss")
    video, text = (case.input(name).requires_grad_() for name in ("video_embd", "text_embd"))
    loss = milnce_loss(video, text)
    loss.backward()
    case.check("loss", loss[None])
    case.check("grad_video", video.grad)
    case.check("grad_text", text.grad)
    case.assert_complete()


@pytest.fixture
def model() -> MilNce:
    torch.manual_seed(0)
    model = zoo.create("s3d_milnce_tiny", num_words=5)
    model.words.learn(["cut", "pour", "don't", "milk"])
    return model.eval()


def published(model: MilNce, prefix: str = "") -> dict[str, torch.Tensor]:
    """The model's weights under the names that the port, or with a prefix the training code, gives them."""
    return {
        prefix + key.replace("video.", "", 1).replace("text.", "text_module.", 1): value.clone()
        for key, value in model.state_dict().items()
        if not key.startswith("words.")
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_file_is_the_model(model, prefix):
    state = published(model, prefix) | {DICTIONARY: encode(["cut", "pour", "don't", "milk"])}
    other = zoo.create("s3d_milnce_tiny", **model.asked_by(model.upstream_keys(state), {}))
    load_strict(other, model.upstream_keys(state))
    texts = ["Pour the MILK", "don't cut"]
    assert torch.equal(other.eval().encode_text(texts), model.encode_text(texts))
    clips = torch.randint(0, 256, (2, *model.input_shape()), dtype=torch.uint8)
    assert torch.equal(other.features(clips), model.features(clips))


def test_the_stem_is_told_by_the_weights():
    state = published(zoo.create("s3d_milnce_tiny", space_to_depth=False))
    model = zoo.create("s3d_milnce_tiny")
    assert model.asked_by(model.upstream_keys(state), {})["space_to_depth"] is False


def test_without_a_dictionary_it_sees_and_does_not_read(model, tmp_path):
    other = zoo.create("s3d_milnce_tiny", num_words=5)
    load_strict(other, model.upstream_keys(published(model)))
    with pytest.raises(ZooError, match=r"read_dictionary\('s3d_dict.npy'\)"):
        other.encode_text(["cut"])
    np.save(tmp_path / "s3d_dict.npy", np.array(["cut", "pour", "don't", "milk"]))
    other.read_dictionary(tmp_path / "s3d_dict.npy")
    assert torch.equal(other.encode_text(["don't pour"]), model.encode_text(["don't pour"]))


def test_step_scores_are_those_of_the_embedding(model):
    clips = torch.randint(0, 256, (3, *model.input_shape()), dtype=torch.uint8)
    names = ["cut", "pour milk"]
    with torch.no_grad():
        expected = model(model.normalize(clips)) @ model.encode_text(names).T
        torch.testing.assert_close(model.step_scores(model.features(clips), names), expected)


def test_a_dictionary_comes_from_text_alone(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array(["cut", None], dtype=object))
    with pytest.raises(WeightsError, match=r"pickled.npy cannot be read as a dictionary"):
        Dictionary.read(tmp_path / "pickled.npy")
    np.save(tmp_path / "numbers.npy", np.arange(3))
    with pytest.raises(WeightsError, match="array of texts"):
        Dictionary.read(tmp_path / "numbers.npy")
    words = Dictionary(1)
    with pytest.raises(WeightsError, match="num_words=3"):
        words.learn(["cut", "pour"])


def test_a_word_that_is_too_long_keeps_its_number():
    words = Dictionary(3)
    words.learn(["cut", "x" * (LETTERS + 1), "œuf"])
    assert words.numbers == {"cut": 1, "œuf": 3}


def test_retrieval_counts_a_clip_once_and_ties_against_it():
    metric = TextToClip()
    clips = torch.eye(4)
    metric.update(clips, clips, torch.arange(4))
    metric.update(clips[:1], clips[1:2], torch.tensor([0]))  # another process's repetition
    assert metric.compute()["recall_1"] == 100
    assert metric.compute()["videos"] == 4
    blind = TextToClip()
    blind.update(torch.ones(20, 2), torch.ones(20, 2), torch.arange(20))
    assert blind.compute()["recall_10"] == 0
    assert blind.compute()["median_rank"] == 20


FOLDER = "/cluster-willow/amiech/howto100m"


@pytest.mark.slow
def test_the_published_files_give_the_reference_outputs(monkeypatch):
    """Both files from where they lie, by way of a mirror: the weights, and the words that belong to them."""
    case = load("actionness_s3d")
    config = case.manifest["config"]
    state = {key: value * 1.65 if value.ndim == 5 else value for key, value in case.state().items()}
    weights, words = io.BytesIO(), io.BytesIO()
    torch.save(state, weights)
    np.save(words, np.array(config["dictionary"]))
    with HubServer().running() as server:
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("ZOO_MIRROR", server.url)
        server.plain[f"{FOLDER}/s3d_howto100m.pth"] = Plain(weights.getvalue())
        server.plain[f"{FOLDER}/s3d_dict.npy"] = Plain(words.getvalue())
        model = zoo.load("s3d_milnce")
    with torch.no_grad():
        case.check("text_embedding", model.encode_text(config["sentences"]))
        case.check("video.video_embedding", model(case.input("video")))
    assert model.checkpoint.name == "s3d_milnce.howto100m"
    pin = cache_root() / "upstream/www.rocq.inria.fr" / FOLDER[1:] / "s3d_dict.npy.sha256"
    assert pin.read_text().endswith("  s3d_dict.npy\n")
    again = zoo.load("s3d_milnce")  # from the conversion, words and all
    assert again.words.numbers == model.words.numbers
