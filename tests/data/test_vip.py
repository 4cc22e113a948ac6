"""VIP: classes and part instances of annotated frames, frames between them, and what does not fit together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data import trees
from tests.data.render import numbers_in
from zoo.data.masks import write_mask
from zoo.data.vip import PART_CLASSES, Vip, read_instance_classes
from zoo.errors import DataError

NUMBERS = (1, 26, 51)


def parts(number):
    """Classes and instances of a frame: a hat (1) and hair (2) of one person, and a face (13) of another."""
    semantic = np.zeros((trees.HEIGHT, trees.WIDTH), np.uint8)
    semantic[4:10, 4:20], semantic[10:20, 4:20], semantic[30:40, 30:44] = 1, 2, 13
    semantic[0, number] = 255  # not decided
    instances = np.zeros_like(semantic)
    instances[4:10, 4:20], instances[10:20, 4:20], instances[30:40, 30:44] = 1, 2, 5
    return semantic, instances


def video(fine, name, annotations="Annotations", palette=False):
    for number in NUMBERS:
        trees.picture(fine / "Images" / name / f"{number:012d}.jpg", number)
        semantic, instances = parts(number)
        ids = fine / annotations
        if palette:
            write_mask(ids / "Category_ids" / name / f"{number:012d}.png", semantic)
        else:
            trees.grey(ids / "Category_ids" / name / f"{number:012d}.png", semantic)
        trees.grey(ids / "Instance_ids" / name / f"{number:012d}.png", instances)
        trees.write_list(ids / "Instance_ids" / name / f"{number:012d}.txt", ["1 1 1", "2 2 1", "5 13 2"])


@pytest.fixture
def root(tmp_path):
    fine = tmp_path / "VIP_Fine"
    video(fine, "videos20")
    video(fine, "videos3", palette=True)
    trees.write_list(fine / "lists" / "val_videos.txt", ["Images/videos20/", "videos3"])
    return tmp_path


def make(root, **options):
    return Vip(root, **{"batch_size": 2, "num_workers": 0, **options})


def fault(root):
    """The message about videos20, when the other video comes whole."""
    data = make(root)
    got = [data.on_before_batch_transfer(b, 0) for b in data.test_dataloader()]
    assert [b["numbers"].tolist() for b in got if b["name"] == "videos3"] == [[0, 1], [2]]
    return data.unreadable[0]


def test_annotated_frames_come_with_classes_and_instances(root):
    data = make(root)
    got = [data.on_before_batch_transfer(b, 0) for b in data.test_dataloader()]
    assert [(b["name"], b["numbers"].tolist(), b["kind"], b["length"]) for b in got] == [
        (name, numbers, "parts", 3) for name in ("videos20", "videos3") for numbers in ([0, 1], [2])
    ]
    for batch in got:
        shown = numbers_in(batch["frames"].permute(0, 2, 3, 1).numpy())
        assert shown == [NUMBERS[k] for k in batch["numbers"]]
        for number, truth in zip(shown, batch["truth"], strict=True):
            semantic, instances = parts(number)
            assert truth["semantic"].dtype == torch.uint8
            assert truth["instances"].dtype == truth["classes"].dtype == torch.int64
            assert np.array_equal(truth["semantic"], semantic)
            assert np.array_equal(truth["instances"], instances)
            assert truth["classes"].tolist() == [0, 1, 2, 0, 0, 13]
    assert not data.unreadable


def test_the_layout_of_the_authors_code_is_the_same_data(root, tmp_path):
    flat = tmp_path / "VIP"
    video(flat, "videos7", annotations="")
    trees.write_list(flat / "lists" / "val_videos.txt", ["videos7"])
    assert [len(r.frames) for r in make(flat).records("val")] == [3]
    assert [r.name for r in make(root / "VIP_Fine").records("val")] == ["videos20", "videos3"]
    assert make(flat).check(decode=True).ok


def test_frames_between_the_annotated_ones_have_no_truth(root):
    for name in ("videos20", "videos3"):
        for number in (24, 25, 27, 49, 60):
            trees.picture(root / "VIP_Sequence" / "adjacent_frames" / name / f"{number:012d}.jpg", number)
    trees.picture(root / "VIP_Sequence" / "adjacent_frames" / "videos3" / f"{0:012d}.jpg", 0)  # before the first label
    data = make(root, frames="all", batch_size=8)
    for batch in data.test_dataloader():
        assert numbers_in(batch["frames"].permute(0, 2, 3, 1).numpy()) == [1, 24, 25, 26, 27, 49, 51, 60]
        assert [entry is not None for entry in batch["truth"]] == [True, False, False, True, False, False, True, False]
    assert data.check(decode=True).ok
    with pytest.raises(DataError, match="adjacent_frames nor VIP_Sequence"):
        make(root / "VIP_Fine", frames="all").records("val")  # nothing outside the root is looked at


def test_classes_are_twenty_in_the_loaders_order():
    assert len(PART_CLASSES) == 20 == len(set(PART_CLASSES))
    assert (PART_CLASSES[0], PART_CLASSES[3], PART_CLASSES[13]) == ("background", "gloves", "face")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda ids: (ids / "Instance_ids" / "videos20" / f"{26:012d}.txt").unlink(), r"no list .*26\.txt"),
        (lambda ids: (ids / "Instance_ids" / "videos20" / f"{26:012d}.png").unlink(), r"no file .*26\.png"),
        (lambda ids: trees.write_list(ids / "Instance_ids" / "videos20" / f"{26:012d}.txt", ["1 1 1"]), "instance 2"),
        (lambda ids: trees.write_list(ids / "Instance_ids" / "videos20" / f"{26:012d}.txt", ["x"]), "line 1: 'x'"),
        (lambda ids: trees.grey(ids / "Category_ids" / "videos20" / f"{26:012d}.png", parts(1)[0] * 11), "holds class"),
        (
            lambda ids: trees.grey(ids / "Category_ids" / "videos20" / f"{26:012d}.png", parts(1)[0][::2]),
            "64 x 24 pixels, its frame 64 x 48",
        ),
        (
            lambda ids: trees.grey(ids / "Category_ids" / "videos20" / f"{1:012d}.png", parts(1)[0] * 0),
            "nothing to propagate",
        ),
        (lambda ids: (ids.parent / "Images" / "videos20" / f"{26:012d}.jpg").unlink(), r"no file .*26\.jpg"),
    ],
)
def test_what_does_not_fit_together_costs_its_video_alone(root, damage, words):
    damage(root / "VIP_Fine" / "Annotations")
    with pytest.raises(DataError, match=words):
        raise DataError(fault(root))
    report = make(root).check(decode=True)
    assert len(report.splits["val"].unreadable) == 1
    assert next(iter(report.splits["val"].unreadable)).startswith("videos20/")


@pytest.mark.parametrize("line", ["0 3", "70000 3", "1 20", "1", "-1 3", "1 ¹", "99999999999999 1"])
def test_instances_that_cannot_be_are_refused(tmp_path, line):
    path = trees.write_list(tmp_path / "i.txt", ["1 1 1", line])
    with pytest.raises(DataError, match=r"i\.txt, line 2"):
        read_instance_classes(path)


def test_options_names_and_missing_videos(root):
    with pytest.raises(DataError, match="not for 'test'"):
        make(root, split="test")
    with pytest.raises(DataError, match="'annotated' or 'all'"):
        make(root, frames="some")
    trees.write_list(root / "VIP_Fine" / "lists" / "val_videos.txt", ["videos3", "videos4"])
    report = make(root).check()
    assert (report.splits["val"].expected, report.splits["val"].found) == (2, 1)
    trees.write_list(root / "VIP_Fine" / "lists" / "val_videos.txt", ["videos3", ".."])
    with pytest.raises(DataError, match=r"val_videos\.txt, line 2"):
        make(root).records("val")
