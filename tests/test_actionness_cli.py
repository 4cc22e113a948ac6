"""The commands of actionness, as typed: from features to scores, proposals, ranks and recall."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import zoo
from tests.data import annotated
from tests.data.render import render
from zoo.cli import actionness, main
from zoo.curves import read_scores
from zoo.hub.weights import save_weights
from zoo.networks.grouping import proposals
from zoo.proposal_files import read_proposals

DIM, RATE = 64, 2.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model whose score of a row is its first number."""
    model = zoo.create("actionness_tiny")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.actionness.weight[0, 0] = 1.0
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, model.state_dict())
    return str(path)


@pytest.fixture
def coin(tmp_path):
    """COIN with two test videos, whose first number is 4 where an action is annotated and -4 elsewhere."""
    root = annotated.coin(tmp_path / "coin", features=False)
    spans = {"_bbbbbbbbb2": (10, [(1.5, 7.5)]), "ddddddddd4_": (8, [])}
    for name, (seconds, intervals) in spans.items():
        middles = (np.arange(seconds * RATE) + 0.5) / RATE
        rows = np.zeros((len(middles), DIM), dtype=np.float16)
        rows[:, 0] = np.where(sum((a <= middles) & (middles < b) for a, b in intervals), 4, -4)
        annotated.write_rows(root / "features" / f"{name}.npy", rows)
    return root


def run(*arguments):
    return main(["actionness", *map(str, arguments)])


def options(root):
    return [f"coin={root}", "--data-option", "expected=null", "--data-option", f"rate={RATE}"]


def test_from_a_data_set_s_features_to_what_its_proposals_find(weights, coin, tmp_path, capsys):
    scores, found, plot = tmp_path / "scores.csv", tmp_path / "ours.json", tmp_path / "recall.png"
    assert run("scores", "actionness_tiny", *options(coin), "--weights", weights, "--out", scores) == 0
    assert "scores of 2 videos written" in capsys.readouterr().out
    read = read_scores(scores)
    assert set(read) == {"_bbbbbbbbb2", "ddddddddd4_"}
    video = read["_bbbbbbbbb2"]
    assert video.scores.tolist() == [-4] * 3 + [4] * 12 + [-4] * 5
    assert video.times[3].tolist() == [1.5, 2.0]
    assert run("proposals", scores, "--out", found, "--top", 3) == 0
    best = proposals(video.scores, 10.0, normalize="minmax")[:3]
    assert (read_proposals(found)["_bbbbbbbbb2"] == best).all()
    assert run("recall", f"ours={found}", "--data", *options(coin), "--plot", plot, "--json") == 0
    said = json.loads(capsys.readouterr().out.partition("\n")[2])["ours"]
    assert said["videos"] == 1  # nothing is annotated in the other
    assert said["numbers"][-1] == 100
    assert plot.is_file()
    assert run("recall", found, found, "--data", *options(coin)) == 1
    assert "have the same name" in capsys.readouterr().err
    assert run("recall", found, "--data", *options(coin)) == 0
    assert "AR@100" in capsys.readouterr().out


def test_a_folder_of_features_is_scored_and_what_is_broken_is_told(weights, coin, tmp_path, capsys):
    (coin / "features" / "broken.npy").write_bytes(b"no features")
    out = tmp_path / "scores.npz"
    command = ["scores", "actionness_tiny", coin, "--weights", weights, "--rate", RATE]
    assert run(*command, "--out", out) == 1
    captured = capsys.readouterr()
    assert "2 videos written" in captured.out
    assert "1 videos unreadable" in captured.out
    assert "broken.npy is not a NumPy file" in captured.err
    assert read_scores(out)["ddddddddd4_"].duration == 8
    assert run(*command, "--out", tmp_path / "scores.txt") == 1
    assert run(*command, "--data-option", "rate=2", "--out", out) == 1
    assert "--data-option is of a data set" in capsys.readouterr().err
    assert run("scores", "actionness_tiny", coin / "nowhere", "--weights", weights, "--out", out) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_rate_of_files_is_what_the_extraction_noted(weights, coin, tmp_path, capsys):
    beside, out = coin / "features" / "extraction.json", tmp_path / "scores.csv"
    beside.write_text(json.dumps({"rate": RATE, "dim": DIM, "model": "i3d_tiny"}))
    command = ["scores", "actionness_tiny", coin, "--weights", weights, "--out", out]
    assert run(*command) == 0
    assert read_scores(out)["ddddddddd4_"].duration == 8
    model = zoo.load("actionness_tiny", weights=weights)
    file = coin / "features" / "ddddddddd4_.npy"
    assert model.predict(file).times[-1].tolist() == [7.5, 8.0]
    with pytest.warns(UserWarning, match="the option rate is 1: times will be wrong"):
        assert model.predict(file, rate=1.0).duration == 16
    assert model.predict(np.load(file)).duration == 16
    beside.write_text(json.dumps({"rate": RATE, "dim": 256, "model": "i3d_tiny"}))
    assert run(*command) == 1
    assert "features of i3d_tiny, rows of 256 numbers, and the model wants 64" in capsys.readouterr().err


