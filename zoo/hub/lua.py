"""Lua Torch's files (``.t7``), read without running anything that they contain.

A file is one object in Torch7's binary mode, little-endian: a number that tells its kind, then its content. Tables and
torch's objects carry an index too, by which a later place refers to them, so that they may share parts and hold
themselves. Tensors and storages become tensors; an object of any other class (``nn.Linear``, ``cudnn.ReLU``) becomes
a `Record` of its fields, whatever its class would do with them. Functions are Lua bytecode and are refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from zoo.errors import WeightsError

_NIL, _NUMBER, _TEXT, _TABLE, _OBJECT, _BOOLEAN, *_FUNCTIONS = range(9)
_NUMBERS = {
    "Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "long", "Half": "f2", "Float": "f4", "Double": "f8",
    "Cuda": "f4", "CudaByte": "u1", "CudaChar": "i1", "CudaShort": "i2", "CudaInt": "i4", "CudaLong": "long",
    "CudaHalf": "f2", "CudaDouble": "f8",
}  # fmt: skip
_DEEPEST = 100  # tables and objects within one another; a network has a dozen
_MOST_VALUES = 5_000_000  # in a file; a network has thousands
_MOST_AXES = 64
_LONGEST_NAME = 500  # of the path to a tensor

#: What a module keeps beside its weights: results and gradients of the last batch.
_PASSING = frozenset(("output", "gradInput", "gradWeight", "gradBias", "_input", "_gradOutput", "_output"))


@dataclass
class Record:
    """An object of a Lua class: its ``kind``, such as ``"nn.Linear"``, and its fields."""

    kind: str
    fields: dict[str | int | float | bool, Any] = field(default_factory=dict)


def is_lua(start: bytes) -> bool:
    """Whether a file that begins so (12 bytes) is one of Lua Torch's in binary mode that holds a table or an object."""
    if len(start) < 12:
        return False
    kind, index, size = struct.unpack("<iii", start[:12])
    return index == 1 and size >= 0 and kind in (_TABLE, _OBJECT)


def is_lua_text(start: bytes) -> bool:
    """Whether a file that begins so is one of Lua Torch's in text mode."""
    return start.replace(b"\r", b"").startswith((b"3\n1\n", b"4\n1\n"))


def read_lua(path: Path | str) -> Any:
    """The object in a file: None, float, str, bool, dict (a table), `Record`, or a tensor on the CPU.

    Whole numbers that are keys of a table come as int, counted from 1 as in Lua; texts are read as Latin-1.

    Raises:
        WeightsError: the file holds a function, is damaged or cut off, claims more than it has, or is in text mode.
    """
    path = Path(path)
    with open(path, "rb") as file:
        if is_lua_text(file.read(8)):
            raise WeightsError(
                f"{path} is a Lua Torch file in text (ASCII) mode, which is not read. Save it in binary mode: "
                "torch.save(NEW, torch.load(FILE, 'ascii'))."
            )
        first: WeightsError | None = None
        for long in (8, 4):  # bytes of C's long where the file was written: 8, but for Windows and 32-bit machines
            file.seek(0)
            try:
                return _Reader(file, path.stat().st_size, long).whole()
            except _Refused as error:
                first = first or _refusal(path, error)
            except (_Damaged, struct.error, ValueError, OverflowError, RuntimeError) as error:
                first = first or WeightsError(f"{path} is a damaged Lua Torch file: {error}. Download it again.")
        raise first


