"""Naming a goal as subject, verb and object: a linear read-out of features, compared with a table of word vectors.

Epstein & Vondrick 2020, section 4; what the paper leaves open follows the released code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_POSITIONS = 3  # subject, verb, object
_MISSING = -1  # the id of a word that nobody wrote


class SvoHead(nn.Module):
    """GELU, linear, and for each of subject, verb and object the dot product with every word: scores without bias.

    ``words`` ``[V, dim]`` starts as random vectors of length about 1; the paper's are the means of BERT's input
    embeddings of a word's pieces. Frozen or not, it is in the state dict under the same name.

    Args:
        channels: of the features.
        vocabulary: V, the number of words.
        dim: of a word vector.
        freeze_words: no optimiser ever sees the table, which is then a buffer.
    """

    words: Tensor

    def __init__(self, channels: int, vocabulary: int, dim: int = 768, *, freeze_words: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, _POSITIONS * dim)
        words = torch.randn(vocabulary, dim) * dim**-0.5
        if freeze_words:
            self.register_buffer("words", words)
        else:
            self.words = nn.Parameter(words)

    def forward(self, h: Tensor) -> Tensor:
        """Scores ``[..., 3, V]`` of features ``[..., C]``: raw dot products, in the order subject, verb, object."""
        return self.linear(F.gelu(h)).unflatten(-1, (_POSITIONS, -1)) @ self.words.T


def svo_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the words, mean over the positions that have one; 0, with a gradient, where none has.

    Args:
        scores: ``[N, P, V]``, P = 3 (or one position alone).
        labels: ``[N, P]`` word ids, -1 = missing.
    """
    total = F.cross_entropy(
        scores.flatten(0, 1), labels.flatten(), ignore_index=_MISSING, reduction="sum"
    )  # 0 where all are missing
    return total / (labels != _MISSING).sum().clamp(min=1)
