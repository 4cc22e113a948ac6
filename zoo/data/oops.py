"""Oops! (Epstein, Chen and Vondrick 2020) as it is released: videos of failures and when annotators saw them happen.

    root/                                        the folder oops_dataset, or the one that holds it
      oops_video/train/*.mp4  val/*.mp4
      annotations/train.txt  val.txt             every video's name, one a line, without .mp4
      annotations/train_filtered.txt             those of good quality (only `Oops.unlabelled` asks)
      annotations/transition_times.json          name -> {"t": seconds, "rel_t": t / len, "len": seconds, ...}
    root/svos/ (or lang/), in root, in annotations/ or beside root: see `zoo.data.goals`

``t`` has one entry an annotator, -1 from one who saw no failure. The annotations alone are enough for a model that
looks at no pixels; then the root may be the annotation folder itself. The papers' "test" is ``val``.
"""

from __future__ import annotations

import math
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from zoo.data.check import CheckReport, check_records, examine_video
from zoo.data.datamodule import VideoDataModule
from zoo.data.folder import videos_by_stem
from zoo.data.goals import Vocabulary, has_triples, read_goals, read_vocabulary, unknown_words
from zoo.data.json_files import read_json
from zoo.data.labels import class_names
from zoo.data.trajectories import table_of
from zoo.data.trajectory_loader import FailureRecord, TrainTrajectories, WholeVideos, collate_trajectories
from zoo.data.video import VideoReader
from zoo.errors import DataError, MissingDataError, VideoError
from zoo.spec import ONE_SECOND, VideoSpec

_ANNOTATIONS = "transition_times.json"
_EARLIEST, _LATEST = 0.01, 0.99  # of a video's length: failures outside happen before it begins or after it ends
_OVERRUN = 0.5  # seconds that a failure may lie behind the annotated end: 13 of the release do by up to 0.005
_LONGEST = 86_400  # seconds that a video may last; the release's longest has 148

Seconds = tuple[float, float | None]


