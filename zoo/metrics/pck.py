"""PCK, the percentage of correct keypoints, by JHMDB's protocol: a joint is right when it is near, for a person's size.

Near is a share of 0.6 times the diagonal of the box around the person's joints in that frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import SEQUENCE, FrameRows

_SIZE = 0.6  # of the box's diagonal
_JOINTS = 2  # the first column of joints in a row
_SKIPPED = -1


class PCK(FrameRows):
    """Percentage of correct keypoints at several thresholds: per joint over all frames, then the mean over joints.

    Frame 0 is given and not scored. A joint that the tracker lost is left out, not counted as wrong; so is one without
    an annotation. Of a frame is kept how many of the thresholds each joint meets.

    Args:
        joints: joints of a person.
        thresholds: shares of the person's size, ascending.
    """

    higher_is_better = True

    def __init__(self, joints: int = 15, thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5)) -> None:
        super().__init__(key=2, columns=2 + joints)
        if joints < 1 or not thresholds or list(thresholds) != sorted(set(thresholds)) or thresholds[0] <= 0:
            raise ZooError(f"PCK needs joints and ascending positive thresholds, got {joints} and {thresholds}.")
        self.joints = joints
        self.thresholds = tuple(thresholds)
        self._names = tuple(f"pck_{f'{t:g}'.replace('.', '')}" for t in self.thresholds)

    def update(self, prediction: Tensor, truth: Tensor, *, sequence: int, frames: Tensor) -> None:
        """Take T frames of one sequence.

        Args:
            prediction: ``[T, J, 2]`` (x, y) in pixels; NaN where the joint was lost. It may be longer than the
                annotation, whose end then ends both.
            truth: ``[T, J, 2]`` (x, y) in pixels; NaN where nothing is annotated.
            sequence: its number in the list.
            frames: ``[T]`` numbers of the annotated frames in the sequence, from 0.
        """
        where = f"PCK.update: sequence {sequence}"
        for name, points in (("prediction", prediction), ("truth", truth)):
            if points.shape[1:] != (self.joints, 2) or points.ndim != 3 or not points.is_floating_point():
                raise ZooError(
                    f"{where}: {name} must be floating-point [T, {self.joints}, 2], got {points.dtype} "
                    f"{tuple(points.shape)}."
                )
        if len(prediction) < len(truth):
            raise ZooError(f"{where}: {len(prediction)} frames were predicted, but {len(truth)} are annotated.")
        frames = self._check_run(sequence, frames, len(truth))
        truth = truth.detach().cpu().double()
        prediction = prediction.detach()[: len(truth)].cpu().double()
        lost = (prediction.isnan() | truth.isnan()).any(-1)
        share = (prediction - truth).norm(dim=-1) / person_size(prediction, truth)[:, None]  # x / 0 meets no threshold
        met = sum((share <= threshold).long() for threshold in self.thresholds).masked_fill(lost, _SKIPPED)
        later = frames > 0
        self._add(torch.full_like(frames[later], sequence), frames[later], met[later])

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``pck_01`` ... ``pck_05`` (after the thresholds), and the number of ``videos`` scored.

        A joint that was found in no frame at all is left out of the mean. A percentage of nothing is 0.
        """
        rows = self._table()
        percent, frames = self._joints(rows)
        means = percent[:, frames > 0].sum(1) / max(1, int((frames > 0).sum()))
        return self._result(
            dict(zip(self._names, means.tolist(), strict=True)) | {"videos": len(rows[:, SEQUENCE].unique())}
        )

    def per_joint(self) -> list[dict[str, Any]]:
        """For each ``joint`` (from 0) its percentages and in how many ``frames`` it counted.

        If there are several processes, all must ask.
        """
        percent, frames = self._joints(self._gathered())
        return [
            {"joint": joint, "frames": int(frames[joint])}
            | dict(zip(self._names, percent[:, joint].tolist(), strict=True))
            for joint in range(self.joints)
        ]

    def _joints(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Percentages ``[thresholds, J]``, 0 for joints without frames, and the frames ``[J]`` that each counts."""
        met = rows[:, _JOINTS:]
        frames = (met != _SKIPPED).sum(0)
        hits = torch.stack([(met >= len(self.thresholds) - i).sum(0) for i in range(len(self.thresholds))])
        return 100.0 * hits / frames.clamp(min=1).double(), frames


def person_size(prediction: Tensor, truth: Tensor) -> Tensor:
    """0.6 times the diagonal of the box around the annotated joints whose prediction is not lost.

    Args:
        prediction: ``[T, J, 2]`` pixels, NaN where lost.
        truth: ``[T, J, 2]`` pixels.

    Returns:
        ``[T]`` pixels; 0 where all joints are lost.
    """
    out = (prediction.isnan() | truth.isnan()).any(-1, keepdim=True)
    low = truth.masked_fill(out, torch.inf).amin(1)
    high = truth.masked_fill(out, -torch.inf).amax(1)
    return _SIZE * (high - low).clamp(min=0).norm(dim=-1)
