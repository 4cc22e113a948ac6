"""Words that travel with weights: a list of texts as a table of bytes, part of a model's state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import WeightsError

LETTERS = 64  # bytes of a word at most; a longer one keeps its number and is never met


class Dictionary(nn.Module):
    """Words by number, from 1; 0 stands for none. As a buffer they are saved, loaded and hashed with the weights."""

    letters: Tensor

    def __init__(self, words: int) -> None:
        """
        Args:
            words: how many there is room for; none is known at first.
        """
        super().__init__()
        self.register_buffer("letters", torch.zeros(words, LETTERS, dtype=torch.uint8))

    @property
    def room(self) -> int:
        """How many words it can know."""
        return len(self.letters)

    @property
    def numbers(self) -> dict[str, int]:
        """Word to number, from 1."""
        # What is made in inference mode counts no versions, and nobody is to change it.
        key = (self.letters.data_ptr(), None if self.letters.is_inference() else self.letters._version)
        if getattr(self, "_key", None) != key:  # it is looked up for every batch, and changes with the weights
            self._key, self._numbers = key, {word: n for n, word in enumerate(self._words(), 1) if word}
        return self._numbers

    def learn(self, words: Sequence[str]) -> None:
        """Know these words, the first as number 1.

        Raises:
            WeightsError: there is no room for so many.
        """
        self.fill(encode(words))

    def fill(self, letters: Tensor) -> None:
        """Take words as bytes, uint8 ``[N, letters]``; see `encode`.

        Raises:
            WeightsError: they are more than there is room for.
        """
        if len(letters) > len(self.letters):
            raise WeightsError(
                f"{len(letters)} words were given, and the model's table has room for {len(self.letters)}: build it "
                f"with num_words={len(letters) + 1}."
            )
        with torch.no_grad():
            self.letters.zero_()
            self.letters[: len(letters), : letters.shape[1]] = letters[:, :LETTERS]

    def _words(self) -> list[str]:
        rows = self.letters.cpu().numpy()
        return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]

    @staticmethod
    def read(path: str | os.PathLike) -> Tensor:
        """The words of a NumPy file, an array of texts, as bytes for `fill`.

        Raises:
            WeightsError: there is no such file, or it is something else; a pickle is not opened.
        """
        try:
            words = np.load(Path(path), allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise WeightsError(f"{path} cannot be read as a dictionary ({error}); it is a .npy of texts.") from error
        if not isinstance(words, np.ndarray) or words.ndim != 1 or words.dtype.kind not in "US":
            raise WeightsError(f"{path} is no dictionary: an array of texts is wanted, one dimension long.")
        return encode([word.decode(errors="replace") if isinstance(word, bytes) else word for word in words.tolist()])


def encode(words: Sequence[str]) -> Tensor:
    """Words as UTF-8, filled up with zeros, uint8 ``[N, LETTERS]``; one that is too long is left empty."""
    rows = np.zeros((len(words), LETTERS), np.uint8)
    for row, word in zip(rows, words, strict=True):
        letters = word.encode(errors="replace")
        if len(letters) <= LETTERS:
            row[: len(letters)] = np.frombuffer(letters, np.uint8)
    return torch.from_numpy(rows)
