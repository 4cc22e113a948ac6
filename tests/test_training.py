"""Training as a user does it: through the command line, killed and resumed, in one process and in two."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import zoo
from zoo.training import resolve, train

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = ["--model", "nonlocal_i3d_tiny", "--data", "sandbox_kinetics", "--data.num_workers=0"]
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--trainer.logger=pytorch_lightning.loggers.CSVLogger",
]


def arguments(command: str, root: Path, out: Path, *more: str) -> list[str]:
    own = [f"--data.root={root}", f"--trainer.logger.save_dir={out}", f"--trainer.default_root_dir={out}"]
    return [command, *MODEL, *QUIET, *own, *more]


def start(*what: str | Path) -> subprocess.Popen:
    """A process of its own, for what is killed or has a second one."""
    command = [sys.executable, "-m", "zoo.cli", *arguments(*what)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def logged(out: Path, column: str) -> dict[int, float]:
    """Step to value, over every run logged below ``out``; later runs win."""
    values = {}
    for path in sorted(out.rglob("metrics.csv"), key=os.path.getmtime):
        with path.open(newline="") as file:
            values |= {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}
    return values


@pytest.mark.slow
def test_a_killed_run_resumes_on_the_same_curve(kinetics_root, tmp_path):
    """Killed in mid-epoch, with weights, momentum, schedule, order, crops and dropout to be taken up again."""
    common = ["--data.batch_size=4", "--trainer.max_steps=14", "--trainer.limit_val_batches=0"]
    saving = [
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.every_n_train_steps=3",
        f"--trainer.callbacks.dirpath={tmp_path / 'kept'}",
        "--trainer.callbacks.save_top_k=-1",
    ]
    train(arguments("fit", kinetics_root, tmp_path / "whole", *common))
    whole = logged(tmp_path / "whole", "train_loss")
    assert sorted(whole) == list(range(14))

    killed = start("fit", kinetics_root, tmp_path / "parts", *common, *saving)
    deadline = time.monotonic() + 200
    while not (saved := sorted((tmp_path / "kept").glob("*step=3.ckpt"))) and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    train(arguments("fit", kinetics_root, tmp_path / "rest", *common, f"--ckpt_path={saved[0]}"))
    rest = logged(tmp_path / "rest", "train_loss")
    assert sorted(rest) == list(range(3, 14))
    assert rest == pytest.approx({step: whole[step] for step in rest}, rel=1e-5)


@pytest.mark.slow
def test_two_processes_score_as_one(kinetics_root, tmp_path):
    """9 validation videos, 2 clips each: an odd number of samples for two processes."""
    weights = tmp_path / "weights.ckpt"
    torch.manual_seed(0)
    torch.save({"state_dict": zoo.create("nonlocal_i3d_tiny").state_dict()}, weights)
    scores = {}
    for devices in (1, 2):
        out = tmp_path / str(devices)
        more = [f"--weights={weights}", f"--trainer.devices={devices}", "--data.batch_size=2"]
        for command, prefix in (("validate", "val_"), ("test", "")):
            if devices == 1:
                train(arguments(command, kinetics_root, out / command, *more))
            else:
                finish(start(command, kinetics_root, out / command, *more, "--trainer.strategy=ddp"))
            for name in ("top1", "top5", "videos", "clip_top1"):
                found = list(logged(out / command, prefix + name).values())
                scores.setdefault((command, name), []).append(found[-1])
    assert scores["validate", "videos"] == scores["test", "videos"] == [9.0, 9.0]
    assert all(one == two for one, two in scores.values()), scores


@pytest.mark.slow
def test_fine_tuning_replaces_the_head_and_loads_by_its_path_alone(kinetics_root, tmp_path):
    weights = tmp_path / "start.ckpt"
    torch.save({"state_dict": zoo.create("nonlocal_i3d_tiny", num_classes=5).state_dict()}, weights)
    more = [f"--weights={weights}", "--model.num_classes=8", "--trainer.max_steps=2", "--trainer.limit_val_batches=0"]
    train(arguments("fit", kinetics_root, tmp_path, *more))
    (checkpoint,) = tmp_path.rglob("epoch*.ckpt")
    model = zoo.load(str(checkpoint))
    assert model.name == "nonlocal_i3d_tiny"
    assert model.labels[0] == "following"
    assert not model.training
    (video, *_) = sorted((kinetics_root / "val").glob("*/*.mp4"))
    assert len(model.predict(video, top=3)) == 3


def test_names_become_class_paths():
    assert resolve(
        ["fit", "--model", "nonlocal_i3d", "--weights=imagenet", "--data", "kinetics", "--data.root", "/k"]
    ) == [
        "fit",
        "--model=zoo.models.nonlocal_i3d_r50",
        "--model.weights=imagenet",
        "--data=zoo.data.kinetics.Kinetics",
        "--data.root",
        "/k",
    ]
    assert resolve(["test", "--model=i3d_tiny"])[-1] == "--model.weights=default"
    with pytest.raises(zoo.UnknownNameError, match="i3d_tiny"):
        resolve(["fit", "--model", "i3d_tinny"])
    with pytest.raises(zoo.UnknownNameError, match="kinetics"):
        resolve(["fit", "--data", "kinetcs"])
