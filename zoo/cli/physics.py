"""The commands of intuitive physics: what `zoo predict` says, changed and mixed collisions, and the thesis' figures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import zoo
from zoo.cli.common import model_options, on_device, positive, table
from zoo.data.collisions.plan import PROPERTIES

_FIGURES = ("9.4", "9.5", "9.6", "9.7", "9.8")


def add_commands(command: Any) -> None:
    """Add `zoo physics` to the parser; ``command(name, run, summary)`` makes one."""
    p = command("physics", None, "collisions under other physics: a property multiplied, interpolated, exchanged")
    actions = p.add_subparsers(metavar="ACTION", required=True)

    p = actions.add_parser("edit", help="the fifth frame of a collision if its properties were multiples")
    p.set_defaults(run=_edit)
    _collisions(p, "folder")
    for name in PROPERTIES:
        p.add_argument(f"--{name}", type=_ratio, metavar="RATIO", help="1/3, 1/2, 2 or 3, as the model has learned")
    p.add_argument("--out", type=Path, required=True, metavar="PNG")

    p = actions.add_parser("interpolate", help="fifth frames between two collisions, in one property")
    p.set_defaults(run=_interpolate)
    _collisions(p, "first", "second")
    p.add_argument("--property", choices=PROPERTIES, required=True)
    p.add_argument("--steps", type=positive, default=5, help="from the first's property to the second's (5)")
    p.add_argument("--out", type=Path, required=True, metavar="PNG|MP4")

    p = actions.add_parser("swap", help="the fifth frame of a collision with a property of another one")
    p.set_defaults(run=_swap)
    _collisions(p, "first", "second")
    p.add_argument("--property", choices=PROPERTIES, required=True)
    p.add_argument("--out", type=Path, required=True, metavar="PNG")


def add_pictures(pictures: Any) -> None:
    """Add the kind of `zoo visualize`."""
    p = pictures.add_parser("intuitive_physics", help="predicted and changed collisions, as sheets and films")
    p.set_defaults(run=_draw)
    p.add_argument("model", help="a model of collisions, a checkpoint or a .ckpt file")
    p.add_argument("root", type=Path, help="of physics_collisions")
    p.add_argument("--figure", choices=(*_FIGURES, "all"), default="all", help="of the thesis (all that can be drawn)")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for a PNG and an MP4 of each")
    p.add_argument("--count", type=positive, help="examples of a kind (4 in figure 9.4, 2 in 9.8, 1 in the others)")
    p.add_argument("--seed", type=int, default=0, help="of the draw of examples (0)")
    p.add_argument("--baseline", action="append", default=[], metavar="MODEL", help="in red in figure 9.6; repeatable")
    model_options(p)


def answer(model: Any, file: Path, *, top: int, plot: Path | None = None) -> tuple[dict, list]:
    """What `zoo predict` says of a sequence's folder: for machines, and as tables."""
    from zoo.visualize.physics_strips import draw_strip, error_of

    frames = _frames(model, file, plot)
    future = model.predict(frames)
    length = future.displacement.norm(dim=2)
    said = {
        "pixel_error": error_of(frames, future),
        "displacement": {"mean": float(length.mean()), "longest": float(length.max())},
    }
    if plot:
        said["plot"] = str(draw_strip(f"{file.name}: predicted by {model.name}", frames, {"predicted": future}, plot))
    grid = table("fifth frame", "", numbers=("",))
    grid.add_row("pixel error", "no 04.png to hold it against" if len(frames) < 5 else f"{said['pixel_error']:.1f}")
    for name, value in said["displacement"].items():
        grid.add_row(f"displacement, {name}", f"{value:.1f} pixels")
    return said, [grid]


def _collisions(p: argparse.ArgumentParser, *folders: str) -> None:
    p.add_argument("model", help="a model of intuitive physics, a checkpoint or a .ckpt file")
    for name in folders:
        p.add_argument(name, type=Path, help="of a sequence: 00.png to 03.png, and 04.png if it is known")
    model_options(p)


def _ratio(text: str) -> float:
    try:
        value = float(Fraction(text) if "/" in text else text)  # a fraction's exponent would be written out
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError("a number or a fraction, such as 2 or 1/3") from None
    if not value > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _load(a: argparse.Namespace, name: str | None = None) -> Any:
    from zoo.visualize.physics import require_physics

    model = zoo.load(name) if name else zoo.load(a.model, weights=a.weights)
    require_physics(model)
    return on_device(model, a.device)


def _changing(a: argparse.Namespace) -> Any:
    model = _load(a)
    if not hasattr(model, "edit"):
        raise zoo.ZooError(f"{model.name} has no part of a vector for each property; intuitive_physics has.")
    return model


def _frames(model: Any, folder: Path, out: Path | None, *, film: bool = False) -> Any:
    """A sequence's frames; what is wrong with the name or the place of the picture is said first."""
    from zoo.data.collisions.frames import read_frames
    from zoo.files import require_writable
    from zoo.visualize.drawing import require_png
    from zoo.visualize.physics_strips import require_png_or_mp4

    if out is not None:
        (require_png_or_mp4 if film else require_png)(out)
        require_writable(out.parent)
    return read_frames(folder, model.spec.crop)


def _edit(a: argparse.Namespace) -> None:
    from zoo.visualize.physics_strips import draw_strip

    ratios = {name: value for name in PROPERTIES if (value := getattr(a, name)) is not None}
    if not ratios:
        raise zoo.ZooError("zoo physics edit wants a property and its ratio, such as --mass 2 --friction 1/2.")
    model = _changing(a)
    frames = _frames(model, a.folder, a.out)
    words = ", ".join(f"{name} x {Fraction(ratio).limit_denominator(100)}" for name, ratio in ratios.items())
    futures = {"predicted": model.predict(frames), words: model.edit(frames, **ratios)}
    print(draw_strip(f"{a.folder.name}: {words}, by {model.name}", frames, futures, a.out))


def _interpolate(a: argparse.Namespace) -> None:
    from zoo.visualize.physics_strips import draw_interpolation

    model = _changing(a)
    ends = [_frames(model, folder, a.out, film=True) for folder in (a.first, a.second)]
    futures = model.interpolate(*ends, a.property, steps=a.steps)
    named = list(zip((a.first.name, a.second.name), ends, strict=True))
    print(draw_interpolation(f"{a.property} interpolated by {model.name}", a.property, named, futures, a.out))


def _swap(a: argparse.Namespace) -> None:
    from zoo.visualize.physics_strips import draw_strip

    model = _changing(a)
    frames, other = (_frames(model, folder, a.out) for folder in (a.first, a.second))
    futures = {"predicted": model.predict(frames), "switched": model.swap(frames, other, a.property)}
    title = f"{a.first.name}: {a.property} of {a.second.name}"
    print(draw_strip(title, frames, futures, a.out))


def _draw(a: argparse.Namespace) -> None:
    from zoo.visualize.physics import FIGURES, draw_physics, lacking

    model = _load(a)
    baselines = [_load(a, name) for name in a.baseline]
    spec = model.spec
    if any(one.spec.collisions.flow for one in baselines):
        spec = spec.replace(collisions=replace(spec.collisions, flow=True))
    data = zoo.datamodule("physics_collisions", root=a.root, spec=spec)
    figures = None if a.figure == "all" else [a.figure]
    for path in draw_physics(model, data, a.out, figures, count=a.count, seed=a.seed, baselines=baselines):
        print(path)
    if figures is None:
        for why in filter(None, (lacking(model, figure) for figure in FIGURES)):
            print(f"left out: {why}")
