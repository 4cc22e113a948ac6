"""The DAVIS-2017 measures of video object segmentation: region similarity J, contour accuracy F, and their statistics.

Equal to the published evaluator in both its tasks, but for sequences beyond 256 scored frames: there the evaluator's
8-bit frame numbers wrap around in the decay, and here they do not.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.contours import Matches, cropped, matches, overlaps
from zoo.metrics.rows import FRAME, SEQUENCE, FrameRows
from zoo.metrics.segmentation import (
    boundary,
    contour_accuracy,
    f_of,
    radius,
    region_similarity,
    similarity_of,
    statistics,
)

__all__ = ["DavisJF", "boundary", "contour_accuracy", "region_similarity", "statistics"]

VOID = 255
MAX_PROPOSALS = 20
# The columns of a row: what names it, then what was counted of it.
_OBJECT, _PROPOSAL, _LENGTH, _BOTH, _EITHER, _PREDICTED, _ANNOTATED, _PREDICTED_NEAR, _ANNOTATED_NEAR = range(2, 11)


class DavisJF(FrameRows):
    """J&F over whole sequences; every number is a mean over all objects of all sequences.

    What is kept of a frame is a row of counts for each object (unsupervised: for each pair of an object and a proposal
    that is seen in the frame), so memory does not grow with pixels.

    - ``"semi_supervised"``: label k is object k. The first and the last frame of a sequence are not scored, void
      counts as background.
    - ``"unsupervised"``: labels are proposals, at most 20, which are matched to the objects of the sequence so that
      the sum of (mean J + mean F) / 2 is largest. All frames are scored, void counts for nothing.
    """

    higher_is_better = True

    def __init__(self, task: Literal["semi_supervised", "unsupervised"] = "semi_supervised") -> None:
        super().__init__(key=4, columns=11)
        if task not in ("semi_supervised", "unsupervised"):
            raise ZooError(f"DavisJF: task must be 'semi_supervised' or 'unsupervised', got {task!r}.")
        self.task = task

    def update(
        self, prediction: Tensor, truth: Tensor, *, sequence: int, frames: Tensor, length: int, objects: int
    ) -> None:
        """Take T frames of one sequence.

        Args:
            prediction: ``[T, H, W]`` uint8 label maps.
            truth: ``[T, H, W]`` uint8 label maps; 255 is void. Labels above ``objects`` count as background.
            sequence: its number in the list.
            frames: ``[T]`` their numbers in the sequence, from 0.
            length: frames that the sequence has.
            objects: highest label of the sequence's first annotation.

        Raises:
            ZooError: wrong shapes or types, or labels that no object or proposal may have; names sequence and frame.
        """
        frames = self._check(prediction, truth, sequence, frames, length, objects)
        semi = self.task == "semi_supervised"
        reach = radius(*truth.shape[1:])
        p, t = cropped(prediction.cpu().numpy(), truth.cpu().numpy())
        if semi and not (inner := (frames > 0) & (frames < length - 1)).all():
            frames, p, t = frames[inner], p[inner.numpy()], t[inner.numpy()]
        if not t.size:
            return
        highest = p.max((1, 2))
        limit = objects if semi else MAX_PROPOSALS
        if (highest > limit).any():
            bad = int((highest > limit).argmax())
            allowed = f"the sequence has {objects} objects" if semi else f"{limit} proposals are the most allowed"
            raise ZooError(
                f"DavisJF.update: sequence {sequence}, frame {int(frames[bad])}: the prediction has label "
                f"{highest[bad]}, but {allowed}."
            )
        if not objects:
            return
        if not semi and (void := t == VOID).any():
            p = np.where(void, np.uint8(0), p)
        if t.max() > objects:
            t = np.where(t > objects, np.uint8(0), t)
        labels = (objects, objects) if semi else (max(1, int(highest.max())), objects)
        area = overlaps(p, t, labels)
        found = matches(p, t, labels, reach, crossed=not semi)
        if semi:
            self._add_own(area, found, sequence, frames.numpy(), length)
        else:
            self._add_pairs(area, found, sequence, frames.numpy(), length, highest)

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``jf_mean``, ``j_mean``, ``j_recall``, ``j_decay``, ``f_mean``, ``f_recall``, ``f_decay``.

        ``videos`` sequences were scored, by as many of their frames as came; ``incomplete`` of them lacked some. A
        percentage of nothing is 0, so look at ``videos`` first.
        """
        curves = self._curves(self._table())
        lacking = {c["sequence"] for c in curves if not c["complete"]}
        return self._result(
            _mean([_summary(c) for c in curves])
            | {"videos": len({c["sequence"] for c in curves}), "incomplete": len(lacking)}
        )

    def per_frame(self) -> list[dict[str, Any]]:
        """For each object its ``sequence``, ``object``, ``frames`` (numbers), ``j`` and ``f`` (shares, as many).

        In the unsupervised task also ``proposal``, the label that was matched to it (the published evaluator lists
        objects in the order of their proposals). ``complete`` says whether all frames came. If there are several
        processes, all must ask, here and below.
        """
        return self._curves(self._gathered())

    def per_object(self) -> list[dict[str, Any]]:
        """The percentages of `compute` for each object of each sequence."""
        names = ("sequence", "object", "proposal")
        return [{name: c[name] for name in names if name in c} | _summary(c) for c in self.per_frame()]

    def per_sequence(self) -> list[dict[str, Any]]:
        """The percentages of `compute` for each sequence, a mean over its objects."""
        objects: dict[int, list[dict[str, float]]] = {}
        for c in self.per_frame():
            objects.setdefault(c["sequence"], []).append(_summary(c))
        return [{"sequence": s, "objects": len(rows)} | _mean(rows) for s, rows in objects.items()]

    def _check(
        self, prediction: Tensor, truth: Tensor, sequence: int, frames: Tensor, length: int, objects: int
    ) -> Tensor:
        """The frame numbers on the CPU, once everything else fits too."""
        where = f"DavisJF.update: sequence {sequence}"
        if truth.ndim != 3 or prediction.shape != truth.shape or {prediction.dtype, truth.dtype} != {torch.uint8}:
            raise ZooError(
                f"{where}: prediction and truth must both be uint8 [T, H, W] of one size, got {prediction.dtype} "
                f"{tuple(prediction.shape)} and {truth.dtype} {tuple(truth.shape)}."
            )
        frames = self._check_run(sequence, frames, len(truth))
        if len(frames) and int(frames.max()) >= length:
            raise ZooError(f"{where} has {length} frames, numbered from 0, but frame {int(frames.max())} was given.")
        if not 0 <= objects < VOID:
            raise ZooError(f"{where}: objects must be the highest label of the first annotation, got {objects}.")
        return frames

    def _add_own(self, area: NDArray, found: Matches, sequence: int, frames: NDArray, length: int) -> None:
        """A row for each frame and object, from counts of labels that meet their own."""
        both = area.diagonal(axis1=1, axis2=2)[:, 1:]
        either = area.sum(1)[:, 1:] + area.sum(2)[:, 1:] - both
        at, label = (index.ravel() for index in np.indices(both.shape))
        self._add_counts(
            sequence, frames[at], label + 1, label + 1, length, *(n.ravel() for n in (both, either, *found))
        )

    def _add_pairs(
        self, area: NDArray, found: Matches, sequence: int, frames: NDArray, length: int, highest: NDArray
    ) -> None:
        """A row for each frame, object and proposal that the frame has, and one for a proposal that it has not (0).

        ``highest [T]``, each frame's highest proposal, has a row even if it is all void: it tells how many there are.
        """
        T, P, K = (n - less for n, less in zip(area.shape, (0, 1, 1), strict=True))
        proposed, annotated = area.sum(2), area.sum(1)[:, 1:]
        proposed[:, 0] = 0
        both = area[:, :, 1:].copy()  # [T, P + 1, K]
        both[:, 0] = 0
        either = annotated[:, None] + proposed[:, :, None] - both
        nothing = np.zeros((T, 1, K), np.int64)
        predicted, annotated_near, predicted_near = (
            np.concatenate([nothing, np.broadcast_to(n, (T, P, K))], axis=1)
            for n in (found.predicted[:, :, None], found.annotated_near, found.predicted_near)
        )
        contour = np.broadcast_to(found.annotated[:, None], both.shape)
        seen = proposed > 0
        seen[:, 0] = seen[range(T), highest] = True
        at, p, k = np.nonzero(np.broadcast_to(seen[:, :, None], both.shape))
        counts = both, either, predicted, contour, predicted_near, annotated_near
        self._add_counts(sequence, frames[at], k + 1, p, length, *(n[at, p, k] for n in counts))

    def _add_counts(self, *columns: int | NDArray) -> None:
        rows = np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int64)
        self._add(torch.from_numpy(rows))

    def _curves(self, rows: Tensor) -> list[dict[str, Any]]:
        """J and F of each object over the frames of its sequence, as `per_frame` gives them."""
        j, f = similarity_of(rows[:, _BOTH], rows[:, _EITHER]), f_of(*rows[:, _PREDICTED:].unbind(1))
        curves = []
        for sequence in rows[:, SEQUENCE].unique().tolist():
            of = rows[:, SEQUENCE] == sequence
            own, both = rows[of], torch.stack([j[of], f[of]])
            frames, at = own[:, FRAME].unique(return_inverse=True)
            objects = int(own[:, _OBJECT].max())
            each = own if self.task == "semi_supervised" else own[own[:, _PROPOSAL] == 0]
            if len(each) != objects * len(frames) or (own[:, _LENGTH] != own[0, _LENGTH]).any():
                raise ZooError(f"DavisJF: sequence {sequence} was given with several lengths or numbers of objects.")
            if self.task == "semi_supervised":
                values = torch.zeros(2, objects, len(frames), dtype=torch.float64)
                values[:, own[:, _OBJECT] - 1, at] = both
                proposals = None
            else:
                values, proposals = _matched(own, both, at, objects)
            scored = int(own[0, _LENGTH]) - (2 if self.task == "semi_supervised" else 0)
            curves += [
                {"sequence": sequence, "object": k + 1}
                | ({} if proposals is None else {"proposal": proposals[k]})
                | {"frames": frames, "j": values[0, k], "f": values[1, k], "complete": len(frames) == scored}
                for k in range(objects)
            ]
        return curves


