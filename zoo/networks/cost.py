"""What a network costs: parameters, and multiply-adds of one forward pass, counted without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def cost(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, int]:
    """Parameters and multiply-adds of ``module``, in evaluation mode, on one input.

    Every parameter counts, frozen ones too. Convolutions and matrix products count one multiply-add for each
    multiplication, as in the papers' tables, and attention is two products; pooling, norms and ReLUs count nothing.

    Args:
        module: on any device; it is not run itself, nor changed.
        input_shape: of its input, such as ``(1, 3, 32, 224, 224)``.
    """
    tensors = (*module.parameters(), *module.buffers())
    # A copy in which every tensor has a shape and no memory.
    shadow = copy.deepcopy(module, {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(tuple(input_shape), device="meta"))
    return sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops() // 2
