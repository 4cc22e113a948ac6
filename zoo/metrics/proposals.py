"""Average recall against the average number of proposals (AR@AN), as ActivityNet's proposal challenge computes it.

Every video gives its best proposals, in proportion to how many it has, so that the average is the asked number. What
this needs of a video is little: how many proposals it has, and for each annotated interval and IoU the rank of the
first proposal that finds it. Those add up over videos in any order.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import ZooError

IOUS = np.linspace(0.5, 0.95, 10)  # not rounded: the last bits decide at exact overlaps
POINTS = 100  # average numbers of proposals: 1/100, 2/100, ..., all of the budget


class RecallCurve(NamedTuple):
    """Recall over the average number of proposals a video, as shares.

    Attributes:
        recall: ``[10, 100]`` at every IoU of `IOUS`.
        average: ``[100]`` over them.
        numbers: ``[100]`` average numbers of proposals; 1, 2, ..., 100 for a budget of 100.
    """

    recall: NDArray
    average: NDArray
    numbers: NDArray

    @property
    def auc(self) -> float:
        """The area under ``average``, in percent of the largest possible; 0 without proposals."""
        most = self.numbers[-1]
        return 100 * float(np.trapezoid(self.average, self.numbers) / most) if most > 0 else 0.0


def average_recall(
    ground_truth: Mapping[Hashable, ArrayLike], proposals: Mapping[Hashable, ArrayLike], budget: float | None = 100
) -> RecallCurve:
    """AR@AN of whole videos.

    Args:
        ground_truth: ``[K, 2]`` start and end of the annotated intervals of each video. Those without any count neither
            as videos nor in recall.
        proposals: ``[n, 3]`` start, end and score, in any order, of equal scores the first first. A video without any
            has a recall of zero; those of videos without ground truth count in how many there are altogether.
        budget: the largest average number a video; None = as many as there are.

    Raises:
        ZooError: arrays of other shapes or not finite; names the video.
    """
    counts, hits, owners = [], [], []
    for video, intervals in ground_truth.items():
        intervals = _finite(f"average_recall: video {video!r}: the ground truth", intervals, 2)
        if not len(intervals):
            continue
        own = _finite(f"average_recall: video {video!r}: the proposals", proposals.get(video, ()), 3)
        hits.append(first_hits(intervals, own[np.argsort(-own[:, 2], kind="stable")]))
        owners.append(np.full(len(intervals), len(counts)))
        counts.append(len(own))
    if not counts:
        return recall_curve(np.zeros(0, np.int64), np.zeros((0, len(IOUS)), np.int64), np.zeros(0, np.int64), 0, budget)
    total = sum(len(own) for own in proposals.values())
    return recall_curve(np.array(counts), np.concatenate(hits), np.concatenate(owners), total, budget)


def first_hits(ground_truth: NDArray, proposals: NDArray) -> NDArray:
    """How many proposals come before the first that finds an interval, int64 ``[K, 10]``; all of them if none does.

    Args:
        ground_truth: ``[K, 2]`` of one video.
        proposals: ``[n, 2]`` or more columns, the best first.
    """
    found = overlaps(proposals, ground_truth)[:, :, None] >= IOUS  # [n, K, 10]
    missed = np.ones((1, *found.shape[1:]), dtype=bool)
    return np.concatenate([found, missed]).argmax(0)


def recall_curve(
    counts: NDArray, hits: NDArray, owners: NDArray, total: int, budget: float | None = 100
) -> RecallCurve:
    """AR@AN from what is known of each video and interval.

    Args:
        counts: ``[V]`` the numbers of proposals of the videos that have ground truth.
        hits: ``[G, 10]`` of all their intervals, see `first_hits`.
        owners: ``[G]`` which of the V videos an interval is of.
        total: all proposals, also of videos without ground truth.
        budget: the largest average number a video; None = as many as there are.
    """
    videos = len(counts)
    if budget is None:
        budget = float(total) / max(1, videos)
    share = np.arange(1, POINTS + 1) / 100.0
    # Counts are cut off after products of doubles: in another order of factors some differ by one.
    kept = np.minimum((counts * (budget * float(videos) / max(1, total))).astype(np.int64), counts)
    if not (whole := int(kept.sum())):
        return RecallCurve(np.zeros((len(IOUS), POINTS)), np.zeros(POINTS), share * budget)
    share = share * (budget * float(videos) / whole)
    used = np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])[owners]  # [G, POINTS]
    recall = np.stack([(rank[:, None] < used).sum(0) for rank in hits.T]) / len(owners)
    return RecallCurve(recall, recall.mean(0), share * (float(whole) / videos))


def overlaps(proposals: NDArray, ground_truth: NDArray) -> NDArray:
    """The IoU of every proposal with every interval, ``[n, K]``; 0 where neither lasts."""
    start, end = proposals[:, 0, None], proposals[:, 1, None]
    first, last = ground_truth[:, 0], ground_truth[:, 1]
    both = np.maximum(np.minimum(end, last) - np.maximum(start, first), 0)
    either = (end - start) + (last - first) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _finite(what: str, rows: ArrayLike, columns: int) -> NDArray:
    """``[n, columns]`` float64."""
    rows = np.asarray(rows, dtype=np.float64)
    rows = rows.reshape(0, columns) if not rows.size else rows
    if rows.ndim != 2 or rows.shape[1] != columns or not np.isfinite(rows).all():
        raise ZooError(f"{what} must be [n, {columns}] finite numbers, got {rows.shape}: {rows.ravel()[:6].tolist()}.")
    return rows
