"""Action against background, moment by moment, and the intervals that are proposed from it.

Zhukov et al., ECCV 2020: segments of 0.2 s over whole test videos, positive when they overlap an annotated interval,
and average precision of their scores. Whether segments are pooled or videos averaged the paper does not say: ``ap`` is
pooled, since scores drawn at random then get the share of positives, and ``ap_video`` stands beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.proposals import IOUS, RecallCurve, first_hits, recall_curve
from zoo.metrics.ranking import expected_average_precision, tied_average_precision
from zoo.metrics.rows import SEQUENCE, FrameRows
from zoo.networks.grouping import Normalize, proposals

SEGMENT = 0.2  # seconds
RECALLS = (1, 5, 10, 50, 100)  # average numbers of proposals that AR is reported at
_LEAST = 1e-6  # seconds; less is rounding

# A row of segments is (video, 0, number, proposals of the video, 64 scores, 64 labels), scores and labels packed; a row
# of an interval is (video, 1, number, 0, first hits at every IoU), filled up with zeros.
_SEGMENTS, _INTERVAL = 0, 1
_KIND, _NUMBER, _COUNT, _REST = 1, 2, 3, 4
_TOGETHER, _NO_SEGMENT = 64, 255
_SCORES, _LABELS = _TOGETHER // 2, _TOGETHER // 8  # numbers of 8 bytes


def segments(duration: float, segment: float = SEGMENT) -> Tensor:
    """Start and end of a video's segments in seconds, float64 ``[n, 2]``; the last one is cut at the video's end."""
    if not (0 < duration < np.inf and 0 < segment < np.inf):
        raise ZooError(f"a duration of {duration} s in segments of {segment} s: both must be more than 0 and finite.")
    at = torch.arange(int(np.ceil(duration / segment - _LEAST)) + 1, dtype=torch.float64) * segment
    return torch.stack([at[:-1], at[1:].clamp(max=duration)], dim=1)


def segment_labels(intervals: Tensor | ArrayLike, duration: float, segment: float = SEGMENT) -> Tensor:
    """1 for every segment that overlaps an annotated interval, else 0: int64 ``[n]``.

    Args:
        intervals: ``[K, 2]`` start and end in seconds, in any order; they may overlap.
        duration: the video's seconds.
        segment: seconds of a segment.

    Raises:
        ZooError: intervals that are not finite or end before they start, a duration that is none.
    """
    intervals, at = _intervals(intervals), segments(duration, segment)
    overlap = torch.minimum(at[:, 1:], intervals[:, 1]) - torch.maximum(at[:, :1], intervals[:, 0])  # [n, K]
    return (overlap > _LEAST).any(1).long()


def segment_scores(row_scores: Tensor | ArrayLike, rate: float, duration: float, segment: float = SEGMENT) -> Tensor:
    """Each segment's score, float32 ``[n]``: that of the row whose centre is nearest to the segment's.

    Of two that are as near it is the later one. Segments beyond the last row have its score.

    Args:
        row_scores: ``[T]``, at least one; row k covers k / rate to (k + 1) / rate.
        rate: rows a second.
        duration: the video's seconds.
        segment: seconds of a segment.
    """
    scores = torch.as_tensor(row_scores).detach().cpu().float()
    if scores.ndim != 1 or not len(scores) or not 0 < rate < np.inf:
        raise ZooError(f"scores {tuple(scores.shape)} at {rate} a second must be [T], of one row or more, at a rate.")
    row = (segments(duration, segment).mean(1) * rate + _LEAST).floor().long()
    return scores[row.clamp(max=len(scores) - 1)]


def untrimmed(duration: float, trim: float, segment: float = SEGMENT) -> Tensor:
    """Whether a segment's centre is outside the first and the last ``trim`` of the video: bool ``[n]``."""
    centre = segments(duration, segment).mean(1) / duration
    return (centre >= trim) & (centre <= 1 - trim)


