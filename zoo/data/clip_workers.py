"""Decoding many videos ahead of the network: each by one of several processes, its clips through shared memory.

A process has room for a few batches and waits while they are all in use, so memory is bounded by the number of
processes. One that dies (a damaged file can crash a decoder, and a machine can run out of memory) takes its video with
it and nothing else: the video counts as unreadable, and another process is started.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from zoo.data.ahead import ahead
from zoo.data.row_clips import row_clips
from zoo.errors import VideoError, ZooError
from zoo.spec import VideoSpec

_ROOM = 3  # batches of a process: one that is used, one that waits, one that is being made
_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
_READY = "ready"  # a process's first word
_SHARED = Path("/dev/shm")  # where Linux keeps shared memory

V = TypeVar("V")


@dataclass(frozen=True)
class Clips:
    """A batch of a video's clips with the rows that each stands for (`row_clips`); valid until the next event."""

    clips: Tensor
    repeats: Tensor


@dataclass(frozen=True)
class Whole:
    """A video has given all its clips."""


@dataclass(frozen=True)
class Unreadable:
    """A video cannot be decoded, and why; the clips that it gave are to be forgotten."""

    message: str


Event = Clips | Whole | Unreadable


def decode_all(
    videos: Iterator[tuple[V, str | PathLike[str]]], spec: VideoSpec, rate: float, batch: int, workers: int
) -> Generator[tuple[V, Event]]:
    """The clips of videos, as they are decoded; those of one video in order, several videos in turn.

    Args:
        videos: a name of any kind and a file each. The next one is asked for when a process has nothing to do.
        spec: what the model wants.
        rate: rows a second.
        batch: clips in a batch.
        workers: processes; with 0 a thread of this process decodes, one video after the other.

    Yields:
        The video's name, and a batch of its clips, that it is whole, or that it is unreadable.

    Raises:
        ZooError: there is no room in shared memory, or a process cannot be started.
    """
    if workers:
        yield from _in_processes(videos, spec, rate, batch, workers)
        return
    with closing(ahead(_in_turn(videos, spec, rate, batch))) as events:
        yield from events


def _in_turn(
    videos: Iterator[tuple[V, str | PathLike[str]]], spec: VideoSpec, rate: float, batch: int
) -> Generator[tuple[V, Event]]:
    for name, path in videos:
        try:
            for clips in row_clips(path, spec, rate, batch):
                yield name, Clips(*clips)
        except VideoError as error:
            yield name, Unreadable(str(error))
        else:
            yield name, Whole()


def _in_processes(
    videos: Iterator[tuple[V, str | PathLike[str]]], spec: VideoSpec, rate: float, batch: int, workers: int
) -> Generator[tuple[V, Event]]:
    _require_room(spec, batch, workers)
    crew: dict[int, _Worker] = {}  # started when there is something to do
    at: dict[int, V] = {}  # worker's place in the crew to the video that it is at
    try:
        idle, more = list(range(workers)), True
        while True:
            while idle and more:
                video = next(videos, None)
                if more := video is not None:
                    at[place := idle.pop()] = video[0]
                    if place in crew and not crew[place].is_alive():  # it died with nothing to do: no video's fault
                        crew.pop(place).end()
                    if place not in crew:
                        crew[place] = _Worker(spec, rate, batch)
                    crew[place].decode(video[1])
            if not at:
                return
            waited = {crew[place].ear: place for place in at} | {crew[place].pulse: place for place in at}
            for place in {waited[one]: None for one in wait(list(waited))}:
                name, message = at[place], crew[place].heard()
                if message == _READY:
                    continue
                if message is None:
                    why = crew.pop(place).end()
                    message = Unreadable(f"the process that decoded it {why}: the file is damaged, or memory ran out.")
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, tuple):
                    slot, repeats = message
                    yield name, Clips(crew[place].room[slot, : len(repeats)], torch.tensor(repeats))
                    crew[place].free(slot)
                else:
                    del at[place]
                    idle.append(place)
                    yield name, message
    finally:
        for worker in crew.values():
            worker.ear.close()  # all at once, so that they end together
        for worker in crew.values():
            worker.end()


