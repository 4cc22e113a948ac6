"""Which rows of which video make a training sample of order: `draw_videos`, `draw_clips`, and the data set of both.

A sample is M clips of one video, in its order (label 1) or reversed (label 0). A clip is the mean of neighbouring rows:
the networks pool over space and time, so that the mean over parts of equal length is the pool over the whole.

Everything is drawn for a batch at once. A draw is a hash of (seed, epoch, sample, purpose), so that it depends neither
on the batch that a sample is in nor on processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.batch_memory import BatchMemory, sent
from zoo.data.clip_means import ClipMeans, OpenVideos, one_thread, open_each
from zoo.data.feature_files import FeatureFile, FeatureRows
from zoo.data.loader import UNLABELLED, TrainSampler
from zoo.errors import DataError, VideoError
from zoo.spec import FeatureSpec

_VIDEO, _CLIPS, _REVERSAL, _LOCALITY = range(4)  # what random numbers are for: a stream each
_FIXED = 2**32 - 1  # the "epoch" of evaluation
_OPEN = 128  # files that are open at once
_PATIENCE = 100  # other videos that training tries in place of one that cannot be read; a missing file costs little
_STEP = 0x9E3779B97F4A7C15  # SplitMix64: the golden ratio, and the two factors of its finaliser
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class FeatureVideos(Protocol):
    """Videos by number, each with rows of features."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """In the official list."""

    def open(self, number: int) -> FeatureRows:
        """Its rows, to be closed.

        Raises:
            VideoError: they are not there, or broken.
        """


class FileVideos:
    """The videos of a list of records (with ``path`` and ``name``), each with a file of its own.

    Args:
        records: of the videos.
        dim: numbers in a row.
    """

    def __init__(self, records: Sequence[Any], dim: int) -> None:
        self.records, self.dim = records, dim

    def __len__(self) -> int:
        return len(self.records)

    def name(self, number: int) -> str:
        return self.records[number].name

    def open(self, number: int) -> FeatureFile:
        return FeatureFile(self.records[number].path, self.dim)


def uniform(seed: int, epoch: np.ndarray | int, sample: np.ndarray, stream: int, count: int) -> np.ndarray:
    """``count`` numbers in [0, 1) for every sample, float64 ``[B, count]``.

    Args:
        seed: of the run.
        epoch: one number, or one a sample ``[B]``.
        sample: numbers of the samples ``[B]``.
        stream: what the numbers are for.
        count: numbers a sample.
    """
    state = np.full(len(sample), seed % 2**64, np.uint64)
    for part in (stream, epoch, sample):
        state = _mixed(state + np.uint64(_STEP)) ^ np.asarray(part).astype(np.uint64)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
    return (_mixed(_mixed(state)[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def usable_rows(rows: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """First row and row after the last that training may use of videos with so many, int64 each."""
    rows = np.asarray(rows)
    # Rounding must not cost a row: 0.3 of 10 is 3.
    return np.ceil(trim * rows - 1e-9).astype(np.int64), np.floor((1 - trim) * rows + 1e-9).astype(np.int64)


def enough_rows(rows: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Whether videos of so many rows have a usable one for every clip of a sample, bool."""
    first, last = usable_rows(rows, spec.trim)
    return last - first >= spec.clips


