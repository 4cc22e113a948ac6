"""TV-L1 optical flow (Zach, Pock and Bischof 2007) of videos, by OpenCV, in the layout that Charades is released in.

    OUT/ID/ID-000001x.jpg, ID-000001y.jpg ...       flow from image 1 to image 2; see `zoo.data.flow_files`

Images are those of `zoo.data.moments` at 24 a second, grey, the longer side scaled to 320 pixels: displacements are
counted in pixels, so the scale is part of the meaning. The parameters are OpenCV's own; the release names none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from zoo.data.flow_files import encode_flow, flow_paths
from zoo.data.moments import open_images
from zoo.errors import DataError, VideoError, ZooError
from zoo.extras import optional
from zoo.files import require_writable, writing
from zoo.pools import process_pool

RATE = 24.0  # images a second
LONGER_SIDE = 320  # pixels
_QUALITY = 95  # of the JPEGs, as OpenCV writes them


@dataclass
class FlowReport:
    """What `write_flow` did.

    Attributes:
        folder: where the flow lies.
        made: videos whose flow was computed.
        kept: videos whose flow was there already.
        busy: videos that another run was at.
        unreadable: video's name to what is wrong with it.
    """

    folder: Path
    made: int = 0
    kept: int = 0
    busy: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def flow_between(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The flow from each frame to the next, as bytes: uint8 ``[2F, H, W]`` (x, y, x, y, ...) of F + 1 frames.

    Args:
        frames: uint8 ``[H', W', 3]`` RGB of any one size, 24 a second. Made grey and scaled, so that the longer of H
            and W is 320.

    Raises:
        VideoError: fewer than two frames.
        ZooError: OpenCV is not installed with its optical flow.
    """
    if len(frames) < 2:
        raise VideoError(f"flow is between two frames and more, got {len(frames)}.")
    return np.concatenate([encode_flow(flow) for flow in _flows(frames, "flow")])


def flow_magnitude(frames: Sequence[np.ndarray]) -> float:
    """The mean length of the motion from each frame to the next, in pixels of pictures whose longer side is 320.

    Args:
        frames: as `flow_between`.

    Raises:
        VideoError: fewer than two frames.
        ZooError: OpenCV is not installed with its optical flow.
    """
    if len(frames) < 2:
        raise VideoError(f"flow is between two frames and more, got {len(frames)}.")
    return float(np.mean([np.hypot(*flow).mean() for flow in _flows(frames, "flow")]))


class VideoFlow:
    """The flow of a video that has none stored, computed where it is asked for; used as a `FlowFolder` is.

    A field takes a second or two of a core, and a test of 25 stacks of ten is some minutes.

    Raises:
        VideoError: the video cannot be opened.
        ZooError: OpenCV is not installed with its optical flow.
    """

    def __init__(self, path: str | os.PathLike[str], length: int, fps: float = RATE) -> None:
        """
        Args:
            path: a video, or a folder of pictures.
            length: fields in a stack.
            fps: images a second.
        """
        _solver()  # before any work
        self.path, self.length, self.fps = Path(path), length, fps
        self._fields: dict[int, list[np.ndarray]] = {}  # of the last stack, which the next may share some with

    @cached_property
    def count(self) -> int:
        """Images that have flow: all but the last."""
        with open_images(self.path, self.fps) as images:
            return images.count - 1

    def stack(self, number: int) -> list[np.ndarray]:
        """The stack from an image on: x, y, x, y, ..., each uint8 ``[H, W]``.

        Raises:
            VideoError: the video has no such images, or they cannot be decoded.
        """
        wanted = range(number, number + self.length)
        fields = {image: self._fields[image] for image in wanted if image in self._fields}
        lacking = [image for image in wanted if image not in fields]
        if lacking:
            with open_images(self.path, self.fps) as images:
                pictures = images.pictures(range(lacking[0], lacking[-1] + 2))
                flows = _flows(pictures, str(self.path))
                for image, flow in zip(range(lacking[0], lacking[-1] + 1), flows, strict=True):
                    fields[image] = list(encode_flow(flow))
        self._fields = fields
        return [plane for image in wanted for plane in fields[image]]


