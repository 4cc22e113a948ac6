"""Space-time correspondence as a contrastive random walk (Jabri, Owens, Efros, NeurIPS 2020).

Patches of a clip's frames are the nodes of a graph, and a walker steps from frame to frame to patches that look alike.
A walk to a later frame and back must end where it began: every pair of frames on the way is compared, and all of it is
learned without a label.

Training uses the whole ResNet and a linear layer on top. Afterwards the features of its third stage are compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from zoo.errors import WeightsError, ZooError
from zoo.methods.base import Recipe
from zoo.methods.correspondence import Correspondence
from zoo.networks.frame_encoder import FrameEncoder, unit
from zoo.networks.patch_grid import grid_patches, patch_corners, random_boxes
from zoo.networks.propagation import Propagation
from zoo.registry import register
from zoo.spec import VideoSpec

TEMPERATURE = 0.05  # of the release's command lines, in training as in testing
DROPPED = -1e20  # the similarity of patches that a step must not join
LAST_EPOCHS = 20 / 25, 0.3  # from this share of the run on, the rate is multiplied by that

#: 25 epochs, in each of which every one of Kinetics' 240 thousand videos gives up to five clips.
RECIPE = Recipe(rate=1e-4, batch=20, iterations=25 * 5 * 240_000 // 20, schedule="constant", weight_decay=0.0)

SPEC = VideoSpec(
    frames=4,
    stride=1,
    fps=8,
    crop=256,
    short_side=(256, 256),
    clips=1,
    crops=1,
    flip=False,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)


def transitions(
    nodes: Tensor, temperature: float = TEMPERATURE, dropout: float = 0.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Steps to the next frame and back from it, each ``[B, N, N]``, rows summing to one; T - 1 of either.

    Args:
        nodes: of length one, ``[B, C, T, N]``.
        temperature: divides the cosines.
        dropout: probability that a pair of patches is not joined. As in the release, what is dropped on the way there
            is dropped on the way back, where more is dropped besides.
    """
    there, back = [], []
    with torch.autocast(nodes.device.type, enabled=False):
        alike = torch.einsum("bctn,bctm->tbnm", nodes[:, :, :-1].float(), nodes[:, :, 1:].float())
        for step in alike:
            step = _drop(step, dropout)
            there.append((step / temperature).softmax(-1))
            back.append((_drop(step.transpose(1, 2), dropout) / temperature).softmax(-1))
    return there, back


def walks(nodes: Tensor, temperature: float = TEMPERATURE, dropout: float = 0.0) -> list[Tensor]:
    """Where a walker ends that walks two, three, ..., T - 1 frames ahead and the same way back, each ``[B, N, N]``.

    The walk of one frame is left out, as in the release.
    """
    there, back = transitions(nodes, temperature, dropout)
    ends = []
    with torch.autocast(nodes.device.type, enabled=False):  # half precision would round small probabilities to none
        for length in range(2, len(there) + 1):
            way = there[0]
            for step in (*there[1:length], *reversed(back[:length])):
                way = way @ step
            ends.append(way)
    return ends


def walk_losses(ends: list[Tensor]) -> tuple[Tensor, Tensor]:
    """For each of `walks`: the cross-entropy of ending where one began, and how often that is the likeliest end."""
    losses, hits = [], []
    for end in ends:
        home = torch.arange(end.shape[-1], device=end.device).expand(len(end), -1)
        losses.append(cross_entropy((end + 1e-20).log().transpose(1, 2), home))
        hits.append((end.argmax(-1) == home).float().mean())
    return torch.stack(losses), torch.stack(hits)


