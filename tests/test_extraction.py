"""Features of a folder of videos: whole or not at all, resumed, shared, refused; the same bytes however it went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.data.render import render
from zoo import extraction
from zoo.claims import Claims
from zoo.cli import main
from zoo.data.clip_workers import Clips, Unreadable, Whole, _Worker, decode_all
from zoo.data.feature_files import read_features
from zoo.data.feature_index import INDEX, read_index
from zoo.data.feature_shards import pack
from zoo.data.howto100m import HowTo100MFeatures
from zoo.extraction import extract_collection
from zoo.methods.extracting import extract
from zoo.spec import FeatureSpec, VideoSpec

LENGTHS = {"a/one": 60, "b.c/two": 30, "three": 95, "b.c/four.v2": 10}


@pytest.fixture(scope="module")
def model():
    return zoo.load("i3d_tiny")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Four videos and two that are none, one of them empty."""
    return _films(tmp_path_factory.mktemp("films"), LENGTHS)


def _films(root: Path, lengths: dict[str, int]) -> Path:
    dice = np.random.default_rng(0)
    for name, frames in lengths.items():
        (path := root / f"{name}.mp4").parent.mkdir(exist_ok=True)
        blocks = dice.integers(0, 256, (8, 6, 8, 3), dtype=np.uint8)
        render(
            path, frames=frames, picture=lambda n, h, w, b=blocks: np.kron(b[n // 5 % 8], np.ones((8, 8, 1), np.uint8))
        )
    (root / "broken.mp4").write_bytes((root / "three.mp4").read_bytes()[:900])
    (root / "empty.webm").touch()
    (root / "._three.mp4").write_bytes(b"left by an archive")
    return root


def run(model, films, out, **options):
    return extract_collection(model, films, out, workers=0, accelerator="cpu", **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_video_has_its_file_and_the_lists_say_so(model, films, tmp_path):
    seen = []
    report = run(model, films, tmp_path, rate=2.0, progress=lambda *place: seen.append(place))
    assert (report.made, report.kept, report.busy, report.rows) == (4, 0, 0, 5 + 3 + 8 + 1)
    assert list(report.unreadable) == ["broken", "empty"]
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)
    for name in LENGTHS:
        stored = np.load(tmp_path / f"{Path(name).name}.npy")
        assert stored.dtype == np.float16
        assert np.array_equal(stored, extract(model, films / f"{name}.mp4", 2.0).numpy().astype(np.float16))
    assert indexed(tmp_path) == {b"four.v2": 1, b"one": 5, b"three": 8, b"two": 3}
    assert json.loads((tmp_path / "unreadable.json").read_text()) == report.unreadable
    assert "empty.webm is empty" in report.unreadable["empty"]
    assert {name for name in contents(tmp_path) if name[0] == "." and name != ".lock"} == set()


def test_what_is_whole_stays_and_the_rest_is_tried_again(model, films, tmp_path, monkeypatch):
    run(model, films, tmp_path)
    first = contents(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    (tmp_path / "two.npy").write_bytes(first["two.npy"][:-1])  # cut off by whoever copied it
    np.save(tmp_path / "one.npy", np.zeros((3, 256)))  # of another kind
    (tmp_path / ".two.npy.123-abcdef01.tmp").write_bytes(b"half")  # of a run that was killed
    report = run(model, films, tmp_path)
    assert (report.made, report.kept, len(report.unreadable)) == (2, 2, 2)
    assert contents(tmp_path) == first
    assert {name for name, when in times.items() if (tmp_path / name).stat().st_mtime_ns != when} == {
        "one.npy",
        "two.npy",
    }


def test_unreadable_videos_of_other_folders_stay_listed_until_they_are_read(model, films, tmp_path):
    run(model, films, tmp_path / "out")
    (more := tmp_path / "more").mkdir()
    _films(more, {"three": 20})
    (more / "empty.webm").unlink()
    (more / "three.mp4").rename(more / "broken.mp4")  # fetched again, this time whole
    report = run(model, more, tmp_path / "out")
    assert (report.made, report.unreadable) == (1, {})
    assert list(json.loads((tmp_path / "out" / "unreadable.json").read_text())) == ["empty"]
    assert indexed(tmp_path / "out") == {b"broken": 1, b"four.v2": 1, b"one": 3, b"three": 4, b"two": 2}


def test_what_was_extracted_is_served_without_a_look_at_the_folder(model, films, tmp_path, monkeypatch):
    (named := tmp_path / "films").mkdir()
    stranger = os.fsdecode(b"caf\xe9")  # as old archives have it, no UTF-8
    for path, name in ((films / "three.mp4", f"{stranger}.mp4"), (films / "a" / "one.mp4", "one.mp4")):
        (named / name).write_bytes(path.read_bytes())
    root = tmp_path / "root"
    run(model, named, root / "features", rate=4.0)
    assert indexed(root / "features") == {b"caf\xe9": 16, b"one": 10}
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr("zoo.data.howto100m.list_files", None)
        warnings.simplefilter("error")
        data = features_in(root)
        (batch,) = data.train_dataloader()
    assert sorted(batch["video_id"]) == [stranger, "one"]
    assert batch["times"][batch["video_id"].index("one"), -1].tolist() == [9 / 4, 10 / 4]  # of ten rows all are taken
    assert main(["data", "check", "howto100m_features", str(root)]) == 0
    with pytest.raises(zoo.DataError, match=r"extraction\.json: these are features of i3d_tiny, rows of 256 numbers"):
        features_in(root, dim=64).setup("fit")
    with pytest.warns(UserWarning, match=r"extraction\.json: .* at 4 rows a second, and the option rate is 1"):
        assert features_in(root, rate=1.0).rate == 1

    pack(root, packed := tmp_path / "packed")
    (again,) = features_in(packed).train_dataloader()
    assert sorted(again["video_id"]) == [stranger, "one"]
    assert again["times"][again["video_id"].index("one"), -1].tolist() == [9 / 4, 10 / 4]
    with pytest.raises(zoo.ZooError, match="holds packed features"):
        run(model, named, packed, rate=4.0)


def features_in(root: Path, dim: int = 256, **options) -> HowTo100MFeatures:
    spec = VideoSpec(features=FeatureSpec(dim, clips=10, trim=0.0))
    return HowTo100MFeatures(root, spec, 2, num_workers=0, val_share=0.0, **options)


def indexed(folder: Path) -> dict[bytes, int]:
    return dict(read_index(folder / INDEX).tolist())


def test_features_of_something_else_are_not_mixed_in(model, films, tmp_path):
    run(model, films, tmp_path)
    before = contents(tmp_path)
    for other, options, words in (
        (zoo.load("nonlocal_i3d_tiny"), {}, "by the model i3d_tiny, not nonlocal_i3d_tiny"),
        (zoo.create("i3d_tiny"), {}, "by other weights of i3d_tiny"),
        (model, {"rate": 2.0}, "at 1 rows a second, not 2"),
        (model, {"precision": "float32"}, "in float16, not float32"),
    ):
        with pytest.raises(zoo.ZooError, match=words):
            run(other, films, tmp_path, **options)
    assert contents(tmp_path) == before
    (tmp_path / "extraction.json").unlink()
    with pytest.raises(zoo.ZooError, match=r"holds features \(.*\) but no extraction\.json"):
        run(model, films, tmp_path)
    (tmp_path / "extraction.json").write_text("[1]")
    with pytest.raises(zoo.ZooError, match=r"extraction\.json is not what"):
        run(model, films, tmp_path)


def test_what_cannot_begin_says_why_and_writes_nothing(model, films, tmp_path):
    (tmp_path / "twice").mkdir()
    for name in ("a.mp4", "a.webm"):
        (tmp_path / "twice" / name).touch()
    (tmp_path / "none").mkdir()
    for videos, words in (("twice", r"a\.mp4 and .*a\.webm would both"), ("none", "no video"), ("gone", "no folder")):
        with pytest.raises(zoo.DataError, match=words):
            run(model, tmp_path / videos, tmp_path / "out")
    for name in ("label_propagation_identity", "oops_chance"):
        with pytest.raises(zoo.ZooError, match=f"{name} has no features"):
            run(zoo.load(name), films, tmp_path / "out")
    with pytest.raises(zoo.ZooError, match="float16"):
        run(model, films, tmp_path / "out", precision="int8")
    with pytest.raises(zoo.ZooError, match="rate must be above 0"):
        run(model, films, tmp_path / "out", rate=float("nan"))
    assert not (tmp_path / "out").exists()


def test_what_half_precision_cannot_hold_is_refused(films, tmp_path):
    model = zoo.load("i3d_tiny")
    model.trunk.res5.blocks[0].norm3.weight.data *= 1e6
    with pytest.raises(zoo.ZooError, match=r"half precision ends at 65504.*--precision float32"):
        run(model, films, tmp_path / "half")
    assert not list((tmp_path / "half").glob("*.npy"))
    run(model, films, tmp_path / "single", precision="float32")
    assert read_features(tmp_path / "single" / "one.npy").max() > 65504


def test_a_video_that_another_run_is_at_is_left_to_it(model, films, tmp_path):
    other = Claims(tmp_path)
    claim = other.take("three")
    report = run(model, films, tmp_path)
    assert (report.made, report.busy) == (3, 1)
    assert other.take("three") is None  # a lock that is held is not cleared away
    claim.fail("told by the other run")
    assert run(model, films, tmp_path).made == 1  # that was before this run began


def test_what_another_process_could_not_read_is_not_tried_again_by_this_run(model, films, tmp_path):
    claims, told = Claims(tmp_path), []

    def progress(done, total):
        if not told:  # this run has begun
            told.append(claims.take("three").fail("cut off"))

    report = run(model, films, tmp_path, progress=progress)
    assert (report.made, report.unreadable["three"]) == (3, "cut off")
    with claims:
        assert run(model, films, tmp_path).made == 1
        assert claims.folder.exists()  # somebody may yet want to know what was in vain
    run(model, films, tmp_path)
    assert not claims.folder.exists()


@pytest.mark.slow
def test_the_command_lists_what_it_could_not_read(films, tmp_path, capsys):
    command = ["extract", "i3d_tiny", "--videos", str(films), "--out", str(tmp_path), "--num-workers", "0"]
    assert main([*command, "--accelerator", "cpu"]) == 1
    said = capsys.readouterr()
    assert said.out == f"features of 6 videos in {tmp_path}: 4 extracted, 2 unreadable\n"
    assert [line.split(":")[1] for line in said.err.splitlines() if line.startswith("zoo: ")] == [" broken", " empty"]
    assert main([*command, "--accelerator", "cpu", "--rate", "2"]) == 1
    assert "at 1 rows a second, not 2" in capsys.readouterr().err


def test_processes_are_those_that_were_started(monkeypatch):
    assert extraction._started() == (1, 1)
    for name, value in {"SLURM_NTASKS": "12", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "features"}.items():
        monkeypatch.setenv(name, value)
    assert extraction._started() == (4, 3)
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    assert extraction._started() == (8, 2)
    with pytest.raises(zoo.ZooError, match="3 x 2 processes"):
        extraction.start("cpu", 3, None)


SCRIPT = """
import json, sys

if __name__ == "__main__":
    import torch, zoo
    from zoo.extraction import extract_collection

    torch.set_num_threads(1)
    options = {"accelerator": "cpu", "rate": 4.0, **json.loads(sys.argv[3])}
    report = extract_collection(zoo.load("i3d_tiny"), sys.argv[1], sys.argv[2], **options)
    if report.is_first:
        print(json.dumps([report.made, report.kept, report.busy, sorted(report.unreadable)]))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Films, with the script beside them that extracts them: written once, for those that start may just be reading."""
    (tmp_path_factory.getbasetemp() / "many.py").write_text(SCRIPT)
    return _films(tmp_path_factory.mktemp("many"), {"three": 95, **{f"v{n:02}": 40 + 40 * (n % 4) for n in range(13)}})


@pytest.fixture(scope="module")
def once(model, many, tmp_path_factory) -> dict[str, bytes]:
    """What a run that nothing happens to makes of them."""
    out, threads = tmp_path_factory.mktemp("once"), torch.get_num_threads()
    torch.set_num_threads(1)
    assert run(model, many, out, rate=4.0).made == 14
    torch.set_num_threads(threads)
    return _without_lock(contents(out))


def _start(videos: Path, out: Path, before: tuple[str, ...] = (), **options) -> subprocess.Popen:
    command = [sys.executable, *before, str(videos.with_name("many.py")), str(videos), str(out), json.dumps(options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(zoo.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _told(process: subprocess.Popen) -> list:
    """What a process says at its end; how it ended is looked at first, for one that was killed says nothing."""
    said, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


@pytest.mark.slow
def test_a_killed_run_is_finished_by_others_at_once_with_the_same_bytes(many, once, tmp_path):
    out = tmp_path / "out"
    process = _start(many, out, workers=2)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.npy"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = {path.name: path.read_bytes() for path in out.glob("[!.]*.npy")}
    assert 2 <= len(left) < 14
    assert left.items() <= once.items()

    others = (
        _start(many, out, workers=0),
        _start(many, out, workers=0, devices=2),
    )  # one process, and two of Lightning's
    told = [_told(one) for one in others]
    assert sum(made for made, *_ in told) == 14 - len(left)  # none twice
    assert all(unreadable == ["broken", "empty"] for *_, unreadable in told)
    assert _without_lock(contents(out)) == once


@pytest.mark.slow
def test_processes_of_torchrun_share_the_videos(many, once, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    process = _start(many, tmp_path / "out", torchrun, workers=0)
    assert _told(process) == [14, 0, 0, ["broken", "empty"]]
    assert _without_lock(contents(tmp_path / "out")) == once


def _without_lock(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in found.items() if name != ".lock"}


@pytest.mark.slow
def test_a_decoder_that_dies_takes_its_video_and_nothing_else(model, films, monkeypatch):
    started = []
    start = _Worker.__init__
    monkeypatch.setattr(_Worker, "__init__", lambda self, *a: (start(self, *a), started.append(self))[0])
    videos = [(name, films / f"{name}.mp4") for name in ("three", "a/one", "broken", "b.c/two")]
    found: dict[str, list] = {}
    for name, event in decode_all(iter(videos), model.spec, 2.0, 1, workers=1):
        if isinstance(event, Clips) and name == "three" and name not in found:
            os.kill(started[0]._process.pid, signal.SIGKILL)
        found.setdefault(name, []).append(event.clips.clone() if isinstance(event, Clips) else event)
    assert isinstance(found["three"][-1], Unreadable)
    assert "was killed by SIGKILL" in found["three"][-1].message
    assert len(started) == 2
    for name, rows in (("a/one", 5), ("b.c/two", 3)):
        assert found[name][-1] == Whole()
        assert len(found[name]) == rows + 1
    assert [type(event) for event in found["broken"]] == [Unreadable]
    with torch.no_grad():
        rows = torch.cat([model.features(clip) for clip in found["a/one"][:-1]])
    torch.testing.assert_close(rows, extract(model, films / "a" / "one.mp4", 2.0), atol=1e-5, rtol=1e-5)
