"""The read-out of goals: what learns, whose words, and what a test of it compares."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import zoo
from zoo.hub.weights import load_strict
from zoo.hub.words import build_words
from zoo.methods.autocorrect import Settings
from zoo.metrics.svo import SvoScore, SvoShift


@pytest.fixture
def words(tmp_path):
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text('["", "box", "boy", "carry", "drop"]')
    build_words(vocabulary, "random", tmp_path / "words.safetensors", dim=16)
    return tmp_path / "words.safetensors"


def test_only_the_read_out_learns_and_batch_norm_stands_still():
    model = zoo.create("goal_decoder_tiny", num_words=5, word_dim=8).train()
    norms = [m for m in model.trunk.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert norms
    assert not any(m.training for m in norms)
    assert model.trunk.transformer.dropout.training  # as in the release
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {"decoder.linear.weight", "decoder.linear.bias"}


def test_words_travel_in_the_weights_not_as_a_file(words, tmp_path):
    model = zoo.create("goal_decoder_tiny", words=str(words))
    assert model.labels == ("", "box", "boy", "carry", "drop")
    assert model.arguments == {"words": None, "num_words": 5, "word_dim": 16}
    words.unlink()
    again = zoo.create("goal_decoder_tiny", **model.arguments)
    load_strict(again, model.state_dict())
    assert torch.equal(again.decoder.words, model.decoder.words)


def test_starts_from_a_trunk_and_from_what_the_trunk_starts_from():
    trunk = zoo.create("oops_cnn_tiny")
    decoder = zoo.create("goal_decoder_cnn_tiny", num_words=5)
    load_strict(decoder, decoder.adapt(trunk.state_dict()))
    assert torch.equal(decoder.trunk.head.weight, trunk.head.weight)
    kinetics = {k: v for k, v in trunk.state_dict().items() if k.startswith("trunk.")}
    kinetics |= {"head.weight": torch.zeros(400, 64), "head.bias": torch.zeros(400)}
    fresh = zoo.create("goal_decoder_cnn_tiny", num_words=5)
    before = fresh.trunk.head.weight.clone()
    load_strict(fresh, fresh.adapt(kinetics))
    assert torch.equal(fresh.trunk.trunk.stem[0].weight, trunk.trunk.stem[0].weight)
    assert torch.equal(fresh.trunk.head.weight, before)


def data(**values):
    return SimpleNamespace(datamodule=SimpleNamespace(name="oops", **values))


def test_refuses_other_words(words):
    model = zoo.create("goal_decoder_tiny", words=str(words))
    model._trainer = data(goals=True, vocabulary=("", "box"))
    with pytest.raises(zoo.DataError, match=r"knows 5 words, oops has 2.*zoo words"):
        model.setup("fit")
    model._trainer = data(goals=True, vocabulary=("", "boy", "box", "carry", "drop"))
    with pytest.raises(zoo.DataError, match="another order"):
        model.setup("test")
    model._trainer = data(goals=False, vocabulary=())
    with pytest.raises(zoo.DataError, match=r"--data\.goals true"):
        model.setup("fit")
    with pytest.raises(zoo.ZooError, match="autocorrect"):
        zoo.create("goal_decoder_tiny", autocorrect="magic")


def test_half_of_the_words_are_left_out_of_the_loss():
    torch.manual_seed(0)
    model = zoo.create("goal_decoder_tiny", num_words=5)
    h, svo = torch.randn(40, 64), torch.randint(5, (40, 3))
    full, none = (zoo.create("goal_decoder_tiny", num_words=5, drop=p) for p in (0.0, 1.0))
    full.load_state_dict(model.state_dict())
    assert none.loss(h, svo) == 0
    assert model.loss(h, svo) != model.loss(h, svo)
    assert full.loss(h, svo) == full.loss(h, svo)


@pytest.mark.parametrize("how", ["adversarial", "linearized"])
def test_a_test_pools_segments_and_corrects_the_second(how):
    torch.manual_seed(0)
    model = zoo.create("goal_decoder_tiny", num_words=7, word_dim=16, autocorrect=how).eval()
    phi, lengths = torch.randn(11, 64), [6, 5]
    label = torch.tensor([0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0])  # nothing goes wrong in the second video
    triples = [
        {"intentional": torch.tensor([[1, 2, 3]]), "unintentional": torch.tensor([[1, 4, 0]])},
        {"intentional": torch.tensor([[5, 6, 0], [5, 2, -1]]), "unintentional": torch.zeros(0, 3, dtype=torch.int64)},
    ]
    score, shift = SvoScore(), SvoShift()
    with torch.inference_mode():  # as a test runs
        model.score(phi.clone(), lengths, label, triples, [0, 1], score, shift)
    with torch.no_grad():
        h = model.trunk.trace(phi, lengths)[0]
        found = model.trunk.correct(phi, lengths, label > 0, linear=how == "linearized")
        expected, expected_shift = SvoScore(), SvoShift()
        scores, before, after = model.decoder(h), model.decoder(found.before), model.decoder(found.h)
    expected.update(scores[:3].mean(0), triples[0]["intentional"], video=0, segment=0)
    expected.update(scores[3:6].mean(0), triples[0]["unintentional"], video=0, segment=1)
    expected.update(scores[6:].mean(0), triples[1]["intentional"], video=1, segment=0)
    expected_shift.update(before[3:6].mean(0), after[3:6].mean(0), **triples[0], video=0)
    for ours, theirs in ((score.compute(), expected.compute()), (shift.compute(), expected_shift.compute())):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert shift.compute()["videos"] == 1
    assert not torch.equal(found.h[3:6], found.before[3:6])


def test_no_correction_moves_no_word():
    """Before and after are read from the same, split, sequence."""
    torch.manual_seed(0)
    model = zoo.create("goal_decoder_tiny", num_words=7, word_dim=16, autocorrect="adversarial").eval()
    model.trunk.correction = Settings(iterations=0)
    triples = [{"intentional": torch.tensor([[1, 2, 3]]), "unintentional": torch.tensor([[1, 4, 0]])}]
    shift = SvoShift()
    with torch.no_grad():
        model.score(torch.randn(6, 64), [6], torch.tensor([0, 0, 0, 1, 2, 2]), triples, [0], SvoScore(), shift)
    assert {float(v) for k, v in shift.compute().items() if k != "videos"} == {0.0}


def test_refuses_a_trunk_that_does_not_fit():
    with pytest.raises(zoo.WeightsError, match=r"cannot start from these weights: .* such as"):
        zoo.create("goal_decoder_tiny").adapt(zoo.create("goal_trajectory_tiny", width=32).state_dict())
    with pytest.raises(zoo.WeightsError, match="cannot start"):
        zoo.create("oops_cnn_tiny").adapt(zoo.create("goal_trajectory_tiny").state_dict())
    with pytest.raises(zoo.WeightsError, match="cannot start"):
        zoo.create("goal_trajectory_tiny", channels=4).adapt(zoo.create("oops_cnn_tiny").state_dict())


@pytest.mark.parametrize("name", ["goal_decoder", "goal_decoder_r3d18"])
def test_the_papers_decoders_read_seven_to_nine_clips(name):
    with torch.device("meta"):
        assert zoo.create(name).spec.trajectory.clips == (7, 9)
