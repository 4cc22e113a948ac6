"""Charades' annotations: as the official scripts read them, odd ones, and those that cannot be meant."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.data.activities import FIELDS, TRAIN, VAL, row, write_csv, write_json
from tests.data.trees import write_list
from tests.goldens import FOLDER, load
from zoo.data.activities import (
    Action,
    ActivityVocabulary,
    frame_labels,
    localisation_labels,
    packaged_vocabulary,
    read_csv,
    read_public_json,
    read_vocabulary,
    video_label,
)
from zoo.data.labels import class_names
from zoo.errors import DataError

TOY = ActivityVocabulary(("Opening a door", "Someone is laughing"), ("none", "door"), ("laugh", "open"),
                         ((1, 1), (0, 0)), ("Kitchen",))  # fmt: skip


# Names


def test_the_package_has_all_names():
    names = packaged_vocabulary()
    assert [len(part) for part in (names.classes, names.objects, names.verbs, names.scenes)] == [157, 38, 33, 16]
    assert (names.classes[8], names.classes[156]) == ("Opening a door", "Someone is eating something")
    assert class_names("charades_mapping")[8] == "c008 o012 v012"  # the one line that is published
    assert (names.objects[0], names.objects[12], names.verbs[12]) == ("none", "door", "open")
    assert names.scene("kitchen ") == names.scenes.index("Kitchen")
    assert (names.scene(""), names.scene("Moon")) == (-1, -1)
    assert {thing for thing, _ in names.mapping} == set(range(38))
    assert {verb for _, verb in names.mapping} == set(range(33))
    assert list(names.objects[1:]) == sorted(names.objects[1:])
    assert list(names.verbs) == sorted(names.verbs)


def test_what_a_class_does_stands_in_its_name():
    names = packaged_vocabulary()
    stems = {"cup/glass/bottle": "cup", "closet/cabinet": "closet", "television": "television"}
    for name, (thing, _) in zip(names.classes, names.mapping, strict=True):
        word = names.objects[thing]
        assert word == "none" or stems.get(word, word.split("/")[0]) in name.lower()


def put_lists(folder, objects=("o000 none", "o001 door"), verbs=("v000 laugh", "v001 open"),
              mapping=("c000 o001 v001", "c001 o000 v000")):  # fmt: skip
    for kind, lines in (("objectclasses", objects), ("verbclasses", verbs), ("mapping", mapping)):
        if lines is not None:
            write_list(folder / f"Charades_v1_{kind}.txt", lines)
    return folder


def test_official_lists_go_before(tmp_path):
    assert read_vocabulary(tmp_path, TOY) == TOY
    put_lists(tmp_path, ("o000 None", "o001 gate"), ("v000 open", "v001 laugh"), ("c001 o000 v001", "c000 o001 v000"))
    write_list(tmp_path / "Charades_v1_classes.txt", ["c000 Opening a gate", "c001 Laughing"])
    write_list(tmp_path / "Charades_v1_scenes.txt", ["Garage", "Kitchen"])
    names = read_vocabulary(tmp_path, TOY)
    assert names == ActivityVocabulary(TOY.classes, ("None", "gate"), ("open", "laugh"), ((1, 0), (0, 1)),
                                       ("Garage", "Kitchen"))  # fmt: skip


@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ({"objects": ("o000 none", "o002 door")}, r"objectclasses.txt, line 2: 'o002 door' should be 'o001 NAME'"),
        ({"objects": ("none", "door")}, "objectclasses.txt, line 1: 'none' should be 'o000 NAME'"),
        ({"verbs": ("v000 laugh",)}, r"mapping.txt: class c000 is mapped to object 1 and verb 1"),
        ({"mapping": ("c000 o001 v001",)}, r"mapping.txt: the mapping has 1 classes, and there are 2"),
        ({"mapping": ("c000 o001 v001", "c000 o000 v000")}, "mapping.txt, line 2: 'c000 o000 v000' should be"),
        ({"mapping": ("c000 o001 v001", "c001 o-1 v000")}, "mapping.txt, line 2: 'c001 o-1 v000' should be"),
        ({"mapping": ("c000 o001 v001", "c002 o000 v000")}, "has no line for class c001"),
        ({"mapping": ("c000 o001 v001", "c001 o000 v\u0663")}, "mapping.txt, line 2"),
        ({"mapping": None}, "there is no list .*mapping.txt"),
        ({"objects": None}, "there is no list .*objectclasses.txt"),
    ],
)
def test_lists_that_contradict_each_other(tmp_path, lists, complaint):
    put_lists(tmp_path, **lists)
    with pytest.raises(DataError, match=complaint):
        read_vocabulary(tmp_path, TOY)


def test_lists_of_another_data_set(tmp_path):
    write_list(tmp_path / "Charades_v1_classes.txt", ["c000 Opening a gate"])
    with pytest.raises(DataError, match="names 1 classes; this data set has 2"):
        read_vocabulary(tmp_path, TOY)


# The csv


def read(path, **options):
    return read_csv(path, packaged_vocabulary(), **options)


def test_rows_are_read_in_their_order(tmp_path):
    found = read(write_csv(tmp_path / "a.csv", [row(name, *said) for name, said in VAL.items()]))
    assert list(found.videos) == list(VAL) == ["00T1A", "ZZZ00", "7UPGT"]
    assert found.videos["00T1A"].actions == (Action(11, 0.1, 1.2), Action(59, 1.0, 2.0))
    assert (found.videos["7UPGT"].actions, found.videos["7UPGT"].length) == ((), 1.5)
    scenes = packaged_vocabulary().scenes
    assert [scenes[video.scene] for video in found.videos.values()] == [scene for *_, scene in VAL.values()]
    assert (found.problems, found.remarks) == ({}, [])
    assert read(write_csv(tmp_path / "b.csv", [row("AB12C", scene="")])).videos["AB12C"].scene == -1


def test_labels_are_those_of_the_official_localisation_script():
    golden = load("temporal_fields_charades_localize")
    found = read(FOLDER / golden.name / "gt.csv")
    labels = [localisation_labels(video.actions, video.length, 157) for video in found.videos.values()]
    assert np.array_equal(np.concatenate(labels), golden.outputs["labels"].numpy())


def test_labels_of_images_are_the_ports():
    golden = load("temporal_fields_postprocess")
    rows = [[Action(*action) for action in said["actions"]] for said in golden.manifest["config"]["rows"]]
    videos, times = (golden.outputs[f"rgb_train.{key}"].numpy() for key in ("video", "time"))
    labels = [frame_labels(actions, times[videos == video] / 24, 157) for video, actions in enumerate(rows)]
    assert np.array_equal(np.concatenate(labels), golden.outputs["rgb_train.target"].numpy())
    whole = [video_label(actions, 157) for actions in rows]
    assert np.array_equal(whole, golden.outputs["rgb_video.target"].numpy())


def test_an_action_is_on_within_its_ends_and_scored_at_them_too():
    actions = [Action(1, 1.0, 2.0)]
    assert frame_labels(actions, np.array([1.0, 1.5, 2.0]), 3)[:, 1].tolist() == [0, 1, 0]
    assert localisation_labels(actions, 25.0, 3)[:4, 1].tolist() == [0, 1, 1, 0]
    assert localisation_labels(actions, 3.0, 3, points=3)[:, 1].tolist() == [0, 1, 1]


def test_oddities_of_the_release_are_taken_as_the_scripts_take_them(tmp_path):
    rows = [
        row("AB12C", "c008 0.00 99.00", 10),  # ends after the video
        row("DE34F", "c008 38.00 13.00", 12.17),  # ends before it starts, and starts after the video
        row("GH56I", ";c008 1 2; ;", 3),
        row("AB12C", "c001 0.00 1.00", 10),
        row("JK78L", "", 3, scene="Moon"),
    ]
    found = read(write_csv(tmp_path / "a.csv", rows))
    assert list(found.videos) == ["AB12C", "DE34F", "GH56I", "JK78L"]
    assert found.problems == {}
    assert found.videos["AB12C"].actions == (Action(8, 0.0, 99.0),)
    assert localisation_labels(found.videos["DE34F"].actions, 12.17, 157).sum() == 0
    assert video_label(found.videos["DE34F"].actions, 157)[8] == 1
    assert found.videos["GH56I"].actions == (Action(8, 1.0, 2.0),)
    twice, odd = found.remarks
    assert "line 5: AB12C is listed twice" in twice
    assert "DE34F c008 from 38 to 13 s; JK78L in the unknown scene 'Moon'" in odd


def test_text_of_another_encoding_and_over_several_lines(tmp_path):
    said = row("AB12C", "c008 0.00 1.00", 10)
    said[6] = "A person\nopens \u00e9 door."
    path = write_csv(tmp_path / "a.csv", [said, row("DE34F", "c999 0 1")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace("\u00e9".encode(), b"\xe9"))
    found = read(path)
    assert list(found.videos) == ["AB12C"]
    assert "a.csv, line 4: DE34F " in found.problems["DE34F"]  # the line of the file, not the row's number


@pytest.mark.parametrize(
    ("actions", "length", "complaint"),
    [
        ("c157 0.00 1.00", 10, "has class c157, and there are 157"),
        ("x008 0.00 1.00", 10, "has the action 'x008 0.00 1.00', which is not such as"),
        ("c-08 0.00 1.00", 10, "has the action"),
        ("c008 0.00", 10, "has the action 'c008 0.00'"),
        ("c008 0.00 1.00 2.00", 10, "has the action"),
        ("c008 zero 1.00", 10, "has 'zero' where seconds belong"),
        ("c008 nan 1.00", 10, "has NaN where seconds belong"),
        ("c008 -1 1.00", 10, r"has class c008 from -1.0 to 1.0"),
        ("c008 0 inf", 10, "has class c008 from 0.0 to inf"),
        ("c008 0 1e300", 10, "has class c008 from 0.0 to 1e"),
        ("", 0, "has a length of 0.0 seconds"),
        ("", -3, "has a length of -3.0 seconds"),
        ("", "nan", "has NaN where seconds belong"),
        ("", "", "has '' where seconds belong"),
        ("", 1e9, "has a length of 1000000000.0 seconds"),
    ],
)
def test_rows_that_cannot_be_meant_are_named(tmp_path, actions, length, complaint):
    path = write_csv(tmp_path / "a.csv", [row("AB12C"), row("DE34F", actions, length)])
    found = read(path)
    assert list(found.videos) == ["AB12C"]
    assert found.problems["DE34F"].startswith(f"{path}, line 3: DE34F {complaint}")


def test_rows_with_too_many_or_too_few_fields_are_named(tmp_path):
    path = write_csv(tmp_path / "a.csv", [row("AB12C"), row("DE34F")[:-1], [*row("GH56I"), "surplus"]])
    assert list(read(path).problems) == ["DE34F", "GH56I"]
    assert "more or fewer fields" in read(path).problems["DE34F"]


@pytest.mark.parametrize("name", ["../x", "..", "", "a/b", "a\\b", "/etc/passwd", "a\0b"])
def test_ids_that_point_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"a.csv, line 2: .* is not the name|cannot be read as csv"):
        read(write_csv(tmp_path / "a.csv", [row(name)]))
    entries = {name: {"subset": "training", "duration": 1.0, "actions": []}}
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match="is not the name of a folder"):
        read_public_json(tmp_path / "a.json", 157)


def test_files_that_are_no_such_csv(tmp_path):
    with pytest.raises(DataError, match=r"there is no list .*none.csv; unpack Charades.zip"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="the header lacks actions; is this the official Charades csv"):
        read(write_csv(tmp_path / "a.csv", [], [field for field in FIELDS if field != "actions"]))
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(DataError, match="the header lacks actions, id, length, scene"):
        read(tmp_path / "b.csv")
    write_csv(tmp_path / "c.csv", [row("AB12C", "c" * 200_000)])
    with pytest.raises(DataError, match="cannot be read as csv"):
        read(tmp_path / "c.csv")
    with pytest.raises(DataError, match="cannot be read as csv"):
        read(tmp_path)


# The public JSON


def test_the_public_json_says_the_same(tmp_path):
    found = read_public_json(write_json(tmp_path / "charades.json"), 157)
    for split, said in (("train", TRAIN), ("val", VAL)):
        other = read(write_csv(tmp_path / "a.csv", [row(name, *entry) for name, entry in said.items()])).videos
        assert list(found[split].videos) == list(other)
        for name, video in found[split].videos.items():
            assert (video.actions, video.length) == (other[name].actions, other[name].length)
            assert video.scene == -1
        assert (found[split].problems, found[split].remarks) == ({}, [])


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"subset": "testing", "duration": 1.0, "actions": [[157, 0.0, 1.0]]}, "has class c157"),
        ({"subset": "testing", "duration": 1.0, "actions": [[True, 0.0, 1.0]]}, "has 'True' where a number belongs"),
        ({"subset": "testing", "duration": 1.0, "actions": [[1.5, 0.0, 1.0]]}, "has the class 1.5"),
        ({"subset": "testing", "duration": 1.0, "actions": [[1, "0", 1.0]]}, "has '0' where a number belongs"),
        ({"subset": "testing", "duration": 1.0, "actions": [[1, float("nan"), 1.0]]}, "has class c001 from nan"),
        ({"subset": "testing", "duration": 1.0, "actions": [[1, 0.0]]}, "has actions that are not lists"),
        ({"subset": "testing", "duration": 1.0, "actions": {"1": 0}}, "has actions that are not lists"),
        ({"subset": "testing", "duration": float("inf"), "actions": []}, "has a length of inf"),
        ({"subset": "testing", "duration": None, "actions": []}, "has 'None' where a number belongs"),
        ({"subset": "testing", "actions": []}, "lacks duration"),
    ],
)
def test_entries_that_cannot_be_meant_are_named(tmp_path, entry, complaint):
    path = tmp_path / "charades.json"
    path.write_text(json.dumps({"00T1A": {"subset": "testing", "duration": 2.0, "actions": []}, "BAD00": entry}))
    found = read_public_json(path, 157)
    assert list(found["val"].videos) == ["00T1A"]
    assert found["val"].problems["BAD00"].startswith(f"{path}: BAD00 {complaint}")
    assert not found["train"].problems


@pytest.mark.parametrize("entry", [{"subset": "odd", "duration": 1.0, "actions": []}, {"subset": ["training"]}, 3])
def test_an_entry_of_no_split_is_missed_from_both(tmp_path, entry):
    (tmp_path / "a.json").write_text(json.dumps({"BAD00": entry}))
    found = read_public_json(tmp_path / "a.json", 157)
    assert all("neither 'training' nor 'testing'" in found[split].problems["BAD00"] for split in ("train", "val"))


def test_actions_that_end_before_they_start_are_remarked_on(tmp_path):
    entries = {f"A{n:04d}": {"subset": "training", "duration": 9.0, "actions": [[8, 5.0, 2.0]]} for n in range(25)}
    (tmp_path / "a.json").write_text(json.dumps(entries))
    (remark,) = read_public_json(tmp_path / "a.json", 157)["train"].remarks
    assert "A0000 c008 from 5 to 2 s" in remark
    assert "and 5 more" in remark
