"""Published names of frame networks' weights on Charades, turned into torchvision's.

Three kinds of files hold VGG-16 (charades-algorithms@927794c, temporal-fields@924e66f): Lua Torch's, which number the
layers that loadcaffe made of Caffe's; the ports' of RGB, under torchvision's names with DataParallel's ``module.``
somewhere; and those of flow, whose layers are numbered from 0 because they were converted from Lua.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError

#: torchvision's numbers of VGG-16's convolutions, which those of the files of flow are too.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_LAYERS = (*(f"features.{n}" for n in CONVOLUTIONS), "classifier.0", "classifier.3")
_NUMBERS = {32: "classifier.0", 35: "classifier.3", 38: "classifier.6"} | {n: f"features.{n}" for n in CONVOLUTIONS}


def without_module(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Names without the ``module`` that DataParallel puts in, wherever in a name it stands."""
    parts = ((key.split("."), value) for key, value in state.items())
    return {".".join(part for part in key if part != "module"): torch.as_tensor(value) for key, value in parts}


def with_counters(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Batch norm's counters, which torch before 0.4.1 did not have, beside its statistics: zero where they lack.

    Args:
        state: some module's.
        prefix: that all names get.
    """
    known = {key: key.replace("running_mean", "num_batches_tracked") for key in state if key.endswith("running_mean")}
    whole = {**{key: torch.zeros((), dtype=torch.int64) for key in known.values()}, **state}
    return {f"{prefix}{key}": value for key, value in whole.items()}


def vgg_weights(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """VGG-16 up to fc7 under torchvision's names, and whatever else a file holds under the names that it has there.

    The last layer of a file in PyTorch's format is ``classifier.6``.

    Raises:
        WeightsError: it does not hold VGG-16.
    """
    if any(key.startswith("modules.") for key in state):
        return _of_lua(state)
    state = without_module(state)
    if all(key.partition(".")[0].isdigit() for key in state):
        state = {_named(key): value for key, value in state.items()}
    own = {f"{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias")}
    if lacking := sorted(own - set(state)):
        raise WeightsError(
            f"no weights of VGG-16: {len(lacking)} of its {len(own)} entries lack, such as {lacking[0]}."
        )
    return {key: state[key] for key in state if key in own}, {k: v for k, v in state.items() if k not in own}


def one_linear(rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classifier that is all that is left of a file, as ``head.weight`` and ``head.bias``.

    Raises:
        WeightsError: something else is left too.
    """
    weights = {key: value for key, value in rest.items() if not key.startswith("dataopt")}
    kinds = {key.rpartition(".")[2]: value for key, value in weights.items()}
    if set(kinds) != {"weight", "bias"} or len(weights) != 2 or kinds["weight"].dim() != 2:
        raise WeightsError(
            f"a linear classifier is expected on top of the network, and found was: {', '.join(sorted(weights)[:4])}. "
            "Are these the weights of another model?"
        )
    return {"head.weight": kinds["weight"], "head.bias": kinds["bias"]}


def _named(key: str) -> str:
    match = re.fullmatch(r"(\d+)(?:\.1)?\.(weight|bias)", key)
    if not match or int(match[1]) not in _NUMBERS:
        raise WeightsError(f"no weights of VGG-16: it has no layer for {key}.")
    return f"{_NUMBERS[int(match[1])]}.{match[2]}"


def _of_lua(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of the numbered layers the first fifteen that have weights, by their order: what lies between has none."""
    numbered = [re.match(r"modules\.(\d+)\.(?=weight$|bias$)", key) for key in state]
    layers = sorted({int(match[1]) for match in numbered if match})[: len(_LAYERS)]
    if len(layers) < len(_LAYERS):
        raise WeightsError(f"no weights of VGG-16: {len(layers)} layers with weights, not {len(_LAYERS)} or more.")
    vgg, taken = {}, set()
    for number, name in zip(layers, _LAYERS, strict=True):
        for kind in ("weight", "bias"):
            if (key := f"modules.{number}.{kind}") not in state:
                raise WeightsError(f"no weights of VGG-16: its layer {number} has no {kind}.")
            value = torch.as_tensor(state[key])
            if kind == "weight" and name.startswith("features."):
                if value.dim() not in (2, 4) or value[0].numel() % 9:
                    raise WeightsError(f"no weights of VGG-16: its layer {number} is {list(value.shape)}.")
                value = value.reshape(len(value), -1, 3, 3)  # nn.SpatialConvolutionMM keeps it flat
            vgg[f"{name}.{kind}"] = value
            taken.add(key)
    return vgg, {key: torch.as_tensor(value) for key, value in state.items() if key not in taken}
