"""Files of features: what is read of them, and that nothing broken, foreign or dangerous is ever used."""

from __future__ import annotations

import os
import pickle
import re

import numpy as np
import pytest

from zoo.data.feature_files import FeatureFile, feature_path, open_features, read_features
from zoo.errors import VideoError

ROWS = np.arange(60, dtype=np.float32).reshape(12, 5) / 7


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_that_were_stored(tmp_path, dtype, order):
    path = tmp_path / "-_a.npy"
    np.save(path, ROWS.astype(dtype, order=order))
    expected = np.load(path).astype(np.float32)
    assert read_features(path, 5).dtype == np.float32
    assert np.array_equal(read_features(path, 5), expected)
    mapped = open_features(path, 5)
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.dtype(dtype)
    assert np.array_equal(mapped[3:7].astype(np.float32), expected[3:7])
    with FeatureFile(path) as file:
        assert len(file) == 12
        assert np.array_equal(file.read(3, 7).astype(np.float32), expected[3:7])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, ROWS, version)
    assert np.array_equal(read_features(tmp_path / "a.npy"), ROWS)


def whole(array, **options):
    def write(path):
        np.save(path, array, **options)

    return write


def cut(size):
    def write(path):
        np.save(path, ROWS)
        os.truncate(path, size)

    return write


def raw(header, version=b"\x01\x00"):
    def write(path):
        path.write_bytes(b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + bytes(1000))

    return write


BROKEN = {
    "no such file": lambda path: None,
    "is empty": lambda path: path.write_bytes(b""),
    "is not a NumPy file": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "is not a file": lambda path: os.mkfifo(path),
    "is not a file;": lambda path: path.mkdir(),
    "12 rows of 20 bytes do not fit into 367 bytes": cut(367),
    "its header is not whole": cut(100),
    "its header is not whole.": cut(9),
    "type '|O', not real numbers": whole(np.array([[Trap()]], dtype=object), allow_pickle=True),
    "type '<i8', not real": whole(np.ones((3, 5), np.int64)),
    r"shape \(12,\)": whole(ROWS[:, 0]),
    r"shape \(2, 6, 5\)": whole(ROWS.reshape(2, 6, 5)),
    "has no rows": whole(ROWS[:0]),
    "rows of 4 numbers, and 5 are expected": whole(ROWS[:, :4]),
    "rows of 0 numbers": whole(ROWS[:, :0]),
    "999999999999 rows of 20 bytes do not fit": raw(
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 5), }\n"
    ),
    "header cannot be read": raw(b"__import__('os').mkdir('sprung')"),
    "header cannot be read.": raw(b"(" * 5000),
    r"shape \(-1, 5\)": raw(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5), }"),
    "row 7 holds NaN or infinity": whole(np.where(np.arange(60).reshape(12, 5) == 38, np.nan, ROWS)),
    "row 0 holds NaN or infinity": whole(np.where(np.arange(60).reshape(12, 5) == 4, np.inf, ROWS).astype("f2")),
    "row 2 holds NaN or infinity": whole(np.where(np.arange(60).reshape(12, 5) == 12, 1e300, ROWS.astype("f8"))),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_wrong_is_said_by_name(tmp_path, monkeypatch, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "video.npy"
    BROKEN[message](path)
    with pytest.raises(VideoError, match=rf"{re.escape(str(path))}.*{message.rstrip('.;')}"):
        read_features(path, 5)
    assert not (tmp_path / "sprung").exists()


def test_nothing_stays_open(tmp_path):
    def open_files():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    np.save(tmp_path / "good.npy", ROWS)
    np.save(tmp_path / "bad.npy", ROWS[:0])
    before = open_files()
    read_features(tmp_path / "good.npy")
    with pytest.raises(VideoError):
        read_features(tmp_path / "bad.npy")
    assert open_files() == before


def test_large_but_finite_rows_are_used(tmp_path):
    np.save(tmp_path / "a.npy", np.full((12, 5), 3e38, np.float32))
    assert np.isfinite(read_features(tmp_path / "a.npy")).all()


def test_features_may_have_a_folder_of_their_own(tmp_path):
    assert feature_path(tmp_path, "x") == tmp_path / "x.npy"
    (tmp_path / "features").mkdir()
    assert feature_path(tmp_path, "x") == tmp_path / "features" / "x.npy"
