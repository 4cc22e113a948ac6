"""How long it takes to get one clip out of a video file: 32 frames at stride 2, from a short and from a long file.

Renders a 10-second file (340 x 256, 30 frames a second, H.264 with x264's defaults: B-frames, key frames up to 250
apart) and a 10-minute one that repeats its packets, so that the same clip costs the same decoding in both. Each
repetition draws a start and has every contender open the file, read the clip as RGB, and close it, with one thread:

- zoo: `zoo.data.video.read_frames`;
- pyav from start: PyAV decoding from the first frame on, with one shared reformatter;
- torchcodec exact and approximate: its two seek modes, where it is installed and finds FFmpeg.

Times are medians of the alternating repetitions; CPU time beside wall time tells how far a busy machine disturbed them.

    python benchmarks/speed/decode.py --repeats 40 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from zoo.data.video import read_frames

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "decode.json"
SECONDS, FPS, HEIGHT, WIDTH = 10, 30, 256, 340
FRAMES, STRIDE = 32, 2
LONGER = 60  # the long file is so many times the short one


def scenes() -> Iterator[np.ndarray]:
    """A camera drifting over a textured ground, something moving across it, and a sensor's noise."""
    rng = np.random.default_rng(0)
    seeds = av.VideoFrame.from_ndarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), format="rgb24")
    ground = seeds.reformat(width=600, height=420, interpolation="BICUBIC").to_ndarray(format="rgb24")
    sprite = ground[100:190, 200:320][::-1]
    noise = rng.normal(0, 4, (8, HEIGHT, WIDTH, 1))
    for t in range(SECONDS * FPS):
        top, left = int(70 + 50 * np.cos(t / 55)), int(100 + 80 * np.sin(t / 40))
        picture = ground[top : top + HEIGHT, left : left + WIDTH].astype(float)
        y, x = int(80 + 60 * np.sin(t / 9)), int(110 + 90 * np.cos(t / 13))
        picture[y : y + 90, x : x + 120] = sprite
        yield np.clip(picture + noise[t % 8], 0, 255).astype(np.uint8)


def render(folder: Path) -> dict[str, Path]:
    """The short and the long file."""
    short, long = folder / "short.mp4", folder / "long.mp4"
    with av.open(str(short), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(scenes()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for lap in range(LONGER):
        with av.open(str(short)) as source:
            old = source.streams.video[0]
            if lap == 0:
                out = av.open(str(long), "w")
                stream = out.add_stream_from_template(old)
            for packet in source.demux(old):
                if packet.size:
                    packet.pts += lap * old.duration
                    packet.dts += lap * old.duration
                    packet.stream = stream
                    out.mux(packet)
    out.close()
    return {"short": short, "long": long}


def pyav_from_start(path: Path, indices: list[int]) -> np.ndarray:
    """The plain loop that most loaders hold."""
    wanted, pictures, reformatter = set(indices), [], VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                pictures.append(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
            if number == indices[-1]:
                break
    return np.stack(pictures)


def torchcodec_reader(mode: str, path: Path) -> Callable[[Path, list[int]], np.ndarray] | None:
    """torchcodec in a seek mode; None where it is not installed or has no FFmpeg to work with."""
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(str(path))
    except (ImportError, RuntimeError, OSError):
        return None

    def read(path: Path, indices: list[int]) -> np.ndarray:
        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
        return decoder.get_frames_at(indices).data.numpy()

    return read


def torchcodec_version() -> str | None:
    """Of the torchcodec that took part, if one is installed."""
    try:
        return metadata.version("torchcodec")
    except metadata.PackageNotFoundError:
        return None


def measure(files: dict[str, Path], repeats: int, from_start: int) -> list[dict[str, Any]]:
    """A row for each file and contender; the loop from the start runs on the long file ``from_start`` times only."""
    contenders: dict[str, Callable[[Path, list[int]], np.ndarray] | None] = {
        "zoo": read_frames,
        "pyav from start": pyav_from_start,
        "torchcodec exact": torchcodec_reader("exact", files["short"]),
        "torchcodec approximate": torchcodec_reader("approximate", files["short"]),
    }
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    rng = np.random.default_rng(0)
    span = FRAMES * STRIDE
    for repeat in range(repeats + 1):
        start, lap = int(rng.integers(0, SECONDS * FPS - span)), int(rng.integers(0, LONGER))
        pictures = {}
        for kind, path in files.items():
            first = start + (lap * SECONDS * FPS if kind == "long" else 0)
            indices = list(range(first, first + span, STRIDE))
            for name, read in contenders.items():
                if read is None or (name == "pyav from start" and kind == "long" and repeat > from_start):
                    continue
                wall, cpu = time.perf_counter(), time.process_time()
                pictures[kind, name] = read(path, indices)
                spent = time.perf_counter() - wall, time.process_time() - cpu
                if repeat:  # the first round warms caches
                    taken.setdefault((kind, name), []).append(spent)
        reference = pictures["short", "zoo"]
        for pixels in pictures.values():  # all read the same frames, to a rounding of colours
            assert np.abs(pixels.astype(int) - reference).mean() < 2
    return [
        {
            "file": kind,
            "contender": name,
            "repeats": len(spent),
            "milliseconds": 1e3 * statistics.median(wall for wall, _ in spent),
            "cpu_milliseconds": 1e3 * statistics.median(cpu for _, cpu in spent),
        }
        for (kind, name), spent in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--from-start", type=int, default=2, help="repetitions of the loop over the long file")
    parser.add_argument("--json", nargs="?", const=RESULTS, type=Path, help=f"also write here (default {RESULTS.name})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = render(Path(folder))
        sizes = {kind: path.stat().st_size for kind, path in files.items()}
        rows = measure(files, options.repeats, options.from_start)
    zoo = {row["file"]: row for row in rows if row["contender"] == "zoo"}
    print(f"{'file':<8}{'contender':<26}{'ms':>9}{'CPU ms':>9}{'ratio':>8}{'CPU':>8}   (ratios: contender / zoo)")
    for row in rows:
        wall, cpu = (row[unit] / zoo[row["file"]][unit] for unit in ("milliseconds", "cpu_milliseconds"))
        print(
            f"{row['file']:<8}{row['contender']:<26}{row['milliseconds']:>9.1f}{row['cpu_milliseconds']:>9.1f}"
            f"{wall:>8.2f}{cpu:>8.2f}"
        )
    ratio, cpu_ratio = (zoo["long"][unit] / zoo["short"][unit] for unit in ("milliseconds", "cpu_milliseconds"))
    print(f"zoo: the long file takes {ratio:.2f} times what the short one takes (CPU time: {cpu_ratio:.2f})")
    if options.json:
        about = {
            "date": date.today().isoformat(),
            "av": av.__version__,
            "torchcodec": torchcodec_version(),
            "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
            "device": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "bytes": sizes,
            "long_over_short": ratio,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
