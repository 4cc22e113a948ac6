"""Videos with what is said in them: captions read without trust, candidates as MIL-NCE takes them, who is served."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from tests.data.render import numbers_in, render
from zoo.data.narrated import Narrated
from zoo.data.narration import candidates, clip_start, narration_of, read_captions
from zoo.errors import DataError
from zoo.spec import VideoSpec

SPEC = VideoSpec(
    frames=4, stride=1, fps=5, crop=32, short_side=(32, 32), test_crop=32, test_short_side=32, clips=1, crops=1,
    flip=False,
)  # fmt: skip
NAMES = tuple(f"-video{n:04d}_" for n in range(6))
SAID = "".join(f"{2 * n}.0,{2 * n + 2}.0,sentence {n}\n" for n in range(5))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six videos of 10 seconds at 10 frames a second; the last has no captions."""
    root = tmp_path_factory.mktemp("howto100m")
    (root / "videos" / "part").mkdir(parents=True)
    (root / "captions").mkdir()
    first = render(root / "videos" / f"{NAMES[0]}.mp4", frames=100, fps=10, height=32, width=32)
    for name in NAMES[1:]:
        shutil.copy(first, root / "videos" / "part" / f"{name}.mp4")
    for name in NAMES[:5]:
        (root / "captions" / f"{name}.csv").write_text(f"start,end,text\n{SAID}")
    rows = [f"{name},Food and Entertaining,Drinks,6,1002\n" for name in (*NAMES, "missing0000", NAMES[0])]
    (root / "HowTo100M_v1.csv").write_text("video_id,category_1,category_2,rank,task_id\n" + "".join(rows))
    return root


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "root")


def make(root, **options):
    return Narrated(root, **{"spec": SPEC, "batch_size": 4, "num_workers": 0, "val_share": 0.0, **options})


# Captions


def test_captions_are_sorted_and_silent_ones_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('start,end,text\n5,6.5,"then, pour"\n1,2,first\n3,4,\n')
    said = read_captions(path)
    assert said.times.tolist() == [[1, 2], [5, 6.5]]
    assert said.text == ("first", "then, pour")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("start,text\n1,a\n", "no column end"),
        ("start,end,text\n1,2,a\nx,4,b\n", "line 3: a caption from 'x' to '4'"),
        ("start,end,text\n3,2,a\n", "line 2: a caption from '3' to '2'"),
        ("start,end,text\n1,nan,a\n", "line 2"),
        ("start,end,text\n-1,2,a\n", "line 2"),
        ("start,end,text\n1,inf,a\n", "line 2"),
        ("start,end,text\n1\n", "line 2: a caption from '1' to None"),
        ("start,end,text\n1,2, \n", "no caption with words"),
        ("", "no column start, end, text"),
        ('start,end,text\n1,2,"a\n', "cannot be read as a table"),
        (b"start,end,text\n1,2,\xff\n", "cannot be read as a table"),
    ],
)
def test_malformed_captions_are_named(tmp_path, text, told):
    path = tmp_path / "bad_captions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"bad_captions.csv.*{told}"):
        read_captions(path)


@pytest.mark.parametrize("entry", [None, [], {"start": [1], "end": [2]}, {"start": [1], "end": [2], "text": []}])
def test_a_malformed_entry_is_named(entry):
    with pytest.raises(DataError, match=r"caption.json, abc: captions are three lists"):
        narration_of(entry, "caption.json, abc")


def test_candidates_grow_where_they_span_less_time():
    times = np.array([[0, 1], [5, 6], [7, 8], [9, 10], [20, 21]], float)
    assert candidates(times, 2, 1) == [2]
    assert candidates(times, 2, 3) == [1, 2, 3]
    assert candidates(times, 2, 4) == [0, 1, 2, 3]  # 10 seconds on this side, 16 on the other
    assert candidates(times, 0, 3) == [0, 1, 2]
    assert candidates(times, 4, 3) == [2, 3, 4]
    assert candidates(times, 1, 7) == [0, 1, 2, 3, 4, 4, 4]


def test_clips_lie_within_their_caption_or_what_it_is_widened_to():
    rng = np.random.default_rng(0)
    long = [clip_start((10.0, 20.0), 3.0, 5.0, rng) for _ in range(300)]
    assert 10 <= min(long) < 10.3
    assert 16.7 < max(long) <= 17
    short = [clip_start((10.0, 11.0), 3.0, 5.0, rng) for _ in range(300)]
    assert 8 <= min(short) < 8.2
    assert 9.8 < max(short) <= 10
    assert min(clip_start((0.5, 1.0), 3.0, 5.0, rng) for _ in range(99)) >= 0
    assert clip_start((2.0, 9.0), 30.0, 5.0, rng) == 2.0


# Videos


