"""Two models of moments, one of RGB and one of flow, whose scores become one.

Each is trained by itself and the networks share nothing, so this only tests and predicts. The paper multiplies the two
probabilities of a class, the released script takes their mean; `zoo scores fuse` does either with files of scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from zoo.errors import WeightsError, ZooError
from zoo.methods.moments import MomentModel

Fusion = Literal["mean", "product"]


class TwoStreams(MomentModel):
    """A model of RGB and one of flow, of the same classes.

    Attributes:
        rgb: the first; another one with weights in it may be put in its place.
        flow: the second.
    """

    starts_from_files = True

    def __init__(self, rgb: MomentModel, flow: MomentModel, fusion: Fusion = "mean", smooth: int = 0) -> None:
        """
        Args:
            rgb: sees RGB alone.
            flow: sees flow alone, at the same moments.
            fusion: of the two scores of a class.
            smooth: half width, in test frames, of the average over time of ``point_map_post``; 0 leaves that out.
        """
        if fusion not in ("mean", "product"):
            raise ZooError(f"fusion must be 'mean' or 'product', got {fusion!r}.")
        if (rgb.num_classes, rgb.spec.moments.points) != (flow.num_classes, flow.spec.moments.points):
            raise ZooError("the models of RGB and of flow must tell the same classes apart, at as many moments.")
        moments = dataclasses.replace(rgb.spec.moments, streams=("rgb", "flow"), flow=flow.spec.moments.flow)
        super().__init__(spec=rgb.spec.replace(moments=moments), num_classes=rgb.num_classes, smooth=smooth)
        self.rgb, self.flow, self.fusion = rgb, flow, fusion
        self.pooling = f"{rgb.pooling}, {fusion} of RGB's and flow's"

    def fuse(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """The scores of both streams as one."""
        return (rgb + flow) / 2 if self.fusion == "mean" else rgb * flow

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Each stream's scores of the videos and of their moments, brought together."""
        streams = self.rgb.scores(batch), self.flow.scores(batch)
        return [(self.fuse(a, b), self.fuse(c, d)) for (a, c), (b, d) in zip(*streams, strict=True)]

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a model of one of the streams in its place, or those of both as they are.

        Raises:
            WeightsError: they fit neither.
        """
        own = self.state_dict()
        shapes = {name: value.shape for name, value in state.items()}
        if shapes.keys() == own.keys():
            return dict(state)
        for stream, model in (("rgb", self.rgb), ("flow", self.flow)):
            if shapes == {name: value.shape for name, value in model.state_dict().items()}:
                return {**own, **{f"{stream}.{name}": value for name, value in state.items()}}
        raise WeightsError(
            f"these weights fit neither stream of {self.name or type(self).__name__}; take those of a model of RGB or "
            "of flow that was built with the same arguments."
        )
