"""Scores over time: the moving average of Charades' post-processing, and the points that localisation is scored at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from zoo.errors import ZooError


def moving_average(scores: Tensor, half: int) -> Tensor:
    """The mean of rows ``m - half .. m + half``, cut off at both ends, for every row m: ``[T, C]`` to ``[T, C]``.

    The paper averages over 30 frames and does not say how they lie; ``half`` 15 of 75 frames comes nearest.

    Args:
        scores: floats in order of time.
        half: rows before and after; 0 changes nothing.
    """
    if scores.ndim != 2 or half < 0:
        raise ZooError(f"moving_average needs scores [T, C] and half >= 0, got {tuple(scores.shape)} and {half}.")
    if not half or not scores.numel():
        return scores
    half = min(half, len(scores) - 1)
    return avg_pool1d(scores.T, 2 * half + 1, stride=1, padding=half, count_include_pad=False).T


def localisation_points(scores: Tensor, points: int = 25, half: int = 0) -> Tensor:
    """The scores at ``points`` moments of a video, ``[points, C]``, from those at T frames spread evenly over it.

    Point j lies at ``j / points`` of the video and takes the last frame that is not behind it: every third of 75
    frames, all of 25.

    Args:
        scores: ``[T, C]`` floats in order of time, at least one row.
        points: how many moments.
        half: of the `moving_average` that is taken before, over frames.
    """
    if scores.ndim != 2 or not len(scores) or points < 1:
        raise ZooError(
            f"localisation_points needs scores [T, C] of at least one frame and points >= 1, got "
            f"{tuple(scores.shape)} and {points}."
        )
    at = torch.arange(points, device=scores.device) * len(scores) // points
    return moving_average(scores, half)[at]
