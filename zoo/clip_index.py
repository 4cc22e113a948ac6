"""An index of clips on disk, and the clips in it that are nearest to a vector.

An index is a folder::

    index.json            which model, weights, stride and list of videos it is of
    00000.safetensors     the clips of 64 videos: ``phi`` and ``h`` of unit length, float16 ``[n, D]``, ``logits``
                          ``[n, 3]``, ``times`` float64 ``[n, 2]`` in seconds, ``video`` int64 ``[n]``, and in the
                          metadata the names of the videos and what could not be read
    00001.safetensors     ...

Every file is there when it is whole, and the vectors' files are sealed. `zoo.retrieval` builds one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.errors import WeightsError, ZooError
from zoo.hub.weights import read_weights

Space = Literal["h", "phi"]

ABOUT = "index.json"
FORMAT = 1
_OTHER = "build one with this model, or load the one that it is of"
_ROWS, _QUERIES = 16384, 256  # clips, and queries, that are compared at once
_IDENTITY = {
    "format": "of another version's format",
    "model": "of the model {0}, not {1}",
    "state": "of other weights",
    "spec": "of clips that are cut in another way",
    "stride": "with a clip every {0} s, not {1} s",
    "list": "of another list of videos",
    "shard": "with {0} videos a file, not {1}",
}


@dataclass(frozen=True)
class IndexedVideo:
    """A video of an index: the data set it is of, its name there, the absolute path of its file."""

    source: str
    name: str
    path: str


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
        source: the data set.
        name: of the video in it.
        path: of the video.
        start: of the clip in seconds.
        end: of the clip in seconds.
        score: cosine to the query.
    """

    source: str
    name: str
    path: str
    start: float
    end: float
    score: float


