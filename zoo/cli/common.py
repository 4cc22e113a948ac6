"""What all commands share: how arguments are read, and how tables and progress are shown."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence

import zoo


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def above_zero(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def fraction(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must lie in 0..1")
    return value


def position(text: str) -> tuple[float, float, float]:
    try:
        t, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("three numbers in 0..1: t,y,x") from None
    if not all(0 <= value <= 1 for value in (t, y, x)):
        raise argparse.ArgumentTypeError("each of t,y,x must lie in 0..1")
    return t, y, x


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(*columns: str, title: str | None = None, numbers: Sequence[str] = ("score",)):
    """A table to be filled and shown; the columns ``numbers`` are set to the right."""
    from rich.table import Table
    from rich.text import Text

    # Text, for a file's name may hold what rich takes for markup.
    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        # A name that is cut off cannot be copied: long texts fold.
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def show(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


@contextlib.contextmanager
def progress(unit: str):
    """A bar on the error output where that is a terminal; gives out what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def on_device(model, name: str):
    import torch

    if name == "auto":
        name = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    try:
        return model.to(name)
    except (RuntimeError, AssertionError) as error:
        raise zoo.ZooError(
            f"--device {name} cannot be used ({str(error).splitlines()[0]}); try --device cpu."
        ) from None


def assignment(text: str, wanted: str = "--data wants NAME=ROOT, such as kinetics=/data/k400") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise zoo.ZooError(f"{wanted}, got {text!r}.")
    return name, value


class _Each(argparse.Action):
    """A text, or a list of them where the option is given again."""

    def __call__(self, parser, namespace, value, option=None) -> None:
        known = getattr(namespace, self.dest)
        setattr(
            namespace, self.dest, value if known is None else [*([known] if isinstance(known, str) else known), value]
        )


def weights_option(p: argparse.ArgumentParser) -> None:
    """Add the option that says which weights a model gets."""
    help = "other weights than the default: a checkpoint's name or a file; once for each stream of a model of several"
    p.add_argument("--weights", action=_Each, help=help)


def model_options(p: argparse.ArgumentParser) -> None:
    """Add the options of a command that loads a model."""
    weights_option(p)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
