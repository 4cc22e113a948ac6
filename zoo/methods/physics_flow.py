"""What the intuitive physics model is compared with: networks that are taught by optical flow or read it, and a line
through it (Ye et al., ECCV 2018, sections 9.4.1 and 9.4.2 of the thesis, which has a sentence on each and no code).

Flow is measured backwards, from a frame to the one before it, so that a frame can be seen through it
(`zoo.data.collisions.flow`).
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo.data.collisions.flow import backward_flow
from zoo.errors import ZooError
from zoo.methods.base import Recipe
from zoo.methods.collisions import (
    PROPERTIES,
    RECIPE,
    SCALES,
    SEEN,
    CollisionModel,
    Frames,
    Future,
    Views,
    collision_spec,
)
from zoo.methods.intuitive_physics import (
    IntuitivePhysics,
    coarse_loss,
    image_loss,
    require_helps,
    sized,
    unsettled,
)
from zoo.methods.intuitive_physics_keys import BLOCK, fixed_columns
from zoo.networks.physics import GridDecoder, PhysicsEncoder, Sizes, identity_grid, start, warp
from zoo.registry import register

MIDDLE = 3.0  # the scale in the middle of the five
LINE = (-2 / 3, 1 / 3, 4 / 3)  # the least-squares line through three values, at the next place


def grid_of(flow: Tensor) -> Tensor:
    """The grid ``[N, S, S, 2]`` through which a frame looks like the next, of its backward flow ``[N, 2, S, S]``."""
    side = flow.shape[-1]
    return identity_grid(side, flow.device).to(flow.dtype) + flow.permute(0, 2, 3, 1) * (2 / (side - 1))


class FlowSupervised(IntuitivePhysics):
    """The same network, taught the optical flow from the fifth frame to the fourth instead of the fifth frame."""

    def __init__(self, sizes: Sizes, **options: Any) -> None:
        """As `IntuitivePhysics`, without its constraint and its networks of ratios."""
        super().__init__(sizes, constraint="none", ratios=False, **options)
        self.spec = collision_spec(sizes.side, self.spec.collisions.groups, flow=True)

    @staticmethod
    def upstream_arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        """Its builder knows of no networks of ratios."""
        return {}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing but what is said."""
        return dict(said)

    def loss(self, predicted: Tensor, grid: Tensor, views: Views) -> Tensor:
        """The mean absolute error of the flow, in pixels."""
        return (grid - grid_of(views.flow[:, SEEN - 1])).abs().mean() * ((grid.shape[1] - 1) / 2)


class FlowPhysics(CollisionModel):
    """A network that is told the true mass, speed and friction, and reads the rest from the flow of four frames."""

    def __init__(
        self, sizes: Sizes, *, recipe: Recipe = RECIPE, groups: int = 4, settle: int = 0, levels: int = 0
    ) -> None:
        """
        Args:
            sizes: of the networks.
            recipe: how they are trained.
            groups: mini-batches of each property in a batch.
            settle: first steps in which the grid also learns to leave everything where it is.
            levels: smaller frames that it also learns from.
        """
        super().__init__(collision_spec(sizes.side, groups, flow=True), recipe)
        require_helps(settle, levels, sizes.side)
        told = len(PROPERTIES) * BLOCK
        self.settle, self.levels = settle, levels
        self.encoder = PhysicsEncoder(sizes, images=SEEN - 1, channels=2, vector=sizes.vector - told)
        self.decoder = GridDecoder(sizes)
        self.told = nn.ModuleList(nn.Linear(1, BLOCK) for _ in PROPERTIES)
        start(self, sizes.scratch)
        self.register_buffer("dims", fixed_columns())

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        return (SEEN - 1, 2, self.spec.crop, self.spec.crop)

    def forward(self, flow: Tensor) -> Tensor:
        """The grid ``[N, S, S, 2]`` of three fields of flow ``[N, 3, 2, S, S]``, with every property in the middle."""
        scales = torch.full((len(flow), len(PROPERTIES)), MIDDLE, device=flow.device, dtype=flow.dtype)
        return self.decoder(self.vector(flow, scales))

    def vector(self, flow: Tensor, scales: Tensor) -> Tensor:
        """Flow ``[N, 3, 2, S, S]`` in pixels and scales ``[N, 3]`` to vectors ``[N, 306]``."""
        seen = self.encoder(flow.transpose(1, 2) * (16 / flow.shape[-1]))  # a few units, whatever the resolution
        told = [layer(scales[:, i : i + 1] - MIDDLE) for i, layer in enumerate(self.told)]
        return torch.cat([*told, seen], dim=1)

    def latent(self, views: Views) -> Tensor:
        return self.vector(views.flow[:, : SEEN - 1], views.scales)

    def decode(self, z: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.decoder(z)
        return warp(frame, grid), grid

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        views = self.views(batch)
        before, truth = views.clips[:, :, SEEN - 1], views.clips[:, :, SEEN]
        predicted, grid = self.decode(self.latent(views), before)
        loss = image_loss(predicted, truth) + coarse_loss(before, grid, truth, self.levels)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, sync_dist=True, batch_size=len(grid))
        return loss + unsettled(grid) if self.global_step < self.settle else loss

    @torch.inference_mode()
    def predict(self, frames: Frames, mass: float = MIDDLE, speed: float = MIDDLE, friction: float = MIDDLE) -> Future:
        """The fifth frame of a collision of known physics.

        Args:
            frames: its first four: uint8 ``[T, 3, H, W]``, a folder of images, or their paths.
            mass: of the object that is hit, as a scale of 1 to 5.
            speed: of the other one.
            friction: of the floor.
        """
        for property, scale in zip(PROPERTIES, (mass, speed, friction), strict=True):
            if not (isinstance(scale, Real) and 1 <= scale <= SCALES):
                raise ZooError(f"{property} is a scale from 1 to {SCALES}, got {scale!r}.")
        seen = self.seen(frames)[:SEEN]
        scales = torch.tensor([[mass, speed, friction]], device=self.device, dtype=torch.float32)
        z = self.vector(backward_flow(seen).float()[None].to(self.device), scales)
        return self.futures(z, self.read(seen)[:, :, SEEN - 1])[0]


