"""How much moves: the mean magnitude of TV-L1 optical flow (Zach, Pock and Bischof 2007), as one number a clip.

The fourth baseline of Zhukov et al., ECCV 2020 takes it for actionness. Which flow they used is not said.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zoo.data.tvl1 import flow_magnitude as magnitude
from zoo.methods.base import ZooModule
from zoo.registry import register
from zoo.spec import VideoSpec


class FlowMagnitude(ZooModule):
    """Two frames, a 24th of a second apart, to the mean length of the motion between them in pixels."""

    default_weights = "none"

    def __init__(self) -> None:
        size = {"crop": 224, "short_side": (256, 256), "test_crop": 224, "test_short_side": 256}
        plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        super().__init__(VideoSpec(frames=2, stride=1, fps=24, clips=1, crops=1, **size, **plain))

    def protocol(self) -> dict[str, object]:
        """Nothing is tested."""
        return {"in_words": "features only; actionness_flow scores them"}

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, 2, H, W]``, RGB in 0..1, to magnitudes ``[B, 1]``.

        Raises:
            ZooError: OpenCV is not installed with its optical flow.
        """
        if clips.is_meta:  # when only shapes are asked for
            return clips.new_empty(len(clips), 1)
        pictures = (clips * 255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
        values = [[magnitude(np.ascontiguousarray(frames))] for frames in pictures]
        return torch.tensor(values, dtype=torch.float32, device=clips.device)

    def features(self, clips: Tensor) -> Tensor:
        """The magnitudes; see `ZooModule.features`."""
        return self(self.normalize(clips))


@register("flow_magnitude", paper="zach2007tvl1")
def flow_magnitude() -> FlowMagnitude:
    """The mean magnitude of optical flow between two frames, one number a clip."""
    return FlowMagnitude()
