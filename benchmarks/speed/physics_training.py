"""How many collisions a second the intuitive physics models learn from, and where the time goes.

A set in the layout of `physics_collisions` is served and learned from as `zoo fit` does it, part by part:

- memory: batches out of the frames that were read once; peer: out of the files, by two processes;
- features: AlexNet's convolutions on four frames; vector: what comes after them;
- grid: the decoder; warp: the fourth frame seen through it, and the loss;
- backward and Adam: the rest of a step.

Milliseconds are medians over the repetitions of a batch of three properties; rates are collisions a second.

    OMP_NUM_THREADS=1 python benchmarks/speed/physics_training.py collisions --model intuitive_physics_tiny --json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.methods.collisions import SEEN
from zoo.methods.intuitive_physics import coarse_loss, image_loss
from zoo.networks.physics import warp
from zoo.networks.selective_filter import select
from zoo.reproduce.provenance import device_name

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "physics_training.json"


def serve(data: PhysicsCollisions, count: int) -> float:
    """Milliseconds a batch, of ``count`` after the first."""
    data.setup("fit")
    batches = iter(cycle(data.train_dataloader()))
    next(batches)
    begin = time.perf_counter()
    for _ in islice(batches, count):
        pass
    return (time.perf_counter() - begin) / count * 1e3


def vector(model: Any, maps: Tensor, batch: dict[str, Any]) -> Tensor:
    """What the decoder sees, of the features of all frames."""
    maps = maps.unflatten(0, (-1, SEEN)).flatten(1, 2)
    z = model.encoder.linear(model.encoder.together(maps).flatten(1))
    absent = torch.zeros(len(model.dims), dtype=torch.bool, device=z.device)
    return select(z, batch["groups"], batch["property"], model.dims, absent)


def loss(model: Any, before: Tensor, grid: Tensor, truth: Tensor) -> Tensor:
    return image_loss(warp(before, grid), truth) + coarse_loss(before, grid, truth, model.levels)


def learn(model: Any, batch: dict[str, Any], repeats: int) -> dict[str, float]:
    """Milliseconds of each part of a training step."""
    spent: dict[str, list[float]] = defaultdict(list)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def part(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        result = function(*arguments)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        spent[name].append((time.perf_counter() - begin) * 1e3)
        return result

    for _ in range(repeats + 1):
        views = part("normalize", model.views, batch)
        before, truth = views.clips[:, :, SEEN - 1], views.clips[:, :, SEEN]
        maps = part("features", model.encoder.features, views.clips[:, :, :SEEN].transpose(1, 2).flatten(0, 1))
        z = part("vector", vector, model, maps, batch)
        grid = part("grid", model.decoder, z)
        value = part("warp and loss", loss, model, before, grid, truth)
        optimizer.zero_grad()
        part("backward", value.backward)
        part("Adam", optimizer.step)
    return {name: round(statistics.median(times[1:]), 2) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="of a set of collisions, at the model's size")
    parser.add_argument("--model", default="intuitive_physics_tiny")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--accelerator", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()

    model = zoo.create(options.model).to(options.accelerator).train()
    if options.accelerator == "cpu":
        model = model.to(memory_format=torch.channels_last)
    served = {
        "memory": serve(PhysicsCollisions(options.root, model.spec, num_workers=0, cache=True), 200),
        "files, 2 processes": serve(PhysicsCollisions(options.root, model.spec, num_workers=2, cache=False), 40),
    }
    data = PhysicsCollisions(options.root, model.spec, num_workers=0, cache=True)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    batch = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in batch.items()}
    parts = learn(model, batch, options.repeats)
    rows, step = len(batch["clips"]), sum(parts.values())
    results = {
        "date": date.today().isoformat(),
        "device": device_name(model.device),
        "hardware": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model": options.model,
        "batch": rows,
        "served": {name: {"ms": round(ms, 2), "per_second": round(rows / ms * 1e3)} for name, ms in served.items()},
        "parts": parts,
        "step": {"ms": round(step, 1), "per_second": round(rows / step * 1e3)},
    }
    print(json.dumps(results, indent=1))
    if options.json:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
