"""What data sets of features with annotated steps share: COIN and CrossTask add only their files."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, NamedTuple

from torch.utils.data import DataLoader, Dataset

from zoo.data.annotated_loader import RandomRows, TrainVideos, WholeVideos, collate_rows, collate_videos, row_count
from zoo.data.annotated_records import (
    AnnotatedRecord,
    Annotations,
    Columns,
    FeatureSource,
    RecordVideos,
    VideoAnnotation,
)
from zoo.data.check import CheckReport, check_records
from zoo.data.datamodule import VideoDataModule
from zoo.data.feature_files import FeatureFile, as_float32, require_finite
from zoo.data.feature_settings import FeatureSettings, agreed_rate, settings_beside
from zoo.data.intervals import in_words
from zoo.data.loader import OnceSampler
from zoo.data.order_sampling import OrderSamples, as_is
from zoo.errors import DataError, MissingDataError, VideoError
from zoo.files import sha256_of
from zoo.spec import FeatureSpec, VideoSpec

_PROBED = 8  # files of a split whose lengths are held against the annotation before a run
_OFF = 0.1  # part by which features may last longer or shorter than the annotation says


class _Seen(NamedTuple):
    """What `check` saw of a video: what became of its intervals, its features' numbers a row, whether they fit."""

    tally: Counter[str]
    dim: int
    mistimed: bool