class Index:
    """An index that was opened; its vectors stay on disk.

    Attributes:
        folder: where it lies.
        about: what it is of.
        videos: that have clips in it.
        unreadable: (data set, name, message) of those that could not be decoded.
        times: of all clips, float64 ``[N, 2]`` in seconds.
        owner: number of each clip's video, int64 ``[N]``, ascending.
        logits: of all clips ``[N, 3]``.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Reads all but the vectors; see `open`."""
        self.folder, self.about = folder, about
        self.videos: list[IndexedVideo] = []
        self.unreadable: list[tuple[str, str, str]] = []
        self._shards: list[tuple[Path, int]] = []  # files and their clips
        times, owner, logits = [], [], []
        for number in range(-(-about["videos"] // about["shard"])):
            path = shard_path(folder, number)
            if not path.exists():
                raise ZooError(
                    f"the index {folder} is not finished: {path.name} is missing. Start the same command again; it "
                    "goes on where it stopped."
                )
            state, story = read_weights(path)
            times.append(state["times"])
            owner.append(state["video"] + len(self.videos))
            logits.append(state["logits"].float())
            self.videos += [IndexedVideo(*entry) for entry in story["videos"]]
            self.unreadable += [tuple(entry) for entry in story["unreadable"]]
            self._shards.append((path, len(state["times"])))
        self.times, self.owner = torch.cat(times), torch.cat(owner)
        self.logits = torch.cat([part for part in logits if len(part)] or logits)

    def __len__(self) -> int:
        """Clips."""
        return len(self.times)

    @classmethod
    def open(cls, folder: str | os.PathLike, model: nn.Module | None = None) -> Index:
        """The index in a folder, every file checked against its seal.

        Args:
            folder: that `build_index` wrote.
            model: the one that queries will come from; an index of another model or other weights is refused.

        Raises:
            ZooError: there is none, it is not finished, or not of this model.
            WeightsError: a file of it is damaged.
        """
        folder = Path(folder)
        about = read_about(folder)
        if about["format"] != FORMAT:
            raise ZooError(f"{folder} was written by videozoo {about.get('version')}; build it again with this one.")
        if model is not None:
            must_match(folder, about, identity(model), _OTHER)
        try:
            return cls(folder, about)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{folder} is no index that videozoo wrote ({error!r}); build it again.") from error

    def check(self, model: nn.Module) -> None:
        """Refuse, by a `ZooError`, a model whose vectors mean something else than those of the index."""
        must_match(self.folder, self.about, identity(model), _OTHER)

    def search(
        self,
        query: Tensor,
        space: Space = "h",
        k: int = 5,
        exclude: str | os.PathLike | None = None,
        *,
        one_per_video: bool = True,
    ) -> list[list[Hit]]:
        """The nearest clips of each query, best first, in memory that does not grow with the index.

        Args:
            query: vectors ``[n, D]``.
            space: ``"h"`` (trajectory) or ``"phi"`` (features).
            k: how many of each, at most.
            exclude: a video's name or file, which the clips must not be of.
            one_per_video: whether only a video's nearest clip counts.

        Raises:
            ZooError: a query of another width or with NaN; no such space.
        """
        if space not in ("h", "phi"):
            raise ZooError(f"an index has the spaces 'h' and 'phi', not {space!r}.")
        if k < 1:
            raise ZooError(f"at least one clip is wanted of each query, got k={k}.")
        query = torch.as_tensor(query).detach().float().cpu()
        if query.ndim != 2 or not query.isfinite().all():
            raise ZooError(
                f"a query is [n, D] of finite numbers, got {list(query.shape)}, some of them NaN or infinite."
            )
        if len(query) > _QUERIES:
            parts = query.split(_QUERIES)
            return [h for part in parts for h in self.search(part, space, k, exclude, one_per_video=one_per_video)]
        query, banned = normalize(query, dim=1), self._called(exclude)
        scores, rows = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
        for start, block in self._blocks(space):
            if block.shape[1] != query.shape[1]:
                raise ZooError(
                    f"the query has {query.shape[1]} numbers a clip, {space} of {self.folder} {block.shape[1]}."
                )
            owner = self.owner[start : start + len(block)]
            found = query @ normalize(block.float(), dim=1).T
            found[:, banned[owner]] = -torch.inf
            best, where = (_best_of_runs if one_per_video else _best)(found, owner, k)
            scores, rows = torch.cat([scores, best], 1), torch.cat([rows, where + start], 1)
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            scores, rows = scores[:, :k], rows.gather(1, order)[:, :k]
        return [
            [self.hit(row, score) for row, score in zip(*pair, strict=True) if score > -torch.inf]
            for pair in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def hit(self, row: int, score: float = 1.0) -> Hit:
        """A clip of the index by its number."""
        video = self.videos[int(self.owner[row])]
        start, end = self.times[row].tolist()
        return Hit(video.source, video.name, video.path, start, end, min(score, 1.0))

    def vectors(self, space: Space = "h") -> Tensor:
        """The vectors of all clips, float16 ``[N, D]``, in memory at once."""
        blocks = [block for _, block in self._blocks(space)]
        return torch.cat(blocks) if blocks else torch.empty(0, 0, dtype=torch.float16)

    def _called(self, video: str | os.PathLike | None) -> Tensor:
        """Which videos are ``video``, bool: by name or place or, where none is, by the name of the file alone."""
        text = "" if video is None else os.fspath(video)
        place, file = os.path.abspath(text), os.path.basename(text)
        exact = [bool(text) and (own.name == text or own.path == place) for own in self.videos]
        if text and not any(exact):  # the files were moved since, or come from elsewhere
            exact = [os.path.basename(own.path) == file for own in self.videos]
        return torch.tensor(exact, dtype=torch.bool)

    def _blocks(self, space: Space) -> Iterator[tuple[int, Tensor]]:
        """(number of the first clip, vectors) of consecutive clips, videos in one piece."""
        first = 0
        for path, clips in self._shards:
            lengths = torch.unique_consecutive(self.owner[first : first + clips], return_counts=True)[1].tolist()
            start = stop = 0
            with safe_open(path, framework="pt") as file:
                vectors = file.get_slice(space)
                for number, length in enumerate(lengths, 1):
                    stop += length
                    if number == len(lengths) or stop - start + lengths[number] > _ROWS:
                        yield first + start, vectors[start:stop]
                        start = stop
            first += clips


def state_hash(model: nn.Module) -> str:
    """The SHA-256 of a model's weights and buffers, whatever device they are on."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def identity(model: nn.Module) -> dict[str, Any]:
    """What two models must share for their vectors to be comparable."""
    spec = model.spec.to_dict() if hasattr(model, "spec") else None
    # Through JSON and back, as it will be read: a tuple becomes a list.
    return json.loads(json.dumps({"format": FORMAT, "model": name_of(model), "state": state_hash(model), "spec": spec}))


def must_match(folder: Path, about: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str) -> None:
    """Refuse, by a `ZooError` that ends in ``remedy``, an index that is not of what is wanted."""
    for name, words in _IDENTITY.items():
        if name in wanted and about.get(name) != wanted[name]:
            what = words.format(about.get(name), wanted[name])
            raise ZooError(f"the index {folder} was built {what}; {remedy}.")


def name_of(model: nn.Module) -> str:
    """A model's registered name, or its class's."""
    return getattr(model, "name", "") or type(model).__name__


def read_about(folder: Path) -> dict[str, Any]:
    """What an index is of.

    Raises:
        ZooError: there is none, or it cannot be read.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if all(isinstance(about[name], int) and about[name] > 0 for name in ("format", "videos", "shard")):
            return about
    except FileNotFoundError:
        raise ZooError(f"there is no index in {folder} (no {ABOUT}); `zoo index` builds one.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{folder / ABOUT} cannot be read as an index ({error!r}); build it again.") from error
    raise ZooError(f"{folder / ABOUT} is no index that videozoo wrote; build it again.")


def shard_path(folder: Path, number: int) -> Path:
    """The file of the ``number``-th lot of videos."""
    return folder / f"{number:05d}.safetensors"


def _best(scores: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns."""
    return scores.topk(min(k, scores.shape[1]), dim=1)


def _best_of_runs(scores: Tensor, owner: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `_best`, of each video's columns only the largest."""
    lengths = torch.unique_consecutive(owner, return_counts=True)[1]
    starts = lengths.cumsum(0) - lengths
    largest = torch.from_numpy(np.maximum.reduceat(scores.numpy(), starts.numpy(), axis=1))
    best, runs = _best(largest, owner, k)
    columns = torch.empty_like(runs)
    for query, numbers in enumerate(runs.tolist()):
        for place, run in enumerate(numbers):
            start, length = int(starts[run]), int(lengths[run])
            columns[query, place] = start + int(scores[query, start : start + length].argmax())
    return best, columns
