"""Frames out of video files, by PyAV: what is in a file, and exactly the frames that were asked for.

Frame k is the k-th picture in presentation order, counted from 0, whatever the frame rate does. Pictures come upright
(the rotation that phones write is applied), in RGB, with stored pixels taken as square. Every failure that lies in the
file is a `VideoError`. A file is open only inside a call or a ``with`` block, and its decoder never outlives that, so
nothing is carried into a forked worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from zoo.data.decoder import Decoder
from zoo.data.opening import check_size
from zoo.data.sampling import scaled_size


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds.

    Attributes:
        path: the file.
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        frames: pictures, exactly.
        fps: pictures per second, on average.
        duration: seconds.
        rotation: degrees clockwise (0, 90, 180, 270) that the stored picture is turned by to be upright.
        codec: FFmpeg's name of the video codec.
        has_audio: whether there is a sound track.
    """

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
    """An open video file; a context manager, so that it is closed.

    Args:
        path: the file.
        threads: decoder threads. Keep 1 inside a loader's worker, where the workers are the parallelism.

    Raises:
        VideoError: the file cannot be opened as video; so do all methods when the file turns out to be broken.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int = 1) -> None:
        self._decoder = Decoder(path, threads)
        self._reformatter = VideoReformatter()  # one for all frames: each would build its scaler anew
        self._orientation: tuple[bool, bool, bool] | None = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._decoder.close()

    @property
    def frames(self) -> int:
        """Pictures in the video. Read off the file's own index where it has one, else by reading all its packets."""
        return self._decoder.frames

    @cached_property
    def info(self) -> VideoInfo:
        """What the file holds; decodes its first frame."""
        swapped, mirrored, flipped = next(self._decoder.pictures([0], self._turn))
        height, width = self._decoder.stored_size[::-1] if swapped else self._decoder.stored_size
        stream, container = self._decoder.stream, self._decoder.container
        # What a file does not tell is 0, None or a rational that counts as false, depending on PyAV's version.
        fps = self.fps
        duration = float(stream.duration or 0) * float(stream.time_base) or (container.duration or 0) / av.time_base
        if duration <= 0:
            duration = self.frames / fps if fps > 0 else 0.0
        return VideoInfo(
            path=self._decoder.path,
            width=width,
            height=height,
            frames=self.frames,
            fps=fps if fps > 0 or not duration else self.frames / duration,
            duration=duration,
            rotation=(90 if mirrored else 270) if swapped else (180 if mirrored and flipped else 0),
            codec=stream.codec_context.name,
            has_audio=bool(container.streams.audio),
        )

    @property
    def fps(self) -> float:
        """Pictures per second on average, as the file states it; 0 where it does not."""
        return float(self._decoder.stream.average_rate or 0)

    @property
    def steady_rate(self) -> float | None:
        """Frames per second where the file's own index shows that this never changes (MP4, QuickTime), else None.

        Other containers state a rate that their frames need not keep; `times` knows.
        """
        stream = self._decoder.stream
        average, base = stream.average_rate, stream.base_rate
        is_indexed = "mp4" in self._decoder.container.format.name and stream.frames > 1
        return float(average) if is_indexed and average and average == base else None

    def times(self) -> np.ndarray:
        """When each frame is shown, in seconds after the first, float64 ``[frames]``; reads all packets, decodes none.

        ``np.searchsorted(times, seconds, side="right") - 1`` is the number of the frame that is on at ``seconds``.
        """
        stamps = self._decoder.stamps()
        if stamps is None:
            return np.arange(self.frames) * (self.info.duration / self.frames)
        return (np.array(stamps) - stamps[0]) * float(self._decoder.stream.time_base)

    def presentation_times(self) -> np.ndarray:
        """`times` by the file's own clock, which need not show 0 at the first frame; each is the nearest float64."""
        stamps = self._decoder.stamps()
        if stamps is None:
            return self.times()
        base = self._decoder.stream.time_base
        return np.array(stamps) * base.numerator / base.denominator

    def read(
        self, indices: Sequence[int], *, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """The frames numbered ``indices`` (in any order, repeated or not), uint8 ``[T, H, W, 3]`` RGB.

        Args:
            indices: at least one frame number, each in ``0 .. frames - 1``.
            short_side: scale so that the shorter side has this many pixels and the shape stays.
            size: scale to this ``(height, width)`` instead.

        Raises:
            VideoError: a frame was asked for that the video does not have, or that cannot be decoded.
        """
        numbers = np.asarray(indices, dtype=np.int64).reshape(-1)
        if not numbers.size:
            raise ValueError("read needs at least one frame number")
        wanted, places = np.unique(numbers, return_inverse=True)
        pixels = None
        for at, picture in enumerate(self._decoder.pictures(wanted.tolist(), partial(self._upright, short_side, size))):
            if pixels is None:
                pixels = np.empty((len(wanted), *picture.shape), dtype=np.uint8)
            pixels[at] = picture
        # Most often every frame is wanted once and in order: then this is the answer as it stands.
        return pixels if np.array_equal(numbers, wanted) else pixels[places]

    def stream(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames ``start .. stop - 1`` one after another, each uint8 ``[H, W, 3]`` RGB, a few in memory at once.

        Raises:
            VideoError: the file breaks off; the frames before that have been given out by then.
        """
        yield from self.select(range(start, self.frames if stop is None else stop), short_side=short_side, size=size)

    def select(
        self, numbers: Sequence[int], *, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[np.ndarray]:
        """The frames with these numbers, which ascend strictly, one after another as `stream` gives them.

        Raises:
            VideoError: as `read` and `stream` do.
        """
        for picture in self._decoder.pictures(numbers, partial(self._upright, short_side, size)):
            yield np.ascontiguousarray(picture)

    def _upright(self, short_side: int | None, size: tuple[int, int] | None, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it should be seen, a view ``[H, W, 3]`` RGB: colour and size in one pass, then turned."""
        swapped, mirrored, flipped = self._turn(frame)
        height, width = self._decoder.stored_size[::-1] if swapped else self._decoder.stored_size
        if size:
            height, width = size
        elif short_side:
            height, width = scaled_size(height, width, short_side)
        check_size(self._decoder.path, height, width)
        rgb = self._reformatter.reformat(
            frame,
            width=height if swapped else width,
            height=width if swapped else height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=self._decoder.threads,
        )
        plane = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)  # padded at their ends
        pixels = np.lib.stride_tricks.as_strided(lines, (rgb.height, rgb.width, 3), (plane.line_size, 3, 1))
        if swapped:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1]

    def _turn(self, frame: av.VideoFrame) -> tuple[bool, bool, bool]:
        """How to see the video upright: whether to swap its axes, then to mirror it, then to turn it upside down."""
        if self._orientation is None:
            matrix = frame.side_data.get("DISPLAYMATRIX")
            # x' = a x + c y, y' = b x + d y, in rows of three; an angle could not tell a mirrored picture.
            a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist() if matrix else (1, 0, 0, 0, 1)
            swapped = abs(b) > abs(a)
            self._orientation = swapped, (c if swapped else a) < 0, (b if swapped else d) < 0
        return self._orientation


def probe(path: str | PathLike[str]) -> VideoInfo:
    """What a video file holds.

    Raises:
        VideoError: the file is not a video whose first frame decodes.
    """
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
    start: int = 0,
    stop: int | None = None,
    *,
    short_side: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> Iterator[np.ndarray]:
    """The frames of a file one after another, each uint8 ``[H, W, 3]`` RGB; see `VideoReader.stream`."""
    with VideoReader(path, threads=threads) as video:
        yield from video.stream(start, stop, short_side=short_side, size=size)
