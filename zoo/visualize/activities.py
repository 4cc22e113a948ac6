"""What is done in a video over time: rows that are darker where something is likelier, under a strip of its frames."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoo.data.images import ImageFolder, image_size
from zoo.data.video import VideoReader
from zoo.errors import ZooError
from zoo.visualize.drawing import (
    GREY,
    INK,
    PALE,
    STATES,
    Canvas,
    Colour,
    clock,
    font,
    frames_at,
    require_png,
    shortened,
    ticks,
)

if TYPE_CHECKING:
    from zoo.data.activities import ActivityVocabulary
    from zoo.methods.moments import Activities

_WIDTH, _LEFT, _RIGHT = 1200, 316, 74  # pixels, the last two beside the plot: names, largest values
_STRIP, _TALL_STRIP = 104, 156  # heights in pixels, the last for pictures that stand upright
_TOP, _GAP, _HEADING, _ROW, _BETWEEN, _AXIS = 46, 10, 26, 24, 4, 54
_MOST = 12  # frames in the strip
_LONG = 120  # seconds from which on times are in minutes
_HUES: tuple[Colour, ...] = (STATES[0], STATES[2], (20, 130, 90), STATES[1])  # of the kinds, in their order


@dataclass(frozen=True)
class Row:
    """How likely one thing is at each of the frames.

    Attributes:
        kind: what it is one of, such as "category", "action", "object".
        name: of the thing.
        values: ``[T]`` numbers from 0 on.
    """

    kind: str
    name: str
    values: Sequence[float] | np.ndarray | Tensor


def likeliest(kind: str, names: Sequence[str], values: Tensor, count: int) -> list[Row]:
    """The rows of the things that are likeliest at any one time, best first.

    Args:
        kind: of the rows.
        names: ``[C]``.
        values: ``[T, C]``.
        count: how many, at most.
    """
    best = values.amax(0).topk(min(count, values.shape[1])).indices.tolist()
    return [Row(kind, names[number], values[:, number]) for number in best]


def story_rows(found: Activities, classes: Sequence[str], vocabulary: ActivityVocabulary | None = None) -> list[Row]:
    """What figure 9 shows of a video: the 3 likeliest categories and, of a model that tells them, 2 verbs and 1 object.

    Args:
        found: by the model's ``watch``.
        classes: names of its categories.
        vocabulary: names of verbs and objects.
    """
    rows = likeliest("category", classes, found.moments, 3)
    if vocabulary is not None and hasattr(found, "verbs"):
        rows += likeliest("verb", vocabulary.verbs, found.verbs, 2)
        rows += likeliest("object", vocabulary.objects, found.objects, 1)
    return rows


def draw_activities(
    video: str | os.PathLike,
    times: Sequence[float] | np.ndarray | Tensor,
    rows: Sequence[Row],
    path: str | os.PathLike,
    *,
    annotated: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    fps: float = 24.0,
) -> Path:
    """Draw a video and what is likely in it into a PNG file; returns its path.

    The paper shows the 3 most confident categories, 2 actions and 1 object. Each kind has a scale of its own, from 0
    to the largest of its values; the number beside a row is that row's largest.

    Args:
        video: the file, or a folder of its pictures.
        times: ``[T]`` seconds of the frames that the rows have values of, ascending.
        rows: those of a kind one after another.
        path: of the figure.
        annotated: by a row's name, seconds from when to when people saw it; drawn as lines under it.
        fps: pictures a second in a folder; the first is at 0.

    Raises:
        VideoError: the video cannot be decoded.
        ZooError: there is nothing to draw, or it does not fit together; the figure cannot be written.
    """
    require_png(path)
    times = np.asarray(torch.as_tensor(times).detach().cpu().double())
    table = _checked(times, rows)
    span, frames, height = _strip(Path(video), times, fps)
    room = _WIDTH - _LEFT - _RIGHT
    kinds = [list(group) for _, group in groupby(range(len(rows)), key=lambda n: rows[n].kind)]
    foot = _TOP + height + _GAP + len(kinds) * (_HEADING + _GAP) + len(rows) * (_ROW + _BETWEEN)
    canvas = Canvas(_WIDTH, foot + _AXIS)
    edges = (_LEFT, _WIDTH - _RIGHT)

    def x(seconds: float) -> float:
        return edges[0] + room * (min(max(seconds, span[0]), span[1]) - span[0]) / (span[1] - span[0])

    canvas.text((edges[0], 24), shortened(Path(video).name, room / 2, 18), 18, INK, "lm")
    canvas.text((edges[1], 24), f"darker: likelier{'; line: annotated' if annotated else ''}", 14, GREY, "rm")
    for n, frame in enumerate(frames):
        left, right = (round(edges[0] + room * at / len(frames)) for at in (n, n + 1))
        canvas.paste(frame, (left + (n > 0), _TOP, right - (n < len(frames) - 1), _TOP + height))

    at = _TOP + height + _GAP
    bounds = _bounds(times, span)
    for number, group in enumerate(kinds):
        hue, most = _HUES[number % len(_HUES)], max(table[group].max(), 1e-12)
        _heading(canvas, at, rows[group[0]].kind, len(group), hue, most, edges)
        at += _HEADING
        for n in group:
            own = shortened(rows[n].name, _LEFT - 24 - 14, 15)
            canvas.text((_LEFT - 14, at + _ROW / 2), own, 15, INK, "rm")
            for value, start, end in zip(table[n], bounds, bounds[1:], strict=False):
                box = (round(x(start)), at, round(x(end)) - 1, at + _ROW - 1)
                if box[2] >= box[0]:
                    canvas.pen.rectangle(box, fill=_shade(hue, value / most))
            canvas.text((edges[1] + 10, at + _ROW / 2), f"{table[n].max():.2g}", 14, GREY, "lm")
            for start, end in (annotated or {}).get(rows[n].name, ()):
                if end >= span[0] and start <= span[1]:
                    canvas.pen.rectangle((x(start), at + _ROW + 1, max(x(end), x(start) + 1), at + _ROW + 2), fill=INK)
            at += _ROW + _BETWEEN
        at += _GAP
    _axis(canvas, x, span, foot, room)
    return canvas.save(path)


def _checked(times: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """The rows' values, float64 ``[R, T]``."""
    if times.ndim != 1 or not len(times) or not rows:
        raise ZooError("there is nothing to draw: activities need the times of frames, and a row or more.")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ZooError(f"the times of the frames must be seconds that ascend, got {times.tolist()}.")
    table = []
    for row in rows:
        values = np.asarray(torch.as_tensor(row.values).detach().cpu().double())
        if values.shape != times.shape or not np.isfinite(values).all() or values.min() < 0:
            raise ZooError(
                f"the {row.kind} {row.name!r} needs a number from 0 on for each of the {len(times)} frames, got "
                f"{values.shape} numbers, some of them {'negative or not finite' if values.size else 'lacking'}."
            )
        table.append(values)
    return np.stack(table)


