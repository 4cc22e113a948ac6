"""How much a video looks like action over time: a curve under a strip of its frames, and proposals under the curve."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.video import VideoReader
from zoo.errors import ZooError
from zoo.visualize.drawing import (
    GREY,
    INK,
    PALE,
    PAPER,
    STATES,
    Canvas,
    Colour,
    clock,
    font,
    frames_at,
    require_png,
    rounds,
    shortened,
    ticks,
)

if TYPE_CHECKING:
    from zoo.methods.actionness_curves import Curve, Proposal

_WIDTH, _LEFT, _RIGHT = 1200, 84, 74  # pixels, the last two beside the plot: the axis, the proposals' scores
_TOP, _PLOT, _STRIP, _TALL_STRIP = 46, 230, 104, 156  # heights, the last for pictures that stand upright
_GAP, _LANE, _BAR, _AXIS = 8, 17, 11, 54  # between the parts, of a proposal's row and its bar, and below
_MOST = 16  # frames in the strip
_LONG = 120  # seconds from which on times are in minutes
_CURVE, _ANNOTATED, _PROPOSED = STATES[0], STATES[1], (20, 130, 90)


def draw_curve(
    video: str | os.PathLike | None,
    curve: Curve,
    path: str | os.PathLike,
    intervals: Sequence[tuple[float, float]] | np.ndarray = (),
    proposals: Sequence[Proposal] | None = None,
) -> Path:
    """Draw the actionness of a video over time into a PNG file; returns its path.

    Of more rows than the figure has room for, the mean of those that fall together is drawn, in a paler band from the
    smallest to the largest.

    Args:
        video: the film, for the strip; of None, and of a file of features (.npy), there is none.
        curve: as the model's ``predict`` gives it.
        path: of the figure.
        intervals: ``[K, 2]`` seconds from when to when people saw an action, in any order.
        proposals: drawn as bars in this order, with their scores; the curve's own by default.

    Raises:
        VideoError: the film cannot be decoded.
        ZooError: there is nothing to draw, or it does not fit together; the figure cannot be written.
    """
    require_png(path)
    times, scores, seen = _checked(curve, intervals)
    bars = list(curve.proposals if proposals is None else proposals)
    span = (min(0.0, float(times[0, 0])), max(float(curve.duration), float(times[-1, 1])))
    frames: list[np.ndarray | None] = []
    height = 0
    if video is not None and Path(video).suffix.lower() != ".npy":
        span, frames, height = _strip(video, span)

    top = _TOP + (height + _GAP if frames else 0)
    bottom = top + _PLOT
    foot = bottom + (_GAP + _LANE * len(bars) if bars else 0)
    canvas = Canvas(_WIDTH, foot + _AXIS)
    edges = (_LEFT, _WIDTH - _RIGHT)

    def x(seconds: float) -> float:
        return edges[0] + (edges[1] - edges[0]) * (min(max(seconds, span[0]), span[1]) - span[0]) / (span[1] - span[0])

    for n, frame in enumerate(frames):
        left, right = (round(edges[0] + (edges[1] - edges[0]) * at / len(frames)) for at in (n, n + 1))
        canvas.paste(frame, (left + (n > 0), _TOP, right - (n < len(frames) - 1), _TOP + height))
    _plot(canvas, x, times, scores, seen, span, top, bottom)
    for lane, bar in enumerate(bars):
        _bar(canvas, x, bar, bottom + _GAP + lane * _LANE, lane + 1, edges)
    _axis(canvas, x, span, foot)
    _heading(canvas, Path(video if video is not None else curve.video).name, bool(len(seen)), len(bars), edges)
    return canvas.save(path)


def _checked(curve: Curve, intervals: Sequence[tuple[float, float]] | np.ndarray) -> tuple[np.ndarray, ...]:
    """Times ``[T, 2]`` and scores ``[T]`` of a curve, and the intervals ``[K, 2]`` sorted and put together."""
    times, scores = np.asarray(curve.times, dtype=np.float64), np.asarray(curve.scores, dtype=np.float64)
    if not len(scores):
        raise ZooError(f"{curve.video}: there is nothing to draw without scores; `predict` gives them.")
    if scores.ndim != 1 or times.shape != (len(scores), 2):
        raise ZooError(f"{curve.video}: {len(scores)} scores want times [{len(scores)}, 2], got {list(times.shape)}.")
    if not np.isfinite(scores).all():
        first = int(np.argmin(np.isfinite(scores)))
        raise ZooError(f"{curve.video}: the score of row {first} is {scores[first]}; a curve is drawn of numbers.")
    if not np.isfinite(times).all() or (times[:, 1] < times[:, 0]).any() or (np.diff(times[:, 0]) < 0).any():
        raise ZooError(f"{curve.video}: the rows' times must be seconds that ascend, each from a start to an end.")
    seen = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(seen).all() or (seen[:, 1] < seen[:, 0]).any():
        raise ZooError(
            f"{curve.video}: an annotated interval is from a start to an end in seconds, got {seen.tolist()}."
        )
    merged: list[list[float]] = []
    for start, end in seen[np.argsort(seen[:, 0])].tolist():  # what overlaps would be darker, as if it were likelier
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return times, scores, np.array(merged).reshape(-1, 2)


def _strip(
    video: str | os.PathLike, span: tuple[float, float]
) -> tuple[tuple[float, float], list[np.ndarray | None], int]:
    """From when to when the figure reaches in seconds, frames spread evenly over that, and their height in it."""
    room = _WIDTH - _LEFT - _RIGHT
    with VideoReader(video) as reader:
        stamps, info = reader.presentation_times(), reader.info
        pause = (stamps[-1] - stamps[0]) / (len(stamps) - 1) if len(stamps) > 1 else 1 / (info.fps or 25)
        span = (span[0], max(span[1], float(stamps[-1] + pause)))
        height = _STRIP if info.width >= info.height else _TALL_STRIP
        count = max(1, min(round(room * info.height / (height * info.width)), _MOST, info.frames))
        side = math.ceil(1.3 * min(height, max(room / count, height * info.width / info.height)))
        middles = span[0] + (span[1] - span[0]) * (np.arange(count) + 0.5) / count
        return span, frames_at(reader, middles, min(side, info.width, info.height)), height


def _plot(
    canvas: Canvas,
    x,
    times: np.ndarray,
    scores: np.ndarray,
    seen: np.ndarray,
    span: tuple[float, float],
    top: int,
    bottom: int,
) -> None:
    """The curve over its grid and the annotated band; level from the middle of the first and last row to its end."""
    left, right = x(span[0]), x(span[1])
    spread = float(scores.max() - scores.min()) or 1.0
    low, high = float(scores.min()) - 0.07 * spread, float(scores.max()) + 0.07 * spread

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    canvas.pen.rectangle((left, top, right, bottom), fill=PALE)
    canvas.pen.rectangle((x(times[0, 0]), top, x(times[-1, 1]), bottom), fill=PAPER)
    for value in rounds(low, high, 5):
        canvas.pen.line([(left, y(value)), (right, y(value))], fill=PALE)
        canvas.text((left - 10, y(value)), f"{value:g}", 15, GREY, "rm")
    for start, end in seen:
        if end >= span[0] and start <= span[1]:
            a, b = x(start), max(x(end), x(start) + 1)
            canvas.area([(a, top), (b, top), (b, bottom), (a, bottom)], _ANNOTATED, 0.3)
    canvas.pen.line([(left, bottom), (right, bottom)], fill=GREY)
    canvas.sideways((18, (top + bottom) / 2), "actionness")

    middles, values, least, most = _together(times.mean(1), scores, span, int((right - left) / 2))
    if least is not None:
        band = [(x(t), y(v)) for t, v in zip(middles, most, strict=True)]
        band += [(x(t), y(v)) for t, v in zip(middles[::-1], least[::-1], strict=True)]
        canvas.area(band, _CURVE, 0.25)
    ends = ([times[0, 0]], [times[-1, 1]])
    points = zip(np.concatenate([ends[0], middles, ends[1]]), np.r_[values[0], values, values[-1]], strict=True)
    canvas.line([(x(t), y(v)) for t, v in points], _CURVE, 2.4 if len(values) < 250 else 1.6)


def _together(
    middles: np.ndarray, scores: np.ndarray, span: tuple[float, float], room: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """At most ``room`` points: middles and means of the rows that fall together, and their least and most if any do."""
    if len(scores) <= room:
        return middles, scores, None, None
    place = np.minimum(((middles - span[0]) / (span[1] - span[0]) * room).astype(np.int64), room - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    counts = np.diff(starts, append=len(scores))
    means = (np.add.reduceat(values, starts) / counts for values in (middles, scores))
    return *means, np.minimum.reduceat(scores, starts), np.maximum.reduceat(scores, starts)


def _bar(canvas: Canvas, x, proposal: Proposal, at: int, rank: int, edges: tuple[int, int]) -> None:
    """A proposal in its row, with its rank at the left and its score at the right."""
    start, middle = x(proposal.start), at + _BAR / 2
    end = max(x(proposal.end), start + 2)
    canvas.pen.line([(edges[0], middle), (edges[1], middle)], fill=PALE)
    canvas.area([(start, at), (end, at), (end, at + _BAR), (start, at + _BAR)], _PROPOSED)
    canvas.text((edges[0] - 10, middle), str(rank), 13, GREY, "rm")
    canvas.text((edges[1] + 10, middle), f"{proposal.score:.3g}", 13, GREY, "lm")


def _axis(canvas: Canvas, x, span: tuple[float, float], foot: int) -> None:
    left, right = x(span[0]), x(span[1])
    long = span[1] >= _LONG
    for t in ticks(*span, (right - left) / 70):
        canvas.pen.line([(x(t), foot), (x(t), foot + 6)], fill=GREY)
        canvas.text((x(t), foot + 10), clock(t, long), 15, GREY, "ma")
    canvas.text(((left + right) / 2, foot + 31), "time (min:s)" if long else "time (s)", 15, INK, "ma")


def _heading(canvas: Canvas, name: str, annotated: bool, proposed: int, edges: tuple[int, int]) -> None:
    """The video's name at the left, what the colours mean at the right."""
    said = "best proposal, with its score" if proposed == 1 else f"{proposed} best proposals, with their scores"
    legend: list[tuple[str, Colour, float]] = [("annotated action", _ANNOTATED, 0.3)] if annotated else []
    legend += [(said, _PROPOSED, 1.0)] if proposed else []
    at = edges[1]
    for text, colour, opacity in reversed(legend):
        at -= font(15).getlength(text)
        canvas.text((at, 24), text, 15, INK, "lm")
        canvas.area([(at - 30, 18), (at - 8, 18), (at - 8, 30), (at - 30, 30)], colour, opacity)
        at -= 30 + 24
    canvas.text((edges[0], 24), shortened(name, at - edges[0], 18), 18, INK, "lm")
