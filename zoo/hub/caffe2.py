"""Caffe2's weight files (python-2 pickles of numpy arrays), read without running anything that they contain.

A pickle is a program for a small stack machine, one of whose instructions calls any function that it can name. Here
only the instructions that build plain values are carried out. A name never becomes the thing it names: the few that
numpy writes for an array are interpreted by `_Arrays._make`, every other is refused. What a file may claim (sizes,
shapes, copies of one buffer) is bounded by its length, and only texts may be keys of a dictionary, because hashing a
small tuple of tuples can take for ever.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import WeightsError
from zoo.pickles import Bounded, Instructions, Refused

_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL"
)
_CODES = [getattr(pickle, name)[0] for name in _INSTRUCTIONS.split()]
_NAMES = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("__builtin__", "bytes")} | {
    (f"numpy.{core}.multiarray", function) for core in ("core", "_core") for function in ("_reconstruct", "scalar")
}
_KINDS = {f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248", "b": "1"}.items() for size in sizes}


def read_caffe2(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays by blob name of ``{"blobs": {name: array}}`` or ``{name: array}``; other blobs are left out.

    Raises:
        WeightsError: the file names something that is no part of an array (the message says what), or is damaged.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            content = _Arrays(file, path.stat().st_size).load()
        except Refused as error:
            raise WeightsError(
                f"{path} is refused: {error}. Weights are arrays and plain values; get the file from its publisher."
            ) from error
        except Exception as error:  # a damaged program can fail in any way, but none of them runs foreign code
            raise WeightsError(f"{path} is a damaged Caffe2 pickle ({error!r}). Download it again.") from error
    if isinstance(content, dict) and isinstance(content.get("blobs"), dict):
        content = content["blobs"]
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is a pickle, but not one of named arrays as Caffe2 writes it. Give a weight file.")
    return {name: blob.values for name, blob in content.items() if isinstance(blob, _Array) and blob.values is not None}


class _Type:
    """Stands for a `numpy.dtype` while the pickle describes it."""

    def __init__(self, code: str):
        if code not in _KINDS:
            raise Refused(f"it holds an array of type {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def describe(self, state: tuple) -> None:
        _, order, *structure = state
        if any(part is not None for part in structure[:3]):
            raise Refused("it holds an array of a structured type")
        self.dtype = self.dtype.newbyteorder(_text(order))


class _Array:
    """Stands for a `numpy.ndarray` while the pickle describes it."""

    values: np.ndarray | None = None

    def describe(self, state: tuple) -> None:
        _, shape, kind, fortran, raw = state
        if math.prod(shape) * kind.dtype.itemsize != len(raw):
            raise ValueError(f"an array of shape {shape} with {len(raw)} bytes")
        stored = np.ndarray(shape, kind.dtype, buffer=raw, order="F" if fortran else "C")
        self.values = np.array(stored, dtype=kind.dtype.newbyteorder("="), order="C")  # a copy that may be written to


class _Arrays(pickle._Unpickler):
    """Python's own unpickler with a shorter table of instructions (`zoo.pickles`)."""

    dispatch = Instructions(_CODES)

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(Bounded(file, size), encoding="bytes")
        self.budget = (
            2 * size
        )  # an array's bytes lie in the file once; they may be copied from there, and decoded before

    def find_class(self, module: str, name: str) -> str:
        if (module, name) not in _NAMES:
            raise Refused(f"it wants {module}.{name} to be called while it is read")
        return name

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], *arguments)

    def _make(self, name: Any, *arguments: Any) -> Any:
        if name == "_reconstruct":  # (type, shape, code): an empty array, described later
            return _Array()
        if name == "dtype":  # (code, align, copy)
            return _Type(_text(arguments[0]))
        if name == "scalar":  # (type, bytes)
            return self._describe(_Array(), (1, (), arguments[0], False, arguments[1]))
        if name == "encode":  # (text, "latin1"): how Python 3 writes bytes into an old protocol
            self._spend(len(arguments[0]))
            return arguments[0].encode("latin1")
        if name == "bytes" and not arguments:  # and how it writes none
            return b""
        raise Refused(f"it wants {name!r} to be called while it is read")

    def _build(self) -> None:
        state = self.stack.pop()
        self._describe(self.stack[-1], state)

    def _describe(self, target: _Array | _Type, state: tuple) -> _Array | _Type:
        if isinstance(target, _Array):
            self._spend(len(state[4]))
        elif not isinstance(target, _Type):
            raise Refused(f"it sets the state of a {type(target).__name__}")
        target.describe(state)
        return target

    def _spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise Refused("it unfolds into more bytes than the file holds")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_text(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update({_text(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({_text(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict


def _text(value: Any) -> str:
    """A text as Python 2 (bytes) or Python 3 wrote it."""
    if not isinstance(value, (str, bytes)):
        raise Refused(f"it has a {type(value).__name__} where a name belongs")
    return value.decode("latin1") if isinstance(value, bytes) else value
