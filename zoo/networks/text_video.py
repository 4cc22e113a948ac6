"""The joint embedding of text and video of Miech et al., ICCV 2019 (HowTo100M): clips and sentences as unit vectors.

Both sides end in a gated unit, ``x sigmoid(W x + b)`` of a linear layer's ``x``, scaled to length one; their dot
product is the similarity. A sentence is its words' vectors through a layer with ReLU and the maximum over the words.
The parts keep the published names (``text_pooling``, ``GU_text``, ``GU_video``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.errors import ZooError

_WORD = re.compile(r"[\w']+")


class Gate(nn.Module):
    """``x sigmoid(fc(x))``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x).sigmoid()


class GatedEmbedding(nn.Module):
    """A linear layer, a gate, and length one: ``[..., D]`` to ``[..., E]``."""

    def __init__(self, dim: int, embedding: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, embedding)
        self.cg = Gate(embedding)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.cg(self.fc(x)), dim=-1)


class WordPooling(nn.Module):
    """Word vectors ``[N, W, V]`` to a sentence's ``[N, S]``: a layer with ReLU, the maximum over the words.

    Rows of zeros that fill a sentence up take part in the maximum.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, width)

    def forward(self, words: Tensor) -> Tensor:
        return self.fc(words).relu().amax(1)


class TextVideoEmbedding(nn.Module):
    """Both towers.

    Args:
        dim: numbers in a clip's features.
        embedding: numbers in a vector of the joint space.
        word_dim: numbers in a word's vector.
        sentence: width of the maximum over words; that of the joint space by default.
    """

    def __init__(
        self, dim: int = 4096, embedding: int = 6144, word_dim: int = 300, sentence: int | None = None
    ) -> None:
        super().__init__()
        self.text_pooling = WordPooling(word_dim, sentence or embedding)
        self.GU_text = GatedEmbedding(sentence or embedding, embedding)
        self.GU_video = GatedEmbedding(dim, embedding)

    def video(self, clips: Tensor) -> Tensor:
        """Clip features ``[..., D]`` to unit vectors ``[..., E]``."""
        return self.GU_video(clips)

    def text(self, words: Tensor) -> Tensor:
        """Word vectors ``[N, W, V]`` to unit vectors ``[N, E]``."""
        return self.GU_text(self.text_pooling(words))

    def forward(self, clips: Tensor, words: Tensor) -> Tensor:
        """Clip features ``[N, D]`` and word vectors ``[C, W, V]`` to similarities of text and video, ``[C, N]``."""
        return self.text(words) @ self.video(clips).T


def max_margin_loss(
    similarity: Tensor, pairs: int = 1, margin: float = 0.1, intra: float = 0.5, *, weighted: bool = True
) -> Tensor:
    """Hinge of every wrong pair against both of its right ones, the mean over the whole matrix.

    The right pairs are the diagonal and count, too, as a constant. With several clips of a video, those of the same
    video are the harder negatives and few; they are weighed to have the share ``intra`` of all.

    Args:
        similarity: ``[N, N]`` of text and video; N is B videos times ``pairs`` clips, video after video.
        pairs: clips of one video.
        margin: by which a right pair is to be better.
        intra: share of the negatives of the same video.
        weighted: whether they are weighed; of several videos with several clips only.
    """
    right = similarity.diagonal()
    hinge = (margin + similarity - right[:, None]).relu() + (margin + similarity - right[None, :]).relu()
    if weighted and pairs > 1:
        hinge = hinge * negative_weights(len(similarity) // pairs, pairs, intra).to(hinge)
    return hinge.mean()


def negative_weights(videos: int, pairs: int, intra: float = 0.5) -> Tensor:
    """What each pair of a sentence and a clip counts in `max_margin_loss`, float32 ``[B P, B P]``; the mean is one.

    Raises:
        ZooError: there is one video only, so that no negative is from another.
    """
    if videos < 2:
        raise ZooError(
            "the weighted max-margin loss compares clips of different videos, and the batch has one: take batches of "
            "at least two videos, or negative_weighting=False."
        )
    own = videos * intra
    other = (1 - intra) * videos / (videos - 1)
    return (
        torch.full((videos, videos), other).fill_diagonal_(own).repeat_interleave(pairs, 0).repeat_interleave(pairs, 1)
    )


def split_caption(text: str) -> list[str]:
    """The words of a caption as they stand: runs of letters, digits, underscores and apostrophes."""
    return _WORD.findall(text)


def clip_features(
    streams: Sequence[np.ndarray], rates: Sequence[float], start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """The features of captioned clips, float32 ``[n, D]``: of each stream the maximum over the clip's rows, scaled to
    length one, one stream after another; zeros where a stream has no row there.

    Args:
        streams: rows of a video by each network, such as 2D and 3D, ``[T, D']`` each.
        rates: rows a second of each.
        start: seconds, float64 ``[n]``.
        end: seconds, float64 ``[n]``; the row that this time falls into belongs to the clip.
    """
    parts = []
    for rows, rate in zip(streams, rates, strict=True):
        first, last = (start * rate).astype(np.int64), (end * rate).astype(np.int64) + 1
        part = np.zeros((len(first), rows.shape[1]), np.float32)
        for n, (a, b) in enumerate(zip(first, last, strict=True)):
            if len(clip := rows[a:b]):
                part[n] = clip.max(0)
        length = np.linalg.norm(part, axis=1, keepdims=True)
        parts.append(part / np.maximum(length, 1e-12))
    return np.concatenate(parts, axis=1)


def merge_captions(
    index: int,
    start: Sequence[float],
    end: Sequence[float],
    words: Sequence[Sequence[str]],
    *,
    seconds: float = 5.0,
    least: int = 0,
) -> tuple[list[str], float, float]:
    """A caption with as many of its neighbours as make a clip: its words, its start and its end in seconds.

    The neighbour that keeps the clip shorter comes first; with ``seconds`` 0, the one with more words. Words of earlier
    captions are appended, too, as published: the model does not heed their order.

    Args:
        index: of the caption to begin with.
        start: seconds of every caption of the video.
        end: seconds.
        words: of every caption.
        seconds: that the clip lasts at least, if there are enough captions.
        least: words that it has at least.
    """
    first = last = index
    found = list(words[index])
    while len(found) < least or end[last] - start[first] < seconds:
        before, after = first > 0, last < len(end) - 1
        if not (before or after):
            break
        if before and after:
            if seconds > 0:
                before = end[last] - start[first - 1] <= end[last + 1] - start[first]
            else:
                before = len(words[last + 1]) <= len(words[first - 1])
        if before:
            first -= 1
        else:
            last += 1
        found += words[first if before else last]
    return found, start[first], end[last]
