"""How many samples an MP4 header claims, read apart from FFmpeg, which allocates whatever is claimed.

Box layout: ISO/IEC 14496-12, 4.2; sample sizes 8.7.3 (``stsz``, ``stz2``), track runs 8.8.8 (``trun``).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

# The way to the boxes that count samples, in a plain and in a fragmented file.
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
# Where the count stands behind a box's header.
_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}


def claimed_samples(file: BinaryIO, size: int) -> int:
    """The largest number of samples that one table claims to describe; 0 for anything but an MP4 or QuickTime file.

    Args:
        file: open for reading.
        size: of the file, bytes.
    """
    largest = 0
    ranges = [(0, size)]
    while ranges:
        start, end = ranges.pop()
        while start + 8 <= end:
            file.seek(start)
            header = file.read(20)
            length, kind, body = struct.unpack_from(">I", header)[0], header[4:8], 8
            if length == 1 and len(header) >= 16:  # the length follows in 64 bits
                length, body = struct.unpack_from(">Q", header, 8)[0], 16
            if length == 0:  # up to the end
                length = end - start
            if length < body:
                break
            if kind in _PARENTS:
                ranges.append((start + body, min(start + length, end)))
            elif kind in _COUNTS:
                file.seek(start + body + _COUNTS[kind])
                if len(count := file.read(4)) == 4:
                    largest = max(largest, struct.unpack(">I", count)[0])
            start += length
    return largest
