"""AP^r of part instances: the multi-human parsing measure of VIP's authors, made over all frames of all videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import SEQUENCE, FrameRows, doubles

# The columns of a row after sequence and frame. An entry is a predicted instance (its id), an annotated class (minus
# the class), or nothing (0): that row only shows that the frame was there.
_ENTRY, _CLASS, _COUNT, _SCORE, _BOTH, _EITHER = range(2, 8)
_REPORTED = (0.3, 0.5, 0.7)  # the thresholds that tables show beside the mean over all


class PartAP(FrameRows):
    """AP^r: average precision of part instances, whose overlap is that of their masks.

    For each class, the predictions of all frames are sorted by score (equal ones by sequence, frame and id). One is
    right if its best IoU with an annotated instance of its class in its frame exceeds the threshold; an annotated one
    may be claimed several times, as in the published script. The value of a class is the area under its interpolated
    precision-recall curve. Classes that are annotated nowhere are left out of the means.

    Args:
        classes: part classes, numbered from 1.
        thresholds: of the IoU; ``ap_r_vol`` is the mean over all.
    """

    higher_is_better = True

    def __init__(
        self, classes: int = 19, thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ) -> None:
        super().__init__(key=3, columns=8)
        if classes < 1 or not thresholds:
            raise ZooError(f"PartAP needs classes and thresholds, got {classes} and {thresholds}.")
        self.classes = classes
        self.thresholds = tuple(thresholds)

    def update(
        self,
        prediction_ids: Tensor,
        prediction_classes: Tensor,
        prediction_scores: Tensor,
        truth_ids: Tensor,
        truth_classes: Tensor,
        *,
        sequence: int,
        frame: int,
    ) -> None:
        """Take one frame.

        Ids number the instances of a frame; tables say by id what an instance is, and entry 0 is the background's, of
        class 0. An instance without pixels is as if it were not listed, and one of class 0 is of no class that counts.

        Args:
            prediction_ids: ``[H, W]`` whole numbers, 0 is background.
            prediction_classes: ``[N + 1]`` classes of the ids 0..N.
            prediction_scores: ``[N + 1]`` scores of the ids 0..N; higher is surer.
            truth_ids: ``[H, W]`` whole numbers, 0 is background.
            truth_classes: ``[M + 1]`` classes of the ids 0..M.
            sequence: the sequence's number in the list.
            frame: the frame's number in the sequence, from 0.
        """
        where = f"PartAP.update: sequence {sequence}, frame {frame}"
        self._check_run(sequence, torch.tensor([frame]), 1)
        if prediction_ids.shape != truth_ids.shape or truth_ids.ndim != 2 or not truth_ids.numel():
            raise ZooError(
                f"{where}: both id maps must be [H, W] of one size and not empty, got "
                f"{tuple(prediction_ids.shape)} and {tuple(truth_ids.shape)}."
            )
        p_ids, p_classes = self._check_instances(where, "prediction", prediction_ids, prediction_classes)
        t_ids, t_classes = self._check_instances(where, "truth", truth_ids, truth_classes)
        scores = prediction_scores.detach().cpu().double()
        if scores.shape != p_classes.shape or scores.isnan().any():
            raise ZooError(f"{where}: prediction_scores must be one number for each of {len(p_classes)} classes.")

        # Only ids that have pixels: numbers may be far apart, and a table over all would be as large as their product.
        (shown, p_at), (named, t_at) = (m.flatten().unique(return_inverse=True) for m in (p_ids, t_ids))
        p_classes, t_classes, scores = p_classes[shown], t_classes[named], scores[shown]
        N, M = len(shown), len(named)
        both = torch.bincount(p_at * M + t_at, minlength=N * M).view(N, M)
        areas, annotated = both.sum(1), both.sum(0)
        either = areas[:, None] + annotated[None] - both
        rivals = p_classes[:, None] == t_classes[None]
        iou = torch.where(rivals, both.double() / either.clamp(min=1), -1.0)
        best = iou.argmax(1, keepdim=True)
        both = torch.where(rivals, both, 0).gather(1, best)[:, 0]
        either = either.clamp(min=1).gather(1, best)[:, 0]
        of = p_classes > 0
        self._add_entries(
            sequence, frame, shown[of], p_classes[of], torch.ones_like(shown[of]), scores[of], both[of], either[of]
        )
        present = torch.bincount(t_classes, minlength=self.classes + 1)
        present[0] = 1  # the row that shows that the frame was there
        kinds = present.nonzero()[:, 0]
        none = torch.zeros_like(kinds)
        self._add_entries(sequence, frame, -kinds, kinds, present[kinds], none.double(), none, none)

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``ap_r_vol`` (mean over thresholds) and ``ap_r_30``, ``ap_r_50``, ``ap_r_70``, and ``videos``.

        A threshold that was not asked for has no number. Without any annotated instance all are 0.
        """
        rows = self._table()
        table = self._precisions(rows)
        known = [mean_of_known(column) for column in table.T]
        result = {"ap_r_vol": 100 * sum(known) / len(known)}
        for threshold in _REPORTED:
            if threshold in self.thresholds:
                result[f"ap_r_{round(100 * threshold)}"] = 100 * known[self.thresholds.index(threshold)]
        return self._result(result | {"videos": len(rows[:, SEQUENCE].unique())})

    def table(self) -> Tensor:
        """``[classes, thresholds]`` shares, class 1 first; NaN where a class is annotated nowhere.

        If there are several processes, all must ask.
        """
        return self._precisions(self._gathered())

    def _check_instances(self, where: str, name: str, ids: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Both as int64 on the CPU."""
        if ids.is_floating_point() or classes.is_floating_point() or classes.ndim != 1 or not len(classes):
            raise ZooError(
                f"{where}: {name}_ids and {name}_classes must be whole numbers, the classes [ids + 1], got {ids.dtype} "
                f"and {classes.dtype} {tuple(classes.shape)}."
            )
        ids, classes = ids.cpu().long(), classes.cpu().long()
        if classes[0] != 0:
            raise ZooError(f"{where}: entry 0 of {name}_classes is the background's and must be 0, got {classes[0]}.")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(classes):
            raise ZooError(
                f"{where}: {name}_ids has ids {int(ids.min())}..{int(ids.max())}, {name}_classes 0..{len(classes) - 1}."
            )
        if classes.min() < 0 or classes.max() > self.classes:
            raise ZooError(f"{where}: {name}_classes must be within 0..{self.classes}, got {classes.tolist()}.")
        return ids, classes

    def _add_entries(self, sequence: int, frame: int, entry: Tensor, *columns: Tensor) -> None:
        self._add(torch.full_like(entry, sequence), torch.full_like(entry, frame), entry, *columns)

    def _precisions(self, rows: Tensor) -> Tensor:
        """The table of average precisions."""
        predicted = rows[rows[:, _ENTRY] > 0]
        order = doubles(predicted[:, _SCORE]).argsort(descending=True, stable=True)
        predicted = predicted[order]
        iou = predicted[:, _BOTH].double() / predicted[:, _EITHER]
        table = torch.full((self.classes, len(self.thresholds)), torch.nan, dtype=torch.float64)
        for c in range(1, self.classes + 1):
            annotated = int(rows[rows[:, _ENTRY] == -c, _COUNT].sum())
            if annotated:
                own = iou[predicted[:, _CLASS] == c].numpy()
                table[c - 1] = torch.from_numpy(
                    np.array([average_precision(own > t, annotated) for t in self.thresholds])
                )
        return table


def average_precision(right: np.ndarray, annotated: int) -> float:
    """Area under the interpolated precision-recall curve (PASCAL VOC's, at all points).

    Args:
        right: ``[N]`` bool, of the predictions in descending order of their scores.
        annotated: how many there are to find, > 0. With double claims recall goes beyond 1.
    """
    hits = np.cumsum(right)
    recall = np.concatenate([[0.0], hits / annotated])
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    return float(np.sum(np.diff(recall) * best))


def mean_of_known(values: Tensor) -> float:
    """The mean without NaN; 0 where all are."""
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else 0.0
