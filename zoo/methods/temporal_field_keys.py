"""The Torch release's weights of asynchronous temporal fields under our names, and what its files say of the classes.

A file holds VGG-16 to fc7 and then the heads O, V, OV, OG (two layers) and OO. Beside them lies ``dataopt``, what the
release knew of the data: at 4 the pairs of (object, progress) and (verb, progress) that were seen in training, as
numbers from 1 on, one for each row of OV; at ``a2ov`` the object and the verb of each class, from 0 on. So the file's
own mapping is the model's, whatever the package has read off the names of the classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.data.activities import packaged_vocabulary
from zoo.errors import WeightsError
from zoo.methods.charades_keys import vgg_weights

_HEADS = ("op", "ap", "coap", "xi.0", "xi.3", "mu")
_PARTS = 3  # of an activity, which the file counts an object or a verb in each of as one of its own

Pair = tuple[int, int]


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A ``.t7`` model's tensors by path to ours.

    The rows of OV are put into the order of `zoo.networks.temporal_field.States` as released, if the file has others
    and tells which. (An early version of the release had another order.)

    Raises:
        WeightsError: the file has other layers, or other pairs than its classes have.
    """
    vgg, rest = vgg_weights(state)
    layers: dict[str, dict[str, Tensor]] = {}
    for path, tensor in rest.items():
        parent, _, name = path.rpartition(".")
        if name in ("weight", "bias") and not path.startswith("dataopt."):
            layers.setdefault(parent, {})[name] = tensor
    found = [layers[parent] for parent in sorted(layers, key=_in_order)]
    if len(found) != len(_HEADS) or any("weight" not in layer for layer in found):
        raise WeightsError(
            f"the file has {len(found)} layers with weights on top of VGG-16, a released temporal field has "
            f"{len(_HEADS)}: O, V, OV, OG in two layers and OO. Is it another model's, or the variant whose OG is "
            "constant?"
        )
    ours = {f"backbone.{key}": value for key, value in vgg.items()}
    for name, layer in zip(_HEADS, found, strict=True):
        weight = layer["weight"]
        if name == "mu":
            side = math.isqrt(weight.numel())
            ours["head.mu"] = weight.reshape(side, side)
            continue
        ours[f"head.{name}.weight"] = weight[_order_of_rows(state, len(weight))] if name == "coap" else weight
        if "bias" in layer:
            ours[f"head.{name}.bias"] = layer["bias"]
    return ours


def arguments_of_release(state: Mapping[str, Any]) -> dict[str, Any]:
    """The builder's arguments that a ``.t7`` model's own mapping asks for; none where it is the package's.

    Objects and verbs are then numbered: the file does not name them, and the package's names may be in another order.
    """
    mapping, own = _mapping(state), packaged_vocabulary()
    if mapping is None or mapping == list(own.mapping):
        return {}
    objects, verbs = _counts(state)
    said = {
        "mapping": [list(pair) for pair in mapping],
        "objects": [f"object {number}" for number in range(objects)],
        "verbs": [f"verb {number}" for number in range(verbs)],
    }
    return said | ({"classes": list(own.classes)} if len(mapping) == len(own.classes) else {})


def _order_of_rows(state: Mapping[str, Any], rows: int) -> list[int] | slice:
    """Which of the file's rows of OV comes first, second, ... in our order."""
    if (table := state.get("dataopt.4")) is None:  # nothing tells them apart: then they are sorted, as released
        return slice(None)
    table = torch.as_tensor(table)
    pairs = [tuple(pair) for pair in (table - 1).tolist()] if table.dim() == 2 and table.shape[1] == 2 else []
    if len(pairs) != rows or len(set(pairs)) != rows:
        raise WeightsError(
            f"the file's dataopt.4 is {list(table.shape)} with {len(set(pairs))} pairs of object and verb, its layer "
            f"OV has {rows} rows: one pair belongs to each. Is the file another version's?"
        )
    mapping, (objects, verbs) = _mapping(state), _counts(state)
    known = packaged_vocabulary().mapping if mapping is None else mapping
    of_classes = {(thing + objects * part, verb + verbs * part) for thing, verb in known for part in range(_PARTS)}
    if odd := sorted(of_classes ^ set(pairs)):
        (part, thing), (of_verb, verb) = divmod(odd[0][0], objects), divmod(odd[0][1], verbs)
        has, which = ("lacks", "which a class has") if odd[0] in of_classes else ("has", "which no class has")
        if mapping is None:
            help = "It has no table a2ov of what its classes are, and the package only guesses: take the newest release"
        else:
            help = "Its tables a2ov and 4 contradict each other: download it again"
        raise WeightsError(
            f"the file {has} a row of OV for object {thing} in part {part + 1} and verb {verb} in part {of_verb + 1} "
            f"of an activity, {which} ({len(odd)} such pairs). {help}."
        )
    return sorted(range(rows), key=lambda row: pairs[row])


def _mapping(state: Mapping[str, Any]) -> list[Pair] | None:
    """``(object, verb)`` of each class by the file's own word; None where it says nothing.

    Raises:
        WeightsError: a class lacks, or has something else than two numbers that there are.
    """
    said = {path.rpartition(".")[2]: value for path, value in state.items() if path.startswith("dataopt.a2ov.")}
    if not said:
        return None
    values = [torch.as_tensor(said.get(str(number), ())).flatten().tolist() for number in range(len(said))]
    pairs = [tuple(map(int, value)) for value in values]
    objects, verbs = _counts(state)
    if odd := [n for n, v in enumerate(pairs) if len(v) != 2 or not (0 <= v[0] < objects and 0 <= v[1] < verbs)]:
        raise WeightsError(
            f"the file's table a2ov of {len(said)} classes gives class {odd[0]} no object and verb of {objects} and "
            f"{verbs}, numbered from 0 on. Is the file another version's?"
        )
    return pairs


def _counts(state: Mapping[str, Any]) -> tuple[int, int]:
    """Objects and verbs that the file knows; those of the package where it does not say."""
    own = packaged_vocabulary()
    said = (state.get("dataopt.1"), state.get("dataopt.2"))
    objects, verbs = (None if one is None else int(one) // _PARTS for one in said)
    return objects or len(own.objects), verbs or len(own.verbs)


def _in_order(path: str) -> list[tuple[int, int | str]]:
    """Numbers in a path count as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.split(".")]
