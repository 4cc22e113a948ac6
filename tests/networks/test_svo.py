"""The read-out of subject, verb and object: scores and losses of the released code, what trains and what does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import goldens
from zoo.networks.svo import SvoHead, svo_loss


def released_head(case: goldens.Case) -> SvoHead:
    """The case's head with its weights."""
    state, config = case.state(), case.manifest["config"]
    head = SvoHead(512, config["vocab"], config["svo_dim"])
    head.load_state_dict(
        {
            "linear.weight": state["svo_decoder_head.1.weight"],
            "linear.bias": state["svo_decoder_head.1.bias"],
            "words": config["word_table_scale"] * state["svo_decoder_embs.weight"],
        }
    )
    return head


def test_released_scores_and_training_loss():
    case = goldens.load("goal_trajectory_svo")
    scores = released_head(case)(case.input("h"))
    case.check("scores", scores)
    case.check("train.loss", svo_loss(scores, case.stored["train_labels"]))


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_words_never_move_and_others_do(freeze):
    torch.manual_seed(0)
    head = SvoHead(8, vocabulary=20, dim=4, freeze_words=freeze)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    svo_loss(head(torch.randn(6, 8)), torch.randint(0, 20, (6, 3))).backward()
    optimizer.step()
    moved = {name for name, value in head.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"linear.weight", "linear.bias"} | (set() if freeze else {"words"})
    SvoHead(8, vocabulary=20, dim=4, freeze_words=not freeze).load_state_dict(head.state_dict())


def test_any_leading_dimensions():
    head, h = SvoHead(8, vocabulary=20, dim=4), torch.randn(2, 5, 8)
    assert head(h).shape == (2, 5, 3, 20)
    torch.testing.assert_close(head(h)[1], head(h[1]))


def test_the_loss_is_a_mean_over_known_words():
    scores = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[4, -1, 2], [-1, -1, 6]])

    def surprise(clip: int, position: int) -> Tensor:
        return -scores[clip, position].log_softmax(0)[labels[clip, position]]

    torch.testing.assert_close(svo_loss(scores, labels), (surprise(0, 0) + surprise(0, 2) + surprise(1, 2)) / 3)
    nothing = svo_loss(scores, torch.full_like(labels, -1))
    nothing.backward()
    assert nothing == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()
