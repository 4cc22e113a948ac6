"""What the sandbox's TimeCycle adds to the release's: the patch's own frame, a falling rate, weights that learned."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

import zoo
from zoo.data.sandbox.correspondence import render_davis, render_vlog
from zoo.methods.time_cycle import total
from zoo.networks.moving_patch import Draws
from zoo.networks.tracker import affinity, alignment, transform


def losses_of(model):
    torch.manual_seed(0)
    clips = torch.randn(2, 3, model.spec.frames + 2, model.spec.crop, model.spec.crop)
    past, target, patch, theta = model.samples(clips, Draws.random(2))
    cycles = model.cycles(past, target, patch)
    return cycles, cycles.losses(theta), (target, patch, theta)


def test_the_own_frames_loss_is_the_patch_located_where_it_is_from():
    torch.manual_seed(0)
    model = zoo.create("time_cycle_tiny", own_frame=0.5).eval()
    torch.nn.init.normal_(model.localizer.linear.weight)  # a fresh one says the centre, whatever it is asked
    with torch.no_grad():
        _, losses, (target, patch, theta) = losses_of(model)
        keys, query = (torch.nn.functional.normalize(model.encoder(x), dim=1) for x in (target, patch))
        found = transform(*model.localizer(affinity(query, keys)).unbind(1), scale=1 / 3)
    torch.testing.assert_close(losses["L_own"], alignment(found, theta))
    assert losses["L_own"] > 0.05
    known = {name: value for name, value in losses.items() if name != "L_own"}
    torch.testing.assert_close(total(losses, 0.5), total(known) + 0.5 * losses["L_own"])


def test_without_its_weight_there_is_no_such_loss():
    model = zoo.create("time_cycle_tiny", own_frame=0.0).eval()
    with torch.no_grad():
        cycles, losses, _ = losses_of(model)
    assert cycles.own is None
    assert set(losses) == {"L_sim", "L_skip", "L_long"}


def test_the_rate_falls_to_nothing_over_the_run():
    model = zoo.create("time_cycle_tiny")
    rates = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    clips = torch.randint(0, 256, (2, 3, 6, 72, 72), dtype=torch.uint8)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", max_steps=4, callbacks=[Rates()], **off)
    trainer.fit(model, torch.utils.data.DataLoader([{"clips": clip} for clip in clips], batch_size=1))
    rate = model.recipe.rate
    assert rates[0] == rate
    assert rates[2] == pytest.approx(rate / 2)
    assert rates[3] < 0.2 * rate


@pytest.mark.slow
def test_bundled_weights_carry_masks_better_than_fresh_ones_and_than_staying(tmp_path):
    root = render_davis(tmp_path / "davis", seed=11, val=3)  # scenes of another seed than the table's
    scores = {}
    for name in ("label_propagation_identity", "time_cycle_tiny", "time_cycle_tiny.sandbox"):
        torch.manual_seed(0)
        model = zoo.load(name) if name.endswith(".sandbox") else zoo.create(name)
        data = zoo.datamodule("sandbox_davis", root=root, spec=model.spec, num_workers=0)
        off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        (found,) = pl.Trainer(accelerator="cpu", **off).test(model.eval(), data, verbose=False)
        scores[name] = found["jf_mean"]
    assert scores["time_cycle_tiny.sandbox"] > 1.3 * max(
        scores["time_cycle_tiny"], scores["label_propagation_identity"]
    )


@pytest.mark.slow
def test_a_run_that_resumes_in_mid_epoch_sees_the_clips_that_were_left(tmp_path):
    """With a number of epochs, asking for the run's length sets up loaders: not before the resume."""
    root = render_vlog(tmp_path / "vlog", train=6)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    class Diary(pl.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, module, outputs, batch, number):
            self.seen.append((number, batch["index"].tolist()))
            if number == 0 and not (tmp_path / "kept.ckpt").exists():
                trainer.save_checkpoint(tmp_path / "kept.ckpt")

    diaries = []
    for checkpoint in (None, tmp_path / "kept.ckpt"):
        model, diary = zoo.create("time_cycle_tiny", width=8, projection=8), Diary()
        data = zoo.datamodule("vlog", root=root, spec=model.spec, batch_size=2, num_workers=0)
        pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[diary], **off).fit(model, data, ckpt_path=checkpoint)
        diaries.append(diary.seen)
    whole, rest = diaries
    assert len(whole) == 3
    assert rest == whole[1:]
