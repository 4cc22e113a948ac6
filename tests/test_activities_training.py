"""Temporal fields as a user trains them: by command, resumed, in one process and in two, on data that goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import zoo
from tests.data.activities import charades
from zoo.data.sandbox.activities import CLASSES, OBJECTS, VERBS
from zoo.data.sandbox.charades import MAPPING, render_charades
from zoo.data.sandbox.datamodules import SandboxCharades
from zoo.data.sandbox.kinetics import encode
from zoo.methods.temporal_field_words import spoken_arguments
from zoo.training import train

TRAIN, TEST = 8, 4
QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
QUIET |= {"accelerator": "cpu"}
COMMAND = [
    *("--model", "temporal_fields_tiny", "--data", "sandbox_charades", "--data.num_workers=0"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def household_root(tmp_path_factory) -> Path:
    return render_charades(tmp_path_factory.mktemp("household") / "data", train=TRAIN, test=TEST)


def copied(root: Path, place: Path) -> Path:
    """The same data set elsewhere, to be changed."""
    shutil.copytree(root, place)
    return place


@pytest.fixture(scope="session")
def renumbered_root(household_root, tmp_path_factory) -> Path:
    """The same videos under lists that number the objects from the other end."""
    root = copied(household_root, tmp_path_factory.mktemp("renumbered") / "data")
    last = len(OBJECTS) - 1
    lines = {
        "objectclasses": [f"o{n:03d} {name}" for n, name in enumerate(reversed(OBJECTS))],
        "mapping": [f"c{n:03d} o{last - thing:03d} v{verb:03d}" for n, (thing, verb) in enumerate(MAPPING)],
    }
    for name, rows in lines.items():
        (root / "Charades" / f"Charades_v1_{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    return root


@pytest.fixture(scope="session")
def trained(renumbered_root, tmp_path_factory) -> Path:
    """A checkpoint of three steps, by the command line; it has seen only what the data's own lists say."""
    out = tmp_path_factory.mktemp("fit")
    more = ["--data.batch_size=8", "--trainer.max_steps=3", "--trainer.val_check_interval=3"]
    run = train(["fit", *COMMAND, f"--data.root={renumbered_root}", f"--trainer.default_root_dir={out}", *more])
    assert run.trainer.callback_metrics["val_videos"] == TEST
    assert run.trainer.callback_metrics["train_loss"].isfinite()
    return next(out.rglob("last.ckpt"))


@pytest.fixture
def film(household_root) -> Path:
    return sorted((household_root / "Charades_v1_480").glob("*.mp4"))[0]


def fresh(**options) -> pl.LightningModule:
    """A model whose epochs are of a tenth of the samples."""
    torch.manual_seed(0)
    model = zoo.create("temporal_fields_tiny", **options)
    model.spec = model.spec.replace(moments=replace(model.spec.moments, share=0.1))
    return model


def household(root: Path, model: pl.LightningModule, batch_size: int = 4) -> pl.LightningDataModule:
    return zoo.datamodule("sandbox_charades", root=root, spec=model.spec, batch_size=batch_size, num_workers=0)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.seen[trainer.global_step] = float(outputs["loss"])


def test_a_field_speaks_of_what_it_was_trained_on(trained, film):
    model = zoo.load(str(trained))
    assert model.labels == tuple(CLASSES)
    assert (model.vocabulary.objects, model.vocabulary.verbs) == (OBJECTS[::-1], VERBS)
    found = model.predict(film, top=3)
    assert {p.label for p in found} <= set(CLASSES)
    moments = model.predict(film, top=len(VERBS), per_frame=True)
    assert len(moments) == model.spec.moments.points
    first = moments[0]
    assert {p.label for p in first.verbs} == set(VERBS)
    for values in ([p.score for p in first.verbs], first.progress.values(), first.intent):
        assert sum(values) == pytest.approx(1, abs=1e-4)


def test_data_of_other_classes_are_refused(trained, tmp_path):
    model, data = zoo.load(str(trained)), charades(tmp_path / "data", images=True)
    trainer = pl.Trainer(max_steps=1, **QUIET)
    for use in (trainer.fit, trainer.test):
        with pytest.raises(zoo.DataError, match="other objects and verbs than those of charades"):
            use(model, zoo.datamodule("charades", root=data, spec=model.spec, num_workers=0))
    started = fresh()
    with pytest.raises(zoo.WeightsError, match="trained on other classes"):
        trainer.fit(started, zoo.datamodule("charades", root=data, spec=model.spec, num_workers=0), ckpt_path=trained)


