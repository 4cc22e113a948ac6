"""Average precision: equal scores keep the order of the list, or enter together; and what scores at random get."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError

_AT_ONCE = 1 << 20  # numbers that are sorted together


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """The AP of every class as a share, float64 ``[C]``; NaN for a class without positives.

    Args:
        scores: ``[N, C]`` floats, of any precision; infinities are scores like others.
        labels: ``[N, C]`` of 0 and 1.

    Raises:
        ZooError: shapes that differ, labels that are no labels, a NaN among the scores.
    """
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ZooError(
            f"average_precision: scores {tuple(scores.shape)} and labels {tuple(labels.shape)} must both be [N, C]."
        )
    labels = checked_labels("average_precision", labels)
    if (bad := scores.isnan()).any():
        row, column = bad.nonzero()[0].tolist()
        raise ZooError(f"average_precision: the score of row {row} and class {column} is NaN; NaN has no rank.")
    if scores.device.type == "mps":  # Apple's GPUs know no doubles
        scores, labels = scores.cpu(), labels.cpu()
    together = max(1, _AT_ONCE // max(1, len(scores)))
    parts = zip(scores.split(together, 1), labels.split(together, 1), strict=True)
    found = [_average_precision(s.T.contiguous(), y.T.contiguous()) for s, y in parts]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64, device=scores.device)


def tied_average_precision(scores: Tensor, labels: Tensor, *, interpolated: bool = False) -> Tensor:
    """The AP of one list as a share, a double, where equal scores enter together; NaN without positives.

    The sum, over distinct scores from the largest on, of the recall that each adds times the precision down to it.

    Args:
        scores: ``[N]`` floats; infinities are scores like others.
        labels: ``[N]`` of 0 and 1.
        interpolated: take the largest precision at this recall or a larger one, as detection challenges do.

    Raises:
        ZooError: shapes that differ, labels that are no labels, a NaN among the scores.
    """
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ZooError(
            f"tied_average_precision: scores {tuple(scores.shape)} and labels {tuple(labels.shape)} must both be [N]."
        )
    labels = checked_labels("tied_average_precision", labels)
    if (bad := scores.isnan()).any():
        raise ZooError(f"tied_average_precision: the score of row {int(bad.nonzero()[0])} is NaN; NaN has no rank.")
    scores, order = scores.cpu().sort(descending=True)  # also as Apple's GPUs know no doubles
    hits = labels.cpu()[order].cumsum(0)
    last = torch.ones_like(scores, dtype=torch.bool)  # of its equals
    last[:-1] = scores[1:] != scores[:-1]
    rank, hits = last.nonzero()[:, 0] + 1, hits[last].double()
    precision = hits / rank
    if interpolated:
        precision = precision.flip(0).cummax(0).values.flip(0)
    added = hits.diff(prepend=hits.new_zeros(1))
    return (added * precision).sum() / (hits[-1] if len(hits) else 0)


def expected_average_precision(positives: Tensor, rows: int) -> Tensor:
    """The mean AP, as a share, of all orders of ``rows`` rows: what scores drawn at random get in the long run.

    Rank k holds a positive with probability P / N, and each row before it then one with (P - 1) / (N - 1).

    Args:
        positives: ``[C]`` how many of the rows are positive; NaN comes out for none.
        rows: N, all that take part.
    """
    positives = positives.double()
    harmonic = (1 / torch.arange(1, rows + 1, dtype=torch.float64)).sum().to(positives.device)
    found = (harmonic + (positives - 1) / max(1, rows - 1) * (rows - harmonic)) / max(1, rows)
    return torch.where(positives > 0, found, torch.nan)


def checked_labels(name: str, labels: Tensor) -> Tensor:
    """Labels as bytes."""
    if labels.dtype != torch.bool and ((labels != 0) & (labels != 1)).any():
        raise ZooError(f"{name}: labels must be 0 or 1 for each class, got {labels.unique()[:5].tolist()}.")
    return labels.to(torch.uint8)


def _average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """``[C]`` from rows in memory order, ``[C, N]`` each."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = labels.gather(1, order)
    precision = hits.cumsum(1).double()
    precision /= torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (precision * hits).sum(1) / hits.sum(1)
