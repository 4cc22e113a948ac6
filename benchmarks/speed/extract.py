"""How fast `zoo extract` is, and where the time goes: decoding, the network, writing, and all of them together.

Makes a folder of videos (340 x 256, 30 frames a second, H.264 with x264's defaults, of uneven lengths) and measures

- decode: their clips through the processes that decode, thrown away;
- network: as many clips, which lie in memory, through the model;
- write: as many rows into as many files;
- extract: `zoo.extraction.extract_collection` into an empty folder;
- plain loop: row after row of a few videos in one process, which reads the row's clip out of the file, computes, goes
  on; what one writes without all this.

The slowest of the first three is what `extract` cannot be faster than. Decoding is timed from the first clips on and
extracting from the first whole video on: the start of the processes is seconds once, and is told apart.

    python benchmarks/speed/extract.py s3d_milnce --weights none --videos 96 --workers 16 --json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from decode import FPS, SECONDS, render

import zoo
from zoo.data.clip_workers import Clips, decode_all
from zoo.data.row_clips import RowFrames
from zoo.data.sampling import three_crops
from zoo.data.transforms import crop_view
from zoo.data.video import VideoReader, read_frames
from zoo.extraction import extract_collection
from zoo.feature_folder import FeatureFolder
from zoo.methods.base import ZooModule
from zoo.methods.extracting import Network
from zoo.reproduce.provenance import about, cores, device_name

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "extract.json"
RATE = 1.0  # rows a second
ONES = torch.ones(1, dtype=torch.int64)


def collection(folder: Path, videos: int, longest: int) -> tuple[list[Path], int]:
    """Videos of 10, 20, ... seconds, up to so many tens, and how many frames they have."""
    short = render(folder)["short"]
    (folder / "videos").mkdir()
    paths, frames = [], 0
    for number in range(videos):
        laps = 1 + number % longest
        paths.append(repeated(short, folder / "videos" / f"v{number:05}.mp4", laps))
        frames += laps * SECONDS * FPS
    return paths, frames


def repeated(source: Path, target: Path, laps: int) -> Path:
    """A file's packets so many times, one after the other."""
    out = av.open(str(target), "w")
    stream = None
    for lap in range(laps):
        with av.open(str(source)) as opened:
            old = opened.streams.video[0]
            stream = stream or out.add_stream_from_template(old)
            for packet in opened.demux(old):
                if packet.size:
                    packet.pts += lap * old.duration
                    packet.dts += lap * old.duration
                    packet.stream = stream
                    out.mux(packet)
    out.close()
    return target


def decode(paths: list[Path], model: ZooModule, batch: int, workers: int) -> tuple[float, float, int]:
    """Seconds until the first clips came, seconds after that, and clips after the first batch."""
    began, first, clips = time.perf_counter(), 0.0, 0
    for _, event in decode_all(((path, path) for path in paths), model.spec, RATE, batch, workers):
        if not first:
            first = time.perf_counter() - began
        elif isinstance(event, Clips):
            clips += len(event.clips)
    return first, time.perf_counter() - began - first, clips


