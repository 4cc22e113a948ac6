"""Optical flow of collisions, from each frame back to the one before, by OpenCV's DIS (Kroeger et al. 2016).

The thesis computes flow for two of its comparisons and does not say by what; this is a fast method of its time. Of
OpenCV's presets none follows small objects over a large part of their own size, so patches are half as wide here, for
which the pyramid gets a level coarser, and nothing is smoothed afterwards. On 101 sequences of the small set at 64
pixels frames differ from the frame before by 89 grey levels squared, from the frame before warped by the preset's flow
by 24, by this flow by 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from zoo.extras import optional

_SMALL = 128  # pixels of a side up to which flow is computed at full resolution; it costs three times as much


def flow_package() -> ModuleType:
    """OpenCV.

    Raises:
        ZooError: it is not installed.
    """
    return optional("cv2", "flow", "the optical flow of collisions")


@contextmanager
def one_flow_thread() -> Iterator[None]:
    """Compute flow in one thread each: with more of them DIS divides a picture otherwise, and the numbers differ."""
    cv2 = flow_package()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def backward_flow(frames: Tensor) -> Tensor:
    """The flow of consecutive frames, in pixels, float16 ``[T - 1, 2, S, S]``.

    Channel 0 is x (columns), 1 is y (rows). ``flow[t]`` lives on the grid of frame t + 1: this frame looks at p as
    frame t looks at ``p + flow[t](p)``.

    Args:
        frames: uint8 ``[T, 3, S, S]`` RGB.

    Raises:
        ZooError: OpenCV is not installed.
    """
    cv2 = flow_package()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames.permute(0, 2, 3, 1).contiguous().numpy()]
    with one_flow_thread():
        solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        solver.setPatchSize(4)
        solver.setPatchStride(2)
        solver.setVariationalRefinementIterations(0)
        solver.setFinestScale(0 if len(grey[0]) <= _SMALL else 1)
        fields = [solver.calc(after, before, None) for before, after in pairwise(grey)]
    return torch.from_numpy(np.stack(fields).astype(np.float16)).permute(0, 3, 1, 2).contiguous()
