"""How far predicted frames are from the true ones: the mean squared difference of their pixels, in grey levels.

Ye et al. (ECCV 2018), section 9.4 of the thesis: "pixel error" is the mean over the 3 x H x W values of a frame of the
squared difference, values 0..255, and then the mean over sequences. The released scripts count the first sequence
twice in the errors of single scales; here each counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import ZooError


def pixel_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Of each frame, ``[..., 3, H, W]`` in 0..1 (or with the same mean subtracted from both) to ``[...]``."""
    return (predicted.float() - truth.float()).square().mean(dim=(-3, -2, -1)) * 255**2


class PixelErrors(Metric):
    """Means of several errors at once, each over its own sequences; exact under as many processes as there are records.

    Args:
        names: of the errors. Those that are never updated are left out of the result.
    """

    higher_is_better = False
    full_state_update = False

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise ZooError(f"PixelErrors: names must be there and differ, got {tuple(names)}.")
        self.names = tuple(names)
        self.add_state("total", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, errors: dict[str, Tensor], rows: int) -> None:
        """Take errors of sequences.

        Args:
            errors: of some of the names, tensors of any shape; an empty one adds nothing.
            rows: records of the data that they are from.
        """
        for name, values in errors.items():
            if name not in self.names:
                raise ZooError(f"PixelErrors.update: no error is called {name!r}; known: {', '.join(self.names)}.")
            place = self.names.index(name)
            self.total[place] += values.double().sum()
            self.count[place] += values.numel()
        self.rows += rows

    def compute(self) -> dict[str, Tensor]:
        """The means, and ``videos``: the records that were seen."""
        found = {
            name: total / count
            for name, total, count in zip(self.names, self.total, self.count, strict=True)
            if count > 0
        }
        return {**found, "videos": self.rows}
