"""What models of simulated collisions share: four frames go in, the fourth is warped into the fifth, and a test asks
what happens when one property changes (Ye et al., ECCV 2018, section 9.4 of the thesis).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Adam

from zoo.data.collisions.frames import read_frames
from zoo.errors import ZooError
from zoo.methods.base import Recipe, ScoredModule
from zoo.metrics.pixel_error import PixelErrors, pixel_error
from zoo.networks.physics import displacement
from zoo.spec import PROPERTIES, CollisionSpec, VideoSpec

SEEN = 4  # frames that a model looks at; the next one is the target
SCALES = 5  # of each property, and so sequences in a mini-batch
MASS, SHAPES, PARAMETERS = 0, 0, 1  # the property whose mini-batches hold every sequence once; the two tests

PLAIN = ("pixel_error", "parameter_error")
CHANGED = ("shape_2", "shape_3", "shape_4", "shape_5", "parameter_3")
RATIO = ("shape_ratio_2", "shape_ratio_3", "parameter_ratio_3")

#: 319 epochs at a rate that stays; Adam's is not scaled with the batch.
RECIPE = Recipe(rate=1e-6, batch=60, epochs=319, schedule="constant", weight_decay=0.0)


def collision_spec(side: int, groups: int = 4, flow: bool = False) -> VideoSpec:
    """Five frames half a second apart, as squares of ``side`` pixels with the mean colour subtracted."""
    return VideoSpec(
        frames=SEEN + 1,
        stride=1,
        fps=2,
        crop=side,
        short_side=(side, side),
        test_crop=side,
        test_short_side=side,
        clips=1,
        crops=1,
        flip=False,
        collisions=CollisionSpec(groups=groups, flow=flow),
        mean=(0.672, 0.668, 0.648),
        std=(1.0, 1.0, 1.0),
    )


Errors = Callable[[Tensor, slice], Tensor]
Frames = Tensor | str | os.PathLike | Sequence[str | Path]


@dataclass(frozen=True)
class Future:
    """A predicted frame.

    Attributes:
        frame: RGB, uint8 ``[3, S, S]``.
        grid: where in the frame before each pixel comes from, ``[S, S, 2]``: x and y in -1..1.
        z: the physics vector that it was decoded from, ``[D]``.
    """

    frame: Tensor
    grid: Tensor
    z: Tensor

    @property
    def displacement(self) -> Tensor:
        """From each pixel to where it comes from, ``[S, S, 2]`` in pixels: x and y."""
        return displacement(self.grid)


@dataclass(frozen=True)
class Views:
    """Collisions as a model may look at them: colours without their mean ``[N, 3, 5, S, S]``, and what is asked for.

    Attributes:
        clips: the frames.
        scales: of mass, speed and friction, 1..5 each, ``[N, 3]``.
        flow: backward flow between consecutive frames in pixels, ``[N, 4, 2, S, S]``, or None.
    """

    clips: Tensor
    scales: Tensor
    flow: Tensor | None = None


class CollisionModel(ScoredModule):
    """A model of a vector that says how a frame goes on: `latent` makes the vector, `decode` the frame.

    Attributes:
        interpolates: whether a property's part of the vector can be replaced.
        dims: the columns of the vector that belong to each property, ``[3, 25]``.
    """

    test_batch_size = 8
    interpolates: ClassVar[bool] = True
    dims: Tensor

    def __init__(self, spec: VideoSpec, recipe: Recipe) -> None:
        super().__init__(spec, recipe)
        names = (*PLAIN, *CHANGED, *RATIO)
        self.val_metrics, self.test_metrics = PixelErrors(names), PixelErrors(names)

    @property
    def has_columns(self) -> bool:
        """Whether it is known which columns belong to which property."""
        return True

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Of five frames; the linear layers want the spec's side, so another is not taken."""
        return (3, self.spec.frames, self.spec.crop, self.spec.crop)

    def latent(self, views: Views) -> Tensor:
        """The vectors ``[N, D]`` of collisions; only the first four frames may be looked at."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it looks at a collision.")

    def decode(self, z: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """The next frame ``[N, 3, S, S]`` and the grid ``[N, S, S, 2]`` it is seen through.

        Args:
            z: vectors ``[N, D]``.
            frame: the fourth frames ``[N, 3, S, S]``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it predicts.")

    def scaled(self, z: Tensor, property: int, ratio: str) -> Tensor | None:
        """Vectors ``[N, D]`` with a property multiplied, or None where that was not learned."""
        return None

    def protocol(self) -> dict[str, Any]:
        """Both tests, and what the numbers of tables 9.2 and 9.3 are measured on."""
        words = (
            f"the fifth of five frames of {self.spec.crop} x {self.spec.crop} pixels from four; mean squared "
            "difference in grey levels; every collision of the unseen shapes once, scales 2 to 5 between 1 and 5, and "
            "ratios from scale 1"
        )
        return {"frames": SEEN, "size": self.spec.crop, "in_words": words}

    def block(self, property: str) -> Tensor:
        """The 25 columns of the physics vector that belong to a property."""
        if not self.interpolates:
            raise ZooError(f"{self.name} has no columns of {property}: it makes no vector of properties.")
        if not self.has_columns:
            raise ZooError(
                f"nobody has looked for the columns of {property} in these weights of {self.name}, which were trained "
                "without constraints: `zoo fit` finds them at its end."
            )
        return self.dims[numbered(property)]

    def views(self, batch: dict[str, Any]) -> Views:
        """A batch's collisions one by one; see `zoo.data.physics_collisions`."""
        grouped = batch["clips"].dim() == 6
        flat = {k: batch[k].flatten(0, 1) if grouped else batch[k] for k in ("clips", "scales", "flow") if k in batch}
        flow = flat["flow"].to(self.dtype) if "flow" in flat else None
        return Views(self.normalize(flat["clips"]), flat["scales"], flow)

    def _score(self, batch: dict[str, Any], metric: PixelErrors) -> None:
        views, rows = self.views(batch), len(batch["property"])
        before, truth = (views.clips[:, :, t].unflatten(0, (rows, SCALES)) for t in (SEEN - 1, SEEN))
        z = self.latent(views).unflatten(0, (rows, SCALES))

        def errors(vectors: Tensor, scales: slice) -> Tensor:  # [B, K, D] for K of the five scales to [B, K]
            frame, _ = self.decode(vectors.flatten(0, 1), before[:, scales].flatten(0, 1))
            return pixel_error(frame, truth[:, scales].flatten(0, 1)).unflatten(0, vectors.shape[:2])

        found = self._plain(errors(z, slice(None)), batch)
        if self.interpolates and self.has_columns:
            found |= self._changed(errors, z, batch, multiplied=metric is self.test_metrics)
        metric.update(found, rows)

    def _plain(self, error: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Errors of plain prediction, each sequence once: in its mini-batch of mass, as the release has it."""
        of_mass = batch["property"] == MASS
        shapes, parameters = (of_mass & (batch["split"] == split) for split in (SHAPES, PARAMETERS))
        return {"pixel_error": error[shapes], "parameter_error": error[parameters][batch["unseen"][parameters]]}

    def _changed(self, errors: Errors, z: Tensor, batch: dict[str, Any], multiplied: bool) -> dict[str, Tensor]:
        """Errors when a property's numbers come from elsewhere: tables 9.2 and 9.3 (where it was ``multiplied``).

        While a model is trained its networks of ratios have learned nothing yet.
        """
        property, shapes = batch["property"], batch["split"] == SHAPES
        error = errors(interpolated(z[:, 0], z[:, -1], self.dims[property])[:, 1:], slice(1, None))
        found = {f"shape_{scale}": error[shapes, scale - 2] for scale in (2, 3, 4, 5)}
        found["parameter_3"] = error[~shapes, 1]
        for ratio, scale in (("double", 2), ("triple", 3)) if multiplied else ():
            vectors = z[:, 0].clone()
            for p in range(len(PROPERTIES)):
                changed = self.scaled(vectors[property == p], p, ratio)
                if changed is None:
                    return found
                vectors[property == p] = changed
            error = errors(vectors[:, None], slice(scale - 1, scale))[:, 0]
            found[f"shape_ratio_{scale}"] = error[shapes]
            if ratio == "triple":
                found["parameter_ratio_3"] = error[~shapes]
        return found

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Predicted fifth frames of evaluation rows, uint8 ``[B, 5, 3, S, S]``."""
        views = self.views(batch)
        frame, _ = self.decode(self.latent(views), views.clips[:, :, SEEN - 1])
        return self.to_bytes(frame).unflatten(0, (-1, SCALES))

    def configure_optimizers(self) -> Any:
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = Adam(learning, lr=self.recipe.rate, weight_decay=self.recipe.weight_decay)
        if self.recipe.schedule == "constant" and not self.recipe.warmup:
            return optimizer
        return self.scheduled(optimizer)

    def to_bytes(self, frame: Tensor) -> Tensor:
        """A frame ``[..., 3, S, S]`` without its mean colour to bytes."""
        mean = torch.tensor(self.spec.mean, device=frame.device).view(3, 1, 1)
        return ((frame.float() + mean).clamp(0, 1) * 255).round().to(torch.uint8)

    def read(self, frames: Frames) -> Tensor:
        """Frames of one collision as the network wants them, ``[1, 3, T, S, S]``.

        Args:
            frames: uint8 ``[T, 3, H, W]`` with at least four frames, a folder of them, or paths of images.
        """
        return self.normalize(self.seen(frames).to(self.device).transpose(0, 1)[None])

    def seen(self, frames: Frames) -> Tensor:
        """Frames of one collision as bytes, ``[T, 3, S, S]``; fewer than a model looks at are refused."""
        found = read_frames(frames, self.spec.crop)
        if len(found) < SEEN:
            raise ZooError(f"{self.name} looks at {SEEN} frames of a collision, half a second apart; got {len(found)}.")
        return found

    def futures(self, z: Tensor, before: Tensor) -> list[Future]:
        """What vectors ``[N, D]`` and fourth frames ``[N, 3, S, S]`` lead to."""
        frame, grid = self.decode(z, before)
        return [
            Future(*one) for one in zip(self.to_bytes(frame).cpu(), grid.float().cpu(), z.float().cpu(), strict=True)
        ]


def numbered(property: str) -> int:
    """The number of a property."""
    if property not in PROPERTIES:
        raise ZooError(f"no property is called {property!r}; there are {', '.join(PROPERTIES)}.")
    return PROPERTIES.index(property)


def interpolated(first: Tensor, last: Tensor, dims: Tensor, steps: int = SCALES) -> Tensor:
    """Vectors between the first's and the last's in one property, and like the first in all else.

    Section 9.4.2: ``z_i = (1 - i / (steps - 1)) z_1 + i / (steps - 1) z_5`` in the property's columns.

    Args:
        first: ``[B, D]``.
        last: ``[B, D]``.
        dims: the property's columns, ``[B, C]``.
        steps: vectors from the first to the last, both among them.

    Returns:
        ``[B, steps, D]``.
    """
    share = torch.arange(steps, device=first.device, dtype=first.dtype).view(1, -1, 1) / max(steps - 1, 1)
    own = [z.gather(1, dims)[:, None] for z in (first, last)]
    between = (1 - share) * own[0] + share * own[1]
    return first[:, None].repeat(1, steps, 1).scatter(2, dims[:, None].expand_as(between), between)


def replaced(z: Tensor, dims: Tensor, values: Tensor) -> Tensor:
    """Vectors ``[B, D]`` with other values ``[B, C]`` in the columns ``[C]``."""
    return z.index_copy(1, dims, values)
