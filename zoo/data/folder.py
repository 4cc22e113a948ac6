"""Finding video files in folders, by name alone: nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import DataError

SUFFIXES = frozenset(
    (
        ".3gp",
        ".avi",
        ".flv",
        ".gif",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    )
)


def find_videos(path: str | os.PathLike) -> list[Path]:
    """The file itself, or every video in a folder and the folders below it, sorted.

    Raises:
        DataError: a folder without videos.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{path}: no video in this folder (looked for {', '.join(sorted(SUFFIXES))}).")
    return found


def videos_by_stem(folder: Path) -> dict[str, Path]:
    """File name without suffix to path, for every video in a folder and in the folders right below it."""
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir():
                found.update((p.stem, p) for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            elif path.suffix.lower() in SUFFIXES:
                found[path.stem] = path
    return found
