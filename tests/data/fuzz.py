"""Damage video files in seeded ways and read them: each gives frames or a `VideoError`, nothing else, and soon.

The reading runs in a process of its own, which a crash of FFmpeg cannot take the caller with, and which ends itself
with a traceback when one file takes too long. By hand, on any files: ``python -m tests.data.fuzz --count 200 FILE...``
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

SECONDS = 30  # for one file, before it counts as a hang


def _truncated(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(1, len(data))]


def _header_only(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(4, min(2000, len(data)))]


def _flipped(data: bytearray, rng: np.random.Generator) -> bytes:
    for at in rng.integers(0, len(data), rng.integers(1, 200)):
        data[at] ^= 1 << rng.integers(0, 8)
    return data


def _flipped_in_header(data: bytearray, rng: np.random.Generator) -> bytes:
    """A few bits near the start, the end, or an MP4's table of contents, wherever sizes and counts stand."""
    starts = [0, max(0, len(data) - 4000), max(0, data.find(b"moov"))]
    start = starts[rng.integers(0, len(starts))]
    for at in start + rng.integers(0, min(4000, len(data) - start), rng.integers(1, 30)):
        data[at] = rng.integers(0, 256)
    return data


def _counts_gone_mad(data: bytearray, rng: np.random.Generator) -> bytes:
    """Big numbers into the fields right behind the names of an MP4's, AVI's or Matroska's tables."""
    names = [b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stss", b"tkhd", b"avc1", b"mp4v", b"elst", b"mdhd"]
    names += [b"strh", b"strf", b"avih", b"idx1", b"moov", b"trak", b"\x16\x54\xae\x6b", b"\x1c\x53\xbb\x6b", b"GIF89a"]
    found = [at for at in (data.find(name) for name in names) if at >= 0]
    for at in rng.choice(found, min(2, len(found)), replace=False) if found else []:
        place = int(at) - 4 + int(rng.integers(0, 48))
        data[place : place + 4] = bytes(rng.choice([0, 127, 128, 255], 4).tolist())
    return data


def _zeroed(data: bytearray, rng: np.random.Generator) -> bytes:
    start = rng.integers(0, len(data))
    length = min(int(rng.integers(1, 5000)), len(data) - int(start))
    data[start : start + length] = bytes(length)
    return data


def _inserted(data: bytearray, rng: np.random.Generator) -> bytes:
    at = rng.integers(0, len(data))
    data[at:at] = rng.bytes(rng.integers(1, 1000))
    return data


def _cut_out(data: bytearray, rng: np.random.Generator) -> bytes:
    at = rng.integers(0, len(data))
    del data[at : at + rng.integers(1, 3000)]
    return data


def _shuffled(data: bytearray, rng: np.random.Generator) -> bytes:
    cut = len(data) // 8
    return b"".join(data[cut * i : cut * (i + 1)] for i in rng.permutation(8))


def _text(data: bytearray, rng: np.random.Generator) -> bytes:
    openings = [b"", b"#EXTM3U\n", b"ffconcat version 1.0\nfile other.mp4\n", b"[Script Info]\n", b"RIFF", b"<?xml?>\n"]
    return openings[rng.integers(0, len(openings))] + b"not a video\n" * rng.integers(1, 300)


def _noise(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(0, 64)] + rng.bytes(rng.integers(1, 20000))


DAMAGES = [
    _truncated,
    _header_only,
    _flipped,
    _flipped_in_header,
    _counts_gone_mad,
    _zeroed,
    _inserted,
    _cut_out,
    _shuffled,
    _text,
    _noise,
]


def damage(sources: list[Path], folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` damaged copies of the sources into a folder, each kind of damage in turn."""
    rng = np.random.default_rng(seed)
    copies = []
    for number in range(count):
        source, kind = sources[number % len(sources)], DAMAGES[number // len(sources) % len(DAMAGES)]
        copies.append(folder / f"{number:05}{kind.__name__}_{source.name}")
        copies[-1].write_bytes(kind(bytearray(source.read_bytes()), rng))
    return copies


def peak() -> int:
    """The most memory that this process has held so far, MiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def read_all(folder: Path) -> None:
    """Read every file of a folder, as a worker does: print one line each, ``outcome, seconds, MiB, name, message``."""
    from zoo.data.sampling import test_clips
    from zoo.data.video import VideoReader
    from zoo.errors import VideoError

    for path in sorted(folder.iterdir()):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        start, outcome, message = time.monotonic(), "frames", ""
        try:
            with VideoReader(path) as video:
                clip = test_clips(video.frames, 8, 3, 10)[7]
                assert video.info.frames == video.frames > 0
                assert video.read(clip, short_side=32).shape[0] == len(clip)
                assert video.read([0, video.frames - 1]).shape[1:3] == (video.info.height, video.info.width)
                assert sum(1 for _ in video.stream(size=(16, 16))) == video.frames
                assert len(video.times()) == video.frames
        except VideoError as error:
            outcome, message = "VideoError", str(error).replace("\n", " ").replace("\t", " ")
            if str(path) not in message:
                outcome = f"nameless {outcome}"
        except BaseException as error:
            outcome, message = type(error).__name__, " ".join(traceback.format_exc().split()[-60:])
        print(outcome, f"{time.monotonic() - start:.2f}", peak(), path.name, message, sep="\t", flush=True)
    faulthandler.cancel_dump_traceback_later()


def fuzz(sources: list[Path], folder: Path, count: int, seed: int) -> list[tuple[str, float, int, str, str]]:
    """Damage the sources and read the copies: a row for each, as `read_all` prints it, in order.

    A file that crashed or hung the reading process has the outcome ``"crash"`` with what the process said last; the
    reading goes on behind it in a new process.
    """
    rows: list[tuple[str, float, int, str, str]] = []
    left = damage(sources, folder, count, seed)
    while left:
        command = [sys.executable, "-m", "tests.data.fuzz", "--read", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        for line in done.stdout.splitlines():
            outcome, seconds, mebibytes, name, message = line.split("\t")
            rows.append((outcome, float(seconds), int(mebibytes), name, message))
            left.pop(0).unlink()
        if left:
            rows.append(("crash", SECONDS, 0, left.pop(0).name, done.stderr[-1500:]))
            (folder / rows[-1][3]).unlink()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_all(arguments.read)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            table = fuzz(arguments.files, Path(temporary), arguments.count, arguments.seed)
        for row in table:
            if row[0] not in {"frames", "VideoError"}:
                print(*row)
        print(dict(collections.Counter(row[0] for row in table)))
        print(f"slowest {max(table, key=lambda row: row[1])[1:4]}, most memory {max(row[2] for row in table)} MiB")
