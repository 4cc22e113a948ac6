"""Step localisation as CrossTask measures it (Zhukov et al., CVPR 2019): of each step one clip is asked for.

A step counts as found when its clip lies in any of its annotated intervals. Recall is pooled over the videos of a task,
and averaged over tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.rows import SEQUENCE, FrameRows

_NAME = 16  # numbers that hold a task's key, of 8 bytes each
_HITS, _PAIRS, _TASK = 2, 3, 4  # columns after video and frame


class StepRecall(FrameRows):
    """The share of the steps that a video shows whose assigned clip shows them, for each task, in percent.

    The key of a task travels in the table, so tasks need not be known before.
    """

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__(key=2, columns=_TASK + _NAME)

    def update(self, steps_at: Tensor, intervals: Tensor, steps: Tensor, task: str, length: int, video: int) -> None:
        """Take one video. One whose annotations reach no clip counts as a video, but in no recall.

        Args:
            steps_at: ``[K]`` the clip of each step of the task; one outside the video finds nothing.
            intervals: ``[n, 2]`` annotated seconds, at one clip a second.
            steps: ``[n]`` which of the K steps an interval is of.
            task: its key.
            length: T, the video's clips.
            video: its number in the list.

        Raises:
            ZooError: wrong shapes, steps that the task does not have, intervals that end before they start; names the
                video.
        """
        where = f"StepRecall.update: video {video}"
        if video < 0:
            raise ZooError(f"{where}: videos are numbered from 0.")
        if steps_at.ndim != 1 or not len(steps_at) or steps_at.is_floating_point():
            raise ZooError(f"{where}: the clips of its steps must be [K] whole numbers, got {tuple(steps_at.shape)}.")
        truth = step_truth(intervals, steps, len(steps_at), length, where=where).bool()
        at = steps_at.cpu().long()
        inside = (at >= 0) & (at < length)
        found = truth[at.clamp(0, max(0, length - 1)), torch.arange(len(at))] if length else torch.zeros_like(inside)
        counts = torch.stack([(found & inside).sum(), truth.any(0).sum()])[None]
        self._add(torch.tensor([video]), torch.tensor([0]), counts, _encoded(where, task)[None])

    def compute(self) -> dict[str, Tensor]:
        """The recall of each task in percent by its key, their plain ``average``, and how many ``videos`` came.

        A task of which no step is annotated in any clip has no recall, and is left out. The average of no task is 0.
        """
        rows = self._table()
        tasks, number = rows[:, _TASK:].unique(dim=0, return_inverse=True)
        counts = torch.zeros(len(tasks), 2, dtype=torch.int64).index_add_(0, number, rows[:, _HITS : _PAIRS + 1])
        known = {_decoded(task): pair for task, pair in zip(tasks, counts.tolist(), strict=True) if pair[1]}
        recall = {task: 100 * hits / pairs for task, (hits, pairs) in sorted(known.items())}
        average = sum(recall.values()) / max(1, len(recall))
        return self._result(recall | {"average": average, "videos": len(rows[:, SEQUENCE].unique())})


def step_truth(intervals: Tensor, steps: Tensor, count: int, length: int, *, where: str = "step_truth") -> Tensor:
    """Which clips show which steps, uint8 ``[T, K]``: those from floor(start) to ceil(end) - 1, within the video.

    Args:
        intervals: ``[n, 2]`` seconds, at one clip a second.
        steps: ``[n]`` which of the K steps an interval is of, from 0.
        count: K.
        length: T.
        where: the place that an error names.
    """
    intervals, steps = torch.as_tensor(intervals).cpu().double(), torch.as_tensor(steps).cpu()
    if not intervals.numel():
        intervals, steps = intervals.reshape(0, 2), steps.reshape(0).long()
    if intervals.shape != (len(steps), 2) or steps.ndim != 1 or steps.is_floating_point():
        raise ZooError(
            f"{where}: intervals {tuple(intervals.shape)} and their steps {tuple(steps.shape)} must be [n, 2] seconds "
            "and [n] whole numbers."
        )
    if not intervals.isfinite().all() or (intervals[:, 1] < intervals[:, 0]).any():
        raise ZooError(f"{where}: intervals must be finite and end after they start, got {intervals.tolist()}.")
    if len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) < count:
        raise ZooError(f"{where}: the task has steps 0 to {count - 1}, and intervals of {steps.unique().tolist()}.")
    clip = torch.arange(length)[:, None]
    inside = (clip >= intervals[:, 0].floor()) & (clip < intervals[:, 1].ceil())  # [T, n]
    truth = torch.zeros(length, count, dtype=torch.int64).index_add_(1, steps.long(), inside.long())
    return (truth > 0).to(torch.uint8)


def _encoded(where: str, task: str) -> Tensor:
    """A task's key as whole numbers ``[16]``, so that it can stand in a table."""
    name = task.encode()
    if not name or len(name) > 8 * _NAME or task in ("average", "videos") or "\0" in task:
        raise ZooError(
            f"{where}: a task's key has 1 to {8 * _NAME} bytes and is not average or videos, which results have of "
            f"their own, got {task!r}."
        )
    return torch.tensor(list(name.ljust(8 * _NAME, b"\0")), dtype=torch.uint8).view(torch.int64)


def _decoded(numbers: Tensor) -> str:
    return bytes(numbers.contiguous().view(torch.uint8).tolist()).rstrip(b"\0").decode()
