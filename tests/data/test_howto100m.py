"""HowTo100M's features by its list, by an index, by a folder alone and packed: what is trained on, and how often."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from tests.data.learner import Learner, seen_in_tests
from zoo.data.feature_index import as_ids, hash_ids
from zoo.data.feature_shards import pack
from zoo.data.howto100m import HowTo100MFeatures
from zoo.data.howto100m_lists import read_excluded, read_taxonomy
from zoo.errors import DataError
from zoo.spec import FeatureSpec, VideoSpec

SPEC = VideoSpec(features=FeatureSpec(dim=3))
HEADER = "video_id,category_1,category_2,rank,task_id\n"
IDS = [f"{'-_'[k % 2]}id{k:08d}" for k in range(60)]


def category(number):
    """Thirty cars, twenty drinks and ten foods; two subcategories have the same name."""
    return (
        ("Cars", "Misc") if number < 30 else ('"Food, drinks"', "Misc") if number < 50 else ('"Food, drinks"', "Soup")
    )


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "howto" / "features"
    folder.mkdir(parents=True)
    for number, name in enumerate(IDS):
        rows = np.full((30 + number, 3), 5, np.float16)
        rows[:, 0], rows[:, 1] = number, np.arange(len(rows))
        np.save(folder / f"{name}.npy", rows)
    lines = [f"{name},{','.join(category(k))},{k},{1000 + k // 10}\n" for k, name in enumerate(IDS)]
    (folder.parent / "HowTo100M_v1.csv").write_text(HEADER + "".join(lines) + lines[3])  # one is there twice
    return folder.parent


def make(root, **options):
    return HowTo100MFeatures(
        root, **{"spec": SPEC, "batch_size": 16, "num_workers": 0, "min_videos": 10, "val_share": 0.1, **options}
    )


def names(data, split="train"):
    return {record.name for record in data.records(split)}


def drawn(data, epochs=40):
    """The numbers of the videos in the batches of some epochs, as the files hold them."""
    loader, found = data.train_dataloader(), []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += [row for batch in loader for row in batch["features"][:, 0, 0].long().tolist()]
    return np.array(found)


def test_subcategories_are_drawn_alike(root):
    data = make(root, min_videos=0, val_share=0)
    assert len(data.records("train")) == 60
    assert data.records("train")[49].label == data.records("train")[30].label != data.records("train")[0].label
    (first, *_) = data.train_dataloader()
    assert first["features"].shape == (16, 5, 3)
    assert (first["features"][:, 0, 0] == first["index"]).all()
    assert first["video_id"] == [IDS[k] for k in first["index"].tolist()]
    found = drawn(data)
    shares = np.bincount(np.searchsorted([30, 50], found, side="right")) / len(found)
    assert np.abs(shares - 1 / 3).max() < 0.04
    assert np.bincount(found[found < 30]).min() > 0


def test_small_subcategories_are_dropped(root):
    assert names(make(root, min_videos=20, val_share=0)) == set(IDS[:50])
    (root / "features" / f"{IDS[0]}.npy").unlink()
    make(root).check()  # now an index says what is there, and only that counts
    with pytest.warns(UserWarning, match=r"1 of 30 videos of split 'train' are missing"):
        assert names(make(root, min_videos=21, val_share=0)) == set(IDS[1:30])
    with pytest.raises(DataError, match="no subcategory has 30 videos; the largest that is there has 29"):
        make(root, min_videos=30).records("train")


def test_some_videos_are_held_out_by_their_ids(root):
    data = make(root)
    held_out = {name for name, h in zip(IDS, hash_ids(as_ids(IDS)).tolist(), strict=True) if h < 0.1 * 2**64}
    assert 1 <= len(held_out) <= 15
    assert names(data, "val") == held_out
    assert names(data) == set(IDS) - held_out
    (batch,) = data.val_dataloader()
    (again,) = make(root).val_dataloader()
    assert torch.equal(batch["features"], again["features"])
    assert batch["index"].tolist() == list(range(len(held_out)))
    (other,) = make(root, seed=1).val_dataloader()
    assert not np.array_equal(batch["times"], other["times"])
    assert len(names(make(root, val_share=1e-9), "val")) == 1
    whole = make(root, val_share=0)
    assert whole.val_dataloader() == []
    with pytest.raises(DataError, match="val_share is 0"):
        whole.setup("test")


def test_what_other_data_sets_test_on_is_left_out(root, tmp_path):
    (tmp_path / "COIN.json").write_text('{"database": {"%s": {"class": "MakeTea"}, "other": {}}}' % IDS[0])  # noqa: UP031
    (tmp_path / "videos.csv").write_text(f"70001,{IDS[1]},http://www.example.org/\n70001,else,http://x/\n")
    (tmp_path / "mine.txt").write_text(f"\n{IDS[2]}\n")
    (tmp_path / "listed.csv").write_text(f"rank,video_id\n1,{IDS[3]}\n")
    places = [str(tmp_path / name) for name in ("COIN.json", "videos.csv", "mine.txt", "listed.csv")]
    assert names(make(root, exclude=places, val_share=0)) == set(IDS[4:])
    assert names(make(root, exclude=places[0], val_share=0)) == set(IDS[1:])
    assert read_excluded(tmp_path / "videos.csv").tolist() == [IDS[1].encode(), b"else"]
    (tmp_path / "COIN.json").write_text("{}")
    with pytest.raises(DataError, match="no 'database'"):
        make(root, exclude=places).records("train")
    with pytest.raises(DataError, match=r"no list .*gone\.txt"):
        make(root, exclude="gone.txt").records("train")


def test_missing_videos_are_met_when_they_are_drawn(root):
    for name in IDS[::2]:
        (root / "features" / f"{name}.npy").unlink()
    os.truncate(root / "features" / f"{IDS[1]}.npy", 150)
    data = make(root, val_share=0)
    assert len(data.records("train")) == 60  # nothing was looked for
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sum(len(batch["features"]) for batch in batches) == 48
    assert all(index % 2 and index > 1 for batch in batches for index in batch["index"].tolist())
    assert len(data.unreadable) > 10
    assert all(number % 2 == 0 or number == 1 for number in data.unreadable)
    assert "no such file" in data.unreadable[next(k for k in data.unreadable if k != 1)]
    report = make(root, val_share=0).check()
    split = report.splits["train"]
    assert (split.expected, split.missing) == (60, 30)
    assert list(split.unreadable) == [IDS[1]]
    assert "truncated" in split.unreadable[IDS[1]]
    with pytest.warns(UserWarning, match="31 of 60"):  # and from now on the index tells
        assert names(make(root, val_share=0, min_videos=0)) == set(IDS[3::2])


def test_check_looks_at_files_again_and_reads_them_when_asked(root):
    (root / "HowTo100M_v1.csv").unlink()
    assert make(root).check(decode=True).ok
    rows = np.ones((40, 3), np.float16)
    rows[7, 1] = np.nan
    np.save(root / "features" / "later.npy", rows)
    assert "later" not in names(make(root)) | names(make(root), "val")
    os.utime(root / "features" / "features.index", (0, 0))
    with pytest.warns(UserWarning, match="files came or went since it was written"):
        make(root).records("train")
    report = make(root).check()
    assert report.ok
    assert sum(split.expected for split in report.splits.values()) == 61
    assert "later" in names(make(root)) | names(make(root), "val")
    (problem,) = [
        problem for split in make(root).check(decode=True).splits.values() for problem in split.unreadable.values()
    ]
    assert "row 7 holds NaN" in problem
    assert "later" not in names(make(root)) | names(make(root), "val")


def test_a_folder_of_files_is_enough(root):
    folder = root / "features"
    data = make(folder)
    assert names(data) | names(data, "val") == set(IDS)
    model = Learner("index", "features")
    model.fit(data, epochs=2)
    assert len(model.trained) == 2 * len(data.records("train")) // 16 * 16 == 96
    assert sorted(set(model.validated)) == list(range(len(data.records("val"))))
    batches = list(data.train_dataloader())
    assert all(batch["category"].tolist() == [-1] * len(batch["index"]) for batch in batches)
    seen = [index for batch in batches for index in batch["index"].tolist()]
    assert len(set(seen)) == len(seen)  # an epoch is every video once
    assert sorted(seen_in_tests(lambda: make(folder))) == list(range(len(data.records("val"))))
    (folder / "x").mkdir()
    np.save(folder / "x" / "alone.npy", np.ones((20, 3), np.float16))
    assert make(folder / "x").check().ok  # though none is held out
    (folder / "x" / "alone.npy").unlink()
    (folder / "x" / "features.index").unlink()
    with pytest.raises(DataError, match="holds no features"):
        make(folder / "x").records("train")
    with pytest.raises(DataError, match="no such folder"):
        make(folder / "y").records("train")


def test_runs_resume_in_mid_epoch(root):
    data = make(root, val_share=0)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = [batch["features"] for batch in batches]
    again = make(root, val_share=0, num_workers=2).train_dataloader()
    again.load_state_dict(state)
    again.sampler.set_epoch(3)
    assert all(torch.equal(a, b["features"]) for a, b in zip(rest, again, strict=True))
    assert len(rest) == 2


def test_packed_features_give_the_same_clips(root, tmp_path):
    (root / "features" / "short.npy").write_bytes(b"")
    report = pack(root, tmp_path / "packed", shard_bytes=4000)
    assert (report.videos, list(report.skipped)) == (60, ["short"])
    assert report.shards > 3
    loose, packed = make(root, val_share=0), make(tmp_path / "packed", val_share=0)
    assert [r.name for r in packed.records("train")] == IDS  # by the csv, which was packed along
    a, b = (data._training_data().__getitems__([(k, 0) for k in range(60)]) for data in (loose, packed))
    assert torch.equal(a["features"], b["features"])
    assert a["video_id"] == b["video_id"]
    loader = packed.train_dataloader()
    assert sum(len(batch["index"]) for batch in loader) == 48
    assert loader.sampler.places.max() == report.shards - 1
    assert packed.check(decode=True).ok
    (tmp_path / "packed" / "HowTo100M_v1.csv").unlink()
    bare = make(tmp_path / "packed", val_share=0)
    with pytest.warns(UserWarning, match="1 of 61"):
        assert names(bare) == set(IDS)
    assert list(bare.check().splits["train"].unreadable) == ["short"]
    shard = packed._packed.shards[1].file
    (tmp_path / "packed" / shard).write_bytes((tmp_path / "packed" / shard).read_bytes()[:-1] + b"\0")
    assert make(tmp_path / "packed").check(decode=True).splits["train"].changed == [shard]


def test_pooled_features_give_the_clips_of_the_same_seconds(root, tmp_path):
    (root / "features" / "extraction.json").write_text('{"rate": 2}')
    pack(root, tmp_path / "packed", rate=0.5, dtype="float32")
    data = make(tmp_path / "packed", val_share=0)
    assert data.rate == 0.5
    batch = data._training_data().__getitems__([(k, 0) for k in range(60)])
    # Row k of the files is k; the mean of those of a clip is their middle, cut where the video ends.
    rows = 2 * torch.as_tensor(batch["times"])
    middle = (rows[..., 0] + rows[..., 1] - 1) / 2
    seen = torch.where(batch["label"][:, None] == 1, batch["features"][..., 1], batch["features"][..., 1].flip(1))
    assert torch.allclose(seen.double(), middle)
    assert (rows[..., 1] - rows[..., 0]).unique().tolist() == [4]
    assert (rows[..., 0] % 4 == 0).all()


@pytest.mark.filterwarnings("ignore:.*left out")
def test_videos_that_are_too_short_are_left_out(root):
    rows = np.ones((12, 3), np.float16)
    np.save(root / "features" / f"{IDS[0]}.npy", rows)
    make(root).check()
    with pytest.warns(UserWarning, match="1 videos are left out, for they have too few rows for 5 clips"):
        assert names(make(root, val_share=0)) == set(IDS[1:])
    untrimmed = make(root, val_share=0, spec=VideoSpec(features=FeatureSpec(dim=3, trim=0)))
    assert names(untrimmed) == set(IDS)


def test_a_path_may_lie_anywhere_in_the_folder_but_not_outside(root):
    (root / "features" / "a").mkdir()
    (root / "features" / f"{IDS[0]}.npy").rename(root / "features" / "a" / "x.npy")
    lines = [f"{name},Cars,Misc,1,1, {'a/x.npy' if name == IDS[0] else f'{name}.npy'}\n" for name in IDS[:20]]
    text = HEADER.strip() + ", path\n" + "".join(lines) + "bad,Cars,Misc,1,1,../../bad.npy\n"
    (root / "HowTo100M_v1.csv").write_text(text)
    batch = make(root, val_share=0)._samples("train").__getitems__([0, 1, 20])
    assert batch["features"][:, 0, 0].tolist() == [0, 1]
    assert "does not lie in" in dict(batch["unreadable"])[20]
    (root / "HowTo100M_v1.csv").write_text("video_id\n../features/" + IDS[1] + "\n" + IDS[2] + "\n")
    batch = make(root, val_share=0)._samples("train").__getitems__([0, 1])
    assert batch["features"][:, 0, 0].tolist() == [2]
    assert "is not the name of a folder" in dict(batch["unreadable"])[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,category\na,b\n", "has no column video_id"),
        (HEADER + "a,b,c,1,2\na,b,c,1\n", "line 3: 4 columns, and the first line names 5"),
        (HEADER + "a,b,c,1,2\n,b,c,1,2\n", "line 3: no video_id"),
        (HEADER + 'a,"b,c,1,2\n', "line 2: unexpected end"),
        (HEADER, "names no video"),
        ("video_id\n\xff\n", "cannot be read as a list"),
    ],
)
def test_lists_that_are_not_whole_are_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=message):
        read_taxonomy(tmp_path / "list.csv")


def test_the_list_as_others_write_it(tmp_path):
    text = (
        '\ufeffvideo_id,category_1,category_2,rank,task\r\na,"B ""b"", c",D,1,2\r\na,x,y,1,2\r\nlonger,é,D,1,2\r\n\r\n'
    )
    (tmp_path / "list.csv").write_bytes(text.encode())
    table = read_taxonomy(tmp_path / "list.csv")
    assert table.ids.tolist() == [b"a", b"longer"]
    assert [table.categories[k] for k in table.category] == [('B "b", c', "D"), ("é", "D")]
    assert table.paths is None


def test_long_lists_are_read_alike_in_blocks(tmp_path, monkeypatch):
    lines = [f"v{'x' * (k % 7)}{k},C{k % 3},D{k % 5},{k},{k}" for k in range(500)]
    expected = [line.split(",")[0].encode() for line in lines]
    pairs = [(f"C{k % 3}", f"D{k % 5}") for k in range(500)]
    for end, quoted in (("\n", False), ("\r\n", False), ("\n", True)):
        text = [f'"{a}",{b}' if quoted and k % 50 == 7 else line for k, line in enumerate(lines)
                for a, b in [line.split(",", 1)]]  # fmt: skip
        (tmp_path / "list.csv").write_bytes((HEADER.strip() + end + end.join(text) + end * 2).encode())
        for block in (1 << 20, 700, 64):
            monkeypatch.setattr("zoo.data.howto100m_lists._BLOCK", block)
            table = read_taxonomy(tmp_path / "list.csv")
            assert table.ids.tolist() == expected
            assert [table.categories[k] for k in table.category] == pairs
    (tmp_path / "list.csv").write_text(HEADER + "\n".join(lines) + "\nv," + "x" * 5000 + ",D,1,2\n")
    with pytest.raises(DataError, match="a line of more than"):
        read_taxonomy(tmp_path / "list.csv")
    monkeypatch.setattr("zoo.data.howto100m_lists._BLOCK", 1 << 20)
    with pytest.raises(DataError, match="line 502: something of more than 4096 bytes"):
        read_taxonomy(tmp_path / "list.csv")


def test_models_of_other_things_are_refused(root):
    for spec, message in (
        (VideoSpec(), "the model looks at pixels"),
        (VideoSpec(features=FeatureSpec(dim=3), pixels=False), "the model looks at none"),
        (VideoSpec(features=FeatureSpec(dim=3, samples="rows")), "wants samples of 'rows'"),
        (
            VideoSpec(features=FeatureSpec(dim=4)),
            "100 videos in a row could not be read; .*rows of 3 numbers, and 4 are",
        ),
    ):
        with pytest.raises(DataError, match=message):
            Learner("index", "features").fit(make(root, spec=spec))
    for options in ({"rate": 0}, {"val_share": 1.0}, {"min_videos": -1}):
        with pytest.raises(DataError, match=f"{next(iter(options))} "):
            make(root, **options)
