"""A number for every class as bars, sorted, with the names: average precision, or by how much it differs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ZooError, require_top
from zoo.visualize.drawing import GREY, INK, PALE, STATES, Canvas, require_png, rounds, shortened

_NAME, _PLOT, _VALUE, _MARGIN = 300, 330, 56, 24  # pixels: names, bars, numbers, around and between the columns
_ROW, _TOP, _FOOT, _SIZE = 20, 92, 24, 14
_TALL = 45  # bars in a column, from which on there are two


def draw_class_bars(
    values: Sequence[float],
    names: Sequence[str],
    path: str | os.PathLike,
    *,
    against: Sequence[float] | None = None,
    top: int | None = None,
    title: str = "average precision (%)",
) -> Path:
    """Draw one bar a class into a PNG file, the largest first; returns its path.

    Args:
        values: ``[C]``, of each class; NaN leaves the class out.
        names: ``[C]``.
        path: of the figure.
        against: ``[C]`` numbers that are taken off before; what is left is drawn to the right where it is positive, and
            to the left where it is not.
        top: draw only so many classes from each end.
        title: what the numbers are.

    Raises:
        ZooError: there is nothing to draw, or not as many numbers as names; ``top`` is below 1; the figure cannot be
            written.
    """
    require_png(path)
    if top is not None:
        require_top(top)
    counts = {len(values), len(names), len(values if against is None else against)}
    if len(counts) > 1:
        raise ZooError(f"{len(names)} classes have {sorted(counts)} numbers; each needs one.")
    taken_off = against if against is not None else [0.0] * len(values)
    bars = [
        (float(value) - float(other), name)
        for value, other, name in zip(values, taken_off, names, strict=True)
        if math.isfinite(value) and math.isfinite(other)
    ]
    if not bars:
        raise ZooError("there is nothing to draw: no class has a number.")
    left_out, mean = len(values) - len(bars), sum(value for value, _ in bars) / len(bars)
    bars.sort(key=lambda bar: -bar[0])
    hidden = 0
    if top is not None and len(bars) > 2 * top:
        hidden = len(bars) - 2 * top
        bars = bars[:top] + bars[-top:]
    columns = 2 if len(bars) > _TALL else 1
    height = math.ceil(len(bars) / columns)
    width = _NAME + _PLOT + _VALUE
    canvas = Canvas(_MARGIN + columns * (width + _MARGIN), _TOP + height * _ROW + _FOOT)
    low, high = min(0.0, bars[-1][0]), max(0.0, bars[0][0])
    span = high - low or 1.0
    heading = shortened(title, canvas.image.width - 2 * _MARGIN, 18)
    canvas.text((_MARGIN, 24), heading, 18, INK, "lm")
    canvas.text((_MARGIN, 50), _said(len(bars), mean, against is not None, left_out, hidden), 14, GREY, "lm")
    for column in range(columns):
        start = _MARGIN + column * (width + _MARGIN) + _NAME
        _column(canvas, bars[column * height : (column + 1) * height], start, low, span, against is not None)
    return canvas.save(path)


def _column(canvas: Canvas, bars: list[tuple[float, str]], start: int, low: float, span: float, signed: bool) -> None:
    """Names, bars and numbers, and a grid under them; ``start`` is where the bars' room begins."""

    def x(value: float) -> float:
        return start + room * (value - low) / span

    # A bar to the left has its number on the left, so the room for numbers is on both sides then.
    room = _PLOT - (_VALUE if low < 0 else 0)
    start += _VALUE if low < 0 else 0
    foot = _TOP + len(bars) * _ROW
    for tick in rounds(low, low + span, 5):
        canvas.pen.line([(x(tick), _TOP - 4), (x(tick), foot)], fill=GREY if tick == 0 else PALE)
        canvas.text((x(tick), _TOP - 8), f"{tick:+g}" if signed and tick else f"{tick:g}", 12, GREY, "ms")
    for row, (value, name) in enumerate(bars):
        top, middle = _TOP + row * _ROW, _TOP + (row + 0.5) * _ROW
        own = shortened(name, _NAME - 12, _SIZE)
        canvas.text((start - (_VALUE if low < 0 else 0) - 8, middle), own, _SIZE, INK, "rm")
        ends = sorted((x(0), x(value)))
        colour = STATES[0] if value >= 0 else STATES[2]
        canvas.area([(ends[0], top + 3), (ends[1], top + 3), (ends[1], top + 16), (ends[0], top + 16)], colour)
        text = f"{value:+.1f}" if signed else f"{value:.1f}"
        if value >= 0:
            canvas.text((ends[1] + 5, middle), text, 13, INK, "lm")
        else:
            canvas.text((ends[0] - 5, middle), text, 13, INK, "rm")


def _said(count: int, mean: float, signed: bool, left_out: int, hidden: int) -> str:
    words = [f"{count + hidden} classes, mean {mean:{'+' if signed else ''}.2f}"]
    if hidden:
        words.append(f"{hidden} in the middle not shown")
    if left_out:
        words.append(f"{left_out} without a number left out")
    return "; ".join(words)
