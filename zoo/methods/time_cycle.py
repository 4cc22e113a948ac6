"""Learning correspondence from the cycle-consistency of time (Wang, Jabri, Efros, CVPR 2019).

An encoder learns from unlabelled video what it takes to track: a patch of a frame is tracked back through the frames
before it and forward again, and must arrive where it started. Afterwards the tracker is thrown away; the encoder's
features are compared directly, and labels of a video's first frame go wherever their nearest neighbours are.

The released code is followed where the paper's text differs from it, because its weights are: the similarity loss is a
soft-inlier score on the affinity instead of a product of features, losses are means with weights 1, 0.1 and 0.02, and
the affinity has a temperature. One part of the release is open: read by Python 2, which its README names, it moves
crops by a predicted translation, read by Python 3 by 1.081 times that. ``offset`` is that factor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from zoo.errors import WeightsError, ZooError
from zoo.methods.base import Recipe
from zoo.methods.correspondence import Correspondence
from zoo.networks.frame_encoder import FrameEncoder, unit
from zoo.networks.moving_patch import Draws, choose_cells, mirrored, motion_scores, place_patches
from zoo.networks.propagation import Propagation
from zoo.networks.tracker import OFFSET, Localizer, affinity, alignment, crop, soft_inliers, transform
from zoo.registry import register
from zoo.spec import VideoSpec

Patches = Literal["release", "motion"]

BETAS = (0.5, 0.999)  # of Adam
CLIP_NORM = 10.0  # of all gradients together
WEIGHTS = {"L_sim": 1.0, "L_skip": 0.1, "L_long": 0.02}

#: 30 epochs of VLOG's 114 thousand clips; the rate stays and is not scaled with the batch, for Adam scales itself.
RECIPE = Recipe(rate=2e-4, batch=32, iterations=30 * 114_000 // 32, schedule="constant", weight_decay=0.0)

#: Four past frames two apart, then the frame with the patch and the one after it, which only shows what moves. The
#: model mirrors clips itself, on its own device: which patch a mirrored sample gets depends on it.
SPEC = VideoSpec(
    frames=4,
    stride=2,
    fps=12,
    sampling="past_and_target",
    crop=240,
    short_side=(256, 256),
    test_crop=240,
    clips=1,
    crops=1,
    flip=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@dataclass(frozen=True)
class Cycles:
    """Where a batch's patches were located, as affine maps ``[..., B, 2, 3]``.

    Attributes:
        backward: in each past frame on the way back, the nearest one first: ``[T, B, 2, 3]``. Every cycle takes the
            same way back; a longer one only goes further.
        forward: of each cycle, shortest first, on its way forward: cycle ``i`` (from 1) has ``i`` of them, the last in
            the frame that the patch is from.
        direct: in each past frame without a way, the oldest first: ``[T, B, 2, 3]``.
        skip: from there in the frame that the patch is from, ``[T, B, 2, 3]``.
        inliers: how much of the direct affinities agrees with ``direct``, ``[T, B]``.
        own: in the very frame that the patch is from, ``[B, 2, 3]``; None where nobody asked.
    """

    backward: Tensor
    forward: list[Tensor]
    direct: Tensor
    skip: Tensor
    inliers: Tensor
    own: Tensor | None = None

    def losses(self, theta: Tensor) -> dict[str, Tensor]:
        """``L_long``, ``L_skip`` and ``L_sim``, given where the patches really are, ``[B, 2, 3]``.

        The first two are means over cycles of `zoo.networks.tracker.alignment`, the third is minus the mean score.
        ``L_own`` is the alignment of ``own``, where there is one.
        """
        losses = {
            "L_long": torch.stack([alignment(way[-1], theta) for way in self.forward]).mean(),
            "L_skip": alignment(self.skip.flatten(0, 1), theta.repeat(len(self.skip), 1, 1)),
            "L_sim": -self.inliers.mean(),
        }
        return losses if self.own is None else {**losses, "L_own": alignment(self.own, theta)}


def total(losses: Mapping[str, Tensor], own_frame: float = 0.0) -> Tensor:
    """The training objective: ``L_sim + 0.1 L_skip + 0.02 L_long``, and ``own_frame * L_own`` where there is one."""
    return sum(weight * losses[name] for name, weight in {**WEIGHTS, "L_own": own_frame}.items() if name in losses)


def track(
    localizer: nn.Module, past: Tensor, target: Tensor, patch: Tensor, offset: float = OFFSET, own: bool = False
) -> Cycles:
    """All cycles of a batch: back from the patch and forward again, and directly to each frame and back.

    Args:
        localizer: affinities to (x, y, angle).
        past: features of the past frames, the oldest first, ``[B, C, T, g, g]``.
        target: features of the frame that the patch is from, ``[B, C, g, g]``.
        patch: features of the patch, ``[B, C, p, p]``.
        offset: what a crop's translation is multiplied by.
        own: locate the patch in its own frame too, a cycle of length zero.
    """
    batch, _, frames, grid, _ = past.shape
    size = patch.shape[-1]

    def locate(query: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        found = affinity(query, frame)
        return transform(*localizer(found).float().unbind(1), scale=size / grid), found

    def follow(query: Tensor, frame: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        theta, _ = locate(query, keys)
        return theta, unit(crop(frame, theta, size, offset))

    keys, target_keys, patch = unit(past), unit(target), unit(patch)
    backward, starts = [], []
    query = patch
    for t in reversed(range(frames)):
        theta, query = follow(query, past[:, :, t], keys[:, :, t])
        backward.append(theta)
        starts.append(query)
    # On the way forward the cycles that pass through a frame pass it together, the longest first.
    forward: list[list[Tensor]] = [[] for _ in range(frames)]
    queries = starts[-1]
    for t in range(1, frames):
        theta, queries = follow(queries, past[:, :, t].repeat(t, 1, 1, 1), keys[:, :, t].repeat(t, 1, 1, 1))
        for n, one in enumerate(theta.unflatten(0, (t, batch))):
            forward[n].append(one)
        queries = torch.cat((queries, starts[-1 - t]))
    theta, _ = locate(queries, target_keys.repeat(frames, 1, 1, 1))
    for n, one in enumerate(theta.unflatten(0, (frames, batch))):
        forward[n].append(one)
    # Skip cycles, all frames at once.
    past, keys = (maps.movedim(2, 0).flatten(0, 1) for maps in (past, keys))
    direct, found = locate(patch.repeat(frames, 1, 1, 1), keys)
    inliers = soft_inliers(found, direct, grid)  # with the release's offset whichever way it is read
    skip, _ = locate(unit(crop(past, direct, size, offset)), target_keys.repeat(frames, 1, 1, 1))
    return Cycles(
        torch.stack(backward),
        [torch.stack(way) for way in reversed(forward)],
        *(tensor.unflatten(0, (frames, batch)) for tensor in (direct, skip, inliers)),
        own=locate(patch, target_keys)[0] if own else None,
    )


class TimeCycle(Correspondence):
    """The encoder, and the tracker that it is trained with."""

    def __init__(
        self,
        encoder: FrameEncoder,
        localizer: Localizer,
        *,
        spec: VideoSpec = SPEC,
        recipe: Recipe = RECIPE,
        patch: int = 80,
        offset: float = OFFSET,
        warmup: int = 0,
        patches: Patches = "release",
        own_frame: float = 0.0,
        propagation: Propagation | None = None,
    ) -> None:
        """
        Args:
            encoder: frames to features.
            localizer: made for the spec's crop and for ``patch`` at the encoder's stride.
            spec: what it wants to eat.
            recipe: how it is trained.
            patch: side of the patch that is tracked, in pixels.
            offset: what a crop's translation is multiplied by: 227/210, or 1.
            warmup: first epochs, in which only the localizer learns. From scratch, both losses can stay flat for long
                without it.
            patches: ``"release"`` mirrors the place of a mirrored sample's patch once too often, as the release does;
                ``"motion"`` takes the patch where the motion is.
            own_frame: weight of a loss that the release lacks: the patch, located in its own frame, where the answer is
                known before any tracking. A fresh localizer learns from it in minutes what cycles teach it slowly.
            propagation: how labels are carried; the release's settings by default.
        """
        super().__init__(encoder, spec=spec, recipe=recipe, propagation=propagation)
        self.localizer = localizer
        self.patch, self.offset, self.warmup, self.patches = patch, offset, warmup, patches
        self.own_frame = own_frame

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The release's names to ours; layer4, which it holds and never runs, stays behind."""
        return from_release(state)

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """The trunk from an image classifier's weights; the projection and the localizer stay fresh."""
        self.encoder.start_from_image(state)

    def samples(self, clips: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a training step tracks.

        Args:
            clips: normalised, ``[B, 3, T + 2, S, S]``: past frames, the frame of the patch, the one after it.
            draws: what is random about it.

        Returns:
            The past frames ``[B, 3, T, S, S]``, the frame of the patch ``[B, 3, S, S]``, the patch ``[B, 3, P, P]`` and
            its place ``[B, 2, 3]``.
        """
        clips = mirrored(clips, draws.mirror)
        past, target, following = clips[:, :, :-2], clips[:, :, -2], clips[:, :, -1]
        cells = choose_cells(motion_scores(target, following), draws, mirror_column=self.patches == "release")
        theta = place_patches(cells, draws, scale=self.patch / clips.shape[-1])
        return past, target, crop(target, theta, self.patch), theta

    def cycles(self, past: Tensor, target: Tensor, patch: Tensor) -> Cycles:
        """`samples`' frames and patch through the encoder and the tracker.

        Batch norm sees three batches, in this order: all past frames, the patches, the frames that they are from.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.warming_up):
            past, patch, target = self(past), self.encoder(patch), self.encoder(target)
        return track(self.localizer, past, target, patch, self.offset, own=self.own_frame > 0)

    @property
    def warming_up(self) -> bool:
        """Whether only the localizer learns yet."""
        return self.training and self.current_epoch < self.warmup

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        clips = self.normalize(batch["clips"])
        past, target, patch, theta = self.samples(clips, Draws.random(len(clips), clips.device))
        losses = self.cycles(past, target, patch).losses(theta)
        loss = total(losses, self.own_frame)
        self.log_dict({"train_loss": loss, **losses}, prog_bar=True, batch_size=len(clips))
        if self.warming_up:  # processes that train together want a gradient of every parameter, if only zero
            loss = loss + 0 * sum(parameter.sum() for parameter in self.encoder.parameters())
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Adam must not average gradients of zero while the encoder waits: its first steps would be far too long."""
        if self.warming_up:
            for parameter in self.encoder.parameters():
                parameter.grad = None

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """The release's clipping, unless the trainer was told another."""
        value = CLIP_NORM if gradient_clip_val is None else gradient_clip_val
        self.clip_gradients(optimizer, value, gradient_clip_algorithm or "norm")

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = Adam(self.parameters(), lr=recipe.rate, betas=BETAS, weight_decay=recipe.weight_decay)
        if recipe.schedule == "constant" and not recipe.warmup:
            return optimizer
        return self.scheduled(optimizer)


