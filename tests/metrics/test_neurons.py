"""Units and words: the same rho as SciPy's, pair by pair, and which units come out on top."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from zoo.errors import ZooError
from zoo.metrics.neurons import top_neurons, word_correlations


def test_spearman_pair_by_pair():
    draw = torch.Generator().manual_seed(0)
    activations = torch.randn(60, 5, generator=draw)
    activations[:, 1] = activations[:, 1].round()  # many equal values
    activations[:, 2] = activations[:, 2].exp() ** 9  # ranks do not mind
    present = torch.rand(60, 4, generator=draw) < torch.tensor([0.5, 0.1, 0.9, 0.02])
    present[0, 3] = True
    rho = word_correlations(activations, present)
    assert rho.dtype == torch.float64
    for unit in range(5):
        for word in range(4):
            expected = spearmanr(activations[:, unit].numpy(), present[:, word].numpy()).statistic
            assert float(rho[unit, word]) == pytest.approx(expected, abs=1e-12)


def test_what_never_changes_has_no_correlation():
    activations = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])
    present = torch.tensor([[True, False, False], [True, False, False], [True, False, True]])
    rho = word_correlations(activations, present)
    assert rho.isnan().tolist() == [[True, True, True], [True, True, False]]
    assert float(rho[1, 2]) == pytest.approx(math.sqrt(3) / 2)


def test_top_neurons_name_their_best_word():
    nan = math.nan
    rho = torch.tensor([[0.1, nan, 0.3], [nan, nan, nan], [0.9, 0.2, -1.0], [-0.5, -0.4, nan]])
    words = ["fall", "jump", "ride"]
    top = top_neurons(rho, words, 2)
    assert [(neuron.unit, neuron.word) for neuron in top] == [(2, "fall"), (0, "ride")]
    assert top[0].rho == pytest.approx(0.9)
    assert [neuron.unit for neuron in top_neurons(rho, words, 9)] == [2, 0, 3]
    assert top_neurons(torch.zeros(4, 0), [], 3) == []


def test_what_cannot_be_correlated_is_refused():
    activations, present = torch.zeros(4, 2), torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(ZooError, match=r"activations \(3, 2\) and present \(4, 3\)"):
        word_correlations(activations[1:], present)
    with pytest.raises(ZooError, match="int64 must be"):
        word_correlations(activations, present.long())
    with pytest.raises(ZooError, match="two videos or more, got 1"):
        word_correlations(activations[:1], present[:1])
    activations[2, 1] = math.nan
    with pytest.raises(ZooError, match="activations of video 2 hold NaN"):
        word_correlations(activations, present)
    with pytest.raises(ZooError, match="there are 2 words"):
        top_neurons(torch.zeros(4, 3), ["a", "b"])
