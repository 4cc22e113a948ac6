"""DAVIS (Perazzi et al. 2016; Pont-Tuset et al. 2017), video object segmentation, as it is released.

    root/                                                    the folder DAVIS of the archive
      JPEGImages/480p/bear/00000.jpg ...                     or Full-Resolution (2017), 1080p (2016)
      Annotations/480p/bear/00000.png ...                    2017: palette, values are object numbers; 2016: 0 and 255
      ImageSets/2017/val.txt                                 one sequence a line; val has 30
      ImageSets/2016/val.txt  or  ImageSets/480p/val.txt     the same, or "/JPEGImages/... /Annotations/..." a line

The annotations of the test sets (test-dev, test-challenge) hold the first frame alone; their scores are the server's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from zoo.data.images import find_frames, find_images
from zoo.data.listing import plain_name, read_lines, read_names
from zoo.data.masks import read_mask, write_mask
from zoo.data.sequences import SequenceDataModule, SequenceRecord, Truth, TruthReader
from zoo.errors import DataError
from zoo.spec import VideoSpec


class Davis2017(SequenceDataModule):
    """DAVIS-2017: several objects a sequence, each with its number (see the module's docstring for the layout)."""

    splits = ("train", "val", "test-dev", "test-challenge")
    year = "2017"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        resolution: str = "480p",
        split: str = "val",
        task: Literal["masks", "reconstruction"] = "masks",
    ) -> None:
        """As `SequenceDataModule`.

        Args:
            root: the folder that holds JPEGImages/.
            spec: what the model wants.
            batch_size: frames in a run.
            num_workers: processes that decode.
            seed: of nothing here.
            resolution: the folder of frames and annotations.
            split: the list that is scored.
            task: ``"masks"`` propagates objects; ``"reconstruction"`` asks for the frames alone, without annotations.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if split not in self.splits:
            raise DataError(f"{self.name} has the splits {', '.join(self.splits)}, not {split!r}.")
        if task not in ("masks", "reconstruction"):
            raise DataError(f"{self.name}: task is 'masks' or 'reconstruction', got {task!r}.")
        self.resolution = plain_name(resolution, "resolution")
        self.evaluated = split
        self.kind = "masks" if task == "masks" else "frames"

    @property
    def read_truth(self) -> TruthReader:
        return partial(read_masks, one_object=False)

    def has_split(self, split: str) -> bool:
        return any(place.is_file() for place in self._lists(split))

    def find_sequences(self, split: str) -> tuple[list[SequenceRecord], int]:
        places = self._lists(split)
        names = self._names(next((place for place in places if place.is_file()), places[0]))
        found = []
        for name in names:
            folder, truth = (self.root / kind / self.resolution / name for kind in ("JPEGImages", "Annotations"))
            if not folder.is_dir() or (self.kind == "masks" and not truth.is_dir()):
                continue
            frames = find_images(folder) if self.kind == "frames" else find_frames(folder, truth)
            masks = [truth / f"{frame.stem}.png" for frame in frames] if self.kind == "masks" else []
            if split.startswith("test"):
                masks = masks[:1]
            if frames:
                found.append(SequenceRecord(name, tuple(frames), (*masks, *[None] * (len(frames) - len(masks)))))
        return found, len(names)

    def _lists(self, split: str) -> list[Path]:
        """Where the split's list may lie."""
        return [self.root / "ImageSets" / self.year / f"{split}.txt"]

    def _names(self, path: Path) -> list[str]:
        return read_names(path)


class Davis2016(Davis2017):
    """DAVIS-2016: one object a sequence, whatever its parts are numbered in the annotation."""

    splits = ("train", "val")
    year = "2016"

    @property
    def read_truth(self) -> TruthReader:
        return partial(read_masks, one_object=True)

    def _lists(self, split: str) -> list[Path]:
        return [self.root / "ImageSets" / folder / f"{split}.txt" for folder in (self.year, self.resolution)]

    def _names(self, path: Path) -> list[str]:
        """The first release lists frames, "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png" a line."""
        names: dict[str, None] = {}
        for number, text in read_lines(path):
            where, picture = f"{path}, line {number}", text.split()[0]
            parts = picture.removeprefix("/").split("/")
            if "/" in picture and (len(parts) != 4 or parts[0] != "JPEGImages"):
                raise DataError(f"{where}: {text!r} is neither a sequence nor a frame and its annotation.")
            names[plain_name(parts[2] if "/" in picture else picture, where)] = None
        return list(names)


def read_masks(record: SequenceRecord, numbers: range, *, one_object: bool) -> list[Truth]:
    """The masks of these frames, None where there is none to have."""
    return [
        {"mask": torch.from_numpy(read_mask(path, grey="binary" if one_object else None))}
        if (path := record.truth[number])
        else None
        for number in numbers
    ]


def export_results(root: str | Path, sequence: str, masks: Iterable[np.ndarray], start: int = 0) -> list[Path]:
    """Write masks as the benchmark's server and its tool want them: ``root/<sequence>/00000.png`` and on.

    Args:
        root: the folder of the results.
        sequence: its name in the official list.
        masks: uint8 ``[H, W]`` each, object numbers as in the first frame's annotation; one frame after another.
        start: the number of the first of them.

    Returns:
        The files.

    Raises:
        DataError: the sequence's name is no folder's, or a mask is none.
    """
    folder = Path(root) / plain_name(sequence, "a sequence's name")
    written = []
    for number, mask in enumerate(masks, start):
        written.append(folder / f"{number:05d}.png")
        write_mask(written[-1], mask)
    return written
