"""Proposals of actions in ActivityNet's JSON, and how much of what is annotated they find (AR@AN, figure 5).

    {"version": "VERSION 1.3", "external_data": {}, "results": {ID: [{"segment": [start, end], "score": x}, ...]}}

Seconds, the best first; what other programs write beside these fields, such as labels, is left aside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.data.json_files import read_json
from zoo.errors import DataError, ZooError
from zoo.files import write_whole
from zoo.metrics.proposals import RecallCurve, average_recall

_VERSION = "VERSION 1.3"  # of ActivityNet, whose programs want one


@dataclass(frozen=True)
class Recall:
    """How much of what is annotated is found by how many proposals.

    Attributes:
        curve: average recall over the average number of proposals.
        videos: how many have annotations.
        missing: ids of those without a proposal; nothing is found in them.
        unknown: ids with proposals that the data set does not have; their proposals are left out.
    """

    curve: RecallCurve
    videos: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


def write_proposals(path: str | os.PathLike, proposals: Mapping[str, ArrayLike], details: str = "") -> Path:
    """Write proposals whole or not at all; returns the file's path.

    Args:
        path: of the JSON file.
        proposals: by video id, ``[n, 3]`` rows of start, end (seconds) and score; n may be 0.
        details: what they were made with, for the field ``external_data``.

    Raises:
        ZooError: a row is no interval or has no finite score; there is no video; the file cannot be written.
    """
    if not proposals:
        raise ZooError(f"{path} is not written: there are no proposals to write.")
    results = {}
    for name, rows in proposals.items():
        table = np.asarray(rows, dtype=np.float64)
        table = table.reshape(-1, 3) if not table.size else table
        if table.ndim != 2 or table.shape[1] != 3:
            raise ZooError(f"{path} is not written: proposals of {name} must be [n, 3], got {list(table.shape)}.")
        if not np.isfinite(table).all() or (table[:, 1] < table[:, 0]).any():
            row = int((np.isfinite(table).all(1) & (table[:, 1] >= table[:, 0])).argmin())
            raise ZooError(
                f"{path} is not written: proposal {row} of {name} is {table[row].tolist()}; a start, an end after it "
                "and a finite score are wanted."
            )
        best = table[np.argsort(-table[:, 2], kind="stable")]
        results[name] = [{"segment": [start, end], "score": score} for start, end, score in best.tolist()]
    content = {"version": _VERSION, "external_data": {"details": details} if details else {}, "results": results}
    write_whole(Path(path), json.dumps(content, allow_nan=False).encode())
    return Path(path)


def read_proposals(path: str | os.PathLike) -> dict[str, NDArray]:
    """Proposals by video id, float64 ``[n, 3]`` rows of start, end (seconds) and score, the best first.

    Raises:
        DataError: there is no such file, or it holds something else; names the video and the number of the proposal.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of proposals {path}; `zoo actionness proposals` writes one.")
    content = read_json(path, dict)
    results = content.get("results")
    if not isinstance(results, dict):
        raise DataError(f'{path} has no object "results"; proposals are kept in ActivityNet\'s format.')
    found = {}
    for name, listed in results.items():
        if not isinstance(listed, list):
            raise DataError(f"{path}: the proposals of {name} are no list.")
        rows = [_row(f"{path}: proposal {n} of {name}", one) for n, one in enumerate(listed)]
        table = np.array(rows, dtype=np.float64).reshape(-1, 3)
        found[name] = table[np.argsort(-table[:, 2], kind="stable")]
    return found


def annotated_intervals(data: Any) -> list[tuple[str, NDArray]]:
    """The annotated intervals ``[K, 2]`` in seconds of every test video of a data set, with the video's id.

    Args:
        data: a datamodule of videos with annotated steps, such as coin; a spec without pixels spares the features.

    Raises:
        ZooError: it has no annotated intervals.
    """
    found = []
    for batch in data.test_dataloader():
        if "intervals" not in batch:
            raise ZooError(f"{data.name} has no annotated intervals; proposals are held against coin or crosstask.")
        found += zip(batch["video_id"], batch["intervals"], strict=True)
        data.unreadable.update(batch["unreadable"])
    return found


def recall_of(
    proposals: Mapping[str, ArrayLike], truth: Iterable[tuple[str, ArrayLike]], budget: int | None = 100
) -> Recall:
    """Average recall over the number of proposals, as the ActivityNet evaluation counts it.

    As there, proposals of a video in which nothing is annotated count as made. Those of a video that ``truth`` does not
    have at all are left out; there they would count too, so that a file for more videos than one split had less recall.

    Args:
        proposals: by video id, ``[n, 3]`` start, end and score.
        truth: id and intervals ``[K, 2]`` (K may be 0) of each video; an id may come again, as where a video shows two
            tasks.
        budget: proposals per video on average at the last operating point; None takes as many as there are.

    Raises:
        ZooError: nothing is annotated, or no annotated video has proposals.
    """
    listed = [(name, np.asarray(rows, dtype=np.float64).reshape(-1, 2)) for name, rows in truth]
    if not any(len(rows) for _, rows in listed):
        raise ZooError("there is nothing to find: no video has an annotated interval.")
    tables = [np.asarray(proposals.get(name, ()), dtype=np.float64).reshape(-1, 3) for name, _ in listed]
    annotated = {name: len(table) for (name, rows), table in zip(listed, tables, strict=True) if len(rows)}
    if not any(annotated.values()):
        raise ZooError(
            f"none of the {len(annotated)} annotated videos has a proposal (the first is {next(iter(annotated))}, and "
            f"the first proposals are of {next(iter(proposals), 'no video')}); are these proposals of other videos?"
        )
    known = {name for name, _ in listed}
    return Recall(
        average_recall({number: rows for number, (_, rows) in enumerate(listed)}, dict(enumerate(tables)), budget),
        sum(len(rows) > 0 for _, rows in listed),
        tuple(name for name, count in annotated.items() if not count),
        tuple(name for name in proposals if name not in known),
    )


def _row(where: str, one: Any) -> tuple[float, float, float]:
    """Start, end and score of what stands for a proposal."""
    segment, score = (one.get("segment"), one.get("score")) if isinstance(one, dict) else (None, None)
    values = [*segment, score] if isinstance(segment, list) else []
    if len(values) != 3 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise DataError(f'{where} is no {{"segment": [start, end], "score": number}}: {str(one)[:60]}')
    try:
        start, end, score = map(float, values)
    except OverflowError:  # a whole number may have any number of digits
        start = end = score = np.inf
    if not np.isfinite((start, end, score)).all() or end < start:
        raise DataError(f"{where}: {str(values)[:60]} is no interval in seconds with a finite score.")
    return start, end, score
