"""The zoo's own weight files: safetensors that say where they come from and notice a flipped byte.

safetensors loads a file with a flipped byte without a word, so every file written here carries a seal: the SHA-256 of
the whole file with the seal itself read as zeros, kept in the header's metadata. Beside it lies ``videozoo``, one JSON
text with the zoo's version and whatever the writer had to say (source hash, converter, spec, labels).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from zoo._version import __version__
from zoo.errors import WeightsError
from zoo.files import write_whole

_UNSEALED = "0" * 64
_PIECE = 1 << 22


def save_weights(path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Writes tensors and plain metadata, sealed, whole or not at all.

    Raises:
        FetchError: the folder is read-only or its disk full.
    """
    story = json.dumps({"version": __version__, **(metadata or {})}, sort_keys=True)
    header = {"format": "pt", "seal": _UNSEALED, "videozoo": story}
    data = memoryview(safetensors.torch.save(_alone(state), header))
    start = 8 + int.from_bytes(data[:8], "little")
    head = bytes(data[:start])
    seal = hashlib.sha256(data).hexdigest()
    write_whole(Path(path), head.replace(_UNSEALED.encode(), seal.encode(), 1), data[start:])


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file and the metadata it was saved with (empty for a file that others wrote).

    Raises:
        WeightsError: not a safetensors file, cut off, or not what was once written.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "videozoo" in header or "seal" in header:
                _check_seal(Path(path), header.get("seal", ""))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (safetensors.SafetensorError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no whole safetensors file: {error}. Get it again.") from error
    return state, json.loads(header.get("videozoo", "{}"))


def load_strict(module: nn.Module, state: Mapping[str, Tensor], *, replaced_head: bool = False) -> None:
    """Copies every tensor of ``state`` into ``module``, or none.

    Args:
        replaced_head: the caller asked for another classifier: the module keeps its own ``head.*``.

    Raises:
        WeightsError: naming every missing key, every unexpected key and every wrong shape.
    """
    own = module.state_dict()
    if replaced_head:
        own = {name: value for name, value in own.items() if not name.startswith("head.")}
        state = {name: value for name, value in state.items() if not name.startswith("head.")}
    problems = [f"missing: {name} {list(own[name].shape)}" for name in own if name not in state]
    problems += [f"unexpected: {name} {list(state[name].shape)}" for name in state if name not in own]
    problems += [
        f"wrong shape: {name} is {list(state[name].shape)}, must be {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise WeightsError(
            f"the weights do not fit {type(module).__name__} ({len(problems)} of its {len(own)} entries):\n  "
            + "\n  ".join(problems)
            + "\nGive the weights of this very model, or give num_classes=... to replace its head."
        )
    module.load_state_dict(state, strict=False)


def _alone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    alone: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        alone[name] = value.clone() if storage in seen else value
        seen.add(storage)
    return alone


def _check_seal(path: Path, seal: str) -> None:
    with open(path, "rb") as file:
        length = file.read(8)
        head = file.read(int.from_bytes(length, "little"))
        digest = hashlib.sha256(length + head.replace(seal.encode(), _UNSEALED.encode(), 1))
        while piece := file.read(_PIECE):
            digest.update(piece)
    if len(seal) != 64 or digest.hexdigest() != seal:
        raise WeightsError(f"{path} has changed since it was written: its bytes do not match its seal. Get it again.")
