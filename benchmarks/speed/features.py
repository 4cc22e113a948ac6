"""Clips of features a second, from packed shards and from loose files, beside the step of the model that they feed.

A batch is of 1024 videos, 5 clips each, 1024 numbers a row, half precision on the disk; files are in the page cache. At
a row a second and videos of some 6 minutes a clip is the mean of some 15 rows. Times are of the processor, which a busy
machine changes less than those on the clock, but for loaders with processes.

- packed, pooled, loose: batches as the datamodule serves them in one process; pooled: packed at fewer rows a second;
- ..., workers: the same from a loader with so many, on the clock, and what the training process spends on a batch;
- fit: pooled batches from such a loader and the step, on the clock;
- litdata: the clips of packed by the packing library's own `read_window`, one at a time (equal: checked);
- records: whole records by its `StreamingDataset`, which then have to be cut;
- numpy: the same clips out of loose files by `numpy.load` with memory mapping (equal: checked);
- step: forward, backward and Adam of the model on such a batch;
- parts: where a batch's time goes, by leaving steps out; and the library's reading alone;
- start: seconds until the first list of records of a datamodule with a csv of a million lines and an index as long.

Peers take part of a batch, and their rates are extrapolated.

    OMP_NUM_THREADS=1 python benchmarks/speed/features.py --videos 2048 --repeats 15 --json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

import zoo
from zoo.data.batch_memory import BatchMemory
from zoo.data.clip_means import ClipMeans
from zoo.data.feature_index import write_index
from zoo.data.feature_shards import pack
from zoo.data.howto100m import CSV, HowTo100MFeatures
from zoo.data.order_sampling import OrderSamples, as_is, draw_clips, uniform
from zoo.methods.actionness import order_loss
from zoo.spec import FeatureSpec, VideoSpec

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "features.json"
DIM, CLIPS = 1024, 5
SPEC = VideoSpec(features=FeatureSpec(dim=DIM, clips=CLIPS))


def render(folder: Path, videos: int) -> None:
    """Videos of 200 to 600 rows; their rows are pieces of one sequence."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = torch.rand(4000, DIM, generator=torch.Generator().manual_seed(0)).half().numpy()
    for number in range(videos):
        count = int(draw.integers(200, 600))
        first = int(draw.integers(len(rows) - count))
        np.save(folder / f"v{number:010d}.npy", rows[first : first + count])


def samples_of(root: Path) -> OrderSamples:
    return HowTo100MFeatures(root, SPEC, val_share=0)._training_data()


