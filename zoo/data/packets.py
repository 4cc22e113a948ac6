"""Which packet shows which frame: a frame's exact number, known without decoding all that comes before it.

A container holds packets in decoding order; pictures leave the decoder in presentation order. Frame k of a video is
the k-th picture that leaves a decoder fed from the file's start. Two facts give that number away without decoding:

- whatever comes before a key frame in decoding order is also shown before it, so a key frame's place among the packets
  (read off the container's index, or counted) says how many pictures precede it;
- no packet is shown before the time it is decoded at, so once a packet is due for decoding later than another is
  shown, nothing that comes after can still be shown before that other one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import av

# Deepest reordering that any codec allows, with room to spare: bounds the look-ahead where decoding times are missing.
_LOOK_AHEAD = 64


class StampsContradict(Exception):
    """The time stamps do not fit together, so only decoding from the start can tell which frame is which."""


class Key(NamedTuple):
    """A packet that decoding can start at: how many pictures come before it, and its time stamp in stream units."""

    position: int
    stamp: int


@dataclass(frozen=True)
class PacketIndex:
    """What the packets of a stream say about its frames.

    Attributes:
        frames: pictures in the stream; None where packets and pictures need not be one to one.
        keys: where decoding can start, ascending; empty where the time stamps cannot be trusted.
        clock: the attribute of a packet that `Key.stamp` was taken from, ``"dts"`` or ``"pts"``.
        times: presentation times, ascending, in stream units; None where they were not read or cannot be trusted.
    """

    frames: int | None
    keys: tuple[Key, ...]
    clock: str
    times: tuple[int, ...] | None = None


def index_of_container(container: av.container.InputContainer, stream: av.VideoStream) -> PacketIndex | None:
    """The index that the file itself carries; None where it carries none that lists every packet.

    MP4 and QuickTime (unless fragmented) list every packet with its decoding time, AVI with its number.
    """
    is_avi = container.format.name == "avi"
    if not (is_avi or "mp4" in container.format.name) or not stream.frames:
        return None
    # Entries are views of FFmpeg's own table, which moves when packets are read: copy what is needed, now.
    position, keys, last = 0, [], 0
    for entry in stream.index_entries:
        last = entry.timestamp
        if entry.is_keyframe:
            keys.append(Key(position, last))
        position += not entry.is_discard  # cut away by an edit list: decoded, never shown
    if not keys or keys[0].position or not _ascending([key.stamp for key in keys]):
        return None
    if is_avi and last + 1 < stream.frames:  # its table was cut off; FFmpeg makes a new one while it reads
        return None
    return PacketIndex(position, tuple(keys), "dts")


def index_of_packets(packets: Iterable[av.Packet], clock: str) -> PacketIndex:
    """The index made by reading every packet of a freshly opened stream, decoding none.

    Args:
        packets: all of them, in the file's order.
        clock: the time stamp that the container is searched by, ``"dts"`` or ``"pts"``.
    """
    keys: list[Key] = []
    times: list[int] = []
    first = latest = None  # presentation times: of the first key frame, and the latest so far
    for packet in packets:
        if not packet.size or (first is None and not packet.is_keyframe):
            continue  # before the first key frame nothing can be decoded
        stamp, pts = getattr(packet, clock), packet.pts
        if pts is None:
            return PacketIndex(None, (), clock)
        if first is None:
            first = latest = pts
        # Only where everything before it is shown before it, does a key frame's place say how much that is.
        if packet.is_keyframe and pts >= latest and stamp is not None:
            keys.append(Key(len(times), stamp))
        latest = max(latest, pts)
        # Pictures that follow the first key frame but are shown before it refer to a past that the file lacks.
        if pts >= first and not packet.is_discard:
            times.append(pts)
    times.sort()
    if not _ascending(times) or not _ascending([key.stamp for key in keys]):
        return PacketIndex(None, (), clock)
    return PacketIndex(len(times), tuple(keys), clock, tuple(times))


def number_packets(
    packets: Iterable[av.Packet], position: int, first: int | None = None
) -> Iterator[tuple[av.Packet, int | None]]:
    """Pair packets in decoding order with the numbers of the frames that they show (None: they show none).

    Args:
        packets: a stream from a key frame on.
        position: that key frame's `Key.position`.
        first: when the video's first frame is shown, if known.

    Raises:
        StampsContradict: a packet arrives that should have been counted before.
    """
    waiting: deque[av.Packet] = deque()
    stamps: list[int] = []
    settled = None

    def is_shown(packet: av.Packet) -> bool:
        return not packet.is_discard and (first is None or packet.pts >= first)

    def settle() -> tuple[av.Packet, int | None]:
        nonlocal settled
        packet = waiting.popleft()
        settled = packet.pts if settled is None else max(settled, packet.pts)
        return packet, position + bisect_left(stamps, packet.pts) if is_shown(packet) else None

    for packet in packets:
        if packet.pts is None or (settled is not None and packet.pts <= settled):
            raise StampsContradict
        if is_shown(packet):
            insort(stamps, packet.pts)
        waiting.append(packet)
        while len(waiting) > _LOOK_AHEAD or (packet.dts is not None and packet.dts > waiting[0].pts):
            yield settle()
    while waiting:
        yield settle()


def _ascending(stamps: list[int]) -> bool:
    return all(a < b for a, b in pairwise(stamps))
