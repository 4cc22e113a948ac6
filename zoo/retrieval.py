"""Retrieval: videos into an index of their clips, and the nearest clips of a video before and after its correction.

Clips are compared by the cosine of their vectors, and neighbours come from other videos (Epstein and Vondrick 2020,
section 5). How an index lies on disk says `zoo.clip_index`; a run that was killed is taken up at the first file that is
missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo._version import __version__
from zoo.clip_index import ABOUT, Hit, Index, IndexedVideo, identity, must_match, name_of, read_about, shard_path
from zoo.errors import DataError, VideoError, WeightsError, ZooError
from zoo.files import require_writable, write_whole, writing
from zoo.hub.weights import read_weights, save_weights

Progress = Callable[[int, int | None], None]  # videos done, videos in all


@dataclass(frozen=True)
class Retrieved:
    """A clip of a video, and its nearest clips in others before and after the video was corrected.

    Attributes:
        start: in seconds.
        end: in seconds.
        wrong: whether the clip was to be corrected.
        before: nearest clips of the trajectory as it is.
        after: nearest clips of the corrected one.
    """

    start: float
    end: float
    wrong: bool
    before: tuple[Hit, ...]
    after: tuple[Hit, ...]


def build_index(
    model: nn.Module,
    sources: Mapping[str, Any],
    out: str | os.PathLike,
    stride: float = 1.0,
    *,
    shard: int = 64,
    progress: Progress = lambda done, total: None,
) -> Index:
    """Embed every video and write the vectors of all clips; goes on where a run before was interrupted.

    Args:
        model: with ``embed(video, stride)``, such as `goal_trajectory`.
        sources: data set's name to its datamodule (its validation videos are taken) or to a list of files.
        out: folder for the index.
        stride: seconds from one clip to the next.
        shard: videos in a file, which is what a killed run loses at most.
        progress: is told how many videos are done.

    Returns:
        The index, opened. Videos that cannot be decoded are its ``unreadable``.

    Raises:
        ZooError: the folder holds an index of something else, or another process writes it; nothing to index.
        FetchError: the folder cannot be written to.
    """
    if not callable(getattr(model, "embed", None)):
        raise ZooError(f"{name_of(model)} embeds no videos; `zoo list 'goal*'` shows models that do.")
    if shard < 1:
        raise ZooError(f"a file of an index holds at least one video, got shard={shard}.")
    videos = [video for name, source in sources.items() for video in _videos(name, source)]
    if not videos:
        raise DataError("there is no video to index; give a data set or files.")
    folder = Path(out)
    about = {**identity(model), "stride": float(stride), "list": _hash_list(videos), "shard": shard}
    about |= {"videos": len(videos), "version": __version__}
    require_writable(folder)
    with writing(folder / ABOUT):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            if (folder / ABOUT).exists():
                must_match(folder, read_about(folder), about, "add nothing to it: name another folder, or remove it")
            else:
                write_whole(folder / ABOUT, json.dumps(about, indent=1).encode())
            for number, first in enumerate(range(0, len(videos), shard)):
                part = videos[first : first + shard]
                if not _is_whole(path := shard_path(folder, number)):
                    _write_shard(
                        path, model, part, stride, lambda done, first=first: progress(first + done, len(videos))
                    )
                progress(first + len(part), len(videos))
    except Timeout:
        raise ZooError(f"another process is writing the index {folder}; wait for it, or name another folder.") from None
    return Index.open(folder, model)


def retrieve(model: nn.Module, video: str | os.PathLike, index: Index, k: int = 5) -> list[Retrieved]:
    """For every clip of a video the nearest clips of other videos, before and after auto-correction.

    Args:
        model: with ``autocorrect(video)``, whose index it is.
        video: any file that the model reads.
        index: of the same model.
        k: clips of each.

    Raises:
        VideoError: the video cannot be decoded.
        ZooError: the index is of another model or other weights.
    """
    index.check(model)
    found = model.autocorrect(video)
    before, after = (index.search(h, "h", k, exclude=video) for h in (found.before, found.after))
    rows = zip(found.times.tolist(), found.wrong.tolist(), before, after, strict=True)
    return [Retrieved(start, end, wrong, tuple(one), tuple(other)) for (start, end), wrong, one, other in rows]


def _write_shard(
    path: Path, model: nn.Module, videos: Sequence[IndexedVideo], stride: float, progress: Callable[[int], None]
) -> None:
    parts: dict[str, list[Tensor]] = {"phi": [], "h": [], "logits": [], "times": [], "video": []}
    kept: list[IndexedVideo] = []
    unreadable: list[tuple[str, str, str]] = []
    for number, video in enumerate(videos, 1):
        try:
            found = model.embed(video.path, stride)
        except VideoError as error:
            unreadable.append((video.source, video.name, str(error)))
            continue
        for name in ("phi", "h"):
            vectors = getattr(found, name).detach().float().cpu()
            if not vectors.isfinite().all():
                raise ZooError(f"{name_of(model)} gives {name} that is not finite for {video.path}; check its weights.")
            parts[name].append(normalize(vectors, dim=1).half())
        parts["logits"].append(found.logits.detach().float().cpu())
        parts["times"].append(torch.as_tensor(found.times, dtype=torch.float64).cpu())
        parts["video"].append(torch.full((len(parts["times"][-1]),), len(kept)))
        kept.append(video)
        progress(number)
    empty = {"phi": (0, 0), "h": (0, 0), "logits": (0, 0), "times": (0, 2), "video": (0,)}
    types = {"phi": torch.float16, "h": torch.float16, "times": torch.float64, "video": torch.int64}
    state = {
        name: torch.cat(values) if values else torch.empty(empty[name], dtype=types.get(name))
        for name, values in parts.items()
    }
    story = {"videos": [(v.source, v.name, v.path) for v in kept], "unreadable": unreadable}
    save_weights(path, state, story)


def _is_whole(path: Path) -> bool:
    """Whether a file is there as it was written; one that was damaged since is written again."""
    if not path.exists():
        return False
    try:
        return "unreadable" in read_weights(path)[1]
    except WeightsError:
        return False


def _hash_list(videos: Sequence[IndexedVideo]) -> str:
    return hashlib.sha256(json.dumps([(video.source, video.name) for video in videos]).encode()).hexdigest()


def _videos(source: str, given: Any) -> list[IndexedVideo]:
    """The videos of a datamodule's validation split, or of a list of files."""
    if hasattr(given, "records"):
        return [IndexedVideo(source, record.name, os.path.abspath(record.path)) for record in given.records("val")]
    if isinstance(given, str | os.PathLike):
        raise ZooError(f"source {source!r}: give a list of files or a datamodule, not {os.fspath(given)!r}.")
    paths = [Path(path).absolute() for path in given]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise DataError(f"source {source!r} lists {twice} twice; give every file once.")
    base = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [IndexedVideo(source, os.path.relpath(path, base), str(path)) for path in paths]
