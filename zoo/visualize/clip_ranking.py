"""The clips that a model scores highest and lowest, as rows of pictures (figure 6 of the paper on actionness)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.video import VideoReader
from zoo.errors import VideoError, ZooError
from zoo.visualize.drawing import GREY, INK, Canvas, clock, frames_at, require_png, shortened

if TYPE_CHECKING:
    from zoo.curves import Clip

_WIDTH, _MARGIN, _BETWEEN = 1200, 24, 8  # pixels
_HEADING, _CAPTION, _AFTER = 34, 44, 12  # heights: over a row, under its pictures, between the rows
_COLUMNS, _WIDEST = 10, 220  # pictures beside each other, at most, and how wide one may get
_LONG = 120  # seconds from which on times are in minutes


def draw_ranking(
    rows: Mapping[str, Sequence[Clip]], path: str | os.PathLike, films: Mapping[str, str | os.PathLike]
) -> Path:
    """Draw the middle frame of each clip into a PNG file, under it score, video and time; returns its path.

    Args:
        rows: by heading, such as "highest: Food and Entertaining", the clips in order; what has no room beside the
            others goes on below them.
        path: of the figure.
        films: by a clip's video where its film lies. A clip whose film is not there or cannot be decoded has a crossed
            box in place of a picture.

    Raises:
        ZooError: there is no clip; the figure cannot be written.
    """
    require_png(path)
    rows = {name: clips for name, clips in rows.items() if len(clips)}
    if not rows:
        raise ZooError("there is nothing to draw: no clip was ranked.")
    columns = min(_COLUMNS, max(map(len, rows.values())))
    width = min((_WIDTH - 2 * _MARGIN - (columns - 1) * _BETWEEN) // columns, _WIDEST)
    height = width * 3 // 4
    line = height + _CAPTION
    lines = {name: math.ceil(len(clips) / columns) for name, clips in rows.items()}
    foot = _MARGIN + sum(_HEADING + count * line for count in lines.values()) + _AFTER * (len(rows) - 1)
    canvas = Canvas(2 * _MARGIN + columns * width + (columns - 1) * _BETWEEN, foot + _MARGIN // 2)
    at = _MARGIN
    for name, clips in rows.items():
        heading = shortened(name, canvas.image.width - 2 * _MARGIN, 18)
        canvas.text((_MARGIN, at + _HEADING / 2 - 6), heading, 18, INK, "lm")
        at += _HEADING
        for number, clip in enumerate(clips):
            left = _MARGIN + number % columns * (width + _BETWEEN)
            top = at + number // columns * line
            picture = _middle(films.get(clip.video), clip, math.ceil(1.5 * height))
            canvas.paste(picture, (left, top, left + width, top + height))
            _caption(canvas, clip, left, top + height, width)
        at += lines[name] * line + _AFTER
    return canvas.save(path)


def _middle(film: str | os.PathLike | None, clip: Clip, side: int) -> np.ndarray | None:
    """The frame in a clip's middle, uint8 ``[H, W, 3]``; None where it cannot be had."""
    if film is None:
        return None
    try:
        with VideoReader(film) as reader:
            return frames_at(reader, [(clip.start + clip.end) / 2], min(side, reader.info.width, reader.info.height))[0]
    except VideoError:
        return None


def _caption(canvas: Canvas, clip: Clip, left: int, top: int, width: int) -> None:
    long = clip.end >= _LONG
    when = clock(clip.start, True) if long else f"{clip.start:.1f} s"
    canvas.text((left, top + 12), f"{clip.score:.2f}", 14, INK, "lm")
    canvas.text((left + width - 1, top + 12), when, 13, GREY, "rm")
    canvas.text((left, top + 28), shortened(clip.video, width, 12), 12, GREY, "lm")
