"""Normalisation of video networks: trained, frozen, or folded into a scale and a shift, and who is spared weight decay.

The short-clip networks train batch norm; the long-clip ones start from them with every norm folded to an affine layer
that no longer learns (Wang et al. 2018, section 4.1; the reference code's "affine" layers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import ZooError

Norm = Literal["bn", "frozen", "affine"]

EPS = 1.0000001e-5  # the released models' own value; torch's default differs in the eighth digit only
FOLDING_EPS = 1e-5  # the release folds with this one


class FrozenBatchNorm(nn.BatchNorm3d):
    """Batch norm that always uses its stored statistics and receives no gradient; same state dict as `BatchNorm3d`."""

    def __init__(self, channels: int, eps: float = EPS) -> None:
        super().__init__(channels, eps=eps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stays in evaluation mode whatever the network around it does."""
        return super().train(False)


class Affine(nn.Module):
    """``x * weight + bias`` per channel, without gradient: what is left of a batch norm after folding.

    The two vectors are parameters (they count as such in the papers' tables) that ask for no gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales and shifts ``[B, C, ...]``."""
        shape = (-1,) + (1,) * (x.dim() - 2)
        return torch.addcmul(self.bias.view(shape), x, self.weight.view(shape))


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """A norm over ``channels``: ``"bn"`` (trained), ``"frozen"`` (stored statistics, no gradient) or ``"affine"``."""
    if norm == "bn":
        return nn.BatchNorm3d(channels, eps=EPS)
    if norm == "frozen":
        return FrozenBatchNorm(channels)
    if norm == "affine":
        return Affine(channels)
    raise ZooError(f"norm must be 'bn', 'frozen' or 'affine', got {norm!r}.")


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """What ``norm`` multiplies by and adds, each ``[C]``; None while it normalises by the batch's own statistics."""
    if isinstance(norm, Affine):
        return norm.weight, norm.bias
    if norm.training:
        return None
    return fold(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def fold(
    weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float = FOLDING_EPS
) -> tuple[Tensor, Tensor]:
    """Batch norm with fixed statistics as a scale ``weight / sqrt(variance + eps)`` and a shift, all ``[C]``."""
    scale = weight * (variance + eps).rsqrt()
    return scale, bias - mean * scale


def fold_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with batch norms turned into one for the same network built with ``norm="affine"``.

    Every ``X.running_mean`` marks a norm: its four tensors and its counter become ``X.weight`` and ``X.bias``.
    """
    dropped = ("running_mean", "running_var", "num_batches_tracked")
    folded = {key: value for key, value in state.items() if not key.endswith(dropped)}
    for key in state:
        if key.endswith("running_mean"):
            name = key.removesuffix("running_mean")
            parts = (state[name + part] for part in ("weight", "bias", "running_mean", "running_var"))
            folded[name + "weight"], folded[name + "bias"] = fold(*parts)
    return folded


def split_weight_decay(module: nn.Module, weight_decay: float = 1e-4) -> list[dict[str, Any]]:
    """Groups for an optimiser: everything decays except the scale and bias of norms; what is frozen is left out."""
    spared = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | Affine)
        for parameter in layer.parameters(recurse=False)
    }
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in learning if id(p) in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
