"""How well frames are rebuilt from earlier ones: the L1 error in RGB of frames that a correspondence flow warped.

The paper (TimeCycle, table 2.5) names L1 in RGB and nothing more. The choices here: values 0..255, absolute differences
summed over the three channels, then means over the pixels of a frame, the frames of a sequence, and the sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import SEQUENCE, FrameRows, doubles

_GAP, _ERROR = 2, 3


class FrameError(FrameRows):
    """Mean L1 error of reconstructed frames, for each distance in time between the two frames.

    Args:
        gaps: how many frames apart.
    """

    higher_is_better = False

    def __init__(self, gaps: Sequence[int] = (5, 10)) -> None:
        super().__init__(key=3, columns=4)
        if not gaps or min(gaps) < 1 or len(set(gaps)) != len(gaps):
            raise ZooError(f"FrameError: gaps must be different positive numbers of frames, got {tuple(gaps)}.")
        self.gaps = tuple(gaps)

    def update(self, reconstruction: Tensor, frame: Tensor, *, gap: int, sequence: int, frames: Tensor) -> None:
        """Take T frames of one sequence, rebuilt from those ``gap`` before them.

        Args:
            reconstruction: ``[T, 3, H, W]``, 0..255, floating-point or bytes.
            frame: ``[T, 3, H, W]`` the frames as they are.
            gap: one of the metric's gaps.
            sequence: its number in the list.
            frames: ``[T]`` numbers of ``frame`` in the sequence, from 0.
        """
        where = f"FrameError.update: sequence {sequence}"
        if gap not in self.gaps:
            raise ZooError(f"{where}: gap {gap} is none of {self.gaps}.")
        if frame.ndim != 4 or frame.shape[1] != 3 or reconstruction.shape != frame.shape or not frame[0:1].numel():
            raise ZooError(
                f"{where}: reconstruction {tuple(reconstruction.shape)} and frame {tuple(frame.shape)} must both be "
                "[T, 3, H, W] with T > 0."
            )
        for name, pixels in (("reconstruction", reconstruction), ("frame", frame)):
            if not pixels.is_floating_point() and pixels.dtype != torch.uint8:
                raise ZooError(f"{where}: {name} must be bytes or floating-point, got {pixels.dtype}.")
        numbers = self._check_run(sequence, frames, len(frame))
        difference = (reconstruction.to(frame.device).float() - frame.float()).abs()
        # At most 765 a pixel, so single precision adds up whole numbers of a row exactly; the rows are added in double.
        error = difference.sum((1, 3)).cpu().double().sum(1) / frame[0, 0].numel()
        if not error.isfinite().all():
            bad = int(numbers[int((~error.isfinite()).long().argmax())])
            raise ZooError(f"{where}, frame {bad}: the reconstruction or the frame holds numbers that are not finite.")
        self._add(torch.full_like(numbers, sequence), numbers, torch.full_like(numbers, gap), error)

    def compute(self) -> dict[str, Tensor]:
        """``l1_5f``, ``l1_10f`` (after the gaps) and the number of ``videos``. The error of nothing is NaN, not 0."""
        rows = self._table()
        means = self._means(rows)
        result = {}
        for gap in self.gaps:
            own = [error for (_, of), error in means.items() if of == gap]
            result[f"l1_{gap}f"] = sum(own) / len(own) if own else float("nan")
        return self._result(result | {"videos": len(rows[:, SEQUENCE].unique())})

    def per_sequence(self) -> list[dict[str, Any]]:
        """For each ``sequence`` and ``gap`` the ``l1``. If there are several processes, all must ask."""
        return [{"sequence": s, "gap": gap, "l1": l1} for (s, gap), l1 in self._means(self._gathered()).items()]

    def _means(self, rows: Tensor) -> dict[tuple[int, int], float]:
        """The mean over frames by sequence and gap."""
        errors = doubles(rows[:, _ERROR])
        means = {}
        for sequence in rows[:, SEQUENCE].unique().tolist():
            for gap in self.gaps:
                own = errors[(rows[:, SEQUENCE] == sequence) & (rows[:, _GAP] == gap)]
                if len(own):
                    means[sequence, gap] = float(own.mean())
        return means
