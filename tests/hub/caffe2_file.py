"""Weight files as Caffe2's users published them: pickles that Python 2 wrote with protocol 2.

Python 3 cannot write these (it has not Python 2's byte strings and names numpy's functions otherwise), so the
instructions are put down one by one, in the order in which cPickle wrote them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_caffe2(path: Path, blobs: Mapping[str, np.ndarray | float | int]) -> None:
    """``{"blobs": {name: array or number}}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(caffe2_pickle(blobs))


def caffe2_pickle(blobs: Mapping[str, np.ndarray | float | int]) -> bytes:
    """The bytes of such a file."""
    out = bytearray(b"\x80\x02}" + _string(b"blobs") + b"}(")
    for name, value in blobs.items():
        out += _string(name.encode()) + _value(value)
    return bytes(out + b"us.")


def _string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _value(value: np.ndarray | float | int) -> bytes:
    if isinstance(value, int):
        return _int(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    order = "|" if value.dtype.itemsize == 1 else "<"
    kind = b"cnumpy\ndtype\n(" + _string(value.dtype.str[1:].encode()) + _int(0) + _int(1) + b"tR"
    kind += b"(" + _int(3) + _string(order.encode()) + b"NNN" + _int(-1) + _int(-1) + _int(0) + b"tb"
    shape = b"(" + b"".join(map(_int, value.shape)) + b"t"
    data = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + _int(0) + b"t" + _string(b"b") + b"tR"
    return empty + b"(" + _int(1) + shape + kind + b"\x89" + _string(data) + b"tb"
