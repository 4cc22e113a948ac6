"""Two-dimensional ImageNet weights as the start of a video network (Wang et al. 2018, section 4.1; Carreira 2017).

A kernel is repeated along time and divided by its new length, so that a clip of one repeated image gives the features
of that image (away from the clip's ends, where the padding is black).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from zoo.errors import WeightsError

_NORM = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
_RULES = (
    (r"conv1\.weight", r"stem.conv.weight"),
    (r"bn1" + _NORM, r"stem.norm.\1"),
    (r"layer(\d)\.(\d+)\.conv([123])\.weight", r"res\1.blocks.\2.conv\3.weight"),
    (r"layer(\d)\.(\d+)\.bn([123])" + _NORM, r"res\1.blocks.\2.norm\3.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"res\1.blocks.\2.shortcut.conv.weight"),
    (r"layer(\d)\.(\d+)\.downsample\.1" + _NORM, r"res\1.blocks.\2.shortcut.norm.\3"),
)


def inflate_weight(weight: Tensor, frames: int) -> Tensor:
    """A kernel ``[O, I, H, W]`` as ``[O, I, frames, H, W]``, repeated and divided by ``frames``."""
    return weight.unsqueeze(2).expand(-1, -1, frames, -1, -1) / frames


def inflate_into(trunk: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Starts a `ResNet3d` from two-dimensional weights under its own names, in place; its non-local blocks stay fresh.

    Args:
        trunk: the network, built with ``norm="bn"`` or ``"frozen"``; with ``"affine"``, fold the weights first.
        state: weights whose convolutions are ``[O, I, H, W]``, named as `from_timm` names them, or as a whole model's
            (``trunk.*`` and ``head.*``: published ImageNet weights after conversion), whose head stays behind.

    Raises:
        WeightsError: names every entry of the trunk that ``state`` lacks (its own batch counters and non-local blocks
            aside), every entry that the trunk has no place for, and every shape that does not fit.
    """
    state = {key.removeprefix("trunk."): value for key, value in state.items() if not key.startswith("head.")}
    target = trunk.state_dict()
    wanted = {key for key in target if ".nonlocal_blocks." not in key}
    missing = sorted(key for key in wanted - set(state) if not key.endswith("num_batches_tracked"))
    surplus = sorted(set(state) - wanted)
    problems = [f"missing {', '.join(missing)}"] * bool(missing) + [f"no place for {', '.join(surplus)}"] * bool(
        surplus
    )
    inflated = {}
    for key in wanted & set(state):
        value, shape = state[key], target[key].shape
        if value.dim() == 4 and len(shape) == 5:
            value = inflate_weight(value, shape[2])
        if value.shape != shape:
            problems.append(f"{key} is {list(state[key].shape)}, which does not inflate to {list(shape)}")
        inflated[key] = value
    if problems:
        raise WeightsError(f"two-dimensional weights do not fit the video network: {'; '.join(problems)}.")
    trunk.load_state_dict(inflated, strict=False)


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A timm or torchvision bottleneck ResNet's weights (``resnet50``, ``resnet101``) under a trunk's names.

    The 1000-way classifier stays behind.

    Raises:
        WeightsError: names every entry that a plain bottleneck ResNet does not have.
    """
    result, unknown = {}, []
    for key, value in state.items():
        if key in ("fc.weight", "fc.bias"):
            continue
        for pattern, name in _RULES:
            if match := re.fullmatch(pattern, key):
                renamed = re.sub(r"^res(\d)", lambda stage: f"res{int(stage[1]) + 1}", match.expand(name))
                result[renamed] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise WeightsError(
            f"not a plain bottleneck ResNet: no place for {', '.join(sorted(unknown))}. "
            "Take timm's resnet50 or resnet101 (any training recipe; no -d, -s, SE or anti-aliased variants)."
        )
    return result
