"""Single images of a video by number, out of a video file or of the folders of pictures that Charades is released as.

    Charades_v1_rgb/ID/ID-000001.jpg ...                      24 a second
    Charades_v1_flow/ID/ID-000001x.jpg, ID-000001y.jpg ...    flow from image 1 to image 2 (`zoo.data.flow_files`)

Image ``n``, from 1 on, is at ``(n - 1) / fps`` seconds. Out of a video file come the frames that FFmpeg's filter
``fps`` would choose, which is how the release's pictures were made: where a file's rate is another one, image ``n`` is
the last frame before ``(n - 1/2) / fps`` seconds, and there are as many as its length rounds to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.data import moment_views
from zoo.data.flow_files import flow_paths
from zoo.data.images import find_images, opened, read_image
from zoo.data.moment_sampling import flow_ahead, image_count, spread_images
from zoo.data.video import VideoReader
from zoo.errors import DataError, VideoError
from zoo.spec import VideoSpec

_LONGEST = 1e7  # seconds that a file's time stamps may reach: some months


class FileImages:
    """The images of a video file; a context manager, so that it is closed.

    Args:
        path: the file.
        fps: images a second.
        threads: decoder threads; keep 1 inside a loader's worker.

    Attributes:
        count: of its images.

    Raises:
        VideoError: the file cannot be opened as video, or does not tell how fast its frames follow each other.
    """

    def __init__(self, path: str | PathLike[str], fps: float, *, threads: int = 1) -> None:
        self.path, self.fps = Path(path), fps
        self._video = VideoReader(path, threads=threads)
        try:
            # Reading all time stamps reads the file to its end; where its index says that the rate is steady none is.
            steady, frames = self._video.steady_rate, self._video.frames
            self._times = np.arange(frames) / steady if steady else self._video.times()
            if frames > 1 and not 0 < self._times[-1] < _LONGEST:
                raise VideoError(
                    f"{path} does not tell how fast its frames follow each other, and {fps:g} images a second are "
                    "asked for. Store it with a frame rate: `ffmpeg -r 25 -i FILE NEW.mp4`."
                )
        except BaseException:
            self._video.__exit__()
            raise
        # The last frame stays on for as long as its predecessors do on average.
        self.count = image_count(self._times[-1] * frames / max(frames - 1, 1), fps)

    def __enter__(self) -> FileImages:
        return self

    def __exit__(self, *exception: object) -> None:
        self._video.__exit__()

    def has(self, number: int) -> bool:
        """Whether there is an image of this number."""
        return 1 <= number <= self.count

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The images of these numbers, which ascend (some may be there twice), each uint8 ``[H, W, 3]`` RGB.

        Raises:
            VideoError: an image is not there or cannot be decoded; those before were given out.
        """
        frames = self.frames(np.asarray(numbers)).tolist()
        wanted = iter(sorted(set(frames)))
        pictures, shown = self._video.select(sorted(set(frames))), -1
        for frame in frames:
            while shown != frame:
                shown, picture = next(wanted), next(pictures)
            yield picture

    def frames(self, numbers: np.ndarray) -> np.ndarray:
        """The file's frames, from 0, that these images are, int64."""
        return np.maximum(np.searchsorted(self._times, (numbers - 0.5) / self.fps, side="left") - 1, 0)


