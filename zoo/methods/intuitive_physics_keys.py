"""The released code's names of the intuitive physics network to ours, and the columns that it gives a property."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.spec import PROPERTIES

BLOCK = 25  # columns of each property; the other 231 are for all that is intrinsic to the scene


_RULES = (
    (r"alexnet\.0\.features\.(\d+)", r"encoder.features.\1"),
    (r"encoder1\.(\d+)", r"encoder.together.\1"),
    (r"encoder2\.(\d+)\.linear\.0", lambda m: f"encoder.linear.{2 * int(m[1])}"),
    (r"flownetwork\.fc\.(\d+)\.linear\.0", lambda m: f"decoder.linear.{2 * int(m[1])}"),
    (r"flownetwork\.decoder\.(\d+)", r"decoder.grow.\1"),
)


def fixed_columns() -> Tensor:
    """The columns of each property, as the release has them, ``[3, 25]``."""
    return torch.arange(len(PROPERTIES) * BLOCK).view(-1, BLOCK)


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The released code's state dict under our names, with its fixed columns of each property.

    Raises:
        WeightsError: naming every entry that such a model does not have.
    """
    ours, unknown = {}, []
    for key, value in state.items():
        stem, _, kind = key.removeprefix("module.").rpartition(".")
        for pattern, name in _RULES:
            if kind in ("weight", "bias") and re.fullmatch(pattern, stem):
                ours[f"{re.sub(pattern, name, stem)}.{kind}"] = torch.as_tensor(value)
                break
        else:
            unknown.append(key)
    if unknown:
        raise WeightsError(
            f"intuitive physics weights: no place for {len(unknown)} of {len(state)} names: "
            f"{', '.join(sorted(unknown))}. Is this the release's model_best.pth?"
        )
    ours["dims"] = fixed_columns()
    return ours
