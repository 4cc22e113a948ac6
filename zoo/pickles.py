"""What unpicklers that run nothing have in common: a shorter table of instructions, and a file that cannot be overrun.

They build upon Python's own unpickler that is written in Python, not the one in C: its table can be cut down, and a
huge memo number costs it nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, BinaryIO


class Refused(Exception):
    """The pickle asks for something that its reader has no need of."""


class Bounded:
    """A file that refuses at once to read more than it has left, before anything is allocated for it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError("it ends early")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline()


class Instructions(dict):
    """Those instructions of Python's unpickler whose codes are given; any other is refused by name."""

    def __init__(self, codes: Iterable[int]) -> None:
        super().__init__({code: pickle._Unpickler.dispatch[code] for code in codes})

    def __missing__(self, code: int) -> Any:
        raise Refused(f"it uses the pickle instruction {bytes([code])!r}")
