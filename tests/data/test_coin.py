"""COIN in its official layout: what is read of it, what is served, and what is left out by name."""

from __future__ import annotations

import json
import math
import re
import warnings

import numpy as np
import pytest
import torch

from tests.data.annotated import DIM, ROWS, VIDEOS, coin, entry, rows, spec, write_rows
from zoo.data.coin import Coin, read_coin
from zoo.errors import DataError

TEA, CAR = ("fill the pot", "boil water", "add tea"), ("lift the car",)


@pytest.fixture
def root(tmp_path):
    return coin(tmp_path / "root")


def make(root, **options):
    return Coin(root, **{"spec": spec(), "num_workers": 0, "batch_size": 4, "expected": None, **options})


def broken(root, **videos):
    """What is said of videos besides those that are whole."""
    coin(root, VIDEOS | {name.replace("_", "-"): video for name, video in videos.items()})
    return make(root)


def test_whole_videos(root):
    (batch,) = make(root).test_dataloader()
    expected = np.concatenate([rows(1, 10), rows(3, 8)]).astype(np.float32)
    assert batch["features"].dtype == torch.float32
    assert np.array_equal(batch["features"].numpy(), expected)
    assert batch["video_id"] == ["_bbbbbbbbb2", "ddddddddd4_"]
    assert (batch["lengths"].tolist(), batch["index"].tolist()) == ([10, 8], [0, 1])
    assert (batch["rate"].tolist(), batch["duration"].tolist()) == ([1.0, 1.0], [10.0, 8.0])
    assert [i.tolist() for i in batch["intervals"]] == [[[1.5, 3.0], [2.0, 6.0], [5.0, 7.5]], []]
    assert {(i.dtype.str, i.shape[1]) for i in batch["intervals"]} == {("<f8", 2)}
    assert [s.tolist() for s in batch["steps"]] == [[0, 1, 2], []]
    assert (batch["task"], batch["names"]) == (["make_tea", "jack_up_car"], [TEA, CAR])
    assert (batch["constraints"], batch["unreadable"]) == ([None, None], [])
    assert make(root).tasks == {"make_tea": TEA, "jack_up_car": CAR}


def test_regions_of_interest(root):
    with pytest.warns(UserWarning, match="at 2 rows a second the features last 0.5 times as long"):
        (batch,) = make(root, rate=2.0, region="roi").test_dataloader()
    # From 1 to 9 seconds, or to the end: rows from 2 on, of which the files have 10 and 8.
    assert batch["lengths"].tolist() == [8, 6]
    assert batch["features"][0].tolist() == rows(1, 10)[2].tolist()
    assert batch["duration"].tolist() == [8.0, 7.0]
    assert batch["intervals"][0].tolist() == [[0.5, 2.0], [1.0, 5.0], [4.0, 6.5]]
    identities = {data.records("val")[0].identity for data in (make(root), make(root, region="roi"))}
    assert len(identities) == 2


def test_no_features_are_opened_for_a_guess(root):
    (root / "features" / "_bbbbbbbbb2.npy").unlink()
    write_rows(root / "features" / "ddddddddd4_.npy", np.full((3, DIM), np.nan))
    (batch,) = make(root, spec=spec(pixels=False)).test_dataloader()
    assert (tuple(batch["features"].shape), batch["lengths"].tolist()) == ((0, DIM), [0, 0])
    assert (batch["duration"].tolist(), batch["steps"][0].tolist()) == ([10.0, 8.0], [0, 1, 2])


@pytest.mark.parametrize("name", ["testing", "test", "validation", "Validation"])
def test_names_of_the_test_subset(tmp_path, name):
    videos = {video: {**said, "subset": said["subset"].replace("testing", name)} for video, said in VIDEOS.items()}
    assert [record.name for record in make(coin(tmp_path, videos)).records("val")] == ["_bbbbbbbbb2", "ddddddddd4_"]


def test_a_third_subset_is_left_out(root):
    coin(root, VIDEOS | {"eeeeeeeeee5": entry("validation", 5.0)})
    with pytest.warns(UserWarning, match="1 videos of subset 'validation' are left out"):
        assert make(root).find_records("val")[1] == 2


def test_the_official_number_of_test_videos(root):
    with pytest.warns(UserWarning, match="2 videos are listed for testing, officially there are 2797"):
        records, expected = make(root, expected=2797).find_records("val")
    assert (len(records), expected) == (2, 2797)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(root, expected=2).find_records("val")[1] == 2


