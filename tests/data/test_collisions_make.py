"""Collisions simulated and written: what happens in them, how they look, how an interrupted run goes on."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from zoo.cli import collisions as command
from zoo.data.collisions import make
from zoo.data.collisions.make import make_collisions
from zoo.data.collisions.plan import PAIRS, PROPERTIES, SCALES, Collision, Plan, physical
from zoo.data.collisions.render import Renderer
from zoo.data.collisions.scene import MOVER_MASS, Scene
from zoo.data.collisions.shapes import REST_HEIGHT
from zoo.errors import DataError, ZooError

pytest.importorskip("mujoco", reason="collisions are simulated by MuJoCo: the extra [physics]")

SIZE = 32


class Few(Plan):
    """The first mini-batches of mass of a pair alone: enough to be interrupted."""

    kind = Collision

    def __len__(self) -> int:
        return len(self.collisions)

    @property
    def collisions(self) -> list[Collision]:
        return [collision for group in self.groups() for collision in group]

    def groups(self) -> list[list[Collision]]:
        return [[self.kind(self.pairs[0], 0, mass, 1, friction) for mass in SCALES] for friction in (1, 2, 3)]

    def mini_batches(self) -> dict[str, list[list[list[int]]]]:
        return {name: [[[0, 1, 2, 3, 4]], [], []] for name in PROPERTIES}


class Deadly(Collision):
    """A collision that no worker survives."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


VARIANT = Plan(1).variants[0]
FEW = Few(1, pairs=(("sphere", "wedge"),))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collisions") / "whole"
    report = make_collisions(folder, FEW, size=SIZE)
    assert (report.made, report.kept) == (15, 0)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frames(folder: Path, collision: Collision) -> list[bytes]:
    return [(folder / collision.name / f"{number:02d}.png").read_bytes() for number in range(5)]


def group(pair: tuple[str, str], speed: int = 3, friction: int = 3) -> list[Collision]:
    return [Collision(pair, 0, mass, speed, friction) for mass in SCALES]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_bodies_meet_in_the_third_frame_and_lose_energy(pair):
    motions = Scene(pair).motions(VARIANT, group(pair, speed=4))
    poses = np.stack([motion.poses for motion in motions])
    assert (poses[:, :3] == poses[:1, :3]).all()  # what comes before the contact knows nothing of the mass
    assert np.abs(poses[:, :3, 1, :3] - [0, 0, REST_HEIGHT[pair[1]]]).max() < 1e-3
    speeds = np.linalg.norm(np.diff(poses[..., :3], axis=1), axis=-1) / 0.5  # [5, 4, 2]
    assert (speeds[:, :2, 1] < 1e-3).all()
    assert (speeds[:, 2, 1] > 0.2).all()
    assert (speeds[:, :2, 0] < physical("speed", 4)).all()
    masses = np.array([[MOVER_MASS, motion.collision.value("mass")] for motion in motions])
    energy = (masses[:, None] * speeds**2).sum(-1)
    assert (energy[:, 2] < energy[:, 1]).all()
    assert (energy[:, 3] < energy[:, 2]).all()
    forward = (masses * (poses[:, 3, :, 0] - poses[:, 2, :, 0]) / 0.5).sum(1)  # momentum, which only friction takes
    assert (forward < MOVER_MASS * speeds[:, 1, 0]).all()
    assert (np.diff(poses[:, 4, 1, 0]) < 0).all()  # the heavier, the less far
    assert np.abs(np.linalg.norm(poses[..., 3:], axis=-1) - 1).max() < 1e-4
    assert poses[..., 2].min() > min(REST_HEIGHT.values()) - 0.01  # nothing sinks into the floor
    assert poses[..., 2].max() < 1.0  # or flies


def test_speed_and_friction_show_in_the_last_frame():
    scene = Scene(("cylinder", "cube"))
    slow, fast, rough = (
        scene.motions(VARIANT, group(("cylinder", "cube"), *scales))[2].poses[4, :, 0]
        for scales in ((2, 1), (5, 1), (5, 5))
    )
    assert (fast > slow + 0.5).all()
    assert (rough < fast - 0.2).all()


