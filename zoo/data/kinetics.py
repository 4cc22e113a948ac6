"""Kinetics (Kay et al. 2017) as it is released: csv lists and trimmed videos, in class folders or flat.

    root/
      train.csv  val.csv                       label,youtube_id,time_start,time_end,split[,is_cc]   (or in annotations/)
      train/air drumming/ab12Cd34EfG_000010_000020.mp4     spaces or underscores in the folder, or no folder at all
      val/...

A split without its csv is read from its class folders alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from zoo.data import sandbox
from zoo.data.datamodule import VideoDataModule
from zoo.data.folder import videos_by_stem
from zoo.data.labels import class_names
from zoo.data.loader import VideoRecord
from zoo.data.sandbox.rendered import Rendered
from zoo.errors import DataError, MissingDataError

_SPLITS = {"train": ("train", "train_256"), "val": ("val", "validate", "validation", "val_256")}


class Kinetics(VideoDataModule):
    """Kinetics-400: 400 classes of human action, ten-second videos (see the module's docstring for the layout)."""

    classes = class_names("kinetics400")

    @property
    def class_numbers(self) -> dict[str, int]:
        """Class name to number."""
        return {name: number for number, name in enumerate(self.classes)}

    def has_split(self, split: str) -> bool:
        return self._annotation(split) is not None or self._folder(split) is not None

    def find_records(self, split: str) -> tuple[list[VideoRecord], int]:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the folder that holds train/ and val/ as root.")
        folder, annotation = self._folder(split), self._annotation(split)
        if folder is None:
            raise (MissingDataError if annotation else DataError)(
                f"{self.root}: no folder {' or '.join(_SPLITS[split])} with the videos of split {split!r}."
            )
        if annotation is None:
            records = self._from_folders(folder)
            return records, len(records)
        wanted = self._read_csv(annotation)
        paths = videos_by_stem(folder)
        found = [VideoRecord(paths[name], label, name) for name, label in wanted if name in paths]
        # A few releases leave the times out of the file names.
        if not found:
            found = [VideoRecord(paths[n[:-14]], label, n) for n, label in wanted if n[:-14] in paths]
        return found, len(wanted)

    def _folder(self, split: str) -> Path | None:
        return next((self.root / name for name in _SPLITS[split] if (self.root / name).is_dir()), None)

    def _annotation(self, split: str) -> Path | None:
        places = (self.root / sub / f"{name}.csv" for sub in ("", "annotations") for name in _SPLITS[split])
        return next((place for place in places if place.is_file()), None)

    def _read_csv(self, path: Path) -> list[tuple[str, int]]:
        """(file stem, class number) of every row; a row that cannot be meant is refused with its line."""
        numbers, rows = self.class_numbers, []
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if lacking := {"label", "youtube_id", "time_start", "time_end"} - set(reader.fieldnames or ()):
                raise DataError(
                    f"{path}: the header lacks {', '.join(sorted(lacking))}; is this the official Kinetics csv?"
                )
            for row in reader:
                label = (row["label"] or "").strip().strip('"')
                if label not in numbers:
                    raise DataError(f"{path}, line {reader.line_num}: {label!r} is none of the {len(numbers)} classes.")
                try:
                    start, end = int(float(row["time_start"])), int(float(row["time_end"]))
                except (TypeError, ValueError, OverflowError):
                    raise DataError(f"{path}, line {reader.line_num}: times must be numbers of seconds.") from None
                rows.append((f"{row['youtube_id']}_{start:06d}_{end:06d}", numbers[label]))
        return rows

    def _from_folders(self, folder: Path) -> list[VideoRecord]:
        by_folder = {name.replace(" ", "_"): number for name, number in self.class_numbers.items()}
        records = []
        for place in sorted(p for p in folder.iterdir() if p.is_dir()):
            number = by_folder.get(place.name.replace(" ", "_"))
            if number is None:
                raise DataError(
                    f"{place}: the folder's name is none of the {len(by_folder)} classes of {self.name}. "
                    "Classes of your own are the data set 'folder'."
                )
            records += [VideoRecord(path, number, name) for name, path in sorted(videos_by_stem(place).items())]
        return records


class SandboxKinetics(Rendered, Kinetics):
    """The embedded videos in the Kinetics layout, rendered into the cache where no root is given."""

    classes: Sequence[str] = sandbox.CLASSES
    name = "sandbox_kinetics"
    folder = f"kinetics-{sandbox.RECIPE}"

    def render(self, *, training: bool) -> None:
        sandbox.render_kinetics(self.root, **({} if training else {"train": 0}))
