"""Charades (Sigurdsson et al. 2016) as it is released: half a minute of everyday life a video, with all that is done.

    root/
      Charades/                                    the annotations; see `zoo.data.activities`
      Charades_v1_480/ID.mp4  Charades_v1/ID.mp4   the videos, scaled to 480 lines or as they were filmed
      Charades_v1_rgb/ID/ID-000001.jpg ...         their images, 24 a second; see `zoo.data.moments`
      Charades_v1_flow/ID/ID-000001x.jpg ...       their optical flow

The root may also be the annotation folder, or a JSON file with the annotations (or a folder with one); then the rest is
looked for there and beside it, and where a model looks at no pixels nothing else need be there. Training is on
Charades_v1_train.csv, and Charades_v1_test.csv is what papers validate or test on: ``val``. The challenge's held-out
videos have no public labels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import DataLoader, Dataset

from zoo.data.activities import (
    ActivityVocabulary,
    Annotations,
    is_public_json,
    packaged_vocabulary,
    read_csv,
    read_public_json,
    read_vocabulary,
)
from zoo.data.check import CheckReport, check_records, examine_video
from zoo.data.datamodule import VideoDataModule
from zoo.data.folder import videos_by_stem
from zoo.data.loader import ResumableLoader
from zoo.data.moment_loader import ActivityRecord, ShareSampler, TrainMoments, WholeMoments, collate_moments
from zoo.data.moments import FlowFolder
from zoo.errors import DataError, MissingDataError, VideoError
from zoo.spec import VideoSpec

_LISTS = {"train": "Charades_v1_train.csv", "val": "Charades_v1_test.csv"}
_VIDEOS = ("Charades_v1", "Charades_v1_480")  # where both have a video, the last: it decodes faster and is large enough
_IMAGES, _FLOW = "Charades_v1_rgb", "Charades_v1_flow"


class Charades(VideoDataModule):
    """Charades, with every action's class and time (see the module's docstring for the layout).

    A model of clips is served clips as `VideoDataModule` says, with ``label`` int64 ``[B, C]``: 0 or 1 for each class,
    whether it occurs anywhere in the video.

    A model with ``spec.moments`` is served single images and stacks of flow, as bytes. Training, over the B images of
    a batch, those of one sample (``spec.moments.together``) in order of time:

    - ``rgb`` uint8 ``[B, 3, S, S]``, ``flow`` uint8 ``[B, 2F, S, S]`` (x, y, x, y, ...), as ``spec.moments.streams``
      says; ``rgb_time``, ``flow_time`` int64 ``[B]``: the number of the image, from 1;
    - ``label`` int64 ``[B]``, or with ``spec.moments.labels="all"`` uint8 ``[B, C]``;
    - ``progress`` int64 ``[B]``: 0, 1 or 2, how far the labelled action has gone on (not where all labels are served);
    - ``video`` int64 ``[B]``, the video's number in its list; ``scene`` int64 ``[B]``, -1 where it is not known.

    Evaluation, over V videos with N images in all:

    - ``rgb``, ``flow``, ``rgb_time``, ``flow_time`` of all images; ``lengths`` int64 ``[V]``, images of each video;
    - ``label`` uint8 ``[V, C]``, what occurs in a video; ``moment_label`` uint8 ``[V, 25, C]``, what is on at the 25
      points of the official localisation script; ``scene`` int64 ``[V]``;
    - ``index`` int64 ``[V]``; ``duration`` float64 ``[V]``, annotated seconds, a NumPy array.

    With ``spec.pixels`` False no video is opened or need be there: there are no images and no times, and ``lengths``
    are 0.

    Attributes:
        multilabel: any number of classes occur in a video.
        packaged: what the numbers stand for where the annotations bring no lists of their own.
        rate: images a second that the folders of images and of flow hold.
    """

    classes = packaged_vocabulary().classes
    name = "charades"
    multilabel: ClassVar[bool] = True
    packaged: ClassVar[ActivityVocabulary] = packaged_vocabulary()
    rate: ClassVar[float] = 24.0

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder that holds Charades/ and the folders of videos, images or flow; see the module's docstring.
            spec: what the model wants; with ``moments`` also the ``fps`` that images are counted at, 24 in the release.
            batch_size: samples per process and step when training, of ``spec.moments.together`` images each; videos (or
                views, for a model of clips) when evaluating.
            num_workers: processes that decode.
            seed: of the order and of every random draw.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        self._annotations: dict[str, Annotations] = {}
        moments = self.spec.moments
        if moments and not self.spec.fps:
            raise DataError(
                f"{self.name} is served as images at known times, and the model's spec does not say how many there are "
                f"in a second. Set spec.fps; the release has {self.rate:g}."
            )
        if self._wants_flow and self.spec.fps != self.rate:
            raise DataError(
                f"{self.name}: flow lies at {self.rate:g} images a second, and the model's spec has "
                f"fps={self.spec.fps:g}. Set spec.fps={self.rate:g}."
            )

    @cached_property
    def vocabulary(self) -> ActivityVocabulary:
        """What the numbers of classes, objects, verbs and scenes stand for: the root's lists go before the package's.

        Raises:
            DataError: the root's lists contradict each other.
        """
        if not self.root.is_dir():  # a JSON file, or a data set that is still to be rendered
            return self.packaged
        place = self._annotation_place
        return self.packaged if place.is_file() else read_vocabulary(place, self.packaged)

    def has_split(self, split: str) -> bool:
        place = self._annotation_place
        if not place.is_file():
            return (place / _LISTS[split]).is_file()
        return bool(self._annotated(split).videos or self._annotated(split).problems)

    def find_records(self, split: str) -> tuple[list[ActivityRecord], int]:
        found, (records, remarks) = self._annotated(split), self._find(split)
        if found.problems:
            remarks.append(
                f"{len(found.problems)} videos of split {split!r} are left out for their annotations, the first: "
                f"{next(iter(found.problems.values()))} `zoo data check {self.name} {self.root}` names all."
            )
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        return records, len(found.videos)

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos are there, missing, unreadable or badly annotated; see `zoo.data.check`.

        Raises:
            DataError: the root holds no annotations, or no videos where pixels are wanted.
        """
        splits = [split for split in _LISTS if self.has_split(split)] or ["val"]
        found = {split: self._find(split) for split in splits}
        report = check_records(
            self.name,
            self._home,
            {split: (records, len(self._annotated(split).videos)) for split, (records, _) in found.items()},
            decode=decode,
            workers=max(self.num_workers, 1),
            examine=partial(_examine, spec=self.spec),
        )
        for split, (_, remarks) in found.items():
            report.splits[split].unreadable.update(self._annotated(split).problems)
            # What is odd without harm is told here alone: the official files would warn at every start.
            for remark in (*self._annotated(split).remarks, *remarks):
                warnings.warn(remark, stacklevel=2)
        return report

    def train_dataloader(self) -> DataLoader:
        if not self._is_of_moments:
            return super().train_dataloader()
        data = self._training_data()
        sampler = ShareSampler(data, *self._place(), seed=self.seed, share=data.moments.share)
        return ResumableLoader(data, sampler=sampler, drop_last=len(sampler) >= self.batch_size, **self._options())

    def _training_data(self) -> Dataset:
        if not self._is_of_moments:
            return super()._training_data()
        data = TrainMoments(self.records("train"), self._counted_spec, self.seed)
        if not len(data):
            raise DataError(
                f"{self.root}: no video of split 'train' has an image that could be trained on; are there annotations, "
                "and videos longer than a stack of flow?"
            )
        return data

    def _evaluation_data(self, spec: VideoSpec) -> Dataset:
        return WholeMoments(self.records("val"), spec) if self._is_of_moments else super()._evaluation_data(spec)

    def _options(self) -> dict[str, Any]:
        return super()._options() | ({"collate_fn": collate_moments} if self._is_of_moments else {})

    @property
    def _is_of_moments(self) -> bool:
        """Whether single images are served, or annotations alone."""
        return self.spec.moments is not None or not self.spec.pixels

    @property
    def _counted_spec(self) -> VideoSpec:
        return self.spec if self.spec.fps else self.spec.replace(fps=self.rate)

    @property
    def _wants_flow(self) -> bool:
        return bool(self.spec.pixels and self.spec.moments and "flow" in self.spec.moments.streams)

    @property
    def flow_folder(self) -> Path:
        """Where the videos' flow lies, or should."""
        return self._home / _FLOW

    # Annotations

    def _annotated(self, split: str) -> Annotations:
        if split not in self._annotations:
            place = self._annotation_place
            if place.is_file():
                self._annotations = read_public_json(place, len(self.classes))
            else:
                self._annotations[split] = read_csv(place / _LISTS[split], self.vocabulary)
        return self._annotations[split]

    def _find(self, split: str) -> tuple[list[ActivityRecord], list[str]]:
        """The videos of a split that are there, in the order of its list, and what to remark."""
        said, remarks = self._annotated(split), []
        images = self._images(said.videos)
        flow: dict[str, Path] = {}
        if self._wants_flow:
            flow = self._flow(said.videos)
            if lacking := len(images.keys() - flow.keys()):
                remarks.append(
                    f"{lacking} videos of split {split!r} lack their flow and are left out; "
                    f"`zoo data flow {self.name} {self.root}` computes it."
                )
        classes = len(self.classes)
        records = [
            ActivityRecord(images[name], name, video.actions, video.length, classes, video.scene, flow.get(name))
            for name, video in said.videos.items()
            if name in images and (name in flow or not self._wants_flow)
        ]
        return records, remarks

    # Places

    @cached_property
    def _annotation_place(self) -> Path:
        """The folder of the csv files, or the JSON file."""
        if not self.root.exists():
            raise DataError(f"{self.root}: no such folder; give the folder that holds Charades/ as root.")
        if self.root.is_file():
            return self.root
        homes = (self.root / "Charades", self.root)
        for home in homes:
            if any((home / name).is_file() for name in _LISTS.values()):
                return home
        files = [path for home in homes if home.is_dir() for path in sorted(home.glob("*.json"))]
        found = [path for path in files if path.name != "checksums.json" and is_public_json(path)]
        if len(found) == 1:
            return found[0]
        what = (
            f"{len(found)} JSON files with annotations, and one is wanted" if found else "no JSON file of annotations"
        )
        raise DataError(
            f"{self.root}: neither Charades/{_LISTS['train']} nor Charades/{_LISTS['val']} is here, and {what}. Unpack "
            "Charades.zip of the release here."
        )

    @cached_property
    def _home(self) -> Path:
        """The folder that holds those of videos, images and flow: the root, or where the annotations lie, or beside."""
        place = self._annotation_place
        homes = (self.root, place if place.is_dir() else place.parent, place.absolute().parent)
        homes = [home for home in homes if home.is_dir()]
        return next((h for h in homes if any((h / name).is_dir() for name in (*_VIDEOS, _IMAGES, _FLOW))), homes[0])

    def _images(self, names: Iterable[str]) -> dict[str, Path]:
        """Where the images of those videos lie that are there; nowhere yet, where no pixels are wanted.

        Folders of images go before video files where images are counted as they lie there.
        """
        home, (first, *_) = self._home, _VIDEOS
        if not self.spec.pixels:
            return {name: home / first / f"{name}.mp4" for name in names}
        if self._wants_flow and "rgb" not in self.spec.moments.streams:
            return self._flow(names)
        folders = _listed(home / _IMAGES) if self.spec.fps in (None, self.rate) else frozenset()
        places: dict[str, Path] = {}
        for folder in _VIDEOS:
            if (home / folder).is_dir():
                places |= videos_by_stem(home / folder)
        if not folders and not places:
            raise MissingDataError(
                f"{self.root}: no videos ({' or '.join(_VIDEOS)}), and no images ({_IMAGES}) for models of "
                f"{self.rate:g} a second. Unpack one of the release's archives there."
            )
        places |= {name: home / _IMAGES / name for name in folders}
        return {name: places[name] for name in names if name in places}

    def _flow(self, names: Iterable[str]) -> dict[str, Path]:
        """Where the flow of those videos lies that have some."""
        folder = self.flow_folder
        if not (there := _listed(folder)):
            raise MissingDataError(
                f"{self.root}: no folder {_FLOW} with the optical flow of the videos. Unpack Charades_v1_flow.tar of "
                f"the release there, or compute it with `zoo data flow {self.name} {self.root}`."
            )
        return {name: folder / name for name in names if name in there}


def _listed(folder: Path) -> frozenset[str]:
    """What lies right in a folder, which need not be there."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _examine(record: ActivityRecord, decode: bool, spec: VideoSpec) -> tuple[dict[str, str], str]:
    """As `examine_video`; of flow too, where it is wanted."""
    if not spec.pixels:
        return {}, ""
    problems, digest = examine_video(record, decode)
    if record.flow and not problems:
        try:
            _examine_flow(FlowFolder(record.flow, spec.moments.flow), decode)
        except VideoError as error:
            return {record.name: str(error)}, digest
    return problems, digest


def _examine_flow(flow: FlowFolder, decode: bool) -> None:
    """Read a stack at the beginning, or all flow there is.

    Raises:
        VideoError: something is missing or broken.
    """
    if flow.count < flow.length:
        raise VideoError(f"{flow.path} has flow of {flow.count} images; a stack is of {flow.length}.")
    last = flow.count - flow.length + 1
    for number in (*range(1, last, flow.length), last) if decode else (1,):
        flow.stack(number)
