"""Precise batch norm: before every evaluation the statistics are measured anew, instead of trusting the moving average.

Wang et al.'s release does so before each evaluation and each saved model, with 200 batches a GPU: the mean is the
average of the batches' means, the variance the average of their (biased) variances and squared means, less that mean
squared.

    zoo fit ... --trainer.callbacks+=zoo.methods.precise_norm.PreciseBatchNorm
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from zoo.errors import ZooError


class PreciseBatchNorm(pl.Callback):
    """Measures the trunk's norms on training clips before validation, and so before checkpoints that follow it."""

    def __init__(self, batches: int = 200) -> None:
        """
        Args:
            batches: training batches in each process.
        """
        if batches < 1:
            raise ZooError(f"PreciseBatchNorm: batches must be at least 1, got {batches}.")
        self.batches = batches

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        # A loader of its own: the running one must not lose its place.
        loader = itertools.islice(trainer.datamodule.train_dataloader(), self.batches)
        clips = (module.normalize(batch["clips"].to(module.device)) for batch in loader)
        measure_norms(module.trunk, clips)


@torch.no_grad()
def measure_norms(trunk: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every trained batch norm in ``trunk`` to those of ``batches``, over all processes.

    Args:
        trunk: any network; norms that are frozen (in eval mode while the network trains) are left alone.
        batches: what the network is run on, ``[B, 3, T, H, W]`` each.
    """
    was_training = trunk.training
    trunk.train()
    norms = [m for m in trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64, device=norm.weight.device) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(values.double() if values.device.type != "mps" else values, 1, correction=0)
        sums[norm] += torch.stack([mean, variance + mean**2])

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    count = 0
    try:
        for batch in batches:
            trunk(batch)
            count += 1
    finally:
        for hook in hooks:
            hook.remove()
        trunk.train(was_training)
    if not count:
        return
    for norm, total in sums.items():
        average = total / count
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(average)
            average /= torch.distributed.get_world_size()
        mean, square = average
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(square - mean**2)
