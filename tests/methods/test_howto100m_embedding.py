"""The text-video embedding as a model of steps: words travel with weights, narrated clips teach it, steps are found."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import zoo
from tests.methods.crosstask_tree import DIM, TASKS, WORDS, crosstask
from zoo.errors import DataError, WeightsError, ZooError
from zoo.hub.weights import read_weights, save_weights

STEPS = TASKS["2"][1]
SIZES = {"dim": DIM, "embedding": 12, "word_dim": 8}


@pytest.fixture
def table(tmp_path):
    """A file of word vectors."""
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    np.savez(tmp_path / "words.npz", words=np.array(WORDS), vectors=vectors)
    return tmp_path / "words.npz"


@pytest.fixture
def model(table):
    torch.manual_seed(0)
    return zoo.create("howto100m_embedding", **SIZES, word_vectors=str(table)).eval()


def published(model):
    """The weights of the network as their authors' file has them, with the entries that nothing uses."""
    state = {key.removeprefix("network."): value for key, value in model.network.state_dict().items()}
    for side in ("text", "video"):
        state[f"GU_{side}.cg.batch_norm.weight"] = torch.ones(12)
        state[f"GU_{side}.cg.batch_norm.num_batches_tracked"] = torch.tensor(0)
    return state


def test_published_weights_take_words_from_a_file_and_keep_them(model, table, tmp_path):
    torch.save(published(model), tmp_path / "howto100m_pt_model.pth")
    loaded = zoo.load("howto100m_embedding", weights=tmp_path / "howto100m_pt_model.pth", word_vectors=str(table))
    features = torch.rand(9, DIM)
    expected = model.step_scores(features, STEPS)
    assert torch.equal(loaded.step_scores(features, STEPS), expected)
    about = {"model": loaded.name, "arguments": loaded.arguments, "spec": loaded.spec.to_dict()}
    save_weights(tmp_path / "ours.safetensors", loaded.state_dict(), about)
    table.unlink()
    assert read_weights(tmp_path / "ours.safetensors")[1]["arguments"]["word_vectors"] is None
    again = zoo.load("howto100m_embedding", weights=tmp_path / "ours.safetensors")
    assert torch.equal(again.step_scores(features, STEPS), expected)


def test_another_table_takes_the_place_of_the_weights_own(model, tmp_path):
    model.encode_text(STEPS)
    about = {"model": model.name, "arguments": model.arguments, "spec": model.spec.to_dict()}
    save_weights(tmp_path / "ours.safetensors", model.state_dict(), about)
    np.savez(tmp_path / "other.npz", words=np.array(["tea"]), vectors=np.ones((1, 8), np.float32))
    loaded = zoo.load(
        "howto100m_embedding", weights=tmp_path / "ours.safetensors", word_vectors=str(tmp_path / "other.npz")
    )
    assert torch.equal(loaded.word_vectors, torch.ones(1, 8))
    with pytest.raises(ZooError, match=r"no word of 'boil water' is in the table of word vectors \(boil, water\)"):
        loaded.localize(torch.rand(9, DIM), STEPS)


def test_without_words_it_says_so(model, tmp_path):
    torch.save(published(model), tmp_path / "net.pth")
    bare = zoo.load("howto100m_embedding", weights=tmp_path / "net.pth")
    with pytest.raises(ZooError, match="word_vectors=FILE"):
        bare.localize(torch.rand(9, DIM), STEPS)
    torch.save({**published(model), "head.weight": torch.ones(2)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"no place for head\.weight"):
        zoo.load("howto100m_embedding", weights=tmp_path / "net.pth")
    np.savez(tmp_path / "wide.npz", words=np.array(["tea"]), vectors=np.ones((1, 9), np.float32))
    with pytest.raises(WeightsError, match="vectors have 9 numbers, the model takes 8"):
        zoo.create("howto100m_embedding", **SIZES, word_vectors=str(tmp_path / "wide.npz"))


def test_words_are_padded_cut_and_looked_up_as_they_stand(model):
    with torch.no_grad():
        plain, upper, unknown = model.encode_text(["add tea", "Add, TEA!", "add the tea"])
        assert torch.equal(plain, upper)
        assert torch.equal(plain, unknown)
        model.max_words = 1
        assert torch.equal(*model.encode_text(["add tea", "add milk"]))
        model.max_words = 2  # without padding, whose zeros had a part in the maximum
        assert not torch.equal(model.encode_text(["add tea"])[0], plain)


def test_each_stream_of_a_row_is_scaled(model):
    rows = torch.rand(5, DIM)
    scaled = torch.cat([rows[:, :8] * 7, rows[:, 8:] * 0.1], 1)
    torch.testing.assert_close(model.step_scores(rows, STEPS), model.step_scores(scaled, STEPS))


def test_learns_from_narrated_clips_and_finds_steps(model, tmp_path):
    """Clips and captions made from the videos' annotations, as a datamodule of narrated features would serve them."""
    data = crosstask(tmp_path / "data", spec=model.spec, batch_size=4)
    data.setup("fit")
    clips, captions = [], []
    for record in data.records("train"):
        rows = np.load(record.path).astype(np.float32)
        steps = [i for i in record.said.intervals if i.step < 2]  # as many of each video
        clips.append(torch.stack([torch.from_numpy(rows[int(i.start)]) for i in steps]))
        captions.append([f"now {record.said.steps[i.step]}" for i in steps])

    def batches(numbers):
        features = model.scaled(torch.stack([clips[n] for n in numbers]))
        return {"features": features, "captions": [captions[n] for n in numbers]}

    loader = DataLoader([*range(len(clips))] * 4, batch_size=6, shuffle=True, collate_fn=batches)
    pl.seed_everything(0)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(accelerator="cpu", max_epochs=8, default_root_dir=tmp_path, **quiet)
    before = trainer.test(model, data, verbose=False)[0]["average"]
    model.recipe = model.recipe.with_rate(0.01)
    trainer.fit(model, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.9**8)
    after = trainer.test(model, data, verbose=False)[0]["average"]
    assert after > 60 > before
    loaded = zoo.load(str(tmp_path / "last.ckpt"))
    rows = torch.rand(9, DIM)
    assert torch.equal(loaded.step_scores(rows, STEPS), model.eval().step_scores(rows, STEPS))
    with pytest.raises(DataError, match="narrated clips"):
        model.training_step({"features": rows}, 0)
