"""The lists of the collisions' release, info/data.p and info/batch.p: pickles of Python 2, read without running them.

A pickle is a program for a small stack machine, one of whose instructions calls any function that it can name. Here
only those that build lists, tuples, dictionaries, texts and numbers are carried out, every other is refused; and what
a list claims is counted against the length of its file, because a few instructions can put one list into another
over and over again.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.collisions.plan import PROPERTIES, RELEASED, SCALES, SPLITS
from zoo.data.listing import place_inside
from zoo.errors import DataError
from zoo.pickles import Bounded, Instructions, Refused

_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT"
)
REMEDY = "Unpack the archive there again."  # of a set that is not whole, where nobody knows better
_CODES = [getattr(pickle, name)[0] for name in _INSTRUCTIONS.split()]


@dataclass(frozen=True)
class CollisionIndex:
    """What the lists of a set of collisions say.

    Attributes:
        folders: of the sequences, by number, each inside the root.
        mini_batches: property, then split, to the sequences of its mini-batches in order of scale, int64 ``[M, 5]``.
    """

    folders: list[Path]
    mini_batches: dict[str, dict[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.folders)

    @cached_property
    def scales(self) -> np.ndarray:
        """Scales of mass, speed and friction of every sequence, 1 to 5, float32 ``[N, 3]``: its place in the
        mini-batches of the property; NaN where it is in none, or has several.
        """
        lowest, highest = (np.full((len(self), len(PROPERTIES)), value, np.float32) for value in (np.inf, -np.inf))
        for column, name in enumerate(PROPERTIES):
            groups = np.concatenate(list(self.mini_batches[name].values()))
            np.minimum.at(lowest[:, column], groups, SCALES)
            np.maximum.at(highest[:, column], groups, SCALES)
        return np.where(lowest == highest, lowest, np.float32(np.nan))

    @cached_property
    def trained(self) -> np.ndarray:
        """Whether a sequence is in a mini-batch of training, bool ``[N]``."""
        trained = np.zeros(len(self), bool)
        for splits in self.mini_batches.values():
            trained[splits["train"]] = True
        return trained


def read_index(root: Path, remedy: str = REMEDY) -> CollisionIndex:
    """The lists of the set in ``root``.

    Args:
        root: the folder that holds info/.
        remedy: what to do about a set that is not whole, a sentence.

    Raises:
        DataError: there are none, or they are no such lists, or refused.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder of the collisions, which holds info/data.p, as root.")
    places = [root / "info" / name for name in ("data.p", "batch.p")]
    if lacking := [place for place in places if not place.is_file()]:
        there = sum(1 for _ in root.glob("*/00.png"))
        raise DataError(f"there is no {lacking[0]}, so the set is not whole ({there} sequences are there). {remedy}")
    folders = _folders(root, places[0], remedy)
    return CollisionIndex(folders, _mini_batches(places[1], len(folders), remedy))


def read_plain(path: Path, remedy: str = REMEDY) -> Any:
    """What a pickle holds that consists of lists, tuples, dictionaries, texts (Latin-1) and numbers.

    Args:
        path: of the pickle.
        remedy: what to do about one that is damaged, a sentence.

    Raises:
        DataError: it holds anything else, or is damaged.
    """
    try:
        data = path.read_bytes()
        return _Plain(data).load()
    except Refused as error:
        raise DataError(f"{path} is refused: {error}. Such a list holds names and numbers alone. {remedy}") from None
    except Exception as error:  # a damaged program can fail in any way, but none of them runs foreign code
        raise DataError(f"{path} is a damaged pickle ({str(error) or type(error).__name__}). {remedy}") from None


def _folders(root: Path, path: Path, remedy: str) -> list[Path]:
    entries = read_plain(path, remedy)
    if not isinstance(entries, (list, tuple)) or not entries:
        raise DataError(f"{path} holds no list of sequences, but {_short(entries)}. {remedy}")
    folders = []
    for number, entry in enumerate(entries):
        where = f"{path}, sequence {number}"
        name = entry[0] if isinstance(entry, (list, tuple)) and entry else None
        if not isinstance(name, str):
            raise DataError(f"{where}: an entry begins with the name of a folder, got {_short(entry)}.")
        folders.append(place_inside(root, name, where))
    return folders