def timed(contenders: dict[str, Callable[[int], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of the processor of each, taken in turns; every call gets another number."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for function in contenders.values():
        function(0)
    for number in range(1, repeats + 1):
        for name, function in contenders.items():
            start = time.process_time()
            function(number)
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def through_workers(
    data: OrderSamples, batch: int, workers: int, batches: int, step: Callable[[Any], None] | None = None
) -> tuple[float, float]:
    """Seconds for a batch of a loader with processes, once they run: on the clock, and of this process."""
    samples = [(k % len(data), k // len(data)) for k in range(batch * (batches + 3 * workers))]
    loader = iter(DataLoader(data, batch, sampler=samples, num_workers=workers, collate_fn=as_is))
    for _ in range(3 * workers):  # the first ones that each has in store
        next(loader)
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(batches):
        found = next(loader)
        if step:
            step(found)
    return (time.perf_counter() - start) / batches, (time.process_time() - busy) / batches


def training_step(batch: int) -> Callable[[Any], None]:
    """Loss, gradients and Adam of the model on a batch, or always on the same one."""
    model = zoo.create("actionness")
    optimiser = model.configure_optimizers()["optimizer"]
    same = {"features": torch.rand(batch, CLIPS, DIM), "label": torch.arange(batch) % 2}

    def step(found: Any) -> None:
        found = found if isinstance(found, dict) else same
        optimiser.zero_grad()
        order_loss(model.order_scores(found["features"]), found["label"]).backward()
        optimiser.step()

    return step


class Read(ClipMeans):
    """Clips that are read, and no more."""

    def _average(self, clips: torch.Tensor, places: np.ndarray, out: torch.Tensor) -> None:
        pass

    def _find_endless(self, *_: Any) -> None:
        pass


class Averaged(ClipMeans):
    """Means of which nobody looks whether they are finite."""

    def _find_endless(self, *_: Any) -> None:
        pass


def cut_short(samples: OrderSamples, means: type[ClipMeans]) -> OrderSamples:
    other = copy.copy(samples)
    other._means, other._memory = means(), BatchMemory()
    return other


def clips_of(samples: OrderSamples, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of videos, their clips' first rows, and rows in a clip, as a batch of an epoch has them."""
    numbers = np.arange(count)
    videos = samples.draw_videos(numbers, epoch)
    rows = samples.videos.packed.rows[samples.videos.places[videos]]
    chance = uniform(samples.seed, epoch, numbers, 1, CLIPS + 1)
    return videos, *draw_clips(rows, samples.rate, samples.spec, chance)


def start_up(folder: Path, videos: int) -> float:
    """Seconds to know which of a million videos are trained on; nothing of them but lists is there."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", np.uint8)
    draw = np.random.default_rng(0)
    ids = letters[draw.integers(0, 64, (videos, 11))].view("S11")[:, 0]
    (folder / "features").mkdir(parents=True)
    write_index(folder / "features", ids[: videos * 9 // 10], draw.integers(60, 1500, videos * 9 // 10))
    with open(folder / CSV, "w", encoding="utf-8") as file:
        file.write("video_id,category_1,category_2,rank,task_id\n")
        group = draw.integers(0, 130, videos).tolist()
        file.writelines(
            f"{name},Category {g % 12} & Co,Subcategory {g},{k % 200},{k // 50}\n"
            for k, (name, g) in enumerate(zip(ids.astype(str).tolist(), group, strict=True))
        )
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = HowTo100MFeatures(folder, SPEC)
        data.setup("fit")
    seconds = time.process_time() - start
    assert len(data.records("train")) > 0.8 * videos
    next(iter(data.train_dataloader().sampler))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--peers", type=int, default=64, help="videos that peers read of a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help="of loaders with processes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--listed", type=int, default=1_000_000, help="lines of the csv")
    parser.add_argument("--rate", type=float, default=0.1, help="rows a second of the pooled features")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}")
    a = parser.parse_args()
    import litdata

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loose, packed = folder / "loose", folder / "packed"
        render(loose, a.videos)
        start = time.process_time()
        report = pack(loose, packed)
        packing = time.process_time() - start

        start = time.process_time()
        pack(loose, folder / "pooled", rate=a.rate)
        pooling = time.process_time() - start

        ours, pooled, files = (samples_of(place) for place in (packed, folder / "pooled", loose))
        library = litdata.StreamingDataset(str(packed), item_loader=litdata.TemporalArrayLoader())

        def keys(epoch: int) -> list[tuple[int, int]]:
            return [(number, epoch) for number in range(a.batch)]

        def by_library(epoch: int) -> np.ndarray:
            found = []
            for video, starts, length in zip(*clips_of(ours, epoch, a.peers), strict=True):
                place = int(ours.videos.places[video])
                clips = [library.read_window(place, int(s), int(length))["features"] for s in starts]
                found.append([torch.from_numpy(clip).float().mean(0).numpy() for clip in clips])
            return np.array(found)

        def by_records(epoch: int) -> None:
            for video in clips_of(ours, epoch, a.peers)[0].tolist():
                library[int(ours.videos.places[video])]

        def by_numpy(epoch: int) -> np.ndarray:
            found = []
            for video, starts, length in zip(*clips_of(ours, epoch, a.peers), strict=True):
                rows = np.load(loose / f"{ours.videos.name(int(video))}.npy", mmap_mode="r")
                found.append([rows[s : s + length].astype(np.float32).mean(0) for s in starts])
            return np.array(found)

        def library_only(epoch: int) -> None:
            for video, starts, length in zip(*clips_of(ours, epoch, a.peers), strict=True):
                for start in starts:
                    library.read_window(int(ours.videos.places[video]), int(start), int(length))

        def drawn_only(epoch: int) -> None:
            clips_of(ours, epoch, a.batch)

        batch = ours.__getitems__(keys(0))
        expected = torch.where(batch["label"][:, None, None] == 1, batch["features"], batch["features"].flip(1))
        difference = {
            "litdata": float(np.abs(by_library(0) - expected[: a.peers].numpy()).max()),
            "numpy": float(np.abs(by_numpy(0) - expected[: a.peers].numpy()).max()),
        }
        parts = {
            name: [cut_short(data, means) for means in (Read, Averaged)]
            for name, data in (("packed", ours), ("pooled", pooled))
        }
        load = [round(os.getloadavg()[0], 1)]
        seconds = timed(
            {
                "packed": lambda epoch: ours.__getitems__(keys(epoch)),
                "pooled": lambda epoch: pooled.__getitems__(keys(epoch)),
                "loose": lambda epoch: files.__getitems__(keys(epoch)),
                "litdata": by_library,
                "records": by_records,
                "numpy": by_numpy,
                "step": training_step(a.batch),
                "parts, draws": drawn_only,
                "parts, packed, read": lambda epoch: parts["packed"][0].__getitems__(keys(epoch)),
                "parts, packed, averaged": lambda epoch: parts["packed"][1].__getitems__(keys(epoch)),
                "parts, pooled, read": lambda epoch: parts["pooled"][0].__getitems__(keys(epoch)),
                "parts, pooled, averaged": lambda epoch: parts["pooled"][1].__getitems__(keys(epoch)),
                "parts, litdata's reading": library_only,
            },
            a.repeats,
        )
        for name in ("litdata", "records", "numpy", "parts, litdata's reading"):
            seconds[name] *= a.batch / a.peers
        load.append(round(os.getloadavg()[0], 1))
        rounds: dict[str, list[float]] = {}
        step = training_step(a.batch)
        for _ in range(a.rounds):
            for name, data in (("packed", ours), ("pooled", pooled), ("loose", files)):
                clock, busy = through_workers(data, a.batch, a.workers, 2 * a.repeats)
                rounds.setdefault(f"{name}, workers", []).append(clock)
                rounds.setdefault(f"{name}, workers, training process", []).append(busy)
            rounds.setdefault("fit", []).append(through_workers(pooled, a.batch, a.workers, 2 * a.repeats, step)[0])
            start = time.perf_counter()
            for k in range(2 * a.repeats):
                step(k)
            rounds.setdefault("step, clock", []).append((time.perf_counter() - start) / 2 / a.repeats)
        seconds |= {name: statistics.median(values) for name, values in rounds.items()}
        load.append(round(os.getloadavg()[0], 1))
        lengths = {name: clips_of(data, 0, a.batch)[2] for name, data in (("packed", ours), ("pooled", pooled))}
        starting = start_up(folder / "listed", a.listed)

    result = {
        "date": str(date.today()),
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": load,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "litdata": litdata.__version__,
        "zoo": zoo.__version__,
        "repeats": a.repeats,
        "videos": a.videos,
        "batch": [a.batch, CLIPS, DIM],
        "workers": a.workers,
        "pooled_to": a.rate,
        "rows_in_a_clip": {name: round(float(of.mean()), 1) for name, of in lengths.items()},
        "mib_in_clips_of_a_batch": {
            name: round(int(of.sum()) * CLIPS * DIM * 2 / 2**20, 1) for name, of in lengths.items()
        },
        "milliseconds_a_batch": {name: round(1000 * value, 2) for name, value in seconds.items()},
        "samples_a_second": {
            name: round(a.batch / value)
            for name, value in seconds.items()
            if not name.startswith("parts") and not name.endswith("process")
        },
        "times_faster_than": {
            name: round(seconds[name] / seconds["packed" if name != "numpy" else "loose"], 1)
            for name in ("litdata", "records", "numpy")
        },
        "largest_difference": difference,
        "packing": {
            "seconds": round(packing, 1),
            "mib_a_second": round(report.bytes / packing / 2**20),
            "pooled_seconds": round(pooling, 1),
        },
        "start_up": {"listed": a.listed, "seconds": round(starting, 2)},
    }
    print(json.dumps(result, indent=1))
    if a.json:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
