"""Is a data set whole? What `zoo data check` finds: present, missing, unreadable, changed, and what to do about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.data.images import ImageFolder, read_image
from zoo.data.loader import VideoRecord
from zoo.data.video import iter_frames, probe
from zoo.errors import DataError, VideoError
from zoo.files import sha256_of, write_whole


@dataclass
class SplitReport:
    """One split: how many videos its list names, how many are there, which of those cannot be read or have changed.

    What is unreadable goes by a video's name, or by that of a single frame in a sequence of pictures.
    """

    expected: int
    found: int
    unreadable: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.expected - self.found


@dataclass
class CheckReport:
    """What `check` found. ``ok`` means that nothing is missing, unreadable or changed.

    Attributes:
        name: the data set's.
        root: its folder.
        splits: what was found of each.
        units: what is counted, and what is unreadable: the videos themselves, or frames of sequences.
    """

    name: str
    root: Path
    splits: dict[str, SplitReport]
    units: tuple[str, str] = ("videos", "videos")

    @property
    def ok(self) -> bool:
        return bool(self.splits) and all(
            s.found and not (s.missing or s.unreadable or s.changed) for s in self.splits.values()
        )

    def advice(self) -> list[str]:
        """What to do about it, a sentence each."""
        lines = []
        whole, part = self.units
        for split, s in self.splits.items():
            if not s.found:
                lines.append(f"{split}: none of the {whole} is there; is {self.root} the right folder?")
            elif s.missing:
                lines.append(
                    f"{split}: {s.missing} {whole} are missing; a score on the rest is comparable with care only."
                )
            if s.unreadable:
                lines.append(f"{split}: {len(s.unreadable)} {part} cannot be used; fetch those files again.")
            if s.changed:
                lines.append(
                    f"{split}: {len(s.changed)} {whole} changed since their checksum was taken; fetch them again."
                )
        return lines or ["Everything is there and readable."]

    def to_dict(self) -> dict:
        """Plain values, for `--json`."""
        return {
            "name": self.name,
            "root": str(self.root),
            "ok": self.ok,
            "splits": {k: {**vars(s), "missing": s.missing} for k, s in self.splits.items()},
            "advice": self.advice(),
        }


def check_records(
    name: str,
    root: Path,
    splits: dict[str, tuple[Sequence[Any], int]],
    *,
    decode: bool,
    workers: int,
    examine: Callable[[Any, bool], tuple[dict[str, str], str]] | None = None,
    units: tuple[str, str] = ("videos", "videos"),
) -> CheckReport:
    """Probe every video of the given splits, or decode it to the end.

    Truncation shows when a file is opened or decoded; a flipped byte does neither, so ``decode`` also takes a SHA-256
    of every file. The first time they are written to ``root/checksums.json``, later they are compared with it.

    Args:
        name: the data set's.
        root: its folder.
        splits: split name to (the records that are there, how many the official list names).
        decode: read every file to its end and compare checksums; minutes to hours instead of seconds to minutes.
        workers: threads.
        examine: says of a record what is wrong with it by name (nothing if it is whole), and its SHA-256 where it was
            decoded; `examine_video` by default.
        units: of the report.
    """
    examine = examine or examine_video
    report = CheckReport(name, root, {s: SplitReport(expected, len(r)) for s, (r, expected) in splits.items()}, units)
    ledger = root / "checksums.json"
    known = _read_ledger(ledger) if decode else {}
    taken: dict[str, str] = {}
    for split, (records, _) in splits.items():
        with ThreadPoolExecutor(workers) as pool:
            results = pool.map(lambda record: examine(record, decode), records)
            for record, (problems, digest) in zip(records, results, strict=True):
                report.splits[split].unreadable.update(problems)
                if digest:
                    key = record.path.relative_to(root).as_posix()
                    taken[key] = digest
                    if known.get(key, digest) != digest:
                        report.splits[split].changed.append(record.name)
    if decode and (fresh := {k: v for k, v in taken.items() if k not in known}):
        write_whole(ledger, json.dumps({**known, **fresh}, indent=0, sort_keys=True).encode())
    return report


def examine_video(record: VideoRecord, decode: bool) -> tuple[dict[str, str], str]:
    """What is wrong with a video, which may lie as a folder of pictures, and its SHA-256 if it was decoded."""
    try:
        if record.path.is_dir():
            pictures = ImageFolder(record.path).paths
            for picture in pictures if decode else pictures[:1]:
                read_image(picture)
            return {}, digest_of(pictures) if decode else ""
        if not decode:
            probe(record.path)
            return {}, ""
        for _ in iter_frames(record.path):
            pass
        return {}, sha256_of(record.path)
    except VideoError as error:
        return {record.name: str(error)}, ""


def digest_of(files: Iterable[Path]) -> str:
    """One SHA-256 for several files."""
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def _read_ledger(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it to take the checksums anew.") from None
    if not isinstance(ledger, dict):
        raise DataError(f"{path} is not a list of checksums; remove it to take them anew.")
    return ledger
