"""The `zoo` command: parses, calls the face, prints. No logic of its own; heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import zoo
from zoo.cli import actionness, activities, collisions, extract, flow, goals, physics, scores
from zoo.cli.common import (
    above_zero,
    assignment,
    data_option,
    data_options,
    fraction,
    model_options,
    on_device,
    position,
    positive,
    print_json,
    progress,
    show,
    table,
)

EPILOG = """examples:
  zoo list '*i3d*' --pretrained
  zoo predict nonlocal_i3d_tiny clip.mp4 --top 5
  zoo fit --model nonlocal_i3d_r50 --data kinetics --data.root /data/k400 --weights imagenet --trainer.devices 8
  zoo reproduce sandbox
  zoo reproduce nonlocal/5.2f --data kinetics=/data/k400
  zoo predict goal_trajectory_tiny fail.mp4 --plot timeline.png
  zoo extract s3d_milnce --videos /data/howto100m --out features/
  zoo propagate time_cycle_r50 video.mp4 --mask first.png --out masks/ --overlay overlay.mp4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all went well, 1 after a `zoo.ZooError`, 2 for wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # Lightning's talk with torch about its own internals is nothing that a reader of this command can act on.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    try:
        if argv and argv[0] in ("fit", "validate", "test"):  # Lightning's own command line, with every Trainer flag
            from zoo.training import train

            train(argv)
            return 0
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments) or 0
    except zoo.ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `zoo list | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zoo",
        description="Video understanding methods with their published weights, data sets and tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"videozoo {zoo.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=run)
        return sub

    p = command("list", _list, "the models, or with --pretrained their checkpoints")
    p.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*i3d*'")
    p.add_argument("--pretrained", action="store_true", help="list checkpoints")
    p.add_argument("--json", action="store_true", help="print JSON")

    p = command("info", _info, "all that is known of a model: input, size, checkpoints, licences, reported numbers")
    p.add_argument("model")
    p.add_argument("--json", action="store_true", help="print JSON")

    p = command("predict", _predict, "what videos show: their likeliest classes, or when things go wrong in them")
    p.add_argument("model", help="a model, a checkpoint, hf://org/name or a .ckpt file")
    p.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="video files, or folders of them; of a collision its frames"
    )
    p.add_argument("--top", type=positive, default=5, help="classes to show (5)")
    p.add_argument("--clips", type=positive, help="clips spread over a video (the model's own number)")
    p.add_argument("--crops", type=int, choices=(1, 3), help="crops of a clip (the model's own number)")
    p.add_argument("--stride", type=float, help="seconds from one clip to the next, for a model of goals (1)")
    p.add_argument("--per-frame", action="store_true", help="of a model of moments also what is done at each frame")
    p.add_argument(
        "--flow", type=Path, metavar="FOLDER", help="the video's optical flow; of several videos, what holds theirs"
    )
    p.add_argument("--rate", type=above_zero, help="rows of features a second, for actionness (as noted, or 1)")
    p.add_argument("--text", action="append", metavar="SENTENCE", help="for a model that reads: what to choose from")
    p.add_argument("--plot", type=Path, metavar="PNG", help="draw what happens over time under the film strip")
    model_options(p)
    p.add_argument("--json", action="store_true", help="print JSON")

    p = command("propagate", _propagate, "carry masks, joints or a texture from a video's first frame to all")
    p.add_argument("model", help="a model of correspondence, a checkpoint, hf://org/name or a .ckpt file")
    p.add_argument("video", nargs="?", type=Path, help="a video file, or a folder of images")
    first = p.add_mutually_exclusive_group()
    first.add_argument("--mask", type=Path, metavar="PNG", help="the first frame's objects, by palette number")
    first.add_argument("--keypoints", type=Path, metavar="JSON", help='the first frame: {"head": [x, y], ...}')
    first.add_argument("--data", metavar="NAME=ROOT", help="instead of a video: every sequence of a data set of masks")
    data_option(p, "split=test-dev or resolution=Full-Resolution")
    p.add_argument("--size", type=positive, help="side of the square that frames are resized to; smaller is faster")
    p.add_argument("--texture", action="store_true", help="paint six stripes on the mask's objects and carry those")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="a palette PNG for every frame, or keypoints.json")
    p.add_argument("--overlay", type=Path, metavar="MP4", help="a film with the result painted over the frames")
    model_options(p)

    for name in ("fit", "validate", "test"):  # for the overview; main() hands them to Lightning before it parses
        command(
            name, None, f"Lightning's `{name}` on a registered model and data set; `zoo {name} --help` has the flags"
        )

    p = command("reproduce", _reproduce, "a table, reported beside reproduced")
    p.add_argument("table", nargs="?", help="such as nonlocal/5.2f or sandbox; without one the tables are listed")
    p.add_argument("--data", action="append", default=[], metavar="NAME=ROOT", help="where a data set lies; repeatable")
    p.add_argument("--row", action="append", metavar="NAME", help="run this row only; repeatable")
    p.add_argument("--limit", type=positive, help="videos per row, for a trial: nothing counts as reproduced then")
    p.add_argument("--batch-size", type=positive, help="clips at a time")
    p.add_argument("--num-workers", type=int, help="processes that decode")
    p.add_argument("--accelerator", default="auto", help="as Lightning's: auto, cpu, gpu")
    p.add_argument("--devices", type=int, default=1, help="how many")
    p.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for the measurements")
    p.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table as Markdown")
    p.add_argument("--html", type=Path, metavar="FILE", help="also write one self-contained page")
    p.add_argument("--json", action="store_true", help="print JSON: a list of rows")

    p = command("data", None, "look at a data set, and compute what it lacks")
    actions = p.add_subparsers(metavar="ACTION", required=True)
    p = actions.add_parser("check", help="what is there, missing or unreadable, and what to do")
    p.set_defaults(run=_check)
    p.add_argument("name", help="such as kinetics")
    p.add_argument("root", type=Path)
    p.add_argument("--decode", action="store_true", help="read every video to its end and compare checksums (slow)")
    p.add_argument("--num-workers", type=positive, default=2)
    data_option(p)
    p.add_argument("--json", action="store_true", help="print JSON")

    collisions.add_action(actions)
    flow.add_action(actions)
    actionness.add_action(actions)

    p = command("convert", _convert, "turn a published file into safetensors")
    p.add_argument("model", help="the registered model whose weights they are")
    p.add_argument("source", type=Path, metavar="IN")
    p.add_argument("target", type=Path, metavar="OUT.safetensors")

    p = command("verify", _verify, "recompute the proof that travels with weights")
    p.add_argument("name", nargs="+", help="checkpoints")

    goals.add_commands(command)
    scores.add_commands(command)
    extract.add_commands(command)
    actionness.add_commands(command)
    physics.add_commands(command)

    p = command("publish", _publish, "push a model with its card to the hub")
    p.add_argument("model", help="a checkpoint or a .ckpt file")
    p.add_argument("--repo", required=True, metavar="ORG/NAME")
    p.add_argument("--weights", help="other weights than the default: a file")
    p.add_argument("--license", help="of the weights (SPDX); a checkpoint's own by default")
    p.add_argument("--private", action="store_true", help="make a new repository private")

    p = command("visualize", None, "draw what a model sees")
    pictures = p.add_subparsers(metavar="WHAT", required=True)
    p = pictures.add_parser("nonlocal", help="where a position attends (figure 5.3), as a strip and a film")
    p.set_defaults(run=_visualize_attention)
    p.add_argument("model", help="a model, checkpoint or .ckpt with non-local blocks")
    p.add_argument("file", type=Path)
    p.add_argument("--at", type=position, default=(0.5, 0.5, 0.5), metavar="T,Y,X", help="0..1 each (the middle)")
    p.add_argument("--block", default=None, help="which block, such as res3.3 (the last one in res3)")
    p.add_argument("--keys", type=positive, default=20, help="how many of the strongest keys to draw (20)")
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the PNG strip and the mp4")
    goals.add_pictures(pictures)
    physics.add_pictures(pictures)
    p = pictures.add_parser("flow", help="how the pixels of two frames correspond, as a picture")
    p.set_defaults(run=_visualize_flow)
    p.add_argument("model", help="a model of correspondence")
    p.add_argument("file", type=Path)
    p.add_argument("--at", type=fraction, default=0.5, metavar="T", help="where the first frame is, 0..1 (the middle)")
    p.add_argument("--gap", type=positive, default=5, help="frames from the first to the second (5)")
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the PNG")
    return parser


def _list(a: argparse.Namespace) -> None:
    names = zoo.list_models(a.pattern, pretrained=a.pretrained)
    if a.json:
        print_json(names)
    elif not names:
        raise zoo.UnknownNameError(f"nothing matches {a.pattern!r}. `zoo list` shows all.")
    else:
        print("\n".join(names))


def _info(a: argparse.Namespace) -> None:
    found = zoo.info(a.model)
    if a.json:
        print_json(found.to_dict())
        return
    facts = table("", found.name)
    for name, value in found.facts().items():
        facts.add_row(name, value)
    show(facts)
    if found.checkpoints:
        scores = [(c.reported.scores if c.reported else {}) | c.measured for c in found.checkpoints]
        metrics = list(dict.fromkeys(key for one in scores for key in one))[:3]  # more would not fit beside the names
        title = "weights (scores as their publisher reports them, or as measured here)"
        grid = table("checkpoint", *metrics, "license", "source", title=title, numbers=metrics)
        for c, one in zip(found.checkpoints, scores, strict=True):
            numbers = (f"{one[key]:.1f}" if key in one else "" for key in metrics)
            grid.add_row(c.name, *numbers, c.license, str(c.source))
        show(grid)


def _predict(a: argparse.Namespace) -> int:
    from zoo.data.collisions.frames import is_sequence
    from zoo.data.folder import find_videos

    files, failed = [], 0
    for path in a.files:  # before any download
        try:
            files += [path] if is_sequence(path) else find_videos(path)
        except zoo.DataError as error:
            failed += 1
            print(f"zoo: {error}", file=sys.stderr)
    if not files:
        return 1
    if a.plot and len(files) > 1:
        raise zoo.ZooError(f"--plot draws one video, and {len(files)} were given.")
    model = on_device(zoo.load(a.model, weights=a.weights), a.device)
    answer, options = _answer(model, a)
    if model.spec.collisions is None:  # frames of a collision are a folder like any other
        files = [video for file in files for video in find_videos(file)]
    answers = []
    for file in files:
        if a.flow and len(files) > 1:
            options["flow"] = a.flow / file.stem
        try:
            found, shown = answer(model, file, top=a.top, **options)
        except zoo.VideoError as error:
            failed += 1
            answers.append({"file": str(file), "error": str(error)})
            print(f"zoo: {error}", file=sys.stderr)
            continue
        answers.append({"file": str(file), **found})
        if not a.json:
            print(file)  # not as the table's title, which would fold it
            for one in shown:
                show(one)
    if a.json:
        print_json(answers)
    return 1 if failed else 0


def _answer(model, a: argparse.Namespace) -> tuple:
    """How a model answers for a file, and the options that it was given for that."""
    if hasattr(model, "autocorrect") or hasattr(model, "describe"):
        answer, takes = goals.answer, {"plot", "stride"}
    elif hasattr(model, "watch"):
        answer, takes = activities.answer, {"plot", "per_frame", "flow"}
    elif hasattr(model, "curve"):
        answer, takes = actionness.answer, {"plot", "rate"}
    elif hasattr(model, "encode_text") and hasattr(model, "predict"):
        answer, takes = _sentences, {"text"}
    elif hasattr(model, "latent"):
        answer, takes = physics.answer, {"plot"}
    elif hasattr(model, "predict"):
        answer, takes = _classes, {"clips", "crops"}
    else:
        way = "; `zoo propagate` carries labels through videos with it" if hasattr(model, "propagate") else ""
        way = f"; in Python it finds steps: {model.example}" if hasattr(model, "localize") else way
        raise zoo.ZooError(f"{model.name} predicts no classes{way}.")
    every = ("clips", "crops", "stride", "plot", "per_frame", "flow", "rate", "text")
    given = {name: value for name in every if (value := getattr(a, name)) not in (None, False)}
    if any(name not in takes for name in given):
        wrong, own = (
            ", ".join(f"--{name.replace('_', '-')}" for name in every if name in names)
            for names in (given.keys() - takes, takes)
        )
        raise zoo.ZooError(f"{model.name} does not take {wrong}; it takes {own}.")
    return answer, given


def _classes(model, file: Path, **options) -> tuple[dict, list]:
    """A classifier's answer for `zoo predict`: for machines, and as tables."""
    return _ranked(model.predict(file, **options), "class")


def _sentences(model, file: Path, *, top: int, text: Sequence[str] = ()) -> tuple[dict, list]:
    """The answer of a model of clips and sentences for `zoo predict`: for machines, and as tables."""
    return _ranked(model.predict(file, text, top), "sentence")


def _ranked(predictions: Sequence, what: str) -> tuple[dict, list]:
    """Labels with their scores, best first, in both forms."""
    grid = table("score", what)
    for p in predictions:
        grid.add_row(f"{p.score:.3f}", p.label)
    return {"predictions": [vars(p) for p in predictions]}, [grid]


def _propagate(a: argparse.Namespace) -> None:
    from zoo.propagate import propagate_data, propagate_video

    if a.out is None and a.overlay is None:
        raise zoo.ZooError("zoo propagate wants --out FOLDER, --overlay FILE.mp4, or both: nothing would be kept.")
    if (a.data is None) == (a.video is None) or (a.data and (a.out is None or a.overlay or a.texture)):
        raise zoo.ZooError(
            "zoo propagate wants a VIDEO with --mask or --keypoints, or --data NAME=ROOT with --out FOLDER."
        )
    if a.video and a.mask is None and a.keypoints is None:
        raise zoo.ZooError("zoo propagate wants the first frame's labels: --mask FILE.png or --keypoints FILE.json.")
    if a.data_option and not a.data:
        raise zoo.ZooError("--data-option is of a data set, --data NAME=ROOT, and a video was given.")
    name, root = assignment(a.data) if a.data else ("", "")
    data = zoo.datamodule(name, root=root, **data_options(name, a.data_option)) if name else None
    size = {} if a.size is None else {"size": a.size}
    model = on_device(zoo.load(a.model, weights=a.weights, **size), a.device)
    with progress("sequences" if data else "frames") as bar:
        if data:
            count = propagate_data(model, data, a.out, bar)
        else:
            labels = {"mask": a.mask, "keypoints": a.keypoints, "texture": a.texture}
            count = propagate_video(model, a.video, **labels, out=a.out, overlay=a.overlay, progress=bar)
    places = ", ".join(str(place) for place in (a.out, a.overlay) if place)
    print(f"{count} {'sequences' if data else 'frames'} written: {places}")


def _reproduce(a: argparse.Namespace) -> int:
    from zoo.reproduce import report, tables

    if a.table is None:
        listing = table("table", "title", "rows", "data")
        for one in tables.load_tables().values():
            listing.add_row(one.name, one.title, str(len(one.rows)), one.data or "")
        show(listing)
        return 0
    data = dict(assignment(text) for text in a.data)
    found = zoo.reproduce(
        a.table,
        data,
        a.row,
        out=a.out,
        limit=a.limit,
        batch_size=a.batch_size,
        num_workers=a.num_workers,
        accelerator=a.accelerator,
        devices=a.devices,
    )
    if a.json:
        print_json(found.to_json())
    else:
        report.show(found)
    if a.markdown:
        report.write(a.markdown, report.markdown(found))
    if a.html:
        report.write(a.html, report.html(found))
    return 1 if found.failed else 0


def _check(a: argparse.Namespace) -> int:
    options = {"num_workers": a.num_workers} | data_options(a.name, a.data_option)
    report = zoo.datamodule(a.name, root=a.root, **options).check(decode=a.decode)
    if a.json:
        print_json(report.to_dict())
        return 0 if report.ok else 1
    grid = table(
        "split", "expected", "found", "missing", "unreadable", "changed", title=f"{report.name} in {report.root}"
    )
    for split, s in report.splits.items():
        grid.add_row(split, *map(str, (s.expected, s.found, s.missing, len(s.unreadable), len(s.changed))))
    show(grid)
    for s in report.splits.values():
        for message in s.unreadable.values():
            print(f"  {message}")
        for name in s.changed:
            print(f"  {name}: changed since its checksum was taken")
    print("\n".join(report.advice()))
    return 0 if report.ok else 1


def _convert(a: argparse.Namespace) -> None:
    from zoo.loading import convert

    print(f"{convert(a.model, a.source, a.target)} tensors of {a.model} written to {a.target}")


def _verify(a: argparse.Namespace) -> int:
    failed = 0
    for name in a.name:
        result = zoo.verify(name)
        print(result)
        failed += not result.ok
    return 1 if failed else 0


def _publish(a: argparse.Namespace) -> None:
    from zoo.loading import publish

    print(f"published: {publish(a.model, a.repo, weights=a.weights, license=a.license, private=a.private)}")


def _visualize_attention(a: argparse.Namespace) -> None:
    from zoo.visualize import draw_attention

    model = zoo.load(a.model)
    for path in draw_attention(model, a.file, a.out, at=a.at, block=a.block, keys=a.keys):
        print(path)


def _visualize_flow(a: argparse.Namespace) -> None:
    from zoo.visualize import draw_flow

    for path in draw_flow(zoo.load(a.model), a.file, a.out, at=a.at, gap=a.gap):
        print(path)
