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

# MiB of scores at a time: a processor wants them in its cache, a GPU wants few and large products.
_BUDGET = {"cpu": 16, "cuda": 512}
_SCORE_BYTES = 8  # the product in float32 and its softmax, or the product in half precision, which takes less
# In half precision features get so many channels more. One of them takes a constant off all scores of a query, which no
# weight depends on: that of its own place in the latest frame. Scores that matter are then near 0, and rounded finely.
# One would do, but tensor cores want multiples of 8.
_OFFSET = 8
# Side of a square of queries that share one window of keys, which is that much larger than the circle of each.
_TILE = {"cpu": 16, "cuda": 32}
# Pieces that a row is cut into to find its largest values, and how many times k a piece must be to be worth it.
_PIECES, _WORTH = 8, 4


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
        self.settings = settings
        self.number = 0  # of the next frame
        self.shape, self.device = first_features.shape, first_features.device
        channels, self.h, self.w = self.shape
        self.cells = self.h * self.w
        kind = self.device.type
        self._budget = (settings.budget or _BUDGET.get(kind, _BUDGET["cpu"])) * 2**20
        half = torch.float16 if kind == "cuda" else torch.bfloat16
        # Slot 0 is the first frame, slot 1 + j % references is frame j.
        slots, dtype = 1 + settings.references, half if settings.half else torch.float32
        self._keys = torch.zeros(slots, self.h, self.w, channels, dtype=dtype, device=self.device)
        if settings.half:
            self._keys = F.pad(self._keys, (0, _OFFSET))
            self._keys[..., channels] = 1
        self._labels = torch.zeros(slots, self.cells, len(first_labels), device=self.device)
        self._keys[0, ..., :channels] = self._normalize(first_features)
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
        settings = self.settings
        query = self._normalize(features)
        if settings.joint and self.number == 0:
            labels = self._labels[0]
        else:
            weights, places = self._neighbours(query)
            # A weighted sum of rows of one long table, which copies none of them.
            labels = F.embedding_bag(places, self._labels.flatten(0, 1), per_sample_weights=weights, mode="sum")
            if settings.rescale:
                labels = stretch(labels)
        if settings.references:
            slot = 1 + self.number % settings.references
            self._keys[slot, ..., : self.shape[0]] = query
            self._labels[slot] = labels
        self.number += 1
        return labels.T.clone(memory_format=torch.contiguous_format).view(-1, self.h, self.w)

    @torch.no_grad()
    def neighbours(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the next frame would sum up: weights and places ``[h * w, n]``. Changes nothing.

        A place is ``slot * h * w + row * w + column``, where slot 0 is the first frame and slot ``1 + j % references``
        is frame j. Copies of the first frame, which stand for what precedes it, are slot 0 as well.

        Args:
            features: ``[C, h, w]`` of the next frame.
        """
        return self._neighbours(self._normalize(features))

    def _normalize(self, features: Tensor) -> Tensor:
        """Unit features ``[h, w, C]``, float32."""
        if features.shape != self.shape or features.device != self.device:
            raise ZooError(
                f"Propagator: frame {self.number} has features {tuple(features.shape)} on {features.device}, the first "
                f"frame had {tuple(self.shape)} on {self.device}. All frames of a video must be alike."
            )
        return F.normalize(features.float(), dim=0, eps=1e-12).permute(1, 2, 0).contiguous()

    def _neighbours(self, query: Tensor) -> tuple[Tensor, Tensor]:
        settings = self.settings
        if settings.half:
            latest = 1 + (self.number - 1) % settings.references if self.number and settings.references else 0
            match = (query * self._keys[latest, ..., : self.shape[0]]).sum(2)
            query = F.pad(query, (0, _OFFSET))
            query[..., self.shape[0]] = -match
        query = (query / settings.temperature).to(self._keys.dtype)
        recent, copies = min(self.number, settings.references), max(0, settings.references - self.number)
        # What to look into: slots from, to (exclusive), whether held to the radius, how many copies of each there are.
        looks = [(0, 1, False, 1), (0, 1, True, copies), (1, 1 + recent, True, 1)]
        if settings.radius is None:
            looks = [(0, 1, False, 1 + copies), (1, 1 + recent, False, 1)]
        looks = [look for look in looks if look[0] < look[1] and look[3]]
        weights = places = None
        for rows, columns in self._tiles():
            tile = self._look(query, rows, columns, looks)
            if weights is None:
                weights, places = (x.new_empty(self.h, self.w, x.shape[1]) for x in tile)
            for whole, part in zip((weights, places), tile, strict=True):
                whole[rows, columns] = part.view_as(whole[rows, columns])
        return weights.flatten(0, 1), places.flatten(0, 1)

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rectangles of queries: whole rows or parts of one, or squares where there is a radius."""
        count = max(1, self._budget // (_SCORE_BYTES * self.cells))  # whose scores against one slot keep to the budget
        if self.settings.radius is None:
            height, width = max(1, count // self.w), min(self.w, count)
        else:
            height = width = min(math.isqrt(count), _TILE.get(self.device.type, _TILE["cpu"]))
        for y in range(0, self.h, height):
            for x in range(0, self.w, width):
                yield slice(y, min(y + height, self.h)), slice(x, min(x + width, self.w))

    def _look(
        self, query: Tensor, rows: slice, columns: slice, looks: list[tuple[int, int, bool, int]]
    ) -> tuple[Tensor, Tensor]:
        """Weights and places ``[Q, n]`` of the neighbours of a tile of Q queries."""
        values, places = [], []
        with torch.autocast(self.device.type, enabled=False):  # half precision is for the settings to say
            for start, stop, masked, copies in looks:
                value, place = self._search(query, rows, columns, start, stop, masked)
                if self.settings.joint:  # copies compete with one another
                    value, place = value.repeat(1, copies), place.repeat(1, copies)
                else:
                    value = value * (copies / (1 + self.settings.references))
                values.append(value)
                places.append(place)
        value, place = torch.cat(values, dim=1), torch.cat(places, dim=1)
        if self.settings.joint:
            value, best = value.topk(self.settings.topk, dim=1)
            value, place = value.softmax(dim=1), place.gather(1, best)
        return value, place

    def _search(
        self, query: Tensor, rows: slice, columns: slice, start: int, stop: int, masked: bool
    ) -> tuple[Tensor, Tensor]:
        """The best of the slots from ``start`` to ``stop`` for a tile: values and places ``[Q, multiple of topk]``.

        Values are the weights of a softmax over each slot or, if joint, scores.
        """
        joint, topk = self.settings.joint, self.settings.topk
        tile = query[rows, columns].flatten(0, 1)
        y, x, hidden = self._window(rows, columns) if masked else (slice(0, self.h), slice(0, self.w), None)
        height, width = y.stop - y.start, x.stop - x.start
        cells = height * width
        each = cells * (_SCORE_BYTES * len(tile) + masked * tile.shape[1] * tile.element_size())
        group = max(1, self._budget // each)  # slots at a time
        values, places = [], []
        for first in range(start, stop, group):
            keys = self._keys[first : min(first + group, stop), y, x].reshape(-1, tile.shape[1])
            scores = (tile @ keys.T).unflatten(1, (-1, cells))
            if hidden is not None:
                scores.masked_fill_(hidden[:, None], -torch.inf)
            scores = scores.flatten(1) if joint else scores.softmax(2, dtype=torch.float32).flatten(0, 1)
            value, index = largest(scores, topk)
            missing = topk - value.shape[1]  # a map or a window of fewer cells than topk
            value = F.pad(value.float(), (0, missing), value=-torch.inf if joint else 0.0).view(len(tile), -1)
            index = F.pad(index, (0, missing)).view(len(tile), -1)
            if joint:
                slot, index = first + index // cells, index % cells
            else:
                slot = first + torch.arange(index.shape[1], device=self.device) // topk
            row, column = y.start + index // width, x.start + index % width
            values.append(value)
            places.append((slot * self.h + row) * self.w + column)
        return torch.cat(values, dim=1), torch.cat(places, dim=1)

    def _window(self, rows: slice, columns: slice) -> tuple[slice, slice, Tensor]:
        """Rows and columns that a tile's circles reach, and ``[Q, window cells]`` True where a cell is out of reach."""
        reach = math.ceil(self.settings.radius) - 1
        sides, squares = [], []
        for part, length in ((rows, self.h), (columns, self.w)):
            side = slice(max(0, part.start - reach), min(length, part.stop + reach))
            place = torch.arange(length, device=self.device, dtype=torch.float32)
            sides.append(side)
            squares.append((place[part, None] - place[side]) ** 2)
        far = squares[0][:, None, :, None] + squares[1][None, :, None, :] >= self.settings.radius**2
        return *sides, far.flatten(2).flatten(0, 1)


def stretch(labels: Tensor) -> Tensor:
    """Each column of ``[cells, K]`` brought to 0...1: minus its least value, over its largest. Constant ones stay."""
    low, high = labels.aminmax(dim=0)
    span = high - low
    return torch.where(span > 0, (labels - low) / span, labels)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row of ``[Q, N]``, descending, and their columns; N of them if N < k.

    A long row is cut into pieces, which are compared element by element: fast on vector units. The k largest stand in
    the k columns of pieces with the largest maxima, so that the selection proper runs over a small part of the row.
    """
    count, length = x.shape
    k = min(k, length)
    width = length // _PIECES
    if width < _WORTH * k:
        return x.topk(k, dim=1)
    main = _PIECES * width
    stack = x[:, :main].unflatten(1, (_PIECES, width))
    columns = stack.amax(1).topk(k, dim=1, sorted=False).indices[:, None].expand(-1, _PIECES, -1)
    values, best = torch.cat([stack.gather(2, columns).flatten(1), x[:, main:]], dim=1).topk(k, dim=1)
    places = columns + torch.arange(0, main, width, device=x.device)[:, None]
    rest = torch.arange(main, length, device=x.device).expand(count, -1)
    return values, torch.cat([places.flatten(1), rest], dim=1).gather(1, best)
