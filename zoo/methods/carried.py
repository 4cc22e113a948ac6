"""What can be carried through a video: masks, joints, painted stripes, body parts with their instances.

Each kind knows how the first frame's labels become soft labels over feature cells, and how propagated soft labels are
read off as the same kind of labels for another frame (`zoo.networks.label_maps` does the arithmetic).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.masks import read_mask
from zoo.errors import DataError, ZooError
from zoo.networks import label_maps

_FAR = 1e6  # pixels; no picture is so large, and NaN is no number of them


@dataclass(frozen=True)
class View:
    """The sizes that labels go through.

    Attributes:
        picture: (height, width) of the video's frames, in pixels.
        size: side of the square that the encoder gets them as; None where they keep their size.
        cells: (height, width) of its feature maps.
    """

    picture: tuple[int, int]
    size: int | None
    cells: tuple[int, int]


class Carried:
    """Labels of the first frame.

    Attributes:
        given: they themselves, as tensors.
        labels: soft labels over cells ``[K, h, w]``, what a `Propagator` starts from.
    """

    given: Any
    labels: Tensor

    @staticmethod
    def read_file(path: str | os.PathLike) -> Any:
        """Labels as a user keeps them."""
        raise NotImplementedError

    def read(self, soft: Tensor) -> Any:
        """Propagated soft labels ``[K, h, w]`` as labels like ``given``."""
        raise NotImplementedError


class Masks(Carried):
    """Objects by number, uint8 ``[H, W]``: 0 is the background, 255 is nobody's and counts as background."""

    def __init__(self, first: Any, view: View, device: torch.device) -> None:
        self.view, self.given = view, _checked(first, view.picture).to(device)
        self.labels, self.classes = label_maps.mask_to_labels(self.given, view.cells, size=view.size)

    @staticmethod
    def read_file(path: str | os.PathLike) -> np.ndarray:
        return read_mask(Path(path))

    def read(self, soft: Tensor) -> Tensor:
        return label_maps.labels_to_mask(soft, self.classes, self.view.picture, size=self.view.size)


class Stripes(Masks):
    """Six stripes painted across the first frame's objects: a texture whose parts can be told apart (section 2.4.5)."""

    def __init__(self, first: Any, view: View, device: torch.device) -> None:
        self.view, mask = view, _checked(first, view.picture).to(device)
        self.labels, self.classes = label_maps.stripes_to_labels(mask, view.cells, size=view.size)
        if not self.labels[1:].any():
            raise ZooError("the mask's object is too small for a texture: it covers no cell of the features by half.")
        self.given = torch.where(mask > 0, self.read(self.labels), 0)


class Keypoints(Carried):
    """Joints ``[J, 2]``, (x, y) in pixels; a joint that is not there is NaN, NaN."""

    def __init__(self, first: Any, view: View, device: torch.device) -> None:
        joints = torch.as_tensor(first["keypoints"] if isinstance(first, dict) else first, dtype=torch.float32)
        if joints.ndim != 2 or joints.shape[1] != 2 or not len(joints):
            raise ZooError(f"keypoints must be [J, 2], (x, y) in pixels, got {list(joints.shape)}.")
        height, width = view.picture
        inside = (joints >= 0).all(1) & (joints[:, 0] < width) & (joints[:, 1] < height)  # NaN is not
        if not inside.any():
            raise ZooError(
                f"not one of the {len(joints)} keypoints lies in the first frame of {width} x {height} pixels; give "
                "(x, y) in its pixels."
            )
        self.given, self.view = joints.to(device), view
        self.labels = label_maps.keypoints_to_labels(self.given, view.cells, view.picture)

    @staticmethod
    def read_file(path: str | os.PathLike) -> np.ndarray:
        return read_keypoints(path)[1]

    def read(self, soft: Tensor) -> Tensor:
        return label_maps.labels_to_keypoints(soft, self.view.picture)


