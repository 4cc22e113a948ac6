"""Accuracy over many views of each video: the test protocol of Kinetics classifiers (10 clips x 3 crops, 5.2-5.3).

A video's score is the sum of the softmax vectors of its views; it counts as right within k when its label is among the
first k classes of a descending sort. Two more numbers are kept under names of their own, because papers and users mix
them up: every view judged alone (``clip_top1``), and the first view of each video alone (``first_top1``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import ZooError

# Columns of a row's whole numbers; after them come, for each k, the views right within k, then the same of view 0.
INDEX, _VIEW, _LABEL, COUNT, _FIRST, _HITS = range(6)
_WHOLE = -1  # the _VIEW of a row that holds all views of its video
_VIEW_BITS = 20
_COMPACT_AFTER = 1024  # rows


class ViewRows(Metric):
    """The ground of metrics over videos that are seen in many views, exact for any number of processes.

    Each row handed in stands for V consecutive views of one video and is known by (video, first view). A row that
    comes twice, as from Lightning's padding sampler, counts once, whichever process saw it. Videos whose views are all
    here are folded into one row each, so that 20,000 videos x 400 classes hold 64 MB at most, however many views each
    has; the rows of unfinished videos are kept as they came.

    Args:
        views: views that a complete video has, as `VideoSpec.views` says.
        extra: whole numbers that a row has beside those which every row has; they are added up over a video's rows.
        combine: what becomes of the scores of a video's views: their sum, or of each column its largest.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor]
    scores: list[Tensor]

    def __init__(self, views: int, extra: int = 0, combine: Literal["sum", "max"] = "sum") -> None:
        super().__init__()
        if not 1 <= views < 2**_VIEW_BITS:
            raise ZooError(f"{type(self).__name__} needs views >= 1, got views={views}.")
        self.views, self.columns, self.combine = views, _HITS + extra, combine
        self._fresh = 0  # rows since the last fold
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # [R, columns] int64
        # Flat, because a process that saw no video must join the gather without knowing the number of classes.
        self.add_state("scores", default=[], dist_reduce_fx="cat")  # [R * classes] float32

    def _checked(self, scores: Tensor, label: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """The scores as ``[B, V, classes]`` float32, if all is as `update` wants it."""
        scores_BVC = (scores[:, None] if scores.ndim == 2 else scores).detach().float()
        if scores_BVC.ndim != 3 or not len(scores_BVC) == len(label) == len(index) == len(view):
            raise ZooError(
                f"{type(self).__name__}.update: scores {tuple(scores.shape)} must be [B, V, classes] with one label "
                f"({len(label)}), index ({len(index)}) and view ({len(view)}) for each of the B rows."
            )
        if len(view) and (last := int(view.max()) + scores_BVC.shape[1]) > self.views:
            raise ZooError(
                f"{type(self).__name__} got view {last - 1} (from 0), but was told of {self.views} views a video."
            )
        return scores_BVC

    def _add(self, scores: Tensor, index: Tensor, view: Tensor, label: Tensor, extra: Tensor | None = None) -> None:
        """Append B rows.

        Args:
            scores: ``[B, V, classes]`` of each view.
            index: ``[B]`` the number of each row's video.
            view: ``[B]`` the number of the first of the row's V views.
            label: ``[B]`` a whole number that is one for all rows of a video.
            extra: ``[B, extra]`` further whole numbers.
        """
        count = torch.full_like(index, scores.shape[1])
        rows = torch.stack([index, view, label, count, (view == 0).long()], dim=1)
        rows = rows if extra is None else torch.cat([rows, extra], dim=1)
        scores = scores.sum(1) if self.combine == "sum" else scores.amax(1)
        self.rows.append(rows)
        self.scores.append(scores.flatten())
        self._fresh += len(rows)
        # Folding when the unfolded part has outgrown the rest costs O(log R) a row over the whole test.
        if self._fresh >= max(_COMPACT_AFTER, len(self.rows[0])):
            self._fold()

    def _videos(self) -> tuple[Tensor, Tensor]:
        """A row for each video, and its scores ``[videos, classes]``, combined from those of its views that came."""
        return _merge(*self._state(), 1, self.combine)

    def sync(self, *args, **kwargs) -> None:
        """Fold first: it sends less, and gives each state of a process without videos its type for the gather."""
        if not self._is_synced:
            self._fold()
        super().sync(*args, **kwargs)

    def _state(self) -> tuple[Tensor, Tensor]:
        """All rows ``[R, columns]`` and their scores ``[R, classes]`` (``[0, 0]`` where there are none)."""
        # After a gather torchmetrics leaves tensors where lists were.
        rows = torch.cat(self.rows) if isinstance(self.rows, list) and self.rows else self.rows
        if not isinstance(rows, Tensor):
            rows = torch.zeros(0, self.columns, dtype=torch.int64, device=self.device)
            return rows, torch.zeros(0, 0, device=self.device)
        scores = torch.cat(self.scores) if isinstance(self.scores, list) else self.scores
        return rows, scores.view(len(rows), -1) if len(rows) else scores.view(0, 0)

    def _fold(self) -> None:
        rows, scores = _merge(*self._state(), self.views, self.combine)
        self.rows, self.scores, self._fresh = [rows], [scores.flatten()], 0


class MultiViewAccuracy(ViewRows):
    """Video-level, view-level and first-view accuracy in percent; see `ViewRows`.

    Args:
        views: views that a complete video has, as `VideoSpec.views` says.
        topk: the k's to report, ascending or not.
    """

    def __init__(self, views: int = 30, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__(views, 2 * len(topk))
        if not topk or min(topk) < 1:
            raise ZooError(f"MultiViewAccuracy needs positive topk, got {topk}.")
        self.topk = tuple(topk)

    def update(self, scores: Tensor, label: Tensor, index: Tensor, view: Tensor) -> None:
        """Take the scores of B rows of V views each.

        Args:
            scores: ``[B, V, classes]`` softmax of each view (``[B, classes]`` is read as V = 1).
            label: ``[B]`` the class of each row's video.
            index: ``[B]`` the number of each row's video in its list.
            view: ``[B]`` the number of the first of the row's V views, 0-based.
        """
        scores_BVC = self._checked(scores, label, index, view)
        if not len(scores_BVC):
            return
        label, index, view = (x.to(scores_BVC.device, torch.int64) for x in (label, index, view))
        hits_BVK = self._hits(scores_BVC, label[:, None].expand(scores_BVC.shape[:2]))
        hits = torch.cat([hits_BVK.sum(1), hits_BVK[:, 0] * (view == 0)[:, None]], dim=1)
        self._add(scores_BVC, index, view, label, hits)

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``top{k}`` (videos), ``clip_top{k}`` (single views), ``first_top{k}`` (first views), and counts.

        ``videos`` were scored, by as many of their views as came; ``incomplete`` of them lacked some of theirs. A
        percentage of nothing is 0, so look at ``videos`` first: where it is 0, nothing was measured.
        """
        rows, scores = self._videos()
        hits = self._hits(scores, rows[:, _LABEL]) if len(rows) else rows.new_zeros(0, len(self.topk))
        views, first = rows[:, COUNT].sum(), rows[:, _FIRST].sum()
        view_hits, first_hits = rows[:, _HITS:].sum(0).split(len(self.topk))
        result: dict[str, Tensor] = {}
        for name, right, of in (
            ("top", hits.sum(0), torch.as_tensor(len(rows), device=rows.device)),
            ("clip_top", view_hits, views),
            ("first_top", first_hits, first),
        ):
            result |= {f"{name}{k}": 100.0 * n / of.clamp(min=1) for k, n in zip(self.topk, right, strict=True)}
        result["videos"] = torch.as_tensor(float(len(rows)), device=rows.device)
        result["incomplete"] = (rows[:, COUNT] < self.views).sum().float()
        return result

    def _hits(self, scores: Tensor, label: Tensor) -> Tensor:
        """``[..., K]`` 1 where the label of ``scores [..., classes]`` is within the first k of a descending sort.

        Of equal scores the lower class comes first. A row with a NaN or an infinity is wrong for every k.
        """
        classes = torch.arange(scores.shape[-1], device=scores.device)
        label = label[..., None]
        own = scores.gather(-1, label.clamp(0, len(classes) - 1))
        rank = ((scores > own) | ((scores == own) & (classes < label))).sum(-1)  # the label's place, without sorting
        label = label[..., 0]
        known = scores.isfinite().all(-1) & (label >= 0) & (label < scores.shape[-1])
        return torch.stack([known & (rank < k) for k in self.topk], dim=-1).long()


def _merge(rows: Tensor, scores: Tensor, at_least: int, combine: Literal["sum", "max"]) -> tuple[Tensor, Tensor]:
    """Drop repeated rows, then combine the rows of each video that has ``at_least`` so many views.

    A sum is taken in double precision in the order of the views and rounded once, so it is the same whether a video's
    rows met early or late, in one process or in many.
    """
    if not len(rows):
        return rows, scores
    key = (rows[:, INDEX] << _VIEW_BITS) | (rows[:, _VIEW] + 1)  # a whole video sorts before its single rows
    key, order = key.sort(stable=True)
    rows, scores = rows[order], scores[order]
    start = torch.ones_like(key, dtype=torch.bool)
    start[1:] = rows[1:, INDEX] != rows[:-1, INDEX]
    video = start.cumsum(0) - 1
    whole = (rows[start][:, _VIEW] == _WHOLE)[video]
    keep = torch.ones_like(start)
    keep[1:] = (key[1:] != key[:-1]) & ~(whole[1:] & ~start[1:])
    rows, scores, video = rows[keep], scores[keep], video[keep]

    seen = torch.zeros(int(video[-1]) + 1, dtype=torch.int64, device=rows.device)
    fold = seen.index_add(0, video, rows[:, COUNT])[video] >= at_least
    _, slot = video[fold].unique_consecutive(return_inverse=True)
    total = int(slot[-1]) + 1 if len(slot) else 0
    head = torch.ones_like(slot, dtype=torch.bool)
    head[1:] = slot[1:] != slot[:-1]
    folded = rows[fold][head]
    folded[:, _VIEW] = _WHOLE
    for column in (COUNT, _FIRST, *range(_HITS, rows.shape[1])):
        folded[:, column] = torch.zeros_like(folded[:, column]).index_add(0, slot, rows[fold][:, column])
    return torch.cat([folded, rows[~fold]]), torch.cat([_combined(scores[fold], slot, total, combine), scores[~fold]])


def _combined(scores: Tensor, slot: Tensor, total: int, combine: Literal["sum", "max"]) -> Tensor:
    """``[total, classes]``: the sum, or of each column the largest, of the rows that go into the same slot."""
    if combine == "max":
        best = scores.new_full((total, scores.shape[1]), -torch.inf)
        return best.scatter_reduce_(0, slot[:, None].expand_as(scores), scores, "amax")
    exact = torch.float32 if scores.device.type == "mps" else torch.float64  # Apple's GPUs know no doubles
    sums = torch.zeros(total, scores.shape[1], dtype=exact, device=scores.device)
    return sums.index_add_(0, slot, scores.to(exact)).to(scores.dtype)