def test_training_batches(root):
    data = make(root)
    with warnings.catch_warnings(record=True) as told:
        records = data.records("train")
    assert [record.name for record in records] == list(NAMES[:5])
    assert {str(warning.message).removeprefix(f"{root}: ") for warning in told} == {
        "1 videos of split 'train' have no captions and are left out.",
        "1 of 6 videos of split 'train' are missing.",
    }
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (4, 3, 4, 32, 32)
    assert batch["clips"].dtype == torch.uint8
    for clip, (start, end), said in zip(batch["clips"], batch["times"], batch["captions"], strict=True):
        shown = numbers_in(clip.permute(1, 2, 3, 0).numpy())
        assert list(shown) == [round(10 * start) + 2 * n for n in range(4)]  # every second frame of ten a second
        assert end - start == pytest.approx(0.8)
        numbers = [int(text.removeprefix("sentence ")) for text in said]
        assert sorted(numbers) == list(range(min(numbers), min(numbers) + 4))
        spoken = numbers[0]  # the caption's two seconds, and one and a half on each side
        assert max(0, 2 * spoken - 1.5) - 0.11 <= start <= max(0, 2 * spoken - 1.5) + 4.31


def test_draws_depend_on_seed_epoch_and_video_alone(root):
    data = make(root)._training_data()
    one, again, later = data[(2, 0)], data[(2, 0)], data[(2, 1)]
    assert one["times"] == again["times"] != later["times"]
    assert torch.equal(one["clips"], again["clips"])
    assert len({data[(2, epoch)]["captions"][0] for epoch in range(40)}) == 5


def test_a_part_is_held_out_by_its_ids_and_always_shows_the_same(root):
    data = make(root, val_share=0.4, captions=2, batch_size=2)
    train, val = ({record.name for record in data.records(split)} for split in ("train", "val"))
    assert train | val == set(NAMES[:5])
    assert not train & val
    (root / "HowTo100M_v1.csv").unlink()  # fewer are listed, and nobody changes sides
    assert {record.name for record in make(root, val_share=0.4).records("val")} == val
    assert len(make(root, val_share=1e-9).records("val")) == 1
    one, again = (list(data.val_dataloader()) for _ in range(2))
    assert [batch["index"].tolist() for batch in one] == [batch["index"].tolist() for batch in again]
    assert all(
        torch.equal(a["clips"], b["clips"]) and a["captions"] == b["captions"] for a, b in zip(one, again, strict=True)
    )
    assert make(root).val_dataloader() == []


def test_captions_of_one_json_file(root):
    entry = {"start": [0, 2.5], "end": [2, 4], "text": ["pour milk", "stir"]}
    shutil.rmtree(root / "captions")
    (root / "caption.json").write_text(json.dumps({NAMES[1]: entry, NAMES[3]: entry | {"end": [2, "soon"]}}))
    data = make(root, batch_size=2)
    assert [record.name for record in data.records("train")] == [NAMES[1], NAMES[3]]
    (batch,) = data.train_dataloader()
    assert {text for said in batch["captions"] for text in said} == {"pour milk", "stir"}
    assert batch["index"].tolist() == [0, 0]
    ((number, message),) = set(batch["unreadable"])
    assert number == 1
    assert f"caption.json, {NAMES[3]}, caption 2: a caption from 2.5 to 'soon'" in message
    assert data.vocabulary() == ["milk", "pour", "stir"]


def test_what_is_broken_is_told_and_not_served(root):
    (root / "captions" / f"{NAMES[1]}.csv").write_text("start,end,text\n3,1,a\n")
    (root / "videos" / "part" / f"{NAMES[2]}.mp4").write_bytes(b"no video")
    data = make(root, val_share=0.999, captions=3, batch_size=9)
    batches = list(data.val_dataloader())
    told = dict(entry for batch in batches for entry in batch["unreadable"])
    names = [record.name for record in data.records("val")]
    assert {names[number] for number in told} == {NAMES[1], NAMES[2]}
    assert sum(len(batch["clips"]) for batch in batches) == len(names) - 2
    report = make(root).check().splits["train"]
    assert set(report.unreadable) == {NAMES[1], NAMES[2]}
    assert "line 2" in report.unreadable[NAMES[1]]


def test_lists_and_roots_are_not_trusted(root, tmp_path):
    (root / "exclude.txt").write_text(f"{NAMES[0]}\n")
    assert NAMES[0] not in make(root, exclude=root / "exclude.txt").split_names("train")
    (root / "paths.csv").write_text(f"video_path\npart/{NAMES[4]}.mp4\n")  # as MIL-NCE lists them
    assert [record.name for record in make(root, csv="paths.csv").records("train")] == [NAMES[4]]
    (root / "bad.csv").write_text("video_id\n../../etc/passwd\n")
    with pytest.raises(DataError, match="is not the name of a folder"):
        make(root, csv="bad.csv").records("train")
    with pytest.raises(DataError, match="does not lie in"):
        make(root, csv="../list.csv").records("train")
    (root / "no.csv").write_text("id\na\n")
    with pytest.raises(DataError, match="no column video_id"):
        make(root, csv="no.csv").records("train")
    with pytest.raises(DataError, match="no such folder"):
        make(tmp_path / "nowhere").records("train")
    shutil.rmtree(root / "captions")
    with pytest.raises(DataError, match=r"neither captions/ nor caption.json"):
        make(root).records("train")
    with pytest.raises(DataError, match="captions must be at least 1"):
        make(root, captions=0)
