"""What is meant and what is not, over a video: the three probabilities as curves above a strip of its frames."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.data.video import VideoReader
from zoo.errors import ZooError
from zoo.metrics.intentionality import CLASSES
from zoo.visualize.drawing import (
    GREY,
    INK,
    PALE,
    PAPER,
    STATES,
    Canvas,
    clock,
    font,
    frames_at,
    require_png,
    shortened,
    ticks,
)

if TYPE_CHECKING:
    from zoo.methods.intentionality import Moment

_WIDTH, _LEFT, _RIGHT = 1200, 74, 24  # pixels, the last two beside the plot
_PLOT, _STRIP, _TALL_STRIP = 230, 104, 156  # heights in pixels, the last for pictures that stand upright
_GAP, _AXIS = 8, 54  # pixels between plot and strip, and below it
_MOST = 16  # frames in the strip
_LONG = 120  # seconds from which on times are in minutes


def timeline(
    video: str | os.PathLike,
    moments: Sequence[Moment],
    failure: float | None,
    path: str | os.PathLike,
    annotated: float | Sequence[float] | None = None,
) -> Path:
    """Draw a video's timeline into a PNG file; returns its path.

    Args:
        video: the file.
        moments: its clips in order, as ``predict`` gives them; what they leave out is grey.
        failure: seconds at which things are predicted to go wrong; None (or NaN) draws no line.
        path: of the figure.
        annotated: seconds at which people saw them go wrong; -1 and NaN stand for nobody.

    Raises:
        VideoError: the video cannot be decoded.
        ZooError: there are no moments; the figure cannot be written.
    """
    require_png(path)
    if not moments:
        raise ZooError(f"{video}: there is nothing to draw without moments; `predict` gives them.")
    with VideoReader(video) as reader:
        stamps, info = reader.presentation_times(), reader.info
        pause = (stamps[-1] - stamps[0]) / (len(stamps) - 1) if len(stamps) > 1 else 1 / (info.fps or 25)
        start = min(float(stamps[0]), moments[0].start)
        end = max(float(stamps[-1] + pause), moments[-1].end)
        height = _STRIP if info.width >= info.height else _TALL_STRIP
        room = _WIDTH - _LEFT - _RIGHT
        count = max(1, min(round(room * info.height / (height * info.width)), _MOST, info.frames))
        middles = [start + (end - start) * (n + 0.5) / count for n in range(count)]
        side = math.ceil(1.3 * min(height, max(room / count, height * info.width / info.height)))
        frames = frames_at(reader, middles, min(side, info.width, info.height))

    seen = [] if annotated is None else [annotated] if isinstance(annotated, int | float) else list(annotated)
    seen = sorted(float(t) for t in seen if t == t and t >= 0)
    failure = None if failure is None or math.isnan(failure) else failure
    top = 46 + 28 * ((failure is not None) + bool(seen))
    bottom = top + _PLOT
    canvas = Canvas(_WIDTH, bottom + _GAP + height + _AXIS)
    edges = (_LEFT, _WIDTH - _RIGHT)

    def x(seconds: float) -> float:
        return edges[0] + room * (min(max(seconds, start), end) - start) / (end - start)

    _axes(canvas, x, (start, end), top, bottom, bottom + _GAP + height)
    _curves(canvas, moments, x, top, bottom)
    for n, frame in enumerate(frames):
        left, right = (round(edges[0] + room * at / count) for at in (n, n + 1))
        canvas.paste(frame, (left + (n > 0), bottom + _GAP, right - (n < count - 1), bottom + _GAP + height))
    row = 46
    if failure is not None:
        _mark(canvas, x(failure), row + 10, bottom + _GAP + height, None)
        canvas.label(x(failure), row, f"predicted failure {_said(failure, end)}", edges, filled=True)
        row += 28
    if seen:
        for t in seen:
            _mark(canvas, x(t), row + 22, bottom + _GAP + height, (6, 5))
        text = f"annotated {', '.join(_said(t, end) for t in seen)}"
        canvas.label(sum(map(x, seen)) / len(seen), row, text, edges, filled=False)
    _heading(canvas, Path(video).name, edges)
    return canvas.save(path)


def _axes(canvas: Canvas, x, span: tuple[float, float], top: int, bottom: int, foot: int) -> None:
    """Grid, ticks and names of both axes; the ground is grey until a curve says that it was looked at."""
    left, right = x(span[0]), x(span[1])
    canvas.pen.rectangle((left, top, right, bottom), fill=PALE)
    for share in (0, 0.5, 1):
        canvas.text((left - 10, bottom - share * (bottom - top)), f"{share:g}", 15, GREY, "rm")
    canvas.sideways((22, (top + bottom) / 2), "probability")
    long = span[1] >= _LONG
    for t in ticks(*span, (right - left) / 70):
        canvas.pen.line([(x(t), foot), (x(t), foot + 6)], fill=GREY)
        canvas.text((x(t), foot + 10), clock(t, long), 15, GREY, "ma")
    canvas.text(((left + right) / 2, foot + 31), "time (min:s)" if long else "time (s)", 15, INK, "ma")


def _curves(canvas: Canvas, moments: Sequence[Moment], x, top: int, bottom: int) -> None:
    """The probabilities at the middles of the clips, level from there to the ends of what was looked at."""
    first, last = moments[0].start, moments[-1].end
    canvas.pen.rectangle((x(first), top, x(last), bottom), fill=PAPER)
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - share * (bottom - top)
        canvas.pen.line([(x(first), y), (x(last), y)], fill=PALE)
    canvas.pen.line([(x(first), bottom), (_WIDTH - _RIGHT, bottom)], fill=GREY)
    if canvas.image.width - _RIGHT - x(last) > 110:
        canvas.text(((x(last) + canvas.image.width - _RIGHT) / 2, (top + bottom) / 2), "not evaluated", 14, GREY, "mm")
    lines = []
    for name in CLASSES:
        values = [getattr(moment, name) for moment in moments]
        times = [(moment.start + moment.end) / 2 for moment in moments]
        times, values = [first, *times, last], [values[0], *values, values[-1]]
        lines.append([(x(t), bottom - v * (bottom - top)) for t, v in zip(times, values, strict=True)])
    for points, colour in zip(lines, STATES, strict=True):
        canvas.area([(points[0][0], bottom), *points, (points[-1][0], bottom)], colour, 0.16)
    width = 2.6 if len(moments) < 250 else 1.4
    for points, colour in zip(lines, STATES, strict=True):
        canvas.line(points, colour, width)


def _mark(canvas: Canvas, x: float, top: float, foot: float, dash: tuple[int, int] | None) -> None:
    """A vertical line that is seen on any ground."""
    canvas.line([(x, top), (x, foot)], PAPER, 4.5, opacity=0.75)
    canvas.line([(x, top), (x, foot)], INK, 2, dash=dash)


def _heading(canvas: Canvas, name: str, edges: tuple[int, int]) -> None:
    """The video's name at the left, what the colours mean at the right."""
    at = edges[1]
    for state, colour in reversed(list(zip(CLASSES, STATES, strict=True))):
        at -= font(15).getlength(state)
        canvas.text((at, 24), state, 15, INK, "lm")
        canvas.area([(at - 30, 18), (at - 8, 18), (at - 8, 30), (at - 30, 30)], colour, 0.16)
        canvas.line([(at - 30, 18), (at - 8, 18)], colour, 2.6)
        at -= 30 + 24
    canvas.text((edges[0], 24), shortened(name, at - edges[0], 18), 18, INK, "lm")


def _said(seconds: float, end: float) -> str:
    return clock(seconds, True) if end >= _LONG else f"{seconds:.1f} s"
