"""Contours of the objects in label maps, and which of their pixels lie near another map's: what DAVIS' F counts.

The published evaluator draws a boundary map of each object, dilates it by a disk, and multiplies it with the other one.
Here nothing is dilated. A contour has some hundred pixels in a frame of 400,000, so one pass over a label map finds the
contour pixels of all its objects, and each then asks whether the disk around it holds a pixel of the other contour: a
disk is a stack of horizontal runs, and the pixels within a run are a difference of prefix sums. The numbers are those
of the dilation, exactly. Everything runs on the CPU, on maps of bytes, which a GPU hands over faster than it would
look through such short lists.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELLS = 2**25  # of the prefix sums that are held at once: 128 MB
_NEVER = 2**31  # the first row of an empty canvas


class Contours(NamedTuple):
    """Contour pixels: one entry, whole numbers ``[n]``, for each pixel of each label's boundary map."""

    frame: NDArray
    label: NDArray
    y: NDArray
    x: NDArray

    def of(self, label: int) -> Contours:
        """The entries of one label."""
        own = np.flatnonzero(self.label == label)
        return Contours(*(values[own] for values in self))


class Matches(NamedTuple):
    """Contour pixels of predicted labels (P) and annotated ones (K), and how many of each lie near the other's.

    The near ones are ``[T, P, K]`` where all labels meet all, and ``[T, K]`` where each label meets its own alone.
    """

    predicted: NDArray  # [T, P]
    annotated: NDArray  # [T, K]
    predicted_near: NDArray
    annotated_near: NDArray


def cropped(*maps: NDArray) -> tuple[NDArray, ...]:
    """Label maps ``[T, H, W]`` of one size, cut to the rows and columns in which any of them has a label.

    One row and column of background stay on each side, unless the image ends there: no contour changes.
    """
    seen = np.bitwise_or.reduce([np.bitwise_or.reduce(m, axis=0) for m in maps])
    inside = []
    for labelled in (seen.any(1), seen.any(0)):
        at = np.flatnonzero(labelled)
        inside.append(slice(max(0, at[0] - 1), at[-1] + 2) if len(at) else slice(0, 1))
    return tuple(np.ascontiguousarray(m[:, *inside]) for m in maps)


def contours(maps: NDArray, labels: int) -> Contours:
    """The pixels of the boundary maps of the labels 1..``labels``, all at once, each as `segmentation.boundary` says.

    Args:
        maps: ``[T, H, W]`` uint8 label maps, contiguous.
        labels: higher ones have no contour of their own.
    """
    _, height, width = maps.shape
    flat = maps.reshape(-1)
    # Pixels unlike their right or lower neighbour, or above a pixel unlike its right one. Where a row or a frame meets
    # the next that finds too many, which have no label in some but not all of their corners.
    sideways = flat[:-1] != flat[1:]
    changes = np.zeros(flat.size, bool)
    changes[:-1] = sideways
    if width < flat.size:
        changes[:-width] |= flat[:-width] != flat[width:]
        changes[: -width - 1] |= sideways[width:]
    at = np.flatnonzero(changes)
    line, x = np.divmod(at, width)
    frame, y = np.divmod(line, height)
    right, below = (x < width - 1).astype(np.intp), np.where(y < height - 1, width, 0)
    corners = [flat[at], flat[at + right], flat[at + below], flat[at + below + right]]
    mixed = (corners[1] != corners[0]) | (corners[2] != corners[0]) | (corners[3] != corners[0])
    entries, owners = [], []
    for number, label in enumerate(corners):  # a pixel is contour of every label in some but not all of the four
        own = mixed & (label >= 1) & (label <= labels)
        for earlier in corners[:number]:
            own &= label != earlier
        entries.append(np.flatnonzero(own))
        owners.append(label[entries[-1]].astype(np.intp))
    entry = np.concatenate(entries)
    return Contours(frame[entry], np.concatenate(owners), y[entry], x[entry])


