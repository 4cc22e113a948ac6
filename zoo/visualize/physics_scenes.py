"""Mini-batches of collisions drawn out of a data set's tests, and what a model of physics makes of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.collisions.mini_batches import GroupedRows, collate_rows
from zoo.data.collisions.plan import PROPERTIES
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.errors import DataError, ZooError
from zoo.methods.collisions import SEEN, CollisionModel
from zoo.metrics.pixel_error import pixel_error
from zoo.networks.physics import displacement

SHAPES, PARAMETERS = "shape_test", "parameter_test"
_NAMED = re.compile(r"([a-z]+)_([a-z]+)_\d+_mass\d_speed\d_friction\d")  # how `zoo data make` calls a folder


@dataclass(frozen=True)
class Scene:
    """A mini-batch: five collisions, by place from 0 on, that differ in one property.

    Attributes:
        property: that changes.
        folders: names of the five sequences.
        batch: the mini-batch as a batch of one row.
    """

    property: str
    folders: tuple[str, ...]
    batch: dict[str, Any]

    def frame(self, place: int, number: int) -> np.ndarray:
        """A frame of a collision, uint8 ``[S, S, 3]``."""
        return self.batch["clips"][0, place, :, number].permute(1, 2, 0).numpy()

    def inputs(self, place: int) -> list[np.ndarray]:
        """The four frames that a model sees."""
        return [self.frame(place, number) for number in range(SEEN)]

    def truth(self, place: int) -> np.ndarray:
        """The fifth frame."""
        return self.frame(place, SEEN)

    @property
    def shapes(self) -> str:
        """What moves and what stands, as far as the names of the folders tell."""
        return shapes_of(self.folders) or self.folders[0]

    def scale(self, place: int) -> str:
        """The property that changes, with its scale: ``"mass 3"``."""
        return f"{self.property} {place + 1}"

    @property
    def others(self) -> str:
        """The properties that stay, with their scales: ``"speed 1, friction 4"``."""
        known = zip(PROPERTIES, self.batch["scales"][0, 0].tolist(), strict=True)
        return ", ".join(f"{name} {scale:g}" for name, scale in known if name != self.property and scale == scale)

    @property
    def unseen(self) -> list[int]:
        """Places of the collisions that nothing was trained on."""
        return self.batch["unseen"][0].nonzero().flatten().tolist()


class Scenes:
    """The mini-batches of a data set's two tests; what is drawn of them is the same for the same seed.

    Args:
        data: ``zoo.datamodule("physics_collisions", ...)``.
        seed: of the draws.

    Raises:
        DataError: the data set is another one, or its root has none of them.
    """

    def __init__(self, data: Any, seed: int = 0) -> None:
        if not isinstance(data, PhysicsCollisions):
            raise DataError(f"{data.name} has no collisions that differ in one property; physics_collisions has.")
        self.data, self.seed = data, seed
        self.records = data.records("val")
        self.rows = GroupedRows(data.store, self.records)

    def draw(self, split: str, property: str, count: int, *, apart: bool = False) -> list[Scene]:
        """Mini-batches of a test in which a property changes, as many as are wanted or there are.

        Args:
            split: `SHAPES` or `PARAMETERS`.
            property: that changes.
            count: how many; with ``apart``, how many of each pair of shapes.
            apart: pair by pair, in the order of the data; without it pairs take turns.

        Raises:
            DataError: there are none.
        """
        pairs: dict[str, list[int]] = {}
        for number, record in enumerate(self.records):
            if (record.split, record.changing) == (split, property):
                pairs.setdefault(shapes_of(record.folders), []).append(number)
        if not pairs:
            kind = "unseen shapes" if split == SHAPES else "unseen parameters"
            raise DataError(
                f"{self.data.root} has no mini-batches of the {split} ({kind}) in which {property} changes. A set of "
                "all pairs has: `zoo data make physics_collisions`."
            )
        source = random.Random(f"{self.seed} {split} {property}")
        for numbers in pairs.values():
            source.shuffle(numbers)
        if apart:
            return [self.scene(number) for numbers in pairs.values() for number in numbers[:count]]
        order = source.sample(list(pairs), len(pairs))
        turns = (pairs[pair][turn] for turn in range(count) for pair in order if turn < len(pairs[pair]))
        return [self.scene(number) for number in list(turns)[:count]]

    def donor(self, scene: Scene) -> Scene:
        """Another mini-batch of the same property, of other shapes, from either test.

        Raises:
            DataError: there is none.
        """
        own = shapes_of(scene.folders)
        others = [
            number
            for number, record in enumerate(self.records)
            if record.changing == scene.property and shapes_of(record.folders) != own
        ]
        if not others:
            raise DataError(
                f"{self.data.root} tests no other shapes than {own or 'those of ' + scene.folders[0]} (told by the "
                "names of the folders), so no other shapes can lend theirs a property."
            )
        return self.scene(random.Random(f"{self.seed} {scene.folders[0]} {scene.property}").choice(others))

    def scene(self, number: int) -> Scene:
        """A record by its number.

        Raises:
            DataError: one of its frames is missing or broken.
        """
        batch = collate_rows([self.rows[number]])
        if batch["unreadable"]:
            raise DataError(batch["unreadable"][0][1])
        return Scene(self.records[number].changing, self.records[number].folders, batch)


@dataclass(frozen=True)
class Prediction:
    """A predicted frame.

    Attributes:
        picture: uint8 ``[S, S, 3]``.
        error: its pixel error, see `zoo.metrics.pixel_error`.
        displacement: from each pixel to where it comes from, ``[2, S, S]`` in pixels (x, y).
    """

    picture: np.ndarray
    error: float
    displacement: Tensor


class Look:
    """A mini-batch in the eyes of a model."""

    def __init__(self, model: CollisionModel, scene: Scene) -> None:
        self.model, self.scene = model, scene

    @property
    def z(self) -> Tensor:
        """The vectors of the five collisions, ``[5, D]``."""
        return self._seen[0]

    @torch.inference_mode()
    def predict(self, places: Sequence[int], z: Tensor | None = None) -> list[Prediction]:
        """What vectors ``[K, D]`` (their own by default) make of the fourth frames of K collisions."""
        own, before, truth = self._seen
        places = list(places)
        frame, grid = self.model.decode(own[places] if z is None else z, before[places])
        errors = pixel_error(frame, truth[places]).tolist()
        moved = displacement(grid.float()).permute(0, 3, 1, 2)
        pictures = self.model.to_bytes(frame).permute(0, 2, 3, 1).cpu().numpy()
        return [Prediction(*one) for one in zip(pictures, errors, moved.cpu(), strict=True)]

    @cached_property
    def _seen(self) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors, fourth frames and fifth frames."""
        if self.model.spec.collisions.flow and "flow" not in self.scene.batch:
            raise ZooError(f"{self.model.name} wants optical flow: give the data set this model's own spec.")
        batch = {k: v.to(self.model.device) if torch.is_tensor(v) else v for k, v in self.scene.batch.items()}
        with torch.inference_mode():
            views = self.model.views(batch)
            return self.model.latent(views), views.clips[:, :, SEEN - 1], views.clips[:, :, SEEN]


def shapes_of(folders: Sequence[str]) -> str:
    """Of a mini-batch's folders: ``"cone -> cube"`` for what moves and what stands, or nothing where nothing tells."""
    found = _NAMED.fullmatch(folders[0])
    return f"{found[1]} -> {found[2]}" if found else ""
