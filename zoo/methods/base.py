"""What every model of the zoo shares: a name, a spec, class names, and a memory of them in its checkpoints."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from zoo.errors import DataError, WeightsError, ZooError
from zoo.hub.checkpoint import Checkpoint
from zoo.spec import VideoSpec


@dataclass(frozen=True)
class Recipe:
    """How a method's paper trains it, in steps of its own global batch.

    Attributes:
        rate: learning rate at the paper's global batch; scaled linearly with the batch for SGD, not for Adam.
        batch: the paper's global batch, in clips.
        iterations: steps of the whole schedule at that batch.
        schedule: ``"step"`` divides the rate by ten at the milestones, ``"cosine"`` lets it fall to nothing,
            ``"constant"`` keeps it.
        milestones: of the step schedule.
        warmup: first steps, over which the rate rises linearly.
        momentum: of SGD (Nesterov).
        weight_decay: of SGD on everything but the scales and biases of normalisation, of Adam's kind on everything.
        epochs: of the whole schedule, where the paper counts in passes over its data; then ``iterations`` says nothing.
    """

    rate: float = 0.01
    batch: int = 64
    iterations: int = 400_000
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[int, ...] = (150_000, 300_000, 400_000)  # the release lists its end as the last one
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int | None = None

    def factor(self, progress: float) -> float:
        """What the rate is multiplied by when ``progress`` (0 to 1) of the run is over."""
        step = progress * self.iterations
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return 0.1 ** sum(step >= milestone for milestone in self.milestones)
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.iterations - self.warmup)))

    def with_rate(self, rate: float | None) -> Recipe:
        """A copy with another rate, where one is given.

        Raises:
            ZooError: it is no number above 0.
        """
        if rate is not None and not 0 < rate < math.inf:
            raise ZooError(f"learning_rate must be a number above 0, got {rate!r}.")
        return self if rate is None else dataclasses.replace(self, rate=rate)

    def steps(self, global_batch: int) -> int:
        """Steps that show the model as many clips as the paper's schedule does."""
        return round(self.iterations * self.batch / global_batch)


