"""The commands for files of scores in the layout of Charades' official scripts: write, evaluate, fuse, draw bars."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from zoo.cli.common import assignment, positive, print_json, show, table, weights_option

if TYPE_CHECKING:
    from zoo.score_files import Evaluation

_NAMED = 5  # what lacks is named as far as this


def add_commands(command) -> None:
    """Add `zoo scores` to the parser; ``command(name, run, summary)`` makes one."""
    p = command("scores", None, "files of scores in Charades' layout: write, evaluate, fuse, draw")
    actions = p.add_subparsers(metavar="ACTION", required=True)

    p = actions.add_parser("write", help="score every test video with a model, into classify.txt and localize.txt")
    p.set_defaults(run=_write)
    p.add_argument("model", help="a model of moments, a checkpoint, hf://org/name or a .ckpt file")
    p.add_argument("--data", required=True, metavar="NAME=ROOT", help="the videos: charades=/data/charades")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where both files go")
    p.add_argument("--points", type=positive, help="frames of a video (the model's own number)")
    p.add_argument("--num-workers", type=int, help="processes that decode")
    p.add_argument("--accelerator", default="auto", help="as Lightning's: auto, cpu, gpu")
    weights_option(p)

    p = actions.add_parser("evaluate", help="what the official script says of a file")
    p.set_defaults(run=_evaluate)
    p.add_argument("file", type=Path, help="lines of `ID s_0 .. s_156`, with --localize of `ID frame s_0 .. s_156`")
    _data_options(p)
    p.add_argument("--json", action="store_true", help="print JSON")

    p = actions.add_parser("fuse", help="two files in one, such as those of RGB and of flow")
    p.set_defaults(run=_fuse)
    p.add_argument("files", nargs=2, type=Path, metavar="FILE")
    p.add_argument("--out", type=Path, required=True, metavar="FILE")
    p.add_argument(
        "--how",
        choices=("mean", "product", "geometric"),
        default="mean",
        help="as the released script (mean), as the paper (product), or its geometric mean, which ranks as the product",
    )

    p = actions.add_parser("bars", help="the average precision of every class, or how two files differ (figures 7, 15)")
    p.set_defaults(run=_bars)
    p.add_argument("file", type=Path)
    p.add_argument("--against", type=Path, metavar="FILE", help="draw by how much the first file is better than this")
    p.add_argument("--top", type=positive, metavar="N", help="only so many classes from each end")
    _data_options(p)
    p.add_argument("--out", type=Path, required=True, metavar="PNG")


def _data_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data", required=True, metavar="NAME=ROOT", help="the annotations: charades=/data/charades")
    p.add_argument("--localize", action="store_true", help="of 25 moments in each video instead of videos")


def _write(a: argparse.Namespace) -> int:
    from zoo.files import require_writable
    from zoo.predicting import predict_scores
    from zoo.score_files import write_scores

    name, root = assignment(a.data, "--data wants NAME=ROOT, such as charades=/data/charades")
    require_writable(a.out)  # before the work, not after it
    model = zoo.load(a.model, weights=a.weights, **({} if a.points is None else {"points": a.points}))
    workers = {} if a.num_workers is None else {"num_workers": a.num_workers}
    data = zoo.datamodule(name, root=root, spec=model.spec, batch_size=1, **workers)
    tables = predict_scores(model, data, accelerator=a.accelerator)
    places = [
        write_scores(a.out / f"{kind}.txt", one) for kind, one in zip(("classify", "localize"), tables, strict=True)
    ]
    for _, message in sorted(data.unreadable.items()):
        print(f"zoo: {message}", file=sys.stderr)
    print(f"scores of {len(tables[0].ids)} videos written to {places[0]} and {places[1]}")
    return 1 if data.unreadable else 0


def _evaluate(a: argparse.Namespace) -> None:
    found = _scored([a.file], a)[0]
    if a.json:
        values = {name: None if math.isnan(value) else value for name, value in found.values.items()}
        print_json({**values, "missing": list(found.missing), "unknown": list(found.unknown)})
        return
    grid = table("", "score")
    for name, value in found.values.items():
        grid.add_row(name, f"{value:.2f}" if "map" in name or "wap" in name else f"{value:.0f}")
    show(grid)
    bare = [f"c{number:03d}" for number, value in enumerate(found.precision) if math.isnan(value)]
    _tell("classes without a positive", bare, "left out of all means but the official one")
    _tell(f"labelled {'moments' if a.localize else 'videos'} without a line", found.missing, "ranked last")
    _tell("videos of the file that are not annotated", found.unknown, "left out")


def _fuse(a: argparse.Namespace) -> None:
    from zoo.score_files import fuse, read_scores, write_scores

    both, *lacking = fuse(*map(read_scores, a.files), a.how)
    for file, names in zip(a.files, lacking, strict=True):
        _tell(f"without a line in {file}", names, "zeros stand for it")
    print(f"scores of {len(both.ids)} videos written to {write_scores(a.out, both)}")


def _bars(a: argparse.Namespace) -> None:
    from zoo.visualize.class_bars import draw_class_bars
    from zoo.visualize.drawing import require_png

    require_png(a.out)  # before the work, not after it
    found = _scored([a.file, a.against] if a.against else [a.file], a)
    title = "average precision (%)"
    if a.against:
        title = f"average precision, {a.file.name} minus {a.against.name} (percentage points)"
    others = found[1].precision if a.against else None
    print(draw_class_bars(found[0].precision, _data(a).classes, a.out, against=others, top=a.top, title=title))


def _data(a: argparse.Namespace):
    """The data set, of which no video is opened."""
    from zoo.spec import MomentSpec, VideoSpec

    name, root = assignment(a.data, "--data wants NAME=ROOT, such as charades=/data/charades")
    data = zoo.datamodule(name, root=root, spec=VideoSpec(fps=24, moments=MomentSpec(), pixels=False))
    if not getattr(data, "multilabel", False):
        raise zoo.ZooError(f"{name} says of no video all that is done and when; files of scores are of charades.")
    return data


def _scored(files: Sequence[Path], a: argparse.Namespace) -> list[Evaluation]:
    from zoo.score_files import evaluate, read_scores

    data = _data(a)
    videos = {record.name: record for record in data.records("val")}
    count = len(data.classes)
    tables = [read_scores(file, count, localise=True if a.localize else None) for file in files]
    for file, one in zip(files, tables, strict=True):
        if one.localised and not a.localize:  # read as the other kind, moments would count as scores of class 0
            raise zoo.ZooError(f"{file} has scores of moments, not of whole videos: add --localize.")
    return [evaluate(one, videos, count) for one in tables]


def _tell(what: str, names: Sequence[str], consequence: str) -> None:
    if names:
        more = ", ..." if len(names) > _NAMED else ""
        print(f"{what}: {len(names)} ({', '.join(names[:_NAMED])}{more}); {consequence}")
