"""JHMDB: joints out of MATLAB files, the parts of its splits, and files that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch

from tests.data import trees
from zoo.data.jhmdb import JOINTS, SKELETON, Jhmdb, read_joint_positions
from zoo.errors import DataError


def joints(frames, seed=0):
    """Positions as the release stores them: (x, y) in pixels from 1, float64 ``[2, 15, frames]``."""
    return np.random.default_rng(seed).uniform(1, 40, (2, 15, frames))


def clip(root, action, name, frames, annotated, suffix=".png", seed=0):
    for number in range(frames):
        trees.picture(root / "Rename_Images" / action / name / f"{number + 1:05d}{suffix}", number)
    place = root / "joint_positions" / action / name / "joint_positions.mat"
    place.parent.mkdir(parents=True)
    scipy.io.savemat(place, {"pos_img": joints(annotated, seed), "scale": 1.0, "viewpoint": "E"}, do_compression=True)
    return place


@pytest.fixture
def root(tmp_path):
    clip(tmp_path, "walk", "stroll_(1)_walk_f_nm", 5, 4, seed=1)
    clip(tmp_path, "catch", "ball_catch_u_cm", 3, 3, ".jpg", seed=2)
    clip(tmp_path, "catch", "glove_catch_u_cm", 3, 3)
    splits = tmp_path / "splits"
    trees.write_list(splits / "walk_test_split1.txt", ["stroll_(1)_walk_f_nm.avi 2"])
    trees.write_list(splits / "catch_test_split1.txt", ["glove_catch_u_cm.avi 1", "ball_catch_u_cm.avi 2"])
    trees.write_list(splits / "catch_test_split2.txt", ["glove_catch_u_cm.avi 2", "ball_catch_u_cm.avi 0"])
    return tmp_path


def make(root, **options):
    return Jhmdb(root, **{"batch_size": 3, "num_workers": 0, **options})


def fault(root):
    """The message about the clip of walking, when the other one comes whole."""
    data = make(root)
    seen = [
        b["name"] for b in (data.on_before_batch_transfer(b, 0) for b in data.test_dataloader()) if len(b["numbers"])
    ]
    assert seen == ["catch/ball_catch_u_cm"]
    return data.unreadable[1]


def test_actions_and_clips_come_in_the_order_of_the_lists(root):
    assert [r.name for r in make(root).records("val")] == ["catch/ball_catch_u_cm", "walk/stroll_(1)_walk_f_nm"]
    assert [r.name for r in make(root).records("train")] == ["catch/glove_catch_u_cm"]
    assert [r.name for r in make(root, split=2).records("val")] == ["catch/glove_catch_u_cm"]
    with pytest.raises(DataError, match="splits 1, 2 and 3"):
        make(root, split=4)


def test_joints_count_from_zero_and_surplus_pictures_have_none(root):
    data = make(root)
    got = [data.on_before_batch_transfer(b, 0) for b in data.test_dataloader()]
    assert [(b["name"], b["numbers"].tolist(), b["kind"]) for b in got[1:]] == [
        ("walk/stroll_(1)_walk_f_nm", [0, 1, 2], "keypoints"),
        ("walk/stroll_(1)_walk_f_nm", [3, 4], "keypoints"),
    ]
    truth = [entry for b in got[1:] for entry in b["truth"]]
    assert truth[4] is None
    expected = joints(4, seed=1)
    for number, entry in enumerate(truth[:4]):
        assert entry["keypoints"].shape == (15, 2)
        assert entry["keypoints"].dtype == torch.float32
        for joint in range(15):
            x, y = expected[:, joint, number] - 1
            assert entry["keypoints"][joint].tolist() == pytest.approx([x, y], rel=1e-6)
    assert not data.unreadable


def test_a_file_of_one_frame_lacks_its_last_axis(tmp_path):
    scipy.io.savemat(tmp_path / "one.mat", {"pos_img": joints(1)[:, :, 0]})
    assert read_joint_positions(tmp_path / "one.mat").shape == (1, 15, 2)


def test_the_skeleton_is_a_tree_from_the_belly():
    parents = dict(SKELETON)
    assert set(parents) == set(range(15)) - {JOINTS.index("belly")}
    for joint in range(15):
        for _ in range(4):
            joint = parents.get(joint, joint)
        assert JOINTS[joint] == "belly"
    assert all(JOINTS[child].split()[0] == JOINTS[parent].split()[0] for child, parent in SKELETON[6:])  # on one side
    assert len(JOINTS) == 15


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda p: p.write_bytes(b"no matlab"), "cannot be read as a MATLAB file"),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "cannot be read as a MATLAB file"),
        (lambda p: p.write_bytes(b""), "cannot be read as a MATLAB file"),
        (lambda p: p.write_bytes(bytes(2 << 20)), "larger than joint positions are"),
        (lambda p: scipy.io.savemat(p, {"pos_world": joints(4)}), "found none"),
        (lambda p: scipy.io.savemat(p, {"pos_img": joints(4)[:, :13]}), r"found float64 \[2, 13, 4\]"),
        (lambda p: scipy.io.savemat(p, {"pos_img": np.array([[{"a": 1}]], dtype=object)}), "found object"),
        (lambda p: scipy.io.savemat(p, {"pos_img": joints(6)}), "annotates 6 frames and .* holds 5"),
        (lambda p: scipy.io.savemat(p, {"pos_img": joints(4) * np.nan}), "nothing to propagate"),
        (lambda p: scipy.io.savemat(p, {"pos_img": joints(4) + 5000}), "nothing to propagate"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_costs_its_clip_alone(root, content, words):
    content(root / "joint_positions" / "walk" / "stroll_(1)_walk_f_nm" / "joint_positions.mat")
    with pytest.raises(DataError, match=words):
        raise DataError(fault(root))
    report = make(root).check()
    assert list(report.splits["val"].unreadable) == ["walk/stroll_(1)_walk_f_nm/00001"]
    assert report.splits["train"].unreadable == {}


def test_check_counts_clips(root):
    assert make(root).check(decode=True).ok
    (root / "joint_positions" / "catch" / "glove_catch_u_cm" / "joint_positions.mat").unlink()
    report = make(root).check()
    assert (report.splits["train"].missing, report.splits["val"].missing) == (1, 0)


@pytest.mark.parametrize(
    "line", ["../../walk/stroll.avi 2", "stroll.avi", "stroll.avi 7", "stroll 2", ".. 2", "a.avi 2\na.avi 2"]
)
def test_lines_that_cannot_be_meant_are_refused(root, line):
    trees.write_list(root / "splits" / "walk_test_split1.txt", [line])
    with pytest.raises(DataError, match=r"walk_test_split1\.txt, line [12]"):
        make(root).records("val")


def test_without_lists_there_is_no_test(tmp_path):
    with pytest.raises(DataError, match=r"unpack splits\.zip"):
        make(tmp_path).records("val")
    with pytest.raises(DataError, match=r"unpack splits\.zip"):
        make(tmp_path).check()