class LinearFlow(CollisionModel):
    """At each pixel a line through the three fields of flow of four frames, continued to the next."""

    interpolates: ClassVar[bool] = False
    default_weights = "none"

    def __init__(self, side: int) -> None:
        """
        Args:
            side: of the square frames, in pixels.
        """
        if not (isinstance(side, int) and side >= 2):
            raise ZooError(f"side must be at least 2 pixels, got {side!r}.")
        super().__init__(collision_spec(side, flow=True), RECIPE)

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        return (SEEN - 1, 2, self.spec.crop, self.spec.crop)

    def forward(self, flow: Tensor) -> Tensor:
        """The grid ``[N, S, S, 2]`` of three fields of flow ``[N, 3, 2, S, S]``."""
        return grid_of(sum(weight * flow[:, t] for t, weight in enumerate(LINE)))

    def latent(self, views: Views) -> Tensor:
        return self(views.flow[:, : SEEN - 1]).flatten(1)

    def decode(self, z: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        grid = z.view(len(z), self.spec.crop, self.spec.crop, 2)
        return warp(frame, grid), grid

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Future:
        """The fifth frame of a collision; its "vector" is the grid.

        Args:
            frames: its first four: uint8 ``[T, 3, H, W]``, a folder of images, or their paths.
        """
        seen = self.seen(frames)[:SEEN]
        flow = backward_flow(seen).float()[None].to(self.device)
        return self.futures(self(flow).flatten(1), self.read(seen)[:, :, SEEN - 1])[0]


@register("intuitive_physics_flow_supervised", paper="ye2018interpretable")
@register(
    "intuitive_physics_flow_supervised_tiny", paper="ye2018interpretable", tiny=True, groups=2, epochs=2, settle=100
)
def flow_supervised(
    tiny: bool = False, groups: int = 4, epochs: int = 319, settle: int = 0, learning_rate: float | None = None
) -> FlowSupervised:
    """The intuitive physics network, taught optical flow instead of frames.

    Args:
        tiny: the network for frames of 64 pixels instead of 256.
        groups: mini-batches of each property in a batch.
        epochs: of its recipe.
        settle: first steps in which the grid also learns to leave everything where it is.
        learning_rate: in place of the recipe's own.
    """
    sizes, recipe = sized(tiny, epochs, learning_rate)
    return FlowSupervised(sizes, recipe=recipe, groups=groups, stages=(epochs,), settle=settle)


@register("intuitive_physics_flow_physics", paper="ye2018interpretable")
@register(
    "intuitive_physics_flow_physics_tiny",
    paper="ye2018interpretable",
    tiny=True,
    groups=2,
    epochs=2,
    settle=100,
    levels=3,
)
def flow_physics(
    tiny: bool = False,
    groups: int = 4,
    epochs: int = 319,
    settle: int = 0,
    levels: int = 0,
    learning_rate: float | None = None,
) -> FlowPhysics:
    """Optical flow and the true mass, speed and friction to the next frame.

    Args:
        tiny: the network for frames of 64 pixels instead of 256.
        groups: mini-batches of each property in a batch.
        epochs: of its recipe.
        settle: first steps in which the grid also learns to leave everything where it is.
        levels: smaller frames that it also learns from.
        learning_rate: in place of the recipe's own.
    """
    sizes, recipe = sized(tiny, epochs, learning_rate)
    return FlowPhysics(sizes, recipe=recipe, groups=groups, settle=settle, levels=levels)


@register("intuitive_physics_linear_flow", paper="ye2018interpretable")
@register("intuitive_physics_linear_flow_tiny", paper="ye2018interpretable", side=64)
def linear_flow(side: int = 256) -> LinearFlow:
    """Optical flow of four frames, continued in a straight line; nothing in it learns.

    Args:
        side: of the square frames, in pixels.
    """
    return LinearFlow(side)