def write_flow(
    videos: Mapping[str, Path],
    out: str | Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FlowReport:
    """Compute the flow of videos that have none yet in ``out``, a folder each, which appears once it is whole.

    A run that is killed leaves nothing that counts, and the next one goes on behind its last whole video. Several
    runs, on several machines too, may share ``out``.

    Args:
        videos: name to file, or to the folder of its images at 24 a second.
        out: the folder, such as ``root/Charades_v1_flow``.
        workers: processes; with 1 this one does it all.
        progress: called with how many videos are done, and of how many.

    Raises:
        DataError: a name that is no name of a folder.
        NoPlaceError: ``out`` can't be written to, or the disk is full.
        ZooError: OpenCV is not installed with its optical flow, or a worker died.
    """
    for name in videos:
        if not name or Path(name).name != name or name.startswith("."):
            raise DataError(f"{name!r} cannot be a video's name: flow is written into a folder of that name in {out}.")
    _solver()  # before any work
    report = FlowReport(Path(out))
    require_writable(report.folder)
    with writing(report.folder / "flow"):
        report.folder.mkdir(parents=True, exist_ok=True)
    lacking = {name: path for name, path in videos.items() if not _is_there(report.folder / name)}
    report.kept = done = len(videos) - len(lacking)
    progress(done, len(videos))
    for name, (state, message) in _each(lacking, report.folder, workers):
        if state == "unreadable":
            report.unreadable[name] = message
        else:
            setattr(report, state, getattr(report, state) + 1)
        progress(done := done + 1, len(videos))
    report.unreadable = {name: report.unreadable[name] for name in videos if name in report.unreadable}
    return report


def _each(videos: Mapping[str, Path], out: Path, workers: int) -> Iterator[tuple[str, tuple[str, str]]]:
    """What `_write_one` says of each video, as they get done."""
    if workers == 1:
        for name, path in videos.items():
            yield name, _write_one(path, out / name)
        return
    died = (
        "a process that computed flow died, perhaps for lack of memory. What is whole stays: run it again, with fewer "
        "of them (--num-workers)."
    )
    with process_pool(workers, died, _one_thread) as pool:
        waiting = _submit(pool, videos, out)
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _submit(pool: Executor, videos: Mapping[str, Path], out: Path) -> dict[Future, str]:
    return {pool.submit(_write_one, path, out / name): name for name, path in videos.items()}


def _one_thread() -> None:
    """The processes are the parallelism."""
    optional("cv2", "flow", "optical flow").setNumThreads(1)


def _write_one(video: Path, target: Path) -> tuple[str, str]:
    """The flow of one video into a new folder, all of it or nothing: ``made``, ``kept``, ``busy`` or ``unreadable``."""
    lock = target.with_name(f".{target.name}.lock")
    with writing(target), contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            return "busy", ""
        held.callback(lock.unlink, missing_ok=True)
        if _is_there(target):
            return "kept", ""
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # left by somebody who was killed: the lock was free
        held.callback(shutil.rmtree, part, ignore_errors=True)
        folder = part / target.name
        folder.mkdir(parents=True)
        try:
            _write_pictures(video, folder)
        except VideoError as error:
            return "unreadable", str(error)
        folder.rename(target)
    return "made", ""


def _is_there(folder: Path) -> bool:
    """Whether a video's flow is there; it appears whole or not at all."""
    return folder.is_dir() and any(folder.iterdir())


def _write_pictures(video: Path, folder: Path) -> None:
    with open_images(video, RATE) as images:
        if images.count < 2:
            raise VideoError(f"{video} has one image at {RATE:g} a second, and flow is between two.")
        for number, flow in enumerate(_flows(images.pictures(range(1, images.count + 1)), str(video)), 1):
            for path, plane in zip(flow_paths(folder, number), encode_flow(flow), strict=True):
                Image.fromarray(plane).save(path, quality=_QUALITY)


def _flows(frames: Iterable[np.ndarray], where: str) -> Iterator[np.ndarray]:
    """The flow from each frame to the next, pixels, float32 ``[2, H, W]``; ``where`` names the frames in errors."""
    solver, last = _solver(), None
    for number, frame in enumerate(frames, 1):
        grey = _grey(frame)
        if last is not None:
            if grey.shape != last.shape:
                raise VideoError(f"{where}: image {number} is of another shape than those before; flow wants one.")
            yield np.moveaxis(solver.calc(last, grey, None), -1, 0)
        last = grey


def _grey(frame: np.ndarray) -> np.ndarray:
    """A frame ``[H, W, 3]`` in grey, its longer side scaled to 320."""
    picture = Image.fromarray(frame).convert("L")
    ratio = LONGER_SIDE / max(picture.size)
    size = tuple(max(1, round(side * ratio)) for side in picture.size)
    return np.asarray(picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC))


def _solver() -> Any:
    """OpenCV's TV-L1 with its own parameters.

    Raises:
        ZooError: it is not installed, or another build of OpenCV is.
    """
    cv2 = optional("cv2", "flow", "optical flow")
    if not hasattr(cv2, "optflow"):
        raise ZooError(
            f"optical flow needs OpenCV with its contributed modules, and OpenCV {cv2.__version__} is here without "
            "them: pip uninstall opencv-python opencv-python-headless, then pip install 'videozoo[flow]'."
        )
    return cv2.optflow.createOptFlow_DualTVL1()
