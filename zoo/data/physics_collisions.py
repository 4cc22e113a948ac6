"""Two-object collisions (Ye et al. 2018), as they are released or as `zoo data make physics_collisions` makes them.

    root/
      sphere_cube_00_mass1_speed1_friction1/00.png ... 04.png    a sequence, under any name; five frames 0.5 s apart
      info/data.p                                                a list; each entry begins with a sequence's folder
      info/batch.p                                               mini-batches by mass, force (speed) and friction: of
                                                                 training, the shape test and the parameter test

Both lists are pickles, read without running anything (`zoo.data.collisions.released`). A mini-batch is five sequences
that differ in one property, in order of its scale. Frames of the release are cut as the release cuts them, square ones
are kept whole (`zoo.data.collisions.frames`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from zoo.data.check import CheckReport, check_records, digest_of
from zoo.data.collisions.frames import FRAMES, crop_of, frame_paths
from zoo.data.collisions.mini_batches import (
    TESTS,
    EverySequence,
    GroupedClips,
    GroupedRows,
    GroupSampler,
    MiniBatch,
    collate_rows,
    list_mini_batches,
    only_one,
)
from zoo.data.collisions.plan import SCALES, SPLITS
from zoo.data.collisions.records import hash_of
from zoo.data.collisions.released import CollisionIndex, read_index
from zoo.data.collisions.store import CollisionStore
from zoo.data.datamodule import VideoDataModule
from zoo.data.images import differing_sizes, image_size, read_image
from zoo.data.json_files import read_json
from zoo.data.loader import ResumableLoader
from zoo.errors import DataError, VideoError
from zoo.spec import CollisionSpec, VideoSpec

_CACHED = 1.5e9  # bytes of frames (and flow) that are kept in memory unasked


class PhysicsCollisions(VideoDataModule):
    """Collisions in mini-batches (see the module's docstring for the layout).

    Training batches are those of `zoo.data.collisions.mini_batches.GroupedClips`: ``groups`` mini-batches of every
    property. Which properties are trained may be changed between epochs, at the loader's ``sampler.properties``. A test
    sees the mini-batches of the shape test and then those of the parameter test, a mini-batch a row
    (`zoo.data.collisions.mini_batches.collate_rows`).

    A frame that is missing or broken is an error while training, for nothing can stand in its place; a test leaves its
    mini-batches out and reports them.
    """

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        groups: int | None = None,
        cache: bool | None = None,
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder of the set.
            spec: what the model wants; its ``crop`` is the side of the frames.
            batch_size: mini-batches of five sequences in a batch of a test; of training, ``groups`` says it all.
            num_workers: processes that decode. From memory the batches are put together where they are used, and these
                are the threads that fill it.
            seed: of the mini-batches that make a batch, and of the order of the batches.
            groups: mini-batches of each property in a training batch; the model's by default.
            cache: keep what was read in memory, `CollisionStore.bytes_of` all sequences in every process; by default
                where that is below 1.5 GB. At 64 pixels it is 0.25 GB for the small set and 1.27 GB for the full
                one; with flow 0.52 and 2.62.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if groups is not None and groups < 1:
            raise DataError(f"groups must be at least 1 mini-batch of each property in a batch, got {groups}.")
        self.groups, self.cache = groups, cache
        self.schedule: Callable[[int], Sequence[str]] | None = None  # which properties an epoch trains; all by default

    @property
    def name(self) -> str:
        return "physics_collisions"

    @property
    def collisions(self) -> CollisionSpec:
        """How collisions are grouped.

        Raises:
            DataError: the model does not look at collisions.
        """
        if self.spec.collisions is None or self.spec.frames != FRAMES:
            problem = "looks at single videos (its spec has no collisions)"
            if self.spec.collisions is not None:
                problem = f"wants {self.spec.frames} frames a sequence, of which there are {FRAMES}"
            raise DataError(f"{self.name} serves collisions in groups, and the model {problem}.")
        return self.spec.collisions

    @property
    def remedy(self) -> str:
        """What to do about a set that is not whole, a sentence."""
        return (
            f"`zoo data make {self.name} --out {self.root}`, with the options that it was begun with, makes what is "
            "missing or broken; of the release, unpack the archive again."
        )

    @cached_property
    def index(self) -> CollisionIndex:
        """What the lists say."""
        return read_index(self.root, self.remedy)

    @cached_property
    def store(self) -> CollisionStore:
        """The sequences."""
        size, flow = self.spec.crop, self.collisions.flow
        cached = self.cache
        if cached is None:
            cached = CollisionStore.bytes_of(len(self.index), size, flow) < _CACHED
        return CollisionStore(self.index, size, flow, cached, self.remedy)

    def setup(self, stage: str) -> None:
        _ = self.collisions  # a model that does not look at them is an error before all others
        super().setup(stage)
        first = frame_paths(self.index.folders[0])[0]
        if first.is_file() and len({*(size := image_size(first)), self.spec.crop}) > 1 and size[0] == size[1]:
            warnings.warn(
                f"{self.root}: frames are {size[0]} pixels wide and the model wants {self.spec.crop}; scaled without "
                "smoothing they look otherwise, and errors are not those of frames of that size. `zoo data make "
                f"{self.name} --size {self.spec.crop}` makes such.",
                stacklevel=2,
            )

    def find_records(self, split: str) -> tuple[list[MiniBatch], int]:
        """The mini-batches of a split whose sequences are all there, and how many the lists name.

        Raises:
            DataError: the lists are not there or not right; of training, a sequence is missing.
        """
        records = list_mini_batches(self.index, SPLITS[:1] if split == "train" else TESTS)
        lacking = {number for number in range(len(self.index)) if not self._is_there[number]}
        found = [record for record in records if lacking.isdisjoint(record.sequences)]
        if split == "train" and len(found) < len(records):
            missing = sorted(lacking & {number for record in records for number in record.sequences})
            raise DataError(
                f"{self.root}: {len(missing)} sequences to train on are missing, the first is "
                f"{self._name(missing[0])}; its mini-batches are worth nothing without it. {self.remedy}"
            )
        return found, len(records)

    def train_dataloader(self) -> DataLoader:
        data, wanted = self._training_data(), self.collisions
        sampler = GroupSampler(data, *self._place(), self.seed, self.groups or wanted.groups, wanted.properties)
        sampler.schedule = self.schedule
        return ResumableLoader(data, sampler=sampler, **self._options() | {"batch_size": 1, "collate_fn": only_one})

    def sequence_dataloader(self) -> DataLoader:
        """Every sequence of training once, in order of its number; see `zoo.data.collisions.mini_batches`."""
        numbers = np.flatnonzero(self.index.trained)
        data = EverySequence(self._training_data().store, numbers, self.batch_size * len(SCALES))
        return DataLoader(data, **self._options() | {"batch_size": 1, "collate_fn": only_one})

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which sequences are there, missing or broken, frame by frame; see `zoo.data.check`.

        A sequence counts where it is used first: in training, in the shape test, in the parameter test. With ``decode``
        files are also compared with the checksums that `zoo data make` noted.

        Raises:
            DataError: the lists are not there or not right.
        """
        taken, splits, lacking = np.zeros(len(self.index), bool), {}, []
        for split in SPLITS:
            used = np.zeros(len(self.index), bool)
            for groups in self.index.mini_batches.values():
                used[groups[split]] = True
            numbers = np.flatnonzero(used & ~taken)
            taken |= used
            there = [number for number in numbers.tolist() if self._is_there[number]]
            lacking += [self._name(number) for number in numbers.tolist() if not self._is_there[number]]
            if len(numbers):  # of pairs that are all trained there is no shape test
                splits[split] = ([_Sequence(self._name(k), self.index.folders[k]) for k in there], len(numbers))
        noted, changed = _noted(self.root), set()

        def examine(record: _Sequence, decode: bool) -> tuple[dict[str, str], str]:
            problems, digest = _examine(record, decode)
            expected = noted.get(record.name) if decode and not problems else None
            if expected and hash_of(path.read_bytes() for path in frame_paths(record.path)) != expected:
                changed.add(record.name)
            return problems, digest

        report = check_records(
            self.name,
            self.root,
            splits,
            decode=decode,
            workers=max(self.num_workers, 1),
            examine=examine,
            units=("sequences", "frames"),
        )
        for split, (records, _) in splits.items():
            found = report.splits[split]
            found.changed = [r.name for r in records if r.name in changed.union(found.changed)]
        return _CollisionReport(report.name, report.root, report.splits, report.units, lacking, self.remedy)

    def _training_data(self) -> GroupedClips:
        self.records("train")
        trained = np.flatnonzero(self.index.trained).tolist()
        self.store.load(trained, self.num_workers)
        if broken := [number for number in trained if number in self.store.broken]:
            raise DataError(f"{len(broken)} sequences cannot be used. The first: {self.store.broken[broken[0]]}")
        return GroupedClips(self.store)

    def _evaluation_data(self, spec: VideoSpec) -> GroupedRows:
        records = self.records("val")
        self.store.load(sorted({number for record in records for number in record.sequences}), self.num_workers)
        return GroupedRows(self.store, records)

    def _options(self) -> dict[str, Any]:
        options = super()._options() | {"collate_fn": collate_rows}
        # Out of memory a batch takes a millisecond, and the way from another process takes more.
        return options | ({"num_workers": 0} if self.store.cached else {})

    @cached_property
    def _is_there(self) -> list[bool]:
        """Whether each sequence has a folder."""
        return [folder.is_dir() for folder in self.index.folders]

    def _name(self, number: int) -> str:
        """A sequence's folder, within the root."""
        return self.index.folders[number].relative_to(self.root).as_posix()


@dataclass
class _CollisionReport(CheckReport):
    """A report that knows where sequences come from, and names one that is missing."""

    lacking: list[str] = field(default_factory=list)
    remedy: str = ""

    def advice(self) -> list[str]:
        lines = super().advice()
        if self.lacking:
            lines.append(f"The first that is missing: {self.lacking[0]}.")
        return lines if self.ok else [*lines, self.remedy]


@dataclass(frozen=True)
class _Sequence:
    """A sequence that is to be examined."""

    name: str
    path: Path


def _noted(root: Path) -> dict[str, str]:
    """SHA-256 of the frames of sequences, as far as whoever made them noted it."""
    place = root / "info" / "collisions.json"
    records = read_json(place, dict).get("collisions") if place.is_file() else ()
    return {str(r.get("name")): str(r.get("sha256")) for r in records or () if isinstance(r, dict)}


def _examine(record: _Sequence, decode: bool) -> tuple[dict[str, str], str]:
    """What is wrong with a sequence, by frame, and one SHA-256 over its files if they were decoded and are whole."""
    problems, first = {}, None
    paths = frame_paths(record.path)
    for path in paths:
        try:
            size = read_image(path).shape[:2] if decode else image_size(path)
            crop_of(*size, str(path))
            first = first or size
            if size != first:
                raise differing_sizes(path, size, first)
        except VideoError as error:
            problems[f"{record.name}/{path.stem}"] = str(error)
    return problems, digest_of(paths) if decode and not problems else ""