class ZooModule(pl.LightningModule):
    """The parent of the zoo's models.

    Attributes:
        name: the registered name it was built by.
        arguments: the builder's arguments, plain values.
        spec: what it wants to eat.
        labels: class names in the order of the head's outputs, or None where nobody said.
        recipe: how its paper trains it.
        checkpoint: the manifest's entry whose weights it holds, or None.
    """

    name: str = ""
    checkpoint: Checkpoint | None = None
    test_batch_size: int = 1  # what a few gigabytes hold
    starts_from_files: bool = False  # whether `adapt` also takes files of other models, not their checkpoints alone
    # What `zoo.load` takes where nobody published any: "none", "imagenet", or one for each stream.
    default_weights: str | tuple[str, ...] | None = None
    untrainable: str = "has nothing to learn; `zoo test` measures it as it is"  # said of one without a training step
    loader: Callable[[str], ZooModule] | None = None  # `zoo.load`, for those that need another model at hand
    may_lack: ClassVar[tuple[str, ...]] = ()  # prefixes of entries that stay fresh where weights have none
    stream_options: ClassVar[Mapping[str, str]] = {}  # the builder's argument that holds each stream's own
    image_backbone: str | None = None  # whose ImageNet weights it can start from: timm's name, or torchvision:NAME

    def __init__(self, spec: VideoSpec, recipe: Recipe | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.recipe = recipe or Recipe()
        self.labels: tuple[str, ...] | None = None
        self.arguments: dict[str, Any] = {}

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """A published state dict under our names; a method with published weights says how."""
        raise WeightsError("nobody has published weights of this method in a foreign format, so none can be read.")

    @staticmethod
    def upstream_arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        """What a published state dict says of how its model is built: arguments of the builder, plain values."""
        return {}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the builder without which weights would not fit.

        Args:
            state: the weights, under our names.
            said: the arguments of the model that they are from, as far as the file tells.
        """
        return {"num_classes": state["head.weight"].shape[0]} if "head.weight" in state else {}

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of another model as a start for this one; by default they must fit as they are."""
        return dict(state)

    def start_from_image(self, state: Mapping[str, Tensor]) -> None:
        """Fill what can be filled from an image network's state dict under torchvision's names."""
        raise NotImplementedError(f"{type(self).__name__} does not start from images.")

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Of a training sample that `forward` takes a batch of; with another side than the spec's crop where given."""
        size = size or self.spec.crop
        return (3, self.spec.frames, size, size)

    def normalize(self, clips: Tensor) -> Tensor:
        """Bytes ``[..., 3, T, H, W]`` in RGB to what the network was trained on: ``(x / 255 - mean) / std``."""
        mean, std = (constant(v, clips.device, self.dtype).view(3, 1, 1, 1) for v in (self.spec.mean, self.spec.std))
        return (clips.to(self.dtype) / 255 - mean) / std

    def features(self, clips: Tensor) -> Tensor:
        """One vector of each clip, of what the head would see: float32 ``[B, D]``; see `zoo.methods.extracting`.

        Args:
            clips: RGB in 0..255 as datamodules serve it, uint8 or float ``[B, 3, T, H, W]`` with ``T = spec.frames``.

        Raises:
            ZooError: the model has no such vectors.
        """
        raise self.featureless("it makes no vectors of clips")

    def featureless(self, why: str) -> ZooError:
        """The error of a model without `features`."""
        return ZooError(
            f"{self.name or type(self).__name__} has no features of clips: {why}. Take a model that looks at frames, "
            "such as i3d_r50."
        )

    def protocol(self) -> dict[str, Any]:
        """All that decides a test's score, as plain values; ``in_words`` says it in a line."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is tested.")

    def label(self, number: int) -> str:
        """A class's name; its number where no names came with the weights, for a wrong name is worse than none."""
        return self.labels[number] if self.labels else f"class {number}"

    @property
    def global_batch(self) -> int:
        """Clips in one optimiser step over all processes, read off the running trainer."""
        per_process = getattr(self.trainer.datamodule, "batch_size", None)
        if per_process is None:  # a bare loader; Lightning has not asked for it yet when optimisers are made
            self.trainer.fit_loop.setup_data()
            per_process = self.trainer.train_dataloader.batch_size
        return per_process * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def scheduled(self, optimizer: Optimizer, factor: Callable[[float], float] | None = None) -> dict[str, Any]:
        """What `configure_optimizers` gives for an optimiser whose rate changes over the run.

        Args:
            optimizer: with the rate that ``factor`` multiplies.
            factor: of how much of the run is over, 0 to 1; the recipe's by default.
        """
        trainer, factor = self.trainer, factor or self.recipe.factor

        def of_step(step: int) -> float:
            # The length is asked for after the start only: asking makes Lightning set up its loaders, and loaders that
            # exist before a checkpoint is restored would not resume where they stopped.
            return factor(step / trainer.estimated_stepping_batches if step else 0)

        schedule = LambdaLR(optimizer, of_step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Refuse data whose classes are not the model's, before anything is trained or scored on it."""
        classes, outputs = getattr(self.trainer.datamodule, "classes", None), getattr(self, "num_classes", None)
        if not classes or outputs is None:
            return
        if (count := len(classes)) != outputs:
            raise DataError(
                f"{self.name} tells {outputs} classes apart, {self.trainer.datamodule.name} has {count}. Give it a new "
                f"head: --model.num_classes {count} on the command line, num_classes={count} in Python."
            )
        if stage != "fit" and self.labels and tuple(self.labels) != tuple(classes):
            raise DataError(
                f"{self.name}'s weights were trained on other classes ({self.labels[0]!r}, ...) than those of "
                f"{self.trainer.datamodule.name} ({classes[0]!r}, ...): the score would mean nothing. Fine-tune first."
            )

    def on_fit_start(self) -> None:
        """Take the class names from the data that the head is trained on, and train what `zoo.load` handed out to use.

        Lightning leaves modes as they are, and batch norm that does not learn lets the loss run away. A model of which
        some part is in training mode already was put so by its user.
        """
        if not any(module.training for module in self.modules()):
            self.train()
        classes = getattr(self.trainer.datamodule, "classes", None)
        if classes and getattr(self, "num_classes", None) is not None:
            self.labels = tuple(classes)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Random numbers (dropout) depend on seed, epoch, batch and process alone: a resumed run draws the same."""
        torch.manual_seed(self.batch_seed(batch_idx))

    def batch_seed(self, batch_idx: int) -> int:
        """A number that is this process's for this batch of this epoch, and the same in a resumed run."""
        key = (int(os.environ.get("PL_GLOBAL_SEED", 0)), self.current_epoch, batch_idx, self.global_rank)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint says what it is, so that `zoo.load("last.ckpt")` needs no other word."""
        checkpoint["zoo"] = {
            "name": self.name,
            "arguments": self.arguments,
            "spec": self.spec.to_dict(),
            "labels": list(self.labels) if self.labels else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with another model than the one that was saved."""
        about, own = checkpoint.get("zoo", {}), self.state_dict()
        if about.get("name", self.name) != self.name:
            raise WeightsError(
                f"the checkpoint holds {about['name']}, not {self.name}: resume with --model {about['name']}, or start "
                f"{self.name} from other weights with --weights."
            )
        for key, value in checkpoint["state_dict"].items():
            if key in own and own[key].shape != value.shape:
                raise WeightsError(
                    f"the checkpoint's {key} is {list(value.shape)}, this {self.name}'s is {list(own[key].shape)}: "
                    f"resume with the arguments that it was trained with ({about.get('arguments')})."
                )
        if about.get("labels"):
            self.labels = tuple(about["labels"])


@lru_cache(64)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers as a tensor on a device, made once: one made anew would wait for the device. Not to be changed."""
    with torch.inference_mode(False):  # it may serve training later
        return torch.tensor(values, dtype=dtype, device=device)


class ScoredModule(ZooModule):
    """A model with a metric for validation and one for tests, which a subclass fills batch by batch.

    Attributes:
        val_metrics: of a validation epoch.
        test_metrics: of a test.
    """

    val_metrics: Metric
    test_metrics: Metric

    def _score(self, batch: dict[str, Any], metric: Metric) -> None:
        """Update the metric with a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a batch is scored.")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, self.val_metrics)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        self._report(self.val_metrics, "val_")

    def on_test_epoch_end(self) -> None:
        self._report(self.test_metrics, "")

    def _report(self, metric: Metric, prefix: str) -> None:
        values = metric.compute()
        metric.reset()
        self.log_dict(
            {f"{prefix}{k}": float(v) for k, v in values.items()}, prog_bar=bool(prefix), batch_size=1, sync_dist=True
        )
