"""The command line, as typed: what it prints, what it refuses, and its exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.hub.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained weights of the tiny model: enough for what a command line does."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_weights(path, zoo.create("nonlocal_i3d_tiny").state_dict())
    return str(path)


@pytest.fixture
def videos(kinetics_root, tmp_path):
    """Two videos and a text file that claims to be one."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number, path in enumerate(sorted((kinetics_root / "val").glob("*/*.mp4"))[:2]):
        shutil.copy(path, folder / f"{number}.mp4")
    (folder / "notes.mp4").write_text("not a film")
    return folder


def test_predict_prints_a_table_for_every_file(weights, videos, capsys):
    assert main(["predict", "nonlocal_i3d_tiny", str(videos / "0.mp4"), "--weights", weights, "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert "0.mp4" in out
    assert out.count("class ") >= 3  # no names came with these weights, and none are made up


def test_predict_goes_on_after_a_broken_file_and_says_so(weights, videos, capsys):
    assert main(["predict", "nonlocal_i3d_tiny", str(videos), "--weights", weights, "--json"]) == 1
    captured = capsys.readouterr()
    answers = {a["file"].rsplit("/", 1)[1]: a for a in json.loads(captured.out)}
    assert len(answers["0.mp4"]["predictions"]) == len(answers["1.mp4"]["predictions"]) == 5
    scores = [p["score"] for p in answers["0.mp4"]["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert "notes.mp4" in answers["notes.mp4"]["error"]
    assert "notes.mp4" in captured.err


def test_json_of_list_and_info(capsys):
    assert main(["list", "*i3d_tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["i3d_tiny", "nonlocal_i3d_tiny"]
    assert main(["info", "nonlocal_i3d", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["parameters"] == 35_401_936
    assert round(info["multiply_adds"] / 1e9, 2) == 40.96
    assert info["checkpoints"][0]["license"] == "CC-BY-NC-4.0"


def test_check_reports_and_exits_by_what_it_found(kinetics_root, tmp_path, capsys):
    assert main(["data", "check", "sandbox_kinetics", str(kinetics_root)]) == 0
    root = tmp_path / "damaged"
    shutil.copytree(kinetics_root, root)
    broken = next((root / "val").glob("*/*.mp4"))
    broken.write_bytes(b"")
    capsys.readouterr()
    assert main(["data", "check", "sandbox_kinetics", str(root), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report["splits"]["val"]["unreadable"]) == [broken.stem]

    for number in (2, 4):
        assert main(["data", "check", "jhmdb", str(tmp_path), "--data-option", f"split={number}"]) == 1
    said = capsys.readouterr().err
    assert "test_split2.txt" in said
    assert "jhmdb has the splits 1, 2 and 3, not 4" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["info", "nonlocal_i3d_r5"], "Did you mean nonlocal_i3d_r50"),
        (["reproduce", "nonlocal/5.2x"], "nonlocal/5.2"),
        (["reproduce", "nonlocal/5.2f", "--data", "kinetics"], "NAME=ROOT"),
        (["reproduce", "nonlocal/5.2f", "--data", "kinetcs=/k"], "kinetics"),
        (["data", "check", "kinetcs", "/k"], "kinetics"),
        (["fit", "--model", "i3d_tinny"], "i3d_tiny"),
        (["list", "zebra*"], "zoo list"),
        (["visualize", "nonlocal", "i3d_r101", "x.mp4"], "nobody has published"),
        (["predict", "nonlocal_i3d_tiny", "/nowhere.mp4", "--weights", "/nowhere.pth"], "no such file"),
        (["predict", "nonlocal_i3d_tiny", "x.mp4", "--device", "toaster"], "--device toaster"),
        (["data", "check", "kinetics", "/nowhere"], "no such folder"),
        (["data", "check", "jhmdb", "/nowhere", "--data-option", "splits=2"], "jhmdb has no option 'splits'; it has "),
        (["fit", "--model", "i3d_tiny", "--data", "kinetics"], "--data.root"),
        (["fit", "--model", "i3d_r50.kinetics400_32x2", "--data", "kinetics"], "--model i3d_r50 --weights"),
        (["fit", "--model", "i3d_tiny", "--data", "sandbox_kinetics", "--weights", "nowhere.pkl"], "nowhere.pkl"),
        (["fit", "--model", "i3d_tiny", "--data", "sandbox_kinetics", "--data.batch_size", "0"], "batch_size"),
    ],
)
def test_mistakes_are_named_on_stderr(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("zoo: ")
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_what_a_model_cannot_do_is_said_in_a_sentence(kinetics_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "folder", "--data.root", str(kinetics_root), "--trainer.logger", "false"]
    data += ["--trainer.accelerator", "cpu", "--data.num_workers", "0"]
    assert main(["fit", "--model", "label_propagation_identity", *data]) == 1
    assert "label_propagation_identity has nothing to learn" in capsys.readouterr().err
    assert main(["validate", "--model", "label_propagation_identity", *data]) == 1
    assert "label_propagation_identity has no validation; `zoo test`" in capsys.readouterr().err
    steps = zoo.create("howto100m_embedding", dim=8, embedding=4, word_dim=2)
    save_weights("steps.safetensors", steps.state_dict())
    Path("film.mp4").touch()
    assert main(["predict", "howto100m_embedding", "film.mp4", "--weights", "steps.safetensors"]) == 1
    assert "predicts no classes; in Python it finds steps: model.localize(" in capsys.readouterr().err


def test_a_file_name_is_no_markup(weights, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    shutil.copy(videos / "0.mp4", "[b]clip[red].mp4")
    assert main(["predict", "nonlocal_i3d_tiny", "[b]clip[red].mp4", "--weights", weights]) == 0
    assert "[b]clip" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [[], ["dance"], ["predict", "x", "y", "--top", "0"], ["visualize", "nonlocal", "m", "f", "--at", "1,2"]]
)
def test_wrong_usage_exits_with_two(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: zoo" in capsys.readouterr().err


def test_visualize_writes_a_strip_and_a_film(videos, tmp_path, weights, capsys):
    import av
    from PIL import Image

    checkpoint = tmp_path / "tiny.ckpt"
    model = zoo.load("nonlocal_i3d_tiny", weights=weights)
    saved = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(saved)
    torch.save(saved, checkpoint)
    arguments = ["--at", "0.2,0.5,0.5", "--out", str(tmp_path / "pictures")]
    assert main(["visualize", "nonlocal", str(checkpoint), str(videos / "0.mp4"), *arguments]) == 0
    strip, film = capsys.readouterr().out.split()
    picture = Image.open(strip)
    assert picture.height == 256
    assert picture.width > 4 * 256
    red = (np.asarray(picture.convert("RGB")) == (255, 64, 64)).all(-1)
    assert red.sum() > 20  # the query's dot
    with av.open(film) as container:
        assert container.streams.video[0].frames == model.spec.frames
