"""The script that trains the bundled checkpoints: it trains on the datamodule's clips and writes files that hold."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import zoo
from zoo.data.kinetics import SandboxKinetics
from zoo.data.loader import TrainClips
from zoo.data.sandbox.correspondence import CLIP_FRAMES, render_vlog
from zoo.data.sandbox.oops import render_oops
from zoo.data.sandbox.scenes import HEIGHT, WIDTH
from zoo.errors import WeightsError
from zoo.hub.manifest import read_manifest

REPOSITORY = Path(__file__).resolve().parents[1]


def _script(name):
    """A script of the folder, which finds its neighbours as it does when it is run."""
    folder = REPOSITORY / "benchmarks/sandbox"
    spec = importlib.util.spec_from_file_location(f"train_sandbox_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.fixture(scope="module")
def script():
    return _script("nonlocal")


def test_clips_from_memory_are_the_datamodules(script, kinetics_root, tmp_path):
    data = SandboxKinetics(kinetics_root, zoo.create("i3d_tiny").spec)
    script.remember(data, tmp_path / "videos.npy")
    from_files = TrainClips(data.records("train"), data.spec, seed=5)
    from_memory = _script("memory").RememberedClips(from_files.records, data.spec, 5, np.load(tmp_path / "videos.npy"))
    for key in ((0, 0), (0, 1), (7, 0), (31, 3)):
        expected, got = from_files[key], from_memory[key]
        assert torch.equal(got.pop("clips"), expected.pop("clips"))
        assert got == expected


def test_past_and_target_from_memory_are_the_datamodules(tmp_path):
    """Frames, window and all: the decoded videos stand for the files."""
    script = _script("time_cycle")
    spec = zoo.create("time_cycle_tiny").spec
    root = render_vlog(tmp_path / "vlog", 2, 2)
    data = script.RememberedVlog(root, spec, batch_size=2, num_workers=0, seed=5)
    script.remember(data, tmp_path / "videos.npy")
    data.videos = np.load(tmp_path / "videos.npy")
    assert data.videos.shape == (2, CLIP_FRAMES, HEIGHT, WIDTH, 3)
    from_files = TrainClips(data.records("train"), spec, seed=5)
    from_memory = _script("memory").RememberedClips(from_files.records, spec, 5, data.videos)
    for key in ((0, 0), (0, 1), (1, 7)):
        expected, got = from_files[key], from_memory[key]
        assert torch.equal(got.pop("clips"), expected.pop("clips"))
        assert got == expected
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (2, 3, spec.frames + 2, spec.crop, spec.crop)


@pytest.mark.slow
def test_trajectories_from_memory_are_the_datamodules_rounded(tmp_path):
    memory = _script("memory")
    spec = zoo.create("goal_trajectory_tiny").spec
    root = render_oops(tmp_path / "oops", train=20, val=1)
    options = {"spec": spec, "batch_size": 2, "num_workers": 0, "seed": 5}
    from_files = zoo.datamodule("sandbox_oops", root=root, **options)
    memory.remember_oops(from_files, tmp_path)
    from_memory = memory.RememberedOops(root, memory=tmp_path, **options)
    for _, expected, got in zip(range(3), from_files.train_dataloader(), from_memory.train_dataloader(), strict=False):
        assert (got["clips"] - expected["clips"]).abs().max() <= 0.51
        assert np.array_equal(got["times"], expected["times"])
        for key in ("label", "lengths", "index"):
            assert torch.equal(got[key], expected[key])


def test_tables_replace_those_of_the_same_id_alone(script, tmp_path):
    path = tmp_path / "sandbox.yaml"
    path.write_text((REPOSITORY / "benchmarks/tables/sandbox.yaml").read_text())
    before = {table["id"]: table for table in yaml.safe_load(path.read_text())["tables"]}
    for title in ("first", "second"):
        script.rewrite_tables(path, [{"id": "a_table", "title": title}])
    after = {table["id"]: table for table in yaml.safe_load(path.read_text())["tables"]}
    assert after.pop("a_table")["title"] == "second"
    assert after == before


def test_entries_replace_earlier_ones_and_a_wrong_one_is_not_kept(script, tmp_path):
    path = tmp_path / "checkpoints.yaml"
    path.write_text((REPOSITORY / "checkpoints.yaml").read_text())
    published = set(read_manifest(path)) - {"i3d_tiny.sandbox", "nonlocal_i3d_tiny.sandbox"}
    entry = {
        "source": {"bundled": "weights/w.safetensors"},
        "sha256": "0" * 64,
        "license": "MIT",
        "code_license": "MIT",
        "trained_on": ["sandbox_kinetics"],
        "num_classes": 8,
        "default": True,
    }
    for digits in ("0", "1"):
        script.rewrite_manifest(path, script.SCRIPT, {"i3d_tiny.sandbox": {**entry, "sha256": digits * 64}})
    assert set(read_manifest(path)) == {*published, "i3d_tiny.sandbox"}
    assert read_manifest(path)["i3d_tiny.sandbox"].sha256 == "1" * 64
    before = path.read_text()
    with pytest.raises(WeightsError, match="sha256"):
        script.rewrite_manifest(path, script.SCRIPT, {"i3d_tiny.sandbox": {**entry, "sha256": "short"}})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
