"""What all commands share: how arguments are read, and how tables and progress are shown."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
from collections.abc import Sequence
from typing import Any

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


def data_option(p: argparse.ArgumentParser, such_as: str = "split=test-dev") -> None:
    """Add the option that hands a data set its own options, for `data_options` to read."""
    help = f"of the data set, such as {such_as}; repeatable"
    p.add_argument("--data-option", action="append", default=[], metavar="KEY=VALUE", help=help)


def data_options(name: str, said: Sequence[str]) -> dict[str, Any]:
    """The options of a data set, their values as YAML reads them.

    Raises:
        zoo.ZooError: one is no KEY=VALUE, or the data set does not have it.
    """
    import yaml

    from zoo.data.catalog import datamodule_class

    options: dict[str, Any] = {}
    for text in said:
        key, value = assignment(text, "--data-option wants KEY=VALUE, such as split=test-dev")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise zoo.ZooError(f"--data-option {text!r} cannot be read: {' '.join(str(error).split())}.") from None
    if options:
        known: set[str] = set()
        for home in datamodule_class(name).__mro__:
            known |= inspect.signature(home.__init__).parameters.keys()
            if "options" not in known:  # those of the sandbox hand on what they do not know themselves
                break
            known.remove("options")
        for key in options.keys() - (known := known - {"self", "root", "spec"}):
            raise zoo.ZooError(f"{name} has no option {key!r}; it has {', '.join(sorted(known))}.")
    return options


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