def test_places_of_the_annotations(root, tmp_path):
    (root / "annotations").mkdir()
    (root / "COIN.json").rename(root / "annotations" / "COIN.json")
    assert len(make(root).records("val")) == 2
    alone = tmp_path / "alone.json"
    text = (root / "annotations" / "COIN.json").read_text()
    alone.write_bytes(b"\xef\xbb\xbf" + text.replace(", ", ",\r\n").encode())  # a mark of UTF-8, and Windows' lines
    assert len(make(alone, features=root / "features").records("train")) == 2
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: no COIN.json here or in annotations/")):
        make(tmp_path).records("val")


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (entry("testing", 0), "has a duration of 0 seconds"),
        (entry("testing", math.nan), "has a duration that cannot be used: 'nan' is no number of seconds"),
        (entry("testing", -3.0), "has a duration of -3 seconds"),
        (entry("testing", 1e30), "has a duration of 1e+30 seconds"),
        (entry("testing", 9.0, ("1", "pour", [5.0, 2.0])), "number 1, that cannot be used: step 1 is annotated from 5"),
        (entry("testing", 9.0, ("1", "pour", [math.nan, 2.0])), "number 1, that cannot be used: 'nan' is no number"),
        (entry("testing", 9.0, ("1", "pour", [2.0])), "has a segment that is not its start and end"),
        (entry("testing", 9.0, ("1", "pour", None)), "has a segment that is not its start and end"),
        (entry("testing", 9.0, annotation=[{"label": "pour", "segment": [1, 2]}]), "lacks id, label or segment"),
        (entry("testing", 9.0, annotation={}), "has no list in annotation"),
        (entry("testing", 9.0, task=" "), "which is no name of a task"),
        ({"subset": "testing"}, "lacks duration, class, annotation"),
    ],
)  # fmt: skip
def test_faulty_annotations_are_left_out_by_name(root, video, message):
    data = broken(root, _faulty=video)
    with pytest.warns(UserWarning, match=re.escape(message)) as told:
        records, expected = data.find_records("val")
    assert "1 videos of split 'val' are left out" in str(told[0].message)
    assert f"{root / 'COIN.json'}: -faulty" in str(told[0].message)
    assert (len(records), expected) == (2, 3)
    report = data.check()
    assert message in report.splits["val"].unreadable["-faulty"]
    assert (report.splits["val"].missing, report.ok) == (0, False)


def test_a_video_of_no_subset_is_missing_from_both(root):
    report = broken(root, stray=entry("holdout", 4.0)).check()
    assert all("belongs to 'holdout'" in split.unreadable["stray"] for split in report.splits.values())


def test_a_region_of_interest_that_is_none(root):
    coin(root, VIDEOS | {"-faulty": entry("testing", 9.0, start=5.0, end=5.0)})
    assert "-faulty" in [said.name for said in make(root).read_annotations("val").videos]
    with pytest.warns(UserWarning, match="1 annotated intervals reach beyond what is looked at"):
        report = make(root, region="roi").check()
    assert "has a region of interest from 5 to 5 seconds" in report.splits["val"].unreadable["-faulty"]


def test_odd_intervals_are_set_right_and_counted(root):
    segments = [[8.0, 14.0], [-2.0, 1.0], [3.0, 3.0], [11.0, 12.0], [4.0, 5.0], [4.0, 5.0]]
    coin(root, {"_bbbbbbbbb2": entry("testing", 10.0, *(("1", "pour", segment) for segment in segments))})
    data = make(root)
    (batch,) = data.test_dataloader()
    assert batch["intervals"][0].tolist() == [[0.0, 1.0], [4.0, 5.0], [8.0, 10.0]]
    with pytest.warns(UserWarning, match="annotated intervals") as told:
        assert data.check().ok
    said = " ".join(str(remark.message) for remark in told)
    for what in ("1 annotated intervals are there twice", "1 annotated intervals have no length",
                 "2 annotated intervals reach beyond", "1 annotated intervals lie outside"):  # fmt: skip
        assert what in said


def test_a_step_with_two_names(root):
    coin(root, {**VIDEOS, "eeeeeeeeee5": entry("training", 9.0, ("41", "heat water", [1.0, 2.0]))})
    found = read_coin(root / "COIN.json")
    assert found["val"].videos[0].steps == TEA
    assert "1 steps have several names" in found["val"].remarks[0]


@pytest.mark.parametrize("text", ["[]", "{}", '{"database": []}', "{", '{"database": {"../x": {}}}'])
def test_what_is_no_coin(tmp_path, text):
    (tmp_path / "COIN.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "COIN.json"))):
        make(tmp_path).records("val")


def test_steps_go_by_the_number_of_their_id(tmp_path):
    segments = [(number, f"step {number}", [1.0, 2.0]) for number in ("100", "x", "20", 3)]
    (tmp_path / "COIN.json").write_text(json.dumps({"database": {"a": entry("training", 9.0, *segments)}}))
    assert read_coin(tmp_path / "COIN.json")["train"].videos[0].steps == ("step 3", "step 20", "step 100", "step x")


def test_every_video_has_its_file(root):
    assert {
        record.name: len(np.load(record.path)) for s in ("train", "val") for record in make(root).records(s)
    } == ROWS


def test_a_word_is_no_count_of_videos(tmp_path):
    with pytest.raises(DataError, match=r"expected is a number of videos, or null .*got 'none'"):
        Coin(tmp_path, expected="none")
