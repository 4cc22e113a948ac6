"""Text-to-clip retrieval, as MIL-NCE is tested: every clip's sentence against all clips (Miech et al., CVPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_AT_ONCE = 1024  # sentences that are held against all clips together


class TextToClip(Metric):
    """Recall at 1, 5 and 10 in percent, and the median rank of the right clip, over all clips of all processes.

    A clip that two processes saw counts once, by its number.
    """

    full_state_update = False
    clips: list[Tensor]
    texts: list[Tensor]
    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("clips", "texts", "numbers"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, clips: Tensor, texts: Tensor, index: Tensor) -> None:
        """Embeddings of clips and of their sentences, both ``[B, D]``, and the clips' numbers, int64 ``[B]``."""
        self.clips.append(clips.detach().float())
        self.texts.append(texts.detach().float())
        self.numbers.append(index.to(clips.device))

    def compute(self) -> dict[str, Tensor]:
        """``recall_1``, ``recall_5``, ``recall_10``, ``median_rank`` and the number of clips, ``videos``."""
        if not len(self.numbers) or not len(numbers := dim_zero_cat(self.numbers)):
            return {"videos": torch.tensor(0.0, device=self.device)}
        order = numbers.argsort(stable=True)
        order = order[torch.cat([torch.ones_like(order[:1]), numbers[order].diff()]) != 0]
        clips, texts = dim_zero_cat(self.clips)[order], dim_zero_cat(self.texts)[order]
        parts = []
        for first, part in enumerate(texts.split(_AT_ONCE)):
            scores = part @ clips.T
            right = scores.diagonal(first * _AT_ONCE)[:, None]
            # A clip that scores as high as the right one comes before it: who says the same of all finds none.
            parts.append((scores >= right).sum(1).float())
        ranks = torch.cat(parts)
        values = {f"recall_{k}": 100 * (ranks <= k).float().mean() for k in (1, 5, 10)}
        middle = ranks.sort().values[[(len(ranks) - 1) // 2, len(ranks) // 2]].mean()
        return {**values, "median_rank": middle, "videos": torch.tensor(float(len(order)), device=ranks.device)}
