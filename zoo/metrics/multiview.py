"""Accuracy over many views of each video: the test protocol of Kinetics classifiers (10 clips x 3 crops, 5.2-5.3).

A video's score is the sum of the softmax vectors of its views; it counts as right within k when its label is among the
first k classes of a descending sort. Two more numbers are kept under names of their own, because papers and users mix
them up: every view judged alone (``clip_top1``), and the first view of each video alone (``first_top1``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import ZooError

# Columns of a row's whole numbers; after them come, for each k, the views right within k, then the same of view 0.
_INDEX, _VIEW, _LABEL, _COUNT, _FIRST, _HITS = range(6)
_WHOLE = -1  # the _VIEW of a row that holds all views of its video
_VIEW_BITS = 20
_COMPACT_AFTER = 1024  # rows


class MultiViewAccuracy(Metric):
    """Video-level, view-level and first-view accuracy in percent, exact for any number of processes.

    Each row handed in stands for V consecutive views of one video and is known by (video, first view). A row that
    comes twice, as from Lightning's padding sampler, counts once, whichever process saw it. Videos whose views are all
    here are folded into one row each, so that 20,000 videos x 400 classes hold 64 MB at most, however many views each
    has; the rows of unfinished videos are kept as they came.

    Args:
        views: views that a complete video has, as `VideoSpec.views` says.
        topk: the k's to report, ascending or not.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor]
    scores: list[Tensor]

    def __init__(self, views: int = 30, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__()
        if not 1 <= views < 2**_VIEW_BITS or not topk or min(topk) < 1:
            raise ZooError(f"MultiViewAccuracy needs views >= 1 and positive topk, got views={views}, topk={topk}.")
        self.views = views
        self.topk = tuple(topk)
        self._fresh = 0  # rows since the last fold
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # [R, 5 + 2 len(topk)] int64
        # Flat, because a process that saw no video must join the gather without knowing the number of classes.
        self.add_state("scores", default=[], dist_reduce_fx="cat")  # [R * classes] float32

    def update(self, scores: Tensor, label: Tensor, index: Tensor, view: Tensor) -> None:
        """Take the scores of B rows of V views each.

        Args:
            scores: ``[B, V, classes]`` softmax of each view (``[B, classes]`` is read as V = 1).
            label: ``[B]`` the class of each row's video.
            index: ``[B]`` the number of each row's video in its list.
            view: ``[B]`` the number of the first of the row's V views, 0-based.
        """
        scores_BVC = (scores[:, None] if scores.ndim == 2 else scores).detach().float()
        if scores_BVC.ndim != 3 or not len(scores_BVC) == len(label) == len(index) == len(view):
            raise ZooError(
                f"MultiViewAccuracy.update: scores {tuple(scores.shape)} must be [B, V, classes] with one label "
                f"({len(label)}), index ({len(index)}) and view ({len(view)}) for each of the B rows."
            )
        if not len(scores_BVC):
            return
        if (last := int(view.max()) + scores_BVC.shape[1]) > self.views:
            raise ZooError(
                f"MultiViewAccuracy got view {last - 1} (from 0), but was told of {self.views} views a video."
            )
        label, index, view = (x.to(scores_BVC.device, torch.int64) for x in (label, index, view))
        hits_BVK = self._hits(scores_BVC, label[:, None].expand(scores_BVC.shape[:2]))
        first = view == 0
        count = torch.full_like(index, scores_BVC.shape[1])
        facts = torch.stack([index, view, label, count, first.long()], dim=1)
        self.rows.append(torch.cat([facts, hits_BVK.sum(1), hits_BVK[:, 0] * first[:, None]], dim=1))
        self.scores.append(scores_BVC.sum(1).flatten())
        self._fresh += len(facts)
        # Folding when the unfolded part has outgrown the rest costs O(log R) a row over the whole test.
        if self._fresh >= max(_COMPACT_AFTER, len(self.rows[0])):
            self._fold()

    def compute(self) -> dict[str, Tensor]:
        """Percentages ``top{k}`` (videos), ``clip_top{k}`` (single views), ``first_top{k}`` (first views), and counts.

        ``videos`` were scored, by as many of their views as came; ``incomplete`` of them lacked some of theirs. A
        percentage of nothing is 0, so look at ``videos`` first: where it is 0, nothing was measured.
        """
        rows, scores = _merge(*self._state(), at_least=1)
        hits = self._hits(scores, rows[:, _LABEL]) if len(rows) else rows.new_zeros(0, len(self.topk))
        views, first = rows[:, _COUNT].sum(), rows[:, _FIRST].sum()
        view_hits, first_hits = rows[:, _HITS:].sum(0).split(len(self.topk))
        result: dict[str, Tensor] = {}
        for name, right, of in (
            ("top", hits.sum(0), torch.as_tensor(len(rows), device=rows.device)),
            ("clip_top", view_hits, views),
            ("first_top", first_hits, first),
        ):
            result |= {f"{name}{k}": 100.0 * n / of.clamp(min=1) for k, n in zip(self.topk, right, strict=True)}
        result["videos"] = torch.as_tensor(float(len(rows)), device=rows.device)
        result["incomplete"] = (rows[:, _COUNT] < self.views).sum().float()
        return result

    def sync(self, *args, **kwargs) -> None:
        """Fold first: it sends less, and gives each state of a process without videos its type for the gather."""
        if not self._is_synced:
            self._fold()
        super().sync(*args, **kwargs)

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

    def _state(self) -> tuple[Tensor, Tensor]:
        """All rows ``[R, 5 + 2K]`` and their scores ``[R, classes]`` (``[0, 0]`` where there are none)."""
        # After a gather torchmetrics leaves tensors where lists were.
        rows = torch.cat(self.rows) if isinstance(self.rows, list) and self.rows else self.rows
        if not isinstance(rows, Tensor):
            rows = torch.zeros(0, _HITS + 2 * len(self.topk), dtype=torch.int64, device=self.device)
            return rows, torch.zeros(0, 0, device=self.device)
        scores = torch.cat(self.scores) if isinstance(self.scores, list) else self.scores
        return rows, scores.view(len(rows), -1) if len(rows) else scores.view(0, 0)

    def _fold(self) -> None:
        rows, scores = _merge(*self._state(), at_least=self.views)
        self.rows, self.scores, self._fresh = [rows], [scores.flatten()], 0


def _merge(rows: Tensor, scores: Tensor, at_least: int) -> tuple[Tensor, Tensor]:
    """Drop repeated rows, then add up the rows of each video that has ``at_least`` so many views.

    A sum is taken in double precision in the order of the views and rounded once, so it is the same whether a video's
    rows met early or late, in one process or in many.
    """
    if not len(rows):
        return rows, scores
    key = (rows[:, _INDEX] << _VIEW_BITS) | (rows[:, _VIEW] + 1)  # a whole video sorts before its single rows
    key, order = key.sort(stable=True)
    rows, scores = rows[order], scores[order]
    start = torch.ones_like(key, dtype=torch.bool)
    start[1:] = rows[1:, _INDEX] != rows[:-1, _INDEX]
    video = start.cumsum(0) - 1
    whole = (rows[start][:, _VIEW] == _WHOLE)[video]
    keep = torch.ones_like(start)
    keep[1:] = (key[1:] != key[:-1]) & ~(whole[1:] & ~start[1:])
    rows, scores, video = rows[keep], scores[keep], video[keep]

    seen = torch.zeros(int(video[-1]) + 1, dtype=torch.int64, device=rows.device)
    fold = seen.index_add(0, video, rows[:, _COUNT])[video] >= at_least
    _, slot = video[fold].unique_consecutive(return_inverse=True)
    total = int(slot[-1]) + 1 if len(slot) else 0
    head = torch.ones_like(slot, dtype=torch.bool)
    head[1:] = slot[1:] != slot[:-1]
    folded = rows[fold][head]
    folded[:, _VIEW] = _WHOLE
    for column in (_COUNT, _FIRST, *range(_HITS, rows.shape[1])):
        folded[:, column] = torch.zeros_like(folded[:, column]).index_add(0, slot, rows[fold][:, column])
    exact = torch.float32 if scores.device.type == "mps" else torch.float64  # Apple's GPUs know no doubles
    sums = torch.zeros(total, scores.shape[1], dtype=exact, device=scores.device)
    sums.index_add_(0, slot, scores[fold].to(exact))
    return torch.cat([folded, rows[~fold]]), torch.cat([sums.to(scores.dtype), scores[~fold]])
