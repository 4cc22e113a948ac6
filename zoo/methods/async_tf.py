"""The PyTorch port of asynchronous temporal fields, which its authors call AsyncTF: a simpler model than the paper's.

Sigurdsson et al. 2017, as their port and its successor in PyVideoResearch have it. Each of C categories is on or off by
itself; a C x C affinity M of low rank says how likely one is before another:

    q_t = sigmoid(a_t + past_t M + M future_t)

where past and future are means of sigmoid(a) over the other frames of the video, faded by their distance in time. While
training those come from a message server; in a test all frames of the video speak at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import WeightsError
from zoo.methods.asynchronous import Asynchronous, rows_of
from zoo.methods.base import Recipe
from zoo.methods.charades_keys import with_counters, without_module
from zoo.methods.charades_two_stream import RGB
from zoo.metrics.smoothing import moving_average
from zoo.networks.message_server import MessageServer, wide
from zoo.networks.temporal_field import kernel
from zoo.registry import register
from zoo.spec import MomentSpec, VideoSpec


class AffinityHead(nn.Module):
    """Features ``[B, D]`` to what each frame says of the categories ``[B, C]``, and the affinity ``[C, C]``.

    The affinity's row is the earlier category.
    """

    def __init__(self, features: int, num_classes: int, rank: int) -> None:
        super().__init__()
        self.unary = nn.Linear(features, num_classes)
        self.left = nn.Parameter(torch.empty(num_classes, rank).uniform_(-1, 1))
        self.right = nn.Parameter(torch.empty(rank, num_classes).uniform_(-1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.unary(features)

    @property
    def affinity(self) -> Tensor:
        """M."""
        return wide(self.left) @ wide(self.right)


def refined(a: Tensor, past: Tensor, future: Tensor, affinity: Tensor) -> Tensor:
    """q = sigmoid(a + past M + M future), all ``[B, C]``."""
    return torch.sigmoid(a + past @ affinity + future @ affinity.T)


def balanced(q: Tensor, label: Tensor, seen: Tensor) -> Tensor:
    """q, but with gradients as if every category were on as often as off.

    Args:
        q: ``[B, C]``.
        label: ``[B, C]``, 0 or 1.
        seen: ``[2, C]`` samples so far that were off and on, this batch's included.
    """
    on = label.bool()
    half = torch.div(seen.sum(0), 2, rounding_mode="floor")
    weight = half / torch.where(on, seen[1], seen[0])
    return q.detach() + (q - q.detach()) * weight


def adjustment(gap_past: Tensor, gap_future: Tensor, affinity: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """What the affinity owes to labels that came before and after: mean over the batch of ((gap) M y)^2 / (2 C^2).

    Args:
        gap_past: what the labels of earlier frames say minus what their predictions said, ``[B, C]``.
        gap_future: the same of later ones.
        affinity: M.
        label: y, ``[B, C]``.
    """
    scale = 0.5 / label.shape[1] ** 2
    before = torch.einsum("bc,cd,bd->b", gap_past, affinity, label)
    after = torch.einsum("bc,cd,bd->b", label, affinity, gap_future)
    return scale * before.square().mean(), scale * after.square().mean()


class AsyncTF(Asynchronous):
    """The port's model on any image network."""

    pooling = "maximum over the frames"

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        spec: VideoSpec,
        recipe: Recipe,
        num_classes: int = 157,
        rank: int = 3,
        memory: int = 20,
        decay: float = 1.0,
        sigma: float = 300.0,
        temporal_weight: float = 0.03,
        adjustment_weight: float = 1.2,
        unary_weight: float = 15.0,
        balance: bool = True,
        window: int = 1,
    ) -> None:
        super().__init__(spec=spec, recipe=recipe, num_classes=num_classes)
        self.backbone = backbone
        self.head = AffinityHead(features, num_classes, rank)
        self.sigma, self.decay, self.temporal_weight = sigma, decay, temporal_weight
        self.adjustment_weight, self.unary_weight = adjustment_weight, unary_weight
        self.balance, self.window = balance, window
        widths = {"said": num_classes, "label": num_classes}
        self.server = MessageServer(widths, memory, decay, "recent", sigma, strict=True, overwrite=False)
        self.register_buffer("seen", torch.zeros(2, num_classes, dtype=torch.int64), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames ``[B, 3, S, S]`` to what each says by itself, ``[B, C]`` logits."""
        return self.head(self.backbone(frames))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss, parts = self.loss(self(self.inputs(batch)), batch)
        self.log_dict({"train_loss": loss, **parts}, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def loss(self, a: Tensor, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The criterion: logits ``[B, C]`` of a batch to the loss and its parts; it also sends the batch's messages."""
        with torch.autocast(a.device.type, enabled=False):
            return self._loss(wide(a), batch)

    def _loss(self, a: Tensor, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        label, affinity = batch["label"].to(a), self.head.affinity
        heard = self.hear(batch, a)
        past, future = (self.temporal_weight * heard.gather("said", side) for side in ("past", "future"))
        q = refined(a, past, future, affinity)
        sent = self.exchange(batch, said=a.sigmoid(), label=label)
        if self.balance:
            on = sent["label"].long().sum(0)
            self.seen += torch.stack([len(sent["label"]) - on, on])
            q = balanced(q, label, self.seen)
        known = F.binary_cross_entropy(q.clamp(0, 1), label)
        known = known + self.unary_weight * F.binary_cross_entropy_with_logits(a, label)
        parts = {"class_loss": known}
        if self.adjustment_weight:
            told = self.hear(batch, a)  # the labels of this batch are among them
            gaps = (
                self.temporal_weight * told.gather("label", side) - said
                for side, said in (("past", past), ("future", future))
            )
            before, after = adjustment(*gaps, affinity, label)
            parts["past_loss"], parts["future_loss"] = self.adjustment_weight * before, self.adjustment_weight * after
        return sum(parts.values()) / 3, {name: part.detach() for name, part in parts.items()}

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Every frame hears all others of its video; smoothed over time, and the maximum for the video."""
        parts = (rows_of(value, batch["lengths"]) for value in (self(self.inputs(batch)), self.times(batch)))
        found = []
        for a, time in zip(*parts, strict=True):
            with torch.autocast(a.device.type, enabled=False):
                q = moving_average(self.message_passing(a, time), self.window)
            found.append((q.amax(0), q))
        return found

    def message_passing(self, a: Tensor, time: Tensor) -> Tensor:
        """q of all T frames of a video, ``[T, C]`` from logits ``[T, C]`` and image numbers ``[T]``.

        The release passes messages six times, but what a frame sends never changes: with room for all frames and
        without decay that is this single pass.
        """
        a = wide(a)
        near = kernel(time, self.sigma).to(a)
        earlier, later = ((time[:, None] > time).to(a), (time[:, None] < time).to(a))
        said = a.sigmoid()
        past, future = (
            self.temporal_weight * ((side * near) @ said) / side.sum(1, keepdim=True).clamp(min=1)
            for side in (earlier, later)
        )
        return refined(a, past, future, self.head.affinity)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["labels_seen"] = self.seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if "labels_seen" in checkpoint:
            self.seen.copy_(checkpoint["labels_seen"])

    def protocol(self) -> dict[str, Any]:
        """With what a test passes between frames."""
        return {
            **super().protocol(),
            "sigma": self.sigma,
            "temporal_weight": self.temporal_weight,
            "window": self.window,
        }

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The port's checkpoints: ``module.``, torchvision's names, and ``fc.mA``, ``fc.mAAa``, ``fc.mAAb``.

        Raises:
            WeightsError: they are another model's.
        """
        state = without_module(state)
        head = {key: value for key, value in state.items() if key.startswith("fc.")}
        if set(head) != _HEAD:
            raise WeightsError(
                f"a file of AsyncTF has {', '.join(sorted(_HEAD))}; found was: {', '.join(sorted(head)) or 'none'}. "
                "Are these the weights of another model?"
            )
        classes = len(head["fc.mA.weight"])
        return with_counters({key: value for key, value in state.items() if key not in head}, "backbone.") | {
            "head.unary.weight": head["fc.mA.weight"],
            "head.unary.bias": head["fc.mA.bias"],
            "head.left": head["fc.mAAa.weight"].reshape(classes, -1),
            "head.right": head["fc.mAAb.weight"].reshape(-1, classes),
        }

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """As many categories, and an affinity of the same rank."""
        return dict(zip(("num_classes", "rank"), state["head.left"].shape, strict=True)) if "head.left" in state else {}


#: What a published file has in place of a classifier.
_HEAD = {"fc.mA.weight", "fc.mA.bias", "fc.mAAa.weight", "fc.mAAb.weight"}

_EPOCH = 5732  # batches of 50 in a fifth of the 1,432,966 training images, of which every fourth counts

_SPEC = RGB.replace(moments=MomentSpec(labels="all", points=50, share=0.2, lighting=0.0))


@register("async_tf", paper="sigurdsson2017asynchronous", summary="AsyncTF on ResNet-152, RGB, 50 frames")
def async_tf(
    num_classes: int = 157,
    rank: int = 3,
    memory: int = 20,
    decay: float = 1.0,
    sigma: float = 300.0,
    temporal_weight: float = 0.03,
    adjustment_weight: float = 1.2,
    unary_weight: float = 15.0,
    balance: bool = True,
    window: int = 1,
    points: int = 50,
    learning_rate: float = 2.5e-3,
    backbone: str = "resnet152",
) -> AsyncTF:
    """AsyncTF on an image network of timm, with the options of the released experiment.

    Args:
        num_classes: C.
        rank: of the affinity.
        memory: messages kept of a video.
        decay: what a message counts against the one that came after it.
        sigma: of the kernel in images, 24 a second.
        temporal_weight: that messages are multiplied by.
        adjustment_weight: of what the affinity learns from labels; 0 leaves it out.
        unary_weight: of the loss of what each frame says by itself.
        balance: gradients as if every category were on as often as off.
        window: test frames on either side that scores are averaged over.
        points: frames of a video in a test.
        learning_rate: for 50 frames a step.
        backbone: an image network of timm.
    """
    network = timm.create_model(backbone, num_classes=0)
    model = AsyncTF(
        network,
        network.num_features,
        spec=_SPEC.replace(moments=dataclasses.replace(_SPEC.moments, points=points)),
        recipe=Recipe(
            rate=learning_rate,
            batch=50,
            iterations=20 * _EPOCH,
            milestones=tuple(range(3 * _EPOCH, 20 * _EPOCH, 3 * _EPOCH)),
        ),
        num_classes=num_classes,
        rank=rank,
        memory=memory,
        decay=decay,
        sigma=sigma,
        temporal_weight=temporal_weight,
        adjustment_weight=adjustment_weight,
        unary_weight=unary_weight,
        balance=balance,
        window=window,
    )
    model.image_backbone = "resnet152.tv_in1k" if backbone == "resnet152" else backbone
    return model
