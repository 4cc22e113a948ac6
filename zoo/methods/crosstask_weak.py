"""Cross-task weakly supervised learning from instructional videos (Zhukov et al., CVPR 2019): the component model.

What is known of a training video is its task, whose steps are named and ordered, and roughly when its narration speaks
of each. A step's score is the mean score of its components (`zoo.networks.components`), by default the words of its
name, which tasks share. Training alternates, a video a step: choose one clip for each step, in order, then teach the
components to tell the steps apart at those clips. The first half of the training chooses at random among what the
narration allows, the second by dynamic programming on the gradient of the loss.

The released code is followed: scores are normalised over the steps at each time, where the ECCV 2020 paper that takes
this model as a baseline says over time. There components are numbered by a Python set, differently in each process;
here their names in order are an argument of the model, and travel in its checkpoints.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor
from torch.optim import Adam

from zoo.errors import DataError, WeightsError, ZooError
from zoo.methods.base import Recipe
from zoo.methods.step_models import StepModel, StepVideo, step_videos
from zoo.networks.alignment import assign_steps
from zoo.networks.components import (
    Components,
    Share,
    assignment_gradient,
    assignment_loss,
    component_names,
    one_hot,
    random_assignment,
    step_matrix,
    uniform_assignment,
    violations,
)
from zoo.registry import register
from zoo.spec import FeatureSpec, VideoSpec

#: 30 epochs with random assignments and 30 that alternate, a video a step.
RECIPE = Recipe(rate=1e-5, batch=1, epochs=60, schedule="constant", weight_decay=0.0)


class CrossTaskWeak(StepModel):
    """Components on features, and what they are called."""

    starts_from_files = True

    def __init__(
        self,
        dim: int = 3200,
        *,
        vocabulary: Sequence[str] | None = None,
        components: int = 512,
        share: Share = "words",
        dropout: float = 0.7,
        penalty: float = 1e4,
        random_share: float = 0.5,
        recipe: Recipe = RECIPE,
    ) -> None:
        """
        Args:
            dim: numbers in a clip's features.
            vocabulary: names of the components in order, as `component_names` makes them; by default those of the tasks
                that it is first trained on.
            components: how many there are for as long as nobody named them.
            share: what tasks share: ``"words"``, ``"task_words"`` (words within a task), ``"steps"`` or ``"none"``.
            dropout: of features, while training.
            penalty: of a clip that the narration does not allow (lambda).
            random_share: part of the training that assigns steps at random.
            recipe: how it is trained.
        """
        super().__init__(VideoSpec(frames=1, stride=1, features=FeatureSpec(dim=dim, samples="videos")), recipe)
        if not 0 <= random_share <= 1 or not 0 <= dropout < 1 or not penalty >= 0 or components < 1:
            raise ZooError(
                "crosstask_weak needs 0 <= random_share <= 1, 0 <= dropout < 1, penalty >= 0 and components >= 1, got "
                f"{random_share}, {dropout}, {penalty} and {components}."
            )
        self.share, self.penalty, self.random_share, self.dropout = share, penalty, random_share, dropout
        self.network = Components(dim, len(vocabulary) if vocabulary else components, dropout)
        self.vocabulary: tuple[str, ...] | None = None
        if vocabulary:
            self._name(vocabulary)
        self.assigned: dict[int, Tensor] = {}  # training video's number -> the clip of each of its steps

    def _name(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._numbers = {name: n for n, name in enumerate(self.vocabulary)}
        if len(self._numbers) < len(self.vocabulary):
            twice = next(name for n, name in enumerate(self.vocabulary) if self._numbers[name] != n)
            raise ZooError(f"the vocabulary has {twice!r} twice; a component's row would not be clear. Take one out.")

    def _begin_with(self, vocabulary: Sequence[str]) -> None:
        """Components of these names in the nameless ones' place."""
        self._name(vocabulary)
        self.network = Components(self.spec.features.dim, len(vocabulary), self.dropout)
        self.to(device=self.device, dtype=self.dtype)
        self.arguments |= {"vocabulary": list(vocabulary)}

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The released code's ``fc`` to ours. Such a file does not say which word a row is of: ``vocabulary=[...]``."""
        if set(state) != {"fc.weight", "fc.bias"}:
            raise WeightsError(
                f"crosstask_weak weights: the released model has fc.weight and fc.bias, this file {', '.join(state)}."
            )
        return {f"network.{key}": torch.as_tensor(value) for key, value in state.items()}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """The same components of the same features."""
        asked = {name: said[name] for name in ("vocabulary", "share", "dim") if said.get(name) is not None}
        if (weight := state.get("network.fc.weight")) is not None:
            asked |= {"components": weight.shape[0], "dim": weight.shape[1]}
        return asked

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[..., D]`` to scores of the components ``[..., M]``."""
        return self.network(features)

    def matrix(self, task: str, names: Sequence[str]) -> Tensor:
        """``A`` of a task, ``[M, K]``.

        Raises:
            ZooError: the model's components have no names yet, or the steps have other ones.
        """
        if self.vocabulary is None:
            raise ZooError(
                f"{self.name or 'crosstask_weak'} does not know which word each of its components stands for: train it "
                "(zoo fit --model crosstask_weak --data crosstask), load such weights, or give vocabulary=[...]."
            )
        return step_matrix(task, names, self._numbers, self.share).to(self.device, self.dtype)

    def step_scores(self, features: Tensor, names: Sequence[str], task: str = "") -> Tensor:
        """Log of the softmax over a task's steps at each time, ``[T, K]``."""
        return self.network(features, self.matrix(task, names)).log_softmax(1)

    def protocol(self) -> dict[str, Any]:
        """With what tasks share."""
        said = super().protocol()
        shared = {
            "words": "words",
            "task_words": "words within a task",
            "steps": "steps of one name",
            "none": "nothing",
        }
        return {**said, "share": self.share, "in_words": f"{said['in_words']}; tasks share {shared[self.share]}"}

    def setup(self, stage: str) -> None:
        """Name the components after the tasks that are trained on, or refuse tasks that have others."""
        super().setup(stage)
        if stage != "fit":
            return
        tasks = _tasks(self.trainer.datamodule)
        if self.vocabulary is not None:
            for task, steps in tasks.items():
                self.matrix(task, steps)
            return
        if not tasks:
            raise DataError(
                f"{self.name} learns from tasks with named steps, and the data has none; take crosstask, or give the "
                "model vocabulary=[...]."
            )
        if isinstance(self.trainer.strategy.launcher, _MultiProcessingLauncher):
            # Its processes hand back weights alone, which would not fit the model that stayed here.
            raise DataError(
                f"{self.name} takes its components from the data's tasks, and what processes take over that were "
                "spawned or forked does not come back. Train with strategy 'ddp', or give the model vocabulary=[...]."
            )
        self._begin_with(component_names(tasks, self.share))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses = []
        with torch.autocast(self.device.type, enabled=False):
            for video in step_videos(batch):
                if len(video.features) < len(video.names):
                    said = f"{video.video_id} is left out: {len(video.features)} clips for {len(video.names)} steps."
                    warnings.warn(said, stacklevel=2)
                    continue
                losses.append(self.video_loss(video))
        if not losses:  # processes that train together all want a gradient
            return sum((p * 0).sum() for p in self.parameters())
        loss = torch.stack(losses).mean()
        self.log("train_loss", loss, prog_bar=True, batch_size=len(losses))
        return loss

    def video_loss(self, video: StepVideo) -> Tensor:
        """Choose the clips of a video's steps, and what the components owe to them."""
        features, matrix = self.normalize(video.features), self.matrix(video.task, video.names)
        allowed = violations(_seconds(video), len(features), len(video.names))
        self.assigned[video.index] = steps_at = self.choose(video, features, matrix, allowed)
        y = one_hot(steps_at, len(features)).to(features)
        return assignment_loss(self.network(features, matrix), y, allowed.to(features), self.penalty)

    def choose(self, video: StepVideo, features: Tensor, matrix: Tensor, barred: Tensor) -> Tensor:
        """The clip of each step, int64 ``[K]`` on the CPU, for the next step of training."""
        if self.progress < self.random_share:
            key = (int(os.environ.get("PL_GLOBAL_SEED", 0)), self.current_epoch, video.index)
            seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
            return random_assignment(barred, torch.Generator().manual_seed(seed))
        before = self.assigned.get(video.index)
        if before is None or len(before) != len(video.names) or int(before[-1]) >= len(features):
            before = uniform_assignment(len(features), len(video.names))
        found = assignment_gradient(
            self.network.dropout(features),
            self.network.fc,
            matrix,
            one_hot(before, len(features)).to(features),
            barred.to(features),
            penalty=self.penalty,
            rate=self.recipe.rate,
        )
        return assign_steps(found.gradient.cpu())

    @property
    def progress(self) -> float:
        """How much of the training is over, 0 to 1."""
        if math.isfinite(steps := self.trainer.estimated_stepping_batches):
            return self.global_step / steps
        # Of a run that ends by the clock, only the recipe says how long it should have been.
        epochs = self.recipe.epochs
        return self.current_epoch / epochs if epochs else self.global_step / self.recipe.steps(self.global_batch)

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Every process knows what all chose: the next epoch may give it any video, and a checkpoint holds all."""
        if self.trainer.world_size > 1:
            mine = {index: self.assigned[index] for index in batch["index"].tolist() if index in self.assigned}
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, mine)
            for part in parts:
                self.assigned.update(part)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["assigned"] = {index: steps_at.tolist() for index, steps_at in sorted(self.assigned.items())}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the same assignments, and only with the same components in the same order."""
        said = checkpoint.get("zoo", {}).get("arguments", {}).get("vocabulary")
        if said and self.vocabulary and tuple(said) != self.vocabulary:
            other = sorted(set(said) ^ set(self.vocabulary))[:4] or list(said)[:4]
            raise WeightsError(
                f"the checkpoint's components are others, or in another order, than this {self.name}'s (such as "
                f"{', '.join(map(repr, other))}). Resume on the data that it was trained on."
            )
        if said and not self.vocabulary:
            self._begin_with(said)
        super().on_load_checkpoint(checkpoint)
        self.assigned = {int(index): torch.tensor(at) for index, at in checkpoint.get("assigned", {}).items()}

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam by the recipe; its rate does not go with the batch."""
        optimizer = Adam(self.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.weight_decay)
        return self.scheduled(optimizer)


def _tasks(data: Any) -> dict[str, tuple[str, ...]]:
    """The steps of every task of a data set's training videos, by its key; none of a bare loader."""
    records = data.records("train") if data is not None else ()
    return {record.said.task: record.said.steps for record in records}


