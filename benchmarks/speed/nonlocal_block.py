"""How fast and how lean the non-local block is, beside the usual way of writing it.

For every cell (instantiation, stage, frames, with or without sub-sampling, forward or training pass) three contenders
run on the same random features: the zoo's block, the same block with its matrix of all pairs written out, and
pytorchvideo's where that is installed and has the instantiation. Times are medians of alternating runs in one process;
peak memory is the growth of the high-water mark over one run in a process of its own, after a small warm-up.

    python benchmarks/speed/nonlocal_block.py --frames 128 --stages res3 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.nonlocal_block import Instantiation, NonLocalBlock

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "nonlocal_block.json"
# Channels and side of the feature map at 224 pixels; 32 frames have become 4 there, 128 have become 16.
STAGES = {"res3": (512, 28), "res4": (1024, 14)}


class Explicit(nn.Module):
    """The block as it is usually written, around the parameters of one of ours."""

    def __init__(self, block: NonLocalBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        keys = F.max_pool3d(x, (1, 2, 2)) if block.sub_sample else x
        theta, phi = (x, keys) if block.instantiation == "gaussian" else (block.theta(x), block.phi(keys))
        q, k, v = (part.flatten(2).transpose(1, 2) for part in (theta, phi, block.g(keys)))
        if block.instantiation == "concatenation":
            q_mix, k_mix = block.concat.weight.chunk(2, dim=1)
            affinity = F.relu(q @ q_mix.T + (k @ k_mix.T).transpose(1, 2)) / k.shape[1]
        elif block.instantiation == "dot_product":
            affinity = q @ k.transpose(1, 2) / k.shape[1]
        else:
            affinity = F.softmax(q @ k.transpose(1, 2) * block.scale, dim=-1)
        y = (affinity @ v).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        y = block.out(y)
        return (y if block.norm is None else block.norm(y)) + x


def pytorchvideo_block(block: NonLocalBlock) -> nn.Module | None:
    """pytorchvideo's block with the same shapes, or None where it is not installed or has no such form."""
    try:
        from pytorchvideo.layers.nonlocal_net import create_nonlocal
    except ImportError:
        return None
    forms = {"embedded_gaussian": "softmax", "dot_product": "dot_product"}
    if block.instantiation not in forms:
        return None
    return create_nonlocal(
        dim_in=block.g.in_channels,
        dim_inner=block.g.out_channels,
        pool_size=(1, 2, 2) if block.sub_sample else None,
        instantiation=forms[block.instantiation],
        norm=None if block.norm is None else nn.BatchNorm3d,
    )


def build(contender: str, cell: dict[str, Any], device: str) -> tuple[nn.Module, Tensor]:
    """A contender and a feature map ``[B, C, T, H, W]`` for a cell."""
    torch.manual_seed(0)
    channels, side = STAGES[cell["stage"]]
    # The 128-frame networks are trained with frozen norms, and have none in their blocks.
    norm = "bn" if cell["frames"] == 32 else None
    block = NonLocalBlock(channels, instantiation=cell["instantiation"], sub_sample=cell["sub_sample"], norm=norm)
    module = {"zoo": block, "explicit": Explicit(block), "pytorchvideo": pytorchvideo_block(block)}[contender]
    # Features as they come out of a ReLU, not so large that a softmax of raw dot products has one winner only.
    x = torch.randn(cell["batch"], channels, cell["frames"] // 8, side, side).relu_() / channels**0.25
    return module.to(device).train(cell["training"]), x.to(device)


def runner(module: nn.Module, x: Tensor, training: bool) -> Callable[[], None]:
    """One pass: forward without gradients, or forward and backward down to the input."""

    def train() -> None:
        module.zero_grad(set_to_none=True)
        module(x.detach().requires_grad_()).sum().backward()

    @torch.no_grad()
    def forward() -> None:
        module(x)

    return train if training else forward


def seconds(run: Callable[[], None], device: str, clock: str) -> float:
    """Of one run, to its end on the device: on the wall, or of this process's own computing."""
    now = time.perf_counter if clock == "wall" else time.process_time
    start = now()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return now() - start


def measure_times(
    cell: dict[str, Any], contenders: list[str], repeats: int, device: str, clock: str
) -> dict[str, float]:
    """Median milliseconds of each contender, in alternation so that the machine's moods hit all alike."""
    runs = {}
    for name in contenders:
        module, x = build(name, cell, device)
        runs[name] = runner(module, x, cell["training"])
    for run in runs.values():
        seconds(run, device, clock)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run, device, clock))
    return {name: 1e3 * statistics.median(values) for name, values in taken.items()}