def test_a_scene_does_not_remember():
    """The order in which collisions are simulated must not show: workers get them in any."""
    pair = ("cone", "cylinder")
    first, used = Scene(pair), Scene(pair)
    used.motions(VARIANT, group(pair, 5, 5))
    for a, b in zip(first.motions(VARIANT, group(pair)), used.motions(VARIANT, group(pair)), strict=True):
        assert (a.poses == b.poses).all()


def test_pictures_show_bodies_where_they_are_and_their_shadows():
    pose = np.array([[-3.0, 0, 0.7, 1, 0, 0, 0], [2.0, 0, 0.7, 1, 0, 0, 0]])
    renderer = Renderer(("sphere", "cube"), 128)
    high = pose + np.array([0, 0, 50, 0, 0, 0, 0])
    there, away = renderer.draw(pose).astype(int), renderer.draw(high).astype(int)
    assert (away[0] == away[0, 0]).all()  # nothing but wall and floor
    assert (away[-1] == away[-1, 0]).all()
    r, g, b = there.transpose(2, 0, 1)
    red, purple = np.argwhere(r > g + 60), np.argwhere(b > g + 25)
    for body, pixels in ((pose[0], red), (pose[1], purple)):
        assert pixels.mean(0)[1] == pytest.approx((body[0] + 0.95) / 12.2 * 128 + 63.5, abs=1.5)
        assert 14 <= np.ptp(pixels, 0)[1] + 1 <= 19  # 1.4 m and, since its front is nearer, somewhat more
    dark = (there.sum(-1) < 0.75 * away.sum(-1)) & (r > b + 10) & (g > 92)
    assert dark.sum() > 10  # floor, darker than it was
    assert np.argwhere(dark)[:, 1].max() > purple[:, 1].max()  # to the right, for the light comes from the left


def test_layout_is_the_released_one(whole):
    entries, batches = (pickle.loads((whole / "info" / name).read_bytes()) for name in ("data.p", "batch.p"))
    assert [entry[0] for entry in entries] == [collision.name for collision in FEW.collisions]
    assert set(batches) == {"mass", "force", "friction"}
    notes = json.loads((whole / "info" / "collisions.json").read_bytes())
    total = np.zeros(3)
    for collision, record in zip(FEW.collisions, notes["collisions"], strict=True):
        assert record["name"] == collision.name
        pictures = [Image.open(whole / collision.name / f"{number:02d}.png") for number in range(5)]
        assert {(picture.size, picture.mode) for picture in pictures} == {((SIZE, SIZE), "RGB")}
        # What is written down is what is shown.
        drawn = Renderer(collision.pair, SIZE).draw(np.array(record["poses"][4]))
        assert (np.asarray(pictures[4]) == drawn).all()
        total += sum(np.asarray(picture).mean((0, 1)) for picture in pictures)
    assert notes["mean"] == pytest.approx(total / 75 / 255, abs=1e-5)
    assert sorted(path.name for path in whole.iterdir()) == sorted([c.name for c in FEW.collisions] + ["info"])


def test_a_mini_batch_of_mass_differs_from_the_contact_on(whole):
    made = [frames(whole, collision) for collision in FEW.groups()[0]]
    for number in range(3):
        assert len({frame[number] for frame in made}) == 1
    assert len({frame[4] for frame in made}) == 5


def test_interrupted_run_is_completed_to_the_same_bytes(whole, tmp_path, monkeypatch):
    out, groups = tmp_path / "set", FEW.groups()

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_collisions(out, FEW, size=SIZE, progress=stop)
    assert not (out / "info" / "data.p").exists()  # so that nobody takes it for whole
    # Since then a frame was cut off, the last line too, and somebody was killed at the third mini-batch.
    frame = out / groups[0][2].name / "03.png"
    frame.write_bytes(frame.read_bytes()[:50])
    with open(out / "info" / "unfinished.jsonl", "a") as file:
        file.write('[{"name": "sph')
    (out / f".{groups[2][0].name}.123.part").mkdir()
    (out / groups[2][1].name).mkdir()

    asked, real = [], make._make_group
    monkeypatch.setattr(make, "_make_group", lambda group, *rest: asked.append(group) or real(group, *rest))
    report = make_collisions(out, FEW, size=SIZE)
    assert asked == [groups[0], groups[2]]
    assert (report.made, report.kept) == (10, 5)
    assert contents(out) == contents(whole)