class Oops(VideoDataModule):
    """Oops! with the times of the failures (see the module's docstring for the layout).

    Batches are dictionaries over B videos (or trajectories of videos) of N clips in all, in order:

    - ``clips`` float32 ``[N, 3, T, S, S]``, RGB in 0..255, not rounded; ``lengths`` int64 ``[B]``, clips of each video;
    - ``label`` int64 ``[N]``: 0 before the failure, 1 where it happens, 2 after it;
    - ``times`` float64 ``[N, 2]``, as all seconds a NumPy array: when a clip's first and last frame come on, by the
      file's own clock;
    - ``index`` int64 ``[B]``; ``annotated`` float64 ``[B, A]``, the annotators' seconds, NaN where there are fewer;
      ``duration`` float64 ``[B]``, annotated seconds;
    - with ``goals``, in training ``svo`` int64 ``[N, 3]``: a triple of word numbers for each clip (of the goal before
      the failure, from then on of what went wrong), -1 for none; in evaluation ``triples``, a list of B dictionaries
      with all of a video's: ``"intentional"`` and ``"unintentional"``, int64 ``[K, 3]``.

    Training serves random trajectories, validation and test whole videos, as ``spec.trajectory`` says. With
    ``spec.pixels`` False no video is opened or need be there, and there are no clips.
    """

    classes = class_names("oops")
    name = "oops"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 2,
        num_workers: int = 2,
        seed: int = 0,
        seconds: Seconds = (3.0, 30.0),
        test_seconds: Seconds = (0.0, None),
        pseudo: str | Path | None = None,
        goals: bool = False,
    ) -> None:
        """As `VideoDataModule`.

        A video is kept where the median of its annotators' times lies between 1 and 99 percent of its length (so where
        most of them saw a failure), and its length between the given ones.

        Args:
            root: the folder oops_dataset or the one that holds it; the annotation folder where no pixels are wanted.
            spec: what the model wants, with a ``trajectory`` and the ``fps`` that it is counted at.
            batch_size: trajectories per process and step when training (the paper has 2), videos when evaluating.
            num_workers: processes that decode.
            seed: of the order and of every random draw.
            seconds: how long a training video is, both ends excluded; None for no upper end.
            test_seconds: the same of a validation video. The paper states 3 to 30 seconds for all, which leaves 3,403
                of the release's videos and a chance of 26.3 and 6.9 percent to localise a failure within 1 and 0.25
                seconds. It prints 25.9 and 6.8, which all 3,481 videos of any length give; hence the default.
            pseudo: a JSON file with times for training videos that nobody annotated, in the fields ``t``, ``rel_t`` and
                ``len``, as `zoo pseudo-label` writes it. A real annotation goes before it.
            goals: serve triples of words too, from the videos that have some.
        """
        super().__init__(root, spec or ONE_SECOND, batch_size, num_workers, seed)
        if self.spec.pixels and not (self.spec.trajectory and self.spec.fps):
            raise DataError(
                f"{self.name} is served as trajectories of clips at a known rate, and the model's spec has "
                f"trajectory={self.spec.trajectory}, fps={self.spec.fps}. Set both, or take a model that has them."
            )
        self.seconds, self.test_seconds = (
            _checked_seconds(option, value) for option, value in (("seconds", seconds), ("test_seconds", test_seconds))
        )
        self.pseudo = Path(pseudo).expanduser() if pseudo else None
        self.goals = goals

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words of the triples, in the order of their numbers.

        Raises:
            DataError: the goal annotations are not there.
        """
        return self.words.words

    def class_counts(self) -> Tensor:
        """Clips of each class in an epoch of training trajectories, int64 ``[3]``, from the annotations alone."""
        return self._trajectories().class_counts()

    def unlabelled(self) -> list[FailureRecord]:
        """The training videos that are there and that nobody annotated; of train_filtered.txt where there is one.

        Their ``times`` are empty and their ``length`` is 0.
        """
        lists = [self._annotation_folder / f"{name}.txt" for name in ("train_filtered", "train")]
        names = _read_names(next((place for place in lists if place.is_file()), lists[-1]))
        paths, annotated = self._paths("train", names), self._annotated[0].keys() | self._annotated[1].keys()
        return [FailureRecord(paths[n], n, (), 0.0) for n in names if n in paths and _plain(n) not in annotated]

    def has_split(self, split: str) -> bool:
        listed = (self._annotation_folder / f"{split}.txt").is_file()
        return listed and (not self.spec.pixels or self._video_folder(split) is not None)

    def find_records(self, split: str) -> tuple[list[FailureRecord], int]:
        records, expected, problems, remarks = self._find(split)
        if problems:
            remarks.append(
                f"{len(problems)} videos of split {split!r} are left out for their annotations, the first: "
                f"{next(iter(problems.values()))} `zoo data check {self.name} {self.root}` names all."
            )
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        return records, expected

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos are there, missing, unreadable, too short or badly annotated; see `zoo.data.check`.

        Raises:
            DataError: the root holds no annotations, or no videos where pixels are wanted.
        """
        found = {split: self._find(split) for split in ("train", "val") if self.has_split(split)}
        found = found or {"val": self._find("val")}  # which says what is missing
        report = check_records(
            self.name,
            self.root,
            {split: (records, expected) for split, (records, expected, _, _) in found.items()},
            decode=decode,
            workers=max(self.num_workers, 1),
            examine=partial(_examine, spec=self.spec),
        )
        for split, (_, _, problems, remarks) in found.items():
            names = {_plain(name) for name in _read_names(self._annotation_folder / f"{split}.txt")}
            if missing := len(names - self._annotated[0].keys() - self._annotated[1].keys()):
                remarks.append(
                    f"{missing} of {len(names)} videos of split {split!r} have no annotation and are left out (in the "
                    "release 17,031 of 23,201 for training and 1,948 of 6,739 for validation)."
                )
            report.splits[split].unreadable.update(problems)
            for remark in remarks:
                warnings.warn(remark, stacklevel=2)
        return report

    def _trajectories(self) -> TrainTrajectories:
        if not self.spec.trajectory or not self.spec.fps:
            raise DataError(f"{self.name} is trained on as trajectories; the model's spec says none (spec.trajectory).")
        return TrainTrajectories(self.records("train"), self.spec, self.seed, self.words if self.goals else None)

    def _training_data(self) -> TrainTrajectories:
        data = self._trajectories()
        if not len(data):
            low = self.spec.trajectory.clips[0]
            raise DataError(
                f"{self.root}: no video of split 'train' is long enough for a trajectory of {low} clips. "
                "Ask for fewer (spec.trajectory.clips)."
            )
        return data

    def _evaluation_data(self, spec: VideoSpec) -> WholeVideos:
        return WholeVideos(self.records("val"), spec, self.words if self.goals else None)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"collate_fn": collate_trajectories}

    def _find(self, split: str) -> tuple[list[FailureRecord], int, dict[str, str], list[str]]:
        """The records of a split, how many there should be, what is wrong with annotations by name, and remarks."""
        names = _read_names(self._annotation_folder / f"{split}.txt")
        annotated, faulty = self._annotated
        if split == "train" and self.pseudo:
            annotated, faulty = _merged(annotated, faulty, self.pseudo, names)
        goals, unsaid, remarks = self._said(split) if self.goals else ({}, {}, [])
        low, high = self.seconds if split == "train" else self.test_seconds
        keys = {name: _plain(name) for name in names}
        kept = [
            name
            for name, key in keys.items()
            if (entry := annotated.get(key))
            and entry.shows_failure
            and low < entry.length < (math.inf if high is None else high)
            and (not self.goals or key in goals)
        ]
        paths = self._paths(split, kept)
        records = [
            FailureRecord(paths[name], name, entry.times, entry.length, goals.get(keys[name], ()))
            for name in kept
            if name in paths and (entry := annotated[keys[name]])
        ]
        problems = {name: what for name, key in keys.items() if (what := faulty.get(key) or unsaid.get(key))}
        return records, len(kept), problems, remarks

    def _said(self, split: str) -> tuple[dict[str, Any], dict[str, str], list[str]]:
        """What is said of each video with triples, by plain name; what is wrong, by plain name; and remarks."""
        path = self._goal_folder / f"{split}.json"
        said, problems = read_goals(path)
        unknown = unknown_words((a for annotators in said.values() for a in annotators), self.words)
        goals = {_plain(name): a for name, a in said.items() if has_triples(a, self.words)}
        remark = f"{path}: {unknown}"
        if not self.words.corrections:
            remark += f"; {self._goal_folder} holds no corrections.json. Unpack lang.tar.gz whole"
        return goals, {_plain(n): p for n, p in problems.items()}, [f"{remark}."] if unknown.triples else []

    # Places

    @cached_property
    def _home(self) -> Path:
        """The folder oops_dataset, or what stands for it."""
        return self.root / "oops_dataset" if (self.root / "oops_dataset").is_dir() else self.root

    @property
    def _annotation_folder(self) -> Path:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the folder oops_dataset as root.")
        places = (self._home / "annotations", self._home)
        if place := next((place for place in places if (place / _ANNOTATIONS).is_file()), None):
            return place
        raise DataError(
            f"{self.root}: no {_ANNOTATIONS} here, in annotations/ or in oops_dataset/annotations/. Unpack "
            "annotations.tar.gz, which lies beside video.tar.gz in the release's archive."
        )

    @property
    def _goal_folder(self) -> Path:
        homes = dict.fromkeys((self.root, self._home, self._annotation_folder, self.root.absolute().parent))
        places = [home / name for home in homes for name in ("svos", "lang")]
        if place := next((place for place in places if (place / "vocab.json").is_file()), None):
            return place
        raise DataError(
            f"{self.root}: the goal annotations are not there (svos/ or lang/ with vocab.json, train.json and "
            "val.json, in the root or beside it). Unpack lang.tar.gz of the release there, or leave goals out."
        )

    def _video_folder(self, split: str) -> Path | None:
        places = (self._home / "oops_video" / split, self._home / split)
        return next((place for place in places if place.is_dir()), None)

    def _paths(self, split: str, names: Sequence[str]) -> dict[str, Path]:
        """Where the videos of these names lie; those that are not there are left out, unless none need be."""
        folder = self._video_folder(split)
        if not self.spec.pixels:
            folder = folder or self._home / "oops_video" / split
            return {name: folder / f"{name}.mp4" for name in names}
        if folder is None:
            raise MissingDataError(
                f"{self.root}: no folder oops_video/{split} with the videos of split {split!r}; unpack video.tar.gz, "
                "which lies in the release's archive."
            )
        files = {_plain(stem): path for stem, path in videos_by_stem(folder).items()}
        return {name: files[key] for name in names if (key := _plain(name)) in files}

    # Annotations

    @cached_property
    def _annotated(self) -> tuple[dict[str, Annotation], dict[str, str]]:
        return read_annotations(self._annotation_folder / _ANNOTATIONS)

    @cached_property
    def words(self) -> Vocabulary:
        return read_vocabulary(self._goal_folder)


