"""What is done in the videos of Charades and when, read from the official files or from their public JSON.

    Charades/
      Charades_v1_train.csv  Charades_v1_test.csv     id,subject,scene,...,actions,length; actions "c008 0.00 4.20;..."
      Charades_v1_classes.txt                         c008 Opening a door
      Charades_v1_objectclasses.txt                   o012 door                  o000 is no object
      Charades_v1_verbclasses.txt                     v012 open
      Charades_v1_mapping.txt                         c008 o012 v012             class, object, verb
      Charades_v1_scenes.txt                          one a line
    charades.json                                     {ID: {"subset": "training" | "testing", "duration": seconds,
                                                            "actions": [[class, start, end], ...]}}

Classes and scenes of the package are the official ones. Its objects, its verbs and what each class does with which
object were read off the names of the classes: there are 38 and 33 of them as officially, but the order and some pairs
may differ. Where the official files lie beside the annotations, they go before.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.json_files import read_json
from zoo.data.labels import class_names
from zoo.data.listing import plain_name, read_lines
from zoo.errors import DataError

#: Points of time at which localisation is scored: point j of them, from 0, at ``j / POINTS`` of a video's length.
POINTS = 25
NO_SCENE = -1

_COLUMNS = ("id", "scene", "actions", "length")
_SUBSETS = {"train": "training", "val": "testing"}
_NAMED = 20  # oddities that a remark names
_LONGEST = 86_400  # seconds that a video may last; the release's longest has 194


class Action(NamedTuple):
    """Something that is done: the class, and from when to when, in seconds."""

    label: int
    start: float
    end: float


@dataclass(frozen=True)
class Annotation:
    """What is said of a video: everything that is done in it, its length in seconds, its scene (-1: not known)."""

    actions: tuple[Action, ...]
    length: float
    scene: int = NO_SCENE


@dataclass(frozen=True)
class ActivityVocabulary:
    """What the numbers stand for.

    Attributes:
        classes: number to what is done, such as "Opening a door".
        objects: number to what it is done with; the first is no object.
        verbs: number to what is done with it.
        mapping: ``(object, verb)`` of each class, as numbers; several classes may have the same.
        scenes: number to where it is done.

    Raises:
        DataError: the mapping does not give every class an object and a verb that there are.
    """

    classes: tuple[str, ...]
    objects: tuple[str, ...]
    verbs: tuple[str, ...]
    mapping: tuple[tuple[int, int], ...]
    scenes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.mapping) != len(self.classes):
            raise DataError(f"the mapping has {len(self.mapping)} classes, and there are {len(self.classes)}.")
        for number, (thing, verb) in enumerate(self.mapping):
            if not (0 <= thing < len(self.objects) and 0 <= verb < len(self.verbs)):
                raise DataError(
                    f"class c{number:03d} is mapped to object {thing} and verb {verb}, but there are "
                    f"{len(self.objects)} objects and {len(self.verbs)} verbs."
                )

    @cached_property
    def _scene_numbers(self) -> dict[str, int]:
        return {name.casefold(): number for number, name in enumerate(self.scenes)}

    def scene(self, name: str) -> int:
        """A scene's number; -1 for one that is not known, and for none."""
        return self._scene_numbers.get(name.strip().casefold(), NO_SCENE)


@dataclass
class Annotations:
    """The annotations of a split.

    Attributes:
        videos: by name, in the order of the file.
        problems: what is wrong with a video's annotation, by name, so that it cannot be used.
        remarks: what is odd without harm, a sentence each.
    """

    videos: dict[str, Annotation] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


# The numbers that a model learns and is scored by


def video_label(actions: Sequence[Action], classes: int) -> np.ndarray:
    """Which classes occur in a video, uint8 ``[C]`` of 0 and 1."""
    label = np.zeros(classes, dtype=np.uint8)
    label[[action.label for action in actions]] = 1
    return label


def frame_labels(actions: Sequence[Action], seconds: np.ndarray, classes: int) -> np.ndarray:
    """Which classes are on at each time, uint8 ``[n, C]``: an action lasts while ``start < time < end``."""
    labels = np.zeros((len(seconds), classes), dtype=np.uint8)
    for label, start, end in actions:
        labels[(start < seconds) & (seconds < end), label] = 1
    return labels


def localisation_labels(actions: Sequence[Action], length: float, classes: int, points: int = POINTS) -> np.ndarray:
    """The labels of the official localisation script, uint8 ``[points, C]``: here ``start <= time <= end``."""
    seconds = np.arange(points) / points * length
    labels = np.zeros((points, classes), dtype=np.uint8)
    for label, start, end in actions:
        labels[(start <= seconds) & (seconds <= end), label] = 1
    return labels


# Names