class Parts(Carried):
    """Body parts twice over: by class (``semantic``) and by person (``instances``, whose classes ``classes`` names).

    ``scores`` of what is read is the mean soft label of each instance's pixels, for the paper says nothing of how
    instances are ranked.
    """

    def __init__(self, first: dict[str, Tensor], view: View, device: torch.device) -> None:
        semantic, instances, self.classes = (first[key].to(device) for key in ("semantic", "instances", "classes"))
        self.view, semantic = view, torch.where(semantic == label_maps.VOID, 0, semantic)
        by_class, self.parts = label_maps.mask_to_labels(semantic, view.cells, size=view.size)
        by_person, self.people = label_maps.mask_to_labels(instances, view.cells, size=view.size, void=None)
        if len(self.parts) == 1:
            raise DataError("the first frame shows no body part: its part map is empty, there is nothing to follow.")
        self.labels = torch.cat((by_class, by_person))
        scores = torch.ones(len(self.classes), device=device)
        self.given = {"semantic": semantic, "instances": instances, "classes": self.classes, "scores": scores}

    def read(self, soft: Tensor) -> dict[str, Tensor]:
        view = self.view
        by_class, by_person = soft.split((len(self.parts), len(self.people)))
        scores = torch.zeros(len(self.classes), device=soft.device)
        square = (view.size, view.size) if view.size else view.picture
        scores[self.people] = label_maps.mean_labels(by_person, square)
        return {
            "semantic": label_maps.labels_to_mask(by_class, self.parts, view.picture, size=view.size),
            "instances": label_maps.labels_to_mask(by_person, self.people, view.picture, size=view.size),
            "classes": self.classes,
            "scores": scores,
        }


KINDS: dict[str, type[Carried]] = {"masks": Masks, "keypoints": Keypoints, "stripes": Stripes, "parts": Parts}


def read_keypoints(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Names and places of keypoints from a JSON file: ``{"head": [x, y], ...}`` or ``[[x, y], ...]``, in pixels.

    A keypoint that is not there is null.

    Raises:
        DataError: not such a file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from None
    named = content if isinstance(content, dict) else None
    places = list(content.values()) if named is not None else content
    if not isinstance(places, list) or not places or not all(_is_place(place) for place in places):
        raise DataError(f'{path}: keypoints must be {{"head": [x, y], ...}} or [[x, y], ...] in pixels (or null).')
    names = list(named) if named is not None else [str(number) for number in range(len(places))]
    return names, np.array([place or (np.nan, np.nan) for place in places], dtype=np.float32)


def _is_place(place: Any) -> bool:
    if place is None:
        return True
    numbers = isinstance(place, list) and len(place) == 2
    return numbers and all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < _FAR for v in place)


def _checked(first: Any, picture: tuple[int, int]) -> Tensor:
    """A mask of the picture's size with an object in it, void made background."""
    mask = torch.as_tensor(first["mask"] if isinstance(first, dict) else first)
    if mask.is_floating_point() or mask.is_complex():
        raise ZooError(f"a mask holds object numbers (integers), this one is {mask.dtype}.")
    if tuple(mask.shape) != tuple(picture):
        wanted, got = (" x ".join(map(str, reversed(tuple(size)))) for size in (picture, mask.shape))
        raise ZooError(f"the mask is of {got} pixels, the video of {wanted}: draw it on the video's first frame.")
    if int(mask.min()) < 0 or int(mask.max()) > label_maps.VOID:
        raise ZooError(
            f"the mask holds numbers from {int(mask.min())} to {int(mask.max())}; objects are 1 to 254, 0 is the "
            "background and 255 is nobody's."
        )
    mask = mask.to(torch.uint8)
    mask = torch.where(mask == label_maps.VOID, 0, mask)
    if not mask.any():
        raise ZooError("the first frame's mask is empty: every pixel is 0, there is no object to follow.")
    return mask
