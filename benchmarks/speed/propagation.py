"""How fast and how lean label propagation is, beside the procedure that was published with TimeCycle.

A rendered video (a drifting ground, two objects) goes through a ResNet-50 with random weights, and the labels of its
first frame through the video: the first frame and 7 preceding ones are looked into, 5 neighbours in each. Contenders:

- zoo: `zoo.networks.propagation`, each frame encoded once;
- zoo half: the same, features multiplied in half precision;
- published: the steps of TimeCycle's test script, written down again as they are: for every target its 8 references
  and itself are encoded anew, 4 targets at a time; all scores and all their softmax are made, and kept for the whole
  video; then come NumPy's partition for the 5 largest, a sum over single entries, and a loop over the classes. Its
  reading of colours, pixel by pixel, is left out. At 480 x 854 it is given one target at a time and keeps none.

Milliseconds are medians over the frames that have all their references. Both read the labels that zoo gave for earlier
frames and have to give the same: masks but for 1 pixel in 1000, soft labels within 1e-3 but for 1 in 200. Features of
random weights match nothing clearly, and of two neighbours that are equally near either may be the fifth; in half
precision, where the whole chain is zoo half's and what differs is only printed, it is often the other. Peak memory is
the growth of the high-water mark in a process of its own, over what the model takes.

    python benchmarks/speed/propagation.py --sizes 480x854 320x320 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.networks.frame_encoder import FrameEncoder
from zoo.networks.label_maps import labels_to_mask, mask_to_labels
from zoo.networks.propagation import Propagation, Propagator

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "propagation.json"
SETTINGS = Propagation()
CONTENDERS = ("zoo", "zoo half", "published")
STAGES = ("encode", "propagate")


def picture(number: int, height: int, width: int, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Frame ``number`` of the video, uint8 ``[3, H, W]``, and its mask ``[H, W]`` with objects 1 and 2."""
    top, left = number % 40, (2 * number) % 60
    frame = ground[:, top : top + height, left : left + width].clone()
    mask = torch.zeros(height, width, dtype=torch.uint8)
    for name, (y, x) in enumerate(((0.2, 0.2 + 0.005 * number), (0.6 - 0.004 * number, 0.5)), start=1):
        rows = slice(int(y * height), int((y + 0.25) * height))
        columns = slice(int(x * width), int((x + 0.3) * width))
        mask[rows, columns] = name
        frame[name, rows, columns] = 255 - frame[name, rows, columns] // 2
    return frame, mask


def frames_of(count: int, height: int, width: int) -> Iterator[Tensor]:
    """The video, normalised: ``[3, H, W]`` one after another."""
    seeds = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)) * 255
    ground = F.interpolate(seeds, (height + 40, width + 60), mode="bicubic").clamp(0, 255)[0].to(torch.uint8)
    for number in range(count):
        frame, _ = picture(number, height, width, ground)
        yield (frame.float() / 255 - 0.45) / 0.23


def encoder_on(device: str) -> FrameEncoder:
    """A ResNet-50 with random weights, whose norms know a few frames so that its features differ from each other."""
    torch.manual_seed(0)
    encoder = FrameEncoder().train()
    with torch.no_grad():
        encoder(torch.stack(list(frames_of(2, 128, 128))))
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # a mean of what comes, in place of a moving one
                module.reset_running_stats()
        encoder(torch.stack(list(frames_of(2, 128, 128))))
    return encoder.eval().to(device)


class Clock:
    """Seconds of each stage of each frame."""

    def __init__(self, device: str, kind: str) -> None:
        self.device, self.now = device, time.perf_counter if kind == "wall" else time.process_time
        self.spent: dict[str, list[float]] = {stage: [] for stage in STAGES}

    @contextmanager
    def __call__(self, stage: str, share: int = 1) -> Iterator[None]:
        """Times a block, to its end on the device; it does the work of ``share`` frames."""
        start = self.now()
        yield
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.spent[stage] += [(self.now() - start) / share] * share


@torch.inference_mode()
def zoo(request: dict[str, Any], encoder: FrameEncoder, labels: Tensor, clock: Clock) -> tuple[list[Tensor], list]:
    """The engine on a whole video: its soft labels and masks, on the CPU."""
    (height, width), device = request["size"], request["device"]
    settings = Propagation(half=request["contender"] == "zoo half")
    classes = torch.arange(len(labels), dtype=torch.uint8)
    propagator, soft, masks = None, [], []
    for frame in frames_of(request["frames"], height, width):
        with clock("encode"):
            features = encoder(frame[None].to(device))[0]
        with clock("propagate"):
            propagator = propagator or Propagator(settings, features, labels.to(device))
            out = propagator.step(features)
            mask = labels_to_mask(out, classes, (height, width)).cpu()
        if request["keep"]:
            soft.append(out.cpu())
            masks.append(mask)
    return soft, masks


