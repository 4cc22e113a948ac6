"""Small trees of pictures in the official layouts, whose frames show their own numbers (`tests.data.render`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.render import numbered
from zoo.data.masks import write_mask

HEIGHT, WIDTH = 48, 64


def picture(path: Path, number: int, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """A picture that shows ``number``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered(number, height, width)).save(path, quality=95)
    return path


def mask(number: int, objects: int = 2, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask of frame ``number``: each object is a column that wanders to the right."""
    values = np.zeros((height, width), dtype=np.uint8)
    for object_number in range(1, objects + 1):
        values[8:40, 10 * object_number + number : 10 * object_number + number + 6] = object_number
    return values


def davis(root: Path, lengths: dict[str, int], *, year: str = "2017", resolution: str = "480p") -> Path:
    """DAVIS with these sequences (name to frames), all of them in val.txt in this order."""
    for name, frames in lengths.items():
        for number in range(frames):
            picture(root / "JPEGImages" / resolution / name / f"{number:05d}.jpg", number)
            place = root / "Annotations" / resolution / name / f"{number:05d}.png"
            if year == "2017":
                write_mask(place, mask(number))
            else:
                grey(place, np.minimum(mask(number), 1) * 255)
    write_list(root / "ImageSets" / year / "val.txt", lengths)
    return root


def grey(path: Path, values: np.ndarray) -> Path:
    """A PNG without a palette, of 8 or 16 bits as the values are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def write_list(path: Path, lines: Sequence[str]) -> Path:
    """A list, one entry a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
