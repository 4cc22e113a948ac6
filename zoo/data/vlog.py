"""VLOG (Fouhey et al. 2018) as it is released: short clips of everyday life, 114 thousand of them, used without labels.

    root/
      manifest.txt                                 one clip's folder a line, such as b/0/_/v_bbbbbbbbb0_/001/
      b/0/_/v_bbbbbbbbb0_/001/clip.mp4             the three leading folders are the last three characters of the id

The official lists have no split for learning without labels: the whole manifest is trained on, and nothing is held out.
Clips prepared as TimeCycle's release prepares them (folders of 12 pictures a second) are served too, by its list of
"<folder> <number of pictures>" lines as the manifest.
"""

from __future__ import annotations

from pathlib import Path

from zoo.data.datamodule import VideoDataModule
from zoo.data.listing import place_inside, read_lines
from zoo.data.loader import UNLABELLED, VideoRecord
from zoo.errors import DataError
from zoo.spec import VideoSpec


class Vlog(VideoDataModule):
    """VLOG without labels (see the module's docstring for the layout)."""

    held_out = False

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        manifest: str = "manifest.txt",
    ) -> None:
        """As `VideoDataModule`.

        Args:
            root: the folder that the clips' folders lie in.
            spec: what the model wants. Pictures that were prepared at 12 a second count as they are, whatever its rate.
            batch_size: clips per process and step.
            num_workers: processes that decode.
            seed: of the order of the videos and of every random crop.
            manifest: the list, relative to the root: manifest.txt, manifestTrain.txt, ...
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        self.manifest = manifest

    def has_split(self, split: str) -> bool:
        return split == "train"

    def find_records(self, split: str) -> tuple[list[VideoRecord], int]:
        if split != "train":
            raise DataError(
                f"{self.name} is trained on whole and has no split {split!r}; test on davis2017, jhmdb or vip."
            )
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the folder of VLOG's clips as root.")
        manifest = place_inside(self.root, self.manifest, "manifest")
        lines = read_lines(manifest)
        records = [self._record(text, f"{manifest}, line {number}") for number, text in lines]
        return [record for record in records if record.path.exists()], len(records)

    def _record(self, text: str, where: str) -> VideoRecord:
        folder, _, count = text.rpartition(" ")
        if folder and count.isascii() and count.isdigit():  # a folder of prepared pictures; those there are what counts
            place = home = place_inside(self.root, folder.strip(), where)
        else:
            home = place_inside(self.root, text, where)
            place = home / "clip.mp4"
        return VideoRecord(place, UNLABELLED, home.relative_to(self.root).as_posix())