_NORM = r"\.(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = rf"conv[1-3]\.weight|bn[1-3]{_NORM}|downsample\.0\.weight|downsample\.1{_NORM}"
_TRUNK = rf"conv1\.weight|bn1{_NORM}|layer[1-4]\.\d+\.(?:{_BLOCK})"
_TRACKER = {
    "afterconv1.weight": "encoder.projection.weight",
    "afterconv3_trans.weight": "localizer.conv1.weight",
    "afterconv4_trans.weight": "localizer.conv2.weight",
    "linear2.weight": "localizer.linear.weight",
    "linear2.bias": "localizer.linear.bias",
}


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The release's state dict under our names, its one-frame 3D convolutions as the 2D ones that they are.

    Raises:
        WeightsError: naming every entry that such a model does not have.
    """
    if "encoder.conv1.weight" in state or "encoder.conv1.0.weight" in state:  # ours; the second is a deep stem's
        return dict(state)
    result, unknown = {}, []
    for key, value in state.items():
        name = key.removeprefix("module.")
        trunk = name.removeprefix("encoderVideo.")
        if name in _TRACKER:
            ours = _TRACKER[name]
        elif re.fullmatch(_TRUNK, trunk):
            if trunk.startswith("layer4."):
                continue
            ours = f"encoder.{trunk}"
        else:
            unknown.append(key)
            continue
        value = torch.as_tensor(value)
        if value.dim() == 5:
            if value.shape[2] != 1:
                raise WeightsError(f"TimeCycle weights: {key} is {list(value.shape)}; its kernels must span one frame.")
            value = value.squeeze(2)
        result[ours] = value
        if ours.endswith("running_mean"):  # torch did not count batches before 0.4.1
            result.setdefault(ours.replace("running_mean", "num_batches_tracked"), torch.zeros((), dtype=torch.int64))
    if unknown:
        raise WeightsError(
            f"TimeCycle weights: no place for {len(unknown)} of {len(state)} names: {', '.join(sorted(unknown))}. "
            "Is this the release's checkpoint_14.pth.tar?"
        )
    return result


@register("time_cycle_r50", paper="wang2019timecycle", aliases=("time_cycle",))
@register("time_cycle_r18", paper="wang2019timecycle", depth=18)
def time_cycle(
    depth: int = 50,
    size: int | None = 320,
    references: int = 7,
    topk: int = 5,
    offset: float = OFFSET,
    warmup: int = 0,
    patches: Patches = "release",
    learning_rate: float | None = None,
) -> TimeCycle:
    """A ResNet up to res4 at stride 8 whose features correspond over time.

    Args:
        depth: 50 (the release's and the paper's best) or 18 (the paper has a row of it; its width is not stated).
        size: side of the square that frames are resized to in propagation; None keeps them as they are.
        references: preceding frames that propagation looks into; the first frame comes on top.
        topk: neighbours that it takes from each.
        offset: what a crop's translation is multiplied by in training: 227/210 or 1, see the module.
        warmup: first epochs in which only the localizer learns.
        patches: how a training patch is chosen: by the release's rule or by ``"motion"`` without its slip.
        learning_rate: in place of the recipe's own.
    """
    if depth not in (18, 50):
        raise ZooError(f"time_cycle is a ResNet of 18 or 50 layers, not {depth!r}.")
    model = TimeCycle(
        FrameEncoder(f"resnet{depth}"),
        Localizer(),
        recipe=RECIPE.with_rate(learning_rate),
        offset=offset,
        warmup=warmup,
        patches=patches,
        propagation=Propagation(size=size, references=references, topk=topk),
    )
    model.image_backbone = f"resnet{depth}.tv_in1k"
    return model


@register("time_cycle_tiny", paper="wang2019timecycle", summary="a tiny TimeCycle for the sandbox")
def tiny(
    crop: int = 72,
    stride: int = 4,
    width: int = 16,
    projection: int = 64,
    batch: int = 16,
    iterations: int = 900,
    size: int | None = None,
    references: int = 4,
    topk: int = 5,
    warmup: int = 0,
    offset: float = OFFSET,
    patches: Patches = "motion",
    own_frame: float = 1.0,
    learning_rate: float | None = None,
) -> TimeCycle:
    """Under four hundred thousand parameters on frames of 128 pixels, trained on the sandbox in minutes.

    Args:
        crop: side of a frame, a multiple of three strides; the patch has a third of it.
        stride: of the features, 4 or 8.
        width: of the first stage; the two after it are twice and four times as wide.
        projection: channels of the features.
        batch: clips in a step of its recipe.
        iterations: steps of its recipe.
        size: side of the square that frames are resized to in propagation; None keeps them as they are.
        references: preceding frames that propagation looks into; the first frame comes on top.
        topk: neighbours that it takes from each.
        warmup: first epochs in which only the localizer learns.
        offset: what a crop's translation is multiplied by in training.
        patches: how a training patch is chosen.
        own_frame: weight of the patch's place in its own frame, without which so short a training learns nothing.
        learning_rate: in place of the recipe's own.
    """
    grid, patch = crop // stride, crop // 3
    if crop % (3 * stride):
        raise ZooError(
            f"crop {crop} must be a multiple of {3 * stride}: three strides, for the patch is a third of it."
        )
    encoder = FrameEncoder(
        "resnet18",
        layers=(1, 1, 1),
        channels=(width, 2 * width, 4 * width),
        stem_type="deep",
        stem_width=width // 2,
        projection=projection,
        stride=stride,
    )
    localizer = Localizer(grid, grid // 3, widths=(64, 32), kernel=min(4, (grid // 3 + 1) // 2))
    side = max(128, crop)
    spec = SPEC.replace(crop=crop, short_side=(side, side), test_crop=crop, test_short_side=side)
    recipe = replace(RECIPE, rate=2e-3, batch=batch, iterations=iterations, schedule="cosine").with_rate(learning_rate)
    return TimeCycle(
        encoder,
        localizer,
        spec=spec,
        recipe=recipe,
        patch=patch,
        offset=offset,
        warmup=warmup,
        patches=patches,
        own_frame=own_frame,
        propagation=Propagation(size=size, references=references, topk=topk),
    )