def _matched(rows: Tensor, values: Tensor, at: Tensor, objects: int) -> tuple[Tensor, list[int]]:
    """J and F ``[2, K, n]`` of each object under its proposal in the best assignment, and these proposals."""
    proposals = max(objects, int(rows[:, _PROPOSAL].max()))  # too few are filled up with empty ones
    empty = rows[:, _PROPOSAL] == 0
    base = torch.zeros(2, objects, int(at.max()) + 1, dtype=torch.float64)
    base[:, rows[empty, _OBJECT] - 1, at[empty]] = values[:, empty]
    pairs = base[:, None].repeat(1, proposals, 1, 1)  # a proposal that a frame lacks is empty there
    pairs[:, rows[~empty, _PROPOSAL] - 1, rows[~empty, _OBJECT] - 1, at[~empty]] = values[:, ~empty]
    proposal, of = linear_sum_assignment(pairs.mean(3).mean(0).numpy(), maximize=True)
    best = dict(zip(of.tolist(), proposal.tolist(), strict=True))
    chosen = [best[k] for k in range(objects)]
    return pairs[:, chosen, range(objects)], [p + 1 for p in chosen]


def _summary(curve: dict[str, Any]) -> dict[str, float]:
    """The percentages of one object."""
    j, f = (statistics(curve[name]) for name in ("j", "f"))
    names = ("mean", "recall", "decay")
    return (
        {"jf_mean": 50 * (j[0] + f[0])}
        | {f"j_{name}": 100 * value for name, value in zip(names, j, strict=True)}
        | {f"f_{name}": 100 * value for name, value in zip(names, f, strict=True)}
    )


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of rows of percentages; zeros where there are none."""
    names = ("jf_mean", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
    return {name: sum(row[name] for row in rows) / max(1, len(rows)) for name in names}
