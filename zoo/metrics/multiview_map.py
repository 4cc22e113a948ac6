"""Mean average precision over videos that are seen in many views and have several labels each, as those of Charades.

A video's score of a class is the largest among its views: what happens at any time counts (Wang and Gupta 2018; the
non-local paper does not say). Ranking and averages are `zoo.metrics.charades`'s.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.charades import CharadesClassificationMAP
from zoo.metrics.multiview import COUNT, INDEX, ViewRows


class MultiViewMAP(ViewRows):
    """`CharadesClassificationMAP` of what the views of each video score together; see `ViewRows`.

    Args:
        num_classes: of the scores.
        views: views that a complete video has, as `VideoSpec.views` says.
        combine: ``"max"`` of the views' scores, or their ``"mean"``.
    """

    def __init__(self, num_classes: int, views: int = 30, combine: Literal["max", "mean"] = "max") -> None:
        if combine not in ("max", "mean"):
            raise ZooError(f"views are combined by 'max' or 'mean', got {combine!r}.")
        super().__init__(views, combine="max" if combine == "max" else "sum")
        self.num_classes = num_classes

    def update(self, scores: Tensor, label: Tensor, index: Tensor, view: Tensor) -> None:
        """Take the scores of B rows of V views each.

        Args:
            scores: ``[B, V, classes]`` of each view, between 0 and 1 (``[B, classes]`` is read as V = 1).
            label: ``[B, classes]`` 1 for each class of each row's video, else 0.
            index: ``[B]`` the number of each row's video in its list.
            view: ``[B]`` the number of the first of the row's V views, 0-based.
        """
        scores_BVC = self._checked(scores, label, index, view)
        if not len(scores_BVC):
            return
        if label.shape != (len(label), self.num_classes) or scores_BVC.shape[2] != self.num_classes:
            raise ZooError(
                f"MultiViewMAP.update: scores {tuple(scores.shape)} and labels {tuple(label.shape)} must both have "
                f"{self.num_classes} classes; a label is a row of zeros and ones, one for each class."
            )
        if (bad := scores_BVC.isnan().flatten(1).any(1)).any():  # now, not at the end of a day of testing
            video = int(index[bad.nonzero()[0, 0]])
            raise ZooError(
                f"MultiViewMAP.update: video {video} has a score that is NaN; look for what broke the model."
            )
        index, view = (x.to(scores_BVC.device, torch.int64) for x in (index, view))
        # A video's labels travel as further columns of its scores: no maximum changes them, and no sum their being 0.
        labels_BVC = label.to(scores_BVC)[:, None].expand_as(scores_BVC)
        self._add(torch.cat([scores_BVC, labels_BVC], dim=2), index, view, torch.zeros_like(index))

    def compute(self) -> dict[str, Tensor]:
        """What `CharadesClassificationMAP` gives (``map`` and the rest), and how many videos are ``incomplete``.

        Those lacked some of their views, and were scored by the others.
        """
        rows, table = self._videos()
        scores, labels = (
            table.view(len(rows), 2, -1).unbind(1) if len(rows) else table.new_zeros(2, 0, self.num_classes)
        )
        if self.combine == "sum":
            scores = scores / rows[:, COUNT, None]
        metric = CharadesClassificationMAP(self.num_classes).to(table.device)
        metric.update(scores, (labels > 0).long(), rows[:, INDEX])
        return {**metric.compute(), "incomplete": (rows[:, COUNT] < self.views).sum().float()}