def test_other_lists_of_the_same_classes_change_nothing(trained, household_root, renumbered_root):
    """A class is done with what it was done with in training, whatever number that has in the data's lists."""
    found = []
    for root in (renumbered_root, household_root):
        for model, ckpt in ((zoo.load(str(trained)), None), (fresh(), trained)):
            trainer = pl.Trainer(limit_test_batches=2, **QUIET)
            found += trainer.test(model, household(root, model, 1), ckpt_path=ckpt, verbose=False)
            assert model.vocabulary.objects == OBJECTS[::-1]
    assert found == [pytest.approx(found[0], nan_ok=True)] * 4


def test_words_that_spawned_processes_would_lose_are_refused_at_once(renumbered_root):
    model = fresh()
    trainer = pl.Trainer(devices=2, strategy="ddp_spawn", **QUIET)
    data = household(renumbered_root, model)
    trainer.strategy.connect(model)
    trainer.datamodule = data
    model.trainer = trainer
    with pytest.raises(zoo.DataError, match="Train with strategy 'ddp'"):
        model.setup("fit")
    model.setup("test")
    assert model.vocabulary == data.vocabulary


@pytest.mark.slow
def test_a_test_by_command_equals_one_in_python(trained, renumbered_root):
    model = zoo.load(str(trained))
    (expected,) = pl.Trainer(**QUIET).test(model, household(renumbered_root, model, 1), verbose=False)
    assert expected["videos"] == TEST
    for given in (f"--ckpt_path={trained}", f"--weights={trained}"):
        run = train(["test", *COMMAND, f"--data.root={renumbered_root}", "--data.batch_size=3", given])
        found = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
        assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)


def fit(root: Path, folder: Path, ckpt: Path | None = None) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """Eight steps, each fourth one kept, of epochs of six; the loss of each, and the messages in the end."""
    pl.seed_everything(0, verbose=False)
    model, losses = fresh(hidden=8), Losses()
    kept = ModelCheckpoint(folder, "{step}", every_n_train_steps=4, save_top_k=-1)
    options = {**QUIET, "enable_checkpointing": True, "callbacks": [losses, kept]}
    trainer = pl.Trainer(max_steps=8, limit_val_batches=0, **options)
    trainer.fit(model, household(root, model, 8), ckpt_path=ckpt)
    assert trainer.num_training_batches == 6
    return losses.seen, model.server.state_dict()


