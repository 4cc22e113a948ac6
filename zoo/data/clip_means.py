"""The means of clips of rows, of many open videos at once: read, brought to single precision, summed.

What is done between reading and writing a mean stays in the processor's cache: the rows of a few clips at a time, in
memory that is used again. Clips that lie near each other, as those of features of few rows a second do, are read in one
call together with what lies between them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.data.feature_files import FeatureRows, as_float32, require_finite
from zoo.errors import VideoError

_RUN = 2 << 20  # bytes of rows that are averaged at once, unless one video has more
_FEW = 4  # rows that are added one by one
_CALL = 12 << 10  # bytes that are copied in the time that a call to read takes
_BUFFERS = 1000  # that one call may fill; 1024 on Linux


@dataclass(frozen=True)
class OpenVideos:
    """Open videos in columns.

    Attributes:
        at: their numbers among those that were to be opened, int64 ``[n]``.
        file: descriptors.
        offset: where their rows begin there, int64 ``[n]``.
        count: rows of each, int64 ``[n]``.
        dtype: of their numbers; None where these do not lie as this machine stores rows.
        rows: gives those of one.
        failed: what is wrong with the others that were to be opened, by number.
    """

    at: np.ndarray
    file: list[int]
    offset: np.ndarray
    count: np.ndarray
    dtype: list[np.dtype | None]
    rows: Callable[[int], FeatureRows]
    failed: dict[int, VideoError]

    def take(self, which: np.ndarray) -> OpenVideos:
        """Some of them, by their places here."""
        numbers = which.tolist()
        return replace(
            self,
            at=self.at[which],
            file=[self.file[k] for k in numbers],
            offset=self.offset[which],
            count=self.count[which],
            dtype=[self.dtype[k] for k in numbers],
            rows=lambda k: self.rows(numbers[k]),
        )


class _Clips(NamedTuple):
    """Clips of one length, of some of the videos."""

    videos: OpenVideos
    numbers: np.ndarray  # [k] below n
    starts: np.ndarray  # [k, M]
    length: int
    dtype: np.dtype | None
    ahead: list[bool]  # by number
    places: np.ndarray  # [k]


@contextmanager
def open_each(open_: Callable[[int], FeatureRows], numbers: np.ndarray) -> Iterator[OpenVideos]:
    """Videos that are opened one by one.

    Args:
        open_: opens one.
        numbers: int64 ``[n]``.
    """
    at: list[int] = []
    opened: list[FeatureRows] = []
    failed: dict[int, VideoError] = {}
    try:
        for k, number in enumerate(numbers.tolist()):
            try:
                opened.append(open_(number))
                at.append(k)
            except VideoError as error:
                failed[k] = error
        yield OpenVideos(
            np.array(at, np.int64),
            [rows.file for rows in opened],
            np.array([rows.header.offset for rows in opened], np.int64),
            np.array([len(rows) for rows in opened], np.int64),
            [rows.header.dtype if rows.plain else None for rows in opened],
            opened.__getitem__,
            failed,
        )
    finally:
        for rows in opened:
            rows.close()


class ClipMeans:
    """Reads clips and writes their means."""

    def __init__(self) -> None:
        self._stored = self._skipped = np.empty(0, np.uint8)
        self._single = self._ones = torch.empty(0)

    def __getstate__(self) -> dict[str, Any]:
        return ClipMeans().__dict__  # what is kept is of use in one process

    def read(
        self,
        videos: OpenVideos,
        starts: np.ndarray,
        lengths: np.ndarray,
        forward: np.ndarray,
        places: np.ndarray,
        out: Tensor,
    ) -> dict[int, VideoError]:
        """Write the means of n videos' clips into a batch.

        Args:
            videos: n of them.
            starts: first rows of the clips, ascending, int64 ``[n, M]``.
            lengths: rows in a clip, int64 ``[n]``.
            forward: whether clips are wanted in their order or in the opposite one, bool ``[n]``.
            places: where each goes in the batch, int64 ``[n]``.
            out: the batch, float32 ``[B, M, D]``.

        Returns:
            What is wrong with those that cannot be read, or hold NaN or infinity, by their number below n; what is
            written for these is of no use.
        """
        broken: dict[int, VideoError] = {}
        ahead = forward.tolist()
        alike: dict[tuple[int, np.dtype | None], list[int]] = {}
        for key in zip(lengths.tolist(), videos.dtype, range(len(lengths)), strict=True):
            alike.setdefault(key[:2], []).append(key[2])
        for (length, dtype), numbers in alike.items():
            some = _Clips(videos, np.array(numbers), starts[numbers], length, dtype, ahead, places[numbers])
            broken |= self._read_strange(some, out) if dtype is None else self._read_alike(some, out)
        self._find_endless(videos, starts, lengths, places, out, broken)
        return broken

    def _read_alike(self, some: _Clips, out: Tensor) -> dict[int, VideoError]:
        """As `read`, of clips of one length and kind, some videos at a time."""
        broken: dict[int, VideoError] = {}
        count, dim = out.shape[1:]
        row = dim * some.dtype.itemsize
        size = some.length * row
        run = min(max(_RUN // (count * size), 1), len(some.places))
        self._stored, stored = _room(self._stored, run * count * size)
        view = memoryview(stored)
        buffers = [view[first : first + size] for first in range(0, len(stored), size)]
        clips = torch.from_numpy(stored.view(some.dtype)).view(run * count, some.length, dim)
        gaps = row * (np.diff(some.starts) - some.length)
        near = (gaps >= 0).all(1) & (gaps.sum(1) <= _CALL * (count - 1)) & (2 * count <= _BUFFERS)
        self._skipped, skipped = _room(self._skipped, int(gaps[near].max(initial=0)))
        nowhere = {gap: memoryview(skipped)[:gap] for gap in np.unique(gaps[near]).tolist()}
        begin = some.videos.offset[some.numbers, None] + row * some.starts
        # Long lists and no short ones: a thousand lists would have Python look for garbage.
        between = [nowhere.get(gap) for gap in gaps.ravel().tolist()]
        where, near, total = begin.ravel().tolist(), near.tolist(), (begin[:, -1] - begin[:, 0] + size).tolist()
        for first in range(0, len(some.places), run):
            places = some.places[first : first + run]
            for at, number in enumerate(some.numbers[first : first + run].tolist(), first):
                k = (at - first) * count
                into = buffers[k : k + count] if some.ahead[number] else buffers[k : k + count][::-1]
                file = some.videos.file[number]
                try:
                    if near[at]:
                        scattered = into * 2
                        scattered.pop()
                        scattered[::2], scattered[1::2] = into, between[at * (count - 1) : (at + 1) * (count - 1)]
                        whole = os.preadv(file, scattered, where[at * count]) == total[at]
                    else:
                        whole = all(
                            os.preadv(file, [clip], place) == size
                            for clip, place in zip(into, where[at * count : (at + 1) * count], strict=True)
                        )
                except OSError:
                    whole = False
                if not whole:  # once more, to learn what is wrong
                    try:
                        found = some.videos.rows(number).read_clips(some.starts[at].tolist(), some.length)
                        for clip, rows in zip(into, found, strict=True):
                            clip[:] = memoryview(rows).cast("B")
                    except VideoError as error:
                        broken[number] = error
            self._average(clips[: len(places) * count], places, out)
        return broken

    def _average(self, clips: Tensor, places: np.ndarray, out: Tensor) -> None:
        """The means of clips ``[n x M, L, D]``, to their places."""
        length = clips.shape[1]
        if clips.dtype != torch.float32:
            if self._single.numel() < clips.numel():
                self._single = torch.empty(clips.numel())
            clips = self._single[: clips.numel()].view(clips.shape).copy_(clips)
        if length <= _FEW:
            total = clips[:, 0]
            for k in range(1, length):
                total += clips[:, k]
            clips = total.div_(length) if length > 1 else total
        else:  # a product with ones sums faster than anything else
            if self._ones.numel() < clips.shape[0] * length:
                self._ones = torch.ones(clips.shape[0] * length)
            ones = self._ones[: clips.shape[0] * length].view(-1, 1, length)
            clips = torch.bmm(ones, clips).div_(length)
        # NumPy copies rows, PyTorch one number after the other.
        out.numpy()[places] = clips.numpy().reshape(len(places), *out.shape[1:])

    def _read_strange(self, some: _Clips, out: Tensor) -> dict[int, VideoError]:
        """As `read`, of rows that lie in other ways, a video at a time."""
        broken: dict[int, VideoError] = {}
        for k, number in enumerate(some.numbers.tolist()):
            try:
                clips = some.videos.rows(number).read_clips(some.starts[k].tolist(), some.length)
            except VideoError as error:
                broken[number] = error
                continue
            clips = torch.from_numpy(as_float32(clips))
            self._average(clips if some.ahead[number] else clips.flip(0), some.places[k : k + 1], out)
        return broken

    def _find_endless(
        self,
        videos: OpenVideos,
        starts: np.ndarray,
        lengths: np.ndarray,
        places: np.ndarray,
        out: Tensor,
        broken: dict[int, VideoError],
    ) -> None:
        """Add those that hold NaN or infinity."""
        # Finite numbers may overflow in a sum, but others are never lost in it. What lies between the places may be
        # anything, which costs a second look.
        if math.isfinite(out[int(places.min()) : int(places.max()) + 1].sum()):
            return
        for number, place in enumerate(places.tolist()):
            if number in broken or math.isfinite(out[place].sum()):
                continue
            rows, length = videos.rows(number), int(lengths[number])
            try:
                for start in starts[number].tolist():
                    require_finite(rows.read(start, start + length), rows.path, start)
            except VideoError as error:
                broken[number] = error


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch in one thread: small products wait longer for a second one than they take."""
    count = torch.get_num_threads()
    if count == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _room(memory: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory of at least ``size`` bytes, and so many of it."""
    memory = memory if len(memory) >= size else np.empty(size, np.uint8)
    return memory, memory[:size]
