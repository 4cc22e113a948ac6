"""Collisions in mini-batches: five sequences that differ in one property, in order of its scale.

A training batch has as many mini-batches of every property that is trained. As in the release, the mini-batches of a
property are shuffled once and cut into batches for good, what is left over at the end is dropped (of a list that
comes out even, the whole last batch), and an epoch is another order of these batches. All depends on the seed and the
epoch alone, so that a resumed run goes on with the same batch.

A mini-batch with four sequences means nothing and another one is not drawn in its place: while training, a sequence
that cannot be read is an error that names it. A test leaves its mini-batch out and reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from zoo.data.collisions.frames import FRAMES
from zoo.data.collisions.plan import PROPERTIES, SCALES, SPLITS
from zoo.data.collisions.released import CollisionIndex
from zoo.data.collisions.store import CollisionStore
from zoo.data.loader import TrainSampler
from zoo.errors import DataError

TESTS = SPLITS[1:]


@dataclass(frozen=True)
class MiniBatch:
    """One mini-batch of a set.

    Attributes:
        changing: the property whose scale differs.
        split: "train", "shape_test" or "parameter_test".
        number: in that list of the property.
        sequences: numbers of its five sequences, in order of scale.
        folders: their names.
    """

    changing: str
    split: str
    number: int
    sequences: tuple[int, ...]
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as "mass/shape_test/12"."""
        return f"{self.changing}/{self.split}/{self.number}"

    @property
    def identity(self) -> str:
        """What a list of mini-batches is hashed by."""
        return " ".join((self.name, *self.folders))


def list_mini_batches(index: CollisionIndex, splits: Sequence[str]) -> list[MiniBatch]:
    """The mini-batches of some splits, each with those of mass, of speed and of friction."""
    return [
        MiniBatch(name, split, number, tuple(group), tuple(index.folders[k].name for k in group))
        for split in splits
        for name in PROPERTIES
        for number, group in enumerate(index.mini_batches[name][split].tolist())
    ]


class GroupedClips(Dataset):
    """Training batches; asked with the mini-batches of one, (number of the property, number of the mini-batch) each.

    ``clips`` uint8 ``[B, 3, 5, S, S]``; ``property`` int64 ``[G]``, which of mass, speed, friction; ``groups`` int64
    ``[G, 5]``, the rows of ``clips`` that a mini-batch has, in order of scale; ``scales`` float32 ``[B, 3]`` of mass,
    speed and friction, 1 to 5 (NaN where no list tells); ``index`` int64 ``[B]``, the numbers of the sequences;
    ``flow`` float32 ``[B, 4, 2, S, S]`` where it is wanted (`zoo.data.collisions.flow.backward_flow`). B is 5 G.
    """

    def __init__(self, store: CollisionStore) -> None:
        self.store = store
        self.mini_batches = [store.index.mini_batches[name]["train"] for name in PROPERTIES]

    def __len__(self) -> int:
        return sum(map(len, self.mini_batches))

    def __getitem__(self, key: Sequence[tuple[int, int]]) -> dict[str, Any]:
        numbers = np.concatenate([self.mini_batches[name][number] for name, number in key])
        return {
            **_sequences(self.store, numbers),
            "property": torch.tensor([name for name, _ in key]),
            "groups": torch.arange(len(numbers)).reshape(-1, len(SCALES)),
        }


