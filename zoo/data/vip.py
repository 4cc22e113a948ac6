"""VIP (Zhou et al. 2018), body parts of several people in video, as it is released.

    root/                                                     the folder VIP_Fine, or the one that holds it
      Images/videos1/000000000001.jpg ...
      Annotations/Category_ids/videos1/000000000001.png       grey, class 0..19
      Annotations/Instance_ids/videos1/000000000001.png .txt  number of the part instance; "<instance> <class> ..."
      lists/val_videos.txt                                    one video a line, val has 50

One frame in 25 is annotated. Annotations/ may also be left out of the paths, as the authors' own code has them.
VIP_Sequence adds frames around the annotated ones, as ``adjacent_frames/videos1/000000000002.jpg``; with
``frames="all"`` they are served between them and have no truth.

Not verified on the release itself: which numbers the frames have (they are taken in their order), that VIP_Fine's
Images holds the annotated frames alone, and where exactly VIP_Sequence unpacks to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from zoo.data.images import find_frames, find_images
from zoo.data.listing import plain_name, read_lines
from zoo.data.masks import VOID, read_instances, read_mask
from zoo.data.sequences import SequenceDataModule, SequenceRecord, Truth, TruthReader
from zoo.errors import DataError
from zoo.spec import VideoSpec

PART_CLASSES = (
    "background", "hat", "hair", "gloves", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants",
    "torso-skin", "scarf", "skirt", "face", "left-arm", "right-arm", "left-leg", "right-leg", "left-shoe", "right-shoe",
)  # fmt: skip
"""Names of the classes in the order of the authors' loader. Their script for mean IoU has another order; which one is
right was not verified, and means over classes do not depend on it."""

_MOST_INSTANCES = 1 << 16


class Vip(SequenceDataModule):
    """VIP's parts and part instances (see the module's docstring for the layout)."""

    kind = "parts"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        split: str = "val",
        frames: Literal["annotated", "all"] = "annotated",
    ) -> None:
        """As `SequenceDataModule`.

        Args:
            root: the folder VIP_Fine, or the one that holds it.
            spec: what the model wants.
            batch_size: frames in a run.
            num_workers: processes that decode.
            seed: of nothing here.
            split: the list that is scored.
            frames: ``"annotated"`` propagates over VIP_Fine's frames, as the public code for this test does;
                ``"all"`` also over those of VIP_Sequence between them.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if split not in self.splits:
            raise DataError(f"{self.name} has annotations for {' and '.join(self.splits)}, not for {split!r}.")
        if frames not in ("annotated", "all"):
            raise DataError(f"{self.name}: frames is 'annotated' or 'all', got {frames!r}.")
        self.evaluated, self.frames = split, frames

    @property
    def read_truth(self) -> TruthReader:
        return read_parts

    def has_split(self, split: str) -> bool:
        return self._list(split).is_file()

    def find_sequences(self, split: str) -> tuple[list[SequenceRecord], int]:
        names = self._names(self._list(split))
        fine = self._fine
        annotations = fine / "Annotations" if (fine / "Annotations").is_dir() else fine
        between = self._between() if self.frames == "all" else None
        found = []
        for name in names:
            classes = annotations / "Category_ids" / name
            folder = fine / "Images" / name
            if not folder.is_dir() or not classes.is_dir():
                continue
            annotated = {path.stem: path for path in find_images(classes)}
            pictures = {path.stem: path for path in find_frames(folder, classes)}
            if between is not None:
                if not (between / name).is_dir():
                    raise DataError(f"{between / name} is not there; unpack all of VIP_Sequence, or use the annotated.")
                pictures = {path.stem: path for path in find_images(between / name)} | pictures
            # What comes before the first annotated frame has nothing to go by.
            start = min(map(_number, annotated.values()), default=0)
            frames = sorted((path for path in pictures.values() if _number(path) >= start), key=_number)
            if not frames:
                continue
            found.append(SequenceRecord(name, tuple(frames), tuple(annotated.get(path.stem) for path in frames)))
        return found, len(names)

    @property
    def _fine(self) -> Path:
        return self.root / "VIP_Fine" if (self.root / "VIP_Fine").is_dir() else self.root

    def _between(self) -> Path:
        """Where the folders of VIP_Sequence's frames lie."""
        fine = self._fine
        sequence = self.root / "VIP_Sequence"
        places = [self.root / "adjacent_frames", fine / "adjacent_frames", sequence / "adjacent_frames", sequence]
        if place := next((place for place in places if place.is_dir()), None):
            return place
        raise DataError(
            f"{self.root} holds neither adjacent_frames nor VIP_Sequence, where the frames between the annotated ones "
            "are looked for; unpack VIP_Sequence there, or take frames='annotated'."
        )

    def _list(self, split: str) -> Path:
        return self._fine / "lists" / f"{split}_videos.txt"

    def _names(self, path: Path) -> list[str]:
        """A line may be a path, of which the last part is the video's name."""
        names = {}
        for number, text in read_lines(path):
            names[plain_name(text.rstrip("/").rpartition("/")[2], f"{path}, line {number}")] = None
        return list(names)


def read_parts(record: SequenceRecord, numbers: range) -> list[Truth]:
    """The parts of these frames; None where a frame is not annotated."""
    return [_read_frame(path) if (path := record.truth[number]) else None for number in numbers]


def _read_frame(path: Path) -> dict[str, torch.Tensor]:
    """What Category_ids (the given path) and Instance_ids say of a frame."""
    semantic = read_mask(path, grey="ids")
    if np.any((semantic >= len(PART_CLASSES)) & (semantic != VOID)):
        raise DataError(f"{path} holds class {semantic[semantic != VOID].max()}; VIP has 0 to {len(PART_CLASSES) - 1}.")
    place = path.parents[2] / "Instance_ids" / path.parent.name / path.name
    instances = read_instances(place)
    classes = read_instance_classes(place.with_suffix(".txt"))
    if nameless := sorted(set(np.unique(instances).tolist()) - {0} - set(classes)):
        raise DataError(
            f"{place} shows instance {nameless[0]}, of which {place.stem}.txt says nothing. Fetch it again."
        )
    table = torch.zeros(max(classes, default=0) + 1, dtype=torch.int64)
    for instance, number in classes.items():
        table[instance] = number
    return {"semantic": torch.from_numpy(semantic), "instances": torch.from_numpy(instances), "classes": table}


def read_instance_classes(path: Path) -> dict[int, int]:
    """Part instance to class out of an Instance_ids list, "<instance> <class> ..." a line.

    Raises:
        DataError: there is no such list, or a line of it cannot be meant.
    """
    classes: dict[int, int] = {}
    for number, text in read_lines(path):
        fields = text.split()[:2]
        if len(fields) < 2 or not all(field.isascii() and field.isdigit() and len(field) < 8 for field in fields):
            raise DataError(f"{path}, line {number}: {text!r} is not '<instance> <class> ...'. Fetch it again.")
        instance, part = map(int, fields)
        if not 0 < instance < _MOST_INSTANCES or not part < len(PART_CLASSES):
            raise DataError(f"{path}, line {number}: there is no instance {instance} of class {part}. Fetch it again.")
        classes[instance] = part
    return classes


def _number(path: Path) -> int:
    if not (path.stem.isascii() and path.stem.isdigit()):
        raise DataError(f"{path}: VIP's frames are named by numbers; remove what does not belong there.")
    return int(path.stem)
