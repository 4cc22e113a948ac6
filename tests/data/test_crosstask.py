"""CrossTask in its official layout: its lists and splits, what is served, and what is refused with file and line."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import numpy as np
import pytest

from tests.data.annotated import DIM, LATTE, OTHER, RELATED, TASKS, block, crosstask, rows, spec, write_rows
from zoo.data.crosstask import CrossTask
from zoo.data.crosstask_files import COLUMNS, annotated_pairs, draw_test, read_intervals, read_pairs, read_tasks
from zoo.errors import DataError

#: Two videos with the times of their steps, the first of two tasks.
ANNOTATED = {
    (LATTE, "-aaaaaaaaa1"): "3,6.20,9.90\n1,1.50,3.00\n3,12.00,25.00\n",
    (OTHER, "-aaaaaaaaa1"): "2,4.00,6.00\n",
    (LATTE, "_bbbbbbbbb2"): "",
}
MANY = {(task, f"video{number:02d}"): "1,1.00,2.00\n" for task in (LATTE, OTHER) for number in range(40)}


pytestmark = [
    pytest.mark.filterwarnings("ignore:.* training videos have no constraints"),
    pytest.mark.filterwarnings("ignore:.*, split 'val'. "),
]


@pytest.fixture
def root(tmp_path):
    return crosstask(tmp_path / "root", ANNOTATED)


def make(root, **options):
    return CrossTask(root, **{"spec": spec(), "num_workers": 0, "batch_size": 4, "expected": None, **options})


def all_videos(root, **options):
    """A small data set whose every video is tested on."""
    data = make(root, **options)
    data._pairs = {"train": [], "val": data._annotated[0]}
    return data


# What is served


def test_whole_videos(root):
    (batch,) = all_videos(root).test_dataloader()
    assert batch["video_id"] == ["-aaaaaaaaa1", "_bbbbbbbbb2", "-aaaaaaaaa1"]
    assert (batch["lengths"].tolist(), batch["duration"].tolist()) == ([20] * 3, [20.0] * 3)
    assert np.array_equal(batch["features"][20:40].numpy(), rows(1, 20).astype(np.float32))
    assert [i.tolist() for i in batch["intervals"]] == [[[1.5, 3.0], [6.2, 9.9], [12.0, 20.0]], [], [[4.0, 6.0]]]
    assert [s.tolist() for s in batch["steps"]] == [[0, 2, 2], [], [1]]
    assert batch["task"] == ["make_latte", "make_latte", "fold_a_shirt"]
    assert batch["names"] == [TASKS[LATTE][1], TASKS[LATTE][1], TASKS[OTHER][1]]
    assert len({record.name for record in all_videos(root).records("val")}) == 3


def test_a_guess_needs_the_header_alone(root):
    write_rows(root / "crosstask_features" / "_bbbbbbbbb2.npy", np.full((7, 5), np.nan))
    (root / "crosstask_features" / "-aaaaaaaaa1.npy").write_bytes(b"nothing")
    data = all_videos(root, spec=spec(pixels=False), rate=2.0)
    (batch,) = data.test_dataloader()
    assert (batch["duration"].tolist(), batch["lengths"].tolist(), tuple(batch["features"].shape)) == (
        [3.5], [0], (0, DIM),
    )  # fmt: skip
    assert [index for index, _ in batch["unreadable"]] == [0, 2]


def test_columns_of_the_release(root):
    values = np.arange(3200, dtype=np.float32) + np.arange(20)[:, None] / 8
    values[2, 3100] = np.nan  # in the sound alone
    for video in ("-aaaaaaaaa1", "_bbbbbbbbb2"):
        write_rows(root / "crosstask_features" / f"{video}.npy", values)
    for columns, first, last in (("i3d", 0, 1024), ("resnet", 1024, 3072)):
        data = all_videos(root, spec=spec(dim=last - first), columns=columns)
        batch = next(iter(data.test_dataloader()))
        assert np.array_equal(batch["features"][:20].numpy(), values[:, first:last])
        assert not data.check(decode=True).splits["val"].unreadable
    data = all_videos(root, spec=spec(dim=128), columns="vggish")
    assert "row 2 holds NaN" in data.check(decode=True).splits["val"].unreadable[f"{LATTE}_-aaaaaaaaa1"]
    assert "row 2 holds NaN" in next(iter(data.test_dataloader()))["unreadable"][0][1]
    with pytest.raises(DataError, match="columns takes 1024 numbers of a row, and the model wants 4"):
        make(root, columns="i3d")
    with pytest.raises(DataError, match="columns is one of i3d, resnet, vggish"):
        make(root, columns="audio")


def test_columns_are_of_what_was_noted(root):
    (root / "crosstask_features" / "extraction.json").write_text('{"rate": 1, "dim": 3200}')
    assert len(all_videos(root, spec=spec(dim=1024), columns="i3d").records("val")) == 3
    with pytest.raises(DataError, match="rows of 3200 numbers, and the model wants 1024"):
        all_videos(root, spec=spec(dim=1024)).records("val")


def test_columns_of_other_features_are_refused(root):
    data = all_videos(root, spec=spec(dim=1024), columns="i3d")
    batch = next(iter(data.test_dataloader()))
    assert "has rows of 4 numbers, and columns 0 to 1023 of 3200 are wanted" in batch["unreadable"][0][1]


def test_order_is_learnt_from_the_columns_too(tmp_path):
    root = crosstask(tmp_path, {(LATTE, f"video{number}"): "" for number in range(4)})
    values = (np.arange(3200) + 10_000 * np.arange(20)[:, None]).astype(np.float32)
    for number in range(4):
        write_rows(root / "crosstask_features" / f"video{number}.npy", values)
    batch = next(iter(make(root, spec=spec("order", dim=1024), columns="i3d").train_dataloader()))
    times = batch["times"]
    places = times[:, :, 0].round().astype(int)  # clips of one row
    ordered = [f if label else f.flip(0) for f, label in zip(batch["features"], batch["label"].tolist(), strict=True)]
    for clips, at in zip(ordered, places, strict=True):
        assert np.array_equal(clips.numpy(), values[at, :1024])
    assert set(batch["video_id"]) <= {f"video{number}" for number in range(4)}


# Splits


def test_the_random_split_is_a_quarter_and_stays_the_same(tmp_path):
    # Every seventh video occurs under two tasks.
    pairs = [(str(number % 18), f"{number - (number % 7 == 1):011d}") for number in range(2750)]
    tested = draw_test(pairs, 688, 0)
    assert len(tested) == 688
    assert not {video for _, video in tested} & {video for _, video in set(pairs) - tested}
    assert draw_test(reversed(pairs), 688, 0) == tested
    assert len(draw_test(pairs, 688, 1) & tested) < 300
    root = crosstask(tmp_path, MANY)
    one, other, third = (make(root, **options) for options in ({}, {"seed": 5}, {"split_seed": 1}))
    names = [{record.name for record in data.records("val")} for data in (one, other, third)]
    assert len(names[0]) == 20
    assert names[0] == names[1] != names[2]
    assert not names[0] & {record.name for record in one.records("train")}
    assert len(one.records("train")) == 60


def test_the_split_does_not_depend_on_what_is_there_or_whole(tmp_path):
    root = crosstask(tmp_path, MANY)
    before = [record.name for record in make(root).records("val")]
    gone, faulty = before[3], before[7]
    video = gone.split("_", 1)[1]
    (root / "crosstask_features" / f"{video}.npy").unlink()
    (root / "crosstask_release" / "annotations" / f"{faulty}.csv").write_text("1,5.0,4.0\n")
    with pytest.warns(UserWarning, match="1 videos of split 'val' are left out"):
        records, expected = make(root).find_records("val")
    assert expected == 20
    assert [record.name for record in records] == [
        name for name in before if name != faulty and not name.endswith(video)
    ]


def test_the_released_split(tmp_path):
    spared = [(LATTE, f"video{number:02d}") for number in range(5)]
    extra = [(LATTE, "unannotated"), (RELATED, "related1"), ("777", "unknown")]
    root = crosstask(tmp_path, MANY, listed=extra)
    (root / "crosstask_release" / "videos_val.csv").write_text("".join(f"{t},{v},url\n" for t, v in spared))
    data = make(root, split="release")
    train, tested = ([record.name for record in data.records(split)] for split in ("train", "val"))
    assert Counter(name.split("_")[0] for name in train) == {LATTE: 30, OTHER: 30}
    whole = {f"{task}_{video}" for task, video in MANY if (task, video) not in spared}
    assert set(tested) == whole - set(train)
    assert [record.name for record in make(root, split="release", split_seed=3).records("train")] != train
    related = make(root, split="release", related=True)
    assert [record.name for record in related.records("train")] == [*train, f"{RELATED}_related1"]
    # Its title has all words of a primary task's name, which is taken.
    assert related.tasks["make_a_latte_at_home"] == ("grind", "pour")
    assert set(data.tasks) == {"make_latte", "fold_a_shirt"}
    rows_only = make(root, split="release", related=True, spec=spec("rows")).records("train")
    assert {record.name for record in rows_only} == set(train) - {f"{LATTE}_unannotated"}


def test_the_official_number_of_videos(root):
    with pytest.warns(UserWarning, match="3 videos are annotated, officially there are 2750"):
        assert make(root, expected=2750).find_records("val")[1] == 688
    with pytest.warns(UserWarning, match="3 videos are annotated"):
        assert make(root, expected=2750).find_records("train")[1] == 2062
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(root, expected=3).find_records("val")[1] == 1


# Constraints


def test_constraints_come_with_training_on_whole_videos(tmp_path):
    root = crosstask(tmp_path, MANY)
    data = make(root)
    first, second, *_ = data._pairs["train"]
    folder = root / "crosstask_constraints"
    folder.mkdir()
    (folder / ("_".join(first) + ".csv")).write_text("2,18.00,30.00\n1,3.50,3.50\n1,40,50\n")
    with pytest.warns(UserWarning, match="59 of 60 training videos have no constraints"):
        batch = next(iter(make(root, batch_size=60).train_dataloader()))
    names = [data.records("train")[index].name for index in batch["index"].tolist()]
    found = dict(zip(names, batch["constraints"], strict=True))
    assert found["_".join(first)].tolist() == [[1, 18, 19], [0, 3, 3]]
    assert found["_".join(second)] is None
    assert all(constraints is None for constraints in next(iter(data.test_dataloader()))["constraints"])
    (folder / ("_".join(first) + ".csv")).write_text("9,1,2\n")
    report = make(root).check()
    assert "line 1: step 9 is annotated, and the task has 3" in report.splits["train"].unreadable["_".join(first)]


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1.0,2.0\n2,9.50,3.25\n", "line 2: step 2 is annotated from 9.5 to 3.25 seconds: it ends before it starts"),
        ("1,1.0,2.0\n\n1,2.0\n", "line 3: '1,2.0' has 2 columns, not step, start and end"),
        ("1,1.0,2.0,x\n", "line 1: '1,1.0,2.0,x' has 4 columns"),
        ("step,start,end\n", "line 1: 'step' is no number of a step"),
        ("0,1,2\n", "line 1: step 0 is annotated, and the task has 3"),
        ("4,1,2\n", "line 1: step 4 is annotated, and the task has 3"),
        ("1,one,2\n", "line 1: 'one' is no number of seconds"),
        ("1,nan,2\n", "line 1: 'nan' is no number of seconds"),
        ("-1,1,2\n", "line 1: '-1' is no number of a step"),
    ],
)
def test_what_is_no_annotation(root, text, message):
    path = root / "crosstask_release" / "annotations" / f"{LATTE}_-aaaaaaaaa1.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(f"{path}, {message}")):
        read_intervals(path, 3)
    report = all_videos(root).check()
    assert message in report.splits["val"].unreadable[path.stem]
    assert (report.splits["val"].found, report.splits["val"].missing) == (2, 0)


def test_odd_intervals_are_set_right_and_counted(root):
    path = root / "crosstask_release" / "annotations" / f"{LATTE}_-aaaaaaaaa1.csv"
    path.write_bytes(b"\xef\xbb\xbf3,18.0,22.0\r\n1,-1.0,2.5\r\n1,-1.0,2.5\r\n2,7.0,7.0\r\n2,30.0,31.0\r\n")
    (batch,) = all_videos(root).test_dataloader()
    assert (batch["intervals"][0].tolist(), batch["steps"][0].tolist()) == ([[0.0, 2.5], [18.0, 20.0]], [0, 2])
    with pytest.warns(UserWarning, match="annotated intervals") as told:
        assert all_videos(root).check().ok
    said = " ".join(str(remark.message) for remark in told)
    for what in ("1 annotated intervals are there twice", "1 annotated intervals have no length",
                 "2 annotated intervals reach beyond", "1 annotated intervals lie outside"):  # fmt: skip
        assert what in said


def test_tasks_by_what_papers_call_them(tmp_path):
    path = tmp_path / "tasks.txt"
    text = block("105253", "Make Bread and Butter Pickles", ("cut", "pour")) + block("1", "MakePancakes", ("stir",))
    path.write_bytes(("\ufeff" + text.replace("\n", "\r\n").rstrip()).encode())
    tasks = read_tasks(path)
    assert {name: (task.key, task.steps) for name, task in tasks.items()} == {
        "105253": ("pickle_cucumber", ("cut", "pour")), "1": ("make_pancakes", ("stir",)),
    }  # fmt: skip
    path.write_text("".join(block(str(n), title, ("x",)) for n, title in enumerate(("Make Pancakes", "Make Pancakes"))))
    assert [task.key for task in read_tasks(path).values()] == ["make_pancakes", "make_pancakes_1"]
    assert len(COLUMNS) == len(set(COLUMNS.values())) == 18


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block("1", "A", ("x", "y")).replace("2", "3"), "line 4: task '1' says that it has '3' steps, and names 2"),
        (block("1", "A", ("x", "y")).replace("x,y", "x,"), "line 4: task '1' says that it has '2' steps, and names 1"),
        (block("1", "A", ("x",)) + "2\nB\n", "line 7: task '2' has 2 lines where 5 belong"),
        (block("1", "A", ("x",)) * 2, "line 7: task '1' is listed twice"),
        (block("../1", "A", ("x",)), "line 1: '../1' is not the name"),
    ],
)
def test_what_is_no_list_of_tasks(tmp_path, text, message):
    (tmp_path / "tasks.txt").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'tasks.txt'}, {message}")):
        read_tasks(tmp_path / "tasks.txt")


def test_lists_of_videos(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_bytes(b"\xef\xbb\xbf1,-a,url\r\n1,_b,url\r\n\r\n1,-a,url\r\n2,-a,url\r\n")
    assert read_pairs(path) == ([("1", "-a"), ("1", "_b"), ("2", "-a")], 1)
    path.write_text("1,a,url\n1,b\n")
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2: '1,b' has 2 columns")):
        read_pairs(path)
    path.write_text("1,../b,url\n")
    with pytest.raises(DataError, match=re.escape(f"{path}, line 1: '../b' is not the name")):
        read_pairs(path)


def test_whose_annotations_there_are(root):
    folder = root / "crosstask_release" / "annotations"
    for name in ("777_video.csv", f"{LATTE}_.csv", "notes.txt", f"{OTHER}__c_d.csv"):
        (folder / name).write_text("")
    pairs, others = annotated_pairs(folder, [LATTE, OTHER])
    assert pairs == sorted([*ANNOTATED, (OTHER, "_c_d")])
    assert others == 2


def test_places(root, tmp_path):
    release = make(root / "crosstask_release")
    assert len(release.records("val")) == 1
    (root / "crosstask_features").rename(root / "features")
    assert len(make(root).records("val")) == 1
    (root / "features").rename(tmp_path / "elsewhere")
    assert len(make(root, features=tmp_path / "elsewhere").records("val")) == 1
    with pytest.raises(DataError, match=r"no features here, ID\.npy for each video\. Compute them with `zoo extract"):
        make(root).records("val")
    with pytest.raises(DataError, match=r"no crosstask_release/tasks_primary\.txt here"):
        make(tmp_path).records("val")
    with pytest.raises(DataError, match="split is 'random' or 'release'"):
        make(root, split="official")
