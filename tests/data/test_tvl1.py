"""Flow computed into the official layout: whole or not at all, resumed, shared; and, where OpenCV is there, true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import zoo
from tests.data import activities
from tests.data.render import number_in, render
from zoo.cli import main
from zoo.data import tvl1
from zoo.data.flow_files import decode_flow
from zoo.data.moments import FlowFolder
from zoo.data.tvl1 import flow_between, write_flow


class Still:
    """In OpenCV's place: x is how many fields it has computed, y is what number the first picture shows."""

    def __init__(self) -> None:
        self.calls = 0

    def calc(self, first: np.ndarray, second: np.ndarray, _: None) -> np.ndarray:
        assert first.shape == second.shape
        assert first.dtype == second.dtype == np.uint8
        self.calls += 1
        number = number_in(np.repeat(first[..., None], 3, 2))
        return np.stack([np.full(first.shape, v, np.float32) for v in (self.calls, number)], -1)


@pytest.fixture
def still(monkeypatch) -> Still:
    solver = Still()
    monkeypatch.setattr(tvl1, "_solver", lambda: solver)
    return solver


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    """Two films of 12 frames in half a second, and one that breaks off."""
    folder = tmp_path_factory.mktemp("films")
    found = {name: render(folder / f"{name}.mp4", frames=12, fps=24) for name in ("AB12C", "DE34F")}
    found["BR0KE"] = folder / "BR0KE.mp4"
    found["BR0KE"].write_bytes(found["AB12C"].read_bytes()[:900])
    return found


def listing(folder: Path) -> dict[str, int]:
    """What lies in a folder, hidden or not, and how much is in each."""
    return {path.name: len(list(path.iterdir())) for path in folder.iterdir()}


