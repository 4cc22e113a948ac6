"""Weights as others publish them, read without running anything that they contain.

A file is recognised by its first bytes, never by its name:

- ``caffe2``: the python-2 pickle ``{"blobs": {name: array}}`` of video-nonlocal-net and PySlowFast (`zoo.hub.caffe2`);
- ``torch``: what ``torch.save`` wrote, read with ``weights_only=True``, its ``state_dict`` unwrapped; the records of a
  training that OpenMMLab's files hold beside it are passed over;
- ``lightning``: the same, written by a Lightning trainer;
- ``lua``: what Lua Torch saved, its tensors by the path of fields that leads to them (`zoo.hub.lua`);
- ``safetensors``: read as it is.

Everything else is a `WeightsError` that says what the file is, as far as its first bytes tell, and what to do.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.hub.caffe2 import read_caffe2
from zoo.hub.lua import is_lua, is_lua_text, lua_tensors

_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save wrote first before 1.6
_WRAPPERS = ("state_dict", "model_state", "model")

# What stands beside the weights in files that people save while they train: the options of the command line, and
# MMEngine's log (`message_hub`), made of a class of its own, the names of that class's functions (written as calls of
# getattr before protocol 4), and arrays.
_PASSED_OVER = (
    "argparse.Namespace",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)


class _Nothing:
    """Stands for whatever of `_PASSED_OVER` a file wants to be made: takes all that it is given and does nothing."""

    def __new__(cls, *args: Any) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_in(name: str) -> type[_Nothing]:
    """A `_Nothing` that an unpickler knows by ``name``."""
    module, _, last = name.rpartition(".")
    return type(last, (_Nothing,), {"__module__": module})


_STAND_INS = [_stand_in(name) for name in _PASSED_OVER]
_NOT_WEIGHTS = {
    b"<": "a web page (a login or error page saved in place of the file?); download it again",
    b"version https://git-lfs": "a git-lfs pointer, not the file that it points to; run `git lfs pull`",
    b"\x1f\x8b": "a gzip archive; unpack it and give the file inside",
    b"BZh": "a bzip2 archive; unpack it and give the file inside",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it and give the file inside",
}


def read_foreign(path: Path | str) -> tuple[str, dict[str, Tensor]]:
    """The format of a weight file and its tensors by their upstream names, on the CPU; other entries are left out.

    Raises:
        WeightsError: no weight file, a broken one, or one that wants code to be run. The message names the file.
    """
    path = Path(path)
    kind = recognise(path)
    readers = {"caffe2": _read_caffe2, "lua": lua_tensors, "safetensors": _read_safetensors, "torch": _read_torch}
    content = readers[kind](path)
    if kind == "torch" and "pytorch-lightning_version" in content:
        kind = "lightning"
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if passed := [str(name) for name, value in content.items() if isinstance(value, _Nothing)]:
        raise WeightsError(
            f"{path} ({kind}) holds {', '.join(passed)} not as tensors; only those are read. Save them as tensors."
        )
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, list(content)[:12])) or "nothing"
        raise WeightsError(f"{path} ({kind}) holds no tensors by name, only {keys}. Give a file with a state dict.")
    if all(name.startswith("module.") for name in state):  # saved from inside DataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return kind, state


def recognise(path: Path | str) -> str:
    """The format of a file by its content: ``caffe2``, ``lua``, ``torch`` or ``safetensors``."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror or error}. Check the path.") from error
    if start.startswith(_LEGACY_TORCH) or (start.startswith(b"PK") and zipfile.is_zipfile(path)):
        return "torch"
    if is_lua(start) or is_lua_text(start):
        return "lua"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    if re.match(rb"\x80[\x02-\x05]|[(}]", start):  # a pickle: protocol 2 and up, or the dict that opens an older one
        return "caffe2"
    found = next((what for magic, what in _NOT_WEIGHTS.items() if start.lstrip().startswith(magic)), None)
    if start.startswith(b"PK"):
        found = "a zip archive that is cut off; download it again"
    if not start:
        found = "empty; download it again"
    raise WeightsError(
        f"{path} is {found or f'no weight file that the zoo knows (it starts with {start[:8]!r})'}. "
        "Known: Caffe2 .pkl, PyTorch .pth/.pyth/.pt, Lightning .ckpt, Lua Torch .t7, .safetensors."
    )


def _read_caffe2(path: Path) -> dict[str, Any]:
    return {name: torch.from_numpy(values) for name, values in read_caffe2(path).items()}


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            # Python 2 wrote the bytes of numpy's numbers as texts, which are no UTF-8. PyTorch heeds the encoding, and
            # warns that it does not.
            warnings.filterwarnings("ignore", "pickle_load_args only works", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")
    except pickle.UnpicklingError as error:
        if refused := re.search(r"GLOBAL:? ([\w.]+)|(?:function|but got) (.+)", str(error)):
            raise WeightsError(
                f"{path} is refused: it wants {refused[1] or refused[2]} to be called while it is read. Weights are "
                "tensors and plain values: ask the publisher for a file with the state dict alone, or, if you trust "
                "this one, load it with its own library and save `model.state_dict()`."
            ) from error
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {error}. Download it again.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise WeightsError(f"{path} is a damaged PyTorch file: {error}. Download it again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict. Save `model.state_dict()`.")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    from zoo.hub.weights import read_weights

    return read_weights(path)[0]