class FolderImages:
    """The images of a folder of pictures, used as `FileImages` is.

    Those of the release have their number in their name. Of any other folder they are the pictures by name.

    Raises:
        VideoError: the folder cannot be listed, or holds no picture; only once `count` is asked for.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __enter__(self) -> FolderImages:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing stays open."""

    @property
    def count(self) -> int:
        """Pictures in the folder."""
        return len(self._listed)

    def has(self, number: int) -> bool:
        """Whether there should be a picture of this number. One of the release is found without listing the folder."""
        return number >= 1 and (self._official(number).is_file() or number <= self.count)

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The pictures of these numbers, uint8 ``[H, W, 3]`` RGB.

        Raises:
            VideoError: a picture is not there or broken; those before were given out.
        """
        last, picture = None, None
        for number in np.asarray(numbers).tolist():
            if number != last:
                last, picture = number, read_image(self._place(number))
            yield picture

    def _official(self, number: int) -> Path:
        return self.path / f"{self.path.name}-{number:06d}.jpg"

    def _place(self, number: int) -> Path:
        official = self._official(number)
        if official.is_file() or self._official(1).is_file() or not 1 <= number <= self.count:
            return official  # one that lacks in the middle is missed by its name
        return self._listed[number - 1]

    @cached_property
    def _listed(self) -> list[Path]:
        pictures = find_images(self.path)
        if not pictures:
            raise VideoError(f"{self.path}: no picture in this folder; give a video, or a folder of pictures.")
        return pictures


class FlowFolder:
    """The flow of a video as the release has it: two pictures for each image, of its motion in x and in y.

    Raises:
        VideoError: the folder cannot be listed, or holds no flow; only once `count` is asked for.
    """

    def __init__(self, path: str | PathLike[str], length: int) -> None:
        """
        Args:
            path: the video's folder in Charades_v1_flow.
            length: fields in a stack.
        """
        self.path, self.length = Path(path), length

    @cached_property
    def count(self) -> int:
        """Images that have flow: half of the pictures."""
        try:
            with os.scandir(self.path) as entries:
                pictures = sum(entry.name.endswith(".jpg") and entry.name[0] != "." for entry in entries)
        except OSError as error:
            raise VideoError(
                f"{self.path}: the folder of flow cannot be listed ({error.strerror}). "
                "`zoo data flow charades ROOT` computes what is missing."
            ) from None
        if pictures < 2:
            raise VideoError(f"{self.path} holds no flow. `zoo data flow charades ROOT` computes what is missing.")
        return pictures // 2

    def has(self, number: int) -> bool:
        """Whether there should be a whole stack from this image on."""
        last = number + self.length - 1
        return number >= 1 and (all(path.is_file() for path in flow_paths(self.path, last)) or last <= self.count)

    def stack(self, number: int) -> list[np.ndarray]:
        """The stack from an image on: x, y, x, y, ..., each uint8 ``[H, W]``.

        Raises:
            VideoError: a picture is not there, is broken, or of another size than the first.
        """
        planes = []
        for image in range(number, number + self.length):
            for path in flow_paths(self.path, image):
                planes.append(_read_grey(path))
                if planes[-1].shape != planes[0].shape:
                    (height, width), (first_height, first_width) = planes[-1].shape, planes[0].shape
                    raise VideoError(
                        f"{path} has {width} x {height} pixels, the first of its stack {first_width} x {first_height}. "
                        f"Remove {self.path} and compute it again with `zoo data flow charades ROOT`."
                    )
        return planes


def open_images(path: str | PathLike[str], fps: float, *, threads: int = 1) -> FileImages | FolderImages:
    """The images of a video file, or of a folder of pictures, which are taken as ``fps`` of them a second.

    Raises:
        VideoError: as `FileImages`.
    """
    return FolderImages(path) if os.path.isdir(path) else FileImages(path, fps, threads=threads)


def test_moments(
    video: str | PathLike[str],
    spec: VideoSpec,
    flow: str | PathLike[str] | FlowFolder | None = None,  # noqa: PT028 (not a pytest function)
    *,
    threads: int = 1,  # noqa: PT028
) -> dict[str, Tensor]:
    """What a test looks at of one video, as a batch of one: of the streams that ``spec.moments`` asks for.

    Args:
        video: any file that FFmpeg decodes, or a folder of pictures at ``spec.fps`` a second; not opened where
            flow alone is asked for.
        spec: what the model wants.
        flow: the folder with the video's flow, where flow is asked for, or something that is used as one
            (`zoo.data.tvl1.VideoFlow`).
        threads: decoder threads; keep 1 inside a loader's worker.

    Returns:
        ``rgb`` uint8 ``[points, 3, S, S]`` with ``rgb_time``, image numbers from 1, int64 ``[points]``; ``flow`` uint8
        ``[points, 2F, S, S]`` with ``flow_time``; ``lengths`` int64 ``[1]``, the points.

    Raises:
        VideoError: the video or its flow cannot be read.
        DataError: flow is asked for and no folder of it was given.
    """
    moments, found = spec.moments, {}
    if "rgb" in moments.streams:
        with open_images(video, spec.fps, threads=threads) as images:
            numbers = spread_images(images.count, moments.points)
            views = [moment_views.test_rgb(picture, spec, images.path) for picture in images.pictures(numbers)]
        found |= {"rgb": torch.stack(views), "rgb_time": torch.from_numpy(numbers)}
    if "flow" in moments.streams:
        if flow is None:
            raise DataError(
                f"{video}: the model looks at optical flow, and no folder with this video's was given. "
                "`zoo data flow charades ROOT` computes it for a data set."
            )
        folder = FlowFolder(flow, moments.flow) if isinstance(flow, str | os.PathLike) else flow
        if folder.count < moments.flow:
            raise VideoError(f"{folder.path} has flow of {folder.count} images; a stack is of {moments.flow}.")
        numbers = spread_images(folder.count, moments.points, flow_ahead(moments))
        views = [moment_views.test_flow(folder.stack(number), spec, folder.path) for number in numbers.tolist()]
        found |= {"flow": torch.stack(views), "flow_time": torch.from_numpy(numbers)}
    return found | {"lengths": torch.tensor([moments.points])}


def _read_grey(path: Path) -> np.ndarray:
    """A grey picture of eight bits, uint8 ``[H, W]``."""
    with opened(path) as image:
        if image.mode not in ("L", "RGB"):
            raise VideoError(f"{path}: a picture of kind {image.mode!r} is no flow; it is grey, with 8 bits a pixel.")
        return np.array(image.convert("L"))