def test_the_layout_is_the_releases(still, films, tmp_path):
    seen = []
    report = write_flow(films, tmp_path / "flow", progress=lambda *place: seen.append(place))
    assert (report.made, report.kept, report.busy, list(report.unreadable)) == (2, 0, 0, ["BR0KE"])
    assert "BR0KE.mp4" in report.unreadable["BR0KE"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert listing(tmp_path / "flow") == {"AB12C": 22, "DE34F": 22}

    flow = FlowFolder(tmp_path / "flow" / "AB12C", length=11)  # as the data set reads it
    assert flow.count == 11
    stack = flow.stack(1)
    assert stack[0].shape == (240, 320)  # the film's 48 x 64, the longer side scaled
    motion = decode_flow(np.stack([plane.mean() for plane in stack]))
    assert motion[0::2] == pytest.approx(np.arange(1, 12), abs=0.2)
    assert motion[1::2] == pytest.approx(np.arange(11), abs=0.2)  # from each picture to the next
    with Image.open(tmp_path / "flow" / "AB12C" / "AB12C-000011y.jpg") as picture:
        assert (picture.mode, picture.format) == ("L", "JPEG")


def test_what_is_whole_is_not_computed_again(still, films, tmp_path):
    write_flow({"AB12C": films["AB12C"]}, tmp_path)
    calls = still.calls
    (tmp_path / "DE34F").mkdir()  # a folder with nothing in it is no flow
    report = write_flow(films, tmp_path)
    assert (report.made, report.kept, still.calls) == (1, 1, 2 * calls)


def test_what_breaks_off_leaves_nothing(still, films, tmp_path, monkeypatch):
    monkeypatch.setattr(still, "calc", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_flow({"AB12C": films["AB12C"]}, tmp_path)
    assert listing(tmp_path) == {}


KILLED = """
import sys, time, numpy as np
from pathlib import Path
from zoo.data import tvl1

class Slow:
    def calc(self, first, second, _):
        time.sleep(0.1)
        return np.zeros((*first.shape, 2), np.float32)

tvl1._solver = Slow
tvl1.write_flow({"AB12C": Path(sys.argv[1])}, sys.argv[2])
"""


def test_a_killed_run_leaves_nothing_that_counts(still, films, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(films["AB12C"]), str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.jpg"))) < 4 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob("*.jpg"))
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    assert write_flow({"AB12C": films["AB12C"]}, tmp_path).made == 1
    assert listing(tmp_path) == {"AB12C": 22}


def test_two_runs_share_the_work(still, films, tmp_path):
    with FileLock(tmp_path / ".AB12C.lock"):
        report = write_flow(films, tmp_path)
    assert (report.made, report.busy) == (1, 1)
    assert not (tmp_path / "AB12C").exists()


def test_pictures_that_cannot_be_compared_are_reported(still, tmp_path):
    for name, sizes in (("ONE00", [(64, 48)]), ("TWO00", [(64, 48), (48, 64)])):
        (tmp_path / name).mkdir()
        for number, size in enumerate(sizes, 1):
            Image.new("RGB", size).save(tmp_path / name / f"{name}-{number:06d}.jpg")
    report = write_flow({name: tmp_path / name for name in ("TWO00", "ONE00")}, tmp_path / "flow")
    assert list(report.unreadable) == ["TWO00", "ONE00"]
    assert "image 2 is of another shape" in report.unreadable["TWO00"]
    assert "one image at 24 a second" in report.unreadable["ONE00"]
    assert listing(tmp_path / "flow") == {}


@pytest.mark.parametrize("name", ["../AB12C", "a/b", ".AB12C", "", ".."])
def test_nothing_is_written_outside_the_folder(still, films, tmp_path, name):
    with pytest.raises(zoo.DataError, match="cannot be a video's name"):
        write_flow({name: films["AB12C"]}, tmp_path / "flow")
    assert not list(tmp_path.iterdir())


def test_frames_become_a_stack(still):
    frames = [np.zeros((24, 32, 3), np.uint8)] * 4
    stack = flow_between(frames)
    assert (stack.shape, stack.dtype) == ((6, 240, 320), np.uint8)
    assert decode_flow(stack[::2, 0, 0]) == pytest.approx([1, 2, 3], abs=0.1)
    with pytest.raises(zoo.VideoError, match="two frames and more, got 1"):
        flow_between(frames[:1])


def test_the_command_fills_a_root(still, tmp_path, capsys):
    train = dict.fromkeys(("AB12C", "DE34F"), ("c008 0.00 1.00", 0.5, ""))
    root = activities.charades(tmp_path, train, {"ZZZ00": ("", 0.5, "")}, videos=True)
    (root / "Charades_v1_480" / "DE34F.mp4").write_bytes(b"no video")
    arguments = ["data", "flow", "charades", str(root), "--num-workers", "1"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "flow of 3 videos" in out
    assert "2 computed, 1 unreadable" in out
    assert "DE34F.mp4" in err
    assert listing(root / "Charades_v1_flow") == {"AB12C": 22, "ZZZ00": 22}
    assert main(arguments) == 1
    assert "2 there already, 1 unreadable" in capsys.readouterr().out
    assert main([*arguments, "--out", str(tmp_path / "other")]) == 1
    assert listing(tmp_path / "other") == listing(root / "Charades_v1_flow")
    assert main([*arguments[:2], "sandbox_charades", *arguments[3:]]) == 1  # it is what its own errors advise
    assert "2 there already, 1 unreadable" in capsys.readouterr().out


def test_without_opencv_the_error_says_what_to_install(films, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(zoo.ZooError, match=r"optical flow needs the package 'cv2'.*pip install 'videozoo\[flow\]'"):
        write_flow(films, tmp_path / "flow")
    assert not (tmp_path / "flow").exists()
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="4.0"))
    with pytest.raises(zoo.ZooError, match=r"contributed modules, and OpenCV 4.0.*pip uninstall"):
        flow_between([np.zeros((8, 8, 3), np.uint8)] * 2)


# With OpenCV


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="the extra [flow] is not installed")


def moving(x: int, y: int, count: int = 2) -> list[np.ndarray]:
    """Frames of 90 x 160, each of the last one's content moved by (x, y) pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(noise).resize((300, 180), Image.Resampling.BICUBIC))
    return [scene[40 - y * n :][:90, 60 - x * n :][:, :160] for n in range(count)]


@pytest.mark.parametrize(("x", "y"), [(2, -1), (0, 0)])
def test_the_flow_is_the_motion(cv2, x, y):
    cv2.setNumThreads(1)
    stack = decode_flow(flow_between(moving(x, y)))
    inner = stack[:, 40:-40, 40:-40]
    # Frames are scaled by two, and so is what moves in them.
    assert np.median(inner[0]) == pytest.approx(2 * x, abs=0.3)
    assert np.median(inner[1]) == pytest.approx(2 * y, abs=0.3)


def test_processes_give_what_one_gives(cv2, films, tmp_path):
    short = {name: render(tmp_path / f"{name}.mp4", frames=3, fps=24) for name in ("AB12C", "DE34F")}
    for workers in (1, 2):
        report = write_flow({**short, "BR0KE": films["BR0KE"]}, tmp_path / str(workers), workers=workers)
        assert (report.made, list(report.unreadable)) == (2, ["BR0KE"])
    files = {path.relative_to(tmp_path / "1"): path.read_bytes() for path in (tmp_path / "1").rglob("*.jpg")}
    assert len(files) == 8
    assert files == {path.relative_to(tmp_path / "2"): path.read_bytes() for path in (tmp_path / "2").rglob("*.jpg")}


MANY = """
import sys
from pathlib import Path
from zoo.data.tvl1 import write_flow

if __name__ == "__main__":
    write_flow({f"V{n:04d}": Path(sys.argv[1]) for n in range(50)}, sys.argv[2], workers=2)
"""


def test_workers_end_with_a_parent_that_was_killed(cv2, tmp_path):
    film = render(tmp_path / "film.mp4", frames=3, fps=24)
    (script := tmp_path / "run.py").write_text(MANY)
    out = tmp_path / "flow"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, str(script), str(film), str(out)], env=environment)
    deadline = time.monotonic() + 60
    while not list(out.glob("V*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    done = len(list(out.glob("V*")))
    assert 0 < done < 48
    time.sleep(3)
    assert len(list(out.glob("V*"))) == done
