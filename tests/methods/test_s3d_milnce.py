"""MIL-NCE: the loss against the public code, published files under our names, words, retrieval."""

from __future__ import annotations

import io

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.goldens import load
from tests.hub_server import HubServer, Plain
from tests.pairs import in_two
from zoo.data.narrated_loader import collate_narrated
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


def test_the_loss_of_long_embeddings_is_finite_in_half_precision(model):
    """Their dot products are not: 200 x 200 x 64 is more than 65504."""
    clips = torch.randint(0, 256, (2, *model.input_shape()), dtype=torch.uint8)
    for head in (model.video.fc, model.text.fc2):
        torch.nn.init.constant_(head.bias, 200.0)
    model.trainer = pl.Trainer(accelerator="cpu", logger=False)
    model.log = lambda *args, **more: None
    with torch.autocast("cpu", torch.float16):
        loss = model.training_step({"clips": clips, "captions": [["cut"], ["pour"]]}, 0)
    assert loss.isfinite()


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


def test_a_dictionary_that_lies_about_its_length_is_refused(tmp_path):
    with open(tmp_path / "huge.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<U64", "fortran_order": False, "shape": (10**13,)})
    with pytest.raises(WeightsError, match=r"huge.npy cannot be read as a dictionary"):
        Dictionary.read(tmp_path / "huge.npy")
    np.save(tmp_path / "half.npy", np.array(["cut", "\ud800"]))  # half a pair of UTF-16
    assert len(Dictionary.read(tmp_path / "half.npy")) == 2


def test_it_reads_where_it_was_loaded_in_inference_mode(model):
    expected = model.encode_text(["pour milk"])
    with torch.inference_mode():
        other = zoo.create("s3d_milnce_tiny", num_words=5)
        load_strict(other, model.state_dict())
        assert torch.equal(other.eval().encode_text(["pour milk"]), expected)


def test_the_most_frequent_words_are_learned_where_not_all_fit():
    class Said:
        def vocabulary(self, most=None):
            return ["cut", "pour", "stir", "bake", "milk", "tea"][:most]

    model = zoo.create("s3d_milnce_tiny", num_words=5)
    model.trainer = pl.Trainer(accelerator="cpu", logger=False)
    model.trainer.datamodule = Said()
    model.on_fit_start()
    assert list(model.words.numbers) == ["cut", "pour", "stir", "bake"]


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


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    metric = TextToClip()
    clips = torch.eye(4)
    metric.update(clips, torch.stack([clips[0], clips[1], clips[3], clips[1]]), torch.arange(4))  # ranks 1, 1, 4, 4
    assert metric.compute()["median_rank"] == 2.5


def _one_of_two(rank: int, model: MilNce, batches: list[dict]) -> dict:
    metric = TextToClip()
    with torch.no_grad():
        model._score(batches[rank], metric)
    return metric.compute()


@pytest.mark.slow
def test_a_process_that_can_read_no_video_does_not_stop_the_other(model, tmp_path):
    samples = [
        {"clips": torch.full(model.input_shape(), 60 * n, dtype=torch.uint8), "captions": ["cut"], "times": (0, 1)}
        | {"index": n, "unreadable": []}
        for n in range(2)
    ]
    batches = [collate_narrated(samples), collate_narrated([{"index": 2, "unreadable": [(2, "broken")]}])]
    alone = TextToClip()
    with torch.no_grad():
        model._score(batches[0], alone)
    assert in_two(tmp_path, _one_of_two, model, batches) == [alone.compute()] * 2


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
