"""How well a prediction names goals as subject, verb and object: Tables 2 and 3 of Epstein & Vondrick 2020.

What is scored is one prediction for a segment of a video: the mean of its clips' scores, raw dot products. It is held
against all triples that any annotator wrote for the segment. Where the paper says less than the released code, the
code's evaluation is followed, its small number in the divisors included, because the tables were printed with it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import FRAME, SEQUENCE, FrameRows

POSITIONS = ("subject", "verb", "object")
SEGMENTS = ("intentional", "unintentional")
TOPK = (1, 5)
EPSILON = 1e-4  # added to divisors
MISSING = -1
_SHIFT_K = 5
_MILLION = 1e6


class SvoScore(FrameRows):
    """Top-1 and top-5 accuracy of words and of whole triples, in percent, over pooled predictions (Table 2)."""

    higher_is_better = True

    def __init__(self) -> None:
        # After video and segment: for each position whether it can be scored; for each k the positions' hits and the
        # triple's.
        super().__init__(key=2, columns=2 + 3 + 4 * len(TOPK))

    def update(self, scores: Tensor, triples: Tensor, *, video: int, segment: int) -> None:
        """Take the pooled prediction of one segment of a video.

        Args:
            scores: ``[3, V]`` of subject, verb and object.
            triples: ``[K, 3]`` word ids of all annotators, -1 = missing; K may be 0.
            video: its number in the list.
            segment: 0 intentional, 1 unintentional.

        Raises:
            ZooError: wrong shapes, unknown words, or scores that are not finite; names video and segment.
        """
        where = _video("SvoScore", video)
        if segment not in range(len(SEGMENTS)):
            raise ZooError(f"{where}: segment must be 0 (intentional) or 1 (unintentional), got {segment}.")
        where = f"{where}, {SEGMENTS[segment]}"
        scores = _scores(where, scores)
        triples = _triples(where, triples, scores.shape[1])
        flags = [(triples != MISSING).any(0)]
        for k in TOPK:
            right = hits(scores, triples, k)
            flags += [right.any(0), right.all(1).any()[None]]
        self._add(torch.tensor([video]), torch.tensor([segment]), torch.cat(flags).long()[None])

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``{subject,verb,object,average,all}_top{1,5}``, and the counts ``videos`` and ``predictions``.

        A position counts as right when any triple's word there is among the first k, of the predictions that have a
        word there; ``average`` is the mean of the three. ``all`` is right when all three words of one triple are, of
        all predictions, also those without a triple.
        """
        rows = self._table()
        valid, flags = rows[:, 2:5].sum(0), rows[:, 5:]
        result: dict[str, float] = {}
        for k, own in zip(TOPK, flags.split(4, dim=1), strict=True):
            right = own.sum(0)
            percent = _percent(right[:3], valid)
            result |= {f"{name}_top{k}": value for name, value in zip(POSITIONS, percent, strict=True)}
            result[f"average_top{k}"] = sum(percent) / 3
            result[f"all_top{k}"] = 100 * int(right[3]) / (1 + EPSILON) / max(1, len(rows))
        return self._result(result | {"videos": len(rows[:, SEQUENCE].unique()), "predictions": len(rows)})


