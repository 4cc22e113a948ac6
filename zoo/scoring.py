"""What a model of actionness says of many videos, one after another: of a data set's, or of the files in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.data.folder import find_videos
from zoo.errors import DataError, VideoError, ZooError
from zoo.methods.actionness_curves import Curve

Progress = Callable[[int, int], None]


def score_data(
    model: Any, data: Any, unreadable: MutableMapping[str, str], progress: Progress | None = None
) -> Iterator[tuple[str, Curve]]:
    """The curve of each test video of a data set, by its id; a video that shows two tasks comes once.

    Args:
        model: of actionness, such as ``zoo.load("actionness")``.
        data: the datamodule, made for ``model.spec``.
        unreadable: gets what is wrong with each video that cannot be read, by its number.
        progress: called with how many videos are done and how many there are.

    Raises:
        ZooError: the model does not score rows, or the data serves no features.
    """
    _require_curves(model)
    if not getattr(data, "serves_features", False):
        raise DataError(f"{model.name} looks at features, and {data.name} serves none; take coin or crosstask.")
    total, done, known = len(data.records("val")), 0, set()
    for batch in data.test_dataloader():
        batch["features"] = batch["features"].to(model.device)
        unreadable.update({str(number): message for number, message in batch["unreadable"]})
        start = 0
        for video, (name, count) in enumerate(zip(batch["video_id"], batch["lengths"].tolist(), strict=True)):
            rows = slice(start, start + count)
            start += count
            if name not in known:
                known.add(name)
                with torch.inference_mode():
                    scores, rate = model.curve(batch, video, rows)
                if not len(scores):
                    raise ZooError(f"{model.name} gives the rows of {name} no scores: it looks at none.")
                yield name, _curve(name, scores.float().cpu().numpy(), rate, float(batch["duration"][video]))
        done += len(batch["video_id"]) + len(batch["unreadable"])
        if progress:
            progress(done, total)


def score_files(
    model: Any,
    folder: str | os.PathLike,
    unreadable: MutableMapping[str, str],
    *,
    rate: float | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Curve]]:
    """The curve of each file of a folder and the folders below it, by its path there without the suffix.

    Args:
        model: of actionness.
        folder: of features (.npy, also in a folder "features" of it), or where there are none of films, whose features
            the model's extractor makes.
        unreadable: gets what is wrong with each file that cannot be read, by its id.
        rate: rows of features a second; by default as `zoo extract` noted it beside each file, else 1.
        progress: called with how many files are done and how many there are.

    Raises:
        DataError: of a folder it is noted that its features are of another network.
        ZooError: the model does not score rows; there is neither a file of features nor a film.
    """
    _require_curves(model)
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; a folder of features or films is wanted, or NAME=ROOT.")
    home = folder / "features" if (folder / "features").is_dir() else folder
    files = sorted(path for path in home.rglob("*.npy") if path.is_file())
    if not files:
        home, files = folder, find_videos(folder)
    for done, path in enumerate(files, 1):
        name = path.relative_to(home).with_suffix("").as_posix()
        try:
            found = model.predict(path, top=1, rate=rate)
        except VideoError as error:
            unreadable[name] = str(error)
        else:
            yield name, found
        if progress:
            progress(done, len(files))


def _require_curves(model: Any) -> None:
    if not hasattr(model, "curve"):
        raise ZooError(f"{model.name} does not score rows of features; take a model such as actionness.")


def _curve(name: str, scores: np.ndarray, rate: float, duration: float) -> Curve:
    starts = np.arange(len(scores)) / rate
    return Curve(name, np.stack([starts, starts + 1 / rate], axis=1), scores, duration)
