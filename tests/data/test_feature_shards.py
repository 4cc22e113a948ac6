"""Packed features: the same rows as the files', from a disk or fetched, and nothing that is half there or made up."""

from __future__ import annotations

import json
import os
import pickle
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import pytest

from zoo.data import feature_cache, packed_features
from zoo.data.feature_index import INDEX, as_ids, find_ids, hash_ids, index_folder, read_index, write_index
from zoo.data.feature_settings import ABOUT
from zoo.data.feature_shards import MANIFEST, pack, pool_rows
from zoo.data.packed_features import PackedFeatures
from zoo.errors import DataError, FetchError, VideoError

pytest.importorskip("litdata")


def features(number):
    rows = np.random.default_rng(number).standard_normal((10 + number, 4))
    return rows.astype((np.float16, np.float32)[number % 2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loose")
    (folder / "more").mkdir()
    for number in range(30):
        np.save(folder / ("more" if number > 20 else ".") / f"v{number}.npy", features(number))
    return folder


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "out"
    report = pack(folder, out, shard_bytes=1000)
    assert (report.videos, report.rows, report.skipped) == (30, sum(10 + k for k in range(30)), {})
    assert report.shards > 4
    assert report.bytes == sum(path.stat().st_size for path in out.glob("chunk-*.bin"))
    return out


@pytest.fixture
def copy(packed, tmp_path):
    """To be damaged."""
    (tmp_path / "copy").mkdir()
    for path in packed.iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "copy"


def all_rows(data):
    found = {}
    for number in range(len(data)):
        with data.open(number) as rows:
            found[data.name(number)] = rows.read(0, len(rows))
    return found


def test_rows_are_those_of_the_files(packed):
    data = PackedFeatures(packed, 4)
    found = all_rows(data)
    assert set(found) == {f"v{k}" for k in range(30)}
    assert [data.name(k) for k in range(30)] != sorted(found)  # a run of neighbours is a fair sample
    for number in range(30):
        assert found[f"v{number}"].dtype == np.float16
        assert np.array_equal(found[f"v{number}"], features(number).astype(np.float16))
    number = [data.name(k) for k in range(30)].index("v17")
    with data.open(number) as rows:
        clips = rows.read_clips([2, 11], 5)
    assert np.array_equal(clips, np.stack([features(17).astype("f2")[k : k + 5] for k in (2, 11)]))


def test_litdata_reads_the_folder_too(packed):
    import litdata

    data, ours = (
        litdata.StreamingDataset(str(packed), item_loader=litdata.TemporalArrayLoader()),
        PackedFeatures(packed),
    )
    assert len(data) == 30
    for number in (0, 7, 29):
        with ours.open(number) as rows:
            assert np.array_equal(data[number]["features"], rows.read(0, len(rows)))


def test_single_precision_is_kept_when_asked_for(folder, tmp_path):
    pack(folder, tmp_path / "out", dtype="float32", seed=3)
    found = all_rows(PackedFeatures(tmp_path / "out"))
    assert np.array_equal(found["v5"], features(5))
    assert found["v5"].dtype == np.float32


@pytest.mark.slow
def test_several_processes_pack_the_same(folder, packed, tmp_path):
    pack(folder, tmp_path / "out", shard_bytes=50, workers=2)
    found, expected = all_rows(PackedFeatures(tmp_path / "out")), all_rows(PackedFeatures(packed))
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_is_noted_of_the_extraction_is_packed_along(tmp_path):
    for name, rate in (("features", 5.0), ("more", 2.0)):
        (place := tmp_path / "in" / name).mkdir(parents=True)
        np.save(place / f"{name}.npy", features(1))
        (place / ABOUT).write_text(json.dumps({"rate": rate, "dim": 4, "model": name}))
    with pytest.raises(DataError, match=r"features/extraction\.json says 5 rows a second and .*more/ext.* 2"):
        pack(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "more" / ABOUT).write_text('{"rate": 5, "model": "more"}')
    with pytest.raises(DataError, match=r"is of features and .* of more; pack the features of one network alone"):
        pack(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "more" / ABOUT).unlink()
    pack(tmp_path / "in", tmp_path / "out")
    (tmp_path / "cache").mkdir()
    for root in (tmp_path / "out", f"local://{tmp_path}/out"):
        assert PackedFeatures(root, cache=tmp_path / "cache").settings.rate == 5
    # Packed anew from features that nothing is known of.
    said = json.loads((tmp_path / "out" / MANIFEST).read_text())
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(said | {"lists": []}))
    (tmp_path / "out" / ABOUT).unlink()
    assert PackedFeatures(f"local://{tmp_path}/out", cache=tmp_path / "cache").settings.rate is None


def test_rows_are_pooled_to_fewer_a_second(folder, tmp_path):
    (tmp_path / "in").mkdir()
    for number in (0, 5, 13):
        np.save(tmp_path / "in" / f"v{number}.npy", features(number))
    (tmp_path / "in" / ABOUT).write_text('{"rate": 5, "dim": 4, "model": "s3d_milnce"}')
    pack(tmp_path / "in", tmp_path / "out", dtype="float32", rate=1.25)
    data = PackedFeatures(tmp_path / "out")
    assert (data.settings.rate, data.settings.dim, data.settings.model) == (1.25, 4, "s3d_milnce")
    found = all_rows(data)
    for number in (0, 5, 13):  # 10, 15 and 23 rows: two, three and three are left over
        rows = features(number).astype(np.float32)
        expected = [rows[first : first + 4].mean(0) for first in range(0, len(rows), 4)]
        assert np.allclose(found[f"v{number}"], expected, rtol=0, atol=1e-6)
    pack(tmp_path / "in", tmp_path / "half", rate=1.25)
    assert np.array_equal(all_rows(PackedFeatures(tmp_path / "half"))["v5"], found["v5"].astype(np.float16))
    with pytest.raises(DataError, match=r"in has 5 rows a second, and 6 cannot be made of them"):
        pack(tmp_path / "in", tmp_path / "none", rate=6)
    with pytest.raises(DataError, match=r"has 1 rows a second, and 1\.5 cannot"):  # where nothing is noted
        pack(folder, tmp_path / "none", rate=1.5)
    with pytest.raises(DataError, match="rate is rows of features a second, above 0; got -1"):
        pack(folder, tmp_path / "none", rate=-1)
    pack(folder, tmp_path / "told", rate=1.5, source_rate=3)
    assert PackedFeatures(tmp_path / "told").settings.rate == 1.5
    assert PackedFeatures(tmp_path / "told").rows.sum() == sum((11 + k) // 2 for k in range(30))
    with pytest.warns(UserWarning, match="extracted at 5 rows a second, and the option rate is 4"):
        pack(tmp_path / "in", tmp_path / "against", rate=5 / 3, source_rate=4)


def test_parts_that_are_no_whole_rows_lie_at_the_nearest():
    rows = np.arange(23, dtype=np.float32)[:, None]
    for step in (1, 1.5, 2.5, 7 / 3, 5, 22.9, 100):
        pooled = pool_rows(rows, step)[:, 0]
        borders = [int(step * k + 0.5) for k in range(40)]
        parts = [rows[a:b, 0] for a, b in pairwise(borders) if a < 23]
        assert np.allclose(pooled, [part.mean() for part in parts])


def test_broken_files_are_left_out_by_name(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "good.npy", features(1))
    np.save(folder / "nan.npy", np.where(np.arange(40).reshape(10, 4) == 9, np.nan, 1.0))
    np.save(folder / "large.npy", np.full((10, 4), 1e5, np.float32))
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:150])
    report = pack(folder, tmp_path / "out")
    assert report.videos == 1
    assert set(report.skipped) == {"nan", "large", "cut"}
    assert "row 2 holds NaN" in report.skipped["nan"]
    assert "numbers that float16 does not; pack it as float32" in report.skipped["large"]
    assert PackedFeatures(tmp_path / "out").skipped == report.skipped
    assert pack(folder, tmp_path / "float32", dtype="float32").videos == 2
    (folder / "good.npy").unlink()
    with pytest.raises(DataError, match=r"none of the 3 files can be packed; the first: .* is truncated|.* holds"):
        pack(folder, tmp_path / "none")