@cache
def packaged_vocabulary(name: str = "charades") -> ActivityVocabulary:
    """The lists of a data set that travel with the package: Charades', of which the module's docstring says what they

    are, or those of the sandbox's household, ``"sandbox_charades"``.
    """
    mapping = [_pair(line) for line in class_names(f"{name}_mapping")]
    return ActivityVocabulary(
        class_names(name),
        class_names(f"{name}_objects"),
        class_names(f"{name}_verbs"),
        tuple(pair for _, pair in sorted(mapping)),
        class_names(f"{name}_scenes"),
    )


def read_vocabulary(folder: Path, packaged: ActivityVocabulary) -> ActivityVocabulary:
    """The vocabulary in a folder of annotations, with the packaged one for the files that are not there.

    Objects, verbs and the mapping number each other, so they are taken together or not at all.

    Raises:
        DataError: a file is none, they contradict each other, or they are of another data set than the packaged one.
    """
    kinds = ("classes", "objectclasses", "verbclasses", "mapping")
    names = {kind: folder / f"Charades_v1_{kind}.txt" for kind in kinds}
    objects, verbs, mapping, scenes = packaged.objects, packaged.verbs, packaged.mapping, packaged.scenes
    if names["classes"].is_file() and (found := len(_numbered(names["classes"], "c"))) != len(packaged.classes):
        raise DataError(f"{names['classes']} names {found} classes; this data set has {len(packaged.classes)}.")
    if any(names[kind].is_file() for kind in kinds[1:]):
        objects, verbs = _numbered(names["objectclasses"], "o"), _numbered(names["verbclasses"], "v")
        mapping = _read_mapping(names["mapping"])
    if (place := folder / "Charades_v1_scenes.txt").is_file():
        scenes = tuple(text for _, text in read_lines(place))
    try:
        return ActivityVocabulary(packaged.classes, objects, verbs, mapping, scenes)
    except DataError as error:
        raise DataError(f"{names['mapping']}: {error} Unpack Charades.zip again.") from None


def _numbered(path: Path, letter: str) -> tuple[str, ...]:
    """The names of a list whose lines are "o012 door", in the order of their numbers."""
    names = []
    for line, text in read_lines(path):
        found = re.fullmatch(rf"{letter}(\d{{1,4}})\s+(.+)", text, re.ASCII)
        if not found or int(found[1]) != len(names):
            raise DataError(
                f"{path}, line {line}: {text[:80]!r} should be '{letter}{len(names):03d} NAME'. "
                "Unpack Charades.zip again."
            )
        names.append(found[2])
    return tuple(names)


def _read_mapping(path: Path) -> tuple[tuple[int, int], ...]:
    pairs: dict[int, tuple[int, int]] = {}
    for line, text in read_lines(path):
        try:
            number, pair = _pair(text)
        except ValueError:
            number, pair = -1, (0, 0)
        if number < 0 or number in pairs:
            raise DataError(
                f"{path}, line {line}: {text[:80]!r} should be such as 'c008 o012 v012', each class once. "
                "Unpack Charades.zip again."
            )
        pairs[number] = pair
    if (lacking := next((number for number in range(len(pairs)) if number not in pairs), None)) is not None:
        raise DataError(f"{path} has no line for class c{lacking:03d}. Unpack Charades.zip again.")
    return tuple(pairs[number] for number in range(len(pairs)))


def _pair(text: str) -> tuple[int, tuple[int, int]]:
    """A line of the mapping: the class, then object and verb."""
    found = re.fullmatch(r"c(\d{1,4})\s+o(\d{1,4})\s+v(\d{1,4})", text, re.ASCII)
    if not found:
        raise ValueError(text)
    number, thing, verb = map(int, found.groups())
    return number, (thing, verb)


# Annotations