def test_a_model_that_scores_no_rows_is_refused(tmp_path, capsys):
    torch.manual_seed(0)
    save_weights(tmp_path / "tiny.safetensors", zoo.create("i3d_tiny").state_dict())
    arguments = [tmp_path, "--weights", tmp_path / "tiny.safetensors", "--out", tmp_path / "scores.csv"]
    assert run("scores", "i3d_tiny", *arguments) == 1
    assert "does not score rows of features" in capsys.readouterr().err


def test_clips_are_ranked_and_drawn(tmp_path, capsys):
    scores = tmp_path / "scores.csv"
    scores.write_text("video_id,start,end,score\n" + "".join(f"v{n},{n},{n + 1},{n / 2}\n" for n in range(4)))
    (tmp_path / "films").mkdir()
    render(tmp_path / "films" / "v3.mp4", frames=40, fps=10)
    plot = tmp_path / "rank.png"
    assert run("rank", scores, "--top", 2, "--videos", tmp_path / "films", "--plot", plot, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [clip["video"] for clip in found["highest"]] == ["v3", "v2"]
    assert found["lowest"][0] == {"video": "v0", "start": 0, "end": 1, "score": 0}
    assert plot.is_file()
    assert f"films that are not in {tmp_path / 'films'}, and are drawn as crossed boxes: 3 (v2, v0, v1)" in captured.err
    (tmp_path / "films" / "v3.mp4").rename(tmp_path / "films" / "other.mp4")
    assert run("rank", scores, "--top", 2, "--videos", tmp_path / "films", "--plot", plot) == 1
    assert "has none of the 4 films that are to be drawn, such as v3" in capsys.readouterr().err
    assert run("rank", scores, "--plot", plot) == 1
    assert "give both, or neither" in capsys.readouterr().err


def test_predict_answers_for_a_file_of_features(weights, coin, tmp_path):
    model = zoo.load("actionness_tiny", weights=weights)
    file, plot = coin / "features" / "_bbbbbbbbb2.npy", tmp_path / "curve.png"
    said, (grid,) = actionness.answer(model, file, top=2, plot=plot, rate=RATE)
    assert json.loads(json.dumps(said)) == said
    assert said["duration"] == 10
    assert said["times"][-1] == [9.5, 10.0]
    assert said["scores"][3] == 4
    assert len(said["proposals"]) == grid.row_count == 2
    assert plot.is_file()


def test_features_are_packed(coin, tmp_path, capsys):
    pytest.importorskip("litdata")
    assert main(["data", "pack", str(coin), "--out", str(tmp_path / "packed")]) == 0
    assert "2 videos of 36 rows" in capsys.readouterr().out
    assert (tmp_path / "packed" / "features.json").is_file()
    rates = ["--rate", "0.5", "--source-rate", "2"]
    assert main(["data", "pack", str(coin), "--out", str(tmp_path / "pooled"), *rates]) == 0
    assert json.loads((tmp_path / "pooled" / "extraction.json").read_text()) == {"rate": 0.5, "pooled_from": 2}
    assert main(["data", "pack", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other")]) == 1
    assert "no such folder" in capsys.readouterr().err