def measure_memory(cell: dict[str, Any], contender: str, device: str) -> float:
    """MiB by which one run raises the peak, over what module and input take."""
    module, x = build(contender, cell, device)
    runner(module, x[..., :4, :4], cell["training"])()  # the libraries make their own buffers
    run = runner(module, x, cell["training"])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = resident("VmHWM")
    run()
    return (resident("VmHWM") - before) / 2**10


def resident(field: str) -> int:
    """A line of the kernel's account of this process, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def in_own_process(request: dict[str, Any]) -> Any:
    """What this file answers to ``--cell`` in a fresh process; None if the machine had too little memory for it."""
    command = [sys.executable, __file__, "--cell", json.dumps(request)]
    # With a fixed threshold glibc gives every large block back as soon as it is free, so the peak is of what was alive.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)} if request["contender"] else None
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"  {request['contender'] or 'times'} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def answer(request: dict[str, Any]) -> Any:
    """The work of one fresh process: all times of a cell, or one contender's memory."""
    cell, device = request["cell"], request["device"]
    if request["contender"] is None:
        return measure_times(cell, request["contenders"], request["repeats"], device, request["clock"])
    return measure_memory(cell, request["contender"], device)


def contenders_of(cell: dict[str, Any]) -> list[str]:
    """Who takes part in a cell."""
    small = NonLocalBlock(2, instantiation=cell["instantiation"])
    return ["zoo", "explicit"] + (["pytorchvideo"] if pytorchvideo_block(small) else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--instantiations", nargs="+", default=get_args(Instantiation), choices=get_args(Instantiation))
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--frames", nargs="+", type=int, default=[32, 128], help="of the clip")
    parser.add_argument("--sub-sample", nargs="+", default=["yes", "no"], choices=["yes", "no"])
    parser.add_argument("--passes", nargs="+", default=["forward", "training"], choices=["forward", "training"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"], help="cpu: on a machine that others use too"
    )
    parser.add_argument("--json", nargs="?", const=RESULTS, type=Path, help=f"also write here (default {RESULTS.name})")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(answer(json.loads(options.cell))))
        return

    rows = []
    print(f"{'cell':<54}{'contender':<14}{'ms':>9}{'MiB':>9}{'time':>8}{'memory':>8}   (ratios: contender / zoo)")
    for stage, frames, sub, kind, which in product(
        options.stages, options.frames, options.sub_sample, options.passes, options.instantiations
    ):
        cell = {
            "instantiation": which,
            "stage": stage,
            "frames": frames,
            "sub_sample": sub == "yes",
            "training": kind == "training",
            "batch": options.batch,
        }
        names = contenders_of(cell)
        request = {"cell": cell, "device": options.device, "contenders": names}
        request |= {"repeats": options.repeats, "clock": options.clock}
        times = in_own_process({**request, "contender": None}) or {}
        memory = {name: in_own_process({**request, "contender": name}) for name in names}
        label = f"{stage} {frames} frames {'pooled' if sub == 'yes' else 'full'} {kind} {which}"
        for name in names:
            row = {**cell, "contender": name, "milliseconds": times.get(name), "peak_mib": memory[name]}
            rows.append(row)
            line = columns(row, times.get("zoo"), memory["zoo"])
            print(f"{label if name == 'zoo' else '':<54}{name:<14}{line}", flush=True)
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
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def columns(row: dict[str, Any], zoo_time: float | None, zoo_memory: float | None) -> str:
    """The numbers of one line; a dash where there is none."""
    spent, peak = row["milliseconds"], row["peak_mib"]
    cells = (
        (f"{spent:.1f}" if spent else "-", 9),
        (f"{peak:.0f}" if peak is not None else "-", 9),
        (f"{spent / zoo_time:.2f}" if spent and zoo_time else "-", 8),
        (f"{peak / zoo_memory:.1f}" if peak and zoo_memory else "-", 8),
    )
    return "".join(f"{text:>{width}}" for text, width in cells)


if __name__ == "__main__":
    main()
