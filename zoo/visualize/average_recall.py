"""How much of what is annotated is found by how many proposals (figure 5 of the paper on actionness)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.errors import ZooError
from zoo.metrics.proposals import RecallCurve
from zoo.visualize.drawing import GREY, INK, PALE, STATES, Canvas, Colour, require_png, rounds, shortened

_WIDTH, _HEIGHT = 1000, 560  # pixels, more where there are many names
_LEFT, _TOP, _RIGHT, _BOTTOM = 84, 62, 290, 64  # around the plot; the names are at its right
_ROW = 30  # between the names
# Apart to colour-blind eyes; where they come to an end, the strokes differ.
_HUES: tuple[Colour, ...] = (STATES[0], STATES[1], STATES[2], (20, 130, 90), (120, 80, 170), (90, 90, 95))
_DASHES = (None, (9, 5), (3, 4))


def draw_average_recall(
    curves: Mapping[str, RecallCurve],
    path: str | os.PathLike,
    *,
    title: str = "action proposals",
) -> Path:
    """Draw named curves of average recall into a PNG file; returns its path.

    The names stand at the right in the order in which the curves end, each with its last value in percent.

    Args:
        curves: by name.
        path: of the figure.
        title: over it, such as the data set's name.

    Raises:
        ZooError: there is no curve, or one does not fit together; the figure cannot be written.
    """
    require_png(path)
    lines = {name: _checked(name, curve) for name, curve in curves.items()}
    if not lines:
        raise ZooError("there is nothing to draw: average recall needs a curve or more.")
    most = max(numbers[-1] for numbers, _ in lines.values())
    top = min(max(0.05, 1.08 * max(recall.max() for _, recall in lines.values())), 1.0)
    height = max(_HEIGHT, _TOP + (len(lines) + 1) * _ROW)
    canvas = Canvas(_WIDTH, height)
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, height - _BOTTOM

    def x(number: float) -> float:
        return left + (right - left) * number / most

    def y(recall: float) -> float:
        return bottom - (bottom - _TOP) * recall / top

    canvas.text((left, 30), shortened(title, _WIDTH - left - 24, 18), 18, INK, "lm")
    for value in rounds(0, 100 * top, 8):
        canvas.pen.line([(left, y(value / 100)), (right, y(value / 100))], fill=GREY if value == 0 else PALE)
        canvas.text((left - 10, y(value / 100)), f"{value:g}", 15, GREY, "rm")
    for value in rounds(0, most, 10):
        canvas.pen.line([(x(value), bottom), (x(value), bottom + 6)], fill=GREY)
        canvas.text((x(value), bottom + 10), f"{value:g}", 15, GREY, "ma")
    canvas.text(((left + right) / 2, bottom + 34), "average number of proposals per video", 15, INK, "ma")
    canvas.sideways((22, (_TOP + bottom) / 2), "average recall (%)")

    styles = {name: (_HUES[n % len(_HUES)], _DASHES[n // len(_HUES) % len(_DASHES)]) for n, name in enumerate(lines)}
    for name, (numbers, recall) in reversed(lines.items()):  # the first on top
        colour, dash = styles[name]
        canvas.line([(x(a), y(b)) for a, b in zip(numbers, recall, strict=True)], colour, 2.6, dash=dash)
    order = sorted(lines, key=lambda name: -lines[name][1][-1])
    for row, name in enumerate(order):
        colour, dash = styles[name]
        middle = _TOP + 14 + row * _ROW
        canvas.line([(right + 20, middle), (right + 50, middle)], colour, 3, dash=dash)
        value = f"{100 * lines[name][1][-1]:.1f}"
        canvas.text((_WIDTH - 24, middle), value, 15, INK, "rm")
        canvas.text((right + 60, middle), shortened(name, _RIGHT - 60 - 24 - 50, 15), 15, INK, "lm")
    return canvas.save(path)


def _checked(name: str, curve: RecallCurve) -> tuple[np.ndarray, np.ndarray]:
    """The numbers ``[n]`` and the average recall ``[n]`` at each of them."""
    numbers, recall = (np.asarray(values, dtype=np.float64) for values in (curve.numbers, curve.average))
    if numbers.ndim != 1 or numbers.shape != recall.shape or not len(numbers):
        raise ZooError(
            f"{name}: each number of proposals wants one average recall, got {numbers.shape}, {recall.shape}."
        )
    if not (np.isfinite(numbers).all() and (np.diff(numbers) >= 0).all() and numbers[-1] > 0):
        raise ZooError(f"{name}: the numbers of proposals must ascend and be above 0, got {numbers.tolist()}.")
    if not ((recall >= 0) & (recall <= 1)).all():  # also NaN
        raise ZooError(f"{name}: average recall must lie in 0..1, got {recall.tolist()}.")
    return numbers, recall
