"""The head on a training map, and fully convolutional on a larger one."""

from __future__ import annotations

import torch

from zoo.networks.head import ClassifierHead


@torch.no_grad()
def test_probabilities_average_the_softmax_over_every_window() -> None:
    head = ClassifierHead(5, 3, window=2).eval()
    torch.nn.init.normal_(head.weight)
    x = torch.randn(2, 5, 4, 3, 4)
    windows = [head(x[..., row : row + 2, column : column + 2]) for row in range(2) for column in range(3)]
    expected = torch.stack([logits.softmax(1) for logits in windows]).mean(0)
    torch.testing.assert_close(head.probabilities(x), expected)
    assert head.dense(x).shape == (2, 3, 1, 2, 3)


@torch.no_grad()
def test_a_map_within_the_window_gives_the_softmax_of_the_logits() -> None:
    head = ClassifierHead(5, 3).eval()
    torch.nn.init.normal_(head.weight)
    x = torch.randn(2, 5, 4, 6, 7)
    torch.testing.assert_close(head.probabilities(x), head(x).softmax(1))


def test_dropout_is_for_training_logits() -> None:
    head = ClassifierHead(64, 3, dropout=0.9)
    torch.nn.init.normal_(head.weight)
    x = torch.ones(1, 64, 2, 7, 7)
    assert not torch.equal(head(x), head(x))
    torch.testing.assert_close(head.eval()(x), head(x), rtol=0, atol=0)
