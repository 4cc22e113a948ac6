"""Rows of features on disk: one NumPy file a video, ``[T, D]``, in time order; row k stands for k / r to (k + 1) / r s.

    root/features/ID.npy      or root/ID.npy; half, single or double precision; the rate r is not in the file

A file comes from anybody: it is never unpickled, and what it claims is held against its size before memory is spent on
it. Whatever is wrong with one is a `VideoError` that names it, so that training can take another video in its place.
"""

from __future__ import annotations

import ast
import os
import re
import stat
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from zoo.errors import VideoError

_REMEDY = "Compute its features again (`zoo extract`), or fetch the file again."
_MAGIC = b"\x93NUMPY"
_START = 128  # bytes: NumPy pads the headers of such arrays to this, so that one read gets it whole
_LONGEST_HEADER = 10_000
_PLAIN = re.compile(
    rb"\{'descr': '([<>]f[248])', 'fortran_order': (False), 'shape': \((\d{1,15}), (\d{1,15})\), \} *\n"
)


class NoFileError(VideoError):
    """A file of features that is not there."""


class FeatureHeader(NamedTuple):
    """What a file says of itself, and where its numbers begin."""

    rows: int
    dim: int
    dtype: np.dtype
    by_column: bool  # in the order of Fortran
    offset: int  # bytes

    @property
    def row_bytes(self) -> int:
        return self.dim * self.dtype.itemsize


class FeatureRows:
    """Rows in an open file. Only those that are asked for are read, as they are stored; none is looked at for NaN.

    A context manager, at the end of which they are closed.

    Args:
        file: descriptor of the open file.
        header: what it holds, and where.
        path: for messages.

    Attributes:
        plain: whether rows lie one after the other, their numbers as this machine stores them.
    """

    def __init__(self, file: int, header: FeatureHeader, path: str | PathLike[str]) -> None:
        self.file, self.header, self.path = file, header, path
        self.plain = header.dtype.isnative and not header.by_column

    def __len__(self) -> int:
        return self.header.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is read any more."""

    def read(self, first: int, last: int) -> np.ndarray:
        """Rows ``first`` to ``last`` (exclusive), ``[n, D]``.

        Raises:
            VideoError: the file does not give them.
        """
        return self.read_clips([first], last - first)[0]

    def read_clips(self, starts: Sequence[int], length: int) -> np.ndarray:
        """``length`` rows from each of the starts on, ``[M, length, D]``.

        Raises:
            VideoError: the file does not give them.
        """
        header = self.header
        if header.by_column:
            rows = self._mapped()
            return np.stack([rows[start : start + length] for start in starts])
        clips = np.empty((len(starts), length, header.dim), header.dtype)
        size, begin = length * header.row_bytes, header.offset
        for clip, start in zip(clips, starts, strict=True):
            try:
                whole = os.preadv(self.file, [clip], begin + start * header.row_bytes) == size
            except OSError as error:
                raise VideoError(f"{self.path} cannot be read ({error.strerror}). {_REMEDY}") from None
            if not whole:
                raise _short(self.path, f"rows {start} to {start + length - 1} of {header.rows} are not there")
        return clips

    def _mapped(self) -> np.memmap:
        header = self.header
        shape, order = (header.rows, header.dim), "F" if header.by_column else "C"
        return np.memmap(self.path, header.dtype, "r", header.offset, shape, order)


class FeatureFile(FeatureRows):
    """A file of features, opened.

    Args:
        path: of the file.
        dim: numbers that a row must have; None takes any.

    Raises:
        VideoError: there is no such file; it is no NumPy file, or cut short; its array has no rows, another number of
            columns, other than two dimensions, or no real numbers.
    """

    def __init__(self, path: str | PathLike[str], dim: int | None = None) -> None:
        try:
            # A pipe among the files would keep a reader waiting for ever.
            file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        except (OSError, ValueError) as error:
            raise _unopened(path, error) from None
        try:
            super().__init__(file, _read_header(file, path, dim), path)
        except BaseException:
            os.close(file)
            raise

    def close(self) -> None:
        os.close(self.file)


def feature_path(root: Path, name: str) -> Path:
    """Where a video's features lie: ``root/features/NAME.npy`` where there is such a folder, else ``root/NAME.npy``."""
    folder = root / "features"
    return (folder if folder.is_dir() else root) / f"{name}.npy"


def open_features(path: str | PathLike[str], dim: int | None = None) -> np.memmap:
    """A file's rows without reading them, ``[T, D]`` as they are stored; not looked at for NaN.

    Args:
        path: of the file.
        dim: numbers that a row must have; None takes any.

    Raises:
        VideoError: as `FeatureFile`.
    """
    with FeatureFile(path, dim) as file:
        return file._mapped()


