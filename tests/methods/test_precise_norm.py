"""Measured statistics are those of the batches, weights stay, and a run with the callback keeps its place."""

from __future__ import annotations

from itertools import islice

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import zoo
from zoo.methods.precise_norm import PreciseBatchNorm, measure_norms
from zoo.networks.norm import FrozenBatchNorm


def test_statistics_are_the_pooled_ones_of_equal_batches():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.BatchNorm3d(4), FrozenBatchNorm(4)).eval()
    batches = [torch.randn(3, 4, 2, 5, 5) * 2 + 7 for _ in range(4)]
    measure_norms(trunk, batches)
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(trunk[0].running_mean, values.mean(1))
    torch.testing.assert_close(trunk[0].running_var, values.var(1, correction=0))
    assert torch.equal(trunk[1].running_mean, torch.zeros(4))
    assert not trunk.training


class Watch(pl.Callback):
    """What the run trains on, and what its first norm holds when it is evaluated."""

    def __init__(self):
        self.seen, self.means = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen += batch["index"].tolist()

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            clips = [module.normalize(b["clips"]) for b in islice(trainer.datamodule.train_dataloader(), 2)]
            with torch.no_grad():
                values = module.trunk.stem.conv(torch.cat(clips)).transpose(0, 1).flatten(1)
            self.means.append((module.trunk.stem.norm.running_mean.clone(), values.mean(1)))


def test_a_run_evaluates_with_measured_norms_and_keeps_its_place(kinetics_root):
    pl.seed_everything(0)
    model, watch = zoo.create("i3d_tiny"), Watch()
    data = zoo.datamodule("sandbox_kinetics", root=kinetics_root, spec=model.spec, batch_size=8, num_workers=0)
    trainer = pl.Trainer(
        max_epochs=1,
        val_check_interval=2,
        limit_val_batches=1,
        accelerator="cpu",
        callbacks=[PreciseBatchNorm(2), watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    assert sorted(watch.seen) == list(range(32))
    assert len(watch.means) == 2
    for held, measured in watch.means:
        torch.testing.assert_close(held, measured, atol=1e-4, rtol=1e-3)


def test_refuses_no_batches():
    with pytest.raises(zoo.ZooError, match="at least 1"):
        PreciseBatchNorm(0)