class _Worker:
    """A process that decodes, as it is seen from the one that it decodes for.

    Attributes:
        ear: becomes readable when it has something to say.
        pulse: becomes readable when it has died.
        room: its batches, shared, ``[slots, batch, 3, T, S, S]``.
    """

    def __init__(self, spec: VideoSpec, rate: float, batch: int) -> None:
        # Not forked from this process: that would break the threads and the accelerator that it may hold.
        context = get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(["__main__", __name__])  # what takes seconds is done once for all of them
        self.ear, theirs = context.Pipe()
        shape = (_ROOM, batch, 3, spec.frames, spec.test_crop, spec.test_crop)
        self.room = torch.empty(shape, dtype=_kind(spec)).share_memory_()
        self._process = context.Process(target=_work, args=(theirs, self.room, spec, rate), daemon=True)
        self._process.start()
        theirs.close()
        self.pulse = self._process.sentinel
        self._started = False

    def decode(self, path: str | PathLike[str]) -> None:
        self._say(path)

    def free(self, slot: int) -> None:
        """The batch in this place is used."""
        self._say(slot)

    def heard(self) -> Any:
        """What it says next; None where it died without another word."""
        try:
            message = self.ear.recv()
            self._started = True
            return message
        except (EOFError, OSError):
            if not self._started:
                raise ZooError(
                    f"a process that decodes could not be started (it {self.end()}). A script that extracts features "
                    'wants its work below `if __name__ == "__main__":`; or decode without processes (workers=0, on '
                    "the command line --num-workers 0)."
                ) from None
            return None

    def is_alive(self) -> bool:
        return self._process.exitcode is None

    def end(self) -> str:
        """End the process, and say how it ended."""
        self.ear.close()
        if self._process.exitcode is None:
            self._process.join(0.5)
            self._process.terminate()
        self._process.join()
        code = self._process.exitcode
        return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"

    def _say(self, what: Any) -> None:
        with suppress(OSError):  # it has died, as `heard` will tell
            self.ear.send(what)


def _work(orders: Connection, room: Tensor, spec: VideoSpec, rate: float) -> None:
    """What the process does: video by video until there is nobody left to decode for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that holds this one
    torch.set_num_threads(1)  # the processes are the parallelism
    with suppress(EOFError, OSError):
        orders.send(_READY)
        free = list(range(len(room)))
        while True:
            while isinstance(order := orders.recv(), int):
                free.append(order)
            try:
                for clips, repeats in row_clips(order, spec, rate, room.shape[1]):
                    while not free:
                        free.append(orders.recv())
                    room[slot := free.pop(), : len(clips)] = clips
                    orders.send((slot, repeats.tolist()))  # a tensor would get shared memory of its own
                orders.send(Whole())
            except VideoError as error:
                orders.send(Unreadable(str(error)))
            except (EOFError, OSError):
                raise
            except Exception as error:
                orders.send(error)


def _kind(spec: VideoSpec) -> torch.dtype:
    """Of the pixels that `row_clips` gives."""
    return torch.float32 if spec.trajectory else torch.uint8


def _require_room(spec: VideoSpec, batch: int, workers: int) -> None:
    """Refuse batches that shared memory has no room for: writing there would end a process without a word."""
    each = _ROOM * batch * 3 * spec.frames * spec.test_crop**2 * _kind(spec).itemsize
    free = shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else None
    if free is not None and free < each * workers:
        raise ZooError(
            f"{workers} processes that decode want {each * workers / 2**20:.0f} MiB of shared memory, and {_SHARED} "
            f"has {free / 2**20:.0f} MiB left. Take fewer processes (--num-workers), smaller batches (--batch-size), "
            "or give a container more (docker run --shm-size)."
        )
