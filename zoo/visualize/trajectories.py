"""Trajectories in the plane (figure 7b of Epstein and Vondrick 2020): failed ones, and what correction makes of them.

Clips of many videos are the ground; over it the ways of a few videos through their clips, before and after
auto-correction. All are projected together by t-SNE, on vectors of unit length, as clips are compared by cosine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from zoo.errors import ZooError
from zoo.extras import optional
from zoo.metrics.intentionality import CLASSES
from zoo.visualize.drawing import GREY, INK, PALE, PAPER, STATES, Canvas, Colour, Point, font, require_png, shortened

if TYPE_CHECKING:
    from zoo.methods.intentionality import Correction

_WIDTH, _MARGIN, _HEAD = 900, 30, 62  # pixels: the plot, around it, above it
_PAD, _LOW, _HIGH = 30, 300, 1200  # pixels: between the plot's points and its rim; its least and largest height
_AFTER: Colour = (0, 135, 105)


def trajectories(
    clips: Tensor,
    corrections: Mapping[str, Correction],
    path: str | os.PathLike,
    *,
    states: Tensor | None = None,
    points: int = 2000,
    seed: int = 0,
) -> Path:
    """Project and draw; returns the figure's path.

    Args:
        clips: vectors of many videos' clips ``[n, D]``, such as ``Index.vectors("h")``.
        corrections: a video's name to what ``autocorrect`` gave.
        path: of the PNG.
        states: of the clips, int64 ``[n]``: 0 intentional, 1 transitional, 2 unintentional; colours them.
        points: clips that are drawn at most, chosen at random.
        seed: of that choice and of the projection.

    Raises:
        ZooError: scikit-learn is missing; too few clips; widths that differ; the figure cannot be written.
    """
    require_png(path)
    clips = clips.float().cpu()
    if len(clips) > points:
        chosen = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed))[:points].sort().values
        clips, states = clips[chosen], None if states is None else states[chosen]
    parts = [clips]
    for name, found in corrections.items():
        for vectors in (found.before, found.after):
            if vectors.shape[1:] != clips.shape[1:]:
                raise ZooError(
                    f"{name}: its clips have {vectors.shape[1]} numbers, the others {clips.shape[1]}; take both from "
                    "one model and one space."
                )
            parts.append(vectors.detach().float().cpu())
    placed = project(torch.cat(parts), seed).split([len(part) for part in parts])
    ways = {name: (placed[1 + 2 * n], placed[2 + 2 * n]) for n, name in enumerate(corrections)}
    return draw_trajectories(placed[0], ways, path, None if states is None else states.tolist())


def project(vectors: Tensor, seed: int = 0, perplexity: float = 30) -> Tensor:
    """t-SNE of vectors ``[n, D]`` to the plane ``[n, 2]``; equal vectors get one place.

    Raises:
        ZooError: scikit-learn is missing, or there are fewer than four different vectors.
    """
    manifold = optional("sklearn.manifold", "goals", "a t-SNE projection")
    unit = normalize(vectors.float(), dim=1).numpy()
    unit, places = np.unique(unit, axis=0, return_inverse=True)
    if len(unit) < 4:
        raise ZooError(f"t-SNE needs four different clips or more, got {len(unit)}; take more videos.")
    spread = min(perplexity, (len(unit) - 1) / 3)
    found = manifold.TSNE(perplexity=spread, init="pca", random_state=seed).fit_transform(unit)
    return torch.from_numpy(found[places.reshape(-1)])


def draw_trajectories(
    ground: Tensor,
    ways: Mapping[str, tuple[Tensor, Tensor]],
    path: str | os.PathLike,
    states: Sequence[int] | None = None,
) -> Path:
    """Draw points of the plane and ways through it into a PNG file.

    Args:
        ground: ``[n, 2]``.
        ways: a video's name to its way before and after, each ``[m, 2]``.
        path: of the figure.
        states: of the ground's points, 0 to 2; others are grey.
    """
    require_png(path)
    everything = torch.cat([ground, *(way for both in ways.values() for way in both)]).double()
    low, high = everything.min(0).values, everything.max(0).values
    room = torch.tensor([_WIDTH - 2.0 * _PAD, _HIGH - 2.0 * _PAD])
    scale = float((room / (high - low).clamp(min=1e-9)).min())
    height = max(_LOW, round(float(high[1] - low[1]) * scale) + 2 * _PAD)
    canvas = Canvas(_WIDTH + 2 * _MARGIN, _HEAD + height + _MARGIN + 26 * len(ways))
    centre = torch.tensor([_MARGIN + _WIDTH / 2, _HEAD + height / 2])

    def at(points: Tensor) -> list[Point]:
        flat = (points.double() - (low + high) / 2) * scale * torch.tensor([1.0, -1.0]) + centre
        return [(x, y) for x, y in flat.tolist()]

    canvas.pen.rectangle((_MARGIN, _HEAD, _MARGIN + _WIDTH, _HEAD + height), outline=PALE)
    labels = [-1] * len(ground) if states is None else states
    for place, state in zip(at(ground), labels, strict=True):
        canvas.dot(place, 3.2, STATES[state] if 0 <= state < len(STATES) else GREY, 0.38)
    for which, colour in enumerate((INK, _AFTER)):
        for both in ways.values():
            _way(canvas, at(both[which]), colour)
    for number, (before, _) in enumerate(ways.values(), 1):
        start = at(before)[0]
        canvas.dot(start, 10, PAPER, rim=INK)
        canvas.text(start, str(number), 14, INK, "mm")
    _legend(canvas, states is not None, bool(ways))
    for number, name in enumerate(ways, 1):
        y = _HEAD + height + 26 * number
        canvas.dot((_MARGIN + 10, y), 10, PAPER, rim=INK)
        canvas.text((_MARGIN + 10, y), str(number), 14, INK, "mm")
        canvas.text((_MARGIN + 30, y), shortened(name, _WIDTH - 40, 15), 15, INK, "lm")
    return canvas.save(path)


def _way(canvas: Canvas, places: list[Point], colour: Colour) -> None:
    """A way from clip to clip, with arrows along it and a dot at each."""
    canvas.line(places, PAPER, 6, opacity=0.8)
    canvas.line(places, colour, 2.4)
    for start, end in pairwise(places):
        canvas.arrow(start, end, colour)
    for place in places:
        canvas.dot(place, 4, colour, rim=PAPER)


def _legend(canvas: Canvas, has_states: bool, has_ways: bool) -> None:
    """What colours mean, in a row above the plot."""
    x, y = float(_MARGIN), _HEAD / 2
    for name, colour in zip(CLASSES, STATES, strict=True) if has_states else [("clips", GREY)]:
        canvas.dot((x + 7, y), 5, colour, 0.7)
        canvas.text((x + 20, y), name, 15, INK, "lm")
        x += 20 + font(15).getlength(name) + 24
    for name, colour in (("before correction", INK), ("after", _AFTER)) if has_ways else ():
        canvas.line([(x + 2, y), (x + 36, y)], colour, 2.4)
        canvas.arrow((x + 2, y), (x + 36, y), colour)
        canvas.text((x + 46, y), name, 15, INK, "lm")
        x += 46 + font(15).getlength(name) + 24