def test_what_cannot_be_packed_leaves_nothing(folder, tmp_path, monkeypatch):
    np.save(tmp_path / "other.npy", np.ones((5, 3)))
    np.save(tmp_path / "one.npy", np.ones((5, 4)))
    with pytest.raises(DataError, match=r"rows of . numbers beside rows of .; pack the features of one network alone"):
        pack(tmp_path, tmp_path / "out" / "deep")
    assert list((tmp_path / "out").iterdir()) == []
    calls = []

    def interrupted(path):
        calls.append(path)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return np.ones((50, 4), np.float32)

    monkeypatch.setattr("zoo.data.feature_shards.read_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "out" / "deep", shard_bytes=1000)
    assert list((tmp_path / "out").iterdir()) == []


def test_packing_refuses_what_it_should(folder, packed, tmp_path):
    with pytest.raises(DataError, match="is there already"):
        pack(folder, packed)
    with pytest.raises(DataError, match=r"no features \(.npy\)"):
        pack(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        pack(tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="not 'int8'"):
        pack(folder, tmp_path / "out", dtype="int8")
    (tmp_path / "a").mkdir()
    for place in (tmp_path, tmp_path / "a"):
        np.save(place / "twice.npy", features(0))
    with pytest.raises(DataError, match="of the same video"):
        pack(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"dtype": "|O"},
        {"dim": 0},
        {"dim": "4"},
        {"shards": [{"file": "../chunk-0-0.bin", "bytes": 9, "sha256": "0" * 64}]},
        {"shards": [{"file": "chunk-0-0.bin", "bytes": "9", "sha256": "0" * 64}]},
        {"lists": ["../../etc/hosts"]},
        {"videos": 31},
        {"dim": 400},
        {"shards": []},
        {"version": 2},
        {"skipped": []},
    ],
)
def test_a_manifest_from_anybody_is_not_believed(copy, change):
    said = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(said | change))
    with pytest.raises(DataError, match=r"pack.* again"):
        PackedFeatures(copy)


