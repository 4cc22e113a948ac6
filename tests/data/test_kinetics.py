"""The Kinetics datamodule on rendered videos in the official layout, whole and damaged."""

from __future__ import annotations

import shutil

import pytest
import torch

import zoo
from zoo.data.kinetics import SandboxKinetics
from zoo.data.loader import OnceSampler, TestClips, TrainSampler
from zoo.spec import VideoSpec

SPEC = VideoSpec(frames=4, stride=2, crop=32, short_side=(36, 40), test_crop=32, test_short_side=36, clips=2, crops=3)


def make(root, **options):
    return SandboxKinetics(root=root, spec=SPEC, **{"batch_size": 4, "num_workers": 0, **options})


@pytest.fixture
def damaged(kinetics_root, tmp_path):
    """A copy with one empty and one missing validation video."""
    root = tmp_path / "kinetics"
    shutil.copytree(kinetics_root, root)
    videos = sorted((root / "val").glob("*/*.mp4"))
    videos[0].write_bytes(b"")
    videos[1].unlink()
    return root, videos[0].stem


def test_training_batch(kinetics_root):
    data = make(kinetics_root)
    batch = next(iter(data.train_dataloader()))
    assert batch["clips"].shape == (4, 3, 4, 32, 32)
    assert batch["clips"].dtype == torch.uint8
    by_index = [data.records("train")[i].label for i in batch["index"]]
    assert batch["label"].tolist() == by_index


def test_rows_cover_every_view_once(kinetics_root):
    data = make(kinetics_root)
    seen = [
        (i, v) for b in data.test_dataloader() for i, v in zip(b["index"].tolist(), b["view"].tolist(), strict=True)
    ]
    assert sorted(seen) == [(i, v) for i in range(9) for v in (0, 3)]
    batch = next(iter(data.test_dataloader()))
    assert batch["clips"].shape == (4, 3, 3, 4, 32, 32)


def test_labels_come_from_the_csv(kinetics_root):
    for record in make(kinetics_root).records("val"):
        assert record.path.parent.name.replace("_", " ") == SandboxKinetics.classes[record.label]


def test_folders_alone_are_enough(kinetics_root, tmp_path):
    shutil.copytree(kinetics_root / "val", tmp_path / "val")
    with_csv = {(r.name, r.label) for r in make(kinetics_root).records("val")}
    assert {(r.name, r.label) for r in make(tmp_path).records("val")} == with_csv


def test_every_process_gets_its_own_rows_and_none_twice(kinetics_root):
    rows = TestClips(make(kinetics_root).records("val"), SPEC)
    shares = [list(OnceSampler(rows, rank, 4)) for rank in range(4)]
    assert sorted(row for share in shares for row in share) == list(range(len(rows)))
    assert list(OnceSampler(range(1), 1, 2)) == [0]  # fewer rows than processes: repeated rather than left waiting