def draw_clips(rows: np.ndarray, rate: float, spec: FeatureSpec, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the clips of a sample begin, and how long they are.

    The window is ``spec.window`` seconds of the usable rows, or all of them where there are fewer; a clip is a tenth of
    it. Clips do not overlap where there is room for all; where there is not, they begin at different rows.

    Args:
        rows: of the videos, int64 ``[B]``, enough of them.
        rate: rows a second.
        spec: how many clips, how far apart.
        chance: uniform numbers ``[B, M + 1]``.

    Returns:
        First rows, ascending, int64 ``[B, M]``, and rows in a clip, int64 ``[B]``.
    """
    first, last = usable_rows(rows, spec.trim)
    room = last - first
    window, length = room, np.maximum(room // 10, 1)
    if spec.window is not None:
        wanted = max(int(spec.window * rate + 0.5), 1)
        window = np.minimum(wanted, room)
        length = np.where(wanted <= room, max(int(spec.window * rate / 10 + 0.5), 1), length)
    length = np.minimum(length, window)
    step = np.where(
        spec.clips * length <= window, length, np.minimum(window - length, spec.clips - 1) // (spec.clips - 1)
    )
    begin = first + _below(room - window + 1, chance[:, 0])
    free = window - length - (spec.clips - 1) * step  # rows that are left over when clips lie as near as they may
    starts = np.sort(_below(free[:, None] + 1, chance[:, 1:]), axis=1)
    return begin[:, None] + starts + step[:, None] * np.arange(spec.clips), length


class OrderSamples(Dataset):
    """Samples of order; asked with ``(sample, epoch)`` while training, with a video's number for a fixed one.

    A batch is read at once (``__getitems__``) and needs no collation: use `as_is`.

    Args:
        videos: whose rows they are; or records with ``path`` and ``name``, each with a file of its own.
        spec: what a sample is.
        seed: of every draw.
        rate: rows a second.
        categories: numbers from 0, one a video, -1 for none.
        balanced: draw a category first and one of its videos then, for as many samples as there are videos; otherwise
            an epoch has a sample of every video.
    """

    def __init__(
        self,
        videos: FeatureVideos | Sequence[Any],
        spec: FeatureSpec,
        seed: int = 0,
        rate: float = 1.0,
        categories: np.ndarray | None = None,
        balanced: bool = False,
    ) -> None:
        if not rate > 0:
            raise DataError(f"rate must be above 0 rows of features a second, got {rate!r}.")
        self.videos = videos if hasattr(videos, "open") else FileVideos(videos, spec.dim)
        self.spec, self.seed, self.rate = spec, seed, rate
        self.categories = np.full(len(videos), UNLABELLED) if categories is None else np.asarray(categories)
        self.balanced = balanced
        self._memory, self._means = BatchMemory(), ClipMeans()
        if balanced:
            self._by_category = np.argsort(self.categories, kind="stable")
            _, self._first, self._count = np.unique(
                self.categories[self._by_category], return_index=True, return_counts=True
            )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        """A batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]] | Sequence[int]) -> dict[str, Any]:
        """A batch: ``features`` float32 ``[B, M, D]``, ``label`` int64 ``[B]`` (1 in order, 0 reversed), ``index``
        int64 ``[B]`` (the video's number), ``video_id``, ``times`` float64 ``[B, M, 2]`` (seconds of each clip, in
        order, a NumPy array), ``category`` int64 ``[B]`` (-1 for none) and ``unreadable``, (index, message) each.

        While training another video takes the place of one that cannot be read; otherwise it is left out.

        Raises:
            DataError: too many in a row cannot be read.
        """
        train = isinstance(keys[0], tuple | list)
        samples, epochs = np.array(keys, dtype=np.int64).T if train else (np.array(keys, dtype=np.int64), _FIXED)
        videos = self.draw_videos(samples, epochs) if train else samples
        chance = uniform(self.seed, epochs, samples, _CLIPS, self.spec.clips + 1)
        forward = np.ones(len(keys), bool)
        if self.spec.reverse:
            forward = uniform(self.seed, epochs, samples, _REVERSAL, 1)[:, 0] >= 0.5
        features = self._memory.empty(len(keys), self.spec.clips, self.spec.dim)
        times = np.empty((len(keys), self.spec.clips, 2))
        unreadable: list[tuple[int, str]] = []
        left = np.arange(len(keys))
        for attempt in range(1, _PATIENCE + 1):
            with one_thread():
                failed = self._read(videos[left], chance[left], forward[left], left, features, times)
            unreadable += [(int(videos[at]), message) for at, message in failed]
            left = np.array([at for at, _ in failed], dtype=np.int64)
            if not (train and len(left)):
                break
            videos[left] = self.draw_videos(samples[left], epochs[left], attempt)
        else:
            raise DataError(
                f"{_PATIENCE} videos in a row could not be read; the last: {unreadable[-1][1]} "
                "`zoo data check` lists every unreadable video, and notes which there are so that no other is tried."
            )
        keep = np.setdiff1d(np.arange(len(keys)), left)
        videos = videos[keep]
        return {
            "features": features if len(keep) == len(features) else features[torch.from_numpy(keep)],
            "label": torch.from_numpy(forward[keep].astype(np.int64)),
            "index": torch.from_numpy(videos),
            "video_id": [self.videos.name(number) for number in videos.tolist()],
            "times": times[keep],  # no tensor: half precision would round it, and Apple's GPUs take no doubles
            "category": torch.from_numpy(self.categories[videos].astype(np.int64)),
            "unreadable": unreadable,
        }

    def draw_videos(self, samples: np.ndarray, epochs: np.ndarray | int, attempt: int = 0) -> np.ndarray:
        """The videos of an epoch's samples, int64 ``[B]``; another one at every attempt."""
        if not (self.balanced or attempt):
            return samples.copy()
        chance = uniform(self.seed, epochs, samples, _VIDEO, 2 * attempt + 2)[:, -2:]
        if not self.balanced:
            return _below(np.full(len(samples), len(self)), chance[:, 0])
        category = _below(np.full(len(samples), len(self._count)), chance[:, 0])
        return self._by_category[self._first[category] + _below(self._count[category], chance[:, 1])]

    def _read(
        self,
        videos: np.ndarray,
        chance: np.ndarray,
        forward: np.ndarray,
        places: np.ndarray,
        features: Tensor,
        times: np.ndarray,
    ) -> list[tuple[int, str]]:
        """Fill in what samples show; gives (place, message) of those that cannot be read."""
        failed: list[tuple[int, str]] = []
        if prepare := getattr(self.videos, "prepare", None):  # where they have to be brought here first
            prepare(videos)
        open_all = getattr(self.videos, "open_all", partial(open_each, self.videos.open))
        at_once = getattr(self.videos, "at_once", _OPEN)
        for first in range(0, len(videos), at_once):
            some = slice(first, first + at_once)
            with open_all(videos[some]) as opened:
                for at, error in self._read_some(
                    opened, chance[some], forward[some], places[some], features, times
                ).items():
                    failed.append((int(places[first + at]), self._message(videos[first + at], error)))
        return failed

    def _read_some(
        self,
        opened: OpenVideos,
        chance: np.ndarray,
        forward: np.ndarray,
        places: np.ndarray,
        features: Tensor,
        times: np.ndarray,
    ) -> dict[int, VideoError]:
        """As `_read`, of videos that are open; gives what is wrong with which of them."""
        enough = enough_rows(opened.count, self.spec)
        failed = opened.failed | {
            int(opened.at[k]): self._too_few(opened.rows(k)) for k in np.flatnonzero(~enough).tolist()
        }
        opened = opened if enough.all() else opened.take(np.flatnonzero(enough))
        if not len(opened.at):
            return failed
        starts, lengths = draw_clips(opened.count, self.rate, self.spec, chance[opened.at])
        places = places[opened.at]
        times[places, :, 0] = starts / self.rate
        times[places, :, 1] = (starts + lengths[:, None]) / self.rate
        broken = self._means.read(opened, starts, lengths, forward[opened.at], places, features)
        return failed | {int(opened.at[k]): error for k, error in broken.items()}

    def _too_few(self, rows: FeatureRows) -> VideoError:
        spec = self.spec
        return VideoError(
            f"{rows.path} has {len(rows)} rows, too few for {spec.clips} clips once {spec.trim:.0%} is left out at "
            "each end. Leave it out, or train with a smaller features.trim."
        )

    def _message(self, video: int, error: VideoError) -> str:
        return f"{self.videos.name(int(video))}: {error}"


