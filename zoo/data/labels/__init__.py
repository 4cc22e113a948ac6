"""The class lists of the data sets, as they number them: one name a line, the first is class 0."""

from __future__ import annotations

import functools
from pathlib import Path

from zoo.errors import unknown_name

_FOLDER = Path(__file__).resolve().parent


def label_lists() -> list[str]:
    """The names of the class lists that travel with the package, such as ``"kinetics400"``."""
    return sorted(file.stem for file in _FOLDER.glob("*.txt"))


@functools.cache
def class_names(name: str) -> tuple[str, ...]:
    """The class names of a list in the order of their numbers.

    Raises:
        zoo.UnknownNameError: no such list.
    """
    if name not in label_lists():
        raise unknown_name("class list", name, label_lists())
    return tuple((_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1])