def test_folders_that_are_not_whole_are_refused(copy):
    table = read_index(copy / INDEX, ("rows", "shard", "offset"))
    for column, value in (("shard", 99), ("offset", 10**9), ("rows", 2**62), ("rows", -1)):
        wrong = table.copy()
        wrong[column][3] = value
        with open(copy / INDEX, "wb") as file:
            np.save(file, wrong)
        with pytest.raises(DataError, match=r"pack the features again|negative numbers"):
            PackedFeatures(copy)
    with open(copy / INDEX, "wb") as file:
        np.save(file, np.array([{"id": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as an index"):
        PackedFeatures(copy)
    (copy / INDEX).write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as an index"):
        PackedFeatures(copy)
    (copy / INDEX).unlink()
    with pytest.raises(DataError, match="there is no index"):
        PackedFeatures(copy)
    (copy / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"there is no .*features\.json"):
        PackedFeatures(copy)


def test_a_shard_that_is_gone_or_cut_is_named(copy):
    data = PackedFeatures(copy)
    os.truncate(copy / data.shards[0].file, 100)
    (copy / data.shards[1].file).unlink()
    for shard, message in ((0, "is truncated"), (1, "cannot be opened")):
        number = int(np.flatnonzero(data.shard == shard)[0])
        with pytest.raises(VideoError, match=f"{data.shards[shard].file} {message}"), data.open(number):
            pass
    with data.open(int(np.flatnonzero(data.shard == 2)[0])) as rows:
        assert np.isfinite(rows.read(0, len(rows))).all()
    with pytest.raises(DataError, match="rows of 4 numbers, and the model wants 5"):
        PackedFeatures(copy, 5)


def test_few_shards_stay_open_and_none_closes_under_a_reader(packed, monkeypatch):
    monkeypatch.setattr(packed_features, "_OPEN", 2)
    data = PackedFeatures(packed)
    expected = all_rows(PackedFeatures(packed))
    assert len(all_rows(data)) == 30
    assert len(data._open) == 2
    with ExitStack() as stack:
        found = [(data.name(k), stack.enter_context(data.open(k))) for k in range(30)]
        assert all(np.array_equal(rows.read(0, len(rows)), expected[name]) for name, rows in found)
        assert len(data._open) == len(data.shards)
    all_rows(data)
    assert len(data._open) == 2
    other = pickle.loads(pickle.dumps(data))
    assert not other._open
    assert np.array_equal(all_rows(other)["v3"], expected["v3"])


def test_shards_are_fetched_once_and_when_they_are_wanted(packed, tmp_path):
    url = f"local://{packed}"
    data = PackedFeatures(url, cache=tmp_path)
    assert not list(data.root.glob("chunk-*.bin"))
    number = int(np.flatnonzero(data.shard == 3)[0])
    expected = PackedFeatures(packed)
    with data.open(number) as rows, expected.open(number) as others:
        assert np.array_equal(rows.read(0, len(rows)), others.read(0, len(others)))
    assert [path.name for path in data.root.glob("chunk-*.bin")] == [data.shards[3].file]
    data.prepare(np.arange(30))
    assert len(list(data.root.glob("chunk-*.bin"))) == len(data.shards)
    taken = (data.root / data.shards[0].file).stat().st_ino
    again = PackedFeatures(f"local:/{packed}", cache=tmp_path)  # as a path has it
    again.prepare(np.arange(30))
    assert {k: v.tolist() for k, v in all_rows(again).items()} == {k: v.tolist() for k, v in all_rows(expected).items()}
    assert (again.root / data.shards[0].file).stat().st_ino == taken
    assert not list(data.root.glob(".*.part"))


def test_the_cache_holds_no_more_than_it_may(packed, tmp_path):
    size = max(shard.bytes for shard in PackedFeatures(packed).shards)
    data = PackedFeatures(f"local://{packed}", cache=tmp_path, cache_gb=2.5 * size / 1e9)
    assert set(all_rows(data)) == {f"v{k}" for k in range(30)}
    assert sum(path.stat().st_size for path in data.root.glob("chunk-*.bin")) <= 2.5 * size


def test_what_comes_is_what_was_packed(copy, tmp_path, monkeypatch):
    data = PackedFeatures(f"local://{copy}", cache=tmp_path / "cache")
    shard = copy / data.shards[0].file
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(VideoError, match=r"is not what was packed \(its SHA-256 differs\)"), data.open(0):
        pass
    assert not list(data.root.glob("chunk-*.bin"))
    shard.unlink()
    monkeypatch.setattr(feature_cache.time, "sleep", lambda seconds: None)
    with pytest.raises(FetchError, match=r"cannot be fetched \(FileNotFoundError"), data.open(0):
        pass
    with pytest.raises(FetchError, match="cannot be fetched"):
        PackedFeatures(f"local://{tmp_path}/nowhere", cache=tmp_path / "cache")


def test_ids_are_found_by_their_hashes():
    ids = as_ids([f"video{k:05d}" for k in range(5000)] + ["-_é", ""])
    assert len(np.unique(hash_ids(ids))) == 5002
    assert np.array_equal(hash_ids(ids.astype("S40")), hash_ids(ids))
    assert 0.08 < (hash_ids(ids) < np.uint64(2**64 // 10)).mean() < 0.12
    assert int(hash_ids(as_ids(["aaaaaaaaaa1"]))[0]) == 17205223776523956847  # what is held out hangs on it
    wanted = as_ids(["video00007", "nobody", "-_é", "a much longer name than all of them"])
    assert find_ids(wanted, ids).tolist() == [7, -1, 5000, -1]
    assert find_ids(wanted, ids[:0]).tolist() == [-1] * 4
    assert find_ids(ids[:0], ids).tolist() == []


def test_an_index_says_what_is_whole(tmp_path):
    for number in range(5):
        np.save(tmp_path / f"v{number}.npy", features(number))
    os.truncate(tmp_path / "v2.npy", 130)
    assert list(index_folder(tmp_path)) == ["v2"]
    table = read_index(tmp_path / INDEX)
    assert table["id"].tolist() == [b"v0", b"v1", b"v3", b"v4"]
    assert table["rows"].tolist() == [10, 11, 13, 14]
    with pytest.raises(DataError, match="twice"):
        write_index(tmp_path, ["a", "a"], [1, 2])
    with pytest.raises(DataError, match="is not an index"):
        read_index(tmp_path / INDEX, ("rows", "shard"))