@pytest.mark.slow
def test_a_resumed_run_hears_and_learns_the_same(household_root, tmp_path):
    """Order, crops, dropout and the messages are taken up in mid-epoch, and go on into the next."""
    whole, said = fit(household_root, tmp_path / "whole")
    rest, heard = fit(household_root, tmp_path / "rest", tmp_path / "whole" / "step=4.ckpt")
    assert sorted(rest) == [5, 6, 7, 8]
    assert rest == pytest.approx({step: whole[step] for step in rest}, rel=1e-4)
    assert said.keys() == heard.keys()
    for name, value in said.items():
        torch.testing.assert_close(heard[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_learn_as_one(household_root, tmp_path):
    """Half the batch in each: the same messages in either, the same weights, and the same scores in a test."""
    found = {devices: tmp_path / str(devices) for devices in (1, 2)}
    learn(household_root, 1, found[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, household_root, "2", found[2]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said, weights, scores = (torch.load(found[1] / f"{name}.pt") for name in ("server0", "weights", "scores"))
    assert said["sent"] == 8 * 8
    for rank in range(2):
        heard = torch.load(found[2] / f"server{rank}.pt")
        for name, value in said.items():  # video, time and order of each to the letter, and what it says
            torch.testing.assert_close(heard[name], value, rtol=1e-4, atol=1e-5)
    learnt = torch.load(found[2] / "weights.pt")
    for name, value in weights.items():
        torch.testing.assert_close(learnt[name], value, rtol=1e-4, atol=1e-5)
    assert torch.load(found[2] / "scores.pt") == pytest.approx(scores, rel=1e-3, nan_ok=True)


def test_synchronous_training_learns_from_whole_videos(household_root):
    model, losses = fresh(together=4), Losses()
    before = model.head.mu.clone()
    trainer = pl.Trainer(max_steps=3, limit_val_batches=0, callbacks=[losses], **QUIET)
    trainer.fit(model, household(household_root, model, 2))
    assert len(losses.seen) == 3
    assert len(model.server) == 0
    assert not torch.equal(model.head.mu, before)


@pytest.mark.parametrize("together", [1, 4])
def test_a_recipe_counts_frames(together, household_root, monkeypatch):
    """Training ends when as many were shown as in the paper, however many a sample is of."""
    monkeypatch.setattr(pl.Trainer, "fit", lambda self, model, **_: None)
    more = [f"--data.root={household_root}", f"--model.together={together}", "--data.batch_size=16"]
    run = train(["fit", *COMMAND, *more, "--trainer.accumulate_grad_batches=2"])
    recipe = run.model.recipe
    assert run.trainer.max_steps == recipe.iterations * recipe.batch // (32 * together)


@pytest.mark.slow
def test_the_ports_model_trains_on_every_label(household_root):
    """In double precision, which its messages are not kept in."""
    model = zoo.create("async_tf", backbone="resnet18", num_classes=len(CLASSES), memory=3)
    moments = replace(model.spec.moments, points=3)
    model.spec = model.spec.replace(crop=64, short_side=(64, 64), test_crop=64, test_short_side=64, moments=moments)
    losses = Losses()
    trainer = pl.Trainer(max_steps=2, val_check_interval=2, precision="64-true", callbacks=[losses], **QUIET)
    trainer.fit(model, household(household_root, model))
    assert trainer.callback_metrics["val_videos"] == TEST
    assert all(np.isfinite(list(losses.seen.values())))
    assert model.seen.sum(0).tolist() == [8] * len(CLASSES)
    assert 0 < len(model.server) <= 8


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_a_field_trains_in_other_precisions(precision, household_root):
    """Potentials, messages and inference stay in 32 bits at least."""
    model, losses = fresh(hidden=4, points=3), Losses()
    trainer = pl.Trainer(max_steps=2, val_check_interval=2, precision=precision, callbacks=[losses], **QUIET)
    trainer.fit(model, household(household_root, model))
    assert trainer.callback_metrics["val_videos"] == TEST
    wide = torch.float64 if precision == "64-true" else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        belief = model.infer(model(torch.zeros(3, 3, 64, 64, dtype=model.dtype)), torch.tensor([1, 20, 40]))
    assert belief.q.dtype == belief.intent.dtype == wide
    assert all(np.isfinite(list(losses.seen.values())))


@pytest.mark.slow
def test_videos_that_cannot_be_decoded_are_left_out(household_root, tmp_path):
    """In training another is drawn; a batch of a test that has none is passed over."""
    root, model = copied(household_root, tmp_path / "data"), fresh(points=3)
    data = household(root, model, 1)
    for split in ("train", "val"):
        data.records(split)[0].path.write_bytes(b"no film")
    trainer = pl.Trainer(max_steps=9, val_check_interval=9, **QUIET)
    trainer.fit(model, data)
    assert trainer.callback_metrics["val_videos"] == TEST - 1
    assert "does not open" in data.unreadable[0]
    assert 0 not in {int(video) for video in model.server.state_dict()["video"]}


def test_a_film_of_one_picture(trained, tmp_path):
    (tmp_path / "one.mp4").write_bytes(encode(np.zeros((1, 64, 64, 3), np.uint8), 24))
    model = zoo.load(str(trained))
    story = model.watch(tmp_path / "one.mp4")
    assert story.times.tolist() == [0] * model.spec.moments.points
    assert story.moments.isfinite().all()


def test_weights_that_have_run_away_are_named(household_root, film):
    model = fresh(points=3).eval()
    model.head.op.weight.data[0, 0] = torch.nan
    trainer = pl.Trainer(max_steps=1, limit_val_batches=0, **QUIET)
    with pytest.raises(zoo.ZooError, match="temporal_fields_tiny scores NaN"):
        model.predict(film)
    with pytest.raises(zoo.ZooError, match="is NaN; NaN has no rank"):
        trainer.test(model, household(household_root, model), verbose=False)
    with pytest.raises(zoo.ZooError, match=r"training video \d says is not a number.*at a lower rate"):
        trainer.fit(model, household(household_root, model))
    assert len(model.server) == 0


class Server(pl.Callback):
    """Keeps the messages that each process has in the end, and the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer, module) -> None:
        torch.save(module.server.state_dict(), self.folder / f"server{trainer.global_rank}.pt")
        if trainer.is_global_zero:
            torch.save(module.state_dict(), self.folder / "weights.pt")


def learn(root: Path, devices: int, out: Path) -> None:
    """Eight steps of eight frames in so many processes, and a test; of two in a process of their own, see below."""
    out.mkdir()
    model = fresh(**spoken_arguments(SandboxCharades.packaged)).train()
    model.backbone.eval()  # its norms would see their own process's frames alone, and each draws its own dropout
    options = {**QUIET, "devices": devices, "strategy": "ddp_fork" if devices > 1 else "auto"}
    data = household(root, model, 8 // devices)
    pl.Trainer(max_steps=8, limit_val_batches=0, callbacks=[Server(out)], **options).fit(model, data)
    (found,) = pl.Trainer(**options).test(model, household(root, model, 2), verbose=False)
    assert found["videos"] == TEST
    torch.save(found, out / "scores.pt")


if __name__ == "__main__":
    learn(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
