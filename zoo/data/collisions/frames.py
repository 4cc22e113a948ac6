"""The frames of a collision as a model sees them: square, uint8, cut out of wide renders as the release cuts them.

Renders of the release are wide, with sky beside the wall that the objects move in front of. Any picture that is not
square and has at least 324 rows and 510 columns is taken for one: its rows 100 to 323 and columns 150 to 509 are kept.
Square pictures (of the data that is simulated again) are kept whole; any other shape is refused, because nothing says
which part of it is meant. Where the size is another than the wanted one, it is scaled bilinearly without smoothing, to
the byte as OpenCV does, by which the release scales; of a wide render the aspect is not kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.data.images import differing_sizes, image_size, read_image
from zoo.errors import VideoError

FRAMES = 5  # of a sequence: four that are seen, and the one to be predicted
_TOP, _BOTTOM, _LEFT, _RIGHT = 100, 324, 150, 510  # of what is kept of a wide render

Source = str | PathLike[str] | Sequence[str | PathLike[str]] | Tensor


def frame_paths(folder: str | PathLike[str]) -> list[Path]:
    """Where the frames of a sequence lie: 00.png to 04.png."""
    return [Path(folder) / f"{number:02d}.png" for number in range(FRAMES)]


def is_sequence(folder: str | PathLike[str]) -> bool:
    """Whether a folder looks like one collision's."""
    return frame_paths(folder)[0].is_file()


def read_frames(source: Source, size: int) -> Tensor:
    """The frames of a collision, uint8 ``[T, 3, size, size]`` RGB.

    Args:
        source: a sequence's folder (00.png to 04.png, of which the last may be missing: then T is 4), pictures in
            order, or frames uint8 ``[T, 3, H, W]``.
        size: side of the frames, pixels.

    Raises:
        VideoError: a picture that is not there, is broken, is of another size than the first, or is neither square nor
            large enough for the release's crop; a tensor of another kind or shape.
    """
    if isinstance(source, Tensor):
        frames = _from_tensor(source, size)
        _tell_of_cut(*source.shape[-2:])
        return frames
    if isinstance(source, (str, PathLike)):
        paths = frame_paths(source)
        if not paths[0].parent.is_dir():
            problem = f"{source} is a file" if paths[0].parent.exists() else f"there is no folder {source}"
            raise VideoError(f"{problem}; give the folder of a sequence, with 00.png to 04.png.")
        paths = paths if paths[-1].exists() else paths[:-1]
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise VideoError("no frames: give the folder of a sequence, pictures in order, or a tensor [T, 3, H, W].")
    frames = read_pictures(paths, size)
    _tell_of_cut(*image_size(paths[0]))
    return frames


def read_pictures(paths: Sequence[Path], size: int) -> Tensor:
    """As `read_frames`, of pictures, every one of which must be there."""
    pictures: list[np.ndarray] = []
    for path in paths:
        picture = read_image(path)
        crop_of(*picture.shape[:2], str(path))  # an error that names the file
        if pictures and picture.shape != pictures[0].shape:
            raise differing_sizes(path, picture.shape[:2], pictures[0].shape[:2])
        pictures.append(picture)
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return _scaled(frames[(..., *crop_of(*pictures[0].shape[:2], str(paths[0])))], size)


def crop_of(height: int, width: int, where: str) -> tuple[slice, slice]:
    """The rows and columns that are kept of a picture.

    Raises:
        VideoError: it is neither square nor as large as a wide render; ``where`` names it.
    """
    if height == width:
        return slice(None), slice(None)
    if height >= _BOTTOM and width >= _RIGHT:
        return slice(_TOP, _BOTTOM), slice(_LEFT, _RIGHT)
    raise VideoError(
        f"{where} has {width} x {height} pixels. Frames of collisions are square, or wide renders of at least {_RIGHT} "
        f"x {_BOTTOM} pixels of which a part is kept; cut a square out of it."
    )


def _tell_of_cut(height: int, width: int) -> None:
    """Of somebody's own frames the cut may be the wrong part."""
    if height != width:
        warnings.warn(
            f"frames of {width} x {height} pixels are taken for the release's: columns {_LEFT} to {_RIGHT - 1} of rows "
            f"{_TOP} to {_BOTTOM - 1} are kept. Cut a square out of others.",
            stacklevel=3,
        )


def _from_tensor(frames: Tensor, size: int) -> Tensor:
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape:
        raise VideoError(
            f"frames are uint8 of shape [T, 3, H, W], got {str(frames.dtype).removeprefix('torch.')} of shape "
            f"{list(frames.shape)}."
        )
    return _scaled(frames[(..., *crop_of(*frames.shape[-2:], "the tensor of frames"))], size)


def _scaled(frames: Tensor, size: int) -> Tensor:
    height, width = frames.shape[-2:]
    if (height, width) != (size, size):
        # OpenCV scales bytes in fixed point: products lose 4 bits after the columns, 16 after the rows, 2 at the end.
        (left, right), (of_left, of_right) = _neighbours(width, size)
        (upper, lower), (of_upper, of_lower) = _neighbours(height, size)
        columns = (frames[..., left] * of_left + frames[..., right] * of_right) >> 4
        above = columns[..., upper, :] * of_upper[:, None] >> 16
        below = columns[..., lower, :] * of_lower[:, None] >> 16
        frames = ((above + below + 2) >> 2).to(torch.uint8)
    return frames.contiguous()


def _neighbours(count: int, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels that each place on a scaled side lies between, and their shares in 2048ths, ``[2, size]`` both."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * (count / size) - 0.5
    first = place.floor()
    share = ((place - first).float() * 2048).round().to(torch.int32)
    pixels = torch.stack([first, first + 1]).long().clamp(0, count - 1)
    return pixels, torch.stack([2048 - share, share])
