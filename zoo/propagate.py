"""`zoo propagate`: labels through a video or a whole data set, into files as they come.

Frames are read, propagated and written one after another, so that a video of an hour takes no more memory than one of a
second. An interrupted run leaves what it has written; every single file is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.data.davis import export_results
from zoo.data.masks import write_mask
from zoo.data.sequences import FrameSource, SequenceDataModule
from zoo.errors import DataError, ZooError
from zoo.files import require_writable, write_whole
from zoo.methods.carried import read_keypoints
from zoo.methods.correspondence import Correspondence, moving
from zoo.visualize.film import Film
from zoo.visualize.overlay import paint_keypoints, paint_mask

Progress = Callable[[int, int | None], None]  # frames done, frames in all where known


def propagate_video(
    model: Correspondence,
    video: str | os.PathLike,
    *,
    mask: str | os.PathLike | None = None,
    keypoints: str | os.PathLike | None = None,
    texture: bool = False,
    out: str | os.PathLike | None = None,
    overlay: str | os.PathLike | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Carry the labels of a video's first frame to all its frames and write them; returns the number of frames.

    Args:
        model: of correspondence.
        video: a video file, or a folder of images.
        mask: a PNG with the objects of the first frame; or
        keypoints: a JSON file with its joints.
        texture: paint six stripes on the mask's objects and carry those.
        out: folder for the result: a palette PNG a frame, called by the frame's number (or, of a folder, its file), or
            ``keypoints.json``, a list with an entry a frame.
        overlay: an MP4 file with the result painted over the frames.
        progress: is told how far it is.

    Raises:
        VideoError: a frame cannot be read.
        DataError: the labels cannot be read.
        ZooError: the labels do not belong to the video; the model is of another kind; a file cannot be written.
    """
    _must_correspond(model)
    if (mask is None) == (keypoints is None):
        raise ZooError("propagate wants either a mask or keypoints of the first frame.")
    if texture and mask is None:
        raise ZooError("a texture is painted on the objects of a mask; give one.")
    if overlay is not None and Path(overlay).suffix.lower() != ".mp4":
        raise ZooError(f"the overlay {overlay} is a film: give it the name of an .mp4 file.")
    for folder in filter(None, (out, overlay and Path(overlay).parent)):
        require_writable(Path(folder))
    kind = "keypoints" if keypoints is not None else "stripes" if texture else "masks"
    frames, names, waiting = moving(video), [], deque()
    _must_not_overwrite(frames, out, overlay)
    if keypoints is not None:
        names, first = read_keypoints(keypoints)
    else:
        first = mask
    placed: list[Any] = []

    def feed() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame

    with contextlib.ExitStack() as stack:
        film = stack.enter_context(Film(overlay, frames.fps or 25)) if overlay else None
        number = -1
        for number, label in enumerate(model.propagate(feed(), first, kind=kind)):
            frame = waiting.popleft()
            if film:
                film.add((paint_keypoints if names else paint_mask)(frame, label))
            if out is not None and names:
                places = [[round(float(v), 2) for v in xy] if np.isfinite(xy).all() else None for xy in label]
                placed.append(dict(zip(names, places, strict=True)))
            elif out is not None:
                write_mask(Path(out) / f"{frames.names[number]}.png", label)
            progress(number + 1, frames.length)
        if out is not None and names:
            write_whole(Path(out) / "keypoints.json", json.dumps(placed, indent=0).encode())
    return number + 1


@torch.inference_mode()
def propagate_data(
    model: Correspondence, data: Any, out: str | os.PathLike, progress: Progress = lambda done, total: None
) -> int:
    """Propagate every sequence of a data set of masks and write the results as its benchmark's server wants them.

    Args:
        model: of correspondence.
        data: a datamodule of sequences whose labels are masks, such as ``zoo.datamodule("davis2017", root=...)``.
        out: folder for ``<sequence>/00000.png``, ...
        progress: is told how many sequences are done.

    Returns:
        The number of sequences written.

    Raises:
        DataError: a sequence cannot be read; those before it are written.
    """
    _must_correspond(model)
    if not isinstance(data, SequenceDataModule) or data.kind != "masks":
        raise ZooError(f"{data.name} has no masks to hand in; davis2017 and davis2016 have.")
    require_writable(Path(out))
    data.setup("predict")
    model.eval()
    records, done = data.records("val"), 0
    for batch in data.predict_dataloader():
        if batch["unreadable"]:
            raise DataError(f"{batch['unreadable'][0][1]} {done} sequences before it are written.")
        found = model.predict_step({**batch, "frames": batch["frames"].to(model.device)}, 0)
        masks = [mask.cpu().numpy() for mask in found["outputs"]]
        numbers = batch["numbers"].tolist()
        export_results(out, records[batch["index"]].name, masks, start=numbers[0])
        if numbers[-1] == batch["length"] - 1:
            done += 1
            progress(done, len(records))
    return done


def _must_not_overwrite(frames: FrameSource, out: str | os.PathLike | None, overlay: str | os.PathLike | None) -> None:
    """Refuse results that would take the place of the video, or of one another."""
    if out is not None and frames.pictures:
        if Path(out).resolve() == frames.path.resolve():
            raise ZooError(f"--out {out} is the folder of the frames, which the results would overwrite; name another.")
        if len(set(frames.names)) < len(frames.names):
            twice = next(name for name in frames.names if frames.names.count(name) > 1)
            raise ZooError(
                f"{frames.path} has two pictures called {twice}: their results would be one file. Rename one."
            )
    if overlay is not None and Path(overlay).resolve() == frames.path.resolve():
        raise ZooError(f"--overlay {overlay} is the video itself, which the film would overwrite; name another file.")


def _must_correspond(model: Any) -> None:
    if not isinstance(model, Correspondence):
        raise ZooError(
            f"{getattr(model, 'name', type(model).__name__)} propagates nothing; `zoo list 'time_cycle*'` shows models "
            "that do."
        )