@dataclass(frozen=True)
class Annotation:
    """When annotators saw a video fail.

    Attributes:
        times: seconds, -1 from one who saw no failure.
        relative: the same as shares of the length.
        length: seconds.
    """

    times: tuple[float, ...]
    relative: tuple[float, ...]
    length: float

    @property
    def shows_failure(self) -> bool:
        """Whether most annotators saw one, and neither right at the beginning nor right at the end."""
        return median(self.times) >= 0 and _EARLIEST <= median(self.relative) <= _LATEST


def read_annotations(path: Path) -> tuple[dict[str, Annotation], dict[str, str]]:
    """Annotations by plain name out of transition_times.json, and what is wrong with those that cannot be used.

    Raises:
        DataError: there is no such file, or it is not JSON of this kind.
    """
    annotations, problems = {}, {}
    for name, entry in read_json(path, dict).items():
        try:
            annotations[_plain(name)] = _annotation(entry)
        except ValueError as error:
            problems[_plain(name)] = f"{path}: {name!r} {error}. Fetch the annotations again."
    return annotations, problems


def _annotation(entry: Any) -> Annotation:
    """
    Raises:
        ValueError: says what is wrong with the entry, to follow its name.
    """
    if not isinstance(entry, dict) or (lacking := [key for key in ("t", "rel_t", "len") if key not in entry]):
        raise ValueError(f"lacks {', '.join(lacking)}" if isinstance(entry, dict) else "has no fields")
    times, relative, (length,) = (
        _finite(key, value) for key, value in (("t", entry["t"]), ("rel_t", entry["rel_t"]), ("len", [entry["len"]]))
    )
    if not 0 < length < _LONGEST:
        raise ValueError(f"has a len of {length:g} seconds")
    if not times or len(times) != len(relative):
        raise ValueError(f"has {len(times)} times in t and {len(relative)} in rel_t")
    if outside := [time for time in times if not (time == -1 or 0 <= time <= length + _OVERRUN)]:
        raise ValueError(f"has a failure at {outside[0]:g} seconds, and lasts {length:g}")
    return Annotation(times, relative, length)