class ActionnessScore(FrameRows):
    """Average precision of segments and average recall of proposals; exact for any number of processes.

    Kept are 5.5 bytes a segment, and a row an annotated interval: 20 MB for the 2,797 test videos of COIN.

    Args:
        proposals: also group scores to proposals, a hundredth of a second a video of 3 minutes.
        normalize: how scores become the curve that is grouped, see `zoo.networks.grouping.proposals`.
        iou: of the suppression of proposals.
        segment: seconds.
    """

    higher_is_better = True

    def __init__(
        self, *, proposals: bool = True, normalize: Normalize = "sigmoid", iou: float = 0.8, segment: float = SEGMENT
    ) -> None:
        super().__init__(key=3, columns=_REST + _SCORES + _LABELS)
        self.proposals, self.normalize, self.iou, self.segment = proposals, normalize, iou, segment

    def update(
        self, row_scores: Tensor, *, intervals: Tensor | ArrayLike, duration: float, rate: float, video: int
    ) -> None:
        """Take one video. One without rows is left out; one without intervals is background.

        Args:
            row_scores: ``[T]`` of its rows, on any scale; row k covers k / rate to (k + 1) / rate.
            intervals: ``[K, 2]`` annotated seconds, in any order; they may overlap.
            duration: seconds.
            rate: rows a second.
            video: its number in the list.

        Raises:
            ZooError: wrong shapes, a score or an interval that is not finite, a duration or rate that is none; names
                the video.
        """
        where = f"ActionnessScore.update: video {video}"
        if video < 0:
            raise ZooError(f"{where}: videos are numbered from 0.")
        if row_scores.ndim != 1:
            raise ZooError(f"{where}: scores must be [T], one for each row, got {tuple(row_scores.shape)}.")
        if not len(row_scores):
            return
        row_scores = row_scores.detach().cpu().float()
        if not (finite := row_scores.isfinite()).all():
            row = int(finite.long().argmin())
            raise ZooError(
                f"{where}: the score of row {row} is {float(row_scores[row])}; scores must be finite. Look for what "
                "broke the model or the features, or leave the video out with `discard`."
            )
        try:
            intervals = _intervals(intervals)
            labels = segment_labels(intervals, duration, self.segment)
            scores = segment_scores(row_scores, rate, duration, self.segment)
        except ZooError as error:
            raise ZooError(f"{where}: {error}") from None
        found = np.zeros((0, 3))
        if self.proposals:
            found = proposals(row_scores, len(row_scores) / rate, normalize=self.normalize, iou=self.iou)
        rows = -(-len(labels) // _TOGETHER)
        packed = [torch.zeros(rows * _TOGETHER), torch.full((rows * _TOGETHER,), _NO_SEGMENT, dtype=torch.uint8)]
        packed[0][: len(labels)], packed[1][: len(labels)] = scores, labels
        self._rows(video, _SEGMENTS, len(found), *(part.view(rows, -1).view(torch.int64) for part in packed))
        if self.proposals and len(intervals):
            hits = torch.from_numpy(first_hits(intervals.numpy(), found))
            self._rows(video, _INTERVAL, 0, hits, hits.new_zeros(len(hits), _SCORES + _LABELS - len(IOUS)))

    def compute(self) -> dict[str, Tensor]:
        """All in percent, but for ``videos``, which is how many came.

        ``ap`` is over the segments of all videos and ``ap_video`` the mean of the videos that have a positive;
        ``positive_rate`` is the share of positives. With proposals, ``ar_1`` to ``ar_100`` are average recall at as
        many a video on average, and ``auc`` is the area under that curve from 1 to 100. A percentage of nothing is 0.
        """
        rows = self._table()
        _, scores, labels = _unpacked(rows)
        own = [values["ap"] for values in _videos(rows) if not np.isnan(values["ap"])]
        result = {
            "ap": _percent(float(tied_average_precision(scores, labels))),
            "ap_video": sum(own) / max(1, len(own)),
            "positive_rate": 100 * int(labels.sum()) / max(1, len(labels)),
            "videos": len(rows[:, SEQUENCE].unique()),
        }
        if self.proposals:
            curve = _curve(rows)
            result |= {f"ar_{number}": 100 * curve.average[number - 1] for number in RECALLS} | {"auc": curve.auc}
        return self._result(result)

    def curve(self) -> RecallCurve:
        """Average recall over 1 to 100 proposals a video, as shares. If there are several processes, all must ask."""
        return _curve(self._gathered())

    def per_video(self) -> list[dict[str, Any]]:
        """Of each ``video`` the ``ap`` (NaN without positives), the ``positive_rate`` in percent, and the number of
        ``proposals``. If there are several processes, all must ask.
        """
        return _videos(self._gathered())

    def _rows(self, video: int, kind: int, count: int, *rest: Tensor) -> None:
        rows = len(rest[0])
        ahead = torch.tensor([video, kind, 0, count]).repeat(rows, 1)
        ahead[:, _NUMBER] = torch.arange(rows)
        self._add(ahead, *rest)


class ChanceAP(FrameRows):
    """What `ActionnessScore` gives scores that are drawn at random, in the long run: no draw is made.

    Args:
        trim: the first and the last share of every video rank last, all with the same score; 0.3 in the paper.
        segment: seconds.
    """

    higher_is_better = True

    def __init__(self, trim: float = 0.0, *, segment: float = SEGMENT) -> None:
        super().__init__(key=2, columns=6)
        if not 0 <= trim < 0.5:
            raise ZooError(f"ChanceAP: trim is a share of the video at either end, 0 to below 0.5, got {trim}.")
        self.trim, self.segment = trim, segment

    def update(self, intervals: Tensor | ArrayLike, duration: float, video: int) -> None:
        """Take one video: annotated seconds ``[K, 2]``, its length and number."""
        if video < 0:
            raise ZooError(f"ChanceAP.update: video {video}: videos are numbered from 0.")
        try:
            labels = segment_labels(intervals, duration, self.segment)
        except ZooError as error:
            raise ZooError(f"ChanceAP.update: video {video}: {error}") from None
        middle = untrimmed(duration, self.trim, self.segment)
        counts = [len(labels), labels.sum(), middle.sum(), labels[middle].sum()]
        self._add(torch.tensor([video]), torch.tensor([0]), torch.tensor([[int(count) for count in counts]]))

    def compute(self) -> dict[str, Tensor]:
        """``ap``, ``ap_video``, ``positive_rate`` and ``videos`` as `ActionnessScore` says."""
        counts = self._table()[:, 2:]
        count, positive = counts[:, 0], counts[:, 1]
        own = [_chance(row) for row in counts[positive > 0].tolist()]
        return self._result(
            {
                "ap": _percent(_chance(counts.sum(0).tolist())),
                "ap_video": 100 * sum(own) / max(1, len(own)),
                "positive_rate": 100 * int(positive.sum()) / max(1, int(count.sum())),
                "videos": len(counts),
            }
        )


def _chance(counts: list[int]) -> float:
    """The expected AP of segments, positives, and how many of each are not trimmed; NaN without positives."""
    count, positive, middle, inside = counts
    if not positive:
        return float("nan")
    ranked = float(expected_average_precision(torch.tensor([inside]), middle)) if inside else 0.0
    # The trimmed ones enter together, as the last.
    return (inside * ranked + (positive - inside) * positive / count) / positive


def _percent(share: float) -> float:
    """0 for what is the share of nothing."""
    return 0.0 if np.isnan(share) else 100 * share


def _unpacked(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The video, score and label of every segment."""
    rows = rows[rows[:, _KIND] == _SEGMENTS]
    packed = rows[:, _REST:]
    scores = packed[:, :_SCORES].contiguous().view(torch.float32)
    labels = packed[:, _SCORES:].contiguous().view(torch.uint8)
    there = labels != _NO_SEGMENT
    return rows[:, SEQUENCE, None].expand_as(labels)[there], scores[there], labels[there]


def _videos(rows: Tensor) -> list[dict[str, Any]]:
    """What `ActionnessScore.per_video` gives."""
    video, scores, labels = _unpacked(rows)
    numbers, lengths = video.unique_consecutive(return_counts=True)
    counts = rows[(rows[:, _KIND] == _SEGMENTS) & (rows[:, _NUMBER] == 0), _COUNT]
    parts = zip(scores.split(lengths.tolist()), labels.split(lengths.tolist()), strict=True)
    return [
        {
            "video": number,
            "ap": 100 * float(tied_average_precision(own, truth)),
            "positive_rate": 100 * float(truth.double().mean()),
            "proposals": count,
        }
        for number, count, (own, truth) in zip(numbers.tolist(), counts.tolist(), parts, strict=True)
    ]


def _curve(rows: Tensor) -> RecallCurve:
    """AR@AN of all rows."""
    first = rows[(rows[:, _KIND] == _SEGMENTS) & (rows[:, _NUMBER] == 0)]
    intervals = rows[rows[:, _KIND] == _INTERVAL]
    videos, owners = intervals[:, SEQUENCE].unique(return_inverse=True)
    counts = first[torch.isin(first[:, SEQUENCE], videos), _COUNT]
    hits = intervals[:, _REST : _REST + len(IOUS)]
    return recall_curve(counts.numpy(), hits.numpy(), owners.numpy(), int(first[:, _COUNT].sum()))


def _intervals(intervals: Tensor | ArrayLike) -> Tensor:
    """``[K, 2]`` float64 on the CPU."""
    intervals = torch.as_tensor(intervals).detach().cpu().double()
    intervals = intervals.reshape(0, 2) if not intervals.numel() else intervals
    if intervals.ndim != 2 or intervals.shape[1] != 2:
        raise ZooError(f"intervals must be [K, 2] seconds, got {tuple(intervals.shape)}.")
    bad = ~intervals.isfinite().all(1) | (intervals[:, 1] < intervals[:, 0])
    if bad.any():
        raise ZooError(
            f"interval {int(bad.long().argmax())} is {intervals[bad][0].tolist()}; intervals must be finite "
            "seconds and end after they start."
        )
    return intervals
