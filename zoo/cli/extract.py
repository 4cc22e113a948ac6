"""`zoo extract`: the features of a folder of videos."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import zoo
from zoo.cli.common import above_zero, positive, progress, weights_option

_EVERY = 60.0  # seconds between the lines of a log


def add_commands(command: Any) -> None:
    """Add the command to the parser; ``command(name, run, summary)`` makes one."""
    p = command("extract", _extract, "features of a folder of videos, a file each; an interrupted run goes on")
    p.add_argument("model", help="any model that looks at frames, a checkpoint, hf://org/name or a .ckpt file")
    p.add_argument("--videos", type=Path, required=True, metavar="FOLDER", help="its videos, and those below it")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for ID.npy of each video")
    p.add_argument("--rate", type=above_zero, default=1.0, help="rows a second (1)")
    p.add_argument("--precision", choices=("float16", "float32"), default="float16", help="of the files (float16)")
    p.add_argument("--batch-size", type=positive, default=8, help="clips at a time (8)")
    p.add_argument(
        "--num-workers",
        type=_count,
        help="processes that decode, for each with a network (the cores but one; 0: a thread)",
    )
    p.add_argument("--accelerator", default="auto", help="as Lightning's: auto, cpu, gpu")
    p.add_argument("--devices", type=positive, help="of each machine (as torchrun or SLURM started them, or 1)")
    p.add_argument("--num-nodes", type=positive, help="machines (as torchrun or SLURM started them, or 1)")
    weights_option(p)


def _extract(a: argparse.Namespace) -> int:
    from zoo.extraction import extract_collection

    model = zoo.load(a.model, weights=a.weights)
    with _progress() as bar:
        report = extract_collection(
            model,
            a.videos,
            a.out,
            rate=a.rate,
            precision=a.precision,
            batch_size=a.batch_size,
            workers=a.num_workers,
            accelerator=a.accelerator,
            devices=a.devices,
            num_nodes=a.num_nodes,
            progress=bar,
        )
    if report.is_first:
        for name, message in report.unreadable.items():
            print(f"zoo: {name}: {message}", file=sys.stderr)
        counts = {
            "extracted": report.made,
            "there already": report.kept,
            "in another run's hands": report.busy,
            "unreadable": len(report.unreadable),
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        print(f"features of {sum(counts.values())} videos in {report.folder}: {said}")
    return 1 if report.unreadable else 0


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, and in a log a line a minute."""
    if sys.stderr.isatty():
        with progress("videos") as bar:
            yield bar
        return
    began = said = time.monotonic()
    first: int | None = None  # videos that were there

    def tell(done: int, total: int) -> None:
        nonlocal said, first
        now, first = time.monotonic(), done if first is None else first
        if done > first and now - said >= _EVERY:
            left = timedelta(seconds=round((now - began) * (total - done) / (done - first)))
            print(f"zoo: {done} of {total} videos, {left} left", file=sys.stderr, flush=True)
            said = now

    yield tell


def _count(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value
