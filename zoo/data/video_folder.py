"""Videos of your own, in class folders (``root/train/<class>/*.mp4`` and ``root/val/<class>/*.mp4``) or without.

Without class folders the videos are not labelled: all below ``root/train`` (and ``root/val``), or, where there is no
such folder, all below ``root``. Models that learn without labels train on them.
"""

from __future__ import annotations

from pathlib import Path

from zoo.data.folder import find_videos
from zoo.data.kinetics import Kinetics
from zoo.data.loader import UNLABELLED, VideoRecord
from zoo.errors import DataError
from zoo.spec import VideoSpec


class VideoFolder(Kinetics):
    """Classes are the training folders (or the validation ones), sorted by name; without any there are no classes."""

    name = "folder"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """As `Kinetics`; the folders are looked at here, so that a wrong root is an error at once."""
        super().__init__(root, spec, batch_size, num_workers, seed)
        folder = self._folder("train") or self._folder("val")
        self.classes = tuple(sorted(place.name for place in folder.iterdir() if place.is_dir())) if folder else ()
        if not self.classes:
            self.held_out = self._folder("val") is not None
            self._require_videos(folder or self.root)

    def has_split(self, split: str) -> bool:
        return super().has_split(split) or (split == "train" and not self.held_out)

    def find_records(self, split: str) -> tuple[list[VideoRecord], int]:
        if self.classes:
            return super().find_records(split)
        folder = self._folder(split) or (self.root if split == "train" and not self.held_out else None)
        if folder is None:
            raise DataError(f"{self.root}: no folder {split} with videos of split {split!r}; make one.")
        paths = find_videos(folder)
        return [VideoRecord(path, UNLABELLED, path.relative_to(folder).as_posix()) for path in paths], len(paths)

    def _require_videos(self, folder: Path) -> None:
        remedy = (
            f"lay them out as {self.root}/train/CLASS/video.mp4 (and val/), or without classes right in {self.root}."
        )
        if not folder.is_dir():
            raise DataError(f"{self.root}: no such folder, so no class folders and no videos; {remedy}")
        try:
            find_videos(folder)
        except DataError as error:
            raise DataError(f"{error} No class folders either; {remedy}") from None

    def _annotation(self, split: str) -> Path | None:
        """There is no list but the folders."""
        return None
