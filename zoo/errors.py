"""What can go wrong, by name. Every message says what was wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral


class ZooError(Exception):
    """The parent of every error that the zoo raises on purpose: catch this one to catch them all."""


class UnknownNameError(ZooError):
    """A model, checkpoint, table, row or data set was asked for by a name that nobody registered."""


class WeightsError(ZooError):
    """Weights that must not be used: wrong hash, missing or surplus keys, wrong shapes, an unsafe or broken file."""


class FetchError(ZooError):
    """Weights that could not be brought here: no network, no such file, nothing published, no place to write."""


class VideoError(ZooError):
    """A file that cannot be decoded as video (truncated, empty, without a video stream, not a video at all)."""


class DataError(ZooError):
    """A data set that is not laid out, annotated or labelled as its official release is."""


class MissingDataError(DataError):
    """A data set of which the annotations are there, and not what they are of: the videos, their flow or features."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for an unknown ``name``, with the nearest known names and, last, ``hint`` on where to look.

    Args:
        kind: what was asked for, as a noun: "model", "checkpoint", "table".
        name: what the caller wrote.
        known: every name that would have been right.
        hint: a sentence such as "`zoo list` shows all".
    """
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    message = f"unknown {kind} {name!r}."
    if near:
        message += f" Did you mean {', '.join(near)}?"
    elif 0 < len(known) <= 12:
        message += f" Known: {', '.join(known)}."
    return UnknownNameError(f"{message} {hint}".rstrip())


def require_top(top: int) -> None:
    """Refuse a number of best ones that is none, by a `ZooError`; more than there are is right and gives them all."""
    if not isinstance(top, Integral) or top < 1:
        raise ZooError(f"top is how many of the best are given, a whole number from 1 on, not {top!r}.")
