"""The datamodule that all video data sets share; a data set adds only where its files and labels are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, Dataset

from zoo.data.check import CheckReport, check_records
from zoo.data.loader import OnceSampler, ResumableLoader, TestClips, TrainClips, TrainSampler, VideoRecord, collate
from zoo.errors import DataError, MissingDataError
from zoo.spec import VideoSpec


class VideoDataModule(pl.LightningDataModule):
    """Serves the clips that a model's `VideoSpec` asks for, from a data set's official files.

    Batches are dictionaries. Training: ``clips`` uint8 ``[B, 3, T, H, W]`` (T is ``spec.frames``, and two more for
    past-and-target clips), ``label`` int64 ``[B]`` (-1 where there are no classes), ``index`` int64 ``[B]``.
    Evaluation: ``clips`` uint8 ``[B, V, 3, T, H, W]`` (the V crops of one clip), ``label``, ``index`` (the video's
    number in its list) and ``view`` (the number of the row's first view, of ``spec.views``).

    Attributes:
        classes: class names in the order of their numbers; none where the videos are not labelled.
        held_out: whether there is a validation split.
        serves_features: whether it serves rows of features instead of clips.
        unreadable: video number to the decoder's message, filled while the data is read.
    """

    classes: tuple[str, ...] = ()
    held_out: bool = True
    serves_features: bool = False

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
            spec: what the model wants; `zoo fit` and `zoo.reproduce` fill it in from the model.
            batch_size: clips per process and step when training; rows (one clip of one video) when evaluating.
            num_workers: processes that decode.
            seed: of the order of the videos and of every random crop.
        """
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise DataError(
                f"batch_size must be at least 1 and num_workers at least 0, got {batch_size}, {num_workers}."
            )
        self.root = Path(root).expanduser()
        self.spec = spec or VideoSpec()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.unreadable: dict[int, str] = {}
        self._records: dict[str, list[VideoRecord]] = {}

    def find_records(self, split: str) -> tuple[list[VideoRecord], int]:
        """The videos of a split (``"train"`` or ``"val"``) that exist, and how many the official list names."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its videos are.")

    def records(self, split: str) -> list[VideoRecord]:
        """The videos of a split that are there; missing ones are counted in a warning, none at all is an error."""
        if split not in self._records:
            records, expected = self.find_records(split)
            if not records:
                raise (MissingDataError if expected else DataError)(
                    f"{self.root}: none of the {expected} videos of split {split!r} is there. "
                    f"`zoo data check {self.name} {self.root}` says where they are looked for."
                )
            if len(records) < expected:
                warnings.warn(
                    f"{self.root}: {expected - len(records)} of {expected} videos of split {split!r} are missing.",
                    stacklevel=2,
                )
            self._records[split] = records
        return self._records[split]

    @property
    def name(self) -> str:
        """The data set's name in `zoo.datamodule`."""
        return type(self).__name__.lower()

    def setup(self, stage: str) -> None:
        """Find the videos once, before any worker starts, so that a wrong root is an error at once."""
        self._refuse_classifier(stage)
        for split in ("train", "val")[: 1 + self._is_validated()] if stage == "fit" else ("val",):
            self.records(split)
        self.unreadable.clear()

    def train_dataloader(self) -> DataLoader:
        data = self._training_data()
        sampler = TrainSampler(data, *self._place(), seed=self.seed)
        return ResumableLoader(data, sampler=sampler, drop_last=len(sampler) >= self.batch_size, **self._options())

    def val_dataloader(self) -> DataLoader | list:
        """One view of every video: the middle clip's centre crop; no loader where no split is held out."""
        if not self.held_out:
            # Lightning asks whether no loader was meant. It was.
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            return []
        return self._evaluation(self.spec.replace(clips=1, crops=1))

    def test_dataloader(self) -> DataLoader:
        """The full protocol: ``spec.clips`` x ``spec.crops`` views of every video."""
        return self._evaluation(self.spec)

    predict_dataloader = test_dataloader

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos are there, missing or unreadable, and what to do; see `zoo.data.check`.

        Raises:
            DataError: the root holds no split at all.
        """
        splits = [split for split in ("train", "val") if self.has_split(split)]
        found = {
            split: self.find_records(split) for split in splits or ("val",)
        }  # none: let the search say what it wants
        return check_records(self.name, self.root, found, decode=decode, workers=max(self.num_workers, 1))

    def has_split(self, split: str) -> bool:
        """Whether the root names this split at all (a copy of the validation part alone is a fair thing to have)."""
        return True

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Collect in the main process what the workers could not decode."""
        if isinstance(batch, dict):
            self.unreadable.update(batch.pop("unreadable", ()))
        return batch

    def teardown(self, stage: str) -> None:
        """Bring together what the processes of a run could not decode, each its part."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[dict[int, str]] = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(gathered, self.unreadable)
            for part in gathered:
                self.unreadable.update(part)

    def _is_validated(self) -> bool:
        """Whether training asks for held-out videos: not where there are none, nor for a model without validation."""
        model = self.trainer.lightning_module if self.trainer else None
        return self.held_out and (model is None or is_overridden("validation_step", model))

    def _refuse_classifier(self, stage: str) -> None:
        """A head that tells classes apart has nothing to learn or to be scored by here."""
        model = self.trainer.lightning_module if self.trainer else None
        if stage != "predict" and not self.classes and getattr(model, "num_classes", None) is not None:
            raise DataError(
                f"{self.name} in {self.root} has no classes, and the model tells {model.num_classes} apart. Give it "
                "labelled videos (kinetics, or folder with root/train/CLASS/video.mp4), or train a model that needs "
                "no labels."
            )

    def _evaluation(self, spec: VideoSpec) -> DataLoader:
        data = self._evaluation_data(spec)
        return DataLoader(data, sampler=OnceSampler(data, *self._place()), **self._options())

    def _training_data(self) -> Dataset:
        """What an epoch is drawn from, asked with ``(index, epoch)``."""
        return TrainClips(self.records("train"), self.spec, self.seed)

    def _evaluation_data(self, spec: VideoSpec) -> Dataset:
        """What a test sees, row by row."""
        return TestClips(self.records("val"), spec)

    def _place(self) -> tuple[int, int]:
        """This process's number and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": False,
            # A generator of its own: the loader draws a seed from it, and the model's random numbers stay untouched.
            "generator": torch.Generator().manual_seed(self.seed),
        }
