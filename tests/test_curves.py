"""Files of scores: written, read back to the last bit, refused by name; and the clips that rank first and last."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.curves import Clip, iterate_scores, rank, read_categories, read_scores, write_scores
from zoo.errors import DataError, ZooError
from zoo.methods.actionness_curves import Curve


def curve(name, scores, rate=5.0, duration=None):
    starts = np.arange(len(scores)) / rate
    times = np.stack([starts, starts + 1 / rate], axis=1)
    scores = np.asarray(scores, dtype=np.float32)
    return name, Curve(name, times, scores, len(scores) / rate if duration is None else duration)


def several():
    """Three videos with the names that ids and files may have, of rates that decimals do not end for."""
    draw = np.random.default_rng(0)
    sorts = (("-dQw_9aB", 1, 3), ('a "b", 50%s', 7, 5), ("caf\u00e9", 4, 1.5))
    return [curve(name, draw.standard_normal(count) * 10.0**count, rate) for name, count, rate in sorts]


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_what_is_written_is_read(suffix, tmp_path):
    path = tmp_path / "new" / f"scores{suffix}"
    assert write_scores(path, iter(several())) == 3
    read = read_scores(path)
    assert list(read) == [name for name, _ in several()]
    for name, wanted in several():
        assert (read[name].scores == wanted.scores).all()
        np.testing.assert_allclose(read[name].times, wanted.times, rtol=1e-11)
        assert read[name].duration == pytest.approx(wanted.duration)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_name_need_not_be_unicode(suffix, tmp_path):
    name, path = b"caf\xe9".decode(errors="surrogateescape"), tmp_path / f"scores{suffix}"
    write_scores(path, [curve(name, [1.0, 2.0])])
    assert list(read_scores(path)) == [name]


def test_the_csv_is_the_documented_one(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, [curve("b", [1.5, -0.1]), curve("a", [2.0])])
    assert path.read_text() == "video_id,start,end,score\nb,0,0.2,1.5\nb,0.2,0.4,-0.100000001\na,0,0.2,2\n"
    path.write_text("\ufeffscore,video_id,extra,end,start\r\n1.5,b,x,0.2,0\r\n\r\n", encoding="utf-8")
    assert read_scores(path)["b"].times.tolist() == [[0, 0.2]]


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_what_cannot_be_written_says_so_and_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"scores{suffix}"
    write_scores(path, [curve("a", [1.0])])
    before = path.read_bytes()

    def broken():
        yield curve("a", [2.0])
        raise ZooError("the model broke")

    for curves, words in [
        ([], "there are no scores to write"),
        ([curve("a", [1.0]), curve("b", [0.0, np.nan])], "row 1 of b has no finite score"),
        ([curve("a", [1.0]), curve("a", [1.0])], "'a' comes twice"),
        ([curve("", [1.0])], "an id is empty"),
        ([curve("a", [])], "a has 0 scores"),
        (broken(), "the model broke"),
    ]:
        with pytest.raises(ZooError, match=words):
            write_scores(path, curves)
    with pytest.raises(ZooError, match=r"kept as \.csv or \.npz"):
        write_scores(tmp_path / "scores.txt", [curve("a", [1.0])])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


HEAD = "video_id,start,end,score\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks the columns video_id, start, end, score"),
        ("video_id,score\na,1\n", "lacks the columns start, end"),
        (HEAD, "has no line of a score"),
        (HEAD + "a,0,1,2\na,1,2\n", "line 3: some columns lack"),
        (HEAD + "a,0,1,high\n", "row 0 of video a: .*'high'"),
        (HEAD + "a,0,1,nan\n", "video a has a time or a score that is not finite"),
        (HEAD + "a,1,2,1\na,0,1,1\n", "rows of video a are not in the order of time"),
        (HEAD + "a,0,1,1\nb,0,1,1\na,1,2,1\n", "lines of video a do not stand together"),
    ],
)
def test_a_csv_that_is_something_else_is_refused(text, words, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_scores(path)


def test_an_npz_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(DataError, match="there is no file of scores"):
        read_scores(path)
    write_scores(path, several())
    with np.load(path) as held:
        good = dict(held)
    objects = np.array([{"a": 1}], dtype=object)
    for change, words in [
        ({"video_id": objects}, "no npz file of"),  # would be unpickled
        ({"rows": good["rows"] + 1}, "do not fit together"),
        ({"rows": good["rows"] + [2**62, 2**62, 2**63 - 2**63]}, "do not fit together"),
        ({"times": good["times"][:, :1]}, "do not fit together"),
        ({"score": np.full(12, np.nan)}, "-dQw_9aB has a time or a score that is not finite"),
        ({"video_id": np.array(["a", "b", "a"])}, "a video comes twice"),
    ]:
        np.savez(path, **{**good, **change})
        with pytest.raises(DataError, match=words):
            read_scores(path)
    np.savez(path, score=good["score"])
    with pytest.raises(DataError, match="video_id"):
        read_scores(path)
    np.savez_compressed(path, **{**good, "score": np.zeros(2**24, np.float32)})
    with pytest.raises(DataError, match="bytes would unpack to 67"):
        read_scores(path)
    write_scores(path, several())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="no npz file of"):
        read_scores(path)


def test_a_csv_is_read_a_video_at_a_time(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(HEAD + "a,0,1,2\nb,0,1,2\nc,0,1,2\nc,1,2,high\n")
    curves = iterate_scores(path)
    assert [next(curves)[0], next(curves)[0]] == ["a", "b"]  # before the line that is wrong
    with pytest.raises(DataError):
        next(curves)


def test_the_highest_and_the_lowest_clips_are_those_of_a_sort():
    draw = np.random.default_rng(1)
    videos = [curve(f"v{n:03d}", draw.standard_normal(20)) for n in range(60)]
    found = rank(videos, 7)
    best, worst = ([pick(one.scores) for _, one in videos] for pick in (np.max, np.min))
    assert [c.score for c in found["highest"]] == sorted(best, reverse=True)[:7]
    assert [c.score for c in found["lowest"]] == sorted(worst)[:7]
    first = found["highest"][0]
    row = int(dict(videos)[first.video].scores.argmax())
    assert first == Clip(f"v{int(np.argmax(best)):03d}", row / 5, row / 5 + 1 / 5, float(max(best)))


def test_a_video_gives_several_clips_only_if_they_are_apart():
    scores = np.zeros(50)
    scores[[10, 11, 12, 30]] = 5, 6, 4, 3
    one = [curve("a", scores, rate=1.0)]
    assert [c.start for c in rank(one, 3, per_video=3)["highest"]] == [11, 30, 0]
    assert [c.start for c in rank(one, 3, per_video=3, apart=1.0)["highest"]] == [11, 10, 12]
    assert [c.start for c in rank(one, 3)["highest"]] == [11]


def test_categories_have_headings_of_their_own_the_largest_first():
    videos = [curve(str(n), [n, -n]) for n in range(1, 9)]
    kinds = {"1": "Cars", "2": "Food", "3": "Food", "4": "Food", "5": "Cars", "6": "Pets", "7": "Food"}
    found = rank(videos, 2, categories=kinds, largest=2)
    assert list(found) == ["highest: Food", "highest: Cars", "lowest"]
    assert [c.video for c in found["highest: Food"]] == ["7", "4"]
    assert [c.video for c in found["highest: Cars"]] == ["5", "1"]
    assert [c.video for c in found["lowest"]] == ["8", "7"]  # whatever its category
    with pytest.raises(ZooError, match="none of the videos with scores has a category"):
        rank(videos, categories={"x": "Food"})
    with pytest.raises(ZooError, match="no clips to rank"):
        rank([])


def test_categories_are_read_from_howto100m(tmp_path):
    path = tmp_path / "HowTo100M_v1.csv"
    path.write_text('video_id,category_1,category_2,rank,task_id\nv1,"Cars & Other Vehicles",Motorcycles,27,1001\n')
    assert read_categories(path) == {"v1": "Cars & Other Vehicles"}
    path.write_text("video_id,rank\nv1,27\n")
    with pytest.raises(DataError, match="lacks the columns category_1 and category_2"):
        read_categories(path)