class EverySequence(Dataset):
    """Sequences in batches of their own, whatever they are compared with: the keys of `GroupedClips` but for groups."""

    def __init__(self, store: CollisionStore, numbers: np.ndarray, batch_size: int) -> None:
        self.store = store
        self.batches = np.array_split(numbers, -(-len(numbers) // batch_size))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> dict[str, Any]:
        return _sequences(self.store, self.batches[batch])


class GroupSampler(TrainSampler):
    """Batches of mini-batches: always the same ones, in a new order every epoch, divided among the processes.

    ``properties`` and ``groups`` may be changed between epochs, and a ``schedule`` sets the properties by the number of
    the epoch, as staggered training wants it; the length follows. A property's mini-batches lie in the same batches
    whatever else is trained.

    Args:
        data: what the batches are of.
        rank: this process's number.
        world_size: the number of processes.
        seed: of both shuffles.
        groups: mini-batches of each property in a batch.
        properties: that are trained, of `PROPERTIES`.
    """

    def __init__(
        self, data: GroupedClips, rank: int, world_size: int, seed: int, groups: int, properties: Sequence[str]
    ) -> None:
        super().__init__(data, rank, world_size, seed)
        self._shuffled = [
            np.random.default_rng((seed, number)).permutation(len(found))
            for number, found in enumerate(data.mini_batches)
        ]
        self._groups, self._properties = self._checked(groups, properties)
        self.schedule: Callable[[int], Sequence[str]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, of a resumed run too."""
        super().set_epoch(epoch)
        if self.schedule is not None:
            self.properties = self.schedule(epoch)

    @property
    def properties(self) -> tuple[str, ...]:
        """The properties that are trained; in a batch they have the order of `PROPERTIES`.

        Raises:
            DataError: on assignment of none, or of one that there is not.
        """
        return self._properties

    @properties.setter
    def properties(self, names: Sequence[str]) -> None:
        self._groups, self._properties = self._checked(self._groups, names)

    @property
    def groups(self) -> int:
        """Mini-batches of each property in a batch.

        Raises:
            DataError: on assignment of fewer than one, or of so many that no batch comes about.
        """
        return self._groups

    @groups.setter
    def groups(self, count: int) -> None:
        self._groups, self._properties = self._checked(count, self._properties)

    @property
    def batches(self) -> int:
        """Batches of an epoch over all processes."""
        return min(self._count(name, self._groups) for name in self._properties)

    def __len__(self) -> int:
        return max(self.batches // self.num_replicas, 1)

    def __iter__(self) -> Iterator[tuple[tuple[int, int], ...]]:
        start, self.start = self.start, 0
        order = np.random.default_rng((self.seed, len(PROPERTIES), self.epoch)).permutation(self.batches)
        mine = np.resize(order, len(self) * self.num_replicas)[self.rank :: self.num_replicas]
        active = [number for number, name in enumerate(PROPERTIES) if name in self._properties]
        for batch in mine[start:].tolist():
            cut = slice(batch * self._groups, (batch + 1) * self._groups)
            yield tuple((name, number) for name in active for number in self._shuffled[name][cut].tolist())

    def _count(self, name: str, groups: int) -> int:
        """Batches that a property's mini-batches make: ceil((M - n) / n) of M, n in a batch."""
        return (len(self._shuffled[PROPERTIES.index(name)]) - 1) // groups

    def _checked(self, groups: int, names: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        names, known = tuple(names), ", ".join(PROPERTIES)
        if not names:
            raise DataError(f"no property to train on; give one or more of {known}.")
        if len(set(names)) < len(names) or set(names) - set(PROPERTIES):
            raise DataError(f"properties to train on are of {known}, each once, got {names!r}.")
        if not (isinstance(groups, int) and groups >= 1):
            raise DataError(f"groups is how many mini-batches a batch has of each property, got {groups!r}.")
        for name in names:
            if self._count(name, groups) < 1:
                raise DataError(
                    f"{name} has {len(self._shuffled[PROPERTIES.index(name)])} mini-batches to train on, which with "
                    f"{groups} in a batch (groups) make none, for the last is dropped. Take fewer, or a larger set."
                )
        return groups, names


class GroupedRows(Dataset):
    """What a test sees: a mini-batch a row, with all that `collate_rows` says."""

    def __init__(self, store: CollisionStore, records: Sequence[MiniBatch]) -> None:
        self.store, self.records = store, records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> dict[str, Any]:
        record, index = self.records[row], self.store.index
        numbers = np.array(record.sequences)
        sample = {"index": torch.tensor(row), "size": self.store.size, "has_flow": self.store.flow, "unreadable": []}
        try:
            sample |= self.store.take(numbers)
        except DataError as error:
            return sample | {"unreadable": [(row, f"{record.name}: {error}")]}
        return sample | {
            "property": torch.tensor(PROPERTIES.index(record.changing)),
            "split": torch.tensor(SPLITS.index(record.split) - 1),
            "unseen": torch.from_numpy(~index.trained[numbers]),
            "scales": torch.from_numpy(index.scales[numbers]),
            "view": torch.tensor(0),
        }


def collate_rows(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows to one batch; those that could not be read only leave their mark in ``unreadable`` (so it may be empty).

    ``clips`` uint8 ``[B, 5, 3, 5, S, S]``; ``property`` int64 ``[B]``; ``split`` int64 ``[B]``, 0 shape test, 1
    parameter test; ``unseen`` bool ``[B, 5]``, whether a sequence is in no mini-batch of training;
    ``scales`` float32 ``[B, 5, 3]``; ``index`` int64 ``[B]``, the number of the record; ``view`` int64 ``[B]``, all 0;
    ``flow`` float32 ``[B, 5, 4, 2, S, S]`` where it is wanted.
    """
    size, count = samples[0]["size"], len(SCALES)
    empty = {
        "clips": torch.empty(0, count, 3, FRAMES, size, size, dtype=torch.uint8),
        "property": torch.empty(0, dtype=torch.int64),
        "split": torch.empty(0, dtype=torch.int64),
        "unseen": torch.empty(0, count, dtype=torch.bool),
        "scales": torch.empty(0, count, len(PROPERTIES)),
        "index": torch.empty(0, dtype=torch.int64),
        "view": torch.empty(0, dtype=torch.int64),
    }
    if samples[0]["has_flow"]:
        empty["flow"] = torch.empty(0, count, FRAMES - 1, 2, size, size)
    readable = [sample for sample in samples if "clips" in sample]
    batch: dict[str, Any] = {
        key: torch.stack([s[key] for s in readable]) if readable else nothing for key, nothing in empty.items()
    }
    return batch | {"unreadable": [entry for sample in samples for entry in sample["unreadable"]]}


def _sequences(store: CollisionStore, numbers: np.ndarray) -> dict[str, Any]:
    scales = torch.from_numpy(store.index.scales[numbers])
    return {**store.take(numbers), "scales": scales, "index": torch.from_numpy(numbers)}


def only_one(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Collation of a batch that the data set gave whole."""
    (batch,) = batches
    return batch