def _strip(video: Path, times: np.ndarray, fps: float) -> tuple[tuple[float, float], list[np.ndarray | None], int]:
    """From when to when the figure reaches in seconds, frames spread evenly over that, and their height in it."""
    room = _WIDTH - _LEFT - _RIGHT
    if video.is_dir():
        folder = ImageFolder(video)
        height, width = image_size(folder.paths[0])
        stamps = np.arange(folder.frames) / fps
        span, tall, count, side = _spread(stamps, 1 / fps, times, width, height, room)
        middles = span[0] + (span[1] - span[0]) * (np.arange(count) + 0.5) / count
        numbers = (np.searchsorted(stamps, middles + 1e-6, side="right") - 1).clip(0, folder.frames - 1)
        return span, list(folder.read(numbers, short_side=side)), tall
    with VideoReader(video) as reader:
        stamps, info = reader.presentation_times(), reader.info
        pause = (stamps[-1] - stamps[0]) / (len(stamps) - 1) if len(stamps) > 1 else 1 / (info.fps or 25)
        first = stamps[0]  # the times of the frames count from here
        span, tall, count, side = _spread(stamps - first, pause, times, info.width, info.height, room)
        middles = span[0] + (span[1] - span[0]) * (np.arange(count) + 0.5) / count
        return span, frames_at(reader, first + middles, side), tall


def _spread(
    stamps: np.ndarray, pause: float, times: np.ndarray, width: int, height: int, room: int
) -> tuple[tuple[float, float], int, int, int]:
    """The figure's span in seconds, the strip's height, how many frames are in it, and their short side."""
    span = (min(0.0, float(times[0])), max(float(stamps[-1] + pause), float(times[-1])))
    tall = _STRIP if width >= height else _TALL_STRIP
    count = max(1, min(round(room * height / (tall * width)), _MOST, len(stamps)))
    side = math.ceil(1.3 * min(tall, max(room / count, tall * width / height)))
    return span, tall, count, min(side, width, height)


def _bounds(times: np.ndarray, span: tuple[float, float]) -> list[float]:
    """The edges of the frames' cells, ``T + 1`` of them: half way between the frames, and the ends of the video."""
    return [span[0], *((times[1:] + times[:-1]) / 2).tolist(), span[1]]


def _shade(hue: Colour, share: float) -> Colour:
    """From almost white (0) over the hue to a dark one (1), in a line of lightness."""
    dark = tuple(0.45 * c for c in hue)
    a, b, t = (PALE, hue, share / 0.6) if share < 0.6 else (hue, dark, (share - 0.6) / 0.4)
    return tuple(round(p + (q - p) * t) for p, q in zip(a, b, strict=True))


def _heading(canvas: Canvas, at: int, kind: str, count: int, hue: Colour, most: float, edges: tuple[int, int]) -> None:
    """A kind's name over its names, and its scale over its rows."""
    middle = at + _HEADING / 2 + 2
    words = kind if count == 1 else f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    canvas.text((_LEFT - 14, middle), shortened(words, _LEFT - 38, 14), 14, GREY, "rm")
    wide, text = 90, f"{most:.2g}"
    right = edges[1] - font(12).getlength(text) - 6
    canvas.text((edges[1], middle), text, 12, GREY, "rm")
    for n in range(wide):
        shade = _shade(hue, n / (wide - 1))
        canvas.pen.line([(right - wide + n, middle - 4), (right - wide + n, middle + 4)], fill=shade)
    canvas.text((right - wide - 6, middle), "0", 12, GREY, "rm")


def _axis(canvas: Canvas, x, span: tuple[float, float], foot: int, room: int) -> None:
    long = span[1] >= _LONG
    canvas.pen.line([(x(span[0]), foot), (x(span[1]), foot)], fill=GREY)
    for t in ticks(*span, room / 70):
        canvas.pen.line([(x(t), foot), (x(t), foot + 6)], fill=GREY)
        canvas.text((x(t), foot + 10), clock(t, long), 15, GREY, "ma")
    canvas.text(((x(span[0]) + x(span[1])) / 2, foot + 31), "time (min:s)" if long else "time (s)", 15, INK, "ma")