def _mini_batches(path: Path, count: int, remedy: str) -> dict[str, dict[str, np.ndarray]]:
    """``{property: {split: int64 [M, 5]}}``; ``count`` sequences there are."""
    content = read_plain(path, remedy)
    wanted = tuple(RELEASED.values())
    if not isinstance(content, dict) or not set(wanted) <= set(content):
        found = f"the keys {_short(sorted(map(str, content)))}" if isinstance(content, dict) else _short(content)
        raise DataError(
            f"{path} has {found}, and must have {', '.join(wanted)} ('force' is the release's word for speed)."
        )
    budget = path.stat().st_size  # every number takes a byte at least, unless one list stands in many places
    found = {}
    for name, key in RELEASED.items():
        splits = content[key]
        if not isinstance(splits, (list, tuple)) or len(splits) < len(SPLITS):
            raise DataError(
                f"{path}, {key!r}: three lists of mini-batches (training, shape test, parameter test) are wanted, got "
                f"{_short(splits)}."
            )
        found[name] = {}
        for split, groups in zip(SPLITS, splits, strict=False):  # what there may be more of is not looked at
            where = f"{path}, {key!r}, {split}"
            if not isinstance(groups, (list, tuple)):
                raise DataError(f"{where}: a list of mini-batches is wanted, got {_short(groups)}.")
            budget -= len(SCALES) * len(groups)
            if budget < 0:
                raise DataError(f"{path} is refused: it unfolds into more numbers than it has bytes. {remedy}")
            rows = [_group(group, count, f"{where}, mini-batch {at}") for at, group in enumerate(groups)]
            found[name][split] = np.array(rows, np.int64).reshape(-1, len(SCALES))
    return found


def _group(group: Any, count: int, where: str) -> Sequence[int]:
    if not isinstance(group, (list, tuple)) or len(group) != len(SCALES):
        raise DataError(f"{where}: {len(SCALES)} sequences make a mini-batch, one a scale, got {_short(group)}.")
    for index in group:
        if type(index) is not int or not 0 <= index < count:
            raise DataError(f"{where}: {_short(index)} is no number of a sequence; there are {count}, from 0 on.")
    if len(set(group)) < len(SCALES):
        raise DataError(f"{where}: {_short(group)} names a sequence twice.")
    return group


def _short(value: Any) -> str:
    """A value from a file, as far as a message should show it."""
    return reprlib.repr(value)


class _Plain(pickle._Unpickler):
    """Python's own unpickler with a shorter table of instructions (`zoo.pickles`)."""

    dispatch = Instructions(_CODES)

    def __init__(self, data: bytes) -> None:
        super().__init__(Bounded(io.BytesIO(data), len(data)), encoding="latin-1")

    def find_class(self, module: str, name: str) -> Any:
        raise Refused(f"it wants {module}.{name} to be called while it is read")

    def _name(self) -> None:
        """GLOBAL, which names what is to be called."""
        module, name = (self.readline()[:-1].decode("latin-1") for _ in range(2))
        self.find_class(module, name)

    def _stacked_name(self) -> None:
        """STACK_GLOBAL, the same in newer pickles."""
        name, module = self.stack.pop(), self.stack.pop()
        self.find_class(_short(module), _short(name))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dictionary(self.stack[-1])[_key(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._dictionary(self.stack[-1]).update(_pairs(items))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append(_pairs(items))

    @staticmethod
    def _dictionary(value: Any) -> dict:
        if not isinstance(value, dict):
            raise Refused(f"it has a {type(value).__name__} where a dictionary belongs")
        return value

    dispatch[pickle.GLOBAL[0]] = _name
    dispatch[pickle.STACK_GLOBAL[0]] = _stacked_name
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict


def _pairs(items: list) -> dict:
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _key(value: Any) -> Any:
    """A text or a number: to hash a small tuple of tuples can take for ever."""
    if not isinstance(value, (str, int, float)):
        raise Refused(f"it has a {type(value).__name__} as the key of a dictionary")
    return value
