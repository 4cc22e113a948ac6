"""Goals from failure as a user meets them: trained, resumed, in one process and in two, asked by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import zoo
from zoo.cli import main
from zoo.data.sandbox.kinetics import encode
from zoo.data.sandbox.oops import render_oops
from zoo.pseudo_labels import pseudo_label
from zoo.training import train

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
FIT = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(scope="session")
def oops_root(tmp_path_factory) -> Path:
    """20 training videos, half of them annotated, and 5 validation videos."""
    return render_oops(tmp_path_factory.mktemp("oops") / "data", train=20, val=5)


@pytest.fixture(scope="session")
def trained(oops_root, tmp_path_factory) -> Path:
    """A checkpoint of three steps, by the command line."""
    out = tmp_path_factory.mktemp("fit")
    more = ["--data.num_workers=0", "--data.batch_size=2", "--trainer.max_steps=3", "--trainer.limit_val_batches=1"]
    root = [f"--data.root={oops_root}", f"--trainer.default_root_dir={out}"]
    train(["fit", "--model", "goal_trajectory_tiny", "--data", "sandbox_oops", *root, *FIT, *more])
    return next(out.rglob("last.ckpt"))


@pytest.fixture
def film(oops_root) -> Path:
    return sorted((oops_root / "oops_video" / "val").glob("*.mp4"))[0]


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.seen[trainer.global_step] = float(outputs["loss"])


def fit(root: Path, folder: Path, ckpt: Path | None = None) -> dict[int, float]:
    """Six steps, each third one kept; the loss of each."""
    pl.seed_everything(0, verbose=False)
    model = zoo.create("goal_trajectory_tiny")
    data = zoo.datamodule("sandbox_oops", root=root, spec=model.spec, batch_size=3, num_workers=0)
    losses = Losses()
    kept = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
    options = {**QUIET, "enable_checkpointing": True, "callbacks": [losses, kept]}
    pl.Trainer(accelerator="cpu", max_steps=6, limit_val_batches=0, **options).fit(model, data, ckpt_path=ckpt)
    return losses.seen


@pytest.mark.slow
def test_a_resumed_run_draws_and_learns_the_same(oops_root, tmp_path):
    """Order, trajectories, windows, perturbed sequences, dropout and class weights are taken up in mid-epoch."""
    whole = fit(oops_root, tmp_path / "whole")
    rest = fit(oops_root, tmp_path / "rest", tmp_path / "whole" / "step=3.ckpt")
    assert sorted(rest) == [4, 5, 6]
    assert rest == pytest.approx({step: whole[step] for step in rest}, rel=1e-4)


@pytest.mark.slow
def test_two_processes_score_as_one(oops_root, trained, tmp_path):
    """Five videos: an odd number for two processes."""
    score(trained, oops_root, 1, tmp_path / "1.json")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, trained, oops_root, "2", tmp_path / "2.json"]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    one, two = (json.loads((tmp_path / f"{devices}.json").read_text()) for devices in (1, 2))
    assert one == two
    assert one["videos"] == 5


@pytest.mark.slow
def test_a_checkpoint_knows_itself_and_is_read_by_a_decoder(trained, film, oops_root):
    model = zoo.load(str(trained))
    assert model.labels == ("intentional", "transitional", "unintentional")
    found = model.predict(film)
    assert sum(vars(found.moments[0])[k] for k in model.labels) == pytest.approx(1, abs=1e-5)
    assert found.moments[0].start < found.failure < found.moments[-1].end
    data = zoo.datamodule("sandbox_oops", root=oops_root, spec=model.spec, goals=True)
    decoder = zoo.load("goal_decoder_tiny", weights=trained, num_words=len(data.vocabulary))
    assert torch.equal(decoder.trunk.head.weight, model.head.weight)
    with pytest.raises(zoo.WeightsError, match="holds weights of goal_trajectory_tiny, not of r3d18"):
        zoo.load("r3d18", weights=trained)


@pytest.mark.slow
def test_a_decoder_trains_and_is_tested_with_its_corrections(trained, oops_root):
    spec = zoo.create("goal_trajectory_tiny").spec
    data = zoo.datamodule("sandbox_oops", root=oops_root, spec=spec, batch_size=2, num_workers=0, goals=True)
    model = zoo.load("goal_decoder_tiny", weights=trained, num_words=len(data.vocabulary), autocorrect="adversarial")
    before = model.trunk.head.weight.clone(), model.decoder.linear.weight.clone()
    trainer = pl.Trainer(accelerator="cpu", max_steps=2, limit_val_batches=1, **QUIET)
    trainer.fit(model, data)
    assert torch.equal(model.trunk.head.weight, before[0])
    assert not torch.equal(model.decoder.linear.weight, before[1])
    assert model.labels == data.vocabulary
    (found,) = trainer.test(model, data, verbose=False)
    assert found["videos"] == 5
    assert {"subject_top1", "all_top5", "intentional_d_acc", "unintentional_d_rank_millions"} <= set(found)


@pytest.mark.slow
def test_predict_by_command(trained, film, tmp_path, capsys):
    assert main(["predict", str(trained), str(film), "--json", "--plot", str(tmp_path / "t.png")]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["moments"][0]["start"] <= answer["failure"]
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["predict", str(trained), str(film), "--stride", "0.25", "--json"]) == 0
    (denser,) = json.loads(capsys.readouterr().out)
    assert len(denser["moments"]) > 3 * len(answer["moments"])
    assert main(["predict", str(trained), str(film), "--stride", "0.3"]) == 1
    assert "give a multiple of that" in capsys.readouterr().err
    assert main(["predict", str(trained), str(film), str(film), "--plot", "x.png"]) == 1
    assert "--plot draws one video" in capsys.readouterr().err
    assert main(["predict", "nonlocal_i3d_tiny", str(film), "--stride", "1"]) == 1
    assert "nonlocal_i3d_tiny does not" in capsys.readouterr().err


@pytest.mark.slow
def test_a_video_shorter_than_a_clip_is_named(trained, tmp_path, capsys):
    (tmp_path / "short.mp4").write_bytes(encode(np.zeros((5, 48, 64, 3), np.uint8), 8))
    assert main(["predict", str(trained), str(tmp_path / "short.mp4")]) == 1
    assert "short.mp4 is shorter than one clip" in capsys.readouterr().err


@pytest.mark.slow
def test_index_retrieve_and_neurons_by_command(trained, film, oops_root, tmp_path, capsys):
    index = str(tmp_path / "index")
    assert main(["index", str(trained), f"sandbox_oops={oops_root}", "--out", index]) == 0
    assert "of 5 videos" in capsys.readouterr().out
    assert main(["retrieve", str(trained), str(film), "--index", index, "-k", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    hits = [hit for row in rows for hit in (*row["before"], *row["after"])]
    assert len(hits) == 4 * len(rows)
    assert film.stem not in {hit["name"] for hit in hits}  # nearest in other videos
    assert main(["retrieve", "goal_trajectory_tiny", str(film), "--index", index, "--weights", "none"]) == 1
    assert "other weights" in capsys.readouterr().err
    picture = tmp_path / "neurons.png"
    command = ["visualize", "neurons", str(trained), "--index", index, "--data", f"sandbox_oops={oops_root}"]
    assert main([*command, "--out", str(picture)]) == 0
    assert "| unit | word |" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_words_by_command(oops_root, tmp_path, capsys):
    out = tmp_path / "words.safetensors"
    assert main(["words", str(oops_root / "svos/vocab.json"), "--encoder", "random", "--out", str(out)]) == 0
    model = zoo.create("goal_decoder_tiny", words=str(out))
    assert model.labels == tuple(json.loads((oops_root / "svos/vocab.json").read_text()))


@pytest.mark.slow
def test_pseudo_labels_go_on_where_they_stopped_and_are_trained_on(trained, oops_root, tmp_path):
    model = zoo.load(str(trained))
    data = zoo.datamodule("sandbox_oops", root=oops_root, spec=model.spec, num_workers=0)
    videos, out = data.unlabelled(), tmp_path / "pseudo.json"
    assert len(videos) > 4

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pseudo_label(model, videos, out, stride=1.0, progress=stop)
    assert not out.exists()
    (kept,) = tmp_path.glob(".pseudo*")
    with kept.open("a") as file:
        file.write('["a line that was cut o')
    with pytest.raises(zoo.DataError, match="other weights or another stride"):
        pseudo_label(model, videos, out, stride=0.5)
    with pytest.raises(KeyboardInterrupt):  # killed again: what was half a line does not spoil the next
        pseudo_label(model, videos, out, stride=1.0, progress=lambda done, total: stop(done - 2, total))
    seen = []
    with torch.no_grad():
        model.embed, embed = (lambda *a: seen.append(a) or embed(*a)), model.embed
    found = pseudo_label(model, videos, out, stride=1.0)
    assert len(seen) == len(videos) - 5
    assert found["labelled"] == len(videos)
    assert not kept.exists()
    with pytest.raises(zoo.ZooError, match="is there already"):
        pseudo_label(model, videos, out, stride=1.0)
    more = zoo.datamodule("sandbox_oops", root=oops_root, spec=model.spec, num_workers=0, pseudo=out)
    assert len(more.records("train")) > len(data.records("train"))


@pytest.mark.slow
def test_five_minutes_take_no_more_memory_than_one(tmp_path):
    """The peak of a process that follows a film and then a longer one; its pixels would be hundreds of megabytes."""
    code = (
        "import re, sys, zoo, torch\n"
        "torch.set_num_threads(1); torch.manual_seed(0)\n"
        "model = zoo.create('goal_trajectory_tiny')\n"
        "for film in sys.argv[1:]:\n"
        "    found = model.predict(film)\n"
        "    peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "    print(len(found.moments), peak)\n"
    )
    rng = np.random.default_rng(0)
    minute = rng.integers(0, 255, (480, 96, 128, 3), dtype=np.uint8)
    paths = [tmp_path / f"{minutes}.mp4" for minutes in (1, 5)]
    for path in paths:
        path.write_bytes(encode(np.concatenate([minute] * int(path.stem)), 8))
    done = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True, timeout=300)
    (short, before), (long, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (short, long) == (60, 300)
    assert after < before + 40 * 1024  # kB; resident memory wanders by some


def score(weights: str, root: str, devices: int, out: str) -> None:
    """A test in so many processes, by a process of its own: this file, run as a script."""
    model = zoo.load(weights)
    data = zoo.datamodule("sandbox_oops", root=root, spec=model.spec, batch_size=2, num_workers=0)
    strategy = "ddp_spawn" if devices > 1 else "auto"
    trainer = pl.Trainer(accelerator="cpu", devices=devices, strategy=strategy, **QUIET)
    (found,) = trainer.test(model, data, verbose=False)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    score(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
