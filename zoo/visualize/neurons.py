"""What single units stand for (figure 7a of Epstein and Vondrick 2020): the word each goes with, and its top clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from zoo.data.video import VideoReader
from zoo.errors import VideoError, ZooError
from zoo.metrics.neurons import Neuron
from zoo.visualize.drawing import GREY, INK, Canvas, clock, frames_at, require_png, shortened

_TEXT, _FRAME, _GAP, _HEAD, _FOOT = 230, (190, 142), 8, 16, 26  # pixels


class Clip(Protocol):
    """Where a clip is: a `zoo.clip_index.Hit`, for one."""

    name: str
    path: str
    start: float
    end: float


@dataclass(frozen=True)
class Row:
    """A unit, the word that it goes with, Spearman's rho of the two, and the clips that drive it most."""

    unit: int
    word: str
    rho: float
    clips: tuple[Clip, ...]


def neuron_rows(
    neurons: Sequence[Neuron], h: Tensor, owner: Tensor, clip: Callable[[int], Clip], k: int = 5
) -> list[Row]:
    """The clips where each unit is largest, one a video; where its correlation is negative, smallest.

    Args:
        neurons: as `zoo.metrics.neurons.top_neurons` chooses them; drawn from the largest absolute rho on.
        h: of many clips ``[N, D]``, such as ``Index.vectors("h")``.
        owner: number of each clip's video, int64 ``[N]``.
        clip: where the clip of a number is, such as ``Index.hit``.
        k: clips of each.

    Raises:
        ZooError: a unit that the vectors do not have.
    """
    rows = []
    for neuron in sorted(neurons, key=lambda found: -abs(found.rho)):
        if not 0 <= neuron.unit < h.shape[1]:
            raise ZooError(f"unit {neuron.unit} is none of the {h.shape[1]} of these clips; take both of one model.")
        order = h[:, neuron.unit].float().argsort(descending=neuron.rho >= 0, stable=True).tolist()
        seen: set[int] = set()
        top: list[int] = []
        for number in order:
            if len(top) < k and int(owner[number]) not in seen:
                seen.add(int(owner[number]))
                top.append(number)
        rows.append(Row(neuron.unit, neuron.word, neuron.rho, tuple(clip(number) for number in top)))
    return rows


def neuron_table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| unit | word | rho | top clips |", "|---:|---|---:|---|"]
    for row in rows:
        clips = ", ".join(f"{clip.name} ({clip.start:.1f}-{clip.end:.1f} s)" for clip in row.clips)
        lines.append(f"| {row.unit} | {row.word} | {row.rho:+.3f} | {clips} |")
    return "\n".join(lines)


def draw_neurons(rows: Sequence[Row], path: str | os.PathLike) -> Path:
    """Draw every unit's word beside the middle frames of its clips into a PNG file; returns its path.

    Raises:
        ZooError: there are no rows; the figure cannot be written.
    """
    require_png(path)
    if not rows:
        raise ZooError("there is no unit to draw: none correlates with a word.")
    width, height = _FRAME
    most = max(len(row.clips) for row in rows)
    canvas = Canvas(_TEXT + most * (width + _GAP) + _GAP, _HEAD + len(rows) * (height + _FOOT + _GAP))
    for number, row in enumerate(rows):
        top = _HEAD + number * (height + _FOOT + _GAP)
        canvas.text((20, top + height / 2 - 14), shortened(row.word or "(none)", _TEXT - 30, 24), 24, INK, "lm")
        canvas.text((20, top + height / 2 + 14), f"unit {row.unit},  rho {row.rho:+.2f}", 15, GREY, "lm")
        for place, clip in enumerate(row.clips):
            left = _TEXT + place * (width + _GAP)
            canvas.paste(_middle(clip), (left, top, left + width, top + height))
            when = clock(round(clip.start, 1), clip.start >= 120) + ("" if clip.start >= 120 else " s")
            canvas.text((left + width, top + height + 5), when, 13, GREY, "ra")
            canvas.text((left, top + height + 5), shortened(clip.name, width - 60, 13), 13, GREY)
    return canvas.save(path)


def _middle(clip: Clip) -> np.ndarray | None:
    """A clip's middle frame, or None where it is not there any more."""
    try:
        with VideoReader(clip.path) as reader:
            return frames_at(reader, [(clip.start + clip.end) / 2], _FRAME[1])[0]
    except VideoError:
        return None
