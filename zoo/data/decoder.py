"""One video stream of one file, opened without trust, and its frames by number.

Reading seeks to the key frame before a wanted frame, decodes up to it and no further, and leaves out pictures that no
other depends on. Where the file's time stamps contradict what the decoder gives, it decodes from the start and counts:
slower, never wrong.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TypeVar

import av
from av.stream import Discard, Disposition

from zoo.data.mp4 import claimed_samples
from zoo.data.packets import Key, PacketIndex, StampsContradict, index_of_container, index_of_packets, number_packets
from zoo.errors import VideoError

# Real containers only: FFmpeg would otherwise render a text file as a picture, or follow a playlist to other files.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,flv,ogg,asf,ivf,h264,hevc"
_MAX_PIXELS = 1 << 25  # 8K: a header that claims more is damaged
_PATIENCE = 1000  # packets fed in a row without a picture coming out
_JUMP = 8  # frames to the next key frame from which on a seek is cheaper than decoding through
# Decoders that leave out pictures which no other refers to when told so, without a change to any other picture.
_SKIPPING = {"h264", "mpeg4"}
_REMEDY = "Fetch it again, or re-encode it with `ffmpeg -i FILE -c:v libx264 NEW.mp4`."
# What hostile bytes cause: FFmpeg's own errors, and what PyAV's bindings stumble over.
_DECODING_ERRORS = (
    av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError,
)  # fmt: skip

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

    container: av.container.InputContainer | None = None
    stream: av.VideoStream
    stored_size: tuple[int, int]

    def __init__(self, path: str | PathLike[str], threads: int) -> None:
        self.path = Path(path)
        self.threads = threads
        self._user = 0  # whose turn it is to read packets: counts the calls of `pictures`
        self._fruitless = 0
        self._check_file()
        try:
            with self._explained("it does not open as a video"):
                self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._user += 1
        if self.container:
            self.container.close()

    @property
    def frames(self) -> int:
        """Pictures in the stream, exactly."""
        return self._index.frames

    def stamps(self) -> tuple[int, ...] | None:
        """The presentation time of every frame in stream units; None where the file does not tell."""
        if self._index.times is None and self._index.keys:
            with self._explained("its time stamps cannot be read"):
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
        self._user += 1
        served = 0
        try:
            for frame in self._in_order(wanted):
                yield use(frame)
                served += 1
                if served == len(wanted):
                    return
        except _DECODING_ERRORS as error:
            raise self._broken(f"it breaks at frame {wanted[served]} of {self.frames}", error) from error
        if served < len(wanted):
            raise self._broken(f"it breaks off before frame {wanted[served]} of {self.frames}")

    def check_size(self, height: int, width: int) -> None:
        """Refuse pictures of no size or of an absurd one, before memory is spent on them."""
        if not (height > 0 and width > 0 and height * width <= _MAX_PIXELS):
            raise VideoError(
                f"{self.path}: pictures of {width} x {height} pixels are not decoded (1 to {_MAX_PIXELS} pixels are): "
                f"the header is damaged, or the size asked for is. {_REMEDY}"
            )

    # Opening

    def _check_file(self) -> None:
        try:
            status = self.path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise VideoError(f"{self.path} is a folder; give one of the video files in it.")
            if not stat.S_ISREG(status.st_mode):
                raise VideoError(f"{self.path} is a device or a pipe; save the video to a file first.")
            if not status.st_size:
                raise VideoError(f"{self.path} is empty (0 bytes). {_REMEDY}")
            with self.path.open("rb") as file:
                self._check_claim(claimed_samples(file, status.st_size))
        except FileNotFoundError:
            raise VideoError(f"there is no file {self.path}; check the name and the folder.") from None
        except PermissionError:
            raise VideoError(f"{self.path} may not be read by this user; change its permissions.") from None
        except (OSError, ValueError) as error:
            raise VideoError(f"{self.path} cannot be opened ({error}); check the name and the disk.") from error

    def _check_claim(self, frames: int) -> None:
        """Refuse a header that claims what cannot be, before FFmpeg allocates or reads it."""
        if frames > self.path.stat().st_size:
            raise self._broken(f"it claims {frames} frames, more than it has bytes")

    def _open(self) -> None:
        """Open the file, or open it once more to stand at its start."""
        if self.container:
            self.container.close()
        self.container = av.open(
            str(self.path.absolute()),  # absolute: no file's name can be taken for a network address
            metadata_errors="replace",
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_pixels": str(_MAX_PIXELS)},
        )
        self._at_start = True
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in self.container.streams})) or "nothing"
            raise VideoError(f"{self.path} has no video stream (it holds: {kinds}); give a file with moving pictures.")
        self.stream = streams[0]
        for stream in self.container.streams:
            if stream is not self.stream:
                stream.discard = Discard.all
        context = self.stream.codec_context
        if context is None:
            raise VideoError(f"{self.path} is coded in a way that no decoder here knows. {_REMEDY}")
        self.stored_size = context.height, context.width
        self.check_size(*self.stored_size)
        context.options = {"max_pixels": str(_MAX_PIXELS)}
        # Not frame threads: those have deadlocked under readers that stop before the end, as this one does.
        context.thread_type = "SLICE"
        context.thread_count = self.threads

    @cached_property
    def _index(self) -> PacketIndex:
        with self._explained("its packets cannot be read"):
            table = len(self.stream.index_entries)
            self._check_claim(table)
            index = index_of_container(self.container, self.stream)
            if index is None or not self._starts_whole(index):
                index = self._read_all_packets()
            if "mp4" in self.container.format.name and 0 < self.stream.frames < table:
                # A table longer than its list of times: FFmpeg's search in it may never end, so it is not asked to.
                index = replace(index, keys=())
            if index.frames is None:
                index = replace(index, frames=sum(1 for _ in self._from_start()))
        if not index.frames:
            raise self._broken("it shows no picture")
        return index

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

    def _packets(self) -> Iterator[av.Packet]:
        user, self._at_start = self._user, False
        for packet in self.container.demux(self.stream):
            if packet.size:  # an empty one would tell the decoder that the stream has ended
                yield packet
                # FFmpeg crashes where reading goes on in a closed file, and the place in an open one is shared.
                if user != self._user:
                    raise VideoError(f"{self.path} was closed or read elsewhere in between; read it in one go.")

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

    def _feed(self, packet: av.Packet) -> list[av.VideoFrame]:
        frames = self.stream.codec_context.decode(packet)
        self._fruitless = 0 if frames else self._fruitless + 1
        if self._fruitless > _PATIENCE:
            raise self._broken(f"no picture came out of {_PATIENCE} packets in a row")
        return frames

    # Errors

    def _broken(self, what: str, error: BaseException | None = None) -> VideoError:
        reason = f" ({getattr(error, 'strerror', None) or error or type(error).__name__})" if error else ""
        return VideoError(f"{self.path}: {what}{reason}. {_REMEDY}")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except _DECODING_ERRORS as error:
            raise self._broken(what, error) from error


def _key_before(keys: Sequence[Key], number: int) -> int:
    return bisect_right(keys, number, key=lambda key: key.position) - 1
