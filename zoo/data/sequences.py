"""Sequences: videos in which labels of the first frame are carried on and compared with those of later frames.

DAVIS, JHMDB and VIP are folders of pictures with annotations beside them. A model needs their frames in order and all
of them, so a sequence goes to one process whole, in runs of consecutive frames that the workers decode ahead.

What is wrong with a sequence never ends an evaluation: the sequence is given up and reported. Missing annotations,
frames of two sizes, masks of another size than their frame and a first frame without any label are all found here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from zoo.data.check import CheckReport, check_records, digest_of
from zoo.data.datamodule import VideoDataModule
from zoo.data.images import differing_sizes, find_images, image_size, read_image
from zoo.data.masks import VOID
from zoo.data.video import iter_frames, probe
from zoo.errors import DataError, VideoError
from zoo.spec import VideoSpec

Kind = Literal["masks", "keypoints", "parts", "frames"]
Truth = dict[str, Tensor] | None
_MAPS = ("mask", "semantic", "instances")  # truths that are as large as their frame


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence of a data set.

    Attributes:
        name: in the official list.
        frames: its pictures, in order.
        truth: the file with each frame's annotation, None for a frame that has none to have.
    """

    name: str
    frames: tuple[Path, ...]
    truth: tuple[Path | None, ...]

    @property
    def path(self) -> Path:
        """The folder of its first frame."""
        return self.frames[0].parent

    @property
    def identity(self) -> str:
        """What a list of sequences is hashed by."""
        return f"{self.name} {len(self.frames)}"


# Reads the truths of the frames with these numbers; a plain function, for it travels to the workers.
TruthReader = Callable[[SequenceRecord, range], list[Truth]]


class SequenceRuns(Dataset):
    """Runs of at most ``size`` consecutive frames, sequence after sequence.

    Attributes:
        rows: (sequence, first frame, frame after the last) of every run.
    """

    def __init__(self, records: Sequence[SequenceRecord], size: int, kind: Kind, read_truth: TruthReader) -> None:
        self.records, self.kind, self.read_truth = list(records), kind, read_truth
        self.rows = [
            (index, start, min(start + size, len(record.frames)))
            for index, record in enumerate(self.records)
            for start in range(0, max(len(record.frames), 1), size)  # an empty one has a run, to be reported by
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        index, start, stop = self.rows[row]
        record = self.records[index]
        batch = {"index": index, "length": len(record.frames), "name": record.name, "kind": self.kind}
        try:
            frames, truth = self._read(record, range(start, stop))
        except (VideoError, DataError) as error:
            return {
                **batch,
                "frames": torch.empty(0, 3, 0, 0, dtype=torch.uint8),
                "numbers": torch.empty(0, dtype=torch.int64),
                "truth": [],
                "unreadable": [(index, f"{record.name}: {error}")],
            }
        numbers = torch.arange(start, stop)
        return {**batch, "frames": frames, "numbers": numbers, "truth": truth, "unreadable": []}

    def _read(self, record: SequenceRecord, numbers: range) -> tuple[Tensor, list[Truth]]:
        check_length(record)
        size = image_size(record.frames[0])
        frames = np.empty((len(numbers), *size, 3), dtype=np.uint8)
        for at, number in enumerate(numbers):
            picture = read_image(record.frames[number])
            if picture.shape[:2] != size:
                raise differing_sizes(record.frames[number], picture.shape[:2], size)
            frames[at] = picture
        truth = self.read_truth(record, numbers)
        for number, entry in zip(numbers, truth, strict=True):
            check_truth(record, number, entry, size, self.kind)
        return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), truth