def read_features(path: str | PathLike[str], dim: int | None = None) -> np.ndarray:
    """All rows of a file, float32 ``[T, D]``.

    Raises:
        VideoError: as `FeatureFile`; or a row holds NaN or infinity.
    """
    with FeatureFile(path, dim) as file:
        rows = as_float32(file.read(0, len(file)))
    require_finite(rows, path)
    return rows


def as_float32(rows: np.ndarray) -> np.ndarray:
    """Rows in single precision; what double precision alone can hold becomes infinite, without a warning."""
    if rows.dtype.isnative:  # NumPy takes twenty times as long over half precision
        return torch.from_numpy(rows).float().numpy()
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def require_finite(rows: np.ndarray, path: str | PathLike[str], first: int = 0) -> None:
    """Refuse rows ``[n, D]`` that hold NaN or infinity, by the number of the first one.

    Args:
        rows: to look at.
        path: of their file, for the message.
        first: the first row's number in it.

    Raises:
        VideoError: there is such a row.
    """
    # A sum of finite numbers may overflow; a sum of others is never finite. So the common case is one pass.
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduce(rows, axis=None, dtype=np.float32)
    if np.isfinite(total):
        return
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise VideoError(f"{path}: row {first + int(finite.argmin())} holds NaN or infinity. {_REMEDY}")


def _read_header(file: int, path: str | PathLike[str], dim: int | None) -> FeatureHeader:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path} is not a file; features lie in files of their own, one a video.")
    if not status.st_size:
        raise VideoError(f"{path} is empty. {_REMEDY}")
    try:
        start = os.pread(file, _START, 0)
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror}). {_REMEDY}") from None
    if start[:6] != _MAGIC:
        raise VideoError(f"{path} is not a NumPy file (.npy); features are stored by `numpy.save`. {_REMEDY}")
    wide = start[6:7] > b"\x01"  # from version 2 on the header's length has four bytes
    begin = 12 if wide else 10
    length = int.from_bytes(start[8:begin], "little")
    if len(start) < begin or begin + length > status.st_size:
        raise _short(path, "its header is not whole")
    if length > _LONGEST_HEADER:
        raise VideoError(f"{path}: a header of {length} bytes is not one of rows of features. {_REMEDY}")
    text = start[begin : begin + length]
    text = text if len(text) == length else os.pread(file, length, begin)
    header = _parse(text, begin + length, path)
    if not header.rows:
        raise VideoError(f"{path} has no rows. {_REMEDY}")
    if not header.dim or dim not in (None, header.dim):
        raise VideoError(
            f"{path} has rows of {header.dim} numbers, and {dim or 'some'} are expected. Use features of the network "
            "that the model was made for, or set the model's features.dim."
        )
    if header.offset + header.rows * header.row_bytes > status.st_size:
        raise _short(path, f"{header.rows} rows of {header.row_bytes} bytes do not fit into {status.st_size} bytes")
    return header


def _parse(text: bytes, offset: int, path: str | PathLike[str]) -> FeatureHeader:
    if found := _PLAIN.fullmatch(text):  # what NumPy writes; the general way takes five times as long
        descr, _, rows, dim = found.groups()
        return FeatureHeader(int(rows), int(dim), np.dtype(descr.decode()), False, offset)
    try:
        said = ast.literal_eval(text.decode("latin1"))
        dtype, shape, by_column = said["descr"], said["shape"], said["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise VideoError(f"{path}: its header cannot be read. {_REMEDY}") from None
    if not (isinstance(dtype, str) and re.fullmatch(r"[<>=|]?f[248]", dtype)):
        raise VideoError(
            f"{path} holds values of type {dtype!r}, not real numbers; store features as float16 or float32. Objects "
            "are never unpickled."
        )
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape)):
        raise VideoError(f"{path} holds an array of shape {shape!r}; features are rows, [T, D]. {_REMEDY}")
    return FeatureHeader(*shape, np.dtype(dtype), by_column is True, offset)


def _short(path: str | PathLike[str], what: str) -> VideoError:
    return VideoError(f"{path} is truncated: {what}. {_REMEDY}")


def _unopened(path: str | PathLike[str], error: OSError | ValueError) -> VideoError:
    if isinstance(error, FileNotFoundError):
        return NoFileError(f"{path}: no such file. {_REMEDY}")
    return VideoError(f"{path} cannot be opened ({getattr(error, 'strerror', None) or error}). {_REMEDY}")
