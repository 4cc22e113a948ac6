"""CrossTask (Zhukov et al. 2019) as it is released: instructional videos of 18 tasks with the times of their steps.

    root/
      crosstask_release/                          see `zoo.data.crosstask_files`
        tasks_primary.txt  tasks_related.txt      the 18 tasks whose videos are annotated, and 65 others
        videos.csv  videos_val.csv
        annotations/TASK_VIDEO.csv
      crosstask_constraints/TASK_VIDEO.csv        when a video's narration has a step happen, in the same columns
      crosstask_features/ID.npy  or features/     rows of features; the release's have 3200 numbers, one row a second

The root may also be crosstask_release itself; then the rest is looked for beside it. How long a video is no file says
but its features. A video counts once for each of its tasks.

A task goes by what papers call it, such as make_latte, where its id is one of the release's.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from zoo.data.annotated_records import Annotations, Columns, VideoAnnotation, checked_count
from zoo.data.annotated_videos import AnnotatedFeatures
from zoo.data.crosstask_files import (
    Pair,
    Task,
    annotated_pairs,
    draw_test,
    draw_training,
    read_intervals,
    read_pairs,
    read_tasks,
)
from zoo.data.intervals import Interval, in_order, in_words
from zoo.errors import DataError
from zoo.spec import VideoSpec

#: What the rows of the release's features are made of: I3D (Kinetics, RGB), ResNet-152 and VGGish (sound).
RELEASED = {"i3d": Columns(0, 1024, 3200), "resnet": Columns(1024, 3072, 3200), "vggish": Columns(3072, 3200, 3200)}

_RELEASE, _CONSTRAINTS, _PRIMARY = "crosstask_release", "crosstask_constraints", "tasks_primary.txt"
_TESTED, _ANNOTATED = 688, 2750  # of the random split
_TRAINED = 30  # videos of a primary task that the published code trains on


class CrossTask(AnnotatedFeatures):
    """CrossTask, with every step's time; see `AnnotatedFeatures` for the batches and the module's docstring for the

    layout. ``constraints`` are served with training on whole videos, where there are some.
    """

    name = "crosstask"
    places: ClassVar[tuple[str, ...]] = ("crosstask_features", "features")
    timed: ClassVar[bool] = False

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        rate: float | None = None,
        features: str | Path | None = None,
        columns: Literal["i3d", "resnet", "vggish"] | None = None,
        split: Literal["random", "release"] = "random",
        split_seed: int = 0,
        related: bool = False,
        expected: int | None = _ANNOTATED,
    ) -> None:
        """As `AnnotatedFeatures`.

        Args:
            root: the folder with crosstask_release and the others.
            spec: what the model wants, with ``features``.
            batch_size: videos per process and step.
            num_workers: processes that read.
            seed: of the order and of every random draw, but for those of the split.
            rate: rows of features a second; by default as `zoo extract` noted it beside them, else 1,
                as in the release.
            features: the folder of the features, ID.npy each, in the root or elsewhere.
            columns: which of the release's features are taken; None takes a file's rows as they are.
            split: ``"random"``: a quarter of the annotated videos is tested on (688, and 2,062 are trained on), as the
                paper of actionness has it, whose own list is not published; ``"release"``: as the published code, which
                leaves videos_val.csv out, trains on 30 random videos of each task and tests on all others.
            split_seed: of the random part of either.
            related: train on the videos of related tasks too. They are not annotated, so training on rows has no use
                for them.
            expected: annotated videos; another number is a warning. None for data of one's own.
        """
        if columns is not None and columns not in RELEASED:
            raise DataError(f"{self.name}: columns is one of {', '.join(RELEASED)}, or none; got {columns!r}.")
        super().__init__(
            root, spec, batch_size, num_workers, seed, rate, features, RELEASED[columns] if columns else None
        )
        if split not in ("random", "release"):
            raise DataError(f"{self.name}: split is 'random' or 'release', got {split!r}.")
        self.split, self.split_seed, self.related = split, split_seed, related
        self.expected = checked_count(expected, self.name)

    @property
    def tasks(self) -> dict[str, tuple[str, ...]]:
        """The steps of each task in order, by its key; of related tasks too where they are trained on."""
        return {task.key: task.steps for task in self._tasks.values()}

    def read_annotations(self, split: str) -> Annotations:
        """The annotations of a split.

        Raises:
            DataError: the release's lists are not there, or they are something else.
        """
        found, tally, lacking = Annotations(), Counter(), 0
        annotated = set(self._annotated[0])
        constrained = split == "train" and self.feature_spec.samples == "videos"
        for task_id, video in self._pairs[split]:
            name, task = f"{task_id}_{video}", self._tasks[task_id]
            try:
                listed = self._intervals("annotations", name, task) if (task_id, video) in annotated else ()
                constraints = self._constraints(name, task) if constrained else None
            except DataError as error:
                found.problems[name] = str(error)
                continue
            lacking += constrained and constraints is None
            intervals, odd = in_order(listed)
            tally += odd
            found.videos.append(VideoAnnotation(name, video, task.key, task.steps, intervals, constraints=constraints))
        if what := in_words(tally):
            found.remarks.append(f"{self._release / 'annotations'}, split {split!r}: {what}.")
        if lacking:
            found.warnings.append(
                f"{self._constraint_folder}: {lacking} of {len(found.videos)} training videos have no constraints; "
                "unpack crosstask_constraints.zip there."
            )
        self._hold_against_release(found, split)
        return found

    def _hold_against_release(self, found: Annotations, split: str) -> None:
        pairs, others = self._annotated
        if others:
            found.remarks.append(f"{self._release / 'annotations'}: {others} files are of no primary task's video.")
        if self.split == "release" and (repeated := read_pairs(self._release / "videos.csv")[1]):
            found.remarks.append(f"{self._release / 'videos.csv'}: {repeated} lines repeat another and count once.")
        if self.expected is None:
            return
        if self.split == "random" and not self.related:
            tested = _tested(self.expected)
            found.expected = tested if split == "val" else self.expected - tested
        if len(pairs) != self.expected:
            found.warnings.append(
                f"{self._release / 'annotations'}: {len(pairs)} videos are annotated, officially there are "
                f"{self.expected}; the split is drawn from those, and is another one. Set expected to null "
                "(None in Python) for data of your own."
            )

    @cached_property
    def _pairs(self) -> dict[str, list[Pair]]:
        """The tasks and videos of each split, in the order of their list."""
        annotated = self._annotated[0]
        if self.split == "random":
            tested = draw_test(annotated, _tested(len(annotated)), self.split_seed)
            train = [pair for pair in annotated if pair not in tested]
        else:
            spared = set(read_pairs(self._release / "videos_val.csv")[0])
            listed = [pair for pair in self._listed if pair[0] in self._primary and pair not in spared]
            trained = draw_training(listed, _TRAINED, self.split_seed)
            train = [pair for pair in listed if pair in trained]
            tested = set(listed) - trained
        # Of a video that is not annotated nothing can be scored, nor learnt by rows.
        if self.feature_spec.samples == "rows":
            train = [pair for pair in train if pair in set(annotated)]
        elif self.related:
            train += [pair for pair in self._listed if pair[0] in self._tasks and pair[0] not in self._primary]
        return {"train": train, "val": [pair for pair in annotated if pair in tested]}

    # Files

    @cached_property
    def _release(self) -> Path:
        """The folder crosstask_release, or what stands for it."""
        places = (self.root / _RELEASE, self.root)
        if place := next((place for place in places if (place / _PRIMARY).is_file()), None):
            return place
        raise DataError(
            f"{self.root}: no {_RELEASE}/{_PRIMARY} here. Unpack crosstask_release.zip in the root, or correct the "
            "root."
        )

    @property
    def _home(self) -> Path:
        """The folder that holds those of features and constraints: the root, or the one that the release lies in."""
        if self._release != self.root:
            return self.root
        beside = self.root.absolute().parent
        folders = (_CONSTRAINTS, *self.places)
        here, there = (any((home / folder).is_dir() for folder in folders) for home in (self.root, beside))
        return beside if there and not here else self.root

    @property
    def _constraint_folder(self) -> Path:
        return self._home / _CONSTRAINTS

    @cached_property
    def _primary(self) -> dict[str, Task]:
        return read_tasks(self._release / _PRIMARY)

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        if not self.related:
            return self._primary
        taken = [task.key for task in self._primary.values()]
        return read_tasks(self._release / "tasks_related.txt", taken) | self._primary

    @cached_property
    def _annotated(self) -> tuple[list[Pair], int]:
        return annotated_pairs(self._release / "annotations", self._primary)

    @cached_property
    def _listed(self) -> list[Pair]:
        return read_pairs(self._release / "videos.csv")[0]

    def _intervals(self, folder: str, name: str, task: Task) -> tuple[Interval, ...]:
        return read_intervals(self._release / folder / f"{name}.csv", len(task.steps))

    def _constraints(self, name: str, task: Task) -> tuple[Interval, ...] | None:
        path = self._constraint_folder / f"{name}.csv"
        return read_intervals(path, len(task.steps)) if path.is_file() else None


def _tested(annotated: int) -> int:
    """How many videos of so many the random split tests on."""
    return round(annotated * _TESTED / _ANNOTATED)
