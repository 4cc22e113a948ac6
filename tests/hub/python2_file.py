"""PyTorch files as torch 0.4 wrote them under Python 2: texts are byte strings, names are those of Python 2's modules.

Python 3 writes neither, so its own pickler (the one written in Python) is told to put down other instructions.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

_STORAGES = {torch.float32: "FloatStorage", torch.float64: "DoubleStorage", torch.int64: "LongStorage"}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def write_python2(path: Path, content: Any, *, zipped: bool = False) -> None:
    """Dicts, ordered dicts, lists, plain values, tensors and numpy's numbers, in the old format or in a zip archive."""
    file = io.BytesIO()
    pickler = _Pickler(file, zipped)
    pickler.dump(content)
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", file.getvalue())
            archive.writestr("archive/version", b"3\n")
            for key, values in pickler.storages.items():
                archive.writestr(f"archive/data/{key}", values.numpy().tobytes())
        return
    out = io.BytesIO()
    for part in (_MAGIC, _PROTOCOL, {"protocol_version": _PROTOCOL, "little_endian": True}):
        _Pickler(out).dump(part)
    out.write(file.getvalue())
    _Pickler(out).dump(sorted(pickler.storages))
    for key in sorted(pickler.storages):
        values = pickler.storages[key].numpy()
        out.write(struct.pack("<q", len(values)) + values.tobytes())
    path.write_bytes(out.getvalue())


class _Storage:
    """Stands for a storage until it is written as a reference."""

    def __init__(self, key: str, values: Tensor) -> None:
        self.key, self.values = key, values


class _Name:
    """Stands for a class or function that the file names."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):
    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO, zipped: bool = False) -> None:
        super().__init__(file, 2)
        self.zipped = zipped
        self.storages: dict[str, Tensor] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        kind = _Name("torch", _STORAGES[value.values.dtype])
        return "storage", kind, value.key, "cpu", len(value.values), *([] if self.zipped else [None])

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Name):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, (Tensor, np.generic, OrderedDict)):
            self.rebuilt(value)
        else:
            super().save(value, save_persistent_id)

    def rebuilt(self, value: Any) -> None:
        """What Python 2 wrote as a call: the function, its arguments, then the state."""
        state = None
        if isinstance(value, Tensor):
            key = str(len(self.storages))
            self.storages[key] = value.detach().contiguous().flatten()
            function = _Name("torch._utils", "_rebuild_tensor_v2")
            storage = _Storage(key, self.storages[key])
            arguments = (storage, 0, tuple(value.shape), tuple(value.stride()), False, OrderedDict())
        elif isinstance(value, np.generic):
            function = _Name("numpy.core.multiarray", "scalar")
            arguments = (value.dtype, value.tobytes())
        else:
            function = _Name("collections", "OrderedDict")
            arguments = ([[key, item] for key, item in value.items()],)
            state = vars(value) or None
        self.save(function)
        self.save(arguments)
        self.write(pickle.REDUCE)
        if state:
            self.save(state)
            self.write(pickle.BUILD)

    def save_text(self, value: str | bytes) -> None:
        value = value.encode() if isinstance(value, str) else value
        assert len(value) < 256
        self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value)

    def save_dtype(self, value: np.dtype) -> None:
        self.save(_Name("numpy", "dtype"))
        self.save((value.str[1:], 0, 1))
        self.write(pickle.REDUCE)
        self.save((3, value.str[0], None, None, None, -1, -1, 0))
        self.write(pickle.BUILD)

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[type(np.dtype("f8"))] = save_dtype
