"""The text files that Charades' official scripts score: written, read, put together, and scored as the scripts do.

    ID s_0 s_1 ... s_156                 classification: a line for each video
    ID frame s_0 s_1 ... s_156           localisation: a line for each of 25 moments of a video, numbered from 1

Fields are set apart by tabs or spaces. What the scripts put up with is put up with here: a field after the last score,
frames that are numbered from 0, lines that lack, videos that nobody annotated, and a line that comes twice, of which
the last counts.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zoo.data.activities import POINTS, Annotation, localisation_labels, video_label
from zoo.errors import DataError, ZooError
from zoo.files import write_whole
from zoo.metrics.charades import means, without_unlabelled
from zoo.metrics.ranking import average_precision

Fusion = Literal["mean", "product", "geometric"]

_CLASSES = 157
_HEAD = 200  # lines that tell what a file is


@dataclass(frozen=True)
class ScoreTable:
    """The scores of videos (classification) or of 25 moments of each (localisation).

    Attributes:
        ids: of the V videos, each once.
        scores: floats ``[V, C]`` or ``[V, 25, C]``.
        there: ``[V]`` or ``[V, 25]`` whether there are scores; zeros stand where there are none. All by default.
    """

    ids: tuple[str, ...]
    scores: np.ndarray
    there: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = self.scores.shape
        if shape[:1] != (len(self.ids),) or not (len(shape) == 2 or (len(shape) == 3 and shape[1] == POINTS)):
            raise ZooError(
                f"scores of {len(self.ids)} videos must be [{len(self.ids)}, C] or [{len(self.ids)}, {POINTS}, C], "
                f"got {shape}."
            )
        if len(set(self.ids)) != len(self.ids):
            raise ZooError("a table of scores has every video once, and an id was given twice.")
        if self.there is None:
            object.__setattr__(self, "there", np.ones(shape[:-1], dtype=bool))

    @property
    def localised(self) -> bool:
        """Whether there are scores of moments."""
        return self.scores.ndim == 3

    def rows(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and whether they are there, of these videos in this order; of those it lacks zeros and False."""
        place = {name: row for row, name in enumerate(self.ids)}
        known = np.array([name in place for name in ids], dtype=bool)
        at = [place[name] for name in ids if name in place]
        scores = np.zeros((len(ids), *self.scores.shape[1:]), dtype=self.scores.dtype)
        there = np.zeros((len(ids), *self.there.shape[1:]), dtype=bool)
        scores[known], there[known] = self.scores[at], self.there[at]
        return scores, there


@dataclass(frozen=True)
class Evaluation:
    """What the official script says of a file.

    Attributes:
        values: ``map``, ``wap``, ``map_official`` and ``classes`` as `zoo.metrics.charades.means` says (of localisation
            all but the last begin with ``point_``), and how many ``videos`` are annotated, with actions or without.
        precision: of every class in percent, ``[C]``; NaN without positives.
        missing: labelled videos (of localisation: moments of videos) that have no line; they rank last.
        unknown: videos of the file that are not annotated; they count for nothing.
    """

    values: dict[str, float]
    precision: np.ndarray
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


def write_scores(path: str | os.PathLike, table: ScoreTable) -> Path:
    """Write a table for the official scripts, with every digit: scores that differ do so in the file.

    Raises:
        ZooError: a score is NaN; an id holds white space; the file cannot be written.
    """
    if np.isnan(table.scores[table.there]).any():
        raise ZooError(f"{path} is not written: a score is NaN, which has no rank.")
    if odd := [name for name in table.ids if len(name.split()) != 1]:
        raise ZooError(f"{path} is not written: {odd[0]!r} is no id, for white space sets the fields apart.")
    # Nine digits tell single floats apart; Python writes doubles with as many as they need.
    template = " ".join(["%.9g" if table.scores.dtype == np.float32 else "%r"] * table.scores.shape[-1]) + "\n"
    chunks = []
    for name, scores, there in zip(table.ids, table.scores, table.there, strict=True):
        if table.localised:
            lines = [f"{name} {n + 1} " + template % tuple(scores[n].tolist()) for n in np.flatnonzero(there)]
        else:
            lines = [f"{name} " + template % tuple(scores.tolist())] if there else []
        chunks.append("".join(lines).encode())
    write_whole(Path(path), *chunks)
    return Path(path)


