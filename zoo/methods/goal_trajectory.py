"""Video representations of goals emerge from watching failure (Epstein, Vondrick, arXiv 2006.15657).

A 3D CNN turns each second of a video into a vector, a Transformer turns the sequence of these into a trajectory. Two
losses shape it: whether each clip comes before, at or after the failure, and whether the sequence is in its order. Its
gradients then correct a failed trajectory (`zoo.methods.autocorrect`), and goals are read off it (`goal_decoder`).

The released code is followed where the text differs: AdamW instead of plain stochastic gradient descent, four of five
sequences split instead of one of two, a two-way softmax for the coherence, exactly one part of a sequence replaced. Of
its slips two are left out: gradients that leak from one epoch into the next, and nine batches in an epoch's first step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError, ZooError
from zoo.methods.base import Recipe
from zoo.methods.intentionality import EPS, Intentionality, failure_loss, finite, started
from zoo.networks.sequences import Layout, perturbed, split, whole
from zoo.networks.trajectory import Positions, TrajectoryTransformer
from zoo.networks.video_resnet import VideoResNet
from zoo.registry import register
from zoo.spec import ONE_SECOND, TrajectorySpec, VideoSpec

LAMBDA = 0.5  # weight of the coherence loss

#: 20 epochs of 27 thousand trajectories, two in each of eight accumulated batches; the rate stays.
RECIPE = Recipe(rate=3e-5, batch=16, iterations=20 * 27_171 // 16, schedule="constant", weight_decay=0.01)


def coherence_loss(logits: Tensor, consistent: Tensor) -> Tensor:
    """``L_nsp``: cross-entropy of "consistent" (1) and "perturbed" (0) over the split sequences (section 3.2).

    Args:
        logits: ``[B, 2]``.
        consistent: ``[B]``; -1 does not count.
    """
    return failure_loss(logits, consistent)


class GoalTrajectory(Intentionality):
    """The encoder of clips, the Transformer over them, and the two heads."""

    def __init__(
        self,
        encoder: VideoResNet,
        transformer: TrajectoryTransformer,
        width: int,
        *,
        spec: VideoSpec = ONE_SECOND,
        recipe: Recipe = RECIPE,
        num_classes: int = 3,
        p_whole: float = 0.2,
        p_perturb: float = 0.5,
        p_swap: float = 1 / 3,
        weighted: bool = True,
        epsilon: float = EPS,
    ) -> None:
        """
        Args:
            encoder: clips to features; has a linear layer to ``width``.
            transformer: of that width.
            width: of features and trajectory.
            spec: what it wants to eat.
            recipe: how it is trained.
            num_classes: three; another number is refused.
            p_whole: probability that a training sequence is not split; 1 trains on the failure loss alone.
            p_perturb: that a split sequence is perturbed.
            p_swap: that a perturbed sequence has its parts exchanged, instead of one of them replaced.
            weighted: weigh the labels by their inverse frequency in the training data.
            epsilon: of AdamW.
        """
        super().__init__(width, spec=spec, recipe=recipe, num_classes=num_classes, weighted=weighted, epsilon=epsilon)
        for name, p in (("p_whole", p_whole), ("p_perturb", p_perturb), ("p_swap", p_swap)):
            if not 0 <= p <= 1:
                raise ZooError(f"{name} is a probability, got {p!r}.")
        self.encoder, self.transformer = encoder, transformer
        self.gelu = nn.GELU()  # both heads begin with it
        self.coherence_head = nn.Linear(width, 2)
        self.p_whole, self.p_perturb, self.p_swap = p_whole, p_perturb, p_swap
        nn.init.normal_(self.encoder.fc.weight, std=0.02)
        nn.init.zeros_(self.encoder.fc.bias)

    @property
    def longest(self) -> int | None:
        """Clips of a trajectory, CLS and SEP left out."""
        return None if self.transformer.longest is None else self.transformer.longest - 2

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The released code's names to ours."""
        return from_release(state)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The trunk of a classifier of clips or of Kinetics as the encoder; all else starts fresh."""
        taken = {f"encoder.{key[6:]}": value for key, value in state.items() if key.startswith("trunk.")}
        return started(self, "encoder.", taken, fresh=("encoder.fc.",))

    def encode(self, clips: Tensor) -> Tensor:
        return self.encoder.pooled(clips)

    def layout(self, lengths: Sequence[int], firsts: Sequence[int] | None = None) -> Layout:
        return whole(lengths) if firsts is None else split(lengths, firsts)

    def contextualize(self, phi: Tensor, layout: Layout) -> Tensor:
        return self.transformer(phi, layout)

    def classify(self, h: Tensor) -> Tensor:
        return self.head(self.gelu(h))

    def coherence(self, h: Tensor) -> Tensor:
        return self.coherence_head(self.gelu(h[:, 0]))

    def losses(self, phi: Tensor, label: Tensor, layout: Layout) -> dict[str, Tensor]:
        """``L_fail`` and ``L_nsp`` of clips ``[N, D]`` with labels ``[N]`` in a layout."""
        h = self.contextualize(phi, layout)
        labels = layout.labels(label)
        return {
            "L_fail": failure_loss(self.classify(h).flatten(0, 1), labels.flatten(), self.class_weights),
            "L_nsp": coherence_loss(self.coherence(h), layout.consistent),
        }

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        lengths = batch["lengths"].tolist()
        layout = perturbed(
            lengths,
            Random(self.batch_seed(batch_idx)),
            p_whole=self.p_whole,
            p_perturb=self.p_perturb,
            p_swap=self.p_swap,
            longest=self.spec.trajectory.clips[1],
        ).to(self.device)
        losses = self.losses(self.encode(self.normalize(batch["clips"])), batch["label"], layout)
        loss = losses["L_fail"] + LAMBDA * losses["L_nsp"]
        self.log_dict({"train_loss": loss, **losses}, prog_bar=True, batch_size=len(lengths))
        return finite(self, loss)


_NAMES = {
    "video_transformer.embeddings.word_embeddings.weight": "transformer.words.weight",
    "video_transformer.embeddings.token_type_embeddings.weight": "transformer.segments.weight",
    "video_transformer.embeddings.position_embeddings.weight": "transformer.learned.weight",
    "video_transformer.embeddings.LayerNorm": "transformer.norm",
    "video_transformer.embeddings.clip_embeddings": "encoder",
    "clip_prediction.linear": "head",
    "next_seq_prediction.linear": "coherence_head",
}
_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}
_RECOMPUTED = ("video_transformer.embeddings.position_embeddings.pe",)
_OTHER_TASK = ("svo_decoder_head.", "svo_decoder_embs.")  # the decoder is a model of its own here


def from_release(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict of the released code under our names; its decoder of goals, if it has one, stays behind.

    Raises:
        WeightsError: naming every entry that such a model does not have.
    """
    result, unknown = {}, []
    for key, value in state.items():
        name = key.removeprefix("module.").replace(".gamma", ".weight").replace(".beta", ".bias")
        if name in _RECOMPUTED or name.startswith(_OTHER_TASK):
            continue
        if layer := re.fullmatch(r"video_transformer\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name):
            number, part, kind = layer.groups()
            ours = f"transformer.layers.{number}.{_LAYER[part]}.{kind}" if part in _LAYER else None
        else:
            prefix = next((p for p in _NAMES if name == p or name.startswith(f"{p}.")), None)
            ours = prefix and _NAMES[prefix] + name.removeprefix(prefix)
        if ours:
            result[ours] = torch.as_tensor(value)
        else:
            unknown.append(key)
    if unknown:
        raise WeightsError(
            f"goal_trajectory weights: no place for {len(unknown)} of {len(state)} names: "
            f"{', '.join(sorted(unknown))}. Is this a checkpoint of the goals code's trajectory model?"
        )
    return result


@register("goal_trajectory", paper="epstein2020goals")
def goal_trajectory(
    num_classes: int = 3,
    coherence: bool = True,
    positions: Positions = "fixed",
    p_whole: float | None = None,
    p_perturb: float = 0.5,
    p_swap: float = 1 / 3,
    weighted: bool = True,
    stride: int = 4,
    cap: int | None = 50,
    learning_rate: float | None = None,
) -> GoalTrajectory:
    """R(2+1)D-18 on one-second clips and a Transformer of four layers over them.

    Args:
        num_classes: labels of a clip, three; another number is refused.
        coherence: train with the coherence loss; without it no sequence is split.
        positions: of tokens, ``"fixed"`` sinusoids as the published scripts have them, or ``"learned"``.
        p_whole: probability that a training sequence is not split; 0.2 with the coherence loss by default.
        p_perturb: probability that a split sequence is perturbed.
        p_swap: probability that a perturbed sequence has its parts exchanged.
        weighted: weigh labels by their inverse frequency.
        stride: quarters of a second from one clip to the next when testing.
        cap: quarters of a second of a video that a test looks at; None looks at all.
        learning_rate: in place of the recipe's own.
    """
    return GoalTrajectory(
        VideoResNet(features=512),
        TrajectoryTransformer(positions=positions),
        512,
        spec=ONE_SECOND.replace(trajectory=TrajectorySpec(stride=stride, cap=cap)),
        recipe=RECIPE.with_rate(learning_rate),
        num_classes=num_classes,
        p_whole=_p_whole(coherence, p_whole),
        p_perturb=p_perturb,
        p_swap=p_swap,
        weighted=weighted,
    )


@register("goal_trajectory_tiny", paper="epstein2020goals", summary="a tiny goal trajectory for the sandbox")
def tiny(
    num_classes: int = 3,
    coherence: bool = True,
    width: int = 64,
    channels: int = 8,
    frames: int = 8,
    crop: int = 48,
    batch: int = 8,
    iterations: int = 300,
    p_whole: float | None = None,
    weighted: bool = True,
    stride: int = 4,
    cap: int | None = None,
    learning_rate: float | None = None,
) -> GoalTrajectory:
    """A few hundred thousand parameters on small clips, trained on the sandbox in minutes from `oops_cnn_tiny`.

    Args:
        num_classes: labels of a clip, three; another number is refused.
        coherence: train with the coherence loss.
        width: of features and trajectory.
        channels: of the encoder's first stage; the others have twice, four times and eight times as many.
        frames: in a second, all of a clip.
        crop: side of a frame.
        batch: videos in a step of its recipe.
        iterations: steps of its recipe.
        p_whole: probability that a training sequence is not split.
        weighted: weigh labels by their inverse frequency.
        stride: quarters of a second from one clip to the next when testing.
        cap: quarters of a second of a video that a test looks at; None looks at all.
        learning_rate: in place of the recipe's own.
    """
    recipe = Recipe(1e-3, batch, iterations, "cosine", warmup=20, weight_decay=0.01)
    return GoalTrajectory(
        VideoResNet(widths=tuple(channels * 2**i for i in range(4)), blocks=(1, 1, 1, 1), features=width),
        TrajectoryTransformer(width, layers=2, heads=4, feedforward=2 * width),
        width,
        spec=tiny_spec(frames, crop, stride, cap),
        recipe=recipe.with_rate(learning_rate),
        num_classes=num_classes,
        p_whole=_p_whole(coherence, p_whole, default=0.5),  # the paper's; so short a training wants more labels
        weighted=weighted,
        epsilon=1e-8,
    )


def tiny_spec(frames: int, crop: int, stride: int = 4, cap: int | None = None) -> VideoSpec:
    """One-second clips of a few small square frames that show all of the sandbox's."""
    side = crop * 11 // 10
    return ONE_SECOND.replace(
        frames=frames,
        fps=frames,
        crop=crop,
        size=(side, side),
        short_side=(side, side),
        test_crop=crop,
        test_short_side=side,
        trajectory=TrajectorySpec(step=max(1, frames // 4), stride=stride, cap=cap),
    )


def _p_whole(coherence: bool, given: float | None, default: float = 0.2) -> float:
    return (default if coherence else 1.0) if given is None else given
