"""What COIN and CrossTask share: training on order, rows and whole videos; broken features; several processes."""

from __future__ import annotations

import itertools
import json
import re
import warnings

import numpy as np
import pytest
import torch

from tests.data.annotated import DIM, coin, entry, rows, spec, write_rows
from tests.data.learner import Learner, seen_in_tests
from zoo.data.coin import Coin
from zoo.errors import DataError
from zoo.spec import VideoSpec

#: Ten training videos of 12 seconds, an action from 2 to 5, and three to test.
MANY = {f"train{number}": entry("training", 12.0, ("1", "pour", [2.0, 5.0])) for number in range(10)} | {
    f"test{number}": entry("testing", 12.0, ("1", "pour", [1.0, 3.5])) for number in range(3)
}


@pytest.fixture
def root(tmp_path):
    root = coin(tmp_path / "root", MANY, features=False)
    for number, video in enumerate(MANY):
        write_rows(root / "features" / f"{video}.npy", rows(number, 12))
    return root


def make(root, samples="videos", **options):
    options = {"spec": spec(samples), "num_workers": 0, "batch_size": 4, "expected": None, **options}
    return Coin(root, **options)


def damage(root, video, values):
    return write_rows(root / "features" / f"{video}.npy", np.asarray(values))


def epoch(data, number=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


# Training


def test_rows_with_what_is_annotated_there(root):
    seen, drawn = [], set()
    for number in range(20):
        for batch in epoch(make(root, "rows"), number):
            assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items() if key != "unreadable"} == {
                "features": ((4, 3, DIM), torch.float32), "label": ((4, 3), torch.int64), "index": ((4,), torch.int64),
            }  # fmt: skip
            places = batch["features"][..., 0] - 100 * batch["index"][:, None]
            assert (batch["features"] - batch["features"][..., :1]).eq(torch.arange(DIM)).all()
            assert (places.diff() > 0).all()
            assert torch.equal(batch["label"], ((places >= 2) & (places < 5)).long())
            seen += batch["index"].tolist()
            drawn |= set(places.flatten().tolist())
    assert drawn == set(range(12))
    assert set(seen) == set(range(10))
    assert [len(set(seen[first : first + 8])) for first in range(0, 160, 8)] == [8] * 20


def test_few_rows_are_drawn_more_than_once(root):
    for number in range(10):
        damage(root, f"train{number}", rows(number, 2))
    (batch, *_) = epoch(make(root, "rows", batch_size=10, rate=1 / 6))
    assert set((batch["features"][..., 0] - 100 * batch["index"][:, None]).flatten().tolist()) == {0.0, 1.0}
    assert set(batch["label"].flatten().tolist()) == {1, 0}  # rows of six seconds, the first with the action


def test_rows_of_the_region_of_interest(root):
    places = [
        place
        for number in range(5)
        for batch in epoch(make(root, "rows", region="roi"), number)
        for place in (batch["features"][..., 0] - 100 * batch["index"][:, None]).flatten().tolist()
    ]
    assert (min(places), max(places)) == (1, 8)  # from 1 to 9 seconds


def test_order(root):
    batches = epoch(make(root, "order", spec=spec("order", trim=0.0), batch_size=5))
    assert sorted(index for batch in batches for index in batch["index"].tolist()) == list(range(10))
    for batch in batches:
        places = batch["features"][..., 0] - 100 * batch["index"][:, None]
        assert torch.equal((places.diff() > 0).all(1), batch["label"] == 1)
        assert torch.equal((places.diff() < 0).all(1), batch["label"] == 0)
        assert batch["video_id"] == [f"train{index}" for index in batch["index"].tolist()]
    assert next(iter(make(root, "order").test_dataloader()))["lengths"].tolist() == [12, 12, 12]


def test_whole_videos_are_those_of_the_test(root):
    (batch, *_) = epoch(make(root, batch_size=10))
    order = batch["index"].tolist()
    assert sorted(order) == list(range(10))
    assert order != sorted(order)
    assert np.array_equal(batch["features"].numpy(), np.concatenate([rows(number, 12) for number in order]))
    assert [i.tolist() for i in batch["intervals"]] == [[[2.0, 5.0]]] * 10
    tested = next(iter(make(root).test_dataloader()))
    assert tested.keys() == batch.keys()