def read_scores(path: str | os.PathLike, classes: int | None = None, *, localise: bool | None = None) -> ScoreTable:
    """Read a file of scores, as doubles.

    Args:
        path: of the text file.
        classes: how many there are; by default as many as the file has scores, 157 of 158.
        localise: whether it is one of localisation; by default that is told from its first lines.

    Raises:
        DataError: there is no such file, or a line of it is none; names the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = ((number, fields) for number, line in enumerate(file, 1) if (fields := line.split()))
            head = list(islice(lines, _HEAD))
            if not head:
                raise DataError(f"{path} is empty; it should have a line of scores for each video.")
            classes, localise = _layout([fields for _, fields in head], classes, localise)
            if classes < 1:
                raise DataError(f"{path}, line {head[0][0]}: no score follows the id; is this a list of videos?")
            return _table(path, chain(head, lines), classes, localise)
    except FileNotFoundError:
        raise DataError(f"there is no file of scores {path}; check its name.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); it should hold lines of ids and scores.") from None


def tables_of(predictions: Iterable[Mapping[str, Any]], ids: Sequence[str]) -> tuple[ScoreTable, ScoreTable]:
    """The tables of classification and of localisation, from what ``predict_step`` of a model of moments gives.

    Args:
        predictions: each video's ``index``, ``scores`` ``[C]`` and ``moments`` ``[25, C]``; one that comes twice counts
            once.
        ids: the names of the videos, in the order of their numbers.
    """
    found = {int(one["index"]): one for one in predictions}
    if not found:
        raise ZooError("there are no scores to write: no video was predicted.")
    order = sorted(found)
    names = tuple(ids[index] for index in order)
    videos, moments = (
        np.stack([torch.as_tensor(found[index][key]).float().cpu().numpy() for index in order])
        for key in ("scores", "moments")
    )
    return ScoreTable(names, videos), ScoreTable(names, moments)


def fuse(a: ScoreTable, b: ScoreTable, how: Fusion = "mean") -> tuple[ScoreTable, tuple[str, ...], tuple[str, ...]]:
    """Two tables of the same videos in one, and the names of what the first and the second of them lack.

    What one lacks counts as zeros, as in the released script, which takes the mean. The paper multiplies; the geometric
    mean ranks as the product does.

    Raises:
        ZooError: the tables are of different kinds; a product of scores that are negative or infinite.
    """
    if a.scores.shape[1:] != b.scores.shape[1:]:
        kinds = (
            f"{'localisation' if t.localised else 'classification'} of {t.scores.shape[-1]} classes" for t in (a, b)
        )
        raise ZooError(f"scores of {' and of '.join(kinds)} cannot be put together.")
    if how not in ("mean", "product", "geometric"):
        raise ZooError(f"scores are put together by 'mean', 'product' or 'geometric', got {how!r}.")
    ids = tuple(dict.fromkeys((*a.ids, *b.ids)))
    (x, in_a), (y, in_b) = a.rows(ids), b.rows(ids)
    if how == "mean":
        scores = (x + y) / 2
    elif min(x.min(initial=0), y.min(initial=0)) < 0 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ZooError(f"a {how} is taken of probabilities, and there are negative or infinite scores; take the mean.")
    else:
        scores = x * y if how == "product" else np.sqrt(x * y)
    there = in_a | in_b
    return ScoreTable(ids, scores, there), _names(ids, there & ~in_a), _names(ids, there & ~in_b)


def evaluate(table: ScoreTable, videos: Mapping[str, Annotation], classes: int) -> Evaluation:
    """Score a table as the official script does.

    Args:
        table: of classification or of localisation.
        videos: by id, in the order of the csv, which equal scores keep; a data set's records will do, for they have the
            same ``actions`` and ``length``.
        classes: how many the annotations know.
    """
    if table.scores.shape[-1] != classes:
        raise ZooError(f"the file has scores of {table.scores.shape[-1]} classes, the annotations know {classes}.")
    ids = tuple(videos)
    scores, there = table.rows(ids)
    scores = np.where(there[..., None], scores, -np.inf).reshape(-1, classes)
    if table.localised:
        labels = [localisation_labels(one.actions, one.length, classes) for one in videos.values()]
    else:
        labels = [video_label(one.actions, classes)[None] for one in videos.values()]
    truth = torch.from_numpy(np.concatenate(labels) if labels else np.zeros((0, classes), np.uint8))
    rows = torch.from_numpy(scores)
    precision = average_precision(rows if table.localised else without_unlabelled(rows, truth), truth)
    values = means(precision, truth.sum(0))
    labelled = truth.any(1).numpy().reshape(there.shape)
    if table.localised:
        values = {name if name == "classes" else f"point_{name}": value for name, value in values.items()}
    return Evaluation(
        values | {"videos": len(ids)},
        100 * precision.numpy(),
        _names(ids, labelled & ~there),
        tuple(name for name in table.ids if name not in videos),
    )


def _layout(head: list[list[str]], classes: int | None, localise: bool | None) -> tuple[int, bool]:
    """How many classes, and whether the second field is the number of a moment, by a file's first lines."""
    fields = len(head[0]) - 1
    if localise is None:
        repeated = len({line[0] for line in head}) < len(head)
        localise = fields != classes and repeated and all(len(line) > 1 and line[1].isdigit() for line in head)
    scores = fields - localise
    if classes is None:
        classes = _CLASSES if scores == _CLASSES + 1 else scores
    return classes, localise


