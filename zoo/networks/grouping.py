"""Temporal actionness grouping (TAG; Zhao et al., ICCV 2017): from a score of every moment to proposals of intervals.

The curve is cut at several thresholds. Runs above one are joined, from each run on in both directions, for as long as
the share of what lies below the threshold stays under a tolerance; of what overlaps much the better ones stay. The
rules are those of the released code of structured segment networks, for all thresholds and tolerances at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata
from torch import Tensor

from zoo.errors import ZooError

THRESHOLDS = (0.01, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TOLERANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
Normalize = Literal["sigmoid", "minmax", "rank"]

_SIGMA, _RADIUS = 3, 12  # samples


def smooth(curve: ArrayLike) -> NDArray:
    """``[T]`` smoothed by a Gaussian of 3 samples, cut at 12; the curve is mirrored at its ends. Float64."""
    return gaussian_filter1d(np.asarray(curve, dtype=np.float64), _SIGMA, mode="reflect", radius=_RADIUS)


def group(
    curve: ArrayLike,
    logits: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerances: Sequence[float] = TOLERANCES,
    quirks: bool = True,
) -> tuple[NDArray, NDArray]:
    """All boxes of a curve in the order in which they are found, many of them more than once.

    The order is by threshold, then tolerance; in each first those that grow forwards, from the first run on, then those
    that grow backwards, from the last one on.

    Args:
        curve: ``[T]`` in 0..1.
        logits: ``[T]``; a box's score is their sum over it, so long boxes of positive logits win.
        quirks: as released: ends are one sample too far, so that T + 1 can come, and a box that grew backwards to the
            first run has the score of everything before its end. Otherwise boxes are [first, last + 1).

    Returns:
        ``boxes`` int64 ``[n, 2]`` in samples and ``scores`` float64 ``[n]``.
    """
    curve, logits = np.asarray(curve, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    if curve.ndim != 1 or curve.shape != logits.shape:
        raise ZooError(f"group: the curve {curve.shape} and the logits {logits.shape} must both be [T].")
    count = len(curve)
    above = curve > np.asarray(thresholds, dtype=np.float64)[:, None]
    edges = np.diff(above.astype(np.int8), axis=1, prepend=0, append=0)
    level, rises = np.nonzero(edges == 1)  # [E] the runs of all thresholds, one threshold after the other
    falls = np.nonzero(edges == -1)[1]
    runs = len(rises)
    if not runs:
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    sizes = np.bincount(level, minlength=len(above))
    last = np.cumsum(sizes)[level]  # the end of a run's own threshold
    first = last - sizes[level]
    # What is below the threshold up to a sample, less what is tolerated: a stretch from a to b is within the tolerance
    # when this does not grow from a to b.
    below = np.cumsum(~above, axis=1)
    tolerance = np.asarray(tolerances, dtype=np.float64)[:, None]
    inside = np.minimum(falls, count - 1)
    at_rises = below[level, rises] - tolerance * rises
    at_falls = below[level, inside] - tolerance * inside - np.where(falls == count, tolerance, 0)
    stop = _next_greater(at_rises, last)
    start = runs - _next_greater(-at_falls[:, ::-1], runs - first[::-1])[:, ::-1]
    forwards = np.stack(np.broadcast_arrays(rises, falls[stop - 1]), axis=-1)
    backwards = np.stack(np.broadcast_arrays(rises[start], falls), axis=-1)
    boxes = np.stack([forwards, backwards])  # [2, tolerances, E, 2]
    boxes[..., 1] += quirks
    total = np.concatenate([[0.0], np.cumsum(logits)])
    ends = boxes[..., 1].copy()
    begins = boxes[..., 0].copy()
    if quirks:
        whole = start == first
        begins[1][whole], ends[1][whole] = 0, ends[1][whole] + 1
    scores = total[np.minimum(ends, count)] - total[begins]
    # Where a box stands: all before its threshold, then before its tolerance, then its place in its direction.
    own, place = sizes[level], np.arange(runs) - first
    at = 2 * (len(tolerance) * first + np.arange(len(tolerance))[:, None] * own)
    order = np.stack([at + place, at + own + (own - 1 - place)]).ravel()
    found, values = np.empty((len(order), 2), dtype=np.int64), np.empty(len(order))
    found[order], values[order] = boxes.reshape(-1, 2), scores.ravel()
    return found, values


def suppress(boxes: ArrayLike, scores: ArrayLike, iou: float = 0.8, plus_one: bool = True) -> NDArray:
    """Non-maximum suppression in time: the indices int64 of the boxes that stay, the best first.

    A box goes when its intersection over union with a better one that stays is above ``iou``. Of equal scores the
    later box of the list is the better one, as in the released code.

    Args:
        boxes: ``[n, 2]`` starts and ends.
        scores: ``[n]``.
        plus_one: a length is end - start + 1, as where both ends belong to a box.
    """
    order = _ascending(scores)[::-1]
    start, end = np.asarray(boxes, dtype=np.float64).reshape(-1, 2)[order].T
    kept = []
    while len(order):
        kept.append(order[0])
        overlap = np.minimum(end[0], end) - np.maximum(start[0], start) + plus_one
        union = (end[0] - start[0]) + (end - start) + 2 * plus_one - overlap
        with np.errstate(invalid="ignore"):  # two boxes without any length: 0 / 0 is above nothing
            left = ~(np.maximum(overlap, 0) / union > iou)
        left[0] = False
        order, start, end = order[left], start[left], end[left]
    return np.array(kept, dtype=np.int64)


def proposals(
    scores: Tensor | ArrayLike,
    duration: float,
    *,
    normalize: Normalize = "sigmoid",
    iou: float = 0.8,
    quirks: bool = False,
) -> NDArray:
    """Intervals of a video in which something is done, the best first: float64 ``[n, 3]``, start and end in s, score.

    Args:
        scores: ``[T]`` finite, at even distances over the video, of any scale.
        duration: of all T, in seconds.
        normalize: how scores become a curve in 0..1, which the sources do not say. "sigmoid" depends on the scores'
            zero, which training by order alone does not fix; "minmax" and "rank" are of each video alone. A proposal's
            score is the sum over it of what 0.5 of the curve is the zero of: the scores themselves for "sigmoid", else
            the curve less 0.5.
        iou: of two proposals that overlap more only the better one is given.
        quirks: as the released code of `group` and `suppress` does it.

    Raises:
        ZooError: scores of another shape or not finite, a duration that is none, an unknown normalisation.
    """
    values = scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        what = f"{values.shape}" if values.ndim != 1 else f"{values[~np.isfinite(values)][0]} at {_first_bad(values)}"
        raise ZooError(f"proposals: scores must be [T] finite numbers, got {what}.")
    if not 0 < duration < np.inf:
        raise ZooError(f"proposals: a duration of {duration} s; give the seconds that the {len(values)} scores take.")
    if normalize not in get_args(Normalize):
        raise ZooError(f"proposals: normalize is one of {', '.join(get_args(Normalize))}, got {normalize!r}.")
    if not len(values):
        return np.zeros((0, 3))
    if normalize == "sigmoid":
        curve, logits = np.exp(-np.logaddexp(0, -values)), values
    else:
        curve = _minmax(values) if normalize == "minmax" else (rankdata(values) - 0.5) / len(values)
        logits = curve - 0.5
    boxes, sums = group(smooth(curve), logits, quirks=quirks)
    # Most boxes come many times. Of equal ones suppression keeps the best, so the others need not get there.
    best = _ascending(sums)[::-1]
    unique = np.sort(np.unique(boxes[best] @ (len(values) + 2, 1), return_index=True)[1])[::-1]
    boxes, sums = boxes[best[unique]], sums[best[unique]]
    kept = suppress(boxes, sums, iou, plus_one=quirks)
    return np.column_stack([boxes[kept] / len(values) * duration, sums[kept]])


def _next_greater(values: NDArray, end: NDArray) -> NDArray:
    """``[L, E]`` the first place j after i, but before ``end[i]``, where a row of ``values`` is greater than at i.

    ``end[i]`` if there is none. The places are skipped in powers of two, the largest first, by the largest value of
    that many from every place on.
    """
    largest = [values]  # of 1, 2, 4, ... values
    while (step := 1 << len(largest)) <= values.shape[1]:
        half = step // 2
        largest.append(np.maximum(largest[-1][:, :-half], largest[-1][:, half:]))
    at = np.broadcast_to(np.arange(1, values.shape[1] + 1), values.shape).copy()
    for power in reversed(range(len(largest))):
        most, step = largest[power], 1 << power
        ahead = np.take_along_axis(most, np.minimum(at, most.shape[1] - 1), axis=1)
        at[(at + step <= end) & (ahead <= values)] += step
    return at


def _ascending(scores: ArrayLike) -> NDArray:
    return np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")


def _minmax(values: NDArray) -> NDArray:
    """In 0..1; 0.5 where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _first_bad(values: NDArray) -> int:
    return int(np.isfinite(values).argmin())
