"""VIP's two measures of human parts: IoU of part classes, and average precision of part instances (`PartAP`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.metrics.contours import overlaps
from zoo.metrics.part_instances import PartAP, mean_of_known
from zoo.metrics.rows import FRAME, SEQUENCE, FrameRows

__all__ = ["PartAP", "PartIoU"]


class PartIoU(FrameRows):
    """Mean IoU, pixel accuracy and mean accuracy of part classes, from one confusion matrix over all pixels.

    A class that is in neither map has no IoU, and one that is not annotated no accuracy: the means leave them out. The
    background (class 0) is included.

    Args:
        classes: number of classes; annotated values from it on (void) count for nothing.
    """

    higher_is_better = True

    def __init__(self, classes: int = 20) -> None:
        super().__init__(key=2, columns=2 + classes**2)
        if not 1 <= classes <= 255:
            raise ZooError(f"PartIoU: classes must be 1 to 255, got {classes}.")
        self.classes = classes

    def update(self, prediction: Tensor, truth: Tensor, *, sequence: int, frames: Tensor) -> None:
        """Take T frames of one sequence.

        Args:
            prediction: ``[T, H', W']`` whole numbers; if the size is not the annotation's, each pixel of the annotation
                meets the nearest one of the prediction (by pixel centres).
            truth: ``[T, H, W]`` whole numbers.
            sequence: its number in the list.
            frames: ``[T]`` numbers of the annotated frames in the sequence, from 0.
        """
        where = f"PartIoU.update: sequence {sequence}"
        for name, maps in (("prediction", prediction), ("truth", truth)):
            if maps.ndim != 3 or maps.is_floating_point() or len(maps) != len(truth):
                raise ZooError(
                    f"{where}: {name} must be class numbers [T, H, W], as many frames as truth, got {maps.dtype} "
                    f"{tuple(maps.shape)}."
                )
        frames = self._check_run(sequence, frames, len(truth))
        if not truth.numel():
            return
        if prediction.shape != truth.shape:
            prediction = F.interpolate(prediction[None].float(), truth.shape[1:], mode="nearest-exact")[0].long()
        p, t = (np.ascontiguousarray(maps.cpu().numpy()) for maps in (prediction, truth))
        wrong = ((p < 0) | (p >= self.classes)).any((1, 2))
        if wrong.any():
            raise ZooError(
                f"{where}, frame {int(frames[wrong.argmax()])}: the prediction has a class outside "
                f"0..{self.classes - 1}."
            )
        void = (t < 0) | (t >= self.classes)
        p, t = p.astype(np.uint8), np.where(void, self.classes, t).astype(np.uint8)
        counts = overlaps(p, t, (self.classes - 1, self.classes)).transpose(0, 2, 1)[:, : self.classes]
        self._add(torch.full_like(frames, sequence), frames, torch.from_numpy(counts.reshape(len(frames), -1)))

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``miou``, ``pixel_accuracy``, ``mean_accuracy``, and the number of ``videos``; 0 of nothing."""
        rows = self._table()
        matrix = self._confusion(rows)
        iou, accuracy = _ratios(matrix)
        return self._result(
            {
                "miou": 100 * mean_of_known(iou),
                "pixel_accuracy": 100 * float(matrix.trace().double() / matrix.sum().clamp(min=1)),
                "mean_accuracy": 100 * mean_of_known(accuracy),
                "videos": len(rows[:, SEQUENCE].unique()),
            }
        )

    def confusion(self) -> Tensor:
        """``[classes, classes]`` int64: pixels by annotated class (rows) and predicted one (columns).

        If there are several processes, all must ask, here and below.
        """
        return self._confusion(self._gathered())

    def per_class(self) -> list[dict[str, Any]]:
        """For each ``class`` its ``iou`` and ``accuracy`` in percent, NaN where there is none, and ``pixels``."""
        matrix = self.confusion()
        iou, accuracy = (100 * values for values in _ratios(matrix))
        return [
            {"class": c, "iou": float(iou[c]), "accuracy": float(accuracy[c]), "pixels": int(matrix[c].sum())}
            for c in range(self.classes)
        ]

    def _confusion(self, rows: Tensor) -> Tensor:
        return rows[:, FRAME + 1 :].sum(0).view(self.classes, self.classes)


def _ratios(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and accuracy of each class, NaN where there is nothing to divide by."""
    right, annotated = matrix.diagonal().double(), matrix.sum(1)
    return right / (annotated + matrix.sum(0) - matrix.diagonal()), right / annotated
