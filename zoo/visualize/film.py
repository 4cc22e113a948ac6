"""A film, written picture by picture; there when it is whole, and not before."""

from __future__ import annotations

import os
import secrets
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from zoo.errors import ZooError
from zoo.files import writing


class Film:
    """An H.264 file in the making, a context manager: left by an error, it leaves nothing behind.

    A picture of odd height or width loses its last row or column, for the format stores colours of two by two pixels.

    Args:
        path: of the MP4 file.
        rate: pictures a second.

    Raises:
        NoPlaceError: the folder cannot be written to.
        ZooError: FFmpeg refuses the pictures; so does `add`.
    """

    def __init__(self, path: str | os.PathLike, rate: Fraction | float) -> None:
        self.path = Path(path)
        self.rate = max(Fraction(rate).limit_denominator(1000), Fraction(1))
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Film:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), "w", format="mp4")
        return self

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 ``[H, W, 3]`` RGB; all must be of one size."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if not height or not width:
            raise self._refused(f"pictures of {picture.shape[1]} x {picture.shape[0]} pixels are too small")
        try:
            if self._stream is None:
                self._stream = self._container.add_stream("libx264", rate=self.rate)
                self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, ValueError) as error:
            raise self._refused(error) from error

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                with writing(self.path):
                    os.replace(self._temporary, self.path)
        except av.error.FFmpegError as error:
            if kind is None:
                raise self._refused(error) from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def _refused(self, error: Exception | str) -> ZooError:
        return ZooError(
            f"the film {self.path} cannot be encoded: {error}. Is PyAV's FFmpeg one with libx264? PyPI's wheels of av "
            "bring it."
        )
