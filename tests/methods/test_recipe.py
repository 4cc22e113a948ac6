"""The optimiser is the release's: its rates at its iterations, scaled by batch and length."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
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
    model = zoo.create("i3d_tiny")
    groups = fit(model, kinetics_root, accumulate_grad_batches=2).optimizers[0].param_groups
    assert all(g["initial_lr"] == pytest.approx(model.recipe.rate * 8 / model.recipe.batch) for g in groups)
    assert all(g["nesterov"] for g in groups)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(model.trunk.stem.norm.weight)] == 0
    assert decay[id(model.trunk.stem.conv.weight)] == decay[id(model.head.bias)] == model.recipe.weight_decay


def test_the_schedule_stretches_with_the_run():
    recipe = recipe_of("32x2")
    assert [recipe.factor(step / 8) for step in range(8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert torch.isclose(torch.tensor(recipe.factor(0.375)), torch.tensor(0.1))


def fit(model, root, **options):
    data = zoo.datamodule("sandbox_kinetics", root=root, spec=model.spec, batch_size=4, num_workers=0)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_steps=1, limit_val_batches=0, accelerator="cpu", **quiet, **options)
    trainer.fit(model, data)
    return trainer


@pytest.mark.parametrize("classes", [3, 400])
def test_classes_that_are_not_the_datas_are_refused(kinetics_root, classes):
    with pytest.raises(zoo.DataError, match=f"tells {classes} classes apart, sandbox_kinetics has 8.*num_classes 8"):
        fit(zoo.create("i3d_tiny", num_classes=classes), kinetics_root)


def test_a_checkpoint_of_another_shape_is_refused(kinetics_root, tmp_path):
    trainer = fit(zoo.create("i3d_tiny"), kinetics_root)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    other = zoo.create("i3d_tiny", num_classes=5)
    with pytest.raises(zoo.WeightsError, match=r"head.weight is \[8, 256\].*\[5, 256\]"):
        other.on_load_checkpoint(torch.load(tmp_path / "one.ckpt", weights_only=True))
    with pytest.raises(zoo.WeightsError, match="holds i3d_tiny, not nonlocal_i3d_tiny"):
        zoo.create("nonlocal_i3d_tiny").on_load_checkpoint(torch.load(tmp_path / "one.ckpt", weights_only=True))


def test_a_loaded_model_trains_in_training_mode(kinetics_root):
    """`zoo.load` hands out eval mode and Lightning keeps it; batch norm would stand still and the loss run away."""
    model = zoo.load("nonlocal_i3d_tiny")
    before = model.trunk.stem.norm.running_mean.clone()
    fit(model, kinetics_root)
    assert not torch.equal(model.trunk.stem.norm.running_mean, before)

    partly = zoo.load("nonlocal_i3d_tiny")
    partly.head.train()  # its user's choice: the trunk stays frozen
    fit(partly, kinetics_root)
    assert torch.equal(partly.trunk.stem.norm.running_mean, before)
