"""Two ways to enforce Eq. 9.1 of the intuitive physics model: within a mini-batch all but one property stays the same.

`select` is that of the released code, with a gradient that is written by hand: where a property is let through, the
prediction's error teaches it; everything else is replaced by its mean within the mini-batch and only pulled towards it,
with a weight of a power of ten that keeps the pull some hundred times below the teaching (the lambda of Eq. 9.4).

`pull` is that of the text: the decoder sees the vector as it is, the prediction's error teaches all of it, and
``lambda L_ave`` (Eq. 9.3) comes on top, with lambda "set dynamically so that both gradients are maintained in the same
magnitude".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ORDERS = 2  # of ten by which the pull stays below the gradient of the property's own numbers


def select(z: Tensor, groups: Tensor, property: Tensor, dims: Tensor, known: Tensor) -> Tensor:
    """The vectors that the decoder sees in training.

    Args:
        z: ``[B, D]``.
        groups: rows of ``z`` in each mini-batch, ``[G, 5]``.
        property: number of the property that changes in each mini-batch, ``[G]``.
        dims: columns of ``z`` that each property has to itself, ``[P, C]``.
        known: which properties are being trained, bool ``[P]``. Columns of one that is known and changes in no
            mini-batch of this batch become zero; those of an unknown one are like any other.

    Returns:
        ``[B, D]``. Rows outside all mini-batches stay as they are.
    """
    return _Select.apply(_wide(z), groups, property, dims, known).to(z.dtype)


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, groups: Tensor, property: Tensor, dims: Tensor, known: Tensor) -> Tensor:
        own, absent = _columns(z.shape[1], property, dims, known)
        grouped = z[groups]  # [G, 5, D]
        filtered = torch.where(own[:, None], grouped, grouped.mean(dim=1, keepdim=True))
        filtered = filtered.masked_fill(absent, 0.0)
        ctx.save_for_backward(grouped - filtered, groups, property, own, absent)
        ctx.properties = len(dims)
        return z.index_put((groups,), filtered)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        away, groups, property, own, absent = ctx.saved_tensors
        taught = gradient[groups] * own[:, None]
        pulled = away * ~own[:, None]  # columns of absent properties among them: they count for the power of ten
        # One weight for each property, from the largest number in all of its mini-batches.
        of_property = torch.arange(ctx.properties, device=property.device)[:, None] == property  # [P, G]
        largest = [torch.where(of_property, x.abs().amax(dim=(1, 2)), 0.0).amax(dim=1) for x in (taught, pulled)]
        exponent = torch.floor(torch.log10(largest[0]) - torch.log10(largest[1])) - ORDERS
        weight = torch.where(largest[1] > 0, torch.pow(10.0, exponent), 0.0)[property]  # no pull where nothing differs
        found = (taught + pulled * weight[:, None, None]).masked_fill(absent, 0.0)
        back = torch.zeros_like(gradient).index_put((groups,), found)
        return back, None, None, None, None


def pull(z: Tensor, groups: Tensor, property: Tensor, dims: Tensor, strength: float = 1.0) -> Tensor:
    """The vectors as they are, ``[B, D]``, whose gradient is that of ``L_mle + lambda L_ave`` (Eq. 9.4).

    Args:
        z: ``[B, D]``.
        groups: rows of ``z`` in each mini-batch, ``[G, 5]``.
        property: number of the property that changes in each mini-batch, ``[G]``.
        dims: columns of ``z`` that each property has to itself, ``[P, C]``.
        strength: the largest gradient of the second part in relation to that of the first.
    """
    return _Pull.apply(_wide(z), groups, property, dims, strength).to(z.dtype)


class _Pull(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, groups: Tensor, property: Tensor, dims: Tensor, strength: float) -> Tensor:
        own, _ = _columns(z.shape[1], property, dims, torch.zeros(len(dims), dtype=torch.bool, device=dims.device))
        ctx.save_for_backward(spread(z, groups) * ~own[:, None], groups)
        ctx.strength = strength
        return z.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        away, groups = ctx.saved_tensors
        largest = away.abs().amax()
        # The factor of two in the derivative of a square is lambda's.
        weight = torch.where(largest > 0, ctx.strength * gradient.abs().amax() / largest, 0.0)
        return gradient.index_put((groups,), away * weight, accumulate=True), None, None, None, None


def _columns(width: int, property: Tensor, dims: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of each mini-batch's own property ``[G, D]``, and those of known properties without one ``[D]``."""
    blocks = torch.zeros(len(dims), width, dtype=torch.bool, device=dims.device)
    blocks.scatter_(1, dims, torch.ones_like(dims, dtype=torch.bool))
    numbers = torch.arange(len(dims), device=dims.device)
    present = (numbers[:, None] == property).any(dim=1)
    return blocks[property], (blocks & (known & ~present)[:, None]).any(dim=0)


def _wide(z: Tensor) -> Tensor:
    """In 32 bits at least: sixteen hold neither small differences from a mean nor all powers of ten."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def spread(z: Tensor, groups: Tensor) -> Tensor:
    """How far each vector of a mini-batch is from their mean, ``[G, 5, D]``."""
    grouped = z[groups]
    return grouped - grouped.mean(dim=1, keepdim=True)
