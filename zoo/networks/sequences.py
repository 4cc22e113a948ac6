"""Sequences of clips as a Transformer sees them: which clip stands where, between which special tokens.

A batch of videos is a flat list of clips and the number of clips of each. A `Layout` says where they stand, in numbers
alone, so that features, labels and times are put into the same order, and so that a perturbed sequence (exchanged
parts, a part of another video) is only another layout of the same clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

CLS, SEP, PAD = -1, -2, -3  # in place of a clip's number
SPECIAL = 2  # the segment of special tokens
UNASKED = -1  # whether a sequence is consistent, where that is no question


@dataclass(frozen=True)
class Layout:
    """Where the clips of a batch stand.

    Attributes:
        clips: number of the clip in the flat list, or `CLS`, `SEP`, `PAD`; int64 ``[B, K]``.
        segments: 0 or 1 for a clip before or after the split, `SPECIAL` for special tokens; int64 ``[B, K]``.
        consistent: 1 for a sequence in its order, 0 for a perturbed one, `UNASKED` for an unsplit one; int64 ``[B]``.
        places: of the clips, row by row, in ``[B * K]``; int64.
    """

    clips: Tensor
    segments: Tensor
    consistent: Tensor
    places: Tensor

    @property
    def is_clip(self) -> Tensor:
        """bool ``[B, K]``."""
        return self.clips >= 0

    @property
    def is_padding(self) -> Tensor:
        """bool ``[B, K]``."""
        return self.clips == PAD

    def place(self, values: Tensor, other: float = 0) -> Tensor:
        """Values of clips ``[N, ...]`` in their places ``[B, K, ...]``, ``other`` at special tokens."""
        placed = values[self.clips.clamp(min=0)]
        return placed.masked_fill(~self.is_clip.reshape(*self.clips.shape, *[1] * (values.dim() - 1)), other)

    def labels(self, label: Tensor) -> Tensor:
        """Labels of clips ``[N]`` in their places ``[B, K]``; -1 at special tokens and all over perturbed sequences."""
        return self.place(label, -1).masked_fill((self.consistent == 0)[:, None], -1)

    def collect(self, tokens: Tensor) -> Tensor:
        """What stands at the clips' places, ``[B, K, ...]`` to ``[N, ...]``, of a layout that shows each clip once."""
        return tokens.flatten(0, 1)[self.places]

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        return Layout(*(tensor.to(device) for tensor in vars(self).values()))


Parts = tuple[list[int], ...]


def whole(lengths: Sequence[int]) -> Layout:
    """Unsplit: ``[CLS] clips [SEP]``."""
    return _layout([(part,) for part in _ranges(lengths)], [UNASKED] * len(lengths))


def split(lengths: Sequence[int], firsts: Sequence[int]) -> Layout:
    """Split after the first ``firsts`` clips, which may be none: ``[CLS] clips [SEP] clips [SEP]``, all consistent."""
    parts = [(clips[:first], clips[first:]) for clips, first in zip(_ranges(lengths), firsts, strict=True)]
    return _layout(parts, [1] * len(parts))


def bare(lengths: Sequence[int]) -> Layout:
    """Clips alone, for models that see each by itself."""
    return _layout([(part,) for part in _ranges(lengths)], [UNASKED] * len(lengths), special=False)


def perturbed(
    lengths: Sequence[int],
    draws: Random,
    *,
    p_whole: float = 0.2,
    p_perturb: float = 0.5,
    p_swap: float = 1 / 3,
    longest: int = 8,
    shortest: int = 2,
) -> Layout:
    """Sequences for the coherence loss (section 3.2), by the released code's order of draws.

    A sequence is left whole, or split and kept (consistent), or split and perturbed: its parts exchanged, or one of
    them replaced by a part of another video of the batch (exchanged too where there is no other).

    Args:
        lengths: clips of each video.
        draws: of uniform numbers.
        p_whole: probability that a sequence is not split.
        p_perturb: that a split sequence is perturbed.
        p_swap: that a perturbed sequence has its parts exchanged.
        longest: clips of a sequence whose part was replaced, at most.
        shortest: clips of a part, at least, where the video has enough.
    """

    def cut(clips: list[int]) -> tuple[list[int], list[int]]:
        low, high = shortest, len(clips) - shortest
        first = draws.randint(min(low, high), max(low, high))
        return clips[:first], clips[first:]

    videos = _ranges(lengths)
    sequences: list[Parts] = []
    consistent: list[int] = []
    for number, clips in enumerate(videos):
        if not draws.random() > p_whole:
            sequences.append((clips,))
            consistent.append(UNASKED)
            continue
        left, right = cut(clips)
        consistent.append(int(not draws.random() < p_perturb))
        if not consistent[-1]:
            others = [i for i in range(len(videos)) if i != number]
            if draws.random() < p_swap or not others:
                left, right = right, left
            else:
                head, tail = cut(videos[draws.choice(others)])
                if draws.random() < 0.5:
                    left = head[: max(0, longest - len(right))]
                else:
                    right = tail[: max(0, longest - len(left))]
        sequences.append((left, right))
    return _layout(sequences, consistent)


def _ranges(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of each video's clips in the flat list."""
    ranges, start = [], 0
    for length in lengths:
        ranges.append(list(range(start, start + length)))
        start += length
    return ranges


def _layout(sequences: Sequence[Parts], consistent: Sequence[int], special: bool = True) -> Layout:
    rows = []
    for parts in sequences:
        clips, segments = ([CLS], [SPECIAL]) if special else ([], [])
        for segment, part in enumerate(parts):
            clips += [*part, SEP] if special else part
            segments += [segment] * len(part) + [SPECIAL] * special
        rows.append((clips, segments))
    longest = max((len(clips) for clips, _ in rows), default=0)
    filled = [(c + [PAD] * (longest - len(c)), s + [SPECIAL] * (longest - len(s))) for c, s in rows]
    clips, segments = (torch.tensor([row[i] for row in filled], dtype=torch.int64) for i in (0, 1))
    clips, segments = clips.view(len(rows), longest), segments.view(len(rows), longest)
    places = (clips >= 0).flatten().nonzero()[:, 0]
    return Layout(clips, segments, torch.tensor(consistent, dtype=torch.int64), places)
