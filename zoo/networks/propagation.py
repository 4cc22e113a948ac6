"""Label propagation: the labels of a video's first frame, carried to all others by nearest neighbours in feature space.

Every cell of a frame looks for its k nearest cells in the first frame and in the preceding ones, and takes the weighted
sum of their soft labels. One engine serves every encoder, on the CPU and on a GPU: what a method adds is its settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError

# MiB of scores at a time. A processor wants them in its cache; a GPU wants few and large products.
_BUDGET = {"cpu": 16, "cuda": 512}


@dataclass(frozen=True)
class Propagation:
    """How labels are propagated. The defaults are TimeCycle's on DAVIS (2.4.2, and its published test procedure).

    Attributes:
        size: side of the square, in pixels, that frames are resized to before they are encoded; None keeps their size.
        references: preceding frames that are looked into; the first frame comes on top.
        topk: neighbours that a cell takes from each reference, or from all references together if ``joint``.
        temperature: of the softmax over cosines.
        radius: only cells less than so many cells away (Euclidean) are neighbours; the first frame is never masked.
            None looks everywhere.
        joint: False: a softmax over all cells of each reference by itself, of whose k largest weights the rest is
            not made up for, and a mean over the references. True: the k largest over all references together, and a
            softmax over these; the first frame then keeps the labels that were given (the contrastive random walk).
        rescale: after each frame, stretch the map of every class to 0...1 (least value to 0, largest to 1). A class
            whose map is constant is left as it is.
        half: multiply features in half precision (float16 on a GPU, bfloat16 elsewhere). The softmax never is.
        budget: MiB that scores may take at a time, whatever the resolution; None: 16 on a CPU, 512 on a GPU.
    """

    size: int | None = 320
    references: int = 7
    topk: int = 5
    temperature: float = 512**-0.5
    radius: float | None = None
    joint: bool = False
    rescale: bool = True
    half: bool = False
    budget: int | None = None

    def __post_init__(self) -> None:
        wrong = {
            "size": self.size is not None and (self.size < 8 or self.size % 8 != 0),
            "references": self.references < 0,
            "topk": self.topk < 1,
            "temperature": not (self.temperature > 0 and math.isfinite(self.temperature)),
            "radius": self.radius is not None and not self.radius > 0,
            "budget": self.budget is not None and self.budget < 1,
        }
        if bad := [f"{name}={getattr(self, name)!r}" for name, is_wrong in wrong.items() if is_wrong]:
            raise ZooError(
                f"Propagation: {', '.join(bad)}. Wanted: size a multiple of 8 or None, references >= 0, topk >= 1, "
                "temperature > 0, radius > 0 or None, budget >= 1 (MiB) or None."
            )

    def slots(self, number: int) -> list[int]:
        """What frame ``number`` looks into, in a video that is preceded by ``references`` copies of its first frame.

        The first frame, then the ``references`` frames before this one, oldest first. An entry below ``references`` is
        a copy of the first frame with the labels given; entry ``references + j`` is frame j with the labels predicted.
        """
        return [0, *range(number, number + self.references)]


class Propagator:
    """Propagates labels through one video, frame by frame.

    It holds the first frame and the last ``references`` ones, so memory does not grow with the video.

    Args:
        settings: how.
        first_features: ``[C, h, w]`` features of frame 0, of any floating type, normalised or not: cosines count.
        first_labels: ``[K, h, w]`` its soft labels, a channel for each class.

    Raises:
        ZooError: for features and labels that are not of one size.
    """

    def __init__(self, settings: Propagation, first_features: Tensor, first_labels: Tensor) -> None:
        self.settings = settings
        if first_features.ndim != 3 or first_labels.ndim != 3 or not first_labels.numel() or not first_features.numel():
            raise ZooError(
                f"Propagator: features {tuple(first_features.shape)} and labels {tuple(first_labels.shape)} of the "
                "first frame must be [C, h, w] and [K, h, w], and not empty."
            )
        if first_features.shape[1:] != first_labels.shape[1:]:
            raise ZooError(
                f"Propagator: the first frame's features have {tuple(first_features.shape[1:])} cells (h, w), its "
                f"labels {tuple(first_labels.shape[1:])}. Bring the labels to the size of the features."
            )
        self.number = 0  # of the next frame
        self.shape = first_features.shape
        _, self.h, self.w = self.shape
        self.cells = self.h * self.w
        self.device = first_features.device
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        self._type = half if settings.half else torch.float32
        # Slot 0 is the first frame, slot 1 + j % references is frame j.
        slots = 1 + settings.references
        self._keys = torch.empty(slots, self.h, self.w, self.shape[0], dtype=self._type, device=self.device)
        self._labels = torch.empty(slots, self.cells, len(first_labels), device=self.device)
        self._keys[0] = self._normalize(first_features)
        self._labels[0] = first_labels.to(self.device, torch.float32).flatten(1).T

    @torch.no_grad()
    def step(self, features: Tensor) -> Tensor:
        """The soft labels of the next frame; call it for frame 0 too, whose predicted labels later frames read.

        Args:
            features: ``[C, h, w]``.

        Returns:
            ``[K, h, w]`` float32.

        Raises:
            ZooError: for features of another shape or on another device than the first frame's.
        """
        if features.shape != self.shape or features.device != self.device:
            raise ZooError(
                f"Propagator.step: frame {self.number} has features {tuple(features.shape)} on {features.device}, the "
                f"first frame had {tuple(self.shape)} on {self.device}. All frames of a video must be alike."
            )
        query = self._normalize(features)
        if self.settings.joint and self.number == 0:
            labels = self._labels[0]
        else:
            weights, ids = self._neighbours(query)
            # Sums the labels that the neighbours' rows of one long table hold, without a copy of each.
            labels = F.embedding_bag(ids, self._labels.flatten(0, 1), per_sample_weights=weights, mode="sum")
            if self.settings.rescale:
                labels = stretch(labels)
        if self.settings.references:
            slot = 1 + self.number % self.settings.references
            self._keys[slot] = query
            self._labels[slot] = labels
        self.number += 1
        return labels.T.reshape(-1, self.h, self.w).clone()

    @torch.no_grad()
    def neighbours(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the next frame would sum up: weights and places, ``[h * w, n]`` each; nothing is changed.

        A place is ``slot * h * w + row * w + column``, where slot 0 is the first frame and slot ``1 + j % references``
        is frame j. In early frames n is smaller or places come twice: copies of the first frame are slot 0.
        """
        return self._neighbours(self._normalize(features))

    def _normalize(self, features: Tensor) -> Tensor:
        """Unit features ``[h, w, C]`` in the type that they are multiplied in."""
        return F.normalize(features.float(), dim=0, eps=1e-12).permute(1, 2, 0).to(self._type)

    def _neighbours(self, query: Tensor) -> tuple[Tensor, Tensor]:
        settings = self.settings
        copies = max(0, settings.references - self.number)
        recent = min(self.number, settings.references)
        query = (query.float() / settings.temperature).to(self._type)
        weights, ids = [], []
        out: tuple[list[Tensor], list[Tensor]] = ([], [])
        where = []
        for rows, columns in self._tiles():
            part = query[rows, columns]
            found = [self._search(part, 0, 1, rows, columns, masked=False)]
            if copies and settings.joint and settings.radius is not None:  # copies are masked, the first frame is not
                found += [self._search(part, 0, 1, rows, columns, masked=True)] * copies
            elif copies and settings.joint:
                found += found * copies
            elif copies and settings.radius is None:
                found[0] = (found[0][0] * (1 + copies), found[0][1])
            elif copies:
                value, place = self._search(part, 0, 1, rows, columns, masked=True)
                found.append((value * copies, place))
            if recent:
                found.append(self._search(part, 1, 1 + recent, rows, columns, masked=settings.radius is not None))
            value, place = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
            if settings.joint:
                value, best = value.topk(min(settings.topk, value.shape[1]), dim=1)
                value, place = value.softmax(dim=1), place.gather(1, best)
            else:
                value = value / (1 + settings.references)
            out[0].append(value)
            out[1].append(place)
            where.append((rows, columns))
        weights = out[0][0].new_empty(self.h, self.w, out[0][0].shape[1])
        ids = out[1][0].new_empty(weights.shape)
        for (rows, columns), value, place in zip(where, *out, strict=True):
            shape = weights[rows, columns].shape
            weights[rows, columns], ids[rows, columns] = value.view(shape), place.view(shape)
        return weights.flatten(0, 1), ids.flatten(0, 1)

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rectangles of query cells, so small that their scores against one reference keep to the budget."""
        budget = self.settings.budget or _BUDGET.get(self.device.type, _BUDGET["cpu"])
        cells = max(1, budget * 2**20 // (8 * self.cells))
        if self.settings.radius is not None:
            side = max(1, min(16, math.isqrt(cells)))
            height, width = side, side
        else:
            height, width = max(1, cells // self.w), min(self.w, cells)
        for y in range(0, self.h, height):
            for x in range(0, self.w, width):
                yield slice(y, min(y + height, self.h)), slice(x, min(x + width, self.w))

    def _search(
        self, query: Tensor, start: int, stop: int, rows: slice, columns: slice, *, masked: bool
    ) -> tuple[Tensor, Tensor]:
        """The best matches of a tile of queries in the slots from ``start`` to ``stop``: values and places [Q, n]."""
        settings = self.settings
        top, left, bottom, right = 0, 0, self.h, self.w
        if masked:
            reach = math.ceil(settings.radius) - 1
            top, bottom = max(0, rows.start - reach), min(self.h, rows.stop + reach)
            left, right = max(0, columns.start - reach), min(self.w, columns.stop + reach)
        y = torch.arange(top, bottom, device=self.device)
        x = torch.arange(left, right, device=self.device)
        if masked:
            dy = (torch.arange(rows.start, rows.stop, device=self.device)[:, None] - y)[:, None, :, None]
            dx = (torch.arange(columns.start, columns.stop, device=self.device)[:, None] - x)[None, :, None, :]
            hidden = (dy**2 + dx**2 >= settings.radius**2).view(query.shape[0] * query.shape[1], -1)
        cell = (y[:, None] * self.w + x).flatten()
        values, places = [], []
        for slot in range(start, stop):
            keys = self._keys[slot, top:bottom, left:right].reshape(-1, self.shape[0])
            scores = (query.reshape(-1, self.shape[0]) @ keys.T).float()
            if masked:
                scores.masked_fill_(hidden, -torch.inf)
            if not settings.joint:
                scores = scores.softmax(dim=1)
            value, index = largest(scores, settings.topk)
            values.append(value)
            places.append(cell[index] + slot * self.cells)
        return torch.cat(values, dim=1), torch.cat(places, dim=1)


def stretch(labels: Tensor) -> Tensor:
    """Each column of ``[cells, K]`` brought to 0...1: minus its least value, over its largest. Constant ones stay."""
    low, high = labels.aminmax(dim=0)
    span = high - low
    return torch.where(span > 0, (labels - low) / span, labels)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row of ``[Q, N]``, descending, and their columns (fewer if N < k).

    A long row is cut into pieces that are compared element by element, which vectorises; the k largest can only stand
    in the k columns of pieces with the largest maxima, so that the selection runs over a small part of the row.
    """
    count, length = x.shape
    k = min(k, length)
    pieces = 16
    width = length // pieces
    if width < 4 * k:
        return x.topk(k, dim=1)
    stack = x[:, : pieces * width].unflatten(1, (pieces, width))
    columns = stack.amax(1).topk(k, dim=1, sorted=False).indices
    chosen = stack.gather(2, columns[:, None].expand(count, pieces, k)).flatten(1)
    offsets = torch.arange(pieces, device=x.device)[:, None] * width
    places = (columns[:, None] + offsets).flatten(1)
    rest = torch.arange(pieces * width, length, device=x.device).expand(count, -1)
    values, best = torch.cat([chosen, x[:, pieces * width :]], dim=1).topk(k, dim=1)
    return values, torch.cat([places, rest], dim=1).gather(1, best)
