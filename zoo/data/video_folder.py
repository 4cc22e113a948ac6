"""Videos of your own in class folders: ``root/train/<class>/*.mp4`` and ``root/val/<class>/*.mp4``, any classes."""

from __future__ import annotations

from pathlib import Path

from zoo.data.kinetics import Kinetics
from zoo.errors import DataError
from zoo.spec import VideoSpec


class VideoFolder(Kinetics):
    """Class folders with any names; the classes are the training folders (or the validation ones), sorted by name."""

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
            raise DataError(
                f"{self.root}: no class folders; lay videos out as {self.root}/train/CLASS/video.mp4 (and val/)."
            )

    def _annotation(self, split: str) -> Path | None:
        """There is no list but the folders."""
        return None
