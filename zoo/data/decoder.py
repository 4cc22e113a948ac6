"""The frames of one video stream by number, and no more decoding than they need.

Reading seeks to the key frame before a wanted frame, decodes up to it and no further, and leaves out pictures that no
other depends on. Where the file's time stamps contradict what the decoder gives, it decodes from the start and counts:
slower, never wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TypeVar

import av

from zoo.data.opening import DECODING_ERRORS, broken, check_claim, check_file, explained, open_video
from zoo.data.packets import Key, PacketIndex, StampsContradict, index_of_container, index_of_packets, number_packets
from zoo.errors import VideoError

_JUMP = 8  # frames up to the next key frame from which on a seek is cheaper than decoding through
_PATIENCE = 1000  # packets fed in a row without a picture coming out
# Decoders that leave out pictures which no other refers to when told so, without a change to any other picture.
_SKIPPING = {"h264", "mpeg4"}

T = TypeVar("T")


class Decoder:
    """The frames of a file's video stream; `close` it after use.

    Args:
        path: the file.
        threads: decoder threads.

    Attributes:
        container: PyAV's.
        stream: PyAV's.
        stored_size: ``(height, width)`` of the pictures as they are stored.

    Raises:
        VideoError: the file cannot be opened as video; so do all methods when the file turns out to be broken.
    """

    container: av.container.InputContainer
    stream: av.VideoStream

    def __init__(self, path: str | PathLike[str], threads: int) -> None:
        self.path = Path(path)
        self.threads = threads
        self._user = 0  # whose turn it is to read packets; who finds it changed must not go on
        self._fruitless = 0
        check_file(self.path)
        with explained(self.path, "it does not open as a video"):
            self._open()
        self.stored_size = self.stream.codec_context.height, self.stream.codec_context.width

    def close(self) -> None:
        """Close the file."""
        self._user += 1
        self.container.close()

    @property
    def frames(self) -> int:
        """Pictures in the stream, exactly."""
        return self._index.frames

    def stamps(self) -> tuple[int, ...] | None:
        """The presentation time of every frame in stream units; None where the file does not tell."""
        if self._index.times is None and self._index.keys:
            self._user += 1
            with explained(self.path, "its time stamps cannot be read"):
                stamps = self._read_all_packets().times
            return stamps if stamps and len(stamps) == self.frames else None
        return self._index.times

    def pictures(self, wanted: Sequence[int], use: Callable[[av.VideoFrame], T]) -> Iterator[T]:
        """``use(frame)`` for each frame number in ``wanted``, which ascends strictly."""
        if outside := [number for number in (*wanted[:1], *wanted[-1:]) if not 0 <= number < self.frames]:
            raise VideoError(
                f"{self.path} has {self.frames} frames, numbered from 0; there is no frame {outside[0]}. "
                "Ask for fewer, or fetch the whole video."
            )
        self._user = user = self._user + 1
        served = 0
        try:
            for frame in self._in_order(wanted):
                yield use(frame)
                # FFmpeg crashes where reading goes on in a closed file, and an open one has a single place to read at.
                if user != self._user:
                    raise VideoError(f"{self.path} was closed or read elsewhere in between; read it in one go.")
                served += 1
                if served == len(wanted):
                    return
        except DECODING_ERRORS as error:
            raise broken(self.path, f"it breaks at frame {wanted[served]} of {self.frames}", error) from error
        if served < len(wanted):
            raise broken(self.path, f"it breaks off before frame {wanted[served]} of {self.frames}")

    # The index

    @cached_property
    def _index(self) -> PacketIndex:
        with explained(self.path, "its packets cannot be read"):
            entries = len(self.stream.index_entries)
            check_claim(self.path, entries)
            index = index_of_container(self.container, self.stream)
            if index is None or not self._starts_whole(index):
                index = self._read_all_packets()
            if not self._is_searchable(entries):
                index = replace(index, keys=(), times=None)
            if index.frames is None:
                index = replace(index, frames=sum(1 for _ in self._from_start()))
        if not index.frames:
            raise broken(self.path, "it shows no picture")
        return index

    def _is_searchable(self, entries: int) -> bool:
        """Whether frames can be found by their time stamps."""
        if self.container.format.name == "avi":
            # It stores no presentation times, and what FFmpeg guesses for reordered pictures is often wrong.
            return not self.stream.codec_context.has_b_frames
        # An MP4's table can claim to be longer than its list of times; FFmpeg's search in it takes forever.
        return not 0 < self.stream.frames < entries

    def _starts_whole(self, index: PacketIndex) -> bool:
        """Whether the first packet shows the first frame: not so where a video was cut out of the middle of another."""
        if not self.stream.codec_context.has_b_frames or not index.keys:
            return True
        try:
            first = next(number_packets(self._packets(), 0), None)
        except StampsContradict:
            return False
        return first is not None and not first[1]

    def _read_all_packets(self) -> PacketIndex:
        if not self._at_start:
            self._open()
        clock = "pts" if "matroska" in self.container.format.name else "dts"
        return index_of_packets(self._packets(), clock)

    # Decoding

    def _in_order(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """The wanted frames, as many of them as there are."""
        served = 0
        with suppress(StampsContradict):
            for number, frame in self._by_seeking(wanted):
                if number != wanted[served]:
                    break  # the decoder gave another picture than the stamps promised
                served += 1
                yield frame
        if left := set(wanted[served:]):
            yield from (frame for number, frame in enumerate(self._from_start()) if number in left)

    def _by_seeking(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """The wanted frames with their numbers, decoded from the key frames before them."""
        keys, at = self._index.keys, 0
        while keys and at < len(wanted):
            end = at + 1
            while end < len(wanted) and keys[_key_before(keys, wanted[end])].position - wanted[end - 1] <= _JUMP:
                end += 1
            yield from self._decode(self._packets_for(wanted[at]), set(wanted[at:end]))
            at = end

    def _packets_for(self, number: int) -> Iterator[tuple[av.Packet, int | None]]:
        """Numbered packets, from a key frame on that frame ``number`` can be decoded from."""
        keys, times = self._index.keys, self._index.times
        nearest = _key_before(keys, number)
        # Pictures that follow a key frame but are shown before it are decoded from the key frame before.
        for key in keys[nearest::-1][:3]:
            packets = number_packets(self._packets_from(key), key.position, times and times[0])
            first = next(packets, None)
            if first and (first[1] is None or first[1] <= number):
                return chain([first], packets)
        raise StampsContradict

    def _packets_from(self, key: Key) -> Iterator[av.Packet]:
        if not (self._at_start and key == self._index.keys[0]):
            try:
                self.container.seek(key.stamp, stream=self.stream)
            except av.FFmpegError:
                raise StampsContradict from None
        reached = False
        for packet in self._packets():
            if not reached:
                stamp = getattr(packet, self._index.clock)
                if stamp is None or stamp > key.stamp:
                    raise StampsContradict
                reached = stamp == key.stamp and packet.is_keyframe
            if reached:
                yield packet

    def _decode(
        self, packets: Iterable[tuple[av.Packet, int | None]], todo: set[int]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        context = self.stream.codec_context
        numbers: dict[int, int] = {}
        for packet, number in packets:
            if needed := number in todo:
                todo.remove(number)
                numbers[packet.pts] = number
            if context.name in _SKIPPING:
                context.skip_frame = "DEFAULT" if needed else "NONREF"
            for frame in self._feed(packet):
                if frame.pts in numbers:
                    yield numbers.pop(frame.pts), frame
            if not todo:
                break
        for frame in context.decode(None):
            if frame.pts in numbers:
                yield numbers.pop(frame.pts), frame

    def _from_start(self) -> Iterator[av.VideoFrame]:
        """Every frame, by decoding the whole file."""
        self._open()
        for packet in self._packets():
            yield from self._feed(packet)
        yield from self.stream.codec_context.decode(None)

    # The file

    def _open(self) -> None:
        """Open the file, or open it once more to stand at its start."""
        if "container" in vars(self):
            self.container.close()
        self.container, self.stream = open_video(self.path, self.threads)
        self._at_start = True

    def _packets(self) -> Iterator[av.Packet]:
        self._at_start = False
        for packet in self.container.demux(self.stream):
            if packet.size:  # an empty one would tell the decoder that the stream has ended
                yield packet

    def _feed(self, packet: av.Packet) -> list[av.VideoFrame]:
        frames = self.stream.codec_context.decode(packet)
        self._fruitless = 0 if frames else self._fruitless + 1
        if self._fruitless > _PATIENCE:
            raise broken(self.path, f"no picture came out of {_PATIENCE} packets in a row")
        return frames


def _key_before(keys: Sequence[Key], number: int) -> int:
    return bisect_right(keys, number, key=lambda key: key.position) - 1
