"""The commands of the models of goals: timelines, corrections, words, the index of clips, pseudo labels."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zoo
from zoo.cli.common import assignment, fraction, model_options, on_device, positive, print_json, progress, show, table


def add_commands(command: Any) -> None:
    """Add the commands to the parser; ``command(name, run, summary)`` makes one."""
    p = command("index", _index, "embed the videos of data sets, for `zoo retrieve`")
    p.add_argument("model", help="a model of goals, a checkpoint or a .ckpt file")
    p.add_argument("data", nargs="+", metavar="NAME=ROOT", help="data sets; of each its validation videos")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the index; an interrupted run goes on")
    p.add_argument("--stride", type=float, default=1.0, help="seconds from one clip to the next (1)")
    model_options(p)

    p = command("retrieve", _retrieve, "the nearest clips of an index, before and after a failure is corrected")
    p.add_argument("model", help="the index's model")
    p.add_argument("video", type=Path)
    p.add_argument("--index", type=Path, required=True, metavar="FOLDER", help="that `zoo index` wrote")
    p.add_argument("-k", type=positive, default=3, help="clips of each (3)")
    p.add_argument("--json", action="store_true", help="print JSON")
    model_options(p)

    p = command("pseudo-label", _pseudo_label, "when things go wrong in videos that nobody annotated")
    p.add_argument("model", help="a model of goals, such as oops_r3d18, a checkpoint or a .ckpt file")
    p.add_argument("--data", required=True, metavar="NAME=ROOT", help="such as oops=/data/oops")
    p.add_argument("--out", type=Path, required=True, metavar="JSON", help="for --data.pseudo of `zoo fit`")
    p.add_argument("--stride", type=float, default=0.25, help="seconds from one clip to the next (0.25)")
    p.add_argument("--at-least", type=fraction, default=0.0, metavar="P", help="leave out what is less probable (0)")
    model_options(p)

    p = command("words", _words, "the vectors of a vocabulary's words, from a text encoder of the hub")
    p.add_argument("vocabulary", type=Path, metavar="VOCAB.json", help="a list of words")
    p.add_argument("--encoder", default="bert-base-uncased", help="a repository of the hub, or 'random'")
    p.add_argument("--revision", help="of the repository")
    p.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors", help="for --model.words of `zoo fit`")


def add_pictures(pictures: Any) -> None:
    """Add the kinds of `zoo visualize`."""
    p = pictures.add_parser("trajectories", help="an index in two dimensions, with corrected trajectories (figure 7b)")
    p.set_defaults(run=_draw_trajectories)
    p.add_argument("model", help="the index's model")
    p.add_argument("files", nargs="+", type=Path, metavar="FILE", help="videos whose corrections are drawn")
    model_options(p)
    p.add_argument("--index", type=Path, required=True, metavar="FOLDER", help="that `zoo index` wrote")
    p.add_argument("--out", type=Path, default=Path("trajectories.png"), metavar="PNG")

    p = pictures.add_parser("neurons", help="the units that go with a word, and the clips that move them (figure 7a)")
    p.set_defaults(run=_draw_neurons)
    p.add_argument("model", help="the index's model")
    p.add_argument("--index", type=Path, required=True, metavar="FOLDER", help="that `zoo index` wrote, of Oops!")
    p.add_argument("--data", required=True, metavar="NAME=ROOT", help="the same data, with goals: oops=/data/oops")
    p.add_argument("-k", type=positive, default=3, help="units (3)")
    model_options(p)
    p.add_argument("--out", type=Path, default=Path("neurons.png"), metavar="PNG")


def answer(
    model: Any, file: Path, *, top: int, plot: Path | None = None, stride: float | None = None
) -> tuple[dict, list]:
    """What `zoo predict` says of a file: for machines, and as tables."""
    if hasattr(model, "describe"):
        if plot or stride is not None:
            raise zoo.ZooError(f"--plot and --stride are of the model that {model.name} reads, not of its words.")
        return _described(model.describe(file, top=top))
    if plot:
        from zoo.visualize.drawing import require_png
        from zoo.visualize.timeline import timeline

        require_png(plot)  # before the work, not after it
    found = model.predict(file, stride=1.0 if stride is None else stride)
    if plot:
        timeline(file, found.moments, found.failure, plot)
    names = ("intentional", "transitional", "unintentional")
    grid = table("seconds", *names, "", numbers=names)
    for moment in found.moments:
        here = "<- failure" if moment.start <= found.failure <= moment.end else ""
        scores = (f"{getattr(moment, name):.3f}" for name in names)
        grid.add_row(f"{moment.start:.2f} - {moment.end:.2f}", *scores, here)
    return {"failure": found.failure, "moments": [asdict(moment) for moment in found.moments]}, [grid]


def _described(found: Any) -> tuple[dict, list]:
    grids = []
    for name in ("intentional", "unintentional", "corrected"):
        if words := getattr(found, name):
            grid = table(name, *words)
            for rank, row in enumerate(zip(*words.values(), strict=True), 1):
                grid.add_row(str(rank), *(f"{w.word or '-'} {w.score:.2f}" for w in row))
            grids.append(grid)
    about = asdict(found)
    about.pop("video")
    return about, grids


def _load(a: argparse.Namespace, needs: str, purpose: str) -> Any:
    model = zoo.load(a.model, weights=getattr(a, "weights", None))
    if not hasattr(model, needs):
        raise zoo.ZooError(f"{model.name} {purpose}; take a model of goals (`zoo list '*goal_trajectory*'`).")
    return on_device(model, getattr(a, "device", "auto"))


def _index(a: argparse.Namespace) -> None:
    from zoo.retrieval import build_index

    roots = [assignment(text) for text in a.data]
    if twice := {name for name, _ in roots if sum(name == other for other, _ in roots) > 1}:
        raise zoo.ZooError(f"{', '.join(sorted(twice))} was given twice; an index has one folder of each data set.")
    model = _load(a, "embed", "has no vectors of clips")
    sources = {name: zoo.datamodule(name, root=root, spec=model.spec) for name, root in roots}
    with progress("videos") as bar:
        index = build_index(model, sources, a.out, a.stride, progress=bar)
    for source, name, message in index.unreadable:
        print(f"  {source}: {name}: {message}")
    print(f"{len(index)} clips of {len(index.videos)} videos in {a.out}; {len(index.unreadable)} videos unreadable")


def _retrieve(a: argparse.Namespace) -> None:
    from zoo.clip_index import Index
    from zoo.retrieval import retrieve

    model = _load(a, "autocorrect", "corrects nothing")
    found = retrieve(model, a.video, Index.open(a.index, model), a.k)
    if a.json:
        print_json([asdict(one) for one in found])
        return
    grid = table("seconds", "nearest before", "score", "nearest after correction", "score")
    for one in found:
        when = f"{one.start:.2f} - {one.end:.2f}{' *' if one.wrong else ''}"
        for number, (before, after) in enumerate(zip(one.before, one.after, strict=True)):
            cells = [
                part
                for hit in (before, after)
                for part in (f"{hit.source}: {hit.name} {hit.start:.1f}", f"{hit.score:.2f}")
            ]
            grid.add_row("" if number else when, *cells)
    show(grid)
    print("* corrected, because the model does not read it as intentional")


def _pseudo_label(a: argparse.Namespace) -> None:
    from zoo.pseudo_labels import pseudo_label

    name, root = assignment(a.data)
    model = _load(a, "embed", "does not say when things go wrong")
    data = zoo.datamodule(name, root=root, spec=model.spec)
    if not hasattr(data, "unlabelled"):
        raise zoo.ZooError(f"{name} has no videos without annotation; pseudo labels are of oops.")
    with progress("videos") as bar:
        found = pseudo_label(model, data.unlabelled(), a.out, stride=a.stride, at_least=a.at_least, progress=bar)
    for video, message in found["unreadable"].items():
        print(f"  {video}: {message}")
    print(f"{found['labelled']} videos labelled in {a.out}, {found['left_out']} left out as too uncertain")


def _words(a: argparse.Namespace) -> None:
    from zoo.hub.words import build_words

    table = build_words(a.vocabulary, a.encoder, a.out, revision=a.revision)
    print(f"{len(table)} words of {table.shape[1]} numbers written to {a.out}")


def _draw_trajectories(a: argparse.Namespace) -> None:
    from zoo.clip_index import Index
    from zoo.visualize.trajectories import trajectories

    model = _load(a, "autocorrect", "corrects nothing")
    index = Index.open(a.index, model)
    corrections = {str(file): model.autocorrect(file) for file in a.files}
    print(trajectories(index.vectors("h"), corrections, a.out, states=index.logits.argmax(1)))


def _draw_neurons(a: argparse.Namespace) -> None:
    from zoo.clip_index import Index
    from zoo.probing import word_neurons
    from zoo.visualize.neurons import draw_neurons, neuron_table

    model = _load(a, "embed", "has no vectors of clips")
    name, root = assignment(a.data)
    data = zoo.datamodule(name, root=root, spec=model.spec, goals=True)
    rows = word_neurons(Index.open(a.index, model), data, a.k)
    print(neuron_table(rows))
    print(draw_neurons(rows, a.out))