def _table(path: Path, lines: Iterable[tuple[int, list[str]]], classes: int, localise: bool) -> ScoreTable:
    numbers = array("d")
    places: list[tuple[str, int]] = []
    for number, fields in lines:
        own = fields[1 + localise :]
        if len(own) not in (classes, classes + 1):
            kind = "an id, a moment" if localise else "an id"
            raise DataError(f"{path}, line {number}: {len(own)} scores; a line has {kind} and {classes} scores.")
        try:
            numbers.extend(map(float, own[:classes]))
            places.append((fields[0], int(fields[1]) if localise else 0))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; scores are numbers, moments whole ones.") from None
    scores = np.frombuffer(numbers, dtype=np.float64).reshape(-1, classes)
    if (bad := np.isnan(scores)).any():
        row, column = np.argwhere(bad)[0]
        raise DataError(f"{path}: the score of {places[row][0]} and class {column} is NaN; NaN has no rank.")
    order: dict[str, int] = {}
    at = np.array([order.setdefault(name, len(order)) for name, _ in places])
    moments = np.array([moment for _, moment in places])
    if localise:
        if moments.min() == 0:
            warnings.warn(f"{path}: moments are numbered from 0; they are read as if from 1.", stacklevel=4)
        else:
            moments -= 1
        if (odd := (moments < 0) | (moments >= POINTS)).any():
            row = odd.argmax()
            raise DataError(
                f"{path}: {places[row][0]} has the moment {places[row][1]}; there are {POINTS}, numbered from 1."
            )
    count = len(np.unique(at * POINTS + moments))
    if count < len(places):
        warnings.warn(
            f"{path}: {len(places) - count} lines are of something that an earlier one scored; the last counts.",
            stacklevel=4,
        )
    table = np.zeros((len(order), POINTS if localise else 1, classes))
    there = np.zeros(table.shape[:2], dtype=bool)
    table[at, moments], there[at, moments] = scores, True  # of equal places NumPy keeps the last
    return ScoreTable(tuple(order), table, there) if localise else ScoreTable(tuple(order), table[:, 0], there[:, 0])


def _names(ids: Sequence[str], rows: np.ndarray) -> tuple[str, ...]:
    """What the marked rows ``[V]`` or ``[V, 25]`` are called."""
    if rows.ndim == 1:
        return tuple(ids[row] for row in np.flatnonzero(rows))
    return tuple(f"{ids[row]} {moment + 1}" for row, moment in np.argwhere(rows).tolist())
