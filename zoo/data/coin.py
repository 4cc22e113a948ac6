"""COIN (Tang et al. 2019) as it is released: instructional videos of 180 tasks, with the times of their steps.

    root/
      COIN.json  or  annotations/COIN.json     {"database": {ID: {"class": ..., "subset": ..., "duration": seconds,
                                                 "start": ..., "end": ..., "annotation": [{"id": ..., "label": ...,
                                                 "segment": [start, end]}, ...]}}}
      features/ID.npy  or  ID.npy              rows of features; see `zoo.data.feature_files`

The root may also be COIN.json itself; then the features are looked for beside it. ``start`` and ``end`` are the region
of interest. The test subset goes by several names in what is published (``testing``, ``test``, ``validation``): it is
``val`` here, and has 2,797 videos.

A task is a class. Its steps are all that any of its videos are annotated with, in the order of their ids, which are
numbers that run through the taxonomy task by task.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from zoo.data.annotated_records import Annotations, VideoAnnotation, checked_count
from zoo.data.annotated_videos import AnnotatedFeatures
from zoo.data.intervals import LONGEST, in_order, in_words, interval, seconds, slug
from zoo.data.json_files import read_json
from zoo.data.listing import plain_name
from zoo.errors import DataError
from zoo.spec import VideoSpec

_JSON = "COIN.json"
_TRAINING, _TESTING, _VALIDATION = ("training", "train"), ("testing", "test"), ("validation", "val")
_AGAIN = "Fetch COIN.json again."


class Coin(AnnotatedFeatures):
    """COIN, with every step's time; see `AnnotatedFeatures` for the batches and the module's docstring for the layout.

    Whether the paper of actionness scores videos whole or their regions of interest it does not state.
    """

    name = "coin"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        rate: float | None = None,
        features: str | Path | None = None,
        region: Literal["video", "roi"] = "video",
        expected: int | None = 2797,
    ) -> None:
        """As `AnnotatedFeatures`.

        Args:
            root: the folder with COIN.json, or the file.
            spec: what the model wants, with ``features``.
            batch_size: videos per process and step.
            num_workers: processes that read.
            seed: of the order and of every random draw.
            rate: rows of features a second; by default as `zoo extract` noted it beside them, else 1.
            features: the folder of the features, ID.npy each, in the root or elsewhere.
            region: what is looked at, and counted from its beginning on: the ``"video"`` or its region of interest,
                ``"roi"``. Training on order sees the whole video.
            expected: videos in the test subset; another number is a warning. None for data of one's own.
        """
        super().__init__(root, spec, batch_size, num_workers, seed, rate, features)
        if region not in ("video", "roi"):
            raise DataError(f"{self.name}: region is 'video' or 'roi' (the region of interest), got {region!r}.")
        self.region, self.expected = region, checked_count(expected, self.name)

    def read_annotations(self, split: str) -> Annotations:
        """The annotations of a split.

        Raises:
            DataError: COIN.json is not there, or it is something else.
        """
        said = self._database[split]
        if split == "train" or self.expected is None:
            return said
        remarks = list(said.warnings)
        if said.listed != self.expected:
            remarks.append(
                f"{self.root}: {said.listed} videos are listed for testing, officially there are {self.expected}; a "
                "score is not that of the papers. Set expected to null (None in Python) for data of your own."
            )
        return replace(said, expected=self.expected, warnings=remarks)

    @cached_property
    def _database(self) -> dict[str, Annotations]:
        return read_coin(self._json, self.region == "roi")

    @cached_property
    def _json(self) -> Path:
        if self.root.is_file():
            return self.root
        places = (self.root / _JSON, self.root / "annotations" / _JSON)
        if place := next((place for place in places if place.is_file()), None):
            return place
        raise DataError(
            f"{self.root}: no {_JSON} here or in annotations/. It is part of the data set's annotation repository; put "
            "it there, or correct the root."
        )

    @property
    def _home(self) -> Path:
        return self.root.parent if self.root.is_file() else self.root


def read_coin(path: Path, roi: bool = False) -> dict[str, Annotations]:
    """The annotations of ``"train"`` and ``"val"`` out of COIN.json, in its order.

    Args:
        path: of the file.
        roi: videos have their region of interest as ``region``.

    Raises:
        DataError: there is no such file, it is not JSON of this kind, or an id cannot be the name of a video.
    """
    database = read_json(path, dict).get("database")
    if not isinstance(database, dict):
        raise DataError(f"{path} has no 'database' of videos; is this {_JSON} of the release? {_AGAIN}")
    found = {"train": Annotations(), "val": Annotations()}
    splits, spared = _splits(database)
    if spared:
        found["val"].warnings.append(
            f"{path}: {spared} videos of subset 'validation' are left out, as there is a subset for testing too."
        )
    steps, renamed = _steps(database)
    tallies = {split: Counter() for split in found}
    for video, entry in database.items():
        plain_name(video, str(path))
        subset = _subset(entry)
        split = splits.get(subset)
        if split is None and subset in _VALIDATION:
            continue
        try:
            if split is None:
                raise ValueError(f"belongs to {subset[:20]!r}, neither training nor testing")
            said, tally = _annotation(video, entry, steps, roi)
        except ValueError as error:
            # Which split it is missing from nobody knows where that itself is wrong: then from both.
            for one in found.values() if split is None else (found[split],):
                one.problems[video] = f"{path}: {video} {error}. {_AGAIN}"
            continue
        found[split].videos.append(said)
        tallies[split] += tally
    for split, said in found.items():
        if what := in_words(tallies[split]):
            said.remarks.append(f"{path}, split {split!r}: {what}.")
        if renamed:
            said.remarks.append(f"{path}: {renamed} steps have several names; the first of each counts.")
    return found


def _subset(entry: Any) -> str:
    subset = entry.get("subset") if isinstance(entry, dict) else None
    return str(subset).strip().lower()


def _splits(database: dict[str, Any]) -> tuple[dict[str, str], int]:
    """Subset to split; and how many videos are left out for being of a third subset."""
    subsets = Counter(map(_subset, database.values()))
    tested = any(subsets[name] for name in _TESTING)
    splits = dict.fromkeys(_TRAINING, "train") | dict.fromkeys(_TESTING if tested else _VALIDATION, "val")
    return splits, sum(subsets[name] for name in _VALIDATION) if tested else 0


def _steps(database: dict[str, Any]) -> tuple[dict[str, dict[str, str]], int]:
    """Of each class its steps, id to name, in the order of their ids; and how many ids have several names."""
    steps: dict[str, dict[str, str]] = {}
    renamed = set()
    for entry in database.values():
        listed = entry.get("annotation") if isinstance(entry, dict) else None
        for part in listed if isinstance(listed, list) else ():
            if not isinstance(part, dict) or not {"id", "label"} <= part.keys():
                continue
            task, number, name = str(entry.get("class")), str(part["id"]), str(part["label"])
            if steps.setdefault(task, {}).setdefault(number, name) != name:
                renamed.add((task, number))
    return {name: dict(sorted(found.items(), key=_by_id)) for name, found in steps.items()}, len(renamed)


def _by_id(step: tuple[str, str]) -> tuple[int, str]:
    number = step[0]
    return (int(number), "") if number.isascii() and number.isdigit() and len(number) < 10 else (10**10, number)


def _annotation(
    video: str, entry: Any, steps: dict[str, dict[str, str]], roi: bool
) -> tuple[VideoAnnotation, Counter[str]]:
    """
    Raises:
        ValueError: says what is wrong with the entry, to follow its id.
    """
    if lacking := [key for key in ("duration", "class", "annotation") if key not in entry]:
        raise ValueError(f"lacks {', '.join(lacking)}")
    if not isinstance(entry["class"], str) or not slug(entry["class"]):
        raise ValueError(f"has the class {str(entry['class'])[:20]!r}, which is no name of a task")
    if not isinstance(entry["annotation"], list):
        raise ValueError("has no list in annotation")
    duration = _seconds("duration", entry["duration"])
    if not 0 < duration < LONGEST:
        raise ValueError(f"has a duration of {duration:g} seconds")
    names = steps.get(entry["class"], {})
    numbers = {step: number for number, step in enumerate(names)}
    intervals, tally = in_order(
        _interval(place, part, numbers) for place, part in enumerate(entry["annotation"], start=1)
    )
    region = _region(entry, duration) if roi else None
    task = slug(entry["class"])
    return VideoAnnotation(video, video, task, tuple(names.values()), intervals, duration, region), tally


def _interval(place: int, part: Any, numbers: dict[str, int]) -> Any:
    try:
        if not isinstance(part, dict) or not {"id", "label", "segment"} <= part.keys():
            raise ValueError("lacks id, label or segment")
        if not isinstance(part["segment"], list) or len(part["segment"]) != 2:
            raise ValueError("has a segment that is not its start and end")
        return interval(numbers[str(part["id"])], *map(seconds, part["segment"]), len(numbers))
    except ValueError as error:
        raise ValueError(f"has a part of annotation, number {place}, that cannot be used: {error}") from None


def _region(entry: dict[str, Any], duration: float) -> tuple[float, float]:
    first, last = (_seconds(key, entry.get(key)) for key in ("start", "end"))
    first, last = max(first, 0.0), min(last, duration)
    if first >= last:
        raise ValueError(f"has a region of interest from {first:g} to {last:g} seconds, which is none")
    return first, last


def _seconds(key: str, value: Any) -> float:
    try:
        return seconds(value)
    except ValueError as error:
        raise ValueError(f"has a {key} that cannot be used: {error}") from None
