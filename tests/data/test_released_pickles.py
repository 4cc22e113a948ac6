"""The release's pickles: read as Python 2 wrote them, and nothing in them is ever run."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools

import numpy as np
import pytest

from tests.data.collision_tree import python2, write_lists
from zoo.data.collisions.released import read_index, read_plain
from zoo.errors import DataError

GROUPS = {"train": [0, 1, 2, 3, 4], "shape_test": [5, 6, 7, 8, 9], "parameter_test": [0, 1, 10, 3, 4]}
NAMES = [f"sequence{number}" for number in range(11)]


def batch(**changes):
    """What batch.p holds, one mini-batch in every list."""
    return {key: [[list(group)] for group in GROUPS.values()] for key in ("mass", "force", "friction")} | changes


def plain(tmp_path, data):
    (tmp_path / "x.p").write_bytes(data)
    return read_plain(tmp_path / "x.p")


def test_what_python_2_wrote_is_read(tmp_path):
    # cPickle.dumps([["caf\xe9/1", 2L, 0.5, None], {"a": (1, -7)}], 0) of Python 2.7, with its memo
    text = b"(lp1\n(lp2\nS'caf\\xe9/1'\np3\naL2L\naF0.5\naNaa(dp4\nS'a'\n(I1\nI-7\ntp5\nsag3\na."
    assert plain(tmp_path, text) == [["caf\xe9/1", 2, 0.5, None], {"a": (1, -7)}, "caf\xe9/1"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_are_read(tmp_path, protocol):
    value = [["name", 1, 2.5, True, None], {"mass": [[[0, 300, 70000, -1]], [], ()]}, {}, "", "\xe9\u20ac"]
    assert plain(tmp_path, pickle.dumps(value, protocol)) == value


class Evil:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_class_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"x\.p is refused: it wants '?posix'?\.'?system'? to be called"):
        plain(tmp_path, pickle.dumps([Evil()], protocol))
    with pytest.raises(DataError, match="refused"):
        plain(tmp_path, pickle.dumps(np.arange(3), protocol))
    assert not (tmp_path / "harmed").exists()


def test_no_instruction_calls_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {"GLOBAL": b"cos\nsystem\n", "INST": b"(S'touch harmed'\nios\nsystem\n"}
    for op in pickletools.opcodes:
        if op.name == "STOP":
            continue
        # with a text, a tuple, a list and a dictionary on the stack, whatever it takes
        body = b"(lS'os'\nS'system'\n(S'touch harmed'\nt" + known.get(op.name, op.code.encode("latin-1") + b"1\n1\n")
        try:
            plain(tmp_path, body + b"R.")
        except DataError:
            continue
        raise AssertionError(f"{op.name} passed with a call behind it")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"(d(tI1\ns.", "key of a dictionary"),  # hashing tuples of tuples can take for ever
        (b"}]I1\ns.", "key of a dictionary"),
        (b"]I1\nI2\ns.", "where a dictionary belongs"),
        (b"T\xff\xff\xff\x7f.", "ends early"),  # a text of 2 GB
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f].", "ends early"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"", "damaged"),
        (b"not a pickle", "refused|damaged"),
    ],
)
def test_what_a_pickle_claims_is_bounded(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        plain(tmp_path, data)


def test_damage_is_an_error_of_the_file_or_harmless(tmp_path):
    data, rng = python2([[name, 1, 0.5] for name in NAMES]), np.random.default_rng(0)
    for end in range(0, len(data), 3):
        with pytest.raises(DataError, match=r"x\.p"):
            plain(tmp_path, data[:end])
    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(0, 256)
        with contextlib.suppress(DataError):  # and nothing else
            plain(tmp_path, bytes(broken))


def test_lists_become_an_index(tmp_path):
    write_lists(tmp_path, [[f"there/{name}", 7] for name in NAMES], batch())
    index = read_index(tmp_path)
    assert index.folders == [tmp_path / "there" / name for name in NAMES]
    assert {split: found.tolist() for split, found in index.mini_batches["speed"].items()} == {
        split: [group] for split, group in GROUPS.items()
    }
    assert index.trained.tolist() == [True] * 5 + [False] * 6
    assert index.scales[:, 1].tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 3]


def test_what_there_is_more_of_is_not_looked_at_and_what_lacks_is_named(tmp_path):
    more = batch(restitution=[[]], mass=[[list(group)] for group in GROUPS.values()] + [[[7]]])
    write_lists(tmp_path, tuple((name, 1, 2.5) for name in NAMES), more)
    assert read_index(tmp_path).mini_batches["mass"].keys() == GROUPS.keys()
    write_lists(tmp_path, [[name] for name in NAMES], {"mass": more["mass"], "speed": more["force"]})
    with pytest.raises(DataError, match=r"the keys .*'speed'.*must have mass, force, friction"):
        read_index(tmp_path)


def test_a_sequence_has_no_scale_where_no_list_tells_or_two_contradict(tmp_path):
    write_lists(
        tmp_path, [[name] for name in NAMES], batch(force=[[], [], []], mass=lists([*range(5)], [*range(1, 6)]))
    )
    index = read_index(tmp_path)
    assert index.mini_batches["speed"]["train"].shape == (0, 5)
    assert np.isnan(index.scales).sum(axis=0).tolist() == [9, 11, 0]
    assert index.scales[[0, 5], 0].tolist() == [1, 5]


def lists(*groups):
    return [list(groups), [], []]


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ([["../other"]] * 11, {}, r"data\.p, sequence 0: '\.\./other' does not lie in"),
        ([["/etc"]] * 11, {}, "does not lie in"),
        ([["."]] * 11, {}, "does not lie in"),
        ([["a\\b"]] * 11, {}, "does not lie in"),
        ([[3]] * 11, {}, "begins with the name of a folder"),
        (["plain"] * 11, {}, "begins with the name of a folder"),
        ([[]] * 11, {}, "begins with the name of a folder"),
        ({}, {}, "holds no list of sequences"),
        ([], {}, "holds no list of sequences"),
        (None, {"mass": lists([0, 1, 2, 3])}, r"batch\.p, 'mass', train, mini-batch 0: 5 sequences"),
        (None, {"mass": lists([0, 1, 2, 3, 4, 5])}, "5 sequences make a mini-batch"),
        (None, {"force": lists(GROUPS["train"], 3)}, "'force', train, mini-batch 1: 5 sequences"),
        (None, {"mass": lists([0, 1, 2, 3, 11])}, "11 is no number of a sequence; there are 11"),
        (None, {"mass": lists([0, 1, 2, 3, -1])}, "-1 is no number"),
        (None, {"mass": lists([0, 1, 2, 3, "4"])}, "'4' is no number"),
        (None, {"mass": lists([0, 1, 2, 3, 3])}, "names a sequence twice"),
        (None, {"mass": [[], []]}, "three lists"),
        (None, {"mass": [[], [], 5]}, "a list of mini-batches is wanted"),
        (None, {"force": 3}, "'force'.*three lists"),
    ],
)
def test_wrong_lists_are_refused_by_name(tmp_path, data, changes, message):
    write_lists(tmp_path, [[name] for name in NAMES] if data is None else data, batch(**changes))
    with pytest.raises(DataError, match=message):
        read_index(tmp_path)


def test_one_list_in_many_places_does_not_unfold(tmp_path):
    write_lists(tmp_path, [[name] for name in NAMES], batch())
    many = b"(lp0\n" + b"(lp1\n" + b"".join(b"I%d\na" % k for k in range(5)) + b"a" + b"g1\na" * 20_000
    splits = b"(l" + many + b"a(la(la"
    (tmp_path / "info/batch.p").write_bytes(
        b"(d" + b"".join(b"S'%s'\n" % key + splits + b"s" for key in (b"mass", b"force", b"friction")) + b"."
    )
    with pytest.raises(DataError, match="unfolds into more numbers than it has bytes"):
        read_index(tmp_path)


def test_lists_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_index(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"there is no .*data\.p, .*not whole .0 sequences are there.. Do this\."):
        read_index(tmp_path, "Do this.")
