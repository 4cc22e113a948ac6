"""How alike two masks are: region similarity J and contour accuracy F, and what DAVIS makes of their course in time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.contours import matches


def region_similarity(prediction: Tensor, truth: Tensor, void: Tensor | None = None) -> Tensor:
    """J, the intersection of two masks over their union; 1 where both are empty.

    Args:
        prediction: ``[..., H, W]`` bool.
        truth: ``[..., H, W]`` bool.
        void: ``[..., H, W]`` bool, pixels that count for nothing.

    Returns:
        ``[...]`` double.
    """
    p, t = _flattened(prediction, truth, void)
    return similarity_of((p & t).sum((1, 2)), (p | t).sum((1, 2))).view(truth.shape[:-2])


def contour_accuracy(prediction: Tensor, truth: Tensor, void: Tensor | None = None, tolerance: float = 0.008) -> Tensor:
    """F, the harmonic mean of contour precision and recall, with contours as `boundary` draws them.

    Precision is the share of predicted contour pixels that have an annotated one within the tolerance, recall the
    reverse. One empty contour of two gives 0, two give 1.

    Args:
        prediction: ``[..., H, W]`` bool.
        truth: ``[..., H, W]`` bool.
        void: ``[..., H, W]`` bool, pixels that both masks lose.
        tolerance: share of the image's diagonal, rounded up to pixels; 1 or more is taken as pixels.

    Returns:
        ``[...]`` double.
    """
    p, t = _flattened(prediction, truth, void)
    if not p.numel():
        return torch.ones(truth.shape[:-2], dtype=torch.float64, device=truth.device)
    found = matches(*(m.cpu().numpy().view(np.uint8) for m in (p, t)), (1, 1), radius(*truth.shape[-2:], tolerance))
    return f_of(*(torch.from_numpy(n[:, 0]) for n in found)).view(truth.shape[:-2]).to(truth.device)


def radius(height: int, width: int, tolerance: float = 0.008) -> int:
    """How far apart, in pixels, two contour pixels may be: a share of the image's diagonal, rounded up (8 at 480p).

    A tolerance of 1 or more is taken as pixels.
    """
    return math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(height, width))


def boundary(mask: Tensor) -> Tensor:
    """Boundary map of a mask: the pixels that differ from their right, lower or lower-right neighbour.

    In the last row and column only the neighbours along the border count, and the corner is never boundary, as if the
    border were continued outwards.

    Args:
        mask: ``[..., H, W]`` bool.

    Returns:
        ``[..., H, W]`` bool.
    """
    right = torch.cat([mask[..., :, 1:], mask[..., :, -1:]], dim=-1)
    below = torch.cat([mask[..., 1:, :], mask[..., -1:, :]], dim=-2)
    diagonal = torch.cat([right[..., 1:, :], right[..., -1:, :]], dim=-2)
    return (mask != right) | (mask != below) | (mask != diagonal)


def statistics(values: Tensor) -> tuple[float, float, float]:
    """Mean, recall (share above 0.5) and decay (first quarter's mean minus the last one's) of ``values [n]``, n > 0.

    Quarters share their edge frames, which are ``round(linspace(1, n, 5))``, halves up. The published evaluator keeps
    the edges in 8 bits, so that its decay is another one beyond 256 frames.
    """
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return float(values.mean()), float((values > 0.5).double().mean()), float(first.mean() - last.mean())


def similarity_of(both: Tensor, either: Tensor) -> Tensor:
    """J from pixel counts."""
    return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)


def f_of(predicted: Tensor, annotated: Tensor, predicted_near: Tensor, annotated_near: Tensor) -> Tensor:
    """F from contour pixel counts."""
    precision = predicted_near.double() / predicted.clamp(min=1)
    recall = annotated_near.double() / annotated.clamp(min=1)
    total = precision + recall
    f = torch.where(total > 0, 2 * precision * recall / total.where(total > 0, 1.0), 0.0)
    return torch.where((predicted == 0) & (annotated == 0), 1.0, f)


def _flattened(prediction: Tensor, truth: Tensor, void: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both masks as ``[N, H, W]`` without the void."""
    for name, mask in (("prediction", prediction), ("truth", truth), ("void", void)):
        if mask is not None and (mask.dtype != torch.bool or mask.ndim < 2 or mask.shape != truth.shape):
            raise ZooError(
                f"{name} must be a bool mask [..., H, W] of the truth's size {tuple(truth.shape)}, got {mask.dtype} "
                f"{tuple(mask.shape)}."
            )
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    return prediction.reshape(-1, *truth.shape[-2:]), truth.reshape(-1, *truth.shape[-2:])
