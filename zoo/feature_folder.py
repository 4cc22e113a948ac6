"""A folder that features are extracted into: whose they are, which are there, and the lists that go with them.

`zoo.extraction` says how it lies on disk.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from torch import Tensor

from zoo._version import __version__
from zoo.claims import Claims
from zoo.clip_index import state_hash
from zoo.data.feature_files import FeatureFile
from zoo.data.feature_index import INDEX, write_index
from zoo.data.feature_settings import ABOUT, read_note
from zoo.data.feature_shards import MANIFEST
from zoo.errors import VideoError, ZooError
from zoo.files import write_whole, writing
from zoo.methods.base import ZooModule

Precision = Literal["float16", "float32"]

UNREADABLE = "unreadable.json"
FORMAT = 1
# What features depend on, and how an error says that it is another.
_SETTINGS = {
    "format": "in another version's format",
    "model": "by the model {0}, not {1}",
    "weights": "by other weights of {model}",
    "clips": "of clips that are cut in another way",
    "rate": "at {0:g} rows a second, not {1:g}",
    "precision": "in {0}, not {1}",
    "dim": "with {0} numbers a row, not {1}",
}
_SEEN = ("frames", "stride", "fps", "size", "test_crop", "test_short_side", "mean", "std")
_PAUSE, _RESTS = 10.0, 50  # the folder is listed every so many seconds, and after so many times what that took
_READERS = 16  # threads that read headers: disks on a network answer many at a time


class FeatureFolder:
    """A folder of features of one model and its settings.

    Attributes:
        path: where it lies.
        claims: who is at which video.
    """

    def __init__(self, path: Path, dim: int, precision: Precision) -> None:
        """Opens a folder whose settings are known to agree; see `of`."""
        self.path, self.dim, self.precision = path, dim, precision
        self.claims = Claims(path)
        self._left: defaultdict[str, list[Path]] = defaultdict(list)  # halves of files by the video's id
        self._next_look = 0.0

    @classmethod
    def of(cls, path: Path, model: ZooModule, rate: float, precision: Precision, dim: int) -> FeatureFolder:
        """The folder for a model's features, made if need be.

        Raises:
            ZooError: it holds features of another model or other settings, some that nothing is known of, or packed
                ones.
            NoPlaceError: it can't be written to.
        """
        if precision not in ("float16", "float32"):
            raise ZooError(f"features are stored as 'float16' or 'float32', not {precision!r}.")
        about = settings(model, rate, precision, dim)
        with writing(path / ABOUT):
            path.mkdir(parents=True, exist_ok=True)
            with FileLock(path / ".lock"):  # of runs that begin at once, the first one decides
                if (path / MANIFEST).exists():  # its index says where in the shards a video is
                    raise ZooError(f"{path} holds packed features ({MANIFEST}): name another folder.")
                if (path / ABOUT).exists():
                    _must_match(path, read_settings(path), about)
                elif stranger := next(path.glob("*.npy"), None):
                    raise ZooError(
                        f"{path} holds features ({stranger.name}, ...) but no {ABOUT}, so nobody knows which model's: "
                        "name another folder."
                    )
                else:
                    write_whole(path / ABOUT, json.dumps({**about, "version": __version__}, indent=1).encode())
                return cls(path, dim, precision)

    def ids(self) -> set[str]:
        """The videos whose features are there, by the names of files alone."""
        began, found = time.monotonic(), set()
        self._left.clear()
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".npy") and name[0] != ".":
                    found.add(name[:-4])
                elif name.endswith(".tmp") and ".npy." in name:  # see `write_whole`
                    self._left[name[1 : name.rindex(".npy.")]].append(self.path / name)
        now = time.monotonic()
        self._next_look = now + max(_PAUSE, _RESTS * (now - began))
        return found

    def is_time_to_look(self) -> bool:
        """Whether `ids` was last asked long enough ago, measured by what it costs."""
        return time.monotonic() >= self._next_look

    def rows(self, name: str) -> int | None:
        """How many rows a video's file has; None where it is not there, damaged, or not of this folder's kind."""
        try:
            with FeatureFile(self.path / f"{name}.npy", self.dim) as file:
                return len(file) if file.header.dtype == np.dtype(self.precision) else None
        except VideoError:
            return None

    def write(self, name: str, rows: Tensor) -> None:
        """Write a video's features, float32 ``[T, D]``; whoever calls this has claimed it.

        Raises:
            ZooError: they are too large for half precision.
            NoPlaceError: the disk refuses.
        """
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(rows.numpy().astype(self.precision))
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).any(1).argmax())
            raise ZooError(
                f"row {row} of {name} has numbers up to {rows[row].abs().max():.3g}, and half precision ends at "
                "65504: extract with --precision float32, in Python precision='float32', into another folder."
            )
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
        for half in self._left.pop(name, ()):  # whoever wrote it was killed: the claim was free
            half.unlink(missing_ok=True)
        write_whole(self.path / f"{name}.npy", header.getvalue(), values.data.cast("B"))

    def finish(self, rows: Mapping[str, int], unreadable: Mapping[str, str], videos: Collection[str]) -> set[str]:
        """Write down what is there and what could not be read, and give the ids of what is there.

        Args:
            rows: counts that are known already.
            unreadable: of this run, id to message.
            videos: of this run. What earlier runs over other videos could not read is kept.
        """
        with writing(self.path / INDEX), FileLock(self.path / ".lock"):
            there = self.ids()
            unknown = sorted(there - rows.keys())
            with ThreadPoolExecutor(_READERS) as readers:
                counts = {**rows, **dict(zip(unknown, readers.map(self.rows, unknown), strict=True))}
            earlier = read_unreadable(self.path)
            kept = {name: why for name, why in earlier.items() if name not in videos and name not in there}
            if listed := dict(sorted({**kept, **unreadable}.items())):
                text = json.dumps(listed, indent=1, ensure_ascii=False)
                write_whole(self.path / UNREADABLE, text.encode(errors="replace"))
            else:
                (self.path / UNREADABLE).unlink(missing_ok=True)
            self.claims.clear()
            whole = [name for name in sorted(there) if counts[name] is not None]
            # Last: an index that is older than its folder is taken to be outdated.
            write_index(self.path, whole, [counts[name] for name in whole])
        return there


def settings(model: ZooModule, rate: float, precision: Precision, dim: int) -> dict[str, Any]:
    """What a model's features depend on, as plain values."""
    spec = model.spec.to_dict()
    return {
        "format": FORMAT,
        "model": model.name or type(model).__name__,
        "weights": state_hash(model),
        "clips": {name: spec[name] for name in _SEEN},
        "rate": float(rate),
        "precision": precision,
        "dim": dim,
    }


def read_settings(folder: Path) -> dict[str, Any]:
    """Whose features a folder holds.

    Raises:
        ZooError: nothing says so.
    """
    if (about := read_note(folder)) is None:
        raise ZooError(f"{folder}: there is no {ABOUT}, so these are no features that `zoo extract` made.")
    if not _SETTINGS.keys() <= about.keys():
        raise ZooError(f"{folder / ABOUT} is not what `zoo extract` writes; extract into another folder.")
    return about


def read_unreadable(folder: Path) -> dict[str, str]:
    """What `zoo extract` could not read so far; nothing where no list of it can be read."""
    try:
        found = json.loads((folder / UNREADABLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(why) for name, why in found.items()} if isinstance(found, dict) else {}


def _must_match(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for name, words in _SETTINGS.items():
        if theirs[name] != ours[name]:
            try:
                what = words.format(theirs[name], ours[name], model=ours["model"])
            except (ValueError, TypeError):  # a damaged file may hold anything
                what = f"with another {name}"
            raise ZooError(
                f"{folder} holds features that were extracted {what}: name another folder, or extract with those "
                f"settings ({ABOUT} has them)."
            )
