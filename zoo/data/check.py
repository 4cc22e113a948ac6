"""Is a data set whole? What `zoo data check` finds: present, missing, unreadable, changed, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from zoo.data.loader import VideoRecord
from zoo.data.video import iter_frames, probe
from zoo.errors import DataError, VideoError
from zoo.files import sha256_of, write_whole


@dataclass
class SplitReport:
    """One split: how many videos its list names, how many are there, which of those cannot be read or have changed."""

    expected: int
    found: int
    unreadable: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.expected - self.found


@dataclass
class CheckReport:
    """What `check` found. ``ok`` means that nothing is missing, unreadable or changed."""

    name: str
    root: Path
    splits: dict[str, SplitReport]

    @property
    def ok(self) -> bool:
        return bool(self.splits) and all(
            s.found and not (s.missing or s.unreadable or s.changed) for s in self.splits.values()
        )

    def advice(self) -> list[str]:
        """What to do about it, a sentence each."""
        lines = []
        for split, s in self.splits.items():
            if not s.found:
                lines.append(f"{split}: no video is there; is {self.root} the right folder?")
            elif s.missing:
                lines.append(
                    f"{split}: {s.missing} videos are missing; a score on the rest is comparable with care only."
                )
            if s.unreadable:
                lines.append(f"{split}: {len(s.unreadable)} videos cannot be decoded; fetch those files again.")
            if s.changed:
                lines.append(
                    f"{split}: {len(s.changed)} files changed since their checksum was taken; fetch them again."
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
    name: str, root: Path, splits: dict[str, tuple[Sequence[VideoRecord], int]], *, decode: bool, workers: int
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
    """
    report = CheckReport(name, root, {s: SplitReport(expected, len(r)) for s, (r, expected) in splits.items()})
    ledger = root / "checksums.json"
    known = _read_ledger(ledger) if decode else {}
    taken: dict[str, str] = {}
    for split, (records, _) in splits.items():
        with ThreadPoolExecutor(workers) as pool:
            results = pool.map(lambda record: _examine(record.path, decode), records)
            for record, (message, digest) in zip(records, results, strict=True):
                if message:
                    report.splits[split].unreadable[record.name] = message
                elif digest:
                    key = record.path.relative_to(root).as_posix()
                    taken[key] = digest
                    if known.get(key, digest) != digest:
                        report.splits[split].changed.append(record.name)
    if decode and (fresh := {k: v for k, v in taken.items() if k not in known}):
        write_whole(ledger, json.dumps({**known, **fresh}, indent=0, sort_keys=True).encode())
    return report


def _examine(path: Path, decode: bool) -> tuple[str, str]:
    """What is wrong with a file ("" if nothing), and its SHA-256 if it was decoded."""
    try:
        if not decode:
            probe(path)
            return "", ""
        for _ in iter_frames(path):
            pass
        return "", sha256_of(path)
    except VideoError as error:
        return str(error), ""


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
