"""Masks as DAVIS stores them: PNGs with a palette, whose values are the numbers of the objects (0 is the background).

A mask is uint8 ``[H, W]``: object numbers 1 to 254, 0 for the background, 255 for void (counted as neither). A PNG that
leaves open what its values mean is refused rather than guessed at.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from zoo.data.images import opened
from zoo.errors import DataError
from zoo.files import write_whole

VOID = 255
_GREY, _PALETTE = 0, 3  # PNG colour types (ISO/IEC 15948, 11.2.2)
_REMEDY = "Save it as an 8-bit palette PNG whose values are the object numbers; zoo.data.masks.write_mask does."


def _bit_interleaved() -> np.ndarray:
    """Bits 0, 3, 6 of a number are the highest bits of red, bits 1, 4, 7 those of green, bits 2, 5 those of blue."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((numbers >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


PALETTE = _bit_interleaved()
"""The colours of DAVIS and PASCAL VOC, uint8 ``[256, 3]`` RGB: object number to colour."""


def read_mask(path: Path, *, grey: Literal["ids", "binary"] | None = None) -> np.ndarray:
    """The mask in a PNG, uint8 ``[H, W]``.

    Args:
        path: a PNG with a palette, whose values are taken as they are.
        grey: what the values of a PNG without palette mean: object numbers (``"ids"``), or 0 and 255 (or 1) for
            background and object (``"binary"``, which makes one object of a palette's too). None refuses such PNGs.

    Raises:
        DataError: no PNG, broken, of more than eight bits (object numbers above 254), in RGB, or grey where nobody
            said what that means.
    """
    path = Path(path)
    values, depth, colour = _read_png(path)
    if depth == 16 and colour == _GREY:
        raise DataError(f"{path} is a mask of 16 bits: at most 254 objects can be told apart. {_REMEDY}")
    if colour not in (_GREY, _PALETTE):
        raise DataError(f"{path} is an RGB picture: its colours do not say which object they mean. {_REMEDY}")
    if colour == _GREY and (grey is None or (grey == "ids" and depth < 8)):
        raise DataError(f"{path} has no palette: its values do not say which object they mean. {_REMEDY}")
    if grey != "binary":
        return values
    if colour == _GREY and depth == 8 and np.isin(values, (0, 1, 255), invert=True).any():
        raise DataError(f"{path}: a mask of one object holds 0 and 255 alone; it has other greys. Fetch it again.")
    return (values != 0).astype(np.uint8)


def read_instances(path: Path) -> np.ndarray:
    """Instance numbers in a PNG, int64 ``[H, W]``: grey of 8 or 16 bits, or with a palette.

    Raises:
        DataError: no PNG, broken, or in RGB.
    """
    path = Path(path)
    values, depth, colour = _read_png(path)
    if colour not in (_GREY, _PALETTE) or (colour == _GREY and depth < 8):
        raise DataError(f"{path}: instance numbers stand in grey PNGs of 8 or 16 bits. Fetch it again.")
    return values.astype(np.int64)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as a PNG with the palette of DAVIS; the file appears whole or not at all.

    Args:
        path: where to; the folder is made.
        mask: whole numbers 0 to 255, ``[H, W]`` (an array, or a tensor on the CPU).

    Raises:
        DataError: it is no such mask.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "iub":
        raise DataError(f"a mask is an array [H, W] of whole numbers, got {mask.dtype} {list(mask.shape)}.")
    if mask.dtype.kind != "b" and not 0 <= mask.min() <= mask.max() <= 255:
        raise DataError(f"a mask holds numbers 0 to 255, got {mask.min()} to {mask.max()}: too many objects for a PNG.")
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(PALETTE.tobytes())
    png = io.BytesIO()
    image.save(png, format="PNG")
    write_whole(Path(path), png.getbuffer())


def _read_png(path: Path) -> tuple[np.ndarray, int, int]:
    """Its values ``[H, W]``, or ``[H, W, C]`` where it is no mask; bits a channel; colour type."""
    with opened(path, ("PNG",), DataError) as image:
        with path.open("rb") as file:
            depth, colour = file.read(26)[24:26]  # Pillow has read this header and found it whole
        return np.array(image), depth, colour