class SvoShift(FrameRows):
    """What correcting a failed trajectory does to the words that its unintentional segment is read as (Table 3).

    The segment's prediction before and after is held against the video's goals and against what went wrong. The
    released script compares other triples than it means to; this is what the paper describes.

    - Accuracy: the mean of the three positions' top-5 accuracy, each as `SvoScore` counts it. The paper says "top-5
      accuracy" and no more.
    - Rank: how many of the V^3 triples score lower than an annotated one, so that + is a move to the front. The mean
      over a video's complete triples, then over the videos that have one.
    """

    higher_is_better = None  # goals should gain, failures should lose

    def __init__(self) -> None:
        # After video and segment: which positions can be scored, their hits before and after, the sum of the changes of
        # rank, the triples that it is the sum of, and how many triples there are at all.
        super().__init__(key=2, columns=2 + 3 + 3 + 3 + 3)

    def update(self, before: Tensor, after: Tensor, *, intentional: Tensor, unintentional: Tensor, video: int) -> None:
        """Take the unintentional segment of one video. Sorts V^2 numbers twice: about a second with 3615 words.

        Args:
            before: ``[3, V]`` pooled scores of the segment as it was.
            after: ``[3, V]`` pooled scores of its correction.
            intentional: ``[K, 3]`` word ids of all the video's goals, -1 = missing; K may be 0.
            unintentional: ``[K', 3]`` of all that went wrong.
            video: its number in the list.

        Raises:
            ZooError: wrong shapes, unknown words, or scores that are not finite; names the video.
        """
        where = _video("SvoShift", video)
        if before.shape != after.shape:
            raise ZooError(f"{where}: before {tuple(before.shape)} and after {tuple(after.shape)} must both be [3, V].")
        sides = [_scores(f"{where}, before", before), _scores(f"{where}, after", after)]
        words = before.shape[1]
        owners = [
            _triples(f"{where}, {name}", triples, words)
            for name, triples in zip(SEGMENTS, (intentional, unintentional), strict=True)
        ]
        complete = [own[(own != MISSING).all(1)] for own in owners]
        ranks = [triple_rank(scores.log_softmax(1), torch.cat(complete)) for scores in sides]
        changes = (ranks[1] - ranks[0]).split([len(own) for own in complete])
        for segment, (own, change) in enumerate(zip(owners, changes, strict=True)):
            facts = [(own != MISSING).any(0), *(hits(scores, own, _SHIFT_K).any(0) for scores in sides)]
            row = torch.cat(
                [*(fact.long() for fact in facts), torch.tensor([int(change.sum()), len(change), words**3])]
            )
            self._add(torch.tensor([video]), torch.tensor([segment]), row[None])

    def compute(self) -> dict[str, Tensor]:
        """``{intentional,unintentional}_d_acc`` in percentage points, ``..._d_rank_millions``, and ``videos``.

        ``..._d_rank_percent`` is the change of rank as a share of all triples, which small vocabularies can be told by.

        A change of accuracy over nothing is 0, a change of rank over nothing NaN.
        """
        rows = self._table()
        result: dict[str, float] = {}
        for segment, name in enumerate(SEGMENTS):
            own = rows[rows[:, FRAME] == segment]
            valid, before, after = own[:, 2:11].sum(0).split(3)
            result[f"{name}_d_acc"] = sum(_percent(after, valid)) / 3 - sum(_percent(before, valid)) / 3
            change, triples, all_triples = own[own[:, -2] > 0, -3:].double().unbind(1)
            result[f"{name}_d_rank_millions"] = float((change / triples).mean()) / _MILLION
            result[f"{name}_d_rank_percent"] = 100 * float((change / triples / all_triples).mean())
        return self._result(result | {"videos": len(rows[:, SEQUENCE].unique())})


def hits(scores: Tensor, triples: Tensor, k: int) -> Tensor:
    """Which words of which triples are among the first k; of equal scores the lower word comes first.

    Args:
        scores: ``[3, V]``.
        triples: ``[K, 3]`` word ids, -1 = missing, never right.
        k: how many.

    Returns:
        ``[K, 3]`` bool.
    """
    words = torch.arange(scores.shape[1], device=scores.device)
    at = triples.T.clamp(min=0)
    own = scores.gather(1, at)[..., None]  # [3, K, 1]
    ahead = (scores[:, None] > own) | ((scores[:, None] == own) & (words < at[..., None]))
    return ((ahead.sum(-1) < k) & (triples.T != MISSING)).T


