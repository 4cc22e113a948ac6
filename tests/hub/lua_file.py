"""Files as Lua Torch writes them (``torch.save`` in binary mode), for tests."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.hub.lua import Record

_TYPES = {
    torch.float32: "Float",
    torch.float64: "Double",
    torch.float16: "Half",
    torch.int64: "Long",
    torch.int32: "Int",
    torch.int16: "Short",
    torch.int8: "Char",
    torch.uint8: "Byte",
}


def write_lua(path: Path, value: Any, *, long: int = 8, cuda: bool = False) -> None:
    """Writes None, bool, numbers, texts, dicts (tables), `Record`s and tensors; what is shared stays so."""
    path.write_bytes(lua_bytes(value, long=long, cuda=cuda))


def lua_bytes(value: Any, *, long: int = 8, cuda: bool = False) -> bytes:
    """The bytes of such a file.

    Args:
        value: what it holds.
        long: bytes of C's ``long`` on the machine that is played.
        cuda: 32-bit tensors are written as a graphics card's.
    """
    writer = _Writer(long, cuda)
    writer.value(value)
    return bytes(writer.out)


def linear(weight: Tensor, bias: Tensor | None = None, kind: str = "nn.Linear", **fields: Any) -> Record:
    """A module with weights, and the empty leavings that modules have after ``clearState``."""
    leavings = {name: weight.new_zeros(0) for name in ("output", "gradInput", "gradWeight", "gradBias")}
    weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return Record(kind, {"_type": "torch.FloatTensor", "train": True, **leavings, **weights, **fields})


def sequential(*modules: Record, kind: str = "nn.Sequential", **fields: Any) -> Record:
    """A container with numbered modules."""
    return Record(kind, {"modules": dict(enumerate(modules, start=1)), "train": True, **fields})


class _Writer:
    def __init__(self, long: int, cuda: bool) -> None:
        self.out, self.long, self.cuda = bytearray(), long, cuda
        self.indices: dict[Any, int] = {}
        self.count = 0
        self.alive: list[Any] = []  # an object that is gone would lend its id to another

    def int(self, value: int) -> None:
        self.out += struct.pack("<i", value)

    def long_int(self, value: int) -> None:
        self.out += int(value).to_bytes(self.long, "little", signed=True)

    def text(self, text: str) -> None:
        self.int(len(text))
        self.out += text.encode("latin1")

    def value(self, value: Any) -> None:
        if value is None:
            self.int(0)
        elif isinstance(value, bool):
            self.int(5)
            self.int(value)
        elif isinstance(value, (int, float)):
            self.int(1)
            self.out += struct.pack("<d", value)
        elif isinstance(value, str):
            self.int(2)
            self.text(value)
        elif isinstance(value, dict):
            self.int(3)
            if self.is_new(id(value), value):
                self.fields(value)
        elif isinstance(value, Record):
            self.int(4)
            if self.is_new(id(value), value):
                self.text("V 1")
                self.text(value.kind)
                self.int(3)
                self.is_new(None, None)
                self.fields(value.fields)
        else:
            self.tensor(value)

    def fields(self, fields: dict[Any, Any]) -> None:
        self.int(len(fields))
        for key, value in fields.items():
            self.value(key)
            self.value(value)

    def is_new(self, key: Any, value: Any) -> bool:
        """Writes an object's index; whether its content must follow."""
        if key is not None and key in self.indices:
            self.int(self.indices[key])
            return False
        self.count += 1
        self.int(self.count)
        self.indices[key] = self.count
        self.alive.append(value)
        return True

    def tensor(self, tensor: Tensor) -> None:
        name = _TYPES[tensor.dtype]
        if self.cuda and name == "Float":
            name = "Cuda"
        self.int(4)
        if not self.is_new(id(tensor), tensor):
            return
        self.text("V 1")
        self.text(f"torch.{name}Tensor")
        self.int(tensor.dim() if tensor.numel() else 0)
        for numbers in (tensor.shape, tensor.stride()) if tensor.numel() else ():
            for number in numbers:
                self.long_int(number)
        self.long_int(tensor.storage_offset() + 1)
        if not tensor.numel():
            self.int(0)
            return
        self.int(4)
        whole = tensor.untyped_storage()
        if self.is_new(("storage", whole.data_ptr()), whole):
            self.text("V 1")
            self.text(f"torch.{name}Storage")
            values = torch.empty(0, dtype=tensor.dtype).set_(whole).numpy()
            self.long_int(len(values))
            self.out += values.astype(f"<i{self.long}" if name == "Long" else values.dtype.newbyteorder("<")).tobytes()