class AnnotatedFeatures(VideoDataModule):
    """Videos as rows of features with annotated steps. Batches are dictionaries over B videos.

    Training, as ``spec.features.samples`` says:

    - ``"order"``: M clips of each video, in its order or reversed; see `zoo.data.order_sampling`;
    - ``"rows"``: ``features`` float32 ``[B, M, D]``, random rows of each video; ``label`` int64 ``[B, M]``: 1 where an
      action is annotated, 0 for background; ``index`` int64 ``[B]``;
    - ``"videos"``: whole videos, as in evaluation.

    Evaluation:

    - ``features`` float32 ``[N, D]``, all rows, video after video; ``lengths`` int64 ``[B]``, rows of each;
    - ``rate`` float64 ``[B]``, rows a second; ``duration`` float64 ``[B]``, seconds; NumPy arrays, as is all below;
    - ``index`` int64 ``[B]`` (a tensor); ``video_id``, ``task``: lists of B strings;
    - ``intervals``: a list of B arrays float64 ``[K, 2]``, seconds, by their start, within the video; ``steps``: of B
      arrays int64 ``[K]``, the number of each interval's step within its task, from 0; ``names``: of B tuples, the
      task's steps in order;
    - ``constraints``: a list of B arrays int64 ``[n, 3]`` or None: step, first and last row (both included) in which
      the narration has it happen; CrossTask alone has some, for training on whole videos.

    With ``spec.pixels`` False there are no features, and ``lengths`` are 0; files are opened only where nothing else
    says how long a video is.

    Attributes:
        places: where features are looked for in the root, in this order, where no folder is given.
        timed: whether the annotation says how long a video is.
    """

    places: ClassVar[tuple[str, ...]] = ("features",)
    timed: ClassVar[bool] = True
    serves_features = True

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        rate: float | None = None,
        features: str | Path | None = None,
        columns: Columns | None = None,
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder of the data set.
            spec: what the model wants, with ``features``.
            batch_size: videos per process and step.
            num_workers: processes that read.
            seed: of the order and of every random draw.
            rate: rows of features a second; by default as `zoo extract` noted it beside them, else 1.
            features: the folder of the features, ID.npy each, in the root or elsewhere.
            columns: those that are taken of each row.
        """
        super().__init__(root, spec or VideoSpec(features=FeatureSpec()), batch_size, num_workers, seed)
        self._asked = spec is not None  # else `check` looks for features of any network
        if self.spec.pixels and not self.spec.features:
            raise DataError(
                f"{self.name} is served as rows of features, and the model's spec has none. Set spec.features, or take "
                "a model that has them."
            )
        if rate is not None and not 0 < rate < float("inf"):
            raise DataError(f"{self.name}: rate is a number of rows a second, above 0; got {rate!r}.")
        self.feature_spec = self.spec.features or FeatureSpec()
        if columns and columns.last - columns.first != self.feature_spec.dim:
            raise DataError(
                f"{self.name}: the option columns takes {columns.last - columns.first} numbers of a row, and the "
                f"model wants {self.feature_spec.dim}. Take other columns, or set the model's features.dim."
            )
        self.feature_folder = None if features is None else Path(features).expanduser()
        self.given_rate, self.columns = None if rate is None else float(rate), columns
        self._annotations: dict[str, Annotations] = {}

    @cached_property
    def source(self) -> FeatureSource:
        """What is taken of a file of features."""
        return FeatureSource(self.feature_spec.dim, agreed_rate(self.given_rate, self._noted), self.columns)

    @property
    def tasks(self) -> dict[str, tuple[str, ...]]:
        """The steps of each task in order, by its key."""
        return {said.task: said.steps for split in ("train", "val") for said in self._said(split).videos}

    def read_annotations(self, split: str) -> Annotations:
        """The annotations of a split, out of the official files.

        Raises:
            DataError: they are not there, or no such files.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say where its annotations are.")

    def has_split(self, split: str) -> bool:
        return bool(self._said(split).videos or self._said(split).problems)

    def find_records(self, split: str) -> tuple[list[AnnotatedRecord], int]:
        said, records = self._said(split), self._find(split)
        for one in self._noted if self._asked and self.spec.pixels else ():
            one.require(self.columns.of if self.columns else self.feature_spec.dim)
        remarks = [*said.warnings, *self._probe(records)]
        if said.problems:
            remarks.append(
                f"{len(said.problems)} videos of split {split!r} are left out for their annotations, the first: "
                f"{next(iter(said.problems.values()))} `zoo data check {self.name} {self.root}` names all."
            )
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        return records, said.listed

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos' features are there, missing, unreadable or badly annotated; see `zoo.data.check`.

        Raises:
            DataError: the root holds no annotations, or no features where they are wanted.
        """
        splits = [split for split in ("train", "val") if self.has_split(split)] or ["val"]
        seen: dict[str, _Seen] = {}
        found = {split: self._find(split) for split in splits}
        report = check_records(
            self.name,
            self._ledger_folder,
            {s: (records, self._said(s).listed - len(self._said(s).problems)) for s, records in found.items()},
            decode=decode,
            workers=max(self.num_workers, 1),
            examine=partial(self._examine, seen=seen),
        )
        report.root = self.root
        usual = Counter(one.dim for one in seen.values()).most_common(1)[0][0] if seen else 0
        for split, records in found.items():
            said, here = self._said(split), {r.name: seen[r.name] for r in records if r.name in seen}
            report.splits[split].unreadable |= said.problems | {
                name: f"{name}: its features have rows of {one.dim} numbers, and most have {usual}. Compute them again."
                for name, one in here.items()
                if one.dim != usual
            }
            # What is odd without harm is told here alone: the official files would warn at every start.
            odd = [in_words(sum((one.tally for one in here.values()), Counter()))]
            if mistimed := sum(one.mistimed for one in here.values()):
                odd.append(f"the features of {mistimed} videos last another time than is annotated, by over a tenth")
            remarks = [f"{self.root}, split {split!r}: {what}." for what in odd if what]
            for remark in (*said.warnings, *said.remarks, *remarks):
                warnings.warn(remark, stacklevel=2)
        return report

    def _said(self, split: str) -> Annotations:
        if split not in self._annotations:
            self._annotations[split] = self.read_annotations(split)
        return self._annotations[split]

    def _training_data(self) -> Dataset:
        records, spec = self.records("train"), self.feature_spec
        if spec.samples == "order":
            return OrderSamples(RecordVideos(records, self.source), spec, self.seed, self.source.rate)
        if spec.samples == "rows":
            return RandomRows(records, spec, self.source, self.seed)
        return TrainVideos(records, self.source, self.seed)

    def _evaluation_data(self, spec: VideoSpec) -> Dataset:
        return WholeVideos(self.records("val"), self.source, spec.pixels)

    def _evaluation(self, spec: VideoSpec) -> DataLoader:
        data = self._evaluation_data(spec)
        options = self._options() | {"collate_fn": collate_videos}
        return DataLoader(data, sampler=OnceSampler(data, *self._place()), **options)

    def _options(self) -> dict[str, Any]:
        collate = {"order": as_is, "rows": collate_rows, "videos": collate_videos}[self.feature_spec.samples]
        return super()._options() | {"collate_fn": collate}

    # Places

    @property
    def _home(self) -> Path:
        """The folder in which those of features are looked for."""
        return self.root

    @property
    def _wants_files(self) -> bool:
        return self.spec.pixels or not self.timed

    @cached_property
    def _folder(self) -> Path:
        """The folder of the features, which need not be there."""
        if self.feature_folder is not None:
            return self._home / self.feature_folder
        places = [self._home / place for place in self.places]
        return next((place for place in places if place.is_dir()), self._home)

    @property
    def _ledger_folder(self) -> Path:
        """Where checksums are written: the root, but for features that lie elsewhere."""
        return self._home if self._folder.is_relative_to(self._home) else self._folder

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The features that are there, by video id."""
        files = _arrays(self._folder, below=self._folder != self._home)
        if not files:
            place = self._home / self.places[0] if self._folder == self._home else self._folder
            raise MissingDataError(
                f"{self._folder}: no features here, ID.npy for each video. Compute them with `zoo extract MODEL "
                f"--videos DIR --out {place}`, or say where they are (option features)."
            )
        return files

    @cached_property
    def _noted(self) -> list[FeatureSettings]:
        """What is noted of how the features were extracted, beside them."""
        files = self._files.values() if self._wants_files else ()
        return [settings_beside(place) for place in dict.fromkeys(path.parent for path in files) or (self._folder,)]

    def _find(self, split: str) -> list[AnnotatedRecord]:
        """The videos of a split whose features are there, where they need be."""
        videos = self._said(split).videos
        if not self._wants_files:
            return [AnnotatedRecord(self._folder / f"{said.video}.npy", said) for said in videos]
        return [AnnotatedRecord(self._files[said.video], said) for said in videos if said.video in self._files]

    # What the files say

    def _probe(self, records: Sequence[AnnotatedRecord]) -> list[str]:
        """A warning where the features do not last as long as the annotation says: the rate will be another one."""
        ratios = []
        for record in records[:: max(len(records) // _PROBED, 1)][:_PROBED] if self._wants_files else ():
            try:
                length = row_count(record.path) / self.source.rate
            except VideoError:
                continue  # is told when it is read
            ratios.append(_ratio(record.said, length))
        if not ratios or abs(median(ratios) - 1) <= _OFF:
            return []
        return [
            f"{self.root}: at {self.source.rate:g} rows a second the features last {median(ratios):.2g} times as long "
            "as their videos are annotated. Is the option rate right?"
        ]

    def _examine(self, record: AnnotatedRecord, decode: bool, seen: dict[str, _Seen]) -> tuple[dict[str, str], str]:
        """What is wrong with a video's features, and their SHA-256 where they were read to the end."""
        length, dim, digest = 0.0, 0, ""
        if self._wants_files:
            try:
                # Where there are no pixels any features will do: they only say how long a video is.
                exact = self._asked and self.spec.pixels
                with self.source.open(record.path) if exact else FeatureFile(record.path) as file:
                    length, dim = len(file) / self.source.rate, file.header.dim
                    self.source.bounds(record.said, len(file))
                    if decode and self.spec.pixels:
                        require_finite(as_float32(file.read(0, len(file))), record.path)
            except VideoError as error:
                return {record.name: str(error)}, ""
            digest = sha256_of(record.path) if decode else ""
        mistimed = self._wants_files and abs(_ratio(record.said, length) - 1) > _OFF
        seen[record.name] = _Seen(record.said.placed(length)[2], dim, mistimed)
        return {}, digest


def _ratio(said: VideoAnnotation, length: float) -> float:
    """How long features last, in terms of what is annotated; 1 where that only says that they last long enough."""
    if said.duration is not None:
        return length / said.duration
    last = max((interval.end for interval in said.intervals), default=0.0)
    return min(length / last, 1.0) if last > 0 else 1.0


def _arrays(folder: Path, below: bool) -> dict[str, Path]:
    """The .npy files in a folder, and ``below`` it by one level, by name without suffix."""
    found: dict[str, Path] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".npy"):
                    found[entry.name.removesuffix(".npy")] = Path(entry.path)
                elif below and entry.is_dir():
                    found = _arrays(Path(entry.path), False) | found
    except OSError:  # no such folder
        return found
    return found
