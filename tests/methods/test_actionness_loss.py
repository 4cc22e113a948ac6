"""Eq. 1 to 3 of actionness against an independent double-precision implementation, and what follows from them."""

from __future__ import annotations

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor

import zoo
from tests.goldens import Case, load
from zoo.methods.actionness import Actionness, order_loss, order_score, pair_order, pair_weights


def shown(features: Tensor, label: Tensor) -> Tensor:
    """Clips in the order that labels say."""
    return torch.where(label.bool()[:, None, None], features, features.flip(1))


def model_of(case: Case) -> Actionness:
    model = zoo.create("actionness", clips=case.manifest["config"]["M"])
    model.load_state_dict(case.state())
    return model


@pytest.fixture
def case() -> Case:
    return load("actionness_order_model")


def test_everything_that_the_case_stores(case):
    model, label = model_of(case), case.stored["labels"]
    natural = case.input("features")
    features = shown(natural, label)
    score, time = model(features), model.order(features).squeeze(-1)
    case.check("S", score)
    case.check("F_pairs", pair_order(time))
    case.check("W", pair_weights(score))
    total = model.order_scores(features)
    case.check("G", total)
    case.check("G_natural_order", model.order_scores(natural))
    losses = [order_loss(g[None], y[None]) for g, y in zip(total, label, strict=True)]
    case.check("loss_per_sample", torch.stack(losses))
    loss = order_loss(total, label)
    case.check("loss", loss[None])
    loss.backward()
    case.check("grad.actionness.weight", model.actionness.weight.grad)
    case.check("grad.order.weight", model.order.weight.grad)
    assert model.actionness.bias.grad is None  # it has no part in the loss

    train, labels = case.input("train_features"), case.stored["train_labels"]
    batches = [{"features": shown(x, y), "label": y} for x, y in zip(train, labels, strict=True)]
    trained, kept = Recording(model_of(case)), {"logger": False, "enable_checkpointing": False}
    epochs = case.manifest["config"]["epochs"]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", max_epochs=epochs, **kept, **quiet).fit(trained.model, Batches(batches))
    case.check("train.losses", torch.tensor(trained.losses))
    case.check("train.lr_per_epoch", torch.tensor(trained.rates))
    case.check("train.actionness.weight", trained.model.actionness.weight)
    case.check("train.order.weight", trained.model.order.weight)
    case.assert_complete()


class Batches(torch.utils.data.DataLoader):
    """Batches that are there already."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        super().__init__(batches, batch_size=None)


class Recording:
    """A model whose losses and rates are kept while it trains."""

    def __init__(self, model: Actionness) -> None:
        self.model, self.losses, self.rates = model, [], []
        step, start = model.training_step, model.on_train_epoch_start

        def keep(batch, batch_idx):
            loss = step(batch, batch_idx)
            self.losses.append(float(loss.detach()))
            return loss

        def begin():
            start()
            self.rates.append(model.optimizers().param_groups[0]["lr"])

        model.training_step, model.on_train_epoch_start = keep, begin


def test_gradients_of_the_pairwise_loss():
    score, time = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    label = torch.tensor([1, 0, 1])
    assert torch.autograd.gradcheck(lambda s, a: order_loss(order_score(s, a), label), (score, time))


def test_a_reversed_sample_costs_what_the_sample_costs():
    torch.manual_seed(0)
    model, features = zoo.create("actionness_tiny"), torch.rand(6, 5, 64)
    forwards, backwards = model.order_scores(features), model.order_scores(features.flip(1))
    torch.testing.assert_close(backwards, -forwards)
    torch.testing.assert_close(order_loss(backwards, torch.zeros(6)), order_loss(forwards, torch.ones(6)))


def test_two_clips_teach_no_actionness():
    model = zoo.create("actionness_tiny", clips=2)
    order_loss(model.order_scores(torch.rand(4, 2, 64)), torch.ones(4)).backward()
    assert not model.actionness.weight.grad.any()
    assert model.order.weight.grad.any()