class OrderSampler(TrainSampler):
    """As `TrainSampler`, for millions of samples: no list is made of more than a batch's.

    Args:
        dataset: the samples.
        rank: this process's number.
        world_size: the number of processes.
        seed: of the order.
        places: where each video lies, as the number of a shard ``[videos]``. Samples of one shard then come near each
            other, and each process works on shards of its own, so that one is fetched once an epoch.
        spread: shards that a batch is drawn from.
    """

    def __init__(
        self,
        dataset: OrderSamples,
        rank: int,
        world_size: int,
        seed: int,
        places: np.ndarray | None = None,
        spread: int = 256,
    ) -> None:
        super().__init__(dataset, rank, world_size, seed)
        self.places, self.spread = places, spread

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        mine = self._order()[start:]
        for first in range(0, len(mine), 4096):
            for sample in mine[first : first + 4096].tolist():
                yield sample, self.epoch

    def _order(self) -> np.ndarray:
        """This process's samples, int64."""
        count, samples = len(self.dataset), np.arange(len(self.dataset))
        if self.places is None:
            order = np.argsort(uniform(self.seed, self.epoch, samples, _LOCALITY, 1)[:, 0], kind="stable")
        else:
            shards = self.places[self.dataset.draw_videos(samples, self.epoch)]
            chance = uniform(self.seed, self.epoch, np.arange(int(self.places.max()) + 1 + count), _LOCALITY, 1)[:, 0]
            rank = np.argsort(np.argsort(chance[count:]))  # shards in a random order,
            order = np.argsort(rank[shards] + self.spread * chance[:count], kind="stable")  # their samples blurred
        order = np.resize(order, self.total_size)  # repeats where there are fewer samples than processes
        if self.places is None:
            return order[self.rank :: self.num_replicas]
        return order[self.rank * self.num_samples : (self.rank + 1) * self.num_samples]


def as_is(batch: dict[str, Any]) -> dict[str, Any]:
    """Collation of what is a batch already."""
    return {**batch, "features": sent(batch["features"])} if "features" in batch else batch


def _below(bound: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Integers from 0 to below ``bound`` out of uniform numbers, int64."""
    return np.minimum((chance * bound).astype(np.int64), bound - 1)


def _mixed(state: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser."""
    state = (state ^ (state >> np.uint64(30))) * _FACTORS[0]
    state = (state ^ (state >> np.uint64(27))) * _FACTORS[1]
    return state ^ (state >> np.uint64(31))