def _seconds(video: StepVideo) -> Tensor | None:
    """The constraints in clips of a second, int64 ``[c, 3]``, both ends included."""
    if video.constraints is None or video.rate == 1:
        return video.constraints
    step, rows = video.constraints[:, :1], video.constraints[:, 1:]
    return torch.cat([step, ((rows + 0.5) / video.rate).long()], 1)


@register("crosstask_weak", paper="zhukov2019crosstask")
def crosstask_weak(
    dim: int | None = None,
    vocabulary: list[str] | None = None,
    components: int = 512,
    share: Share | None = None,
    dropout: float = 0.7,
    penalty: float = 1e4,
    random_share: float = 0.5,
    learning_rate: float | None = None,
) -> CrossTaskWeak:
    """Steps by the words that their names share, learned from narrated videos of known tasks.

    Args:
        dim: numbers in a clip's features; 3200 by default, as CrossTask's own have, or as the weights have it.
        vocabulary: names of the components in order; by default those of the tasks that it is trained on.
        components: how many there are for as long as nobody named them.
        share: what tasks share: words (the default), task_words (words within a task), steps or none.
        dropout: of features, while training.
        penalty: of a clip that the narration does not allow; 0 trains without narration.
        random_share: part of the training that assigns steps at random.
        learning_rate: in place of the recipe's own.
    """
    return CrossTaskWeak(
        dim or 3200,
        vocabulary=vocabulary,
        components=components,
        share=share or "words",
        dropout=dropout,
        penalty=penalty,
        random_share=random_share,
        recipe=RECIPE.with_rate(learning_rate),
    )