@pytest.mark.parametrize("samples", ["rows", "videos", "order"])
def test_training_repeats_itself_and_goes_on_where_it_stopped(root, samples):
    one, other = make(root, samples), make(root, samples, num_workers=2)
    first = [batch["features"].sum().item() for batch in epoch(one, 3)]
    assert first == [batch["features"].sum().item() for batch in epoch(other, 3)]
    assert first != [batch["features"].sum().item() for batch in epoch(one, 4)]
    resumed = make(root, samples).train_dataloader()
    resumed.sampler.set_epoch(3)
    resumed.load_state_dict({"batches": 1})
    assert [batch["features"].sum().item() for batch in resumed] == first[1:]


@pytest.mark.parametrize("samples", ["rows", "videos", "order"])
def test_another_video_takes_the_place_of_a_broken_one(root, samples):
    damage(root, "train4", np.full((12, DIM), np.nan, dtype=np.float16))
    batches = epoch(make(root, samples, spec=spec(samples, **({"trim": 0.0} if samples == "order" else {}))))
    batches += epoch(make(root, samples), 1)
    unreadable = [entry for batch in batches for entry in batch["unreadable"]]
    assert {index for index, _ in unreadable} == {4}
    assert all("train4.npy: row " in message and "NaN" in message for _, message in unreadable)
    assert all(torch.isfinite(batch["features"]).all() and 4 not in batch["index"].tolist() for batch in batches)


def test_the_rate_is_what_the_extraction_noted(root):
    beside = root / "features" / "extraction.json"
    beside.write_text(json.dumps({"rate": 2.0, "dim": DIM, "model": "i3d_tiny"}))
    for video, said in MANY.items():
        damage(root, video, rows(0, 2 * int(said["duration"])))
    for options in ({}, {"features": "features"}, {"rate": 2.0}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (batch,) = make(root, **options).test_dataloader()
        assert batch["rate"].tolist() == [2.0] * 3
    assert next(iter(make(root, spec=spec(pixels=False)).test_dataloader()))["rate"].tolist() == [2.0] * 3
    assert make(root).check().ok
    with pytest.warns(UserWarning, match=r"extraction\.json: .* at 2 rows a second, and the option rate is 1:"):
        assert make(root, rate=1.0).source.rate == 1
    with pytest.raises(DataError, match=rf"features of i3d_tiny, rows of {DIM} numbers, and the model wants 9"):
        make(root, spec=spec(dim=9)).setup("test")
    (root / "features" / "more").mkdir()
    (root / "features" / "train0.npy").rename(root / "features" / "more" / "train0.npy")
    assert make(root).source.rate == 2
    (root / "features" / "more" / beside.name).write_text('{"rate": 3}')
    with pytest.raises(DataError, match=r"extraction\.json says . rows a second and .*extraction\.json ."):
        make(root).setup("test")


def test_a_trainer_trains_and_validates(root):
    learner = Learner("index", "features")
    learner.fit(make(root, "rows", batch_size=5), epochs=2)
    assert sorted(learner.trained) == sorted(2 * list(range(10)))
    assert learner.validated == 2 * [0, 1, 2]


# Evaluation


@pytest.mark.parametrize("processes", [2, 3])
def test_every_video_once_over_all_processes(root, processes):
    assert seen_in_tests(lambda: make(root, batch_size=1), processes) == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(np.arange(12)[:, None] == 7, np.inf, np.ones(DIM)), "row 7 holds NaN or infinity"),
        (np.ones((12, 5)), "has rows of 5 numbers, and 4 are expected"),
        (np.ones((0, DIM)), "has no rows"),
        (np.ones(12), "holds an array of shape (12,)"),
        (np.ones((12, DIM), dtype=object), "Objects are never unpickled"),
        (np.ones((12, DIM), dtype=int), "not real numbers"),
    ],
)
def test_broken_features_are_reported_by_name(root, values, message):
    path = damage(root, "test1", values)
    data = make(root)
    (batch,) = data.test_dataloader()
    ((index, said),) = batch["unreadable"]
    assert (index, message in said, str(path) in said, said.startswith("test1: ")) == (1, True, True, True)
    assert (batch["index"].tolist(), batch["lengths"].tolist(), batch["video_id"]) == (
        [0, 2],
        [12, 12],
        ["test0", "test2"],
    )
    found = data.check(decode=True).splits["val"].unreadable
    assert list(found) == ["test1"]
    assert message in found["test1"]


