"""What `zoo extract` notes beside the features that it makes, as far as it tells those who read them something.

    extraction.json      {"model": ..., "rate": rows a second, "dim": numbers in a row, ...}, see `zoo.feature_folder`

Features of other origin have none. It comes from anybody, as the features do.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DataError

ABOUT = "extraction.json"
_LONGEST = 1 << 20  # bytes
_SAME = 1e-3  # part by which two rates may differ: 0.333 stands for a third


@dataclass(frozen=True)
class FeatureSettings:
    """How the features in a folder were made.

    Attributes:
        path: of the note; None where there is none.
        rate: rows a second, finite and above 0; None where it is not known.
        dim: numbers in a row; None where it is not known.
        model: that made them; empty where it is not known.
        problem: what is wrong with the note.
    """

    path: Path | None = None
    rate: float | None = None
    dim: int | None = None
    model: str = ""
    problem: str = ""

    def require(self, dim: int | None) -> None:
        """Refuse features of another network.

        Raises:
            DataError: rows do not have ``dim`` numbers.
        """
        if self.dim is not None and dim not in (None, self.dim):
            raise DataError(
                f"{self.path}: these are features of {self.model or 'some network'}, rows of {self.dim} numbers, and "
                f"the model wants {dim}. Use features of the network that it was made for, or set its features.dim."
            )


def read_note(folder: Path) -> dict[str, Any] | None:
    """All that a folder's note says; None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / ABOUT
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
        said = json.loads(text.decode()) if len(text) <= _LONGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it, or extract into another folder.") from error
    if not isinstance(said, dict):
        raise DataError(f"{path} is not what `zoo extract` writes; extract into another folder.")
    return said


def settings_beside(folder: Path) -> FeatureSettings:
    """What is noted of the features that lie in a folder; of a note that is damaged, only that."""
    try:
        said = read_note(folder)
    except DataError as error:
        return FeatureSettings(folder / ABOUT, problem=str(error))
    if said is None:
        return FeatureSettings()
    rate, dim, model = _rate(said.get("rate")), said.get("dim"), said.get("model")
    return FeatureSettings(
        folder / ABOUT,
        rate,
        dim if type(dim) is int and dim > 0 else None,
        model if isinstance(model, str) else "",
        "" if rate else f"{folder / ABOUT} has no rate that is a number above 0.",
    )


def agreed_rate(given: float | None, noted: Iterable[FeatureSettings]) -> float:
    """Rows a second of features: what is given, else what is noted, else 1. What contradicts a note is warned of.

    Args:
        given: the option; None leaves it to the notes.
        noted: of each folder that the features lie in.

    Raises:
        DataError: nothing is given, and the notes of two folders say different things.
    """
    noted = list(noted)
    known = [one for one in noted if one.rate is not None]
    if given is not None:
        if others := [one for one in known if not _same(given, one.rate)]:
            warnings.warn(
                f"{others[0].path}: the features were extracted at {others[0].rate:g} rows a second, and the option "
                f"rate is {given:g}: times will be wrong. Leave the option out.",
                stacklevel=3,
            )
        return given
    for one in known[1:]:
        if not _same(one.rate, known[0].rate):
            raise DataError(
                f"{known[0].path} says {known[0].rate:g} rows a second and {one.path} {one.rate:g}; a data set has "
                "features of one rate. Extract them alike, or name one folder."
            )
    if not known and (problem := next((one.problem for one in noted if one.problem), "")):
        warnings.warn(f"{problem} 1 row a second is taken; give the option rate if it is another.", stacklevel=3)
    return known[0].rate if known else 1.0


def rate_of(features: Any, given: float | None = None) -> float:
    """As `agreed_rate`, of features that a model is given: ``given``, else what is noted beside the file, else 1.

    Args:
        features: the file (.npy), or anything else, beside which nothing lies.
        given: rows a second.

    Raises:
        DataError: it is not a finite number above 0.
    """
    given = None if given is None else checked_rate(given)
    is_file = isinstance(features, (str, os.PathLike)) and Path(features).suffix == ".npy"
    return agreed_rate(given, [settings_beside(Path(features).parent)] if is_file else [])


def checked_rate(rate: float) -> float:
    """Rows a second, refused unless finite and above 0.

    Raises:
        DataError: it is not.
    """
    if (known := _rate(rate)) is None:
        raise DataError(f"rate is rows of features a second, above 0; got {rate!r}.")
    return known


def _rate(value: Any) -> float | None:
    try:
        rate = float("nan" if isinstance(value, (bool, str)) else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return rate if 0 < rate < math.inf else None


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_SAME)
