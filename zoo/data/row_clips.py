"""A video as a clip for each of its rows of features, decoded once from beginning to end.

Row k stands for the time from ``k / rate`` to ``(k + 1) / rate`` seconds, and its clip has the middle of that time in
its middle. A clip that reaches beyond the video's first or last frame repeats it. In memory are the frames that one
clip spans and a batch of clips, however long the video is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from zoo.data.pixels import centre_window
from zoo.data.sampling import at_rate, count_at_rate, three_crops
from zoo.data.video import VideoReader
from zoo.errors import VideoError, ZooError
from zoo.spec import VideoSpec

_LATE = 1e-3  # seconds that a time stamp may lag behind its frame: WebM rounds them to milliseconds
_MOST_ROWS = 1 << 20  # of a video: twelve days of seconds
_AT_ONCE = 1024  # rows whose frames are listed at a time


def row_clips(
    path: str | PathLike[str], spec: VideoSpec, rate: float = 1.0, batch: int = 8, *, threads: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """The clips of a video's rows in order, a batch at a time.

    Args:
        path: the video file.
        spec: what the model wants: ``frames`` frames, ``stride`` apart at ``fps`` (at the file's own rate where that is
            None), the centre crop of a test.
        rate: rows a second.
        batch: clips in a batch; the last one may have fewer.
        threads: decoder threads; keep 1 where other videos are decoded at the same time.

    Yields:
        Clips ``[n, 3, T, test_crop, test_crop]`` in 0..255 (uint8, or float32 where ``spec.trajectory`` asks for
        pixels that are not rounded), and how many rows each is the clip of, int64 ``[n]``: neighbouring rows that see
        the same frames share one.

    Raises:
        ZooError: a rate or batch that cannot be.
        VideoError: the file cannot be decoded; clips before the damage were given out.
    """
    if not 0 < rate < math.inf or batch < 1:
        raise ZooError(f"features want a rate above 0 rows a second and batches of at least 1, got {rate} and {batch}.")
    with VideoReader(path, threads=threads) as video:
        rows = RowFrames(video, path, spec, rate)
        wanted = rows.all_frames().tolist()
        sized = {} if spec.trajectory else {"short_side": spec.test_short_side, "size": spec.size}
        pictures = zip(wanted, video.select(wanted, **sized), strict=True)
        recent: dict[int, Tensor] = {}  # windows of the frames that this clip or a later one holds, in their order
        cut: Callable[[np.ndarray], np.ndarray] | None = None
        clips, repeats = None, []
        for frames, count in rows.distinct():
            while frames[-1] not in recent:
                number, picture = next(pictures)
                cut = cut or _cutter(*picture.shape[:2], spec)
                recent[number] = torch.from_numpy(np.ascontiguousarray(cut(picture)))
            while (oldest := next(iter(recent))) < frames[0]:
                del recent[oldest]
            if clips is None:
                kind = recent[frames[0]].dtype
                clips = torch.empty(batch, 3, spec.frames, spec.test_crop, spec.test_crop, dtype=kind)
            torch.stack([recent[number] for number in frames], 1, out=clips[len(repeats)])
            repeats.append(count)
            if len(repeats) == batch:
                yield clips, torch.tensor(repeats)
                clips, repeats = None, []
        if repeats:
            yield clips[: len(repeats)], torch.tensor(repeats)


class RowFrames:
    """Which frames of an open video its rows see. Reads its time stamps, decodes nothing.

    Attributes:
        count: of the rows: as many as ``1 / rate`` seconds go into the video's length, rounded up, and at least one.

    Raises:
        VideoError: the video does not tell how fast its frames follow each other.
    """

    def __init__(self, video: VideoReader, path: str | PathLike[str], spec: VideoSpec, rate: float) -> None:
        steady = video.steady_rate
        # Reading all time stamps reads the file to its end, and it is read to its end anyway.
        self.times = np.arange(video.frames) / steady if steady else video.times()
        self.spec, self.rate, frames = spec, rate, len(self.times)
        # The last frame stays on for as long as its predecessors do on average.
        seconds = self.times[-1] * frames / (frames - 1) if frames > 1 else video.info.duration
        most = _MOST_ROWS / rate
        if not (0 if frames > 1 else -1) < seconds < most or (spec.fps and not seconds * spec.fps < 2**53):
            raise VideoError(
                f"{path}: {frames} frames that take {seconds:g} seconds are not cut into rows (0 to {most:g} seconds "
                "are). Its time stamps are damaged: store it anew with its rate, `ffmpeg -r 25 -i FILE NEW.mp4`."
            )
        self.count = max(1, math.ceil((seconds - _LATE) * rate - 1e-6))
        self._numbers = frames if spec.fps is None else count_at_rate(self.times, spec.fps)

    def of(self, first: int, last: int) -> np.ndarray:
        """The frames of rows ``first .. last - 1``, int64 ``[last - first, T]``, ascending."""
        spec = self.spec
        centres = (np.arange(first, last) + 0.5) / self.rate
        if spec.fps is None:
            middle = np.searchsorted(self.times, centres + _LATE, side="right") - 1
            # The last row's middle may lie beyond the last frame, by as many frames as there would be by then.
            beyond = np.maximum(centres + _LATE - self.times[-1], 0)
            middle += np.floor(beyond * (len(self.times) - 1) / (self.times[-1] or 1)).astype(np.int64)
        else:
            middle = np.floor(centres * spec.fps + 1e-6).astype(np.int64)
        offsets = spec.stride * (np.arange(spec.frames) - spec.frames // 2)
        numbers = np.clip(middle[:, None] + offsets, 0, self._numbers - 1)
        return numbers if spec.fps is None else at_rate(self.times, spec.fps, numbers)

    def all_frames(self) -> np.ndarray:
        """Every frame that some row sees, int64, ascending."""
        seen = np.zeros(len(self.times), dtype=bool)
        for first in range(0, self.count, _AT_ONCE):
            seen[self.of(first, min(first + _AT_ONCE, self.count))] = True
        return np.flatnonzero(seen)

    def distinct(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """The frames of the rows in order, and how many neighbouring rows see just these."""
        last, count = None, 0
        for first in range(0, self.count, _AT_ONCE):
            for frames in map(tuple, self.of(first, min(first + _AT_ONCE, self.count)).tolist()):
                if frames != last and count:
                    yield last, count
                    count = 0
                last, count = frames, count + 1
        yield last, count


def _cutter(height: int, width: int, spec: VideoSpec) -> Callable[[np.ndarray], np.ndarray]:
    """What makes the test crop ``[3, S, S]`` of a picture ``[H, W, 3]`` of this size."""
    if spec.trajectory:
        return centre_window(height, width, spec).cut
    ((top, left),) = three_crops(height, width, spec.test_crop, 1)
    return lambda picture: picture[top : top + spec.test_crop, left : left + spec.test_crop].transpose(2, 0, 1)