@torch.no_grad()
def network(model: ZooModule, clips: int, batch: int) -> float:
    """Seconds of so many clips through the model, each batch brought from memory to where it is."""
    spec = model.spec
    pixels = torch.randint(0, 256, (batch, 3, spec.frames, spec.test_crop, spec.test_crop), dtype=torch.uint8)
    work = Network(model)
    for _ in range(2):
        work.rows(pixels, ONES.expand(batch)).cpu()
    began = time.perf_counter()
    for _ in range(-(-clips // batch)):
        rows = work.rows(pixels, ONES.expand(batch))
    rows.cpu()
    return time.perf_counter() - began


def write(model: ZooModule, folder: Path, lengths: Iterable[int], dim: int) -> float:
    """Seconds of writing so many files of so many rows."""
    features = FeatureFolder.of(folder, model, RATE, "float16", dim)
    rows = [torch.rand(length, dim) for length in lengths]
    began = time.perf_counter()
    for number, one in enumerate(rows):
        features.write(f"v{number}", one)
    return time.perf_counter() - began


@torch.no_grad()
def plain_loop(paths: list[Path], model: ZooModule) -> tuple[float, int]:
    """Seconds and rows of a loop over the rows of videos that knows nothing of its neighbours."""
    spec, count = model.spec, 0
    began = time.perf_counter()
    for path in paths:
        with VideoReader(path) as video:
            rows = RowFrames(video, path, spec, RATE)
            table = rows.of(0, rows.count)
        for numbers in table:
            frames = read_frames(path, numbers, short_side=spec.test_short_side, size=spec.size)
            clip = crop_view(frames, three_crops(*frames.shape[1:3], spec.test_crop, 1)[0], spec.test_crop)
            model.features(clip[None].to(model.device)).cpu()
        count += len(table)
    return time.perf_counter() - began, count


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each stage."""
    model = zoo.load(options.model, weights=options.weights).to(options.device)
    paths, frames = collection(folder, options.videos, options.longest)
    seconds = frames / FPS
    clips = round(seconds * RATE)
    black = torch.zeros(1, *model.input_shape(model.spec.test_crop), dtype=torch.uint8)
    dim = Network(model).rows(black, ONES).shape[1]

    def row(stage: str, taken: float, done: float, **more: Any) -> dict[str, Any]:
        """``done`` is the part of all clips that was done in that time."""
        rate = done * clips / taken
        return {
            "stage": stage,
            "seconds": round(taken, 3),
            "clips_per_second": round(rate, 2),
            "frames_per_second": round(rate * frames / clips, 1),
            "videos_per_hour": round(3600 * rate * len(paths) / clips),
            **more,
        }

    def timed(work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    start, taken, done = decode(paths, model, options.batch, options.workers)
    yield row("decode", taken, done / clips, start_seconds=round(start, 2))
    yield row("network", network(model, clips, options.batch), 1.0)
    yield row(
        "write",
        write(model, folder / "written", ((1 + n % options.longest) * SECONDS for n in range(len(paths))), dim),
        1.0,
    )
    how: dict[str, Any] = {"batch_size": options.batch, "workers": options.workers}
    accelerator = "gpu" if options.device.startswith("cuda") else "cpu"
    seen: list[tuple[float, int]] = []
    how["progress"] = lambda done, total: seen.append((time.perf_counter(), done))
    whole = timed(lambda: extract_collection(model, paths[0].parent, folder / "out", accelerator=accelerator, **how))
    seen = [place for place in seen if place[1]]
    taken, done = seen[-1][0] - seen[0][0], (seen[-1][1] - seen[0][1]) / len(paths)
    again = timed(lambda: extract_collection(model, paths[0].parent, folder / "out", accelerator=accelerator, **how))
    assert len(np.load(folder / "out" / "v00000.npy")) == SECONDS
    yield row("extract", taken, done, with_start_seconds=round(whole, 3), nothing_to_do_seconds=round(again, 3))
    few = paths[: options.plain]
    taken, done = plain_loop(few, model.to(options.device))
    yield row("plain loop", taken, done / clips, videos=len(few))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--weights", help="of the model; none times fresh ones, which take as long")
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--longest", type=int, default=6, help="tens of seconds of the longest video")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=max(1, cores() - 1))
    parser.add_argument("--plain", type=int, default=2, help="videos that the plain loop gets")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, nargs="?", const=RESULTS, help="also write the numbers there")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(options, Path(folder)):
            rows.append(row)
            print(" | ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.json:
        given = {name: getattr(options, name) for name in ("model", "videos", "longest", "batch", "workers")}
        device = device_name(torch.device(options.device))
        text = json.dumps({"about": {**about(), "device": device, **given}, "rows": rows}, indent=1)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