def matches(
    prediction: NDArray, truth: NDArray, labels: tuple[int, int], reach: int, *, crossed: bool = False
) -> Matches:
    """Count contour pixels, and those of them that have one of the other map's within ``reach`` pixels.

    Args:
        prediction: ``[T, H, W]`` uint8 label maps, contiguous, T > 0.
        truth: ``[T, H, W]`` uint8 label maps, contiguous.
        labels: P predicted and K annotated labels, both > 0.
        reach: radius of the disk, in pixels.
        crossed: hold every predicted label against every annotated one; else label k against label k, and P = K.
    """
    count = _crossed if crossed else _own
    step = max(1, _CELLS // (max(labels) * truth[0].size))
    runs = range(0, len(truth), step)
    parts = [count(prediction[at : at + step], truth[at : at + step], labels, reach) for at in runs]
    return Matches(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def overlaps(prediction: NDArray, truth: NDArray, labels: tuple[int, int]) -> NDArray:
    """Pixels that have label p in one map and label k in the other, for all pairs.

    Counted by runs of equal pixels, of which a label map has few.

    Args:
        prediction: ``[T, H, W]`` uint8, labels 0..P, contiguous, T > 0.
        truth: ``[T, H, W]`` uint8, labels 0..K, contiguous.
        labels: P and K.

    Returns:
        ``[T, P + 1, K + 1]`` int64.
    """
    shape = (len(truth), labels[0] + 1, labels[1] + 1)
    p, t = prediction.reshape(-1), truth.reshape(-1)
    ends = np.ones(t.size, bool)
    np.not_equal(p[:-1], p[1:], out=ends[:-1])
    ends[:-1] |= t[:-1] != t[1:]
    ends[truth[0].size - 1 :: truth[0].size] = True
    at = np.flatnonzero(ends)
    pair = (at // truth[0].size * shape[1] + p[at]) * shape[2] + t[at]
    pixels = np.bincount(pair, np.diff(at, prepend=-1), math.prod(shape))  # doubles, exact far beyond any image
    return pixels.astype(np.int64).reshape(shape)


def _own(prediction: NDArray, truth: NDArray, labels: tuple[int, int], reach: int) -> Matches:
    """`matches` of label k with label k: a canvas for each frame and label."""
    shape = len(truth), labels[1]
    ours, theirs = contours(prediction, labels[0]), contours(truth, labels[1])
    p, t = (side.frame * labels[1] + side.label - 1 for side in (ours, theirs))
    chosen = (
        p,
        t,
        p[_near(ours, p, theirs, t, math.prod(shape), reach)],
        t[_near(theirs, t, ours, p, math.prod(shape), reach)],
    )
    return Matches(*(np.bincount(slot, minlength=math.prod(shape)).reshape(shape) for slot in chosen))


def _crossed(prediction: NDArray, truth: NDArray, labels: tuple[int, int], reach: int) -> Matches:
    """`matches` of all labels with all: for each label of one map in turn, all contours of the other."""
    sides = contours(prediction, labels[0]), contours(truth, labels[1])

    def count(side: int, of: NDArray | slice = slice(None)) -> NDArray:
        slot = (sides[side].frame * labels[side] + sides[side].label - 1)[of]
        return np.bincount(slot, minlength=len(truth) * labels[side]).reshape(len(truth), labels[side])

    near: list[list[NDArray]] = [[], []]
    for side, other in ((0, 1), (1, 0)):
        for label in range(1, labels[other] + 1):
            one = sides[other].of(label)
            near[side].append(count(side, _near(sides[side], sides[side].frame, one, one.frame, len(truth), reach)))
    return Matches(count(0), count(1), np.stack(near[0], axis=2), np.stack(near[1], axis=1))


def _near(points: Contours, slot: NDArray, others: Contours, other_slot: NDArray, slots: int, reach: int) -> NDArray:
    """``[n]`` bool: whether each point has one of the others, in its own slot, within ``reach`` pixels.

    Each slot has a canvas just large enough for its others and a margin, and all canvases lie behind each other in
    memory, so that one prefix sum serves them all, however they differ in size.
    """
    (top, bottom), (left, right) = (_extent(values, other_slot, slots) for values in (others.y, others.x))
    # Who asks is at most `reach` outside the others' bounding box, and looks `reach` further: two margins on each side.
    margin = 2 * reach
    width = np.maximum(right - left + 1 + 2 * margin, 0)
    size = np.maximum(bottom - top + 1 + 2 * margin, 0) * width
    origin = np.cumsum(size) - size + (margin - top) * width + margin - left
    before = np.zeros(int(size.sum()) + 1, np.int32)
    before[origin[other_slot] + others.y * width[other_slot] + others.x + 1] = 1
    np.cumsum(before, out=before)  # others before each place of the memory

    asking = np.flatnonzero(
        (points.y >= top[slot] - reach)
        & (points.y <= bottom[slot] + reach)
        & (points.x >= left[slot] - reach)
        & (points.x <= right[slot] + reach)
    )
    of = slot[asking]
    centre, step = origin[of] + points.y[asking] * width[of] + points.x[asking], width[of]
    near = np.zeros(len(points.y), bool)
    rows = sorted(range(-reach, reach + 1), key=abs)
    for some in rows[:5], rows[5:]:  # most of a good prediction has its match in the middle rows of the disk
        found = np.zeros(len(asking), bool)
        for dy in some:
            half = math.isqrt(reach * reach - dy * dy)
            row = centre + dy * step
            found |= before.take(row + (half + 1)) > before.take(row - half)
        near[asking[found]] = True
        left_over = np.flatnonzero(~found)
        asking, centre, step = asking[left_over], centre[left_over], step[left_over]
    return near


def _extent(values: NDArray, slot: NDArray, slots: int) -> tuple[NDArray, NDArray]:
    """Lowest and highest value in each slot; an empty one is so far off that it has no size and nobody is in it."""
    low, high = np.full(slots, _NEVER), np.full(slots, -_NEVER)
    np.minimum.at(low, slot, values)
    np.maximum.at(high, slot, values)
    return low, high