@register("crosstask_weak_tiny", paper="zhukov2019crosstask", summary="the component model on the sandbox's features")
def tiny(
    dim: int | None = None,
    vocabulary: list[str] | None = None,
    components: int = 512,
    share: Share | None = None,
    dropout: float = 0.1,
    penalty: float = 1e4,
    random_share: float = 0.5,
    batch: int = 1,
    iterations: int = 2000,
    learning_rate: float | None = None,
) -> CrossTaskWeak:
    """The same on few numbers a clip, trained on the sandbox in a minute: a recall of 63 percent, untrained 8.

    Args:
        dim: numbers in a clip's features; 64 by default, or as the weights have it.
        vocabulary: names of the components in order; by default those of the tasks that it is trained on.
        components: how many there are for as long as nobody named them.
        share: what tasks share: words (the default), task_words (words within a task), steps or none.
        dropout: of features, while training.
        penalty: of a clip that the narration does not allow; 0 trains without narration.
        random_share: part of the training that assigns steps at random.
        batch: videos in a step of its recipe.
        iterations: steps of its recipe.
        learning_rate: in place of the recipe's own.
    """
    return CrossTaskWeak(
        dim or 64,
        vocabulary=vocabulary,
        components=components,
        share=share or "words",
        dropout=dropout,
        penalty=penalty,
        random_share=random_share,
        recipe=Recipe(3e-3, batch, iterations, schedule="constant", weight_decay=0.0).with_rate(learning_rate),
    )