def test_whole_set_is_left_alone_and_a_damaged_one_mended(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert make_collisions(out, FEW, size=SIZE).made == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before
    (out / FEW.collisions[7].name / "00.png").unlink()
    (out / "info" / "batch.p").unlink()
    assert make_collisions(out, FEW, size=SIZE).made == 5
    assert contents(out) == contents(whole)
    os.truncate(out / "info" / "data.p", 100)
    assert make_collisions(out, FEW, size=SIZE).made == 0
    assert contents(out) == contents(whole)
    (stranger := out / FEW.collisions[7].name / "notes.txt").write_text("mine")
    (out / FEW.collisions[7].name / "00.png").unlink()
    with pytest.raises(DataError, match="holds more than frames of a collision"):
        make_collisions(out, FEW, size=SIZE)
    assert stranger.exists()


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(whole, tmp_path):
    make_collisions(tmp_path / "set", FEW, size=SIZE, workers=2)
    assert contents(tmp_path / "set") == contents(whole)


@pytest.mark.slow
def test_dead_worker_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Few, "kind", Deadly)
    with pytest.raises(ZooError, match=r"died.*--workers"):
        make_collisions(tmp_path / "set", FEW, size=SIZE, workers=2)
    assert not (tmp_path / "set" / "info" / "data.p").exists()


def test_other_settings_are_refused_by_name(whole, tmp_path):
    before = contents(whole)
    with pytest.raises(DataError, match=r"made with size 32; asked for were size 64\."):
        make_collisions(whole, FEW, size=64)
    with pytest.raises(DataError, match="made with seed 0, variants 1; asked for were seed 1, variants 2"):
        make_collisions(whole, Few(2, pairs=FEW.pairs, seed=1), size=SIZE)
    assert contents(whole) == before
    with pytest.raises(DataError, match="8 to 1024"):
        make_collisions(tmp_path, FEW, size=4)


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "data.p").write_bytes(b"(lp0\n.")
    with pytest.raises(DataError, match="not written by this simulator"):
        make_collisions(tmp_path, FEW, size=SIZE)
    for text in ("{", "[]", '{"collisions": [3]}'):
        (tmp_path / "info" / "collisions.json").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            make_collisions(tmp_path, FEW, size=SIZE)
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="not a usable folder"):
        make_collisions(tmp_path / "file", FEW, size=SIZE)


def test_second_run_in_a_folder_is_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(DataError, match="another run"):
        make_collisions(tmp_path, FEW, size=SIZE)


def test_full_disk_is_told_and_leaves_nothing_half(tmp_path, monkeypatch):
    real, calls = Path.write_bytes, []

    def write(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) == 8:
            real(path, data[:20])
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(ZooError, match="full"):
        make_collisions(tmp_path / "set", FEW, size=SIZE)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["info", FEW.collisions[0].name]


def test_command_makes_tells_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zoo.data.collisions.plan.Plan", lambda variants, seed: Few(variants, FEW.pairs, seed))
    parser = argparse.ArgumentParser()
    command.add_action(parser.add_subparsers())

    def run(*options: str) -> int:
        a = parser.parse_args(["make", "physics_collisions", "--out", str(tmp_path), "--workers", "1", *options])
        return a.run(a)

    real, left = make._make_group, iter([True, False])

    def stop(*rest):
        if next(left):
            return real(*rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "_make_group", stop)
    assert run("--subset", "small", "--size", "16") == 130
    assert "interrupted; 5 of 15 collisions are there" in capsys.readouterr().err
    monkeypatch.setattr(make, "_make_group", real)
    assert run("--subset", "small", "--size", "16") == 0
    assert "10 made, 5 there already" in capsys.readouterr().out
    with pytest.raises(DataError, match="asked for were size 256, variants 15"):
        run()