def test_a_batch_of_nothing(root):
    path = root / "features" / "test0.npy"
    path.write_bytes(path.read_bytes()[:-1])
    batch = next(iter(make(root, batch_size=1).test_dataloader()))
    assert tuple(batch["features"].shape) == (0, DIM)
    assert "truncated" in batch["unreadable"][0][1]
    for key in (
        "lengths",
        "index",
        "rate",
        "duration",
        "video_id",
        "intervals",
        "steps",
        "task",
        "names",
        "constraints",
    ):
        assert len(batch[key]) == 0


def test_a_region_that_features_do_not_reach(root):
    coin(root, MANY | {"test1": entry("testing", 12.0, start=8.0, end=9.0)}, features=False)
    damage(root, "test1", rows(0, 6))
    (batch,) = make(root, region="roi").test_dataloader()
    assert batch["index"].tolist() == [0, 2]
    assert "end before its region of interest begins, at 8 seconds. Is the rate right?" in batch["unreadable"][0][1]


# What is there


def test_missing_features_are_counted(root):
    (root / "features" / "test1.npy").unlink()
    with pytest.warns(UserWarning, match="1 of 3 videos of split 'val' are missing"):
        assert [record.name for record in make(root).records("val")] == ["test0", "test2"]
    report = make(root).check()
    assert (report.splits["val"].found, report.splits["val"].missing, report.ok) == (2, 1, False)
    for path in (root / "features").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=re.escape(f"{root / 'features'}: no features here, ID.npy for each video")):
        make(root).check()


def test_features_in_the_root_and_in_folders_of_tasks(root):
    for number, path in enumerate(sorted((root / "features").iterdir())):
        place = root / "features" / str(number % 2) / path.name
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    assert len(make(root).records("train")) == 10
    for path in list((root / "features").rglob("*.npy")):
        path.rename(root / path.name)
    for folder in (root / "features" / "0", root / "features" / "1", root / "features"):
        folder.rmdir()
    assert len(make(root).records("train")) == 10


def test_a_rate_that_cannot_be(root):
    with pytest.warns(UserWarning, match=r"at 5 rows a second the features last 0.2 times as long .* rate right\?"):
        make(root, rate=5.0).records("val")
    with pytest.warns(UserWarning, match="the features of (3|10) videos last another time than is annotated"):
        make(root, rate=5.0).check()
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="rate is a number of rows a second"):
            make(root, rate=rate)


def test_check_takes_any_features_but_of_one_kind(root):
    data = Coin(root, num_workers=0, expected=None)
    assert data.check().ok
    damage(root, "test2", np.ones((12, 3)))
    found = Coin(root, num_workers=0, expected=None).check().splits["val"].unreadable
    assert found == {"test2": "test2: its features have rows of 3 numbers, and most have 4. Compute them again."}


def test_check_compares_checksums(root):
    assert make(root).check(decode=True).ok
    damage(root, "train3", rows(3, 12) + 1)
    assert make(root).check(decode=True).splits["train"].changed == ["train3"]


def test_a_model_of_pixels_is_refused(root):
    with pytest.raises(DataError, match="coin is served as rows of features, and the model's spec has none"):
        Coin(root, VideoSpec())
    assert len(Coin(root, VideoSpec(pixels=False), expected=None).records("val")) == 3


def test_identities_tell_annotations_apart(root):
    whole = make(root).records("val")
    changed = dict(itertools.islice(MANY.items(), 11)) | {"test1": entry("testing", 12.0, ("1", "pour", [1.0, 3.75]))}
    other = make(coin(root, changed, features=False)).records("val")
    assert whole[0].identity == other[0].identity
    assert whole[1].identity != other[1].identity