def test_the_order_is_new_every_epoch_and_the_same_again_after_a_restart(kinetics_root):
    sampler = TrainSampler(range(10), 0, 1, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(i for i, _ in first) == list(range(10))
    assert [i for i, _ in first] != [i for i, _ in second]
    sampler.start = 4
    assert list(sampler) == second[4:]


def test_a_resumed_loader_goes_on_where_it_stopped(kinetics_root):
    whole = [b["index"].tolist() for b in make(kinetics_root).train_dataloader()]
    loader = make(kinetics_root).train_dataloader()
    batches = iter(loader)
    head = [next(batches)["index"].tolist() for _ in range(3)]
    again = make(kinetics_root).train_dataloader()
    again.load_state_dict(loader.state_dict())
    assert head + [b["index"].tolist() for b in again] == whole


def test_pixels_depend_on_seed_epoch_and_sample_alone(kinetics_root):
    one, two = (make(kinetics_root, num_workers=n).train_dataloader() for n in (0, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a["clips"], b["clips"])


def test_evaluation_records_what_it_cannot_read(damaged):
    root, empty = damaged
    data = make(root)
    with pytest.warns(UserWarning, match="1 of 9 videos of split 'val' are missing"):
        loader = data.test_dataloader()
    rows = sum(len(data.on_before_batch_transfer(batch, 0)["label"]) for batch in loader)
    assert rows == 7 * SPEC.clips
    assert [data.records("val")[i].name for i in data.unreadable] == [empty]
    assert empty in next(iter(data.unreadable.values()))


def test_training_draws_another(kinetics_root, tmp_path):
    root = tmp_path / "kinetics"
    shutil.copytree(kinetics_root, root)
    broken = sorted((root / "train").glob("*/*.mp4"))[::4]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    data = make(root)
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sum(len(b["label"]) for b in batches) == 32
    assert len(data.unreadable) == len(broken)


def test_training_gives_up_when_nothing_can_be_read(kinetics_root, tmp_path):
    root = tmp_path / "kinetics"
    shutil.copytree(kinetics_root, root)
    for path in (root / "train").glob("*/*.mp4"):
        path.write_bytes(b"not a video")
    with pytest.raises(zoo.DataError, match="zoo data check"):
        next(iter(make(root).train_dataloader()))


def test_check_reports_and_advises(damaged):
    root, empty = damaged
    report = make(root).check()
    assert (report.splits["val"].expected, report.splits["val"].missing) == (9, 1)
    assert list(report.splits["val"].unreadable) == [empty]
    assert report.splits["train"].found == 32
    assert not report.ok
    assert any("missing" in line for line in report.advice())


def test_check_notices_a_flipped_byte_that_decodes_silently(kinetics_root, tmp_path):
    root = tmp_path / "kinetics"
    shutil.copytree(kinetics_root, root)
    assert make(root).check(decode=True).ok
    path = sorted((root / "val").glob("*/*.mp4"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = make(root).check(decode=True).splits["val"]
    assert report.changed == [path.stem] or list(report.unreadable) == [path.stem]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,id\nx,y\n", "header lacks label"),
        ("label,youtube_id,time_start,time_end,split\nflying,abcdefghijk,0,2,val\n", "line 2: 'flying'"),
        ("label,youtube_id,time_start,time_end,split\nfollowing,abcdefghijk,zero,2,val\n", "line 2: times"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(kinetics_root, tmp_path, text, named):
    shutil.copytree(kinetics_root / "val", tmp_path / "val")
    (tmp_path / "val.csv").write_text(text)
    with pytest.raises(zoo.DataError, match=named):
        make(tmp_path).records("val")


def test_a_wrong_root_is_refused(tmp_path):
    with pytest.raises(zoo.DataError, match="no such folder"):
        make(tmp_path / "nowhere").records("val")
    with pytest.raises(zoo.DataError, match="no folder val"):
        make(tmp_path).records("val")
    (tmp_path / "val" / "juggling").mkdir(parents=True)
    with pytest.raises(zoo.DataError, match="juggling"):
        make(tmp_path).records("val")


def test_classes_of_ones_own(kinetics_root, tmp_path):
    videos = sorted((kinetics_root / "train").glob("*/*.mp4"))
    for number, (split, label) in enumerate([("train", "b"), ("train", "a x"), ("val", "a x"), ("val", "b")]):
        place = tmp_path / split / label
        place.mkdir(parents=True)
        shutil.copy(videos[number], place)
    data = zoo.datamodule("folder", root=tmp_path, spec=SPEC, num_workers=0)
    assert data.classes == ("a x", "b")
    assert [(r.label, r.path.parent.name) for r in data.records("val")] == [(0, "a x"), (1, "b")]
    assert data.check().ok
    with pytest.raises(zoo.DataError, match="data set 'folder'"):
        make(tmp_path).records("val")
    with pytest.raises(zoo.DataError, match="no class folders"):
        zoo.datamodule("folder", root=tmp_path / "nowhere")
