"""Which single images of a video are looked at: those of a test, and the training samples of a list of videos.

Images are counted from 1 and image ``n`` of them is at ``(n - 1) / fps`` seconds; Charades' releases have 24 a second.
Here is arithmetic on annotations and lengths alone: no folder is listed and no file opened, and of the millions of
training samples only how many there are is kept.

Two published rules say what a training sample is. The Torch release (``labels="one"``) takes every fourth image that
lies within an annotation, once for each annotation, with its class. The PyTorch port (``"all"``) takes every fourth
image of a video but its last one, with all classes at that time. Both count from the first image on. The port stores
with a training sample the number from 0 on and with a test sample that from 1 on; here both are the number from 1 on,
which is the file's.

A stack of F flow fields needs images ahead of it: a test's last one starts F + 1 images before the video's last, in
both releases. While training the port's do so too, which is the rule here; the Torch release stops one image earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.data.activities import Action
from zoo.spec import MomentSpec


def image_count(seconds: float, fps: float) -> int:
    """Images that so many seconds have: the nearest whole number, but one at least."""
    return max(1, int(np.floor(seconds * fps + 0.5)))


def image_seconds(numbers: np.ndarray, fps: float) -> np.ndarray:
    """When images come on, in seconds after the first, float64."""
    return (np.asarray(numbers) - 1) / fps


def spread_images(count: int, points: int, ahead: int = 0) -> np.ndarray:
    """The images of a test, int64 ``[points]``: evenly from the first to ``ahead`` before the last, rounded down.

    As the releases compute it, in float64; a video with fewer images than points gives some of them twice.
    """
    return np.floor(np.linspace(1, max(count - ahead, 1), points)).astype(np.int64)


def flow_ahead(moments: MomentSpec) -> int:
    """Images that a video goes on for, at least, after the first one of a stack of flow."""
    return moments.flow + 1


def last_image(count: int, moments: MomentSpec) -> int:
    """The last image of a video with ``count`` of them that a training sample may be of; below 1 where none may be."""
    if "flow" in moments.streams:
        return count - flow_ahead(moments)
    return count - 1 if moments.labels == "all" else count


def progress(seconds: np.ndarray, starts: np.ndarray, ends: np.ndarray, rule: str) -> np.ndarray:
    """How far an annotation has gone on at a time within it, int64: 0, 1 or 2.

    Args:
        seconds: the times.
        starts: of the annotations.
        ends: of the annotations.
        rule: ``"thirds"`` of the interval as the paper has it, or ``"released"``: the released code divides the time
            since the start by the time of the end, so that what begins late hardly goes on.
    """
    whole = ends if rule == "released" else ends - starts
    # A sample's time lies within its interval, but for the last image of a file that ends before it: then the nearest.
    return np.clip(np.floor(3 * (seconds - starts) / np.where(whole > 0, whole, 1)), 0, 2).astype(np.int64)


class MomentTable:
    """The training samples of a list of videos by number, as `MomentSpec` asks for them.

    How many a video has follows from its annotated length, so none is opened before it is drawn. One that then turns
    out to be shorter gives what it has instead (`images`), so its last seconds' samples stand for earlier ones; what
    one that is longer has beyond its annotated length is never drawn.

    With ``together`` images in a sample a video's are dealt out: each of its samples is spread evenly over the whole
    video, no two share an image, and as many are made as there are images for.
    """

    def __init__(self, videos: Sequence[Sequence[Action]], counts: Sequence[int], moments: MomentSpec, fps: float):
        """
        Args:
            videos: what is done in each.
            counts: images of each, by its annotated length.
            moments: what a sample is.
            fps: images a second.
        """
        self.actions, self.counts, self.moments, self.fps = videos, counts, moments, fps
        self._grid = image_seconds(1 + moments.every * np.arange(max(counts, default=0) // moments.every + 1), fps)
        if moments.labels == "one" and moments.together == 1:
            entries = [(video, action) for video, actions in enumerate(videos) for action in actions]
            self._videos = np.array([video for video, _ in entries], dtype=np.int64)
            self._entries = [action for _, action in entries]
            first, stop = self._within(self._entries)
            self._first = first
            ends = np.array([self._on_grid(last_image(counts[video], moments)) for video, _ in entries], dtype=np.int64)
            sizes = np.maximum(np.minimum(stop, ends) - first, 0)
        elif moments.together == 1:
            self._videos = np.arange(len(videos))
            sizes = [self._on_grid(last_image(count, moments)) for count in counts]
        else:
            self._videos = np.arange(len(videos))
            usable = [len(self._usable(video, count, moments.every)) for video, count in enumerate(counts)]
            sizes = [max(number // moments.together, min(number, 1)) for number in usable]
        self._ends = np.cumsum(sizes, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def video(self, row: int) -> int:
        """The number of a sample's video."""
        return int(self._videos[self._entry(row)])

    def images(self, row: int, count: int | None = None) -> np.ndarray:
        """A sample's images in order of time, int64 ``[together]``.

        Args:
            row: the sample.
            count: images that its video really has, where it has fewer than its annotated length promises.
        """
        moments = self.moments
        entry = self._entry(row)
        video, turn = int(self._videos[entry]), row - (int(self._ends[entry - 1]) if entry else 0)
        count = self.counts[video] if count is None else min(count, self.counts[video])
        last = last_image(count, moments)
        if moments.together > 1:
            return self._dealt(video, count, turn, last)
        first, size = 0, self._on_grid(last)
        if moments.labels == "one":
            first = int(self._first[entry])
            size = min(size - first, self._size(entry))
        # Nothing is left of an annotation, or of a video, that lies behind the end: then the last image there is.
        chosen = 1 + moments.every * (first + turn % size) if size > 0 else last
        return np.array([chosen], dtype=np.int64)

    def annotated(self, row: int, numbers: np.ndarray, rng: np.random.Generator) -> list[Action]:
        """What a sample is labelled with where it has one label: an action for each of its images.

        Args:
            row: the sample.
            numbers: its images, as `images` gives them.
            rng: draws one where several are on.
        """
        entry = self._entry(row)
        if self.moments.together == 1:
            return [self._entries[entry]]
        drawn = []
        for second in image_seconds(numbers, self.fps).tolist():
            actions = self.actions[int(self._videos[entry])]
            on = [action for action in actions if action.start < second < action.end] or actions
            drawn.append(on[int(rng.integers(len(on)))])
        return drawn

    def _entry(self, row: int) -> int:
        return int(np.searchsorted(self._ends, row, side="right"))

    def _size(self, entry: int) -> int:
        return int(self._ends[entry]) - (int(self._ends[entry - 1]) if entry else 0)

    def _on_grid(self, last: int) -> int:
        """How many of the images 1, 1 + every, ... there are up to ``last``."""
        return max((last - 1) // self.moments.every + 1, 0)

    def _within(self, actions: Sequence[Action]) -> tuple[np.ndarray, np.ndarray]:
        """The first place on the grid with ``start < time`` and the first without ``time < end``, of each action."""
        first = np.searchsorted(self._grid, [action.start for action in actions], side="right")
        return first, np.searchsorted(self._grid, [action.end for action in actions], side="left")

    def _usable(self, video: int, count: int, every: int) -> np.ndarray:
        """The images of a video that a sample of several may hold, of every ``every``-th one."""
        numbers = np.arange(1, last_image(count, self.moments) + 1, every)
        if self.moments.labels == "all":
            return numbers
        seconds = image_seconds(numbers, self.fps)
        on = np.zeros(len(numbers), dtype=bool)
        for _, start, end in self.actions[video]:
            on |= (start < seconds) & (seconds < end)
        return numbers[on]

    def _dealt(self, video: int, count: int, turn: int, last: int) -> np.ndarray:
        together = self.moments.together
        numbers = self._usable(video, count, self.moments.every)
        if len(numbers) < together:  # a short video: closer to each other, and only then some twice
            numbers = self._usable(video, count, 1)
        if not len(numbers):
            numbers = np.array([last], dtype=np.int64)
        samples = max(len(numbers) // together, 1)
        places = (turn % samples + samples * np.arange(together)) * len(numbers) // (samples * together)
        return numbers[places]
