"""Videos with what is said in them, laid out as HowTo100M (Miech et al. 2019) is; MIL-NCE trains on clips and captions.

    root/
      videos/ID.mp4 (or .webm, .mkv, ...)      also in folders right below; or right in the root
      captions/ID.csv  or  caption.json        see `zoo.data.narration`
      HowTo100M_v1.csv                         video_id,...: the videos that count; without it, all that are there

A video's captions are read when it is drawn, so that a million of them cost nothing at the start (caption.json is read
whole). Nobody holds videos out officially: a part of them, chosen by a hash of the id, is validated on.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.data.check import CheckReport, check_records, examine_video
from zoo.data.datamodule import VideoDataModule
from zoo.data.folder import videos_by_stem
from zoo.data.json_files import read_json
from zoo.data.listing import place_inside, plain_name, read_lines
from zoo.data.narrated_loader import NarratedClips, NarratedRecord, collate_narrated
from zoo.errors import DataError
from zoo.networks.sentences import split_words
from zoo.spec import VideoSpec


class Narrated(VideoDataModule):
    """Videos with captions (see the module's docstring for the layout).

    Batches, in training and in evaluation: ``clips`` uint8 ``[B, 3, T, S, S]``; ``captions``, B lists of C strings, the
    candidates, first the one that the clip was cut by; ``times`` float64 ``[B, 2]``, the clip's seconds, a NumPy array;
    ``index`` int64 ``[B]``, the video's number in its list. Evaluation takes one clip of each video that is held out,
    always the same one, and the middle of its pictures.
    """

    name = "howto100m"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        csv: str = "HowTo100M_v1.csv",
        captions: int = 4,
        val_share: float = 0.01,
        exclude: str | Path | None = None,
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder with videos/ and captions/ (or caption.json).
            spec: what the model wants.
            batch_size: clips per process and step.
            num_workers: processes that decode.
            seed: of the order and of every random draw.
            csv: the list of the videos that count, relative to the root; where there is none all videos do.
            captions: candidates of a clip.
            val_share: part of the videos that is held out, chosen by a hash of the id.
            exclude: a file with ids, one a line, that are left out: those of data sets that are tested on.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if captions < 1 or not 0 <= val_share < 1:
            raise DataError(
                f"{self.name}: captions must be at least 1 and val_share at least 0 and below 1, got {captions}, "
                f"{val_share}."
            )
        self.csv, self.captions, self.val_share, self.exclude = csv, captions, val_share, exclude
        self.held_out = val_share > 0

    def has_split(self, split: str) -> bool:
        return split == "train" or self.held_out

    def split_names(self, split: str) -> list[str]:
        """The ids of a split, in the order of the list."""
        return [name for name in self._listed if (name in self._held) == (split == "val")]

    def find_records(self, split: str) -> tuple[list[NarratedRecord], int]:
        listed = self.split_names(split)
        there = [name for name in listed if name in self._videos]
        records = [record for name in there if (record := self._record(name))]
        if silent := len(there) - len(records):
            warnings.warn(
                f"{self.root}: {silent} videos of split {split!r} have no captions and are left out.", stacklevel=3
            )
        return records, len(listed) - silent

    def vocabulary(self, most: int | None = None) -> list[str]:
        """The words that are said in the training videos, the most frequent first; reads all their captions.

        Args:
            most: how many words at most.
        """
        counts: Counter[str] = Counter()
        for index, record in enumerate(self.records("train")):
            try:
                counts.update(word for text in record.narration().text for word in split_words(text))
            except DataError as error:
                self.unreadable[index] = str(error)
        return sorted(counts, key=lambda word: (-counts[word], word))[:most]

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos are there, missing, unreadable or badly captioned; see `zoo.data.check`."""
        found = {split: self.find_records(split) for split in ("train", "val") if self.has_split(split)}
        return check_records(
            self.name, self.root, found, decode=decode, workers=max(self.num_workers, 1), examine=_examine
        )

    def _training_data(self) -> NarratedClips:
        return NarratedClips(self.records("train"), self.spec, self.seed, self.captions)

    def _evaluation_data(self, spec: VideoSpec) -> NarratedClips:
        return NarratedClips(self.records("val"), spec, self.seed, self.captions)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"collate_fn": collate_narrated}

    # Places

    @cached_property
    def _listed(self) -> list[str]:
        """The ids that count, in the order of the list, each once."""
        place = place_inside(self.root, self.csv, "csv")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the folder with videos/ and captions/ as root.")
        names = dict.fromkeys(_read_ids(place) if place.exists() else sorted(self._videos))
        left_out = {text for _, text in read_lines(Path(self.exclude).expanduser())} if self.exclude else set()
        return [name for name in names if name not in left_out]

    @cached_property
    def _held(self) -> frozenset[str]:
        """The ids that are held out, one at least. What a hash says stays true however many videos there are."""
        shares = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in self._listed}
        held = frozenset(name for name, share in shares.items() if share < self.val_share * 2**64)
        return held or frozenset(sorted(shares, key=shares.__getitem__)[: self.val_share > 0 and len(shares) > 1])

    @cached_property
    def _videos(self) -> dict[str, Path]:
        folder = self.root / "videos"
        return videos_by_stem(folder if folder.is_dir() else self.root)

    @cached_property
    def _spoken(self) -> dict[str, Any]:
        """The entries of caption.json, where there is one in place of a folder."""
        place = self.root / "caption.json"
        if not (self.root / "captions").is_dir() and not place.exists():
            raise DataError(
                f"{self.root}: neither captions/ nor caption.json is here. Unpack the captions of HowTo100M there."
            )
        return {} if (self.root / "captions").is_dir() else read_json(place, dict)

    @cached_property
    def _captioned(self) -> frozenset[str]:
        folder = self.root / "captions"
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    def _record(self, name: str) -> NarratedRecord | None:
        if name in self._spoken:
            return NarratedRecord(self._videos[name], name, self.root / "caption.json", self._spoken[name])
        if f"{name}.csv" in self._captioned:
            return NarratedRecord(self._videos[name], name, self.root / "captions" / f"{name}.csv")
        return None


def _read_ids(path: Path) -> Iterator[str]:
    """The ids of a list in the manner of HowTo100M_v1.csv; that of MIL-NCE has paths instead."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            column = next((name for name in ("video_id", "video_path") if name in (table.fieldnames or ())), None)
            if column is None:
                raise DataError(f"{path}: no column video_id in the first line; fetch the list again.")
            for row in table:
                text = (row[column] or "").strip()
                where = f"{path}, line {table.line_num}"
                yield plain_name(PurePosixPath(text).stem if column == "video_path" else text, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a list ({error}); fetch it again.") from None


def _examine(record: NarratedRecord, decode: bool) -> tuple[dict[str, str], str]:
    """As `examine_video`; of the captions too."""
    problems, digest = examine_video(record, decode)  # type: ignore[arg-type]
    try:
        record.narration()
    except DataError as error:
        problems = {record.name: str(error), **problems}
    return problems, digest
