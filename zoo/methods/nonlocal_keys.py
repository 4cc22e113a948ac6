"""Published names of non-local networks' weights, turned into ours.

Each function takes one publisher's flat state dict and returns a complete one of ours (``trunk.*``, ``head.*``); a name
that it cannot place is an error. The networks themselves differ too (padding, pooling, scale): the registered models of
`zoo.methods.nonlocal_net` set those options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError

_LETTERS = {"a": "1", "b": "2", "c": "3"}
_STATISTICS = "(weight|bias|running_mean|running_var|num_batches_tracked)"

Rule = tuple[str, Callable[[re.Match[str]], str]]


def from_caffe2(blobs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The release's Caffe2 blobs (also PySlowFast's Caffe2 files): name to array.

    Solver state is left out. ``riv`` is the running variance despite its name; affine models have only ``s`` and ``b``.
    """
    suffix = {"w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var"}
    norm = "bn_(s|b|rm|riv)"
    rules: list[Rule] = [
        (r"conv1_w", lambda m: "trunk.stem.conv.weight"),
        (rf"res_conv1_{norm}", lambda m: f"trunk.stem.norm.{suffix[m[1]]}"),
        (r"res(\d)_(\d+)_branch2([abc])_w", lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.conv{_LETTERS[m[3]]}.weight"),
        (
            rf"res(\d)_(\d+)_branch2([abc])_{norm}",
            lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.norm{_LETTERS[m[3]]}.{suffix[m[4]]}",
        ),
        (r"res(\d)_(\d+)_branch1_w", lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.shortcut.conv.weight"),
        (rf"res(\d)_(\d+)_branch1_{norm}", lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.shortcut.norm.{suffix[m[3]]}"),
        (
            r"nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)_(w|b)",
            lambda m: f"trunk.res{m[1]}.nonlocal_blocks.{m[2]}.{m[3]}.{suffix[m[4]]}",
        ),
        (
            rf"nonlocal_conv(\d)_(\d+)_{norm}",
            lambda m: f"trunk.res{m[1]}.nonlocal_blocks.{m[2]}.norm.{suffix[m[3]]}",
        ),
        (r"pred_(w|b)", lambda m: f"head.{suffix[m[1]]}"),
    ]
    weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum") and k not in ("lr", "model_iter")}
    return _translate("Caffe2", weights, rules)


def from_pyslowfast(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """PySlowFast's single-pathway ResNets (its ``model_state``)."""
    rules: list[Rule] = [
        (r"s1\.pathway0_stem\.conv\.weight", lambda m: "trunk.stem.conv.weight"),
        (rf"s1\.pathway0_stem\.bn\.{_STATISTICS}", lambda m: f"trunk.stem.norm.{m[1]}"),
        (
            rf"s(\d)\.pathway0_res(\d+)\.branch1(_bn)?\.{_STATISTICS}",
            lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.shortcut.{'norm' if m[3] else 'conv'}.{m[4]}",
        ),
        (
            rf"s(\d)\.pathway0_res(\d+)\.branch2\.([abc])(_bn)?\.{_STATISTICS}",
            lambda m: f"trunk.res{m[1]}.blocks.{m[2]}.{'norm' if m[4] else 'conv'}{_LETTERS[m[3]]}.{m[5]}",
        ),
        (
            r"s(\d)\.pathway0_nonlocal(\d+)\.conv_(theta|phi|g|out)\.(weight|bias)",
            lambda m: f"trunk.res{m[1]}.nonlocal_blocks.{m[2]}.{m[3]}.{m[4]}",
        ),
        (
            rf"s(\d)\.pathway0_nonlocal(\d+)\.bn\.{_STATISTICS}",
            lambda m: f"trunk.res{m[1]}.nonlocal_blocks.{m[2]}.norm.{m[3]}",
        ),
        (r"head\.projection\.(weight|bias)", lambda m: f"head.{m[1]}"),
    ]
    return _translate("PySlowFast", state, rules)


def from_mmaction(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MMAction2's ResNet3d recognizers (its ``state_dict``), all four instantiations of mmcv's non-local block."""
    part = {"conv": "conv", "bn": "norm"}
    block = r"backbone\.layer(\d)\.(\d+)\.non_local_block\."
    rules: list[Rule] = [
        (rf"backbone\.conv1\.(conv|bn)\.{_STATISTICS}", lambda m: f"trunk.stem.{part[m[1]]}.{m[2]}"),
        (
            rf"backbone\.layer(\d)\.(\d+)\.conv([123])\.(conv|bn)\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.blocks.{m[2]}.{part[m[4]]}{m[3]}.{m[5]}",
        ),
        (
            rf"backbone\.layer(\d)\.(\d+)\.downsample\.(conv|bn)\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.blocks.{m[2]}.shortcut.{part[m[3]]}.{m[4]}",
        ),
        # With sub-sampling phi and g are the first of two layers, the pooling being the other.
        (
            block + r"(theta|phi|g)(?:\.0)?\.conv\.(weight|bias)",
            lambda m: f"trunk.{_stage(m[1])}.nonlocal_blocks.{m[2]}.{m[3]}.{m[4]}",
        ),
        (
            block + r"conv_out\.conv\.(weight|bias)",
            lambda m: f"trunk.{_stage(m[1])}.nonlocal_blocks.{m[2]}.out.{m[3]}",
        ),
        (
            block + rf"conv_out\.bn\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.nonlocal_blocks.{m[2]}.norm.{m[3]}",
        ),
        (
            block + r"concat_project\.conv\.weight",
            lambda m: f"trunk.{_stage(m[1])}.nonlocal_blocks.{m[2]}.concat.weight",
        ),
        (r"cls_head\.fc_cls\.(weight|bias)", lambda m: f"head.{m[1]}"),
    ]
    return _translate("MMAction2", state, rules)


def from_pytorch_resnet3d(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The PyTorch port of the release's 32-frame I3D networks (``layer1.0.conv1``, ``layer2.1.nl.theta``, ``fc``)."""
    rules: list[Rule] = [
        (r"conv1\.weight", lambda m: "trunk.stem.conv.weight"),
        (rf"bn1\.{_STATISTICS}", lambda m: f"trunk.stem.norm.{m[1]}"),
        (
            rf"layer(\d)\.(\d+)\.(conv|bn)([123])\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.blocks.{m[2]}.{'conv' if m[3] == 'conv' else 'norm'}{m[4]}.{m[5]}",
        ),
        (
            rf"layer(\d)\.(\d+)\.downsample\.([01])\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.blocks.{m[2]}.shortcut.{'norm' if m[3] == '1' else 'conv'}.{m[4]}",
        ),
        (
            rf"layer(\d)\.(\d+)\.nl\.(theta|phi|g|out|bn)\.{_STATISTICS}",
            lambda m: f"trunk.{_stage(m[1])}.nonlocal_blocks.{m[2]}.{'norm' if m[3] == 'bn' else m[3]}.{m[4]}",
        ),
        (r"fc\.(weight|bias)", lambda m: f"head.{m[1]}"),
    ]
    return _translate("pytorch-resnet3d", state, rules)


#: Every format by name: what turns it into ours, and the first convolution's name, which only that format has.
FORMATS: dict[str, tuple[Callable[[Mapping[str, Any]], dict[str, Tensor]], str]] = {
    "caffe2": (from_caffe2, "conv1_w"),
    "pyslowfast": (from_pyslowfast, "s1.pathway0_stem.conv.weight"),
    "mmaction": (from_mmaction, "backbone.conv1.conv.weight"),
    "pytorch_resnet3d": (from_pytorch_resnet3d, "conv1.weight"),
}


def detect(keys: Iterable[str]) -> str:
    """Which of `FORMATS` a state dict with these names is in, or ``"zoo"`` for our own."""
    keys = set(keys)
    if "trunk.stem.conv.weight" in keys:
        return "zoo"
    for name, (_, first) in FORMATS.items():
        if first in keys:
            return name
    raise WeightsError(
        f"no known format of non-local networks has the names {', '.join(sorted(keys)[:3]) or '(none at all)'}, ...; "
        f"known formats: zoo, {', '.join(FORMATS)}. If the weights lie inside a wrapper, pass the inner state dict."
    )


def convert(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Any known format to ours; ours comes back as it is."""
    name = detect(state)
    return dict(state) if name == "zoo" else FORMATS[name][0](state)


def _stage(layer: str) -> str:
    return f"res{int(layer) + 1}"


def _translate(publisher: str, state: Mapping[str, Any], rules: list[Rule]) -> dict[str, Tensor]:
    """Renames every entry by the first rule that matches its whole name, and gives tensors the shapes of ours."""
    result, unknown = {}, []
    for key, value in state.items():
        for pattern, name in rules:
            if match := re.fullmatch(pattern, key):
                result[name(match)] = torch.as_tensor(value)
                break
        else:
            unknown.append(key)
    if unknown:
        raise WeightsError(
            f"{publisher} weights: no place for {len(unknown)} of {len(state)} names: {', '.join(sorted(unknown))}. "
            "Are they those of a non-local, I3D or C2D ResNet?"
        )
    for key in list(result):
        if key.endswith(("head.weight", "concat.weight")):  # linear layers, published also as 1x1x1 convolutions
            result[key] = result[key].flatten(1)
        elif key.endswith("running_mean"):  # older publishers did not count batches
            result.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.zeros((), dtype=torch.int64))
    return result
