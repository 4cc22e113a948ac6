"""Oops! in its official layout under names as odd as the real ones: whole, damaged, without videos, with goals."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

import zoo
from tests.data.failures import RATE, SPEC, TRAIN, VAL, annotated, entry, goals, oops, said, usual
from tests.data.learner import Learner, seen_in_tests
from tests.data.render import numbers_in
from tests.data.trees import write_list
from zoo.data.oops import Oops, read_annotations
from zoo.errors import DataError
from zoo.spec import ONE_SECOND, TrajectorySpec

WORDS = ["", "fall", "jump", "kid", "man"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return oops(tmp_path_factory.mktemp("whole") / "oops_dataset", usual())


@pytest.fixture
def root(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "oops_dataset")


def make(root, **options):
    return Oops(root, **{"spec": SPEC, "num_workers": 0, **options})


def annotate(root, entries):
    (root / "annotations" / "transition_times.json").write_text(json.dumps(entries))


def served(data):
    """What the training loader serves in an epoch, as plain values."""
    return [
        (batch["index"].tolist(), batch["lengths"].tolist(), batch["times"].tolist(), batch["clips"].sum().item())
        for batch in data.train_dataloader()
    ]


# What is served


def test_whole_videos(whole):
    data = make(whole, batch_size=2)
    first, second = data.test_dataloader()
    assert first["clips"].shape == (12, 3, 4, 24, 24)
    assert (first["clips"].dtype, first["times"].dtype) == (torch.float32, np.float64)
    assert first["lengths"].tolist() == [6, 6]
    assert first["index"].tolist() == [0, 1]
    assert first["label"].tolist() == [0, 0, 0, 1, 2, 2] * 2  # the median of 3, 3.1 and -1 is 3.0
    assert first["annotated"].tolist() == [[3.0, 3.1, -1.0]] * 2
    assert first["duration"].tolist() == [6.0, 6.0]
    assert second["index"].tolist() == [2]
    assert [record.name for record in data.records("val")] == list(VAL)
    assert data.classes == ("intentional", "transitional", "unintentional")


def test_validation_while_training_sees_whole_videos_too(whole):
    tested, validated = (next(iter(loader())) for loader in (make(whole).test_dataloader, make(whole).val_dataloader))
    assert torch.equal(tested["clips"], validated["clips"])


def test_training_trajectories(whole):
    data = make(whole, batch_size=3, spec=SPEC.replace(short_side=(24, 24)))
    seen = {}
    for batch in data.train_dataloader():
        places = batch["lengths"].cumsum(0).tolist()
        clips = batch["clips"].permute(0, 2, 3, 4, 1).numpy()
        for index, start, end in zip(batch["index"].tolist(), [0, *places], places, strict=False):
            assert end - start in (2, 3)
            times = batch["times"][start:end]
            assert np.diff(times[:, 0]).tolist() == pytest.approx([1.0] * (end - start - 1))
            expected = [1 if s <= 3.0 <= e else 2 if s > 3.0 else 0 for s, e in times.tolist()]
            assert batch["label"][start:end].tolist() == expected
            seen.setdefault(index, []).append(times[0, 0].item())
            shown = [numbers_in(clip) for clip in clips[start:end]]
            assert [[clip[0], clip[-1]] for clip in shown] == np.rint(times * RATE).astype(int).tolist()
    assert {index: len(starts) for index, starts in seen.items()} == dict.fromkeys(range(4), 3)
    assert all(len(set(starts)) == 3 for starts in seen.values())  # never the same start twice in an epoch
    assert len({tuple(sorted(starts)) for starts in seen.values()}) > 1


def test_an_epoch_is_drawn_from_its_seed_alone(whole):
    assert served(make(whole)) == served(make(whole))
    assert served(make(whole)) == served(make(whole, num_workers=2))
    assert served(make(whole)) != served(make(whole, seed=1))
    loader = make(whole).train_dataloader()
    loader.sampler.set_epoch(1)
    assert [batch["times"].tolist() for batch in loader] != [times for _, _, times, _ in served(make(whole))]


def test_a_killed_epoch_goes_on_where_it_was(whole):
    loader = make(whole).train_dataloader()
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state_dict()
    expected = [batch["clips"] for batch in batches]
    again = make(whole).train_dataloader()
    again.load_state_dict(state)
    resumed = [batch["clips"] for batch in again]
    assert len(resumed) == len(expected) == 4
    assert all(map(torch.equal, resumed, expected))


def test_counts_of_classes_are_those_of_the_first_epoch(whole):
    data = make(whole)
    labels = torch.cat([batch["label"] for batch in data.train_dataloader()])
    assert data.class_counts().tolist() == torch.bincount(labels, minlength=3).tolist()
    assert data.class_counts().dtype == torch.int64
    single = SPEC.replace(trajectory=TrajectorySpec(clips=(1, 1), step=2, stride=2, starts=99))
    data = make(whole, spec=single)
    # Every candidate of every video once: at 0, 0.5, ..., 5 s, of which 2.5 and 3 s hold the failure at 3.0.
    assert data.class_counts().tolist() == [4 * 5, 4 * 2, 4 * 4]


def test_each_process_sees_its_own_videos(whole):
    assert sorted(seen_in_tests(lambda: make(whole, batch_size=1))) == [0, 1, 2]


def test_a_trainer_fits(root):
    (root / "oops_video" / "val" / f"{VAL[1]}.mp4").write_bytes(b"no video")
    model, data = Learner("index", "clips"), make(root)
    model.fit(data)
    assert sorted(model.trained) == sorted([0, 1, 2, 3] * 3)
    assert model.validated == [0, 2]
    assert data.unreadable[1].startswith(f"{VAL[1]}: ")


# Damage


def test_broken_videos_are_replaced_or_reported(root):
    (root / "oops_video" / "train" / f"{TRAIN[0]}.mp4").write_bytes(b"no video")
    (root / "oops_video" / "val" / f"{VAL[0]}.mp4").write_bytes(b"")
    (root / "oops_video" / "val" / f"{VAL[2]}.mp4").unlink()
    data = make(root)
    with pytest.warns(UserWarning, match="1 of 3 videos of split 'val' are missing"):
        batches = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert [batch["index"].tolist() for batch in batches] == [[1]]
    assert "is empty" in data.unreadable.pop(0)
    trained = [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sum(len(batch["lengths"]) for batch in trained) == 12
    assert list(data.unreadable) == [0]
    assert served(make(root)) == served(make(root))  # what stands in is drawn from the seed, too


def test_a_batch_of_nothing(root):
    for name in VAL:
        (root / "oops_video" / "val" / f"{name}.mp4").write_bytes(b"no video")
    (batch,) = make(root, batch_size=9).test_dataloader()
    assert batch["clips"].shape == (0,)
    assert {key: len(batch[key]) for key in ("lengths", "label", "times", "index", "annotated", "duration")} == {
        "lengths": 0, "label": 0, "times": 0, "index": 0, "annotated": 0, "duration": 0,
    }  # fmt: skip
    assert [index for index, _ in batch["unreadable"]] == [0, 1, 2]


def test_a_video_shorter_than_one_clip(tmp_path):
    short = {VAL[0]: 7, TRAIN[0]: 7}
    root = oops(tmp_path / "oops", usual(), frames=short)
    data = make(root)
    tested = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert [batch["index"].tolist() for batch in tested] == [[1], [2]]
    assert "is shorter than one clip" in data.unreadable.pop(0)
    trained = [data.on_before_batch_transfer(batch, 0)["index"].tolist() for batch in data.train_dataloader()]
    assert {index for indices in trained for index in indices} == {1, 2, 3}
    report = data.check()
    assert [list(report.splits[split].unreadable) for split in ("train", "val")] == [[TRAIN[0]], [VAL[0]]]


def test_a_file_shorter_than_annotated_is_still_trained_on(tmp_path):
    """One second and a half: three candidates start by the annotation's word at five places, by the file's at none."""
    root = oops(tmp_path / "oops", usual(), frames={TRAIN[0]: 15})
    batches = list(make(root, batch_size=1).train_dataloader())
    lengths = [int(batch["lengths"]) for batch in batches if batch["index"].tolist() == [0]]
    assert lengths == [1, 1, 1]
    assert not any(batch["unreadable"] for batch in batches)


def test_too_short_for_a_trajectory(tmp_path):
    spec = SPEC.replace(trajectory=TrajectorySpec(clips=(9, 9), step=2, stride=2))
    root = oops(tmp_path / "oops", usual(), videos=False)
    (root / "oops_video" / "train").mkdir(parents=True)
    for name in TRAIN:
        (root / "oops_video" / "train" / f"{name}.mp4").touch()
    with pytest.raises(DataError, match="no video of split 'train' is long enough for a trajectory of 9 clips"):
        make(root, spec=spec).train_dataloader()


def test_check_names_everything_that_is_wrong(root):
    (root / "oops_video" / "val" / f"{VAL[0]}.mp4").write_bytes(b"no video")
    (root / "oops_video" / "train" / f"{TRAIN[1]}.mp4").unlink()
    annotate(root, {**usual(), TRAIN[3]: {"t": [1.0], "rel_t": [0.1, 0.2], "len": 9.0}})
    data = zoo.datamodule("oops", root=root, spec=SPEC)
    report = data.check(decode=True)
    assert not report.ok
    assert (report.splits["train"].expected, report.splits["train"].missing) == (3, 1)
    assert list(report.splits["train"].unreadable) == [TRAIN[3]]
    assert "has 1 times in t and 2 in rel_t" in report.splits["train"].unreadable[TRAIN[3]]
    assert list(report.splits["val"].unreadable) == [VAL[0]]
    assert len(json.loads((root / "checksums.json").read_text())) == 4


NAN = float("nan")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (5, "has no fields"),
        ({"t": [1.0]}, "lacks rel_t, len"),
        ({**entry([1.0], 6.0), "len": NAN}, "has 'nan' in len"),
        ({**entry([1.0], 6.0), "len": math.inf}, "has 'inf' in len"),
        ({**entry([1.0], 6.0), "len": -6.0}, "has a len of -6 seconds"),
        ({**entry([1.0], 6.0), "len": 0}, "has a len of 0 seconds"),
        (entry([1.0], 1e8), "has a len of 1e+08 seconds"),
        ({**entry([1.0], 6.0), "len": True}, "has 'True' in len"),
        ({**entry([1.0], 6.0), "t": ["soon"]}, "has 'soon' in t"),
        ({**entry([1.0], 6.0), "t": [10**400]}, "in t, which is no number of seconds"),
        ({**entry([1.0], 6.0), "t": [None]}, "has 'None' in t"),
        ({**entry([1.0], 6.0), "t": "3.0"}, "has no list in t"),
        ({**entry([1.0], 6.0), "t": []}, "has 0 times in t and 1 in rel_t"),
        ({**entry([1.0], 6.0), "rel_t": [NAN]}, "has 'nan' in rel_t"),
        ({**entry([1.0], 6.0), "rel_t": [0.1, 0.2]}, "has 1 times in t and 2 in rel_t"),
        (entry([6.6], 6.0), "has a failure at 6.6 seconds, and lasts 6"),
        (entry([-3.0], 6.0), "has a failure at -3 seconds, and lasts 6"),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_left_out_by_name(whole, tmp_path, bad, complaint):
    root = shutil.copytree(whole, tmp_path / "oops")
    annotate(root, {**usual(), VAL[2]: bad})
    data = make(root)
    with pytest.warns(UserWarning, match="1 videos of split 'val' are left out for their annotations, the first: "):
        assert [record.name for record in data.records("val")] == list(VAL[:2])
    _, problems = read_annotations(root / "annotations" / "transition_times.json")
    assert complaint in problems[VAL[2]]
    assert repr(VAL[2]) in problems[VAL[2]]


def test_a_failure_just_behind_the_end_is_kept(root):
    annotate(root, {**usual(), VAL[0]: entry([5.8, 6.004, 5.8], 6.0)})
    assert make(root).records("val")[0].times == (5.8, 6.004, 5.8)


@pytest.mark.parametrize("text", ["", "{", "[]", "nothing", '{"a"', "[" * 100_000])
def test_annotations_that_are_no_json(root, text):
    (root / "annotations" / "transition_times.json").write_text(text)
    with pytest.raises(DataError, match=r"transition_times\.json (cannot be read as JSON|holds no JSON object)"):
        make(root).records("val")


@pytest.mark.parametrize("name", ["../val/secret", "..", ".", "a/b", "/etc/passwd", "a\\b", "a\0b"])
def test_a_list_does_not_lead_out_of_the_root(root, name):
    write_list(root / "annotations" / "val.txt", [VAL[0], name])
    with pytest.raises(DataError, match=r"val\.txt, line 2: .* is not the name of a video"):
        make(root, spec=SPEC.replace(pixels=False)).records("val")


# Which videos


def test_filters(tmp_path):
    lengths = {"3.0": 3.0, "3.1": 3.1, "29.9": 29.9, "30": 30.0, "147": 147.0}
    entries = {name: entry([length / 2] * 3, length) for name, length in lengths.items()}
    entries["at once"] = entry([0.05] * 3, 10.0)
    entries["at the end"] = entry([9.95] * 3, 10.0)
    entries["at one percent"] = entry([0.1] * 3, 10.0)
    entries["seen by one"] = entry([-1, -1, 5.0], 10.0)
    entries["seen by two"] = entry([5.0, -1, 5.0], 10.0)
    names = (*entries, "not annotated")
    root = oops(tmp_path / "oops", entries, {"train": names, "val": names}, videos=False)
    spec = SPEC.replace(pixels=False)

    def kept(split, **options):
        return [record.name for record in Oops(root, spec, **options).records(split)]

    always = ["at one percent", "seen by two"]
    assert kept("train") == ["3.1", "29.9", *always]
    assert kept("val") == [*lengths, *always]
    assert kept("val", test_seconds=(3, 30)) == ["3.1", "29.9", *always]
    assert kept("train", seconds=[3.1, None]) == ["29.9", "30", "147", *always]


@pytest.mark.parametrize("seconds", [(30, 3), (3,), 3, (None, 3), ("a", "b"), (-1, 3), (float("nan"), 3)])
def test_seconds_that_are_no_range(tmp_path, seconds):
    with pytest.raises(DataError, match="test_seconds is an ascending range of seconds such as"):
        Oops(tmp_path, test_seconds=seconds)


def test_options_come_from_the_command_line(whole):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Oops, "data")
    words = ["--data.root", str(whole), "--data.seconds", "[3.2, null]", "--data.goals=true", "--data.pseudo=p.json"]
    values = parser.parse_args(words)
    assert values.data.seconds == (3.2, None)
    again = parser.parse_string(yaml.safe_dump(yaml.safe_load(parser.dump(values))))
    assert again.data.seconds == (3.2, None)
    assert again.data.goals


def test_without_pixels_no_video_need_be_there(tmp_path):
    root = oops(tmp_path / "oops", usual(), videos=False)
    for place in (root, root / "annotations"):
        data = Oops(place, SPEC.replace(pixels=False), batch_size=9)
        (batch,) = data.test_dataloader()
        assert batch["index"].tolist() == [0, 1, 2]
        assert batch["lengths"].tolist() == [0, 0, 0]
        assert batch["annotated"].tolist() == [[3.0, 3.1, -1.0]] * 3
        assert (batch["duration"].tolist(), len(batch["clips"]), len(batch["label"])) == ([6.0] * 3, 0, 0)
        assert batch["times"].shape == (0, 2)
        assert data.check().ok
    assert Oops(root, ONE_SECOND.replace(pixels=False, trajectory=None)).records("val")
    with pytest.raises(DataError, match=r"no folder oops_video/val .* unpack video\.tar\.gz"):
        make(root).records("val")
    with pytest.raises(DataError, match=r"no folder oops_video/val"):
        make(root).check()


def test_numbers_of_annotators_differ(root):
    annotate(root, {**usual(), VAL[0]: entry([3.0], 6.0)})
    (batch,) = make(root, batch_size=3).test_dataloader()
    np.testing.assert_array_equal(batch["annotated"][0], [3.0, np.nan, np.nan])


def test_roots(whole, tmp_path):
    for place in (whole, whole.parent, str(whole)):
        assert len(make(place).records("train")) == 4
    with pytest.raises(DataError, match="no such folder"):
        make(whole / "nowhere").records("val")
    with pytest.raises(DataError, match=r"no transition_times\.json here, in annotations/"):
        make(tmp_path).records("val")
    (tmp_path / "transition_times.json").write_text("{}")
    with pytest.raises(DataError, match=r"there is no list .*val\.txt; unpack"):
        make(tmp_path).records("val")
    with pytest.raises(DataError, match="spec has trajectory=None"):
        make(whole, spec=SPEC.replace(trajectory=None))


def test_accents_may_be_stored_in_two_ways(root):
    import unicodedata

    for path in (root / "oops_video" / "train").iterdir():
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert [record.name for record in make(root).records("train")] == list(TRAIN)


def test_a_list_of_another_machine(root):
    (root / "annotations" / "val.txt").write_bytes("\r\n".join(["\ufeff" + VAL[0], *VAL[1:], ""]).encode())
    assert [record.name for record in make(root).records("val")] == list(VAL)


def test_what_a_list_is_hashed_by(root):
    before = [record.identity for record in make(root).records("val")]
    annotate(root, {**usual(), VAL[1]: entry([2.0, 3.1, -1], 6.0)})
    after = [record.identity for record in make(root).records("val")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


# Pseudo-annotations


def test_predicted_times_stand_in_where_nobody_annotated(root, tmp_path):
    annotate(root, annotated({name: [3.0, 3.0, 3.0] for name in (*TRAIN[:2], *VAL[:2])}))
    assert [record.name for record in make(root).unlabelled()] == list(TRAIN[2:])
    predicted = tmp_path / "pseudo.json"
    predicted.write_text(json.dumps(annotated({TRAIN[1]: [1.0], TRAIN[2]: [2.0], VAL[2]: [2.0]})))
    data = make(root, pseudo=predicted)
    times = {record.name: record.times for record in data.records("train")}
    assert times == {TRAIN[0]: (3.0,) * 3, TRAIN[1]: (3.0,) * 3, TRAIN[2]: (2.0,)}
    assert [record.name for record in data.records("val")] == list(VAL[:2])
    assert [record.name for record in data.unlabelled()] == list(TRAIN[2:])
    assert data.class_counts().sum() > make(root).class_counts().sum()
    predicted.write_text(json.dumps(annotated({"somebody else's": [1.0]})))
    with pytest.raises(DataError, match=r"pseudo\.json names none of the training videos"):
        make(root, pseudo=predicted).records("train")


def test_videos_of_good_quality_are_predicted_for(root):
    annotate(root, {})
    write_list(root / "annotations" / "train_filtered.txt", TRAIN[1:3])
    (root / "oops_video" / "train" / f"{TRAIN[1]}.mp4").unlink()
    (record,) = make(root).unlabelled()
    assert (record.name, record.times, record.path.is_file()) == (TRAIN[2], (), True)


# Goals


@pytest.fixture
def with_goals(root):
    entries = {
        TRAIN[0]: [said([["man", "jump", ""]], [["man", "fall", "kid"]]), said([["kid", "jump", "man"]], [])],
        TRAIN[2]: [said([], [["kid", "fall", ""]]), said([], [])],
        TRAIN[3]: [said([["man", "fly", "moon"]], []), said([], [])],
    }
    val = {VAL[0]: [said([["kids", "jump", ""]], []), said([["man", "jump", "kid"]], [["man", "fall", "moon"]])]}
    goals(root / "svos", {"train": entries, "val": val}, WORDS, {"kids": "kid"})
    return root


@pytest.mark.filterwarnings("ignore:.*triples are left out")
def test_a_triple_for_every_clip(with_goals):
    data = make(with_goals, goals=True, batch_size=1)
    assert data.vocabulary == tuple(WORDS)
    assert [record.name for record in data.records("train")] == [
        TRAIN[0],
        TRAIN[2],
    ]  # nothing whole is said of the last
    seen = set()
    for epoch in range(20):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            index, classes = batch["index"].item(), batch["label"].tolist()
            for label, triple in zip(classes, batch["svo"].tolist(), strict=True):
                seen.add((index, min(label, 1), tuple(triple)))
    nothing = (-1, -1, -1)
    assert seen == {
        (0, 0, (4, 2, 0)), (0, 0, (3, 2, 4)), (0, 1, (4, 1, 3)), (0, 1, nothing),
        (1, 0, nothing), (1, 1, (3, 1, 0)), (1, 1, nothing),
    }  # fmt: skip
    batch = next(iter(data.train_dataloader()))
    assert batch["svo"].dtype == torch.int64
    again = next(iter(make(with_goals, goals=True, batch_size=1).train_dataloader()))
    assert torch.equal(again["svo"], batch["svo"])


def test_all_triples_of_a_video_are_served_when_testing(with_goals):
    data = make(with_goals, goals=True)
    with pytest.warns(UserWarning, match=r"val\.json: 1 triples are left out, for 1 of their words \('moon', \.\.\.\)"):
        (batch,) = data.test_dataloader()
    assert batch["triples"][0]["intentional"].tolist() == [[3, 2, 0], [4, 2, 3]]
    assert batch["triples"][0]["unintentional"].shape == (0, 3)
    assert "svo" not in batch


@pytest.mark.parametrize("place", ["lang", "annotations/svos", "../lang"])
def test_goals_lie_in_several_places(with_goals, place):
    (with_goals / "svos").rename(with_goals / place)
    assert make(with_goals, goals=True).vocabulary == tuple(WORDS)


def test_goals_that_are_not_there(root, with_goals):
    (root / "svos" / "val.json").unlink()
    with pytest.raises(DataError, match=r"there is no .*val\.json"):
        make(root, goals=True).records("val")
    (root / "svos" / "corrections.json").unlink()
    with pytest.warns(UserWarning, match=r"holds no corrections\.json\. Unpack lang\.tar\.gz whole"):
        make(root, goals=True).records("train")
    shutil.rmtree(root / "svos")
    with pytest.raises(DataError, match=r"the goal annotations are not there .* Unpack lang\.tar\.gz"):
        make(root, goals=True).setup("fit")


def test_goal_annotations_are_checked(with_goals):
    path = with_goals / "svos" / "val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), VAL[1]: [said([["man"]], [])]}))
    with pytest.warns(UserWarning, match="triples are left out"):
        report = make(with_goals, goals=True).check()
    assert "what is said of" in report.splits["val"].unreadable[VAL[1]]
