"""From a video file to the clips of a trajectory or of the whole video, as float32 tensors, each frame decoded once.

`read_trajectory` and `read_whole_video` are what a loader needs; `whole_video_clips` reads a video of any length a few
clips at a time. Clips hold RGB in 0..255, not rounded; normalisation is the model's, on its own device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from zoo.data.clip_sampling import ClipTable, clip_span, clip_table, whole_video
from zoo.data.pixels import centre_window, draw_window
from zoo.data.video import VideoReader
from zoo.errors import VideoError
from zoo.spec import VideoSpec

_MOST_FRAMES = 1 << 24  # of a resampled video: float32, which they are numbered in, counts no further

_DEVIATION = 0.1  # of a stated rate from the real one; an uneven video's last frame may account for some


def table_of(video: VideoReader, path: str | PathLike[str], spec: VideoSpec) -> ClipTable:
    """The candidate clips of an open video; reads its time stamps, decodes nothing.

    Raises:
        VideoError: the video is shorter than one clip, or does not tell how fast its frames follow each other.
    """
    times = video.presentation_times()
    n, rate = len(times), _rate(video, times)
    if spec.fps and not 0 < n * spec.fps < rate * _MOST_FRAMES:
        raise VideoError(
            f"{path}: {n} frames at {rate:g} a second cannot be counted at {spec.fps:g} a second. Store it with its "
            "frame rate: `ffmpeg -r 25 -i FILE NEW.mp4`."
        )
    table = clip_table(rate, times, spec)
    if not len(table):
        wanted = f"{clip_span(spec)} frames" + (f" at {spec.fps:g} a second" if spec.fps else "")
        raise VideoError(
            f"{path} is shorter than one clip: it has {n} frames at {rate:.4g} a second, and a clip spans {wanted}. "
            "Leave it out, or take shorter clips (spec.frames)."
        )
    return table


def read_trajectory(
    path: str | PathLike[str],
    spec: VideoSpec,
    choose: Callable[[int], np.ndarray],
    rng: np.random.Generator,
    *,
    threads: int = 1,
) -> tuple[Tensor, Tensor]:
    """A training trajectory: float32 clips ``[n, 3, T, crop, crop]`` and their times, float64 ``[n, 2]``.

    Args:
        path: the video file.
        spec: what the model wants.
        choose: says which of so many candidate clips (at least one) are wanted.
        rng: draws a window for each clip on its own: mirroring, short side, top, left.
        threads: decoder threads; keep 1 inside a loader's worker.

    Raises:
        VideoError: the file cannot be decoded, or is shorter than one clip.
    """
    with VideoReader(path, threads=threads) as video:
        table = table_of(video, path, spec)
        table = table[choose(len(table))]
        uses = defaultdict(list)
        for (clip, at), number in np.ndenumerate(table.frames):
            uses[int(number)].append((clip, at))
        clips = torch.empty(len(table), 3, spec.frames, spec.crop, spec.crop)
        pixels, windows = clips.numpy(), []
        wanted = sorted(uses)
        for number, picture in zip(wanted, video.select(wanted), strict=True):
            windows = windows or [draw_window(*picture.shape[:2], spec, rng) for _ in range(len(table))]
            for clip, at in uses[number]:
                pixels[clip, :, at] = windows[clip].cut(picture)
    return clips, torch.from_numpy(table.times)


def read_whole_video(path: str | PathLike[str], spec: VideoSpec, *, threads: int = 1) -> tuple[Tensor, Tensor]:
    """The clips of a test as ``spec.trajectory`` says, all at once; see `whole_video_clips`."""
    (whole,) = whole_video_clips(path, spec, cap=spec.trajectory.cap, batch=None, threads=threads)
    return whole


def whole_video_clips(
    path: str | PathLike[str],
    spec: VideoSpec,
    stride: int | None = None,
    *,
    cap: int | None = None,
    batch: int | None = 16,
    threads: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The clips of a whole video in order, a batch at a time, so that memory does not grow with the video's length.

    Args:
        path: the video file.
        spec: what the model wants; clips are its test windows.
        stride: candidate clips from one clip to the next, ``spec.trajectory.stride`` by default. Candidates lie
            ``spec.trajectory.step`` frames apart, so clips overlap below ``spec.frames / step``.
        cap: candidates that are looked at, from the first on; None looks at all.
        batch: clips in a batch; None puts all in one.
        threads: decoder threads; keep 1 inside a loader's worker.

    Yields:
        float32 ``[n, 3, T, test_crop, test_crop]`` in 0..255, and the times of their first and last frames by the
        file's clock, seconds, float64 ``[n, 2]``.

    Raises:
        VideoError: the file cannot be decoded, or is shorter than one clip; clips before the damage were given out.
    """
    with VideoReader(path, threads=threads) as video:
        table = table_of(video, path, spec)
        table = table[whole_video(len(table), stride or spec.trajectory.stride, cap)]
        times, batch = torch.from_numpy(table.times), batch or len(table)
        wanted = np.unique(table.frames).tolist()
        recent: dict[int, Tensor] = {}  # scaled frames that this clip or a later one holds
        window = None
        done = first = 0
        for number, picture in zip(wanted, video.select(wanted), strict=True):
            window = window or centre_window(*picture.shape[:2], spec)
            recent[number] = torch.from_numpy(np.ascontiguousarray(window.cut(picture)))
            while done < len(table) and table.frames[done, -1] == number:
                if done == first:
                    size = min(batch, len(table) - first)
                    clips = torch.empty(size, 3, spec.frames, spec.test_crop, spec.test_crop)
                torch.stack([recent[k] for k in table.frames[done].tolist()], dim=1, out=clips[done - first])
                done += 1
                if done == first + len(clips):
                    yield clips, times[first:done]
                    first = done
            oldest = table.frames[done, 0] if done < len(table) else number
            for k in [k for k in recent if k < oldest]:
                del recent[k]


def _rate(video: VideoReader, times: np.ndarray) -> float:
    """Frames a second as the file states them, unless its time stamps say something else altogether."""
    stated, seconds = video.fps, times[-1] - times[0]
    real = (len(times) - 1) / seconds if seconds > 0 else 0.0
    return real if real and abs(stated - real) > _DEVIATION * real else stated
