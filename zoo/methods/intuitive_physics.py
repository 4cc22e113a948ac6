"""An interpretable intuitive physics model (Ye, Wang, Davidson, Gupta, ECCV 2018; chapter 9 of the thesis).

Four frames of a collision become a vector, the vector a sampling grid, and the fourth frame seen through it the fifth.
Mass, speed and friction get columns of the vector to themselves: in a mini-batch only one property changes, and only
its columns are let through (Eq. 9.1), the others are pulled to their mean (Eq. 9.3, `zoo.networks.selective_filter`).
What the columns mean can then be used: exchanged, interpolated, multiplied by small networks.

The released code is followed where the text differs: an L1 loss that is weighted by colour instead of plain (Eq. 9.2),
a gradient written by hand instead of a sum of losses (Eq. 9.4), four mini-batches of each property in a batch, three
linear layers instead of four in the encoder. The "flow" is the grid itself, with no identity added to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from zoo.errors import ZooError
from zoo.methods.base import Recipe
from zoo.methods.collisions import (
    PROPERTIES,
    RECIPE,
    SEEN,
    CollisionModel,
    Frames,
    Future,
    Views,
    collision_spec,
    interpolated,
    numbered,
    replaced,
)
from zoo.methods.intuitive_physics_keys import BLOCK, fixed_columns, from_release
from zoo.methods.staggered import StaggeredTraining
from zoo.networks.physics import (
    RELEASED,
    TINY,
    GridDecoder,
    PhysicsEncoder,
    RatioNetwork,
    Sizes,
    identity_grid,
    start,
    warp,
)
from zoo.networks.selective_filter import pull, select, spread
from zoo.registry import register

STAGES = (106, 106, 107)  # epochs; the paper gives their sum alone
Constraint = Literal["release", "paper", "none"]

TINY_RATE = 2e-3  # of Adam; the paper's is for fine-tuning AlexNet
RATIOS = {"third": 1 / 3, "half": 1 / 2, "double": 2.0, "triple": 3.0}  # the paper has the last two


def colour_weight(truth: Tensor) -> Tensor:
    """How much each pixel counts, ``[B, 3, S, S]`` to ``[B, 1, S, S]``: how far its most colourful channel is off grey.

    Not in the paper. Objects are colourful, walls and floors are not; on neutral grey 0.0147 is left, for the mean
    colour was subtracted.
    """
    return (truth - truth.mean(dim=1, keepdim=True)).abs().amax(dim=1, keepdim=True)


def image_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """``20 / B * sum(|y_hat - y| * w) / (3 S S)``: what the released code trains on, in place of Eq. 9.2.

    Args:
        predicted: ``[B, 3, S, S]``.
        truth: the same of the true frames, with their mean colour subtracted.
    """
    return 20 * ((predicted - truth).abs() * colour_weight(truth)).mean()


def coarse_loss(before: Tensor, grid: Tensor, truth: Tensor, levels: int) -> Tensor:
    """`image_loss` summed over frames of a half, a quarter, ... of the resolution.

    Not in the paper. Bilinear sampling tells a pixel only of its neighbours, so an object that went further than its
    own size is found in small frames first. The paper's 300,000 steps do without.

    Args:
        before: fourth frames ``[B, 3, S, S]``.
        grid: ``[B, S, S, 2]``.
        truth: fifth frames.
        levels: how often the resolution is halved.
    """
    loss = grid.new_zeros(())
    for _ in range(levels):
        before, truth = avg_pool2d(before, 2), avg_pool2d(truth, 2)
        grid = avg_pool2d(grid.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        loss = loss + image_loss(warp(before, grid), truth)
    return loss


def unsettled(grid: Tensor) -> Tensor:
    """How far a grid ``[B, S, S, 2]`` is from leaving everything where it is.

    Not in the paper: without it a network that starts from nothing, on a floor that looks the same everywhere, is told
    where its pixels should come from by a few of them only.
    """
    return (grid - identity_grid(grid.shape[1], grid.device)).square().mean()


def mle_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """``L_mle`` of each frame (Eq. 9.2): the sum of absolute differences, ``[B]``."""
    return (predicted - truth).abs().sum(dim=(1, 2, 3))


def average_loss(z: Tensor, groups: Tensor, dims: Tensor) -> Tensor:
    """``L_ave`` of mini-batches of one property (Eq. 9.3), ``[G]``.

    Args:
        z: ``[B, D]``.
        groups: the mini-batches' rows, ``[G, 5]``.
        dims: the property's columns ``[C]``; all others should be the same within a mini-batch.
    """
    return spread(z, groups).square().index_fill(2, dims, 0.0).sum(dim=(1, 2))


def require_helps(settle: int, levels: int, side: int) -> None:
    """Refuse numbers of what helps a network that starts from nothing which mean nothing."""
    most = side.bit_length() - 1
    if not (isinstance(settle, int) and settle >= 0):
        raise ZooError(f"settle: a number of steps, 0 or more, is wanted, got {settle!r}.")
    if not (isinstance(levels, int) and 0 <= levels <= most):
        raise ZooError(f"levels: frames of {side} pixels can be halved 0 to {most} times, got {levels!r}.")


def _require_stages(stages: Any) -> None:
    if not isinstance(stages, Sequence) or len(stages) not in (1, len(PROPERTIES)) or not all(map(_is_count, stages)):
        raise ZooError(f"stages: epochs of one stage or of {len(PROPERTIES)} are wanted, got {stages!r}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


class IntuitivePhysics(CollisionModel):
    """The encoder, the decoder, and a network for every property and ratio."""

    may_lack = ("ratios.",)  # published weights have none; training can add them

    def __init__(
        self,
        sizes: Sizes = RELEASED,
        *,
        recipe: Recipe = RECIPE,
        groups: int = 4,
        stages: Sequence[int] = STAGES,
        constraint: Constraint = "release",
        ratios: bool = True,
        strength: float = 1.0,
        settle: int = 0,
        levels: int = 0,
    ) -> None:
        """
        Args:
            sizes: of the networks.
            recipe: how they are trained.
            groups: mini-batches of each property in a batch.
            stages: epochs with one, two and three properties; a single number trains on all from the start.
            constraint: how all but the property that changes is kept the same (`zoo.networks.selective_filter`): as in
                the ``"release"``, as in the text of the ``"paper"``, or ``"none"``: then this is the paper's baseline,
                whose columns are found afterwards.
            ratios: with networks that multiply properties. Published weights have none.
            strength: of the pull of the ``"paper"``.
            settle: first steps in which the grid also learns to leave everything where it is.
            levels: smaller frames that it also learns from, see `coarse_loss`.
        """
        super().__init__(collision_spec(sizes.side, groups), recipe)
        _require_stages(stages)
        if not 0 <= strength < math.inf:
            raise ZooError(f"strength must be a number from 0 on, got {strength!r}.")
        require_helps(settle, levels, sizes.side)
        if constraint not in ("release", "paper", "none"):
            raise ZooError(f"constraint must be 'release', 'paper' or 'none', got {constraint!r}.")
        self.constraint, self.strength, self.stages = constraint, strength, tuple(stages)
        self.settle, self.levels = settle, levels
        self.image_backbone = None if sizes.scratch else "torchvision:alexnet"
        self.encoder, self.decoder = PhysicsEncoder(sizes), GridDecoder(sizes)
        start(self, sizes.scratch)
        self.ratios = nn.ModuleDict(
            {f"{p}_{ratio}": RatioNetwork(BLOCK) for p in PROPERTIES for ratio in RATIOS} if ratios else {}
        )
        self.ratios.requires_grad_(False)  # they learn at the end, of the finished vector
        self.register_buffer("dims", fixed_columns())

    @property
    def has_columns(self) -> bool:
        """Without constraints they are found at the end of training; weights of the release do not tell them."""
        return self.constraint != "none" or not torch.equal(self.dims, fixed_columns().to(self.dims.device))

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The released code's names to ours."""
        return from_release(state)

    @staticmethod
    def upstream_arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        """The release has no networks of ratios."""
        return {"ratios": False}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """Whether there are networks of ratios."""
        return {**said, **({"ratios": any(key.startswith("ratios.") for key in state)} if state else {})}

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Take AlexNet's convolutions, named as torchvision names them."""
        features = {key[9:]: value for key, value in state.items() if key.startswith("features.")}
        self.encoder.features.load_state_dict(features)

    def forward(self, clips: Tensor) -> Tensor:
        """The fifth frame ``[B, 3, S, S]`` of clips ``[B, 3, T, S, S]`` with ``T >= 4``, without their mean colour."""
        return self.decode(self.encode(clips), clips[:, :, SEEN - 1])[0]

    def encode(self, clips: Tensor) -> Tensor:
        """The physics vector ``[B, 306]`` of clips ``[B, 3, T, S, S]``; the first four frames are looked at."""
        return self.encoder(clips[:, :, :SEEN])

    def latent(self, views: Views) -> Tensor:
        return self.encode(views.clips)

    def decode(self, z: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.decoder(z)
        return warp(frame, grid), grid

    def scaled(self, z: Tensor, property: int, ratio: str) -> Tensor | None:
        name = f"{PROPERTIES[property]}_{ratio}"
        if name not in self.ratios:
            return None
        dims = self.dims[property]
        return replaced(z, dims, self.ratios[name](z[:, dims]))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        views = self.views(batch)
        z = seen = self.latent(views)
        if self.constraint == "release":
            absent = torch.zeros(len(PROPERTIES), dtype=torch.bool, device=z.device)  # those in training are all there
            seen = select(z, batch["groups"], batch["property"], self.dims, absent)
        elif self.constraint == "paper":
            seen = pull(z, batch["groups"], batch["property"], self.dims, self.strength)
        predicted, grid = self.decode(seen, views.clips[:, :, SEEN - 1])
        loss = self.loss(predicted, grid, views)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, sync_dist=True, batch_size=len(z))
        self.log_dict(self.changes(z.detach(), batch), on_step=False, on_epoch=True, batch_size=len(z), sync_dist=True)
        return loss + unsettled(grid) if self.global_step < self.settle else loss

    def loss(self, predicted: Tensor, grid: Tensor, views: Views) -> Tensor:
        """What is trained on: `image_loss`, and `coarse_loss` where it is wanted."""
        before, truth = views.clips[:, :, SEEN - 1], views.clips[:, :, SEEN]
        return image_loss(predicted, truth) + coarse_loss(before, grid, truth, self.levels)

    def changes(self, z: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """How much a property's columns change in its mini-batches, and those of no trained property in all of them.

        The released code logs both times a hundred; the first must stay away from zero.
        """
        away = spread(z, batch["groups"]).abs()
        own = away.gather(2, self.dims[batch["property"]][:, None].expand(-1, away.shape[1], -1)).mean(dim=(1, 2))
        found = {}
        if self.constraint != "none":  # else no column belongs to a property
            others = torch.ones(z.shape[1], device=z.device).index_fill(0, self.dims[batch["property"]].flatten(), 0.0)
            found["feature_loss"] = 100 * (away.mean(dim=(0, 1)) * others).sum() / others.sum()
        for number, name in enumerate(PROPERTIES):
            rows = own[batch["property"] == number]
            if len(rows):
                found[f"change_{name}"] = 100 * rows.mean()
        return found

    def configure_callbacks(self) -> list[Any]:
        return [StaggeredTraining(self.spec.collisions.properties, self.stages)]

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Future:
        """The fifth frame of a collision.

        Args:
            frames: its first four: uint8 ``[T, 3, H, W]``, a folder of images, or their paths.
        """
        z, before = self._look(frames)
        return self.futures(z, before)[0]

    @torch.inference_mode()
    def edit(self, frames: Frames, **ratios: float) -> Future:
        """The fifth frame if a property were a multiple of what it is: ``edit(frames, mass=2.0, friction=0.5)``.

        Args:
            frames: as of `predict`.
            **ratios: of ``mass``, ``speed`` and ``friction``: 1/3, 1/2, 2 or 3.

        Raises:
            ZooError: no such property, or no network has learned the ratio.
        """
        z, before = self._look(frames)
        for property, ratio in ratios.items():
            number = numbered(property)
            if isinstance(ratio, bool) or not isinstance(ratio, Real):
                raise ZooError(f"{property}: a ratio is a number, got {ratio!r}.")
            if ratio == 1:
                continue
            near = 4e-3 if ratio < 0.4 else 1e-6  # a third is written with as many digits as one likes
            named = [name for name, value in RATIOS.items() if abs(value - ratio) < near]
            if not named:
                raise ZooError(f"{property} times {ratio:g}: learned are the ratios 1/3, 1/2, 2 and 3.")
            changed = self.scaled(z, number, named[0])
            if changed is None:
                raise ZooError(
                    f"these weights of {self.name} have no networks that multiply {property}: published ones have "
                    "none. `interpolate` and `swap` need none; `zoo fit` learns them at its end."
                )
            z = changed
        return self.futures(z, before)[0]

    @torch.inference_mode()
    def interpolate(self, a: Frames, b: Frames, property: str, steps: int = 5) -> list[Future]:
        """Fifth frames of ``a``, with a property between its own value and that of ``b`` (section 9.4.2).

        Args:
            a: as of `predict`.
            b: the same; only the property's part of its vector is taken.
            property: ``"mass"``, ``"speed"`` or ``"friction"``.
            steps: frames, from the value of ``a`` to that of ``b``.
        """
        dims = self.block(property)[None]
        if not (isinstance(steps, int) and steps >= 2):
            raise ZooError(f"interpolate: steps must be an integer of at least 2, got {steps!r}.")
        (z, before), (other, _) = self._look(a), self._look(b)
        return self.futures(interpolated(z, other, dims, steps)[0], before.expand(steps, -1, -1, -1))

    @torch.inference_mode()
    def swap(self, a: Frames, b: Frames, property: str) -> Future:
        """The fifth frame of ``a`` with the property's part of the vector of ``b`` (figure 9.8)."""
        dims = self.block(property)
        (z, before), (other, _) = self._look(a), self._look(b)
        return self.futures(replaced(z, dims, other[:, dims]), before)[0]

    def _look(self, frames: Frames) -> tuple[Tensor, Tensor]:
        clips = self.read(frames)
        return self.encode(clips), clips[:, :, SEEN - 1]


def sized(tiny: bool, epochs: int, learning_rate: float | None) -> tuple[Sizes, Recipe]:
    """The networks' sizes and how they are trained."""
    if not _is_count(epochs):
        raise ZooError(f"epochs must be an integer of at least 1, got {epochs!r}.")
    rate = TINY_RATE if tiny else RECIPE.rate
    return TINY if tiny else RELEASED, replace(RECIPE, rate=rate, epochs=epochs).with_rate(learning_rate)


@register("intuitive_physics", paper="ye2018interpretable")
@register("intuitive_physics_baseline", paper="ye2018interpretable", constraint="none", stages=(319,))
@register(
    "intuitive_physics_tiny",
    paper="ye2018interpretable",
    summary="a tiny intuitive physics model, 64 pixels",
    tiny=True,
    groups=2,
    stages=(1, 1, 1),
    settle=100,
    levels=3,
)
@register(
    "intuitive_physics_baseline_tiny",
    paper="ye2018interpretable",
    summary="the same without constraints: the paper's baseline",
    tiny=True,
    constraint="none",
    groups=2,
    stages=(2,),
    settle=100,
    levels=3,
)
def intuitive_physics(
    tiny: bool = False,
    constraint: Constraint = "release",
    ratios: bool | None = None,
    groups: int = 4,
    stages: tuple[int, ...] = STAGES,
    strength: float = 1.0,
    settle: int = 0,
    levels: int = 0,
    learning_rate: float | None = None,
) -> IntuitivePhysics:
    """Frames of a collision through AlexNet to a vector of mass, speed, friction and the rest.

    Args:
        tiny: the network for frames of 64 pixels, made to be trained from nothing, instead of 256.
        constraint: how all but the property that changes is kept the same: ``"release"``, ``"paper"`` or ``"none"``.
        ratios: with networks that multiply properties; by default as the weights have it, and with them where there
            are none.
        groups: mini-batches of each property in a batch.
        stages: epochs with one, two and three properties; a single number trains on all from the start.
        strength: of the pull of the ``"paper"``, in relation to what the prediction's error teaches.
        settle: first steps in which the grid also learns to leave everything where it is.
        levels: smaller frames that it also learns from.
        learning_rate: in place of the recipe's own.
    """
    _require_stages(stages)
    sizes, recipe = sized(tiny, sum(stages), learning_rate)
    return IntuitivePhysics(
        sizes,
        recipe=recipe,
        groups=groups,
        stages=stages,
        constraint=constraint,
        ratios=ratios is not False,
        strength=strength,
        settle=settle,
        levels=levels,
    )
