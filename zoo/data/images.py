"""Pictures in files: read whole, upright and as RGB, without trust in what a header claims.

The frames of image sequences come from anybody, as videos do: a few formats only, a limit on the size before a pixel is
decoded (below Pillow's own, which stays), and every failure that lies in a file is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image, ImageOps

from zoo.data.sampling import scaled_size
from zoo.errors import VideoError, ZooError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
_FORMATS = ("JPEG", "PNG", "WEBP")
_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"))  # eight bits a channel
_MAX_PIXELS = 1 << 25  # 8K, as for videos
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = frozenset((5, 6, 7, 8))


def find_images(folder: str | PathLike[str]) -> list[Path]:
    """The pictures right in a folder, by name: numbers in the names count as numbers, so 2.jpg comes before 10.jpg.

    Hidden files (such as the ``._00000.jpg`` that macOS leaves in archives) are no pictures.

    Raises:
        VideoError: the folder cannot be listed.
    """
    folder = Path(folder)
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise VideoError(f"{folder}: the folder cannot be listed ({error.strerror}); check its name.") from None
    return sorted(found, key=_by_number)


def find_frames(folder: Path, annotations: Path) -> list[Path]:
    """The pictures in a folder, and those that lack there although they are annotated: reading them tells so.

    Args:
        folder: of the frames.
        annotations: the folder of PNGs under the frames' names.
    """
    found = find_images(folder)
    lacking = {path.stem for path in find_images(annotations)} - {path.stem for path in found}
    return sorted([*found, *(folder / f"{stem}.jpg" for stem in lacking)], key=_by_number)


@contextmanager
def opened(path: Path, formats: Sequence[str] = _FORMATS, error: type[ZooError] = VideoError) -> Iterator[Image.Image]:
    """A picture whose header was read and whose pixels were not; what goes wrong inside is an ``error`` of this file.

    Raises:
        ZooError: ``error``, naming the file: there is none, it is of another format, broken, or absurdly large.
    """
    try:
        if not path.is_file():
            raise error(f"there is no file {path}; check the name, or fetch the data set's archive again.")
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise error(
                    f"{path}: pictures of {image.width} x {image.height} pixels are not read (at most {_MAX_PIXELS} "
                    "pixels are). Make it smaller, or fetch it again."
                )
            yield image
    except ZooError:
        raise
    except Exception as reason:  # hostile bytes make Pillow raise a dozen kinds, SyntaxError among them
        kinds = " or ".join(formats)
        raise error(
            f"{path} cannot be read as {kinds} ({str(reason) or type(reason).__name__}). Fetch it again."
        ) from None


def image_size(path: Path) -> tuple[int, int]:
    """``(height, width)`` of a picture as `read_image` gives it, by its header alone.

    Raises:
        VideoError: the file is no picture.
    """
    with opened(path) as image:
        return (image.width, image.height) if _orientation(image) in _SIDEWAYS else (image.height, image.width)


def read_image(path: Path) -> np.ndarray:
    """A picture, uint8 ``[H, W, 3]`` RGB, upright.

    Raises:
        VideoError: the file is no picture, is cut off, or has more than eight bits a channel.
    """
    with opened(path) as image:
        if image.mode not in _MODES:
            raise VideoError(f"{path}: a picture of kind {image.mode!r} is no frame; save it with 8 bits a channel.")
        upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        return np.array(upright.convert("RGB"))


class ImageFolder:
    """A video that lies as pictures in a folder, read as `zoo.data.video.VideoReader` reads a file.

    Raises:
        VideoError: the folder holds no picture; so does `read` for a broken one.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.paths = find_images(path)
        if not self.paths:
            raise VideoError(f"{path}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))}).")
        self._reformatter = VideoReformatter()

    def __enter__(self) -> ImageFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing stays open."""

    @property
    def frames(self) -> int:
        """Pictures in the folder."""
        return len(self.paths)

    def read(
        self, indices: Sequence[int], *, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """The pictures numbered ``indices`` (repeated or not), uint8 ``[T, H, W, 3]`` RGB; `VideoReader.read`'s."""
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        pixels = None
        for at, number in enumerate(wanted.tolist()):
            picture = self._scaled(read_image(self.paths[number]), short_side, size)
            if pixels is None:
                pixels = np.empty((len(wanted), *picture.shape), dtype=np.uint8)
            if picture.shape != pixels.shape[1:]:
                raise differing_sizes(self.paths[number], picture.shape[:2], pixels.shape[1:3])
            pixels[at] = picture
        return pixels[places]

    def _scaled(self, picture: np.ndarray, short_side: int | None, size: tuple[int, int] | None) -> np.ndarray:
        """By the scaler that videos go through."""
        height, width = size or (scaled_size(*picture.shape[:2], short_side) if short_side else picture.shape[:2])
        if (height, width) == picture.shape[:2]:
            return picture
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        return self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR
        ).to_ndarray()


def differing_sizes(path: Path, size: tuple[int, ...], first: tuple[int, ...]) -> VideoError:
    """The error for a frame of another ``(height, width)`` than its sequence's first."""
    return VideoError(
        f"{path} has {size[1]} x {size[0]} pixels, the first frame of its sequence {first[1]} x {first[0]}; "
        "all frames of a sequence must be of one size."
    )


def _orientation(image: Image.Image) -> int:
    """How EXIF says a JPEG is turned, 1 for not at all. Pillow decodes a whole PNG to look for it, so only in JPEGs."""
    return image.getexif().get(_ORIENTATION, 1) if image.format == "JPEG" else 1


def _by_number(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], path.name