class SequenceSampler(DistributedSampler):
    """Whole sequences to each process, every one once over all of them, shared out by frames.

    Only where a process would get none does it repeat the first sequence, for the others would wait for it; metrics
    know frames by sequence and number and drop repeats.
    """

    def __init__(self, runs: SequenceRuns, rank: int, world_size: int) -> None:
        super().__init__(runs, num_replicas=world_size, rank=rank, shuffle=False)
        owners = _owners([len(record.frames) for record in runs.records], world_size)
        mine = {index for index, owner in enumerate(owners) if owner == rank} or {0}
        self.rows = [row for row, (index, _, _) in enumerate(runs.rows) if index in mine]

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class SequenceLoader(DataLoader):
    """Ends a sequence at the run that could not be read: the workers may have read on, but nothing can follow it."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        given_up = None
        for batch in super().__iter__():
            if batch["index"] == given_up:
                continue
            if batch["unreadable"]:
                given_up = batch["index"]
            yield batch


class SequenceDataModule(VideoDataModule):
    """The datamodule of data sets of sequences; a data set adds where its files are and how its truth is read.

    A batch is a run of consecutive frames of one sequence, at the size they have: ``frames`` uint8 ``[T, 3, H, W]``,
    ``numbers`` int64 ``[T]`` (from 0), ``index`` (the sequence's number in its list), ``length`` (its frames),
    ``name``, ``kind`` and ``truth``, a list of T entries, each None or a dictionary:

    - ``masks``: ``mask`` uint8 ``[H, W]``, object numbers, 0 background, 255 void;
    - ``keypoints``: ``keypoints`` float32 ``[J, 2]``, (x, y) in pixels from 0;
    - ``parts``: ``semantic`` uint8 ``[H, W]``, ``instances`` int64 ``[H, W]`` and ``classes`` int64 ``[N + 1]``, the
      class of each instance number;
    - ``frames``: nothing, the frames themselves are the truth.

    ``unreadable`` is empty, or names the sequence and what is wrong; then ``frames`` is empty, no run of that sequence
    follows, and what came of it before must not be scored.

    Attributes:
        kind: of the truth.
        splits: the splits that have lists of their own.
        evaluated: the split that stands for ``"val"``: the one that is scored.
    """

    kind: Kind
    splits: tuple[str, ...] = ("train", "val")
    evaluated: str = "val"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """
        Args:
            root: the folder of the data set.
            spec: what the model wants; sequences are served whole and at their own size, whatever it says.
            batch_size: frames in a run.
            num_workers: processes that decode.
            seed: of nothing here; sequences come in their list's order.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)

    def find_sequences(self, split: str) -> tuple[list[SequenceRecord], int]:
        """The sequences of an official split that are there, and how many its list names."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its sequences are.")

    @property
    def read_truth(self) -> TruthReader:
        """The function that reads annotations."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its annotations are read.")

    def find_records(self, split: str) -> tuple[list[SequenceRecord], int]:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the folder of {self.name} as root.")
        return self.find_sequences(self.evaluated if split == "val" else split)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            raise self._not_for_training()
        super().setup(stage)

    def train_dataloader(self) -> DataLoader:
        raise self._not_for_training()

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which sequences are there, missing or broken, frame by frame; see `zoo.data.check`.

        Raises:
            DataError: the root is not there, or holds no list at all.
        """
        splits = [split for split in self.splits if self.has_split(split)] or [self.evaluated]
        if not self.root.is_dir():
            self.find_records("val")
        read_truth, kind = self.read_truth, self.kind
        return check_records(
            self.name,
            self.root,
            {split: self.find_sequences(split) for split in splits},
            decode=decode,
            workers=max(self.num_workers, 1),
            examine=lambda record, decode: examine(record, decode, kind, read_truth),
            units=("sequences", "frames"),
        )

    def _evaluation(self, spec: VideoSpec) -> DataLoader:
        runs = SequenceRuns(self.records("val"), self.batch_size, self.kind, self.read_truth)
        options = self._options() | {"batch_size": None, "collate_fn": _as_it_is}
        return SequenceLoader(runs, sampler=SequenceSampler(runs, *self._place()), **options)

    def _not_for_training(self) -> DataError:
        return DataError(
            f"{self.name} is a test of correspondence and is not trained on; train on vlog, kinetics or folder."
        )


# What is wrong with a sequence


def check_length(record: SequenceRecord) -> None:
    """Refuse a sequence in which there is nothing to propagate to."""
    if len(record.frames) < 2:
        raise DataError(f"{record.name} has {len(record.frames)} frames; labels propagate over two or more.")


def check_truth(record: SequenceRecord, number: int, truth: Truth, size: tuple[int, ...], kind: Kind) -> None:
    """Refuse an annotation of another size than its frame, and a first frame that names nothing to follow."""
    for name in _MAPS:
        if truth is not None and name in truth and tuple(truth[name].shape) != tuple(size):
            height, width = truth[name].shape
            raise DataError(
                f"{record.truth[number]} has {width} x {height} pixels, its frame {size[1]} x {size[0]}; frames and "
                "annotations must be of one resolution."
            )
    if number == 0 and kind != "frames" and not _labels_something(truth, size):
        raise DataError(
            f"{record.truth[0] or record.frames[0]}: the first frame of {record.name} shows no labelled object, joint "
            "or part, so there is nothing to propagate."
        )


def examine(record: SequenceRecord, decode: bool, kind: Kind, read_truth: TruthReader) -> tuple[dict[str, str], str]:
    """What is wrong with a sequence, by frame, and one SHA-256 over its files if they were decoded and are whole.

    Without ``decode`` the headers of all frames are read, and the first annotation.
    """
    problems, first = {}, None
    try:
        check_length(record)
    except DataError as error:
        return {record.name: str(error)}, ""
    for number, frame in enumerate(record.frames):
        try:
            size = read_image(frame).shape[:2] if decode else image_size(frame)
            first = first or size
            if size != first:
                raise differing_sizes(frame, size, first)
            if decode or number == 0:
                check_truth(record, number, read_truth(record, range(number, number + 1))[0], size, kind)
            elif record.truth[number] and not record.truth[number].is_file():
                raise DataError(f"there is no annotation {record.truth[number]}; fetch the archive again.")
        except (VideoError, DataError) as error:
            problems[f"{record.name}/{frame.stem}"] = str(error)
    if problems or not decode:
        return problems, ""
    files = dict.fromkeys([*record.frames, *(path for path in record.truth if path)])
    return {}, digest_of(files)


def _labels_something(truth: Truth, size: tuple[int, ...]) -> bool:
    if truth is None:
        return False
    if "keypoints" in truth:
        x, y = truth["keypoints"].unbind(1)
        return bool(((x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])).any())
    labels = truth["mask" if "mask" in truth else "semantic"]
    return bool(((labels != 0) & (labels != VOID)).any())


def _owners(lengths: Sequence[int], world_size: int) -> list[int]:
    """The process of each sequence: neighbours stay together, and each process gets about as many frames (and, where
    there are enough, at least one sequence)."""
    count, total = len(lengths), sum(lengths)
    middles = [end - length / 2 for end, length in zip(accumulate(lengths), lengths, strict=True)]
    starts = [0]
    for rank in range(1, min(world_size, count)):
        fair = bisect_left(middles, total * rank / world_size)
        starts.append(min(max(fair, starts[-1] + 1), count - min(world_size, count) + rank))
    return [bisect_right(starts, index) - 1 for index in range(count)]


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


# Any video, frame by frame


@dataclass(frozen=True)
class FrameSource:
    """The frames of a video file or of a folder of pictures; iterate over it, as often as you like.

    Iterating gives uint8 ``[H, W, 3]`` RGB, upright, a few frames in memory at once.

    Attributes:
        path: the file or folder.
        names: a name for each frame, such as results are stored under: the pictures', or 00000, 00001, ...
        size: ``(height, width)`` of the frames.
        fps: frames a second; None for pictures, and where a file does not tell.
        pictures: the files in a folder, () for a video file.
    """

    path: Path
    names: tuple[str, ...]
    size: tuple[int, int]
    fps: float | None
    pictures: tuple[Path, ...] = ()

    @property
    def length(self) -> int:
        """Frames."""
        return len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """
        Raises:
            VideoError: a frame is broken, or of another size than the first.
        """
        if not self.pictures:
            yield from iter_frames(self.path)
        for path in self.pictures:
            frame = read_image(path)
            if frame.shape[:2] != self.size:
                raise differing_sizes(path, frame.shape[:2], self.size)
            yield frame


def frames_of(path: str | PathLike[str]) -> FrameSource:
    """The frames of a video file, or of the pictures in a folder by name (2.jpg before 10.jpg).

    Raises:
        VideoError: the file is no video, or the folder holds no picture.
    """
    path = Path(path)
    if not path.is_dir():
        info = probe(path)
        names = tuple(f"{number:05d}" for number in range(info.frames))
        return FrameSource(path, names, (info.height, info.width), info.fps or None)
    pictures = tuple(find_images(path))
    if not pictures:
        raise VideoError(f"{path} holds no pictures; give a video file, or a folder of frames as .jpg or .png.")
    return FrameSource(path, tuple(picture.stem for picture in pictures), image_size(pictures[0]), None, pictures)