def svo_accuracy(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Top-1 percentages of single clips while training: ``top1`` of the words, ``all_top1`` of the complete triples.

    Args:
        scores: ``[N, 3, V]``.
        labels: ``[N, 3]`` word ids, -1 = missing.
    """
    right, valid = scores.argmax(-1) == labels, labels != MISSING
    complete = valid.all(1)
    return {
        "top1": 100.0 * right.sum() / valid.sum().clamp(min=1),
        "all_top1": 100.0 * (right.all(1) & complete).sum() / complete.sum().clamp(min=1),
    }


def triple_rank(log_probs: Tensor, triples: Tensor) -> Tensor:
    """How many of all V^3 triples are less likely than each given one: log p_s + log p_v + log p_o strictly smaller.

    Exact for sums that are formed in double precision as (subject + verb) + object, ties and rounding included. The V^2
    sums of two words are sorted once, whatever the number of triples. Rounding never reverses an order, so those that
    stay below a triple with a given object are the first ones, and bisection finds how many. Holds up to three times
    V^2 doubles: 320 MB for 3615 words.

    Args:
        log_probs: ``[3, V]`` float64.
        triples: ``[K, 3]`` word ids, all of them known.

    Returns:
        ``[K]`` int64, 0 .. V^3 - 1.
    """
    if log_probs.dtype != torch.float64 or log_probs.ndim != 2 or len(log_probs) != 3 or not (log_probs <= 0).all():
        raise ZooError(
            f"triple_rank: log_probs must be float64 [3, V], none above 0 or NaN, got {log_probs.dtype} "
            f"{tuple(log_probs.shape)}; take them from `scores.double().log_softmax(1)`."
        )
    words = log_probs.shape[1]
    triples = _triples("triple_rank", triples, words)
    if (triples == MISSING).any():
        raise ZooError(f"triple_rank: leave out triples with a missing word (-1), got {triples.tolist()}.")
    if not len(triples):
        return torch.zeros(0, dtype=torch.int64)
    subjects, verbs, objects = log_probs.detach().cpu().numpy()
    s, v, o = triples.numpy().T
    targets = (subjects[s] + verbs[v]) + objects[o]
    pairs = (subjects[:, None] + verbs).ravel()
    # Most pairs stay below every target with any object, or reach every target: neither kind needs sorting.
    below = pairs + objects.max() < targets.min()
    open_pairs = pairs[~below & (pairs + objects.min() < targets.max())]
    open_pairs.sort()
    always = int(below.sum()) * words
    counts = [always + int(_first_not_below(open_pairs, objects, target).sum()) for target in targets]
    return torch.tensor(counts, dtype=torch.int64)


def _first_not_below(pairs: NDArray, objects: NDArray, target: float) -> NDArray:
    """For each object how many of the ascending pairs give a sum with it that is below the target: ``[V]`` int64."""
    low, high = np.zeros(len(objects), np.int64), np.full(len(objects), len(pairs))
    while (searching := low < high).any():
        middle = (low + high) // 2
        smaller = searching.copy()
        smaller[searching] = pairs[middle[searching]] + objects[searching] < target
        low = np.where(smaller, middle + 1, low)
        high = np.where(searching & ~smaller, middle, high)
    return low


def _percent(right: Tensor, valid: Tensor) -> list[float]:
    """Of each position, with the released code's divisor."""
    return [100 * hit / (count + EPSILON) for hit, count in zip(right.tolist(), valid.tolist(), strict=True)]


def _video(metric: str, video: int) -> str:
    """The place that an error names."""
    if video < 0:
        raise ZooError(f"{metric}.update: video {video}: videos are numbered from 0.")
    return f"{metric}.update: video {video}"


def _scores(where: str, scores: Tensor) -> Tensor:
    """``[3, V]`` doubles on the CPU, or an error that says why these can't be scored."""
    if scores.ndim != 2 or len(scores) != 3 or not scores.numel() or not scores.is_floating_point():
        raise ZooError(
            f"{where}: scores must be floating-point [3, V], one pooled prediction, got {scores.dtype} "
            f"{tuple(scores.shape)}."
        )
    if not scores.isfinite().all():
        raise ZooError(f"{where}: the scores are not finite; look at the video's features, or `discard` it.")
    return scores.detach().cpu().double()


def _triples(where: str, triples: Tensor, words: int) -> Tensor:
    """``[K, 3]`` int64 on the CPU, or an error that says what no triple can be."""
    if triples.ndim != 2 or triples.shape[1] != 3 or triples.is_floating_point():
        raise ZooError(f"{where}: triples must be whole [K, 3] word ids, got {triples.dtype} {tuple(triples.shape)}.")
    triples = triples.cpu().long()
    if len(triples) and (triples.min() < MISSING or triples.max() >= words):
        raise ZooError(
            f"{where}: triples {triples.tolist()} have an id outside -1..{words - 1}; scores and triples must be of "
            "one vocabulary, and -1 is a missing word."
        )
    return triples
