"""When an action turns unintentional, by Oops!'s protocol (Epstein, Chen & Vondrick, CVPR 2020): classes and times.

The clip with the largest probability of the transition locates a failure: the clip's middle is held against the
annotators' times, of which the nearest counts. The rules are those of the released evaluation script.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import SEQUENCE, FrameRows, doubles

CLASSES = ("intentional", "transitional", "unintentional")
TOLERANCES = {"loc_1s": 1.0, "loc_025s": 0.25}  # seconds, inclusive
_BORDER = 0.01  # of a video's length: failures nearer to its start or end are not scored
_TRANSITION = 1
# The columns of a row after video and clip.
_LABEL, _GUESS, _SCORED, _PROBABILITY, _TIME, _ERROR, _DURATION = range(2, 9)


class IntentionalityScore(FrameRows):
    """Accuracy of clips, and of the times of failures, in percent.

    Every labelled clip counts for the accuracy of classes, also those of videos that localisation drops: a video whose
    median time is negative (most annotators saw no failure) or within 1 % of its start or end.
    """

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(key=2, columns=9)

    def update(
        self, logits: Tensor, label: Tensor, times: Tensor, *, annotated: Tensor, duration: float, video: int
    ) -> None:
        """Take all n clips of one video, in any order. A video without clips is left out.

        Args:
            logits: ``[n, 3]``, before the softmax.
            label: ``[n]`` classes, -1 = not labelled.
            times: ``[n, 2]`` seconds of a clip's first and last frame.
            annotated: ``[A]`` the annotators' seconds; NaN = no annotator; -1 = saw no failure, which stays among the
                times that the nearest is taken from.
            duration: annotated length in seconds.
            video: its number in the list.

        Raises:
            ZooError: wrong shapes, unknown labels, or logits or times that are not finite; names the video.
        """
        where = _video("IntentionalityScore", video)
        count = len(logits)
        if logits.shape != (count, len(CLASSES)) or label.shape != (count,) or times.shape != (count, 2):
            raise ZooError(
                f"{where}: logits {tuple(logits.shape)}, label {tuple(label.shape)} and times {tuple(times.shape)} "
                "must be [n, 3], [n] and [n, 2]: a row for each clip."
            )
        seconds, duration = _annotated(where, annotated, duration)
        if not count:
            return
        logits, times = (values.detach().cpu().double().numpy() for values in (logits, times))
        label = label.cpu().long().numpy()
        for name, values in (("logits", logits), ("times", times)):
            if not (finite := np.isfinite(values).all(1)).all():
                raise ZooError(
                    f"{where}, clip {int(finite.argmin())}: the {name} {values[finite.argmin()].tolist()} are not "
                    "finite; leave the video out with `discard`, or look for what broke the model or the file."
                )
        if label.min() < -1 or label.max() >= len(CLASSES):
            raise ZooError(f"{where}: labels must be -1, 0, 1 or 2, got {sorted(set(label.tolist()))}.")
        order = times[:, 0].argsort(kind="stable")
        logits, times, label = logits[order], times[order], label[order]
        probability = np.exp(logits - logits.max(1, keepdims=True))
        probability /= probability.sum(1, keepdims=True)
        middle = times.sum(1) / 2
        error = np.abs(middle[:, None] - seconds).min(1) if len(seconds) else np.full(count, np.nan)
        columns = (
            np.full(count, video),
            np.arange(count),
            label,
            logits.argmax(1),
            np.full(count, is_scored(seconds, duration)),
            probability[:, _TRANSITION],
            middle,
            error,
            np.full(count, duration),
        )
        self._add(*(torch.from_numpy(column) for column in columns))

    def compute(self) -> dict[str, Tensor]:
        """``cls_acc`` over labelled clips, ``loc_1s`` and ``loc_025s`` over located videos, in percent; errors; counts.

        ``mean_abs_error`` and ``median_abs_error`` are seconds between the time found and the nearest annotated one,
        ``mean_rel_error`` and ``median_rel_error`` the same in percent of the video's length. ``videos`` had clips, and
        ``located`` of them count for localisation. A percentage of nothing is 0, an error of nothing NaN.
        """
        rows = self._table()
        matrix, found = _confusion(rows), _found(rows)
        error = doubles(found[:, _ERROR]).numpy()
        relative = 100 * error / doubles(found[:, _DURATION]).numpy()
        result = {"cls_acc": 100 * int(matrix.trace()) / max(1, int(matrix.sum()))}
        for name, tolerance in TOLERANCES.items():
            result[name] = 100 * int((error <= tolerance).sum()) / max(1, len(found))
        for name, values in (("abs", error), ("rel", relative)):
            result[f"mean_{name}_error"] = values.mean() if len(values) else np.nan
            result[f"median_{name}_error"] = np.median(values) if len(values) else np.nan
        return self._result(result | {"videos": len(rows[:, SEQUENCE].unique()), "located": len(found)})

    def confusion(self) -> Tensor:
        """``[3, 3]`` int64 numbers of clips, label by prediction. If there are several processes, all must ask."""
        return _confusion(self._gathered())

    def per_video(self) -> list[dict[str, Any]]:
        """For each located ``video`` the ``time`` found and its ``error`` in seconds, and whether it is within each
        tolerance. If there are several processes, all must ask.
        """
        found = _found(self._gathered())
        times, errors = doubles(found[:, _TIME]).tolist(), doubles(found[:, _ERROR]).tolist()
        return [
            {"video": video, "time": time, "error": error}
            | {name: error <= tolerance for name, tolerance in TOLERANCES.items()}
            for video, time, error in zip(found[:, SEQUENCE].tolist(), times, errors, strict=True)
        ]


class ChanceScore(FrameRows):
    """What `IntentionalityScore` gives a uniform guess, from the annotations alone: no video is read."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(key=2, columns=2 + len(TOLERANCES))

    def update(self, annotated: Tensor, duration: float, video: int) -> None:
        """Take one video: the annotators' seconds ``[A]`` (-1 = saw no failure, NaN = none), its length and number."""
        seconds, duration = _annotated(_video("ChanceScore", video), annotated, duration)
        if is_scored(seconds, duration):
            shares = [[chance(float(np.median(seconds)), duration, tolerance) for tolerance in TOLERANCES.values()]]
            self._add(torch.tensor([video]), torch.tensor([0]), torch.tensor(shares, dtype=torch.float64))

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``cls_acc``, ``loc_1s`` and ``loc_025s``, and how many ``videos`` localisation counts."""
        rows = self._table()
        shares = doubles(rows[:, 2:]).numpy()
        result = {"cls_acc": 100 / len(CLASSES)}
        for number, name in enumerate(TOLERANCES):
            result[name] = 100 * shares[:, number].mean() if len(rows) else 0.0
        return self._result(result | {"videos": len(rows)})


def chance(moment: float, duration: float, tolerance: float) -> float:
    """The share of a video that lies within ``tolerance`` of a moment; all in seconds."""
    return (min(duration, moment + tolerance) - max(0.0, moment - tolerance)) / duration


def is_scored(seconds: NDArray, duration: float) -> bool:
    """Whether localisation counts a video: its median time is neither negative nor within 1 % of start or end.

    Args:
        seconds: ``[A]`` the annotators' times, -1 = saw no failure.
        duration: seconds.
    """
    return len(seconds) > 0 and bool(_BORDER <= np.median(seconds / duration) <= 1 - _BORDER)


def _video(metric: str, video: int) -> str:
    """The place that an error names."""
    if video < 0:
        raise ZooError(f"{metric}.update: video {video}: videos are numbered from 0.")
    return f"{metric}.update: video {video}"


def _annotated(where: str, annotated: Tensor, duration: float) -> tuple[NDArray, float]:
    """The annotators' seconds ``[A]`` without padding, and the video's length."""
    seconds = annotated.detach().cpu().double().numpy()
    seconds = seconds[~np.isnan(seconds)]
    if seconds.ndim != 1 or np.isinf(seconds).any():
        raise ZooError(f"{where}: annotated must be [A] seconds, got {annotated.tolist()}.")
    if len(seconds) and not 0 < duration < np.inf:
        raise ZooError(f"{where}: a duration of {duration} s; annotated times need the video's length in seconds.")
    return seconds, float(duration)


def _confusion(rows: Tensor) -> Tensor:
    """``[3, 3]`` numbers of labelled clips, label by prediction."""
    rows = rows[rows[:, _LABEL] >= 0]
    count = len(CLASSES)
    return torch.bincount(rows[:, _LABEL] * count + rows[:, _GUESS], minlength=count * count).view(count, count)


def _found(rows: Tensor) -> Tensor:
    """Of every video that localisation counts the row of the likeliest transition, the earliest of equals."""
    rows = rows[rows[:, _SCORED] == 1]  # by video and time
    rows = rows[doubles(rows[:, _PROBABILITY]).argsort(descending=True, stable=True)]
    rows = rows[rows[:, SEQUENCE].argsort(stable=True)]
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = rows[1:, SEQUENCE] != rows[:-1, SEQUENCE]
    return rows[first]
