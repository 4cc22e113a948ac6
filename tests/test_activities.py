"""Models of moments as a user asks them: predictions over time, the timeline, flow, files of scores."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import zoo
from tests.data.activities import charades
from tests.data.render import render
from tests.data.test_tvl1 import still  # noqa: F401 (fixture)
from zoo.cli import main
from zoo.data.flow_files import flow_paths
from zoo.data.tvl1 import VideoFlow, flow_between
from zoo.score_files import read_scores

FIELD = ["temporal_fields_tiny", "--weights", "none"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return render(tmp_path_factory.mktemp("films") / "AB12C.mp4", frames=48, fps=24)


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """The film's flow, of noise."""
    folder = tmp_path_factory.mktemp("flow") / "AB12C"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for image in range(1, 48):
        for path in flow_paths(folder, image):
            Image.fromarray(draw.integers(0, 256, (48, 64), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A checkpoint of each stream."""
    places = {}
    for stream in ("rgb", "flow"):
        torch.manual_seed(0)
        model = zoo.create(f"charades_two_stream_{stream}_tiny")
        model.labels = zoo.datamodule("charades", root=".").classes
        content = {"pytorch-lightning_version": "2.6", "state_dict": model.state_dict()}
        model.on_save_checkpoint(content)
        places[stream] = str(tmp_path_factory.mktemp("streams") / f"{stream}.ckpt")
        torch.save(content, places[stream])
    return places


def answer(capsys, *argv) -> dict:
    assert main(["predict", *map(str, argv), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return found


class TestPredict:
    def test_everything_at_each_frame(self, film, tmp_path, capsys):
        plot = tmp_path / "timeline.png"
        found = answer(capsys, *FIELD, film, "--per-frame", "--top", 2, "--plot", plot)
        assert Image.open(plot).size[0] == 1200
        assert len(found["frames"]) == 25
        assert [frame["second"] for frame in found["frames"]] == pytest.approx(np.linspace(0, 47, 25) // 1 / 24)
        names = zoo.create("temporal_fields_tiny").vocabulary
        for frame in found["frames"]:
            assert set(frame) == {"second", "classes", "objects", "verbs", "progress", "scenes", "intent"}
            for kind in ("classes", "objects", "verbs"):
                assert len(frame[kind]) == 2
                assert frame[kind][0]["score"] >= frame[kind][1]["score"]
            assert frame["objects"][0]["label"] == names.objects[frame["objects"][0]["index"]]
            assert frame["verbs"][0]["label"] == names.verbs[frame["verbs"][0]["index"]]
            assert list(frame["progress"]) == ["start", "middle", "end"]
            assert sum(frame["progress"].values()) == pytest.approx(1, abs=1e-5)
            assert sum(frame["intent"]) == pytest.approx(1, abs=1e-5)
        best = max(frame["classes"][0]["score"] for frame in found["frames"])
        assert found["predictions"][0]["score"] == pytest.approx(best)

    def test_as_tables(self, film, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "300")
        assert main(["predict", *FIELD, str(film), "--per-frame"]) == 0
        out = capsys.readouterr().out
        for word in ("score", "seconds", "verb", "object", "progress", "1.96"):
            assert word in out

    def test_a_model_without_a_field_draws_its_classes(self, film, streams, tmp_path, capsys):
        found = answer(capsys, streams["rgb"], film, "--per-frame", "--plot", tmp_path / "t.png")
        assert set(found["frames"][0]) == {"second", "classes"}
        three = Image.open(tmp_path / "t.png").size[1]
        assert set(answer(capsys, *FIELD, film, "--plot", tmp_path / "six.png")) == {"file", "predictions"}
        assert Image.open(tmp_path / "six.png").size[1] > three + 60

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (
                [*FIELD, "--clips", "3"],
                "temporal_fields_tiny does not take --clips; it takes --plot, --per-frame, --flow",
            ),
            (["i3d_tiny", "--weights", "none", "--per-frame", "--plot", "x.png"], "does not take --plot, --per-frame"),
            (["i3d_tiny", "--weights", "none", "--flow", "x"], "does not take --flow; it takes --clips, --crops"),
        ],
    )
    def test_what_a_model_has_not_is_said(self, argv, said, film, capsys):
        assert main(["predict", argv[0], str(film), *argv[1:]]) == 1
        assert said in capsys.readouterr().err


class TestFlow:
    def test_a_folder_of_one_video_and_of_several(self, film, flow, streams, tmp_path, capsys):
        one = answer(capsys, streams["flow"], film, "--flow", flow)
        assert one["predictions"] == [vars(p) for p in zoo.load(streams["flow"]).predict(flow)]
        for name in ("AB12C", "other"):
            shutil.copy(film, tmp_path / f"{name}.mp4")
        assert main(["predict", streams["flow"], str(tmp_path), "--flow", str(flow.parent), "--json"]) == 1
        found = {entry["file"].rsplit("/", 1)[1]: entry for entry in json.loads(capsys.readouterr().out)}
        assert found["AB12C.mp4"]["predictions"] == one["predictions"]
        assert "other: the folder of flow cannot be listed" in found["other.mp4"]["error"]

    def test_both_streams_with_weights_for_each(self, film, flow, streams, capsys):
        weights = [word for stream in ("rgb", "flow") for word in ("--weights", streams[stream])]
        found = answer(capsys, "charades_two_stream_tiny", film, *weights, "--flow", flow)
        fused = zoo.fuse(streams["rgb"], streams["flow"]).predict(film, flow=flow)
        assert found["predictions"] == [vars(p) for p in fused]

    def test_without_a_folder_it_is_computed(self, still, film, streams):  # noqa: F811
        """Of the needed frames alone, and what two stacks share once."""
        model = zoo.load(streams["flow"], points=4)
        frames = model.predict(film, per_frame=True)
        assert [frame.second * 24 for frame in frames] == pytest.approx([0, 11, 23, 35])
        assert still.calls == 40
        source = VideoFlow(film, 10)
        assert source.count == 47
        first = np.stack(source.stack(1))
        still.calls = 0
        np.testing.assert_array_equal(np.stack(source.stack(4))[:14], first[6:])
        assert still.calls == 3
        assert first.shape == flow_between([np.zeros((48, 64, 3), np.uint8)] * 11).shape == (20, 240, 320)

    def test_without_opencv_both_remedies_are_named(self, film, streams, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        assert main(["predict", streams["flow"], str(film)]) == 1
        said = capsys.readouterr().err
        for word in (
            "AB12C.mp4: charades_two_stream_flow_tiny looks at optical flow",
            "--flow FOLDER",
            "videozoo[flow]",
        ):
            assert word in said


class TestScoresWrite:
    def test_the_files_score_as_the_test_does(self, streams, tmp_path, capsys):
        root = charades(tmp_path / "data", videos=True)
        argv = ["scores", "write", streams["rgb"], "--data", f"charades={root}", "--out", str(tmp_path / "out")]
        assert main([*argv, "--points", "75", "--num-workers", "0", "--accelerator", "cpu"]) == 0
        assert "scores of 3 videos written to" in capsys.readouterr().out
        model = zoo.load(streams["rgb"], points=75)
        data = zoo.datamodule("charades", root=root, spec=model.spec, batch_size=2, num_workers=0)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        (tested,) = pl.Trainer(accelerator="cpu", **quiet).test(model, data, verbose=False)
        for kind, names in (("classify", ("map", "wap")), ("localize", ("point_map", "point_wap"))):
            file = str(tmp_path / "out" / f"{kind}.txt")
            more = ["--localize"] if kind == "localize" else []
            assert main(["scores", "evaluate", file, "--data", f"charades={root}", "--json", *more]) == 0
            found = json.loads(capsys.readouterr().out)
            assert {name: found[name] for name in names} == pytest.approx({n: tested[n] for n in names}, abs=1e-3)
            assert found["missing"] == found["unknown"] == []
        table = read_scores(tmp_path / "out" / "classify.txt")
        assert table.ids == tuple(record.name for record in data.records("val"))

    def test_a_guess_needs_no_videos(self, tmp_path, capsys):
        root = charades(tmp_path)
        argv = ["scores", "write", "charades_chance", "--data", f"charades={root}", "--out", str(tmp_path / "out")]
        assert main([*argv, "--num-workers", "0"]) == 0
        assert read_scores(tmp_path / "out" / "localize.txt").scores.shape == (3, 25, 157)

    def test_a_broken_video_is_left_out_and_named(self, streams, tmp_path, capsys):
        root = charades(tmp_path / "data", videos=True)
        (root / "Charades_v1_480" / "ZZZ00.mp4").write_bytes(b"no video")
        argv = ["scores", "write", streams["rgb"], "--data", f"charades={root}", "--out", str(tmp_path / "out")]
        assert main([*argv, "--num-workers", "0"]) == 1
        captured = capsys.readouterr()
        assert "ZZZ00.mp4" in captured.err
        assert "scores of 2 videos" in captured.out

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (["i3d_tiny", "--weights", "none"], "i3d_tiny scores clips, not moments"),
            ([*FIELD, "--data", "sandbox_kinetics=x"], "files of scores are of charades"),
            (["temporal_fields_two_stream"], "cannot fetch temporal_fields.charades"),
            (["charades_chance", "--points", "3"], "argument of charades_chance"),
        ],
    )
    def test_refusals(self, argv, said, tmp_path, capsys):
        data = [] if "--data" in argv else ["--data", f"charades={charades(tmp_path)}"]
        assert main(["scores", "write", *argv, *data, "--out", str(tmp_path / "out")]) == 1
        assert said in capsys.readouterr().err
