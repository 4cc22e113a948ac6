"""A million videos with features as columns: names, categories and places in arrays, and no object of any of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.data.clip_means import OpenVideos, open_each
from zoo.data.feature_files import FeatureFile, FeatureRows
from zoo.data.feature_index import as_name
from zoo.data.listing import place_inside, plain_name
from zoo.data.loader import UNLABELLED
from zoo.data.packed_features import PackedFeatures
from zoo.errors import DataError, VideoError


@dataclass(frozen=True)
class FeatureRecord:
    """One video of a list: its file (or the shard that it lies in), its name, and its subcategory's number."""

    path: Path
    name: str
    label: int = UNLABELLED

    @property
    def identity(self) -> str:
        """What a list of videos is hashed by."""
        return self.name


@dataclass(frozen=True, eq=False)
class FeatureVideos(Sequence):
    """Videos in columns; a record is made when it is asked for.

    Attributes:
        ids: bytes ``[n]``.
        category: numbers, int32 ``[n]``, -1 for none.
        folder: of their files.
        dim: numbers in a row.
        paths: of the files in the folder, bytes ``[n]``; None where they follow from the ids.
        packed: where they are packed, and
        places: their numbers there, int64 ``[n]``.
    """

    ids: np.ndarray
    category: np.ndarray
    folder: Path
    dim: int | None
    paths: np.ndarray | None = None
    packed: PackedFeatures | None = None
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> FeatureRecord:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return FeatureRecord(self.path(number), self.name(number), int(self.category[number]))

    def take(self, numbers: np.ndarray) -> FeatureVideos:
        """Some of them, by numbers or by a mask."""
        columns = {name: getattr(self, name) for name in ("ids", "category", "paths", "places")}
        return replace(self, **{name: None if c is None else c[numbers] for name, c in columns.items()})

    def name(self, number: int) -> str:
        return as_name(self.ids[number])

    def path(self, number: int) -> Path:
        """Where its rows lie.

        Raises:
            DataError: the csv names a place outside the folder.
        """
        if self.packed is not None:
            return self.packed.root / self.packed.shards[self.packed.shard[self.places[number]]].file
        if self.paths is not None:
            return place_inside(self.folder, self.paths[number].decode(), f"path of {self.name(number)}")
        return self.folder / f"{plain_name(self.name(number), 'video_id')}.npy"

    def open(self, number: int) -> FeatureRows:
        if self.packed is not None:
            return self.packed.open(int(self.places[number]))
        try:
            return FeatureFile(self.path(number), self.dim)
        except DataError as error:
            raise VideoError(str(error)) from None

    def open_all(self, numbers: np.ndarray) -> AbstractContextManager[OpenVideos]:
        """Many at once, as `zoo.data.clip_means` reads them."""
        if self.packed is not None:
            return self.packed.open_all(self.places[numbers])
        return open_each(self.open, numbers)

    @property
    def at_once(self) -> int:
        """Videos that may be open at a time: each in a file of its own, or many in a shard."""
        return 128 if self.packed is None else 512

    def prepare(self, numbers: np.ndarray) -> None:
        """Bring here what lies elsewhere."""
        if self.packed is not None:
            self.packed.prepare(self.places[numbers])