@torch.inference_mode()
def published(
    request: dict[str, Any], encoder: FrameEncoder, labels: Tensor, clock: Clock, history: Tensor | None
) -> tuple[list[Tensor], list]:
    """The published steps on the frames from ``request["first"]`` on, reading ``history`` for the labels before."""
    (height, width), device, first = request["size"], request["device"], request["first"]
    slots, topk = 1 + SETTINGS.references, SETTINGS.topk
    frames = torch.stack(list(frames_of(request["frames"], height, width)))
    frames = torch.cat([frames[:1].expand(slots, -1, -1, -1), frames])  # all of the video, padded in front
    known = [labels.permute(1, 2, 0).numpy()] * slots
    if history is not None:
        known += list(history.permute(0, 2, 3, 1).numpy())
    known += [None] * (len(frames) - len(known))
    targets = range(first, request["frames"])
    made: dict[int, np.ndarray] = {}

    def scores(part: list[int]) -> None:
        chosen = [p for t in part for p in (0, *range(t + 1, t + slots), t + slots)]
        with clock("encode", len(part)):
            features = F.normalize(encoder(frames[chosen].to(device)), dim=1).unflatten(0, (len(part), -1))
        with clock("propagate", len(part)):
            keys, query = features[:, :-1].flatten(3).transpose(2, 3), features[:, -1:].flatten(3)
            affinity = F.softmax(torch.matmul(keys, query) / SETTINGS.temperature, dim=2)
            made.update(zip(part, affinity.cpu().numpy(), strict=True))

    def labels_of(t: int) -> tuple[np.ndarray, np.ndarray]:
        affinity = made[t] if request["batch"] > 1 else made.pop(t)
        h, w, classes = known[0].shape
        ids = np.argpartition(affinity, -topk, axis=1)[:, -topk:]  # [slots, topk, queries]
        total = np.zeros((h * w, classes))
        queries = np.tile(np.arange(h * w), topk)
        for slot in range(slots):
            table = known[t + slot if slot else 0].reshape(-1, classes)
            place = ids[slot].reshape(-1)
            np.add.at(total, queries, table[place] * affinity[slot, place, queries][:, None])
        total /= slots
        for c in range(classes):
            total[:, c] -= total[:, c].min()
            total[:, c] /= total[:, c].max()
        known[t + slots] = total.reshape(h, w, classes).astype(np.float32)
        maps = F.interpolate(
            torch.from_numpy(known[t + slots]).permute(2, 0, 1)[None], (height, width), mode="bilinear"
        )[0].numpy()
        return known[t + slots], maps.argmax(0).astype(np.uint8)

    outputs = []
    parts = [list(targets[i : i + request["batch"]]) for i in range(0, len(targets), request["batch"])]
    if request["batch"] > 1:  # all scores of the video first
        for part in parts:
            scores(part)
    for part in parts:
        if request["batch"] == 1:
            scores(part)
        for t in part:
            start = clock.now()
            outputs.append(labels_of(t))
            clock.spent.setdefault("labels", []).append(clock.now() - start)
    clock.spent["propagate"] = [a + b for a, b in zip(clock.spent["propagate"], clock.spent.pop("labels"), strict=True)]
    soft = [torch.from_numpy(x).permute(2, 0, 1).contiguous() for x, _ in outputs]
    return soft, [torch.from_numpy(x) for _, x in outputs]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The work of one fresh process: a contender on a video; its labels go into ``request["out"]``."""
    device = request["device"]
    height, width = request["size"]
    encoder = encoder_on(device)
    _, mask = picture(0, height, width, torch.zeros(3, height + 40, width + 60, dtype=torch.uint8))
    labels, _ = mask_to_labels(mask, (-(-height // 8), -(-width // 8)))
    clock = Clock(device, request["clock"])
    with torch.inference_mode():
        encoder(torch.zeros(1, 3, 64, 64, device=device))  # the libraries make their own buffers
    before = reset_peak(device)
    if request["contender"] == "published":
        history = load_file(request["history"])["soft"][: request["first"]] if request["history"] else None
        soft, masks = published(request, encoder, labels, clock, history)
    else:
        soft, masks = zoo(request, encoder, labels, clock)
    result = {"peak_mib": peak(device) - before}
    full = SETTINGS.references if request["contender"] != "published" else 0
    result |= {f"{stage}_ms": 1e3 * statistics.median(clock.spent[stage][full:]) for stage in STAGES}
    if request["keep"]:
        save_file({"soft": torch.stack(soft), "masks": torch.stack(masks)}, request["out"])
    return result


def reset_peak(device: str) -> float:
    """Sets the high-water mark back to what is in use now; that, in MiB."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return peak(device)


