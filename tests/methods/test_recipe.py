"""The optimiser is the release's: its rates at its iterations, scaled by batch and length."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.goldens import load
from zoo.methods.nonlocal_net import recipe_of


@pytest.mark.parametrize(("clip", "name"), [("32x2", "lr/400k_8gpu"), ("128x1", "lr/400k_affine")])
def test_rates_of_the_release(clip, name):
    golden = load("nonlocal_protocol").outputs
    recipe = recipe_of(clip)
    rates = [recipe.rate * recipe.factor(int(i) / recipe.iterations) for i in golden["lr/iters"]]
    assert rates == pytest.approx(golden[name].tolist(), rel=1e-6)


def test_warmup_rises_and_cosine_falls_to_nothing():
    recipe = recipe_of("8x8", "pyslowfast")
    factors = [recipe.factor(p) for p in (0, 0.1, recipe.warmup / recipe.iterations, 0.6, 1)]
    assert factors[0] < factors[1] < factors[2]
    assert factors[2] == pytest.approx(1)
    assert factors[2] > factors[3] > factors[4] == pytest.approx(0)


def test_steps_show_as_many_clips():
    assert recipe_of("32x2").steps(64) == 400_000
    assert recipe_of("32x2").steps(8) == 3_200_000


def test_optimizer_scales_with_the_global_batch(kinetics_root):
    import pytorch_lightning as pl

    model = zoo.create("i3d_tiny")
    data = zoo.datamodule("sandbox_kinetics", root=kinetics_root, spec=model.spec, batch_size=4, num_workers=0)
    trainer = pl.Trainer(
        max_steps=1, accumulate_grad_batches=2, logger=False, enable_checkpointing=False, accelerator="cpu",
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    groups = trainer.optimizers[0].param_groups
    assert all(g["initial_lr"] == pytest.approx(model.recipe.rate * 8 / model.recipe.batch) for g in groups)
    assert all(g["nesterov"] for g in groups)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model.trunk.stem.norm.weight)] == 0
    assert decay[id(model.trunk.stem.conv.weight)] == decay[id(model.head.bias)] == model.recipe.weight_decay


def test_the_schedule_stretches_with_the_run():
    recipe = recipe_of("32x2")
    assert [recipe.factor(step / 8) for step in range(8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert torch.isclose(torch.tensor(recipe.factor(0.375)), torch.tensor(0.1))
