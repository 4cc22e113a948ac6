"""Where the time of a goal trajectory goes: seconds of video per second, part by part, each beside a peer.

A rendered film of 480 x 854 pixels, ten seconds at 30 frames a second, goes through `goal_trajectory` (random weights):

- read: file to one-second clips; peer: decode every frame, scale every frame whole, then cut the clips out;
- encode: R(2+1)D-18 on the clips; peer: torchvision's `r2plus1d_18`;
- transform: Transformer and heads on the clips' vectors; peer: `torch.nn.TransformerEncoder` of the same size;
- correct: 25 iterations of auto-correct on eight videos; peer: the same videos one by one, as the release does.

Peers give the same numbers where they compute the same (checked). Times are medians of the alternating repetitions.

    OMP_NUM_THREADS=1 python benchmarks/speed/goal_trajectory.py --repeats 3 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor, nn

import zoo
from zoo.data.sandbox.kinetics import encode as encode_film
from zoo.data.trajectories import read_whole_video
from zoo.methods.autocorrect import Settings, auto_correct
from zoo.networks.sequences import whole

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "goal_trajectory.json"
SECONDS, FPS, HEIGHT, WIDTH = 10, 30, 480, 854
VIDEOS = 8  # that are corrected together


def film(path: Path) -> None:
    """Soft noise that drifts, so that the encoder has something to code."""
    rng = np.random.default_rng(0)
    ground = rng.uniform(0, 255, (HEIGHT // 8 + 60, WIDTH // 8 + 90, 3)).astype(np.float32)
    ground = np.kron(ground, np.ones((8, 8, 1), np.float32)).astype(np.uint8)
    frames = [ground[t : t + HEIGHT, 2 * t : 2 * t + WIDTH] for t in range(SECONDS * FPS)]
    path.write_bytes(encode_film(np.stack(frames), FPS))


def read_plainly(path: Path, spec: Any) -> Tensor:
    """Every frame decoded and scaled, then the clips cut out of them."""
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    count = int(len(frames) * spec.fps / FPS)
    numbers = np.floor(np.arange(count, dtype=np.float32) * np.float32(FPS / spec.fps)).astype(int)
    side = spec.test_crop
    size = (side, int(side * WIDTH / HEIGHT))
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    scaled = torch.cat(
        [
            nn.functional.interpolate(part.float(), size, mode="bilinear", align_corners=False)
            for part in pixels.split(30)
        ]
    )
    left = round((size[1] - side) / 2)
    clips = scaled[numbers[: count // spec.frames * spec.frames], :, :, left : left + side]
    return clips.unflatten(0, (-1, spec.frames)).transpose(1, 2)


def timed(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each, taken in turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, function in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {"seconds": statistics.median(w for w, _ in spent), "cpu_seconds": statistics.median(c for _, c in spent)}
        for name, spent in taken.items()
    }


def torchvisions(model: Any) -> nn.Module:
    """The encoder by torchvision, with the same weights."""
    from torchvision.models.video import r2plus1d_18

    network = r2plus1d_18()
    network.fc = nn.Linear(512, 512)
    network.load_state_dict(model.encoder.state_dict())
    return network.eval()


def torchs(layers: int = 4) -> nn.Module:
    """A Transformer of the same size by torch."""
    layer = nn.TransformerEncoderLayer(512, 4, 1024, 0.1, "gelu", 1e-12, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


@torch.no_grad()
def measure(repeats: int, device: torch.device) -> dict[str, dict[str, dict[str, float]]]:
    """Of each part, each contender's times."""
    torch.manual_seed(0)
    model = zoo.create("goal_trajectory").eval().to(device)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        film(path)
        clips, _ = read_whole_video(path, model.spec)
        plain = read_plainly(path, model.spec)
        torch.testing.assert_close(clips, plain[: len(clips)], atol=1e-2, rtol=0)
        results["read"] = timed(
            {"zoo": lambda: read_whole_video(path, model.spec), "plain": lambda: read_plainly(path, model.spec)},
            repeats,
        )
    pixels = model.normalize(clips.to(device))
    peer, encoder = torchvisions(model).to(device), torchs().to(device)
    torch.testing.assert_close(model.encode(pixels[:1]), peer(pixels[:1]), atol=1e-3, rtol=1e-3)

    def finished(function: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    results["encode"] = timed(
        {"zoo": finished(lambda: model.encode(pixels)), "torchvision": finished(lambda: peer(pixels))}, repeats
    )
    phi = model.encode(pixels)
    tokens = model.transformer(phi, whole([len(phi)]).to(device))
    results["transform"] = timed(
        {"zoo": finished(lambda: model.trace(phi, [len(phi)])), "torch": finished(lambda: encoder(tokens))},
        10 * repeats,
    )
    many = torch.randn(VIDEOS * len(phi), 512, device=device)
    wrong = torch.arange(len(many)) % len(phi) >= len(phi) // 2
    settings = Settings(epsilon=1e-3)  # so small a change corrects nothing: all 25 iterations are needed

    def together() -> None:
        with torch.enable_grad():
            auto_correct(model, many, [len(phi)] * VIDEOS, wrong, settings)

    def one_by_one() -> None:
        with torch.enable_grad():
            for one, mark in zip(many.split(len(phi)), wrong.split(len(phi)), strict=True):
                auto_correct(model, one, [len(phi)], mark, settings)

    results["correct"] = timed({"zoo": finished(together), "one by one": finished(one_by_one)}, repeats)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", nargs="?", const=RESULTS, type=Path, help=f"also write here (default {RESULTS.name})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(options.repeats, torch.device(options.device))
    whole_time = sum(results[part]["zoo"]["seconds"] for part in ("read", "encode", "transform"))
    print(f"{SECONDS / whole_time:.2f} seconds of video a second ({WIDTH} x {HEIGHT}, {FPS} fps, {options.device})")
    print(f"{'part':<11}{'contender':<13}{'s':>9}{'CPU s':>9}{'ratio':>8}{'share':>8}")
    for part, contenders in results.items():
        own = contenders["zoo"]
        for name, spent in contenders.items():
            spent["ratio"] = spent["seconds"] / own["seconds"]
            share = f"{100 * spent['seconds'] / whole_time:.1f}%" if name == "zoo" and part != "correct" else ""
            line = f"{part:<11}{name:<13}{spent['seconds']:>9.3f}{spent['cpu_seconds']:>9.3f}{spent['ratio']:>8.2f}"
            print(f"{line}{share:>8}")
    if options.json:
        about = {
            "date": date.today().isoformat(),
            "film": {"seconds": SECONDS, "fps": FPS, "size": [HEIGHT, WIDTH]},
            "seconds_of_video_a_second": SECONDS / whole_time,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"about": about, "parts": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
