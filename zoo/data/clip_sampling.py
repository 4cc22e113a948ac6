"""How a video becomes a sequence of clips: the arithmetic of "Goals from failure" (Epstein and Vondrick 2020), on
numbers alone.

Candidate clips follow each other every ``spec.trajectory.step`` frames, counted at ``spec.fps``. A trajectory is every
``stride``-th of them: a random run of a few in training, all of a video when testing. What is random comes from the
`numpy.random.Generator` that the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.spec import TrajectorySpec, VideoSpec

CLASSES = 3
INTENTIONAL, TRANSITIONAL, UNINTENTIONAL = range(CLASSES)
BALANCE = (1.0, 0.93, 1 / 0.93)  # how often each class is shown for once that the most frequent one is


@dataclass(frozen=True)
class ClipTable:
    """The candidate clips of a video.

    Attributes:
        frames: the file's frame numbers, int64 ``[n, T]``.
        times: when each clip's first and last frame come on, seconds by the file's clock, float64 ``[n, 2]``. A clip
            ends when its last frame comes on, so neighbours leave a gap of a frame between them.
    """

    frames: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: np.ndarray | slice) -> ClipTable:
        return ClipTable(self.frames[chosen], self.times[chosen])


def resampled(n: int, rate: float, fps: float) -> np.ndarray:
    """The numbers, int64 ``[M]``, of the frames that stand for a video of ``n`` frames at ``fps`` frames a second.

    As the release counts: every r-th frame where ``r = rate / fps`` is whole, else ``floor(k * r)`` in float32 for the
    first ``floor(n * fps / rate)`` k. By number, not by time: a rate that changes within the file is averaged.
    """
    ratio = rate / fps
    if ratio.is_integer():
        return np.arange(0, n, int(ratio), dtype=np.int64)
    numbers = np.arange(int(n * fps / rate), dtype=np.float32) * np.float32(ratio)
    return np.minimum(np.floor(numbers).astype(np.int64), n - 1)


def clip_table(rate: float, times: np.ndarray, spec: VideoSpec) -> ClipTable:
    """The candidate clips of a video whose frames come on at ``times`` (seconds, ``[N]``), ``rate`` a second.

    None of them where the video is shorter than one clip.
    """
    n = len(times)
    numbers = resampled(n, rate, spec.fps) if spec.fps else np.arange(n)
    clips = numbers[_positions(candidates(len(numbers), spec), spec)]
    return ClipTable(clips, times[clips[:, [0, -1]]])


def nominal_count(length: float, spec: VideoSpec) -> int:
    """The candidate clips that a video of ``length`` seconds has if its rate is exactly ``spec.fps``.

    What a data set's annotations tell before any file is opened; the file may have one more or less.
    """
    return candidates(int(length * spec.fps), spec)


def nominal_times(count: int, spec: VideoSpec) -> np.ndarray:
    """When first and last frames of ``count`` candidates come on at exactly ``spec.fps``, float64 ``[count, 2]``."""
    return _positions(count, spec)[:, [0, -1]] / spec.fps


def candidates(frames: int, spec: VideoSpec) -> int:
    """How many candidate clips ``frames`` frames (at ``spec.fps``) have."""
    return max(0, (frames - clip_span(spec)) // spec.trajectory.step + 1)


def clip_span(spec: VideoSpec) -> int:
    """Frames (at ``spec.fps``) from a clip's first to its last, both counted."""
    return (spec.frames - 1) * spec.stride + 1


def labels(times: np.ndarray, failure: float) -> np.ndarray:
    """The classes of clips, int64 ``[n]``: 0 before the failure, 1 where it happens, 2 after it.

    Args:
        times: of their first and last frames, seconds, ``[n, 2]``.
        failure: when it happens, the median over the annotators. In the gap between two clips it leaves a video
            without any clip of class 1.
    """
    start, end = times[:, 0], times[:, 1]
    return np.where(start > failure, UNINTENTIONAL, np.where(failure <= end, TRANSITIONAL, INTENTIONAL)).astype(
        np.int64
    )


def spans(trajectory: TrajectorySpec) -> range:
    """The spans, in candidates, that a training trajectory may have; each is as likely.

    A span of s holds ``ceil(s / stride)`` clips. From the shortest with ``low`` clips to the shortest with ``high``:
    (6, 8) at stride 4 is 21 to 29, so 6, 7 and 8 clips have probabilities 4/9, 4/9 and 1/9, as in the release; (1, 1)
    is always one clip.
    """
    low, high = trajectory.clips
    return range((low - 1) * trajectory.stride + 1, (high - 1) * trajectory.stride + 2)


def start_count(count: int, trajectory: TrajectorySpec) -> int:
    """Places among ``count`` candidates at which the shortest trajectory may start; 0 where none fits."""
    return max(0, count - spans(trajectory).start + 1)


def draw_starts(count: int, trajectory: TrajectorySpec, rng: np.random.Generator) -> np.ndarray:
    """Starts of an epoch's trajectories, int64: distinct, ``trajectory.starts`` of them or all that there are."""
    return rng.permutation(start_count(count, trajectory))[: trajectory.starts]


def balanced_starts(label: np.ndarray, trajectory: TrajectorySpec, rng: np.random.Generator) -> np.ndarray:
    """`draw_starts` of single clips with the rarer classes repeated, as the release of Oops! trains its clip network.

    Args:
        label: of all candidates, ``[count]``.
        trajectory: how many starts.
        rng: draws them.
    """
    counts = np.bincount(label, minlength=CLASSES)
    most = int(counts.argmax())
    places = []
    for number in np.flatnonzero(counts):
        wanted = counts[most] if number == most else round(counts[most] * BALANCE[number])
        places.append(np.resize(rng.permutation(np.flatnonzero(label == number)), wanted))
    return rng.permutation(np.concatenate(places))[: trajectory.starts]


def draw_trajectory(count: int, start: int, trajectory: TrajectorySpec, rng: np.random.Generator) -> np.ndarray:
    """The candidates of one training trajectory, int64, from ``start`` on; cut where the ``count`` candidates end."""
    allowed = spans(trajectory)
    span = int(rng.integers(allowed.start, allowed.stop))
    return np.arange(start, min(start + span, count), trajectory.stride)


def whole_video(count: int, stride: int, cap: int | None) -> np.ndarray:
    """The candidates of a test, int64: every ``stride``-th of the first ``cap``.

    The cap counts candidates, not clips. The release's 50 at stride 4 are 13 clips: of a longer video, and of a failure
    in it, only the first 13 seconds are seen.
    """
    return np.arange(0, count if cap is None else min(cap, count), stride)


def _positions(count: int, spec: VideoSpec) -> np.ndarray:
    """Where the frames of ``count`` candidates stand among the resampled ones, int64 ``[count, T]``."""
    starts = np.arange(count, dtype=np.int64) * spec.trajectory.step
    return starts[:, None] + np.arange(spec.frames, dtype=np.int64) * spec.stride
