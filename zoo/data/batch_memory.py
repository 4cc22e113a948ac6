"""Memory for batches that is used again when nobody holds them any more.

Fresh memory costs more than what is written into it where pages are dear: 20 MiB take a virtual machine 15 to 25 ms,
a copy of as much 2 ms. A loader's process writes into memory that it shares with the process that trains, so that a
batch is not copied on its way; the one who is last to hold it says so in its first bytes.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_LEAST = 1 << 20  # bytes that are worth it
_KEPT = 8  # pieces that wait for their next use, at most
_HEAD = 64  # bytes before a batch that say whether it is still wanted over there


class BatchMemory:
    """Gives out tensors in single precision, of any content."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_pieces": []}

    def empty(self, *shape: int) -> Tensor:
        """A tensor ``shape``, float32; its memory is taken for another when it and all views of it are gone."""
        size = 4 * math.prod(shape)
        if size < _LEAST:
            return torch.empty(shape)
        shared = get_worker_info() is not None
        self._pieces = [piece for piece in self._pieces if piece.shared == shared]  # others came by a fork
        piece = next((piece for piece in self._pieces if piece.free and piece.room >= size), None)
        if piece is None:
            piece = _Piece(size, shared)
            self._pieces = [*self._pieces, piece][-_KEPT:]
        return piece.tensor(shape)


def sent(features: Tensor) -> Any:
    """What a loader's process hands over in place of a tensor of `BatchMemory`; there it becomes a tensor again."""
    piece = getattr(features, "_piece", None)
    if piece is None or not piece.shared:
        return features
    piece.head[0] = 1
    return _Sent(piece.base, tuple(features.shape), features)


class _Piece:
    def __init__(self, size: int, shared: bool) -> None:
        self.room, self.shared, self.held = size, shared, False
        if shared:
            storage = torch.UntypedStorage._new_shared(_HEAD + size)  # as PyTorch's own collation does
            self.base = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (_HEAD + size,))
        else:
            self.base = torch.empty(_HEAD + size, dtype=torch.uint8)
        self.head = _head(self.base)
        self.head[0] = 0

    @property
    def free(self) -> bool:
        return not self.held and self.head[0] == 0

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        self.held = True
        tensor = _view(self.base, shape, self._release)
        tensor._piece = self
        return tensor

    def _release(self) -> None:
        self.held = False


class _Sent:
    """Pickled by what shares memory between processes; ``features`` hold the piece until then."""

    def __init__(self, base: Tensor, shape: tuple[int, ...], features: Tensor) -> None:
        self.base, self.shape, self.features = base, shape, features

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.base, self.shape)


def _received(base: Tensor, shape: tuple[int, ...]) -> Tensor:
    head = _head(base)
    return _view(base, shape, lambda: head.fill(0))


def _head(base: Tensor) -> np.ndarray:
    return base.numpy()[:8].view(np.int64)


def _view(base: Tensor, shape: tuple[int, ...], release: Any) -> Tensor:
    """The numbers behind the head; ``release`` is called when no tensor uses them any more."""
    array = base.numpy()[_HEAD : _HEAD + 4 * math.prod(shape)].view(np.float32).reshape(shape)
    weakref.finalize(array, release).atexit = False
    return torch.from_numpy(array)  # whose storage, and so each view of it, holds the array
