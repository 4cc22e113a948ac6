"""Which unit of a representation goes with which word: Spearman's rank correlation over videos.

Epstein & Vondrick 2020, section 5: a video is an observation of all units, and of every word whether it is in the
video's triples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from zoo.errors import ZooError


class Neuron(NamedTuple):
    """A unit and the word that it goes with most."""

    unit: int
    word: str
    rho: float


def word_correlations(activations: Tensor, present: Tensor) -> Tensor:
    """Spearman's rho of every unit with every word, equal values sharing their mean rank.

    Args:
        activations: ``[n, D]`` of n videos.
        present: ``[n, V]`` bool, whether a word is in a video's triples.

    Returns:
        ``[D, V]`` float64; NaN for a unit that never changes, and a word that is in all videos or in none.

    Raises:
        ZooError: wrong shapes, fewer than two videos, or activations that are not numbers.
    """
    if activations.ndim != 2 or present.ndim != 2 or len(activations) != len(present) or present.dtype != torch.bool:
        raise ZooError(
            f"word_correlations: activations {tuple(activations.shape)} and present {tuple(present.shape)} "
            f"{present.dtype} must be [n, D] and bool [n, V], a row for each of n videos."
        )
    if len(present) < 2:
        raise ZooError(f"word_correlations: a correlation needs two videos or more, got {len(present)}.")
    units = activations.detach().cpu().double().numpy()
    if np.isnan(units).any():
        bad = int(np.isnan(units).any(1).argmax())
        raise ZooError(f"word_correlations: the activations of video {bad} hold NaN; leave it out of both.")
    # The ranks of two values are a line through them: to a correlation, a word's ranks are the word itself.
    rho = _standard(rankdata(units, axis=0)).T @ _standard(present.cpu().numpy().astype(np.float64))
    return torch.from_numpy(rho.clip(-1, 1))


def top_neurons(rho: Tensor, words: Sequence[str], k: int = 3) -> list[Neuron]:
    """The k units with the largest correlation to any word, each with that word, in descending order.

    Args:
        rho: ``[D, V]`` as `word_correlations` gives it; NaN is passed over.
        words: V, by id.
        k: how many; fewer come where fewer units correlate with anything.
    """
    if rho.ndim != 2 or rho.shape[1] != len(words):
        raise ZooError(f"top_neurons: rho {tuple(rho.shape)} must be [units, words], but there are {len(words)} words.")
    if not rho.numel():
        return []
    best, word = rho.nan_to_num(nan=-torch.inf).max(1)
    order = best.argsort(descending=True, stable=True)[:k].tolist()
    return [Neuron(unit, words[int(word[unit])], float(best[unit])) for unit in order if best[unit] > -torch.inf]


def _standard(values: NDArray) -> NDArray:
    """Columns of mean 0 and length 1; NaN where a column is constant."""
    centred = values - values.mean(0)
    length = np.linalg.norm(centred, axis=0)
    return centred / np.where(values.min(0) == values.max(0), np.nan, length)
