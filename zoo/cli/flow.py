"""`zoo data flow`: the optical flow that a data set is released with, computed anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import zoo
from zoo.cli.common import positive, progress


def add_action(actions) -> None:
    """Add the action to those of `zoo data`."""
    p = actions.add_parser("flow", help="compute the optical flow of videos that have none yet (TV-L1)")
    p.set_defaults(run=_flow)
    p.add_argument("name", choices=("charades", "sandbox_charades"))
    p.add_argument("root", type=Path)
    p.add_argument("--out", type=Path, metavar="FOLDER", help="where to (Charades_v1_flow beside the videos)")
    p.add_argument("--num-workers", type=positive, help="processes (one a core)")


def _flow(a: argparse.Namespace) -> int:
    from zoo.data.tvl1 import RATE, write_flow
    from zoo.reproduce.provenance import cores
    from zoo.spec import MomentSpec, VideoSpec

    data = zoo.datamodule(a.name, root=a.root, spec=VideoSpec(fps=RATE, moments=MomentSpec()))
    splits = [split for split in ("train", "val") if data.has_split(split)] or ["val"]
    videos = {record.name: record.path for split in splits for record in data.find_records(split)[0]}
    if not videos:
        raise zoo.DataError(f"{a.root}: none of its videos is there. `zoo data check {a.name} {a.root}` says more.")
    with progress("videos") as bar:
        report = write_flow(videos, a.out or data.flow_folder, workers=a.num_workers or cores(), progress=bar)
    for message in report.unreadable.values():
        print(f"zoo: {message}", file=sys.stderr)
    counts = {
        "computed": report.made,
        "there already": report.kept,
        "in another run's hands": report.busy,
        "unreadable": len(report.unreadable),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    print(f"flow of {len(videos)} videos in {report.folder}: {said}")
    return 1 if report.unreadable else 0
