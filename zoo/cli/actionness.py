"""The commands of the models of actionness: what `zoo predict` says, files of scores and proposals, ranking, AR@AN."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zoo
from zoo.cli.common import (
    above_zero,
    assignment,
    data_option,
    data_options,
    fraction,
    model_options,
    on_device,
    positive,
    print_json,
    progress,
    show,
    table,
)

_NAMED = 5  # what lacks is named as far as this
_POINTS = (1, 5, 10, 50, 100)  # of AR@AN


def add_commands(command: Any) -> None:
    """Add `zoo actionness` to the parser; ``command(name, run, summary)`` makes one."""
    p = command("actionness", None, "files of scores and proposals: write, rank, hold against annotations")
    actions = p.add_subparsers(metavar="ACTION", required=True)

    p = actions.add_parser("scores", help="score every row of many videos, into one file")
    p.set_defaults(run=_scores)
    p.add_argument("model", help="a model of actionness, a checkpoint, hf://org/name or a .ckpt file")
    p.add_argument("source", help="a folder of features (.npy) or of films, or NAME=ROOT: a data set's test videos")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv, or .npz for large collections")
    p.add_argument("--rate", type=above_zero, help="rows of features a second (as they were extracted, or 1)")
    data_option(p, "rate=5")
    model_options(p)

    p = actions.add_parser("proposals", help="intervals in which something is done, by temporal actionness grouping")
    p.set_defaults(run=_proposals)
    p.add_argument("scores", type=Path, help="that `zoo actionness scores` wrote")
    p.add_argument("--out", type=Path, required=True, metavar="JSON", help="in ActivityNet's format")
    p.add_argument("--top", type=positive, default=100, help="proposals of a video, at most (100)")
    p.add_argument(
        "--normalize",
        choices=("sigmoid", "minmax", "rank"),
        default="minmax",
        help="how scores become a curve in 0..1: as they are (sigmoid), or on each video's own scale (minmax, rank)",
    )
    p.add_argument("--iou", type=fraction, default=0.8, help="of two that overlap more only the better one stays (0.8)")

    p = actions.add_parser("rank", help="the clips that score highest and lowest over many videos (figure 6)")
    p.set_defaults(run=_rank)
    p.add_argument("scores", type=Path, help="that `zoo actionness scores` wrote")
    p.add_argument("--top", type=positive, default=10, help="clips from each end (10)")
    p.add_argument("--per-video", type=positive, default=1, help="clips that a video gives to each end, at most (1)")
    p.add_argument(
        "--categories", type=Path, metavar="CSV", help="HowTo100M_v1.csv: the highest of each large category"
    )
    p.add_argument("--videos", type=Path, metavar="FOLDER", help="the films, for the figure; their names are the ids")
    p.add_argument("--plot", type=Path, metavar="PNG", help="draw the clips as rows of pictures")
    p.add_argument("--json", action="store_true", help="print JSON")

    p = actions.add_parser("recall", help="how much of what is annotated proposals find: AR@AN (figure 5)")
    p.set_defaults(run=_recall)
    p.add_argument("proposals", nargs="+", metavar="JSON", help="in ActivityNet's format; NAME=JSON names its curve")
    p.add_argument("--data", required=True, metavar="NAME=ROOT", help="the annotations: coin=/data/coin")
    data_option(p, "rate=5")
    p.add_argument("--budget", type=positive, default=100, help="proposals per video on average, at most (100)")
    p.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves")
    p.add_argument("--json", action="store_true", help="print JSON")


def add_action(actions: Any) -> None:
    """Add `pack` to the actions of `zoo data`."""
    p = actions.add_parser("pack", help="pack features into shards, for millions of files or object storage")
    p.set_defaults(run=_pack)
    p.add_argument("source", metavar="NAME_OR_FOLDER", help="a folder of .npy files, or a data set of the sandbox")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for the shards")
    p.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the numbers (float16)")
    p.add_argument("--rate", type=above_zero, help="rows a second in the shards, means of neighbours (all rows)")
    p.add_argument("--source-rate", type=above_zero, help="rows a second in the files (as they were extracted, or 1)")
    p.add_argument("--num-workers", type=positive, default=1, help="processes (1)")


def answer(
    model: Any, file: Path, *, top: int, plot: Path | None = None, rate: float | None = None
) -> tuple[dict, list]:
    """What `zoo predict` says of a film or a file of features: for machines, and as tables."""
    if plot:
        from zoo.visualize.drawing import require_png

        require_png(plot)  # before the work, not after it
    found = model.predict(file, top=top, rate=rate)
    if plot:
        from zoo.visualize.actionness import draw_curve

        draw_curve(file, found, plot)
    grid = table("start", "end", "score", title="proposals", numbers=("start", "end", "score"))
    for one in found.proposals:
        grid.add_row(f"{one.start:.2f}", f"{one.end:.2f}", f"{one.score:.3f}")
    said = {
        "duration": float(found.duration),
        "times": [[float(start), float(end)] for start, end in found.times],
        "scores": [float(score) for score in found.scores],
        "proposals": [asdict(one) for one in found.proposals],
    }
    return said, [grid]


def _scores(a: argparse.Namespace) -> int:
    from zoo.curves import require_scores, write_scores
    from zoo.files import require_writable
    from zoo.scoring import score_data, score_files

    require_scores(a.out)  # before the work, not after it
    require_writable(a.out.parent)
    model = on_device(zoo.load(a.model, weights=a.weights), a.device)
    unreadable: dict[str, str] = {}
    with progress("videos") as bar:
        if (data := _named(a, model.spec)) is not None:
            curves = score_data(model, data, unreadable, bar)
        else:
            curves = score_files(model, Path(a.source), unreadable, rate=a.rate, progress=bar)
        count = write_scores(a.out, curves)
    for message in unreadable.values():
        print(f"zoo: {message}", file=sys.stderr)
    print(f"scores of {count} videos written to {a.out}; {len(unreadable)} videos unreadable")
    return 1 if unreadable else 0


def _named(a: argparse.Namespace, spec: Any) -> Any:
    """The data set that is named, or None where it is a folder."""
    from zoo.data.catalog import DATA_SETS

    if Path(a.source).exists() or not ("=" in a.source or a.source in DATA_SETS):
        if a.data_option:
            raise zoo.ZooError("--data-option is of a data set, NAME=ROOT, and a folder was given.")
        return None
    rate = {} if a.rate is None else {"rate": a.rate}
    return _datamodule(a.source, a.data_option, spec=spec, batch_size=1, **rate)


def _datamodule(text: str, options: Sequence[str], **more: Any) -> Any:
    """A data set by NAME=ROOT; one of the sandbox is rendered where its name stands alone."""
    from zoo.data.catalog import DATA_SETS

    if text in DATA_SETS and text.startswith("sandbox"):
        data = zoo.datamodule(text, **more | data_options(text, options))
        data.prepare_data()
        return data
    name, root = assignment(text, "a data set is named by NAME=ROOT, such as coin=/data/coin")
    return zoo.datamodule(name, root=root, **more | data_options(name, options))


def _proposals(a: argparse.Namespace) -> None:
    from zoo.curves import iterate_scores
    from zoo.networks.grouping import proposals
    from zoo.proposal_files import write_proposals

    found = {
        name: proposals(curve.scores, float(curve.times[-1, 1]), normalize=a.normalize, iou=a.iou)[: a.top]
        for name, curve in iterate_scores(a.scores)
    }
    write_proposals(a.out, found, f"temporal actionness grouping of {a.scores.name}, {a.normalize}, IoU {a.iou:g}")
    print(f"{sum(map(len, found.values()))} proposals of {len(found)} videos written to {a.out}")


def _rank(a: argparse.Namespace) -> None:
    from zoo.curves import iterate_scores, rank, read_categories

    if a.plot:
        from zoo.visualize.drawing import require_png

        require_png(a.plot)  # before the work, not after it
    if bool(a.plot) != bool(a.videos):
        raise zoo.ZooError("--plot draws frames of the films in --videos FOLDER: give both, or neither.")
    categories = read_categories(a.categories) if a.categories else None
    found = rank(iterate_scores(a.scores), a.top, categories=categories, per_video=a.per_video)
    films = _films(a.videos, [c.video for clips in found.values() for c in clips]) if a.plot else {}
    if a.json:
        print_json({heading: [asdict(clip) for clip in clips] for heading, clips in found.items()})
    else:
        for heading, clips in found.items():
            grid = table("video", "seconds", "score", title=heading)
            for clip in clips:
                grid.add_row(clip.video, f"{clip.start:.2f} - {clip.end:.2f}", f"{clip.score:.3f}")
            show(grid)
    if a.plot:
        from zoo.visualize.clip_ranking import draw_ranking

        draw_ranking(found, a.plot, films)


def _films(folder: Path, wanted: Sequence[str]) -> dict[str, Path]:
    """Where the films of these ids lie; those that lack are told of."""
    from zoo.data.folder import find_videos, videos_by_stem

    if not folder.is_dir():
        raise zoo.ZooError(f"there is no folder of films {folder}; --videos wants one.")
    # Of films that were scored themselves the path in their folder is the id.
    films = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_videos(folder)}
    films |= videos_by_stem(folder)
    lacking = [name for name in wanted if name not in films]
    if len(lacking) == len(wanted):
        raise zoo.ZooError(
            f"{folder} has none of the {len(set(wanted))} films that are to be drawn, such as {wanted[0]}. Give the "
            "folder of the films that were scored, or leave out --plot and --videos."
        )
    _tell(f"films that are not in {folder}, and are drawn as crossed boxes", lacking)
    return films


def _recall(a: argparse.Namespace) -> None:
    from zoo.metrics.proposals import POINTS
    from zoo.proposal_files import annotated_intervals, read_proposals, recall_of
    from zoo.spec import FeatureSpec, VideoSpec

    if a.plot:
        from zoo.visualize.drawing import require_png

        require_png(a.plot)  # before the work, not after it
    files = {name or Path(path).stem: Path(path) for name, path in map(_curve_name, a.proposals)}
    if len(files) < len(a.proposals):
        raise zoo.ZooError("two files of proposals have the same name; NAME=JSON gives each curve its own.")
    read = {name: read_proposals(path) for name, path in files.items()}
    spec = VideoSpec(features=FeatureSpec(), pixels=False)
    data = _datamodule(a.data, a.data_option, spec=spec, num_workers=0)
    truth = annotated_intervals(data)
    found = {name: recall_of(one, truth, a.budget) for name, one in read.items()}
    if a.plot:
        from zoo.visualize.average_recall import draw_average_recall

        curves = {name: one.curve for name, one in found.items()}
        draw_average_recall(curves, a.plot, title=f"{data.name}: what proposals find")
    if a.json:
        print_json({name: _said(one) for name, one in found.items()})
        return
    points = [n - 1 for n in _POINTS] if a.budget == POINTS else [-1]  # the curve's numbers are 1, 2, ..., 100 then
    columns = [f"AR@{n + 1 if n >= 0 else a.budget}" for n in points]
    grid = table("", *columns, "AUC", numbers=(*columns, "AUC"))
    for name, one in found.items():
        grid.add_row(name, *(f"{100 * one.curve.average[n]:.2f}" for n in points), f"{one.curve.auc:.2f}")
    show(grid)
    for name, one in found.items():
        _tell(f"annotated videos without proposals in {name}", one.missing)
        _tell(f"videos of {name} that the data set does not have, left out", one.unknown)


def _curve_name(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    return (name, path) if equals and not Path(text).exists() else ("", text)


def _said(found: Any) -> dict[str, Any]:
    return {
        "numbers": found.curve.numbers.tolist(),
        "average_recall": found.curve.average.tolist(),
        "auc": found.curve.auc,
        "videos": found.videos,
        "missing": list(found.missing),
        "unknown": list(found.unknown),
    }


def _pack(a: argparse.Namespace) -> int:
    from zoo.data.catalog import DATA_SETS
    from zoo.data.feature_shards import pack

    folder = Path(a.source)
    if not folder.exists() and a.source in DATA_SETS:
        folder = _datamodule(a.source, ()).root
    report = pack(folder, a.out, dtype=a.dtype, workers=a.num_workers, rate=a.rate, source_rate=a.source_rate)
    for message in report.skipped.values():
        print(f"zoo: {message}", file=sys.stderr)
    size = f"{report.bytes / 2**20:.1f} MiB"
    print(f"{report.videos} videos of {report.rows} rows in {report.shards} shards of {size} together in {a.out}")
    return 1 if report.skipped else 0


def _tell(what: str, names: Sequence[str]) -> None:
    if names := list(dict.fromkeys(names)):
        print(
            f"{what}: {len(names)} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})",
            file=sys.stderr,
        )