def lua_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file by the path of fields that leads to each (``modules.1.weight``).

    Numbers in tables count as tensors too, by themselves (float64 ``[]``) or, where a table holds nothing but numbers
    from 1 on, together (float64 ``[n]``); the fields of an object are only followed if they are tensors, tables or
    objects. What modules keep of their last batch is left out. What can be reached in two ways stands under the first,
    in the order of names with numbers first.

    Raises:
        WeightsError: as `read_lua`; or what the file holds unfolds into more bytes than it has.
    """
    path = Path(path)
    found: dict[str, Tensor] = {}
    budget = 2 * path.stat().st_size  # a storage lies in the file once; tensors that show parts of it may overlap
    try:
        for name, value in _walk(read_lua(path)):
            budget -= value.numel() * value.element_size()
            if budget < 0:
                raise _Refused("it unfolds into more bytes than the file holds")
            if name in found:
                raise _Refused(f"two of its tensors have the name {name}")
            found[name] = value
    except _Refused as error:
        raise _refusal(path, error) from error
    return found


def _refusal(path: Path, error: _Refused) -> WeightsError:
    return WeightsError(f"{path} is refused: {error}. Weights are tensors, tables and plain values.")


class _Refused(Exception):
    """The file holds something that no weight file needs."""


class _Damaged(Exception):
    """The file is not what its own words say."""


class _Reader:
    """A file from its beginning on.

    Args:
        file: at its start.
        size: of the file in bytes.
        long: bytes of C's ``long`` in it.
    """

    def __init__(self, file: BinaryIO, size: int, long: int) -> None:
        self.file, self.left, self.long = file, size, long
        self.known: dict[int, Any] = {}
        self.values = 0

    def whole(self) -> Any:
        value = self.value()
        if self.left:
            raise _Damaged(f"{self.left} bytes follow its end")
        return value

    def value(self, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise _Refused(f"it nests its objects more than {_DEEPEST} deep")
        self.values += 1
        if self.values > _MOST_VALUES:
            raise _Refused(f"it holds more than {_MOST_VALUES:,} values")
        kind = self.read_int()
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return struct.unpack("<d", self.read(8))[0]
        if kind == _TEXT:
            return self.text()
        if kind == _BOOLEAN:
            return bool(self.read_int())
        if kind in _FUNCTIONS:
            raise _Refused("it holds a Lua function, which is a program")
        if kind not in (_TABLE, _OBJECT):
            raise _Damaged(f"it names a kind of object, {kind}, that does not exist")
        index = self.read_int()
        if index in self.known:
            if self.known[index] is _Damaged:
                raise _Damaged("a tensor holds itself")
            return self.known[index]
        return self.table(index, depth) if kind == _TABLE else self.object(index, depth)

    def table(self, index: int, depth: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        self.known[index] = table  # before its content, which may refer to it
        self.fill(table, depth)
        return table

    def fill(self, table: dict[Any, Any], depth: int) -> None:
        for _ in range(self.count(8)):
            key, value = self.value(depth + 1), self.value(depth + 1)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if not isinstance(key, (str, int, float)) or key != key:  # bool is an int; NaN is no key in Lua either
                raise _Refused(f"it has a {type(key).__name__} where the name of a field belongs")
            table[key] = value

    def object(self, index: int, depth: int) -> Any:
        name = self.text()
        if name.startswith("V "):  # the version, before older Torches had none
            name = self.text()
        library, _, rest = name.partition(".")
        if library == "torch":
            if rest.removesuffix("Storage") in _NUMBERS and rest.endswith("Storage"):
                self.known[index] = self.storage(_NUMBERS[rest.removesuffix("Storage")])
            elif rest.removesuffix("Tensor") in _NUMBERS and rest.endswith("Tensor"):
                self.known[index] = _Damaged  # while its storage is read
                self.known[index] = self.tensor(_NUMBERS[rest.removesuffix("Tensor")], depth)
            else:
                raise _Refused(f"it holds a {name!r}, of whose content nothing is known")
            return self.known[index]
        if library == "tds" or not rest or not name.replace(".", "_").isidentifier():
            raise _Refused(f"it holds a {name!r}, of whose content nothing is known")
        record = Record(name)
        self.known[index] = record
        if self.read_int() != _TABLE:
            raise _Refused(f"its {name} is written in a way of its own")
        inner = self.read_int()
        if inner in self.known:
            raise _Damaged(f"the fields of its {name} are those of another object")
        self.known[inner] = record.fields
        self.fill(record.fields, depth + 1)
        return record

    def storage(self, code: str) -> Tensor:
        kind = np.dtype(f"<{f'i{self.long}' if code == 'long' else code}")
        count = self.read_long()
        if not 0 <= count * kind.itemsize <= self.left:
            raise _Damaged(f"it claims {count} numbers where {self.left} bytes are left")
        self.left -= count * kind.itemsize
        values = np.fromfile(self.file, kind, count)
        if len(values) != count:
            raise _Damaged("it ends early")
        return torch.from_numpy(values.astype(np.int64 if code == "long" else kind.newbyteorder("="), copy=False))

    def tensor(self, code: str, depth: int) -> Tensor:
        axes = self.read_int()
        if not 0 <= axes <= _MOST_AXES:
            raise _Damaged(f"it holds a tensor of {axes} axes")
        shape, strides = ([self.read_long() for _ in range(axes)] for _ in range(2))
        start = self.read_long() - 1
        values = self.value(depth + 1)
        if values is None:
            values = torch.empty(0, dtype=torch.from_numpy(np.empty(0, "i8" if code == "long" else code)).dtype)
        if not isinstance(values, Tensor) or values.dim() != 1:
            raise _Damaged("it holds a tensor without numbers")
        if not axes:
            return values[:0]
        last = start + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if min(shape) < 0 or min(strides) < 0 or start < 0:
            raise _Damaged(f"it holds a tensor of shape {shape} with strides {strides}")
        if math.prod(shape) > len(values) or (min(shape) and last >= len(values)):
            raise _Damaged(f"it holds a tensor of shape {shape} with {len(values)} numbers")
        return torch.as_strided(values, shape, strides, min(start, len(values)))

    def text(self) -> str:
        return self.read(self.count(1)).decode("latin1")

    def count(self, least: int) -> int:
        """A number of things of at least so many bytes each."""
        count = self.read_int()
        if not 0 <= count * least <= self.left:
            raise _Damaged(f"it claims {count} entries where {self.left} bytes are left")
        return count

    def read_int(self) -> int:
        return struct.unpack("<i", self.read(4))[0]

    def read_long(self) -> int:
        return int.from_bytes(self.read(self.long), "little", signed=True)

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise _Damaged("it ends early")
        self.left -= count
        return self.file.read(count)


def _walk(root: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with the names of the fields that lead to it."""
    if isinstance(root, Tensor):
        yield "tensor", root
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        prefix, value = waiting.pop()
        if not isinstance(value, (dict, Record)) or id(value) in seen:
            continue
        seen.add(id(value))
        plain = isinstance(value, dict)
        fields = value if plain else {k: v for k, v in value.fields.items() if k not in _PASSING}
        names = sorted(fields, key=_order)
        numbers = plain and bool(fields) and all(isinstance(part, float) for part in fields.values())
        if prefix and numbers and names == list(range(1, len(names) + 1)):
            yield prefix[:-1], torch.tensor([fields[name] for name in names], dtype=torch.float64)
            continue
        inner = []
        for name in names:
            part = fields[name]
            if len(prefix) + len(str(name)) > _LONGEST_NAME:
                raise _Refused(f"it has a name of more than {_LONGEST_NAME} letters")
            if isinstance(part, Tensor):
                if plain or part.numel():  # a module clears its buffers before it is saved
                    yield f"{prefix}{name}", part
            elif plain and isinstance(part, float):
                yield f"{prefix}{name}", torch.tensor(part, dtype=torch.float64)
            elif isinstance(part, (dict, Record)):
                inner.append((f"{prefix}{name}.", part))
        waiting.extend(reversed(inner))


def _order(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key