def read_csv(path: Path, vocabulary: ActivityVocabulary) -> Annotations:
    """The annotations of Charades_v1_train.csv or Charades_v1_test.csv, in their order.

    Raises:
        DataError: there is no such file, it is no such csv, or an id cannot be the name of a video.
    """
    found = Annotations()
    oddities: list[str] = []
    try:
        # What a script says does not matter here, so letters of another encoding do not either.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file)
            if lacking := set(_COLUMNS) - set(reader.fieldnames or ()):
                raise DataError(
                    f"{path}: the header lacks {', '.join(sorted(lacking))}; is this the official Charades csv?"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                name = plain_name((row["id"] or "").strip(), where)
                if name in found.videos or name in found.problems:
                    found.remarks.append(f"{where}: {name} is listed twice; the first row counts.")
                    continue
                try:
                    annotation = _of_row(row, vocabulary)
                except ValueError as error:
                    found.problems[name] = f"{where}: {name} {error}. Unpack Charades.zip again."
                    continue
                found.videos[name] = annotation
                oddities += _oddities(name, annotation)
                if annotation.scene == NO_SCENE and row["scene"].strip():
                    oddities.append(f"{name} in the unknown scene {row['scene'][:40]!r}")
    except FileNotFoundError:
        raise DataError(f"there is no list {path}; unpack Charades.zip of the release there.") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as csv ({error}); unpack Charades.zip again.") from None
    found.remarks += _summed_up(path, oddities)
    return found


def read_public_json(path: Path, classes: int) -> dict[str, Annotations]:
    """The annotations of both splits out of one JSON file; see the module's docstring. No scene is known of any.

    Raises:
        DataError: there is no such file, it is not JSON of this kind, or a name cannot be that of a video.
    """
    found = {split: Annotations() for split in _SUBSETS}
    oddities: dict[str, list[str]] = {split: [] for split in _SUBSETS}
    by_subset = {subset: split for split, subset in _SUBSETS.items()}
    for name, entry in read_json(path, dict).items():
        plain_name(name, str(path))
        subset = entry.get("subset") if isinstance(entry, dict) else None
        split = by_subset.get(subset if isinstance(subset, str) else "")
        try:
            if split is None:
                raise ValueError(f"belongs to {str(subset)[:20]!r}, neither 'training' nor 'testing'")
            found[split].videos[name] = _of_entry(entry, classes)
        except ValueError as error:
            # Which split it is missing from nobody knows where that itself is wrong: then from both.
            for one in found.values() if split is None else (found[split],):
                one.problems[name] = f"{path}: {name} {error}. Fetch the annotations again."
            continue
        oddities[split] += _oddities(name, found[split].videos[name])
    for split, lines in oddities.items():
        found[split].remarks += _summed_up(path, lines)
    return found


def is_public_json(path: Path) -> bool:
    """Whether a JSON file has the annotations' layout, by its first entry."""
    try:
        first = next(iter(read_json(path, dict).values()), None)
    except DataError:
        return False
    return isinstance(first, dict) and {"subset", "duration", "actions"} <= first.keys()


def _of_row(row: dict[str | None, Any], vocabulary: ActivityVocabulary) -> Annotation:
    """
    Raises:
        ValueError: says what is wrong with the row, to follow the video's name.
    """
    if None in row or None in row.values():
        raise ValueError("has more or fewer fields than the header; is a field with commas not quoted?")
    actions = []
    for part in filter(None, map(str.strip, row["actions"].split(";"))):
        words = part.split()
        if len(words) != 3 or not re.fullmatch(r"c\d{1,4}", words[0], re.ASCII):
            raise ValueError(f"has the action {part[:60]!r}, which is not such as 'c008 0.00 4.20'")
        actions.append(_action(int(words[0][1:]), *map(_number, words[1:]), len(vocabulary.classes)))
    return Annotation(tuple(actions), _length(_number(row["length"])), vocabulary.scene(row["scene"]))


def _of_entry(entry: dict[str, Any], classes: int) -> Annotation:
    """
    Raises:
        ValueError: as `_of_row`.
    """
    if lacking := {"duration", "actions"} - entry.keys():
        raise ValueError(f"lacks {', '.join(sorted(lacking))}")
    listed = entry["actions"]
    if not isinstance(listed, list) or not all(isinstance(action, list) and len(action) == 3 for action in listed):
        raise ValueError("has actions that are not lists of class, start and end")
    for number in [entry["duration"], *(value for action in listed for value in action)]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"has {str(number)[:20]!r} where a number belongs")
    if odd := [label for label, _, _ in listed if not isinstance(label, int)]:
        raise ValueError(f"has the class {odd[0]!r}, which is no number of one")
    actions = tuple(_action(label, start, end, classes) for label, start, end in listed)
    return Annotation(actions, _length(entry["duration"]))


def _action(label: int, start: float, end: float, classes: int) -> Action:
    if not 0 <= label < classes:
        raise ValueError(f"has class c{label:03d}, and there are {classes}, from c000 on")
    if not (0 <= start < _LONGEST and 0 <= end < _LONGEST):  # false for NaN too
        raise ValueError(f"has class c{label:03d} from {start} to {end}, which are no seconds of a video")
    return Action(label, float(start), float(end))


def _length(value: float) -> float:
    if not 0 < value < _LONGEST:
        raise ValueError(f"has a length of {value} seconds")
    return float(value)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"has {text[:20]!r} where seconds belong") from None
    if math.isnan(value):
        raise ValueError("has NaN where seconds belong")
    return value


def _oddities(name: str, annotation: Annotation) -> list[str]:
    """What the official scripts take as it is: seven actions of the release (none of the test's) end before they start.

    Their classes count as the video's; they are on at no time.
    """
    return [
        f"{name} c{label:03d} from {start:g} to {end:g} s" for label, start, end in annotation.actions if start > end
    ]


def _summed_up(path: Path, oddities: list[str]) -> list[str]:
    """One sentence for all, which names them."""
    if not oddities:
        return []
    named = "; ".join(oddities[:_NAMED]) + (f"; and {len(oddities) - _NAMED} more" if oddities[_NAMED:] else "")
    return [f"{path}: taken as they are, as the official scripts take them: {named}."]
