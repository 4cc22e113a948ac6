"""Max pooling over squares of four places, with which non-local blocks thin their keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def halve(x: Tensor) -> Tensor:
    """``max_pool3d(x, (1, 2, 2))``: ``[..., H, W]`` to ``[..., H // 2, W // 2]``.

    The library's pooling is slow on a CPU and keeps eight bytes for where each maximum was; this one finds it again.
    """
    return _Halve.apply(x)


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first, second, third, fourth = _corners(x)
        pooled = torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))
        ctx.save_for_backward(x, pooled)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, pooled = ctx.saved_tensors
        result = torch.zeros_like(x)
        free = torch.ones_like(pooled, dtype=torch.bool)
        for corner, into in zip(_corners(x), _corners(result), strict=True):
            hit = (corner == pooled).logical_and_(free)  # of equal values the first one takes it all
            into.copy_(gradient * hit)
            free.logical_and_(~hit)
        return result


def _corners(x: Tensor) -> list[Tensor]:
    """Views of every square's upper left, upper right, lower left and lower right; odd edges left out."""
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    return [x[..., row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
