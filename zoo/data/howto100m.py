"""HowTo100M (Miech et al. 2019) as features, 1.2 million videos of people doing and explaining things.

    root/
      features/ID.npy        or root/ID.npy: rows of features in time order, see `zoo.data.feature_files`
      HowTo100M_v1.csv       video_id,category_1,category_2,rank,task_id    optional; also with a column path
      features.index         which there are, optional: `zoo data check`, `zoo extract` and `zoo data pack` write it
      extraction.json        how `zoo extract` made them, optional; both beside the features

or the folder that `zoo data pack` made of these, here or in object storage (`zoo.data.feature_shards`). Without a csv a
folder of any videos' features will do.

With a csv an epoch draws subcategories alike and one of a subcategory's videos then; subcategories with fewer than
``min_videos`` are dropped (3000 in the paper). They are told apart by both columns, for names of the second recur. The
published lists hold videos of COIN and CrossTask: `exclude` them before a test on those.

A million files are not looked for: with an index it is known which there are, without one a missing file is met when it
is drawn, counted, and another is drawn.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from zoo.data.check import CheckReport, SplitReport
from zoo.data.datamodule import VideoDataModule
from zoo.data.feature_index import INDEX, as_ids, count_rows, find_ids, hash_ids, list_files, read_index, write_index
from zoo.data.feature_settings import FeatureSettings, agreed_rate, settings_beside
from zoo.data.feature_videos import FeatureVideos
from zoo.data.howto100m_lists import VideoTable, read_excluded, read_taxonomy
from zoo.data.loader import UNLABELLED, ResumableLoader
from zoo.data.order_sampling import OrderSampler, OrderSamples, as_is, enough_rows
from zoo.data.packed_features import PackedFeatures, is_packed, is_remote
from zoo.errors import DataError
from zoo.files import NoPlaceError, sha256_of
from zoo.spec import FeatureSpec, VideoSpec

CSV = "HowTo100M_v1.csv"
_STALE = 60  # seconds that a folder may be younger than its index


class HowTo100MFeatures(VideoDataModule):
    """HowTo100M's features, for learning from the order of clips (see the module's docstring for the layout).

    Batches are those of `zoo.data.order_sampling.OrderSamples`. Of the videos, a share is held out, by their ids; its
    samples are the same every time.
    """

    serves_features = True

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 1024,
        num_workers: int = 2,
        seed: int = 0,
        csv: str | None = None,
        rate: float | None = None,
        exclude: str | Sequence[str] = (),
        min_videos: int = 3000,
        val_share: float = 0.01,
        cache: str | None = None,
        cache_gb: float = 64.0,
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder, or where packed features lie in object storage (``s3://bucket/folder``).
            spec: what the model wants.
            batch_size: videos per process and step.
            num_workers: processes that read.
            seed: of every draw.
            csv: the list of videos; HowTo100M_v1.csv in the root by default, where there is one.
            rate: rows of features a second; by default as `zoo extract` noted it beside them, else 1.
            exclude: files that name videos to leave out: COIN.json, CrossTask's videos.csv, lists of ids.
            min_videos: drop subcategories with fewer videos; 0 keeps all. Only with a csv.
            val_share: part of the videos that is held out.
            cache: folder for what comes from object storage.
            cache_gb: gigabytes that it may hold.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if rate is not None and not 0 < rate < math.inf:
            raise DataError(f"rate must be above 0 rows of features a second, got {rate!r}.")
        if not 0 <= val_share < 1 or min_videos < 0:
            raise DataError(
                f"val_share must be at least 0 and below 1, min_videos at least 0, got {val_share!r}, {min_videos!r}."
            )
        self.address, self.cache, self.cache_gb = str(root), cache, cache_gb
        self.csv, self.given_rate, self.min_videos, self.val_share = csv, rate, min_videos, val_share
        self.exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        self.held_out = val_share > 0

    @property
    def name(self) -> str:
        return "howto100m_features"

    @property
    def features(self) -> FeatureSpec:
        """What a sample is.

        Raises:
            DataError: the model does not look at features, or wants annotations.
        """
        spec = self.spec.features or FeatureSpec()
        if spec.samples != "order":
            raise DataError(
                f"{self.name} has no annotations, and the model wants samples of {spec.samples!r}. Train it on coin or "
                "crosstask, or set its features.samples to 'order'."
            )
        return spec

    @cached_property
    def rate(self) -> float:
        """Rows a second."""
        return agreed_rate(self.given_rate, [self._settings])

    def setup(self, stage: str) -> None:
        if self.trainer and (self.spec.features is None or not self.spec.pixels):
            raise DataError(
                f"{self.name} serves rows of features alone, and the model looks at "
                f"{'none' if self.spec.features else 'pixels'}. Train 'actionness' on it, or give the model videos."
            )
        super().setup(stage)

    def has_split(self, split: str) -> bool:
        return split == "train" or self.held_out

    def find_records(self, split: str) -> tuple[FeatureVideos, int]:
        if split == "val" and not self.held_out:
            raise DataError(f"{self.name}: val_share is 0, so that no video is held out; set it above 0.")
        self._settings.require(self._dim)
        videos, there = self._videos
        mine = self._held_out(videos.ids) == (split == "val")
        return videos.take(mine & there), int(mine.sum())

    def check(self, *, decode: bool = False) -> CheckReport:
        """Which videos are there, missing or broken; writes the index of loose files.

        Args:
            decode: read all rows too, and compare the SHA-256 of shards.

        Raises:
            DataError: there are no features at all.
        """
        listed = self._list(look=True)
        splits = {split: np.flatnonzero(self._held_out(listed.ids) == (split == "val")) for split in self._splits}
        splits = {split: numbers for split, numbers in splits.items() if len(numbers)}  # one video is not held out
        changed: list[str] = []
        if packed := self._packed:
            rows, broken = self._rows.copy(), {}
            for number in np.flatnonzero(rows == 0).tolist() if packed.skipped else ():
                if (name := listed.name(number)) in packed.skipped:
                    rows[number], broken[number] = -1, packed.skipped[name]
            for shard in packed.shards if decode else ():
                path = packed.remote.fetch(shard) if packed.remote else packed.root / shard.file
                if not path.is_file() or sha256_of(path) != shard.sha256:
                    changed.append(shard.file)
        else:
            rows, broken = count_rows(len(listed), listed.open, read=decode, workers=max(self.num_workers, 8))
            with contextlib.suppress(NoPlaceError):  # a root that may only be read is fine
                write_index(listed.folder, listed.ids[rows > 0], rows[rows > 0])
        report = CheckReport(self.name, self.root, {})
        for split, numbers in splits.items():
            unreadable = {listed.name(k): broken[k] for k in numbers.tolist() if k in broken}
            found = int((rows[numbers] != 0).sum())
            report.splits[split] = SplitReport(len(numbers), found, unreadable, changed if split == "train" else [])
        return report

    def train_dataloader(self) -> DataLoader:
        data = self._training_data()
        videos: FeatureVideos = data.videos
        places = videos.packed.shard[videos.places] if videos.packed else None
        sampler = OrderSampler(data, *self._place(), seed=self.seed, places=places, spread=self._spread())
        return ResumableLoader(data, sampler=sampler, drop_last=len(sampler) >= self.batch_size, **self._options())

    def _spread(self) -> int:
        """Shards that a batch is drawn from: as many as mix well, and fit into the cache twice."""
        packed = self._packed
        if not (packed and packed.remote):
            return 256
        return max(min(256, int(packed.remote.limit / max(s.bytes for s in packed.shards) / 2)), 1)

    def _training_data(self) -> Dataset:
        return self._samples("train", balanced=bool((self.records("train").category != UNLABELLED).any()))

    def _evaluation_data(self, spec: VideoSpec) -> Dataset:
        return self._samples("val")

    def _samples(self, split: str, balanced: bool = False) -> OrderSamples:
        videos, dim = self.records(split), self.features.dim
        if videos.packed:
            videos.packed.require(dim)
        videos = replace(videos, dim=dim)
        return OrderSamples(videos, self.features, self.seed, self.rate, videos.category, balanced)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "collate_fn": as_is}

    @property
    def _splits(self) -> tuple[str, ...]:
        return ("train", "val") if self.held_out else ("train",)

    @cached_property
    def _packed(self) -> PackedFeatures | None:
        """The packed features, where they are packed."""
        if is_remote(self.address):
            packed = PackedFeatures(self.address, self._dim, cache=self.cache, cache_gb=self.cache_gb)
            self.root = packed.root
            return packed
        if not self.root.is_dir():
            raise DataError(
                f"{self.root}: no such folder; give the one with features/ or with packed features as root."
            )
        return PackedFeatures(self.root, self._dim) if is_packed(self.root) else None

    @property
    def _folder(self) -> Path:
        """Where loose features lie."""
        if self._packed:  # which also tells where the root is
            return self.root
        return self.root / "features" if (self.root / "features").is_dir() else self.root

    @cached_property
    def _settings(self) -> FeatureSettings:
        """What is noted of how the features were extracted."""
        return self._packed.settings if self._packed else settings_beside(self._folder)

    @property
    def _dim(self) -> int | None:
        return self.spec.features.dim if self.spec.features else None

    @cached_property
    def _listed(self) -> FeatureVideos:
        """All videos that the csv (or else the index or the folder) names, but for those to leave out."""
        return self._list()

    def _list(self, look: bool = False) -> FeatureVideos:
        """The same; ``look``: at the folder, whatever its index says."""
        table = self._table(self._folder, look)
        videos = FeatureVideos(table.ids, table.category, self._folder, self._dim, table.paths, self._packed)
        for path in self.exclude:
            videos = videos.take(find_ids(videos.ids, read_excluded(Path(path).expanduser())) < 0)
        return videos

    def _table(self, folder: Path, look: bool) -> VideoTable:
        if self.csv or (self.root / CSV).is_file():
            return read_taxonomy(Path(self.csv).expanduser() if self.csv else self.root / CSV)
        if self._packed:
            ids = np.concatenate([self._packed.ids, as_ids(self._packed.skipped)])
        elif (folder / INDEX).is_file() and not look:
            ids = read_index(folder / INDEX)["id"]
        else:
            ids = as_ids(list_files(folder))
        if not len(ids):
            raise DataError(
                f"{self.root} holds no features: neither features/ID.npy nor ID.npy, nor packed ones, nor {CSV}. "
                "`zoo extract MODEL --videos DIR --out ROOT` computes them."
            )
        return VideoTable(ids, np.full(len(ids), UNLABELLED, np.int32))

    @cached_property
    def _there(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Ids and rows of the videos that are there; None where nobody noted them."""
        if self._packed:
            return self._packed.ids, self._packed.rows
        place = self._folder / INDEX
        if not place.is_file():
            return None
        if place.parent.stat().st_mtime > place.stat().st_mtime + _STALE:
            warnings.warn(
                f"{place}: files came or went since it was written; `zoo data check {self.name} {self.root}` "
                "renews it.",
                stacklevel=2,
            )
        index = read_index(place)
        return np.ascontiguousarray(index["id"]), np.ascontiguousarray(index["rows"])

    @cached_property
    def _places(self) -> np.ndarray:
        """Where the listed videos stand among those that are there, int64, -1 for the missing."""
        return find_ids(self._listed.ids, self._there[0])

    @cached_property
    def _rows(self) -> np.ndarray | None:
        """Rows of the listed videos, 0 for those that are missing; None where nobody noted them."""
        if self._there is None:
            return None
        rows = self._there[1]
        return np.where(self._places < 0, 0, rows[self._places] if len(rows) else 0)

    @cached_property
    def _videos(self) -> tuple[FeatureVideos, np.ndarray]:
        """The videos of the subcategories that are kept, and whether each is there."""
        videos, rows = self._listed, self._rows
        there = np.ones(len(videos), bool) if rows is None else rows > 0
        if self._packed:
            videos = replace(videos, places=self._places)
        keep = np.ones(len(videos), bool)
        if rows is not None and (short := there & ~enough_rows(rows, self.features)).any():
            warnings.warn(
                f"{self.root}: {short.sum()} videos are left out, for they have too few rows for "
                f"{self.features.clips} clips.",
                stacklevel=2,
            )
            keep &= ~short
        if (videos.category != UNLABELLED).any():
            counts = np.bincount(videos.category[keep & there], minlength=int(videos.category.max()) + 1)
            if not (counts >= max(self.min_videos, 1)).any():
                raise DataError(
                    f"{self.root}: no subcategory has {self.min_videos} videos; the largest that is there has "
                    f"{counts.max()}. Set min_videos to 0 to keep all."
                )
            keep &= (counts >= max(self.min_videos, 1))[videos.category]
        return videos.take(keep), there[keep]

    def _held_out(self, ids: np.ndarray) -> np.ndarray:
        """Whether each video is held out: by its id alone, so that more videos change nothing."""
        if not self.held_out:
            return np.zeros(len(ids), bool)
        hashes = hash_ids(ids)
        found = hashes < np.uint64(int(self.val_share * 2**64))
        if not found.any() and len(ids) > 1:
            found[hashes.argmin()] = True  # of a few videos it may hit none
        return found
