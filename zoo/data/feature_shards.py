"""Features of many videos packed into few files by LitData, to be read by rows from a disk or from object storage.

    out/
      chunk-0-0.bin ...     shards as LitData writes them (its `TemporalArrayLoader`), some 64 MiB each
      index.json            LitData's own, so that its `StreamingDataset` opens the folder too
      features.index        id, rows, shard and offset of every video
      extraction.json       how the features were extracted, where `zoo extract` noted it, and what packing made of it
      features.json         what the shards are, with their SHA-256; written last

Videos lie in a random order, so that a run of neighbours is a fair sample. Nothing is pickled: shards hold plain
numbers. `zoo.data.packed_features` reads them.

Rows may be pooled to fewer a second, for a loader that has to be fast: a clip of a sample of order lasts a tenth of its
window, and of one or two rows that are means already it takes a fraction of the reading. Clips then begin on the grid
of these rows and last whole numbers of them, nothing finer can be had from the shards, and videos with fewer rows than
a sample has clips (once both ends are trimmed) are no longer drawn.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo.data.feature_files import read_features
from zoo.data.feature_index import write_index
from zoo.data.feature_settings import ABOUT, agreed_rate, checked_rate, read_note, settings_beside
from zoo.data.json_files import read_json
from zoo.errors import DataError, VideoError
from zoo.extras import optional
from zoo.files import sha256_of, whole_folder, write_whole
from zoo.pools import process_pool

MANIFEST = "features.json"
LISTS = ("HowTo100M_v1.csv", ABOUT)  # what is packed along, where it lies beside the features
FORMAT, VERSION = "videozoo features", 1
_PARTS = 16  # shards that a process packs in one go


class Shard(NamedTuple):
    """One file of a packed folder."""

    file: str
    bytes: int
    sha256: str


@dataclass
class PackReport:
    """What `pack` did.

    Attributes:
        videos: that were packed.
        rows: of all of them.
        shards: files that they lie in.
        bytes: of these.
        skipped: what was wrong with the others, by id.
    """

    videos: int = 0
    rows: int = 0
    shards: int = 0
    bytes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def pack(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    shard_bytes: int = 1 << 26,
    workers: int = 1,
    seed: int = 0,
    rate: float | None = None,
    source_rate: float | None = None,
) -> PackReport:
    """Pack all ``.npy`` files of a folder and those below it; a file's name is its video's id.

    Files that are broken are left out and told of. Packing that is interrupted leaves no folder ``out``, and
    what is left of packing that was killed is removed by the next into the same.

    Args:
        folder: with the files.
        out: new folder for the shards; upload it as it is to stream from object storage.
        dtype: ``"float16"`` or ``"float32"``.
        shard_bytes: about the size of a shard.
        workers: processes.
        seed: of the order of the videos.
        rate: rows a second in the shards, each the mean of neighbours; the last is that of what is left over. By
            default all rows are packed as they are.
        source_rate: rows a second in the files; by default as `zoo extract` noted it beside them, else 1.

    Raises:
        DataError: no file, an id twice, rows of different length or rate, more rows a second than the files have, or
            ``out`` is there already.
        NoPlaceError: the disk refuses.
        ZooError: LitData is not installed.
    """
    optional("litdata", "shards", "packing features")
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    if dtype not in ("float16", "float32"):
        raise DataError(f"features are packed as float16 or float32, not {dtype!r}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already; give a new folder, or remove it first.")
    files = _find_files(folder)
    about, step = _note_of(files, rate, source_rate)
    order = np.random.default_rng(seed).permutation(len(files))
    files = [files[k] for k in order]
    size = max(sum(os.path.getsize(path) for path in files[:1000]) // min(len(files), 1000), 1)
    run = max(_PARTS * shard_bytes // size, 1)
    with whole_folder(out) as partial, ExitStack() as stack:
        jobs = [
            (files[first : first + run], partial / f"part-{number}", dtype, shard_bytes, step)
            for number, first in enumerate(range(0, len(files), run))
        ]
        if workers > 1 and len(jobs) > 1:
            died = "a process that packed died, perhaps for lack of memory; take fewer of them."
            pool = stack.enter_context(process_pool(min(workers, len(jobs)), died))
            parts: Iterator[_Part] = pool.map(_pack_part, jobs)
        else:
            parts = map(_pack_part, jobs)
        return _join(parts, partial, folder, about)


class _Part(NamedTuple):
    folder: Path
    ids: list[str]
    table: np.ndarray  # rows, shard, offset
    index: dict[str, Any]  # LitData's
    shards: list[Shard]
    skipped: dict[str, str]
    dim: int | None


def _find_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one with the files of features.")
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".npy") and not name.startswith("."):
                path = os.path.join(place, name)
                if (other := found.setdefault(name[:-4], path)) != path:
                    raise DataError(f"{path} and {other} are of the same video; remove one of them.")
    if not found:
        raise DataError(f"{folder}: no features (.npy) in it or in the folders below it; `zoo extract` computes them.")
    return list(found.values())


def _note_of(files: list[str], rate: float | None, source_rate: float | None) -> tuple[bytes | None, float]:
    """What is to be noted beside the shards, where something is known, and how many rows of the files make one."""
    noted = [settings_beside(folder) for folder in dict.fromkeys(Path(path).parent for path in files)]
    known = [one for one in noted if one.rate is not None]
    source = agreed_rate(None if source_rate is None else checked_rate(source_rate), noted)
    for one in known[1:]:
        if one.model != known[0].model:
            raise DataError(
                f"{known[0].path} is of {known[0].model} and {one.path} of {one.model}; pack the features of one "
                "network alone."
            )
    rate = source if rate is None else checked_rate(rate)
    if rate > source * (1 + 1e-9):
        raise DataError(
            f"{Path(files[0]).parent} has {source:g} rows a second, and {rate:g} cannot be made of them. Give a rate "
            "of at most that, or extract at a higher one."
        )
    if rate == source and source_rate is None:
        return known[0].path.read_bytes() if known else None, 1.0
    said = (read_note(known[0].path.parent) if known else None) or {}
    said |= {"rate": rate} if rate == source else {"rate": rate, "pooled_from": source}
    return json.dumps(said, indent=1).encode(), source / rate


def pool_rows(rows: np.ndarray, step: float) -> np.ndarray:
    """Means of neighbouring rows, float32, of T rows some T / step; the last is that of what is left over.

    Args:
        rows: float32 ``[T, D]``.
        step: rows that make one, at least 1; where it is no whole number the borders are those of the nearest rows.
    """
    borders = np.floor(step * np.arange(int(len(rows) / step) + 2) + 0.5).astype(np.int64)
    borders = borders[borders < len(rows)]
    counts = np.diff(borders, append=len(rows))
    return np.add.reduceat(rows, borders, axis=0) / counts[:, None].astype(np.float32)


def _pack_part(job: tuple[list[str], Path, str, int, float]) -> _Part:
    files, folder, dtype, shard_bytes, step = job
    litdata = optional("litdata", "shards", "packing features")
    cache = optional("litdata.streaming", "shards", "packing features").Cache(
        str(folder), chunk_bytes=shard_bytes, item_loader=litdata.TemporalArrayLoader()
    )
    ids: list[str] = []
    skipped: dict[str, str] = {}
    dim, kind = None, getattr(torch, dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An item was larger than the target chunk size")
        for path in files:
            name = Path(path).stem
            try:
                rows = read_features(path)
                rows = torch.from_numpy(pool_rows(rows, step) if step > 1 else rows)
                packed = rows.to(kind)  # NumPy would take twenty times as long
                if not torch.isfinite(packed.sum(dtype=torch.float32)) and not torch.isfinite(packed).all():
                    raise VideoError(f"{path} holds numbers that {dtype} does not; pack it as float32.")
            except VideoError as error:
                skipped[name] = str(error)
                continue
            dim = dim or rows.shape[1]
            if rows.shape[1] != dim:
                raise _different(path, rows.shape[1], dim)
            cache[len(ids)] = {"features": packed.numpy()}
            ids.append(name)
        if not ids:
            return _Part(folder, [], np.empty((0, 3), np.int64), {}, [], skipped, None)
        cache.done()
        cache.merge()
    index = read_json(folder / "index.json", dict)
    table = [
        (rows, number, offset + 4)  # a record's rows follow their number, of four bytes
        for number, chunk in enumerate(index["chunks"])
        for rows, offset in zip(chunk["temporal_frames"], chunk["temporal_offsets"], strict=True)
    ]
    shards = [Shard(c["filename"], c["chunk_bytes"], sha256_of(folder / c["filename"])) for c in index["chunks"]]
    return _Part(folder, ids, np.array(table, np.int64), index, shards, skipped, dim)


def _join(parts: Iterator[_Part], out: Path, source: Path, about: bytes | None) -> PackReport:
    """Bring the shards of all parts into one folder, and write what is in it."""
    report, ids, tables, shards = PackReport(), [], [], []
    index: dict[str, Any] = {}
    dim = None
    for number, part in enumerate(parts):
        report.skipped |= part.skipped
        if not part.ids:
            continue
        if dim not in (None, part.dim):
            raise _different(source, part.dim, dim)
        dim = part.dim
        part.table[:, 1] += len(shards)
        for k, (shard, chunk) in enumerate(zip(part.shards, part.index["chunks"], strict=True)):
            chunk["filename"] = f"chunk-{number}-{k}.bin"
            (part.folder / shard.file).rename(out / chunk["filename"])
            shards.append(shard._replace(file=chunk["filename"]))
        ids += part.ids
        tables.append(part.table)
        if index:
            index["chunks"] += part.index["chunks"]
        index = index or part.index
        shutil.rmtree(part.folder)
    if not ids:
        raise DataError(f"{source}: none of the {len(report.skipped)} files can be packed; the first: "
                        f"{next(iter(report.skipped.values()))}")  # fmt: skip
    for folder in out.glob("part-*"):
        shutil.rmtree(folder)
    rows, shard, offset = np.concatenate(tables).T
    dtype = index["config"]["temporal_schema"]["fields"]["features"]["dtype"]
    lists = [name for name in LISTS if name != ABOUT and (source / name).is_file()]
    for name in lists:
        shutil.copyfile(source / name, out / name)
    if about is not None:
        write_whole(out / ABOUT, about)
        lists.append(ABOUT)
    write_whole(out / "index.json", json.dumps(index).encode())
    write_index(out, ids, rows, shard=shard, offset=offset)
    report.videos, report.rows = len(ids), int(rows.sum())
    report.shards, report.bytes = len(shards), sum(s.bytes for s in shards)
    said = {"format": FORMAT, "version": VERSION, "dim": dim, "dtype": dtype, "videos": len(ids), "lists": lists}
    said |= {"shards": [s._asdict() for s in shards], "skipped": report.skipped}
    write_whole(out / MANIFEST, json.dumps(said).encode())
    return report


def _different(place: str | Path, dim: int | None, other: int | None) -> DataError:
    return DataError(f"{place}: rows of {dim} numbers beside rows of {other}; pack the features of one network alone.")
