"""The trajectory Transformer on its own: its golden cases are in tests/methods/test_goal_trajectory.py."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.networks.sequences import bare, split, whole
from zoo.networks.trajectory import TrajectoryTransformer, sinusoids


def test_padding_is_not_seen():
    torch.manual_seed(0)
    transformer = TrajectoryTransformer(32, layers=2, heads=4, feedforward=48).eval()
    phi = torch.randn(9, 32)
    together = whole([3, 6])
    alone = whole([3])
    first = together.collect(transformer(phi, together))[:3]
    torch.testing.assert_close(first, alone.collect(transformer(phi[:3], alone)), atol=1e-5, rtol=1e-5)


def test_learned_positions_share_the_last_entry():
    transformer = TrajectoryTransformer(16, layers=1, heads=2, feedforward=16, positions="learned").eval()
    phi = torch.randn(1, 16).repeat(70, 1)
    tokens = transformer._positioned(torch.zeros(1, 72, 16))
    assert torch.equal(tokens[0, 31], tokens[0, 71])
    assert not torch.equal(tokens[0, 30], tokens[0, 31])
    assert transformer(phi, whole([70])).shape == (1, 72, 16)
    assert transformer.longest is None


def test_fixed_positions_end_and_say_so():
    transformer = TrajectoryTransformer(16, layers=1, heads=2, feedforward=16)
    assert transformer(torch.randn(62, 16), whole([62])).shape == (1, 64, 16)
    with pytest.raises(zoo.ZooError, match="65 tokens is longer than the table of 64"):
        transformer(torch.randn(63, 16), whole([63]))


def test_the_table_of_sinusoids():
    table = sinusoids(64, 512)
    assert torch.equal(table[0, ::2], torch.zeros(256))
    assert torch.equal(table[0, 1::2], torch.ones(256))
    assert float(table[5, 2]) == pytest.approx(float(torch.tensor(5 * 10_000 ** (-2 / 512)).sin()), abs=1e-6)


def test_layouts():
    layout = split([3, 2], [1, 0])
    assert layout.clips.tolist() == [[-1, 0, -2, 1, 2, -2], [-1, -2, 3, 4, -2, -3]]
    assert layout.segments.tolist() == [[2, 0, 2, 1, 1, 2], [2, 2, 1, 1, 2, 2]]
    assert layout.labels(torch.arange(5)).tolist() == [[-1, 0, -1, 1, 2, -1], [-1, -1, 3, 4, -1, -1]]
    assert layout.collect(layout.place(torch.arange(5.0))).tolist() == [0, 1, 2, 3, 4]
    assert bare([1, 2]).clips.tolist() == [[0, -3], [1, 2]]
    assert whole([]).clips.shape == (0, 0)


def test_the_first_word_never_learns():
    transformer = TrajectoryTransformer(16, layers=1, heads=2, feedforward=16)
    transformer(torch.randn(3, 16), whole([1, 2])).square().mean().backward()
    assert transformer.words.weight.grad[0].abs().sum() == 0
    assert (transformer.words.weight.grad[1:].abs().sum(1) > 0).all()