class ContrastiveRandomWalk(Correspondence):
    """A ResNet trained by walks over patches."""

    def __init__(
        self,
        encoder: FrameEncoder,
        width: int,
        *,
        nodes: int = 128,
        patch: int = 64,
        patch_stride: int = 32,
        temperature: float = TEMPERATURE,
        dropout: float = 0.1,
        spec: VideoSpec = SPEC,
        recipe: Recipe = RECIPE,
        propagation: Propagation | None = None,
    ) -> None:
        """
        Args:
            encoder: with the last stage that training uses, and the output that is compared afterwards.
            width: channels of its last stage.
            nodes: channels of a patch's vector.
            patch: side of a patch, in pixels.
            patch_stride: pixels from a patch to the next.
            temperature: of the steps.
            dropout: probability that a step between two patches is forbidden, in training.
            spec: what it wants to eat.
            recipe: how it is trained.
            propagation: how labels are carried.
        """
        super().__init__(encoder, spec=spec, recipe=recipe, propagation=propagation)
        if spec.frames < 3:
            raise ZooError(f"a walk of two frames ahead and back needs clips of 3 frames or more, not {spec.frames}.")
        self.head = nn.ModuleDict({"linear": nn.Linear(width, nodes)})
        self.patch, self.patch_stride, self.temperature, self.dropout = patch, patch_stride, temperature, dropout

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The release's names to ours."""
        return from_release(state)

    def nodes(self, patches: Tensor) -> Tensor:
        """Normalised patches ``[B, T, N, 3, P, P]`` to vectors of length one, ``[B, C, T, N]``."""
        maps = self.encoder.stage(patches.flatten(0, 2), self.encoder.stages[-1])
        vectors = unit(self.head["linear"](maps.mean((2, 3))))
        return vectors.unflatten(0, patches.shape[:3]).movedim(-1, 1)

    def samples(self, clips: Tensor) -> Tensor:
        """Jittered patches ``[B, T, N, 3, P, P]`` of every frame of normalised clips ``[B, 3, T, S, S]``."""
        batch, _, frames, size, _ = clips.shape
        count = len(patch_corners(size, self.patch, self.patch_stride))
        return grid_patches(
            clips,
            random_boxes((batch, frames), (0.8, 0.95), (0.7, 1.3), clips.device),
            random_boxes((batch, frames, count), (0.7, 0.9), (3 / 4, 4 / 3), clips.device),
            patch=self.patch,
            stride=self.patch_stride,
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        clips = self.normalize(batch["clips"])
        ends = walks(self.nodes(self.samples(clips)), self.temperature, self.dropout)
        losses, hits = walk_losses(ends)
        loss = losses.mean()
        self.log_dict({"train_loss": loss, "walks_home": hits.mean()}, prog_bar=True, batch_size=len(clips))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam; the rate is not scaled with the batch, and falls once."""
        recipe = self.recipe
        optimizer = Adam(self.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
        share, gain = LAST_EPOCHS
        return self.scheduled(optimizer, lambda progress: gain if progress >= share else 1.0)


_STATISTICS = r"\.(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = rf"conv[12]\.weight|bn[12]{_STATISTICS}|downsample\.0\.weight|downsample\.1{_STATISTICS}"
_TRUNK = rf"conv1\.weight|bn1{_STATISTICS}|layer[1-4]\.[01]\.(?:{_BLOCK})"


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The release's state dict under our names.

    Its older files pad by a module of its own, which counts one more part of each convolution (``conv1.1.weight``).

    Raises:
        WeightsError: naming every entry that such a model does not have.
    """
    if "encoder.conv1.weight" in state:  # ours
        return dict(state)
    result, unknown = {}, []
    for key, value in state.items():
        trunk = re.sub(r"\b(conv[12])\.1\.weight$", r"\1.weight", key.removeprefix("encoder.model."))
        if key.startswith("encoder.model.") and re.fullmatch(_TRUNK, trunk):
            result[f"encoder.{trunk}"] = torch.as_tensor(value)
        elif key in ("selfsim_fc.0.weight", "selfsim_fc.0.bias"):
            result[f"head.linear.{key.rpartition('.')[2]}"] = torch.as_tensor(value)
        else:
            unknown.append(key)
    if unknown:
        raise WeightsError(
            f"weights of the contrastive random walk: no place for {len(unknown)} of {len(state)} names: "
            f"{', '.join(sorted(unknown))}. Is this the `model` part of the release's pretrained.pth?"
        )
    for key in [key for key in result if key.endswith("running_mean")]:
        result.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.zeros((), dtype=torch.int64))
    return result


def _drop(alike: Tensor, probability: float) -> Tensor:
    if not probability:
        return alike
    return alike.masked_fill(torch.rand_like(alike) < probability, DROPPED)


@register("contrastive_random_walk_r18", paper="jabri2020walk", aliases=("contrastive_random_walk",))
def contrastive_random_walk(
    padding_mode: str = "reflect",
    temperature: float = TEMPERATURE,
    dropout: float = 0.1,
    size: int | None = None,
    references: int = 20,
    topk: int = 10,
    radius: float | None = 12,
    learning_rate: float | None = None,
) -> ContrastiveRandomWalk:
    """A ResNet-18 at stride 8 whose features correspond over time, trained by walks over patches.

    Args:
        padding_mode: ``"reflect"``, or ``"zeros"`` as in one of the release's variants.
        temperature: of the walk in training and of propagation.
        dropout: probability that a step between two patches is forbidden, in training.
        size: side that frames are resized to in propagation; None keeps them as they are.
        references: preceding frames that propagation looks into.
        topk: neighbours that it takes from all of them together.
        radius: in cells, beyond which they are no neighbours, except in the first frame; None for no bound.
        learning_rate: in place of the recipe's own.
    """
    if padding_mode not in ("reflect", "zeros"):
        raise ZooError(f"padding_mode is 'reflect' or 'zeros', not {padding_mode!r}.")
    encoder = FrameEncoder("resnet18", last="layer4", output="layer3", projection=None, padding_mode=padding_mode)
    propagation = Propagation(
        size=size,
        references=references,
        topk=topk,
        temperature=temperature,
        radius=radius,
        joint=True,
        rescale=False,
    )
    recipe = RECIPE.with_rate(learning_rate)
    return ContrastiveRandomWalk(
        encoder, 512, temperature=temperature, dropout=dropout, recipe=recipe, propagation=propagation
    )
