"""What one of several processes does of a collection of videos whose features are extracted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from zoo.claims import Claim
from zoo.feature_folder import FeatureFolder


class Share:
    """What one process does of a collection: its part of the videos first, then what others have left.

    Attributes:
        folder: the features'.
        rows: of the videos of this process, those that were there included, by id.
        made: the ids that this process computed.
        unreadable: id to message.
    """

    def __init__(
        self,
        folder: FeatureFolder,
        videos: dict[str, Path],
        rank: int,
        world: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.folder, self.videos = folder, videos
        self.rows: dict[str, int] = {}
        self.made: list[str] = []
        self.unreadable: dict[str, str] = {}
        ids = list(videos)
        first, last = (len(ids) * r // world for r in (rank, rank + 1))
        self._own, self._others = ids[first:last], ids[last:] + ids[:first]
        self._progress, self._done = progress, set()

    def claims(self) -> Iterator[tuple[Claim, Path]]:
        """The videos that are to be computed here, each claimed until its `Claim` is released."""
        there = self._look()
        for name in self._own:
            if name in there and (rows := self.folder.rows(name)) is not None:
                self.rows[name] = rows
            else:
                yield from self._claim(name)
        there = self._look() if self._others else there
        for name in self._others:
            if name not in there:
                yield from self._claim(name)

    def _claim(self, name: str) -> Iterator[tuple[Claim, Path]]:
        claim = self.folder.claims.take(name)
        if claim is None:  # somebody is at it
            return
        if (rows := self.folder.rows(name)) is not None:
            self.rows[name] = rows
        elif (message := self.folder.claims.failed(name)) is not None:
            self.unreadable[name] = message
            self._done.add(name)
        else:
            yield claim, self.videos[name]
            return
        claim.release()

    def write(self, claim: Claim, rows: Tensor) -> None:
        """Write a video's features."""
        self.folder.write(claim.name, rows)
        self.rows[claim.name] = len(rows)
        self.made.append(claim.name)
        self._done.add(claim.name)
        claim.release()

    def give_up(self, claim: Claim, message: str) -> None:
        """Note that a video cannot be read, so that nobody tries again while this run lasts."""
        self.unreadable[claim.name] = message
        self._done.add(claim.name)
        claim.fail(message)

    def tell(self) -> None:
        """Report how far all processes have got, as far as this one knows."""
        if self._progress is not None:
            if self.folder.is_time_to_look():
                self._look()
            self._progress(len(self._done), len(self.videos))

    def _look(self) -> set[str]:
        there = self.folder.ids()
        if self._progress is not None:
            self._done.update(there & self.videos.keys())
            self._progress(len(self._done), len(self.videos))
        return there
