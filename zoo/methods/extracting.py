"""Features of a video: the vectors that a model makes of clips all along it, a row for each.

Row k of ``rate`` rows a second stands for the time from ``k / rate`` to ``(k + 1) / rate``; see `zoo.data.row_clips`.
Any model with `ZooModule.features` has them. `zoo.extraction` writes those of whole collections.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from zoo.data.ahead import ahead
from zoo.data.row_clips import row_clips
from zoo.errors import ZooError
from zoo.methods.base import ZooModule


@torch.no_grad()  # not inference mode: what is extracted may be learned from
def extract(model: ZooModule, video: str | os.PathLike, rate: float = 1.0, batch_size: int = 8) -> Tensor:
    """The features of a video, float32 ``[T, D]`` on the CPU, in memory that does not grow with its pixels.

    A batch holds clips of this video alone, so what comes out depends on nothing that was extracted before.

    Args:
        model: with `ZooModule.features`; runs where it is, in eval mode.
        video: any file that FFmpeg decodes.
        rate: rows a second.
        batch_size: clips that the network takes at a time.

    Raises:
        VideoError: the file cannot be decoded.
        ZooError: the model has no features, or they are no numbers.
    """
    was_training, _ = model.training, model.eval()
    try:
        with closing(ahead(row_clips(video, model.spec, rate, batch_size))) as batches:
            network = Network(model)
            return joined(model, video, [network.rows(*batch) for batch in batches])
    finally:
        model.train(was_training)


class Network:
    """A model at work on one batch after another.

    An accelerator gets a batch while it is still at the one before; more than two do not wait there.
    """

    def __init__(self, model: ZooModule) -> None:
        self.model = model
        self._begun: deque[torch.cuda.Event] = deque()

    def rows(self, clips: Tensor, repeats: Tensor) -> Tensor:
        """The rows of a batch of `row_clips`, float32 ``[sum(repeats), D]`` on the model's device.

        Memory that the clips lie in may be used for others afterwards.
        """
        found = self.model.features(self._brought(clips)).float()
        if found.ndim != 2 or len(found) != len(clips):
            count, shape = len(clips), list(found.shape)
            raise ZooError(f"{named(self.model)}: features of {count} clips are [{count}, D], and it made {shape}.")
        if found.is_cuda:
            self._begun.append(torch.cuda.current_stream(found.device).record_event())
            if len(self._begun) > 2:
                self._begun.popleft().synchronize()
        return found if bool((repeats == 1).all()) else found.repeat_interleave(repeats.to(found.device), 0)

    def _brought(self, clips: Tensor) -> Tensor:
        device = self.model.device
        if device.type != "cuda":
            return clips.to(device)
        aside = torch.cuda.Stream(device)  # the stream that computes would copy only when it is done
        with torch.cuda.stream(aside):
            there = clips.to(device)
        aside.synchronize()
        there.record_stream(torch.cuda.current_stream(device))
        return there


def joined(model: ZooModule, video: str | os.PathLike, rows: Sequence[Tensor]) -> Tensor:
    """All rows of a video, float32 ``[T, D]`` on the CPU.

    Raises:
        ZooError: some are no numbers.
    """
    found = torch.cat(list(rows)).cpu()
    # By NumPy: torch would wake a thread for each core, and they are busy decoding.
    if not (finite := np.isfinite(found.numpy()).all(1)).all():
        row = int(finite.argmin())
        raise ZooError(
            f"{named(model)}: row {row} of {video} is NaN or infinite; are its weights whole? (`zoo verify`)"
        )
    return found


def named(model: ZooModule) -> str:
    """A model's registered name, or its class's."""
    return model.name or type(model).__name__
