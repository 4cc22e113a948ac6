"""Files in the formats of the goals code and of torchvision, with recipe weights, give the reference numbers."""

from __future__ import annotations

import argparse

import pytest
import torch

import zoo
from tests import goldens
from tests.goldens import recipe


@pytest.mark.slow
def test_a_trajectory_checkpoint_as_the_goals_code_writes_it(tmp_path):
    case = goldens.load("goal_trajectory_forward")
    state = {f"module.{key}": value for key, value in case.state().items()}
    state["module.video_transformer.embeddings.position_embeddings.pe"] = torch.zeros(1, 64, 512)
    file = {
        "model": state,
        "optim": {"state": {}, "param_groups": [{"lr": 3e-5}]},
        "amp": None,
        "epoch": 3,
        "best_loss": 0.5,
        "args": argparse.Namespace(lr=3e-5, fixed_position_embeddings=True),
        "global_step": 12,
    }
    torch.save(file, tmp_path / "best.pth")
    model = zoo.load("goal_trajectory", weights=tmp_path / "best.pth")
    lengths = case.stored["lens"].tolist()
    with torch.no_grad():
        h, logits = model.trace(model.encode(case.input("videos")), lengths)
    expected = case.outputs["clip_logits"].unflatten(0, (2, -1))
    clips = torch.cat([expected[row, 1 : 1 + n] for row, n in enumerate(lengths)])
    torch.testing.assert_close(h, case.outputs["h_per_clip"], atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(logits, clips, atol=2e-4, rtol=2e-4)

    words = {"svo_decoder_head.1.weight": torch.randn(12, 512), "svo_decoder_head.1.bias": torch.randn(12)}
    words["svo_decoder_embs.weight"] = torch.randn(7, 4)
    file["model"] = {**state, **{f"module.{key}": value for key, value in words.items()}}
    torch.save(file, tmp_path / "svo.pth")
    decoder = zoo.load("goal_decoder", weights=tmp_path / "svo.pth", num_words=7, word_dim=4)
    assert torch.equal(decoder.trunk.head.weight, model.head.weight)
    assert torch.equal(decoder.decoder.words, words["svo_decoder_embs.weight"])


def test_a_clip_network_starts_from_torchvisions_file(tmp_path):
    """Under torchvision's names, with a head for Kinetics: the trunk is taken, the head stays fresh."""
    shapes = {k: list(v.shape) for k, v in zoo.create("r3d18").state_dict().items()}
    theirs = {k.replace("trunk.", "").replace("head.", "fc."): v for k, v in shapes.items()}
    state = {k: torch.from_numpy(v) for k, v in recipe.state_dict(theirs, 5).items()}
    torch.save(state, tmp_path / "r3d_18.pth")
    kinetics = zoo.load("r3d18", weights=tmp_path / "r3d_18.pth")
    assert torch.equal(kinetics.head.weight, state["fc.weight"])
    model = zoo.create("oops_r3d18")
    fresh = model.head.weight.clone()
    model.load_state_dict(model.adapt(kinetics.state_dict()))
    assert torch.equal(model.trunk.stem[0].weight, state["stem.0.weight"])
    assert torch.equal(model.head.weight, fresh)
    trajectory = zoo.create("goal_trajectory")
    with pytest.raises(zoo.WeightsError, match="cannot start"):  # R3D is not the trajectory's R(2+1)D
        trajectory.adapt(kinetics.state_dict())


def test_nobody_has_published_a_trajectory():
    with pytest.raises(zoo.FetchError, match=r"nobody has published weights for 'goal_trajectory'.*zoo fit"):
        zoo.load("goal_trajectory")
