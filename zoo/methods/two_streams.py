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
from zoo.methods.base import ZooModule
from zoo.methods.moments import MomentModel, MomentScore
from zoo.spec import VideoSpec

Fusion = Literal["mean", "product"]


class TwoStreams(MomentModel):
    """A model of RGB and one of flow, of the same classes.

    Attributes:
        rgb: the first.
        flow: the second.
    """

    starts_from_files = True
    untrainable = "has streams that are trained apart: zoo fit --model {}; zoo.fuse puts them together"

    def __init__(self, rgb: MomentModel, flow: MomentModel, fusion: Fusion = "mean", smooth: int = 0) -> None:
        """
        Args:
            rgb: sees RGB alone.
            flow: sees flow alone, at as many moments.
            fusion: of the two scores of a class.
            smooth: half width, in test frames, of the average over time of ``point_map_post``; 0 leaves that out.
        """
        if fusion not in ("mean", "product"):
            raise ZooError(f"fusion must be 'mean' or 'product', got {fusion!r}.")
        super().__init__(spec=_together(rgb, flow), num_classes=rgb.num_classes, smooth=smooth)
        self.fusion = fusion
        self.take(rgb, flow)
        self.untrainable = self.untrainable.format(" and ".join(stream.name for stream in (rgb, flow)))

    def take(self, rgb: MomentModel, flow: MomentModel) -> None:
        """Put other models in the streams' places, such as those with weights.

        Raises:
            ZooError: they do not go together.
        """
        self.spec = _together(rgb, flow)
        self.rgb, self.flow = rgb, flow
        self.num_classes = rgb.num_classes
        self.val_metrics, self.test_metrics = MomentScore(self.num_classes), MomentScore(self.num_classes, self.smooth)
        self.labels = rgb.labels or flow.labels
        self.pooling = f"{rgb.pooling}, {self.fusion} of RGB's and flow's"

    @property
    def streams(self) -> dict[str, MomentModel]:
        """The two models by what they see."""
        return {"rgb": self.rgb, "flow": self.flow}

    @property
    def default_weights(self) -> tuple[str, ...]:
        """What `zoo.load` takes: each stream's own."""
        return tuple(stream.name for stream in self.streams.values())

    def protocol(self) -> dict[str, Any]:
        """That of each stream, and how they become one."""
        streams = {name: stream.protocol() for name, stream in self.streams.items()}
        words = "; ".join(said["in_words"] for said in streams.values())
        in_words = f"{words}; {self.fusion} of both"
        return {**super().protocol(), **streams, "fusion": self.fusion, "in_words": in_words}

    def forward(self, frames: Tensor) -> tuple[Any, Any]:
        """Normalised frames ``[N, 3 + 2F, H, W]``, RGB before flow, to what each stream's network says of them."""
        return self.rgb(frames[:, :3]), self.flow(frames[:, 3:])

    def fuse(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """The scores of both streams as one."""
        return (rgb + flow) / 2 if self.fusion == "mean" else rgb * flow

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Each stream's scores of the videos and of their moments, brought together."""
        streams = (stream.scores(batch) for stream in self.streams.values())
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
        for stream, model in self.streams.items():
            if shapes == {name: value.shape for name, value in model.state_dict().items()}:
                return {**own, **{f"{stream}.{name}": value for name, value in state.items()}}
        raise WeightsError(
            f"these weights fit neither stream of {self.name or type(self).__name__}; take those of a model of RGB or "
            "of flow that was built with the same arguments."
        )


def fused(a: ZooModule, b: ZooModule, how: Fusion = "mean") -> TwoStreams:
    """Two models in one, whichever of them sees RGB.

    Raises:
        ZooError: they are not one of RGB and one of flow, of the same classes.
    """
    streams: dict[str, MomentModel] = {}
    for model in (a, b):
        name = getattr(model, "name", "") or type(model).__name__
        if not isinstance(model, MomentModel):
            raise ZooError(
                f"{name} does not score moments of a video, so it has nothing to fuse; take a model of RGB and one of "
                "flow, such as temporal_fields and temporal_fields_flow."
            )
        seen = model.spec.moments.streams
        if len(seen) > 1 or seen[0] in streams:
            what = "looks at both streams by itself" if len(seen) > 1 else f"looks at {seen[0]}, as the other does"
            raise ZooError(f"{name} {what}; fuse a model of RGB and one of flow.")
        streams[seen[0]] = model
    both = TwoStreams(streams["rgb"], streams["flow"], how, streams["rgb"].smooth)
    both.name = "+".join(model.name for model in streams.values())
    return both.train(a.training)


def _together(rgb: MomentModel, flow: MomentModel) -> VideoSpec:
    """The spec of both streams."""
    if (rgb.num_classes, rgb.spec.moments.points) != (flow.num_classes, flow.spec.moments.points):
        raise ZooError(
            f"the models of RGB and of flow must tell the same classes apart, at as many moments: {rgb.name} has "
            f"{rgb.num_classes} and {rgb.spec.moments.points}, {flow.name} {flow.num_classes} and "
            f"{flow.spec.moments.points}."
        )
    if rgb.labels and flow.labels and rgb.labels != flow.labels:
        raise ZooError(
            f"{rgb.name} and {flow.name} were trained on other classes ({rgb.labels[0]!r}, ... and {flow.labels[0]!r}, "
            "...): their scores are of different things."
        )
    moments = dataclasses.replace(rgb.spec.moments, streams=("rgb", "flow"), flow=flow.spec.moments.flow)
    return rgb.spec.replace(moments=moments)
