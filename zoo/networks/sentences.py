"""The text tower of MIL-NCE (Miech et al., CVPR 2020): a bag of words, the maximum over them, and its dictionary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

WORDS = 16  # of a sentence, in the released module; the training code takes 20, its tests 30

_WORD = re.compile(r"[\w']+")


class SentenceEncoder(nn.Module):
    """Word numbers to an embedding: a table of words, a layer with ReLU, the maximum over the words, another layer.

    Number 0 fills a sentence up. It has an ordinary row of the table, and takes part in the maximum.
    """

    def __init__(self, words: int = 66250, dim: int = 300, hidden: int = 2048, embedding: int = 512) -> None:
        """
        Args:
            words: rows of the table: one more than the dictionary has words.
            dim: numbers in a word's vector.
            hidden: width of the first layer.
            embedding: numbers in a sentence's embedding.
        """
        super().__init__()
        self.word_embd = nn.Embedding(words, dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, embedding)

    def forward(self, numbers: Tensor) -> Tensor:
        """Word numbers int64 ``[N, W]`` to embeddings ``[N, embedding]``."""
        return self.fc2(self.fc1(self.word_embd(numbers)).relu().amax(1))


def split_words(sentence: str) -> list[str]:
    """The lower-case words of a sentence: runs of letters, digits, underscores and apostrophes."""
    return _WORD.findall(sentence.lower())


def tokenize(sentences: Sequence[str], numbers: Mapping[str, int], length: int = WORDS) -> Tensor:
    """Sentences to word numbers, int64 ``[N, length]``: unknown words left out, cut or filled up with zeros.

    Args:
        sentences: of any length; one without a known word is all zeros.
        numbers: of the known words, from 1.
        length: words of a sentence.
    """
    rows = torch.zeros(len(sentences), length, dtype=torch.int64)
    for row, sentence in zip(rows, sentences, strict=True):
        known = [numbers[word] for word in split_words(sentence) if word in numbers][:length]
        row[: len(known)] = torch.tensor(known, dtype=torch.int64)
    return rows