def _finite(key: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise ValueError(f"has no list in {key}")
    numbers = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise ValueError(f"has {str(value)[:20]!r} in {key}, which is no number of seconds")
        numbers.append(float(value))
    return tuple(numbers)


def _merged(
    annotated: dict[str, Annotation], faulty: dict[str, str], pseudo: Path, names: Sequence[str]
) -> tuple[dict[str, Annotation], dict[str, str]]:
    """Annotations with predicted ones where nobody annotated."""
    predicted, wrong = read_annotations(pseudo)
    if not predicted.keys() & {_plain(name) for name in names}:
        raise DataError(f"{pseudo} names none of the training videos; was it made for other videos?")
    real = annotated.keys() | faulty.keys()
    return {**{k: v for k, v in predicted.items() if k not in real}, **annotated}, {**wrong, **faulty}


def _read_names(path: Path) -> list[str]:
    """The names in a list, each as it stands in its line: a title may begin, end or go on in any way.

    Raises:
        DataError: no such list, or a name that cannot be that of a file in a folder.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"there is no list {path}; unpack annotations.tar.gz of the release there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list ({error}); fetch it again.") from None
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.removesuffix("\r")
        if name in (".", "..") or set(name) & set("/\\\0"):
            raise DataError(f"{path}, line {number}: {name!r} is not the name of a video. Fetch the list again.")
        if name:
            names[name] = None
    return list(names)


def _plain(name: str) -> str:
    """A name to compare by: file systems differ in how they store accents."""
    return unicodedata.normalize("NFC", name)


def _examine(record: FailureRecord, decode: bool, spec: VideoSpec) -> tuple[dict[str, str], str]:
    """As `examine_video`; a video that is shorter than one clip is of no use either."""
    if not spec.pixels:
        return {}, ""
    problems, digest = examine_video(record, decode)
    if not problems:
        try:
            with VideoReader(record.path) as video:
                table_of(video, record.path, spec)
        except VideoError as error:
            return {record.name: str(error)}, digest
    return problems, digest


def _checked_seconds(option: str, value: Seconds) -> Seconds:
    try:
        low, high = value
        if not 0 <= low < (math.inf if high is None else high):
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(
            f"oops: {option} is an ascending range of seconds such as (3, 30), or (3, None) without an upper end; "
            f"got {value!r}."
        ) from None
    return float(low), None if high is None else float(high)