def peak(device: str) -> float:
    """The high-water mark in MiB: of the device's memory, or of what is resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 2**10


def in_own_process(request: dict[str, Any]) -> dict[str, Any] | None:
    """What this file answers to ``--request`` in a fresh process; None where memory was too little."""
    # With a fixed threshold glibc gives every large block back as soon as it is free, so the peak is of what was alive.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [sys.executable, __file__, "--request", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"  {request['contender']} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def compare(path: Path, reference: Path, first: int) -> dict[str, float]:
    """How far a contender's labels are from zoo's, over the frames from ``first`` on."""
    mine, zoos = load_file(path), {key: value[first:] for key, value in load_file(reference).items()}
    mine = {key: value[-len(zoos[key]) :] for key, value in mine.items()}
    return {
        "labels_that_differ": float(((mine["soft"] - zoos["soft"]).abs() > 1e-3).float().mean()),
        "pixels_that_differ": float((mine["masks"] != zoos["masks"]).float().mean()),
    }


def measure_speed(size: tuple[int, int], options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each contender at a size."""
    first = SETTINGS.references
    frames = first + options.repeats
    request = {"size": size, "frames": frames, "device": options.device, "clock": options.clock, "keep": True}
    # The published batch of 4 targets at 480 x 854 would take 5 GB for every product.
    request |= {"first": first, "batch": 4 if size[0] * size[1] <= 320 * 320 else 1}
    reference = folder / "zoo.safetensors"
    for contender in options.contenders:
        out = folder / f"{contender}.safetensors"
        request |= {"contender": contender, "out": str(out), "history": str(reference)}
        if (result := in_own_process(request)) is None:
            continue
        row = {"size": list(size), "contender": contender, **result, **compare(out, reference, first)}
        row["frames_per_second"] = 1e3 / sum(row[f"{stage}_ms"] for stage in STAGES)
        if contender == "published":
            assert row["labels_that_differ"] <= 5e-3, row
            assert row["pixels_that_differ"] <= 1e-3, row
        yield row


def measure_lengths(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each contender and length of video: its peak memory."""
    for contender in options.contenders:
        for frames in options.lengths:
            request = {"size": [options.length_side] * 2, "frames": frames, "device": options.device, "clock": "wall"}
            request |= {"contender": contender, "keep": False, "first": 0, "batch": 4, "history": None, "out": ""}
            if (result := in_own_process(request)) is not None:
                yield {"size": request["size"], "frames": frames, "contender": contender, **result}


def size_of(text: str) -> tuple[int, int]:
    """``"480x854"`` as height and width."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=size_of, default=[(480, 854), (320, 320)], help="height x width")
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS, help="zoo must be the first")
    parser.add_argument("--repeats", type=int, default=2, help="frames with all their references")
    parser.add_argument(
        "--lengths", nargs="*", type=int, default=[10, 40], help="of the videos whose memory is compared"
    )
    parser.add_argument("--length-side", type=int, default=160, help="of their frames, in pixels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"], help="cpu: on a machine that others use too"
    )
    parser.add_argument("--json", nargs="?", const=RESULTS, type=Path, help=f"also write here (default {RESULTS.name})")
    parser.add_argument("--request", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.request:
        print(json.dumps(answer(json.loads(options.request))))
        return

    speed, lengths = [], []
    line = "{:<10}{:<12}{:>10}{:>13}{:>9}{:>8}{:>9}{:>13}{:>12}".format
    print(
        line("size", "contender", "encode ms", "propagate ms", "frames/s", "slower", "MiB", "labels off", "pixels off")
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            for row in measure_speed(size, options, Path(folder)):
                speed.append(row)
                base = next(r for r in speed if r["size"] == row["size"] and r["contender"] == "zoo")
                print(
                    line(
                        "x".join(map(str, size)),
                        row["contender"],
                        f"{row['encode_ms']:.0f}",
                        f"{row['propagate_ms']:.0f}",
                        f"{row['frames_per_second']:.2f}",
                        f"{base['frames_per_second'] / row['frames_per_second']:.1f}",
                        f"{row['peak_mib']:.0f}",
                        f"{row['labels_that_differ']:.1e}",
                        f"{row['pixels_that_differ']:.1e}",
                    ),
                    flush=True,
                )
    for row in measure_lengths(options):
        lengths.append(row)
        side = options.length_side
        print(f"{row['contender']}: {row['frames']} frames of {side} x {side}: {row['peak_mib']:.0f} MiB", flush=True)
    if options.json:
        about = {
            "date": date.today().isoformat(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "cpu",
            "threads": torch.get_num_threads(),
            "load_average": os.getloadavg(),
            "repeats": options.repeats,
            "clock": options.clock,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"about": about, "speed": speed, "lengths": lengths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
