"""Frames out of video files, by PyAV: what is in the file, and exactly the frames that were asked for."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from zoo.data.sampling import scaled_size
from zoo.errors import VideoError


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds: sizes in pixels after rotation, duration in seconds, rotation in degrees clockwise."""

    path: Path
    width: int
    height: int
    frames: int
    fps: float
    duration: float
    rotation: int
    codec: str
    has_audio: bool


class VideoReader:
    """An open video file; use it as a context manager, so that it is closed."""

    def __init__(self, path: str | PathLike[str], *, threads: int = 1) -> None:
        self.path = Path(path)
        self._threads = threads
        self._reformatter = VideoReformatter()
        with _explained(self.path):
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise VideoError(f"{self.path} is not a file; give the path of a video file.")
            self._container = av.open(str(self.path.absolute()))
        try:
            with _explained(self.path):
                self._stream = self._video_stream()
                self.info = self._describe()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def read(
        self, indices: Sequence[int], *, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """The frames numbered ``indices`` in presentation order, uint8 ``[T, H, W, 3]`` RGB."""
        indices = np.asarray(indices, dtype=np.int64)
        height, width = size or (self.info.height, self.info.width)
        if short_side:
            height, width = scaled_size(height, width, short_side)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices.tolist()):
            if not 0 <= index < self.info.frames:
                raise VideoError(f"{self.path} has {self.info.frames} frames, number {index} was asked for.")
            places.setdefault(index, []).append(place)
        out = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        missing, last = set(places), max(places, default=-1)
        with _explained(self.path):
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
            for number, frame in enumerate(self._container.decode(self._stream)):
                if number > last:
                    break
                if number in places:
                    out[places[number]] = self._pixels(frame, height, width)
                    missing.discard(number)
        if missing:
            raise VideoError(f"{self.path} ends before frame {min(missing)}; it is truncated. Fetch or encode it anew.")
        return out

    def frames(
        self, *, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Every frame from first to last with its time in seconds, one in memory at once."""
        height, width = size or (self.info.height, self.info.width)
        if short_side:
            height, width = scaled_size(height, width, short_side)
        with _explained(self.path):
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
            for frame in self._container.decode(self._stream):
                yield frame.time or 0.0, self._pixels(frame, height, width)

    def _video_stream(self) -> av.VideoStream:
        streams = self._container.streams.video
        if not streams:
            raise VideoError(f"{self.path} has no video stream; give a file with pictures.")
        stream = streams[0]
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = self._threads
        return stream

    def _describe(self) -> VideoInfo:
        stream = self._stream
        frames = sum(1 for p in self._container.demux(stream) if p.size and not p.is_discard)
        self._container.seek(stream.start_time or 0, stream=stream)
        first = next(self._container.decode(stream))
        height, width = (first.width, first.height) if first.rotation % 180 else (first.height, first.width)
        fps = float(stream.average_rate or 0)
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            duration=frames / fps if fps else 0.0,
            rotation=first.rotation % 360,
            codec=stream.codec_context.name,
            has_audio=bool(self._container.streams.audio),
        )

    def _pixels(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        turns = frame.rotation // 90 % 4
        if turns % 2:
            height, width = width, height
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=self._threads
        )
        return np.rot90(rgb.to_ndarray(), turns)


def probe(path: str | PathLike[str]) -> VideoInfo:
    """What a video file holds."""
    with VideoReader(path) as video:
        return video.info


def read_frames(
    path: str | PathLike[str],
    indices: Sequence[int],
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The frames numbered ``indices`` of a file, uint8 ``[T, H, W, 3]`` RGB; see `VideoReader.read`."""
    with VideoReader(path, threads=threads) as video:
        return video.read(indices, short_side=short_side, size=size)


def iter_frames(
    path: str | PathLike[str],
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> Iterator[tuple[float, np.ndarray]]:
    """Every frame of a file with its time in seconds, one in memory at once; see `VideoReader.frames`."""
    with VideoReader(path, threads=threads) as video:
        yield from video.frames(short_side=short_side, size=size)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever PyAV makes of hostile bytes into a `VideoError` that names the file."""
    try:
        yield
    except VideoError:
        raise
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, LookupError, StopIteration) as error:
        raise VideoError(f"{path} cannot be decoded ({type(error).__name__}: {error}).") from error
