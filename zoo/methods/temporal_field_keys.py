"""The Torch release's weights of asynchronous temporal fields under our names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import WeightsError

#: Numbers of VGG-16's convolutions under torchvision's names.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG = (*(f"backbone.features.{n}" for n in CONVOLUTIONS), "backbone.classifier.0", "backbone.classifier.3")
_NAMES = (*_VGG, "head.op", "head.ap", "head.coap", "head.xi.0", "head.xi.3", "head.mu")


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A ``.t7`` model's tensors by path to ours, layer by layer in the order of the file.

    The release stores VGG-16 to fc7 and then the heads O, V, OV, OG (two layers) and OO. Lua's convolutions may lie
    flat, ``[out, in * 9]``. The rows of OV are the pairs of (object, progress) and (verb, progress) that are seen in
    training, sorted: the order of `zoo.networks.temporal_field.States` as released.

    Raises:
        WeightsError: the file has other layers.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for path, tensor in state.items():
        parent, _, name = path.rpartition(".")
        if name in ("weight", "bias") and isinstance(tensor, Tensor):
            layers.setdefault(parent, {})[name] = tensor
    found = [layers[parent] for parent in sorted(layers, key=_in_order)]
    if len(found) != len(_NAMES) or any("weight" not in layer for layer in found):
        raise WeightsError(
            f"the file has {len(found)} layers with weights, a released temporal field has {len(_NAMES)}: VGG-16 to "
            "fc7, then O, V, OV, OG in two layers and OO. Is it another model's, or the variant whose OG is constant?"
        )
    ours: dict[str, Tensor] = {}
    for name, layer in zip(_NAMES, found, strict=True):
        weight = layer["weight"]
        if name == "head.mu":
            side = math.isqrt(weight.numel())
            ours[name] = weight.reshape(side, side)
            continue
        if ".features." in name:
            weight = weight.reshape(len(weight), -1, 3, 3)
        ours[f"{name}.weight"] = weight
        if "bias" in layer:
            ours[f"{name}.bias"] = layer["bias"]
    return ours


def _in_order(path: str) -> list[tuple[int, int | str]]:
    """Numbers in a path count as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.split(".")]
