"""Charades in its official layout: what is served of it, damaged, without videos, as single images and as clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.data.activities import PLAIN, RATE, SPEC, TRAIN, VAL, charades, row, write_csv, write_json
from tests.data.learner import Learner, seen_in_tests
from tests.data.render import number_in, numbers_in, render
from tests.data.trees import picture, write_list
from zoo.data.activities import packaged_vocabulary
from zoo.data.charades import Charades
from zoo.data.moment_loader import ShareSampler
from zoo.errors import DataError
from zoo.spec import MomentSpec, VideoSpec

BLIND = SPEC.replace(pixels=False)
FLOW = SPEC.replace(moments=replace(PLAIN, streams=("rgb", "flow"), flow=3))
ALL = SPEC.replace(moments=replace(PLAIN, labels="all"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return charades(tmp_path_factory.mktemp("whole") / "root", videos=True)


@pytest.fixture
def root(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "root")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Images and flow, and no videos."""
    return charades(tmp_path_factory.mktemp("folders") / "root", images=True, flow=True)


def make(root, **options):
    return Charades(root, **{"spec": SPEC, "num_workers": 0, "batch_size": 4, **options})


def shown(views):
    return [number_in(view.permute(1, 2, 0).numpy()) for view in views]


def served(data):
    """What the training loader serves in an epoch, as plain values."""
    return [
        (batch["video"].tolist(), batch["rgb_time"].tolist(), batch["rgb"].sum().item())
        for batch in data.train_dataloader()
    ]


def frame_of(image):
    """The frame of a video of `RATE` a second that an image is: the last one half an image before it at the latest."""
    return max(int(np.ceil((image - 0.5) / 24 * RATE)) - 1, 0)


# What is served of moments


def test_whole_videos(whole):
    data = make(whole, batch_size=2)
    first, second = data.test_dataloader()
    assert {key: (tuple(value.shape), value.dtype) for key, value in first.items() if key != "unreadable"} == {
        "rgb": ((8, 3, 24, 24), torch.uint8),
        "rgb_time": ((8,), torch.int64),
        "lengths": ((2,), torch.int64),
        "index": ((2,), torch.int64),
        "scene": ((2,), torch.int64),
        "label": ((2, 157), torch.uint8),
        "moment_label": ((2, 25, 157), torch.uint8),
        "duration": ((2,), np.float64),
    }
    assert first["rgb_time"].tolist() == [1, 16, 32, 48, 1, 8, 16, 24]
    assert shown(first["rgb"]) == [frame_of(image) for image in first["rgb_time"].tolist()]
    assert (first["lengths"].tolist(), first["index"].tolist(), second["index"].tolist()) == ([4, 4], [0, 1], [2])
    assert [label.nonzero().flatten().tolist() for label in first["label"]] == [[11, 59], [0]]
    assert first["duration"].tolist() == [2.0, 1.0]
    on = first["moment_label"][0]  # of points 0.08 seconds apart
    assert on[:, 11].nonzero().flatten().tolist() == list(range(2, 16))  # 0.1 to 1.2
    assert on[:, 59].nonzero().flatten().tolist() == list(range(13, 25))  # 1.0 to 2.0
    assert [data.vocabulary.scenes[scene].split(" ")[0] for scene in (*first["scene"], *second["scene"])] == [
        "Living", "Other", "Home",
    ]  # fmt: skip
    assert [record.name for record in data.records("val")] == list(VAL)
    assert (len(data.classes), data.multilabel) == (157, True)


def test_validation_while_training_sees_the_same(whole):
    tested, validated = (next(iter(loader())) for loader in (make(whole).test_dataloader, make(whole).val_dataloader))
    assert torch.equal(tested["rgb"], validated["rgb"])


def test_training_images_with_one_label(whole):
    batches = list(make(whole).train_dataloader())
    assert {key: (tuple(value.shape), value.dtype) for key, value in batches[0].items() if key != "unreadable"} == {
        "rgb": ((4, 3, 24, 24), torch.uint8), "rgb_time": ((4,), torch.int64), "video": ((4,), torch.int64),
        "label": ((4,), torch.int64), "progress": ((4,), torch.int64), "scene": ((4,), torch.int64),
    }  # fmt: skip
    rows = [
        values
        for batch in batches
        for values in zip(
            *(batch[key].tolist() for key in ("video", "rgb_time", "label", "progress")), shown(batch["rgb"]),
            strict=True,
        )
    ]  # fmt: skip
    expected = []
    for video, label, start, end, count in ((0, 8, 0, 1, 48), (0, 106, 0.5, 2.75, 48), (2, 156, 0.2, 0.9, 24)):
        for image in range(1, count + 1, 4):
            if start < (second := (image - 1) / 24) < end:
                expected.append((video, image, label, int(3 * (second - start) / (end - start)), frame_of(image)))
    assert len(expected) == 17
    # Four times four: the rest of an epoch makes no whole batch.
    assert len(rows) == len(set(rows)) == 16
    assert set(rows) <= set(expected)
    assert batches[0]["scene"].tolist() == [{0: 2, 2: -1}[video] for video in batches[0]["video"].tolist()]


def test_progress_as_released(whole):
    spec = SPEC.replace(moments=replace(PLAIN, progress="released"))
    seen = {
        (label, image): place
        for batch in make(whole, spec=spec, batch_size=1).train_dataloader()
        for label, image, place in zip(*(batch[k].tolist() for k in ("label", "rgb_time", "progress")), strict=True)
    }
    # From 0.5 to 2.75 seconds: thirds would end at 1.25 and 2; 3 (t - 0.5) / 2.75 passes 1 at 1.42.
    assert [seen[106, image] for image in (33, 37)] == [0, 1]


def test_training_images_with_all_labels(whole):
    batch = next(iter(make(whole, spec=ALL, batch_size=27).train_dataloader()))
    assert sorted(zip(batch["video"].tolist(), batch["rgb_time"].tolist(), strict=True)) == [
        *((0, image) for image in range(1, 48, 4)), *((1, image) for image in range(1, 36, 4)),
        *((2, image) for image in range(1, 24, 4)),
    ]  # fmt: skip
    assert (batch["label"].shape, batch["label"].dtype) == ((27, 157), torch.uint8)
    assert "progress" not in batch
    for video, image, label in zip(batch["video"].tolist(), batch["rgb_time"].tolist(), batch["label"], strict=True):
        second = (image - 1) / 24
        on = {0: [8] * (0 < second < 1) + [106] * (0.5 < second < 2.75), 1: [], 2: [156] * (0.2 < second < 0.9)}
        assert label.nonzero().flatten().tolist() == on[video]


@pytest.mark.parametrize("labels", ["one", "all"])
def test_images_of_a_video_together(whole, labels):
    spec = SPEC.replace(moments=replace(PLAIN, labels=labels, together=3))
    seen = []
    for batch in make(whole, spec=spec, batch_size=2).train_dataloader():
        assert batch["rgb"].shape == (6, 3, 24, 24)
        assert batch["label"].shape == ((6,) if labels == "one" else (6, 157))
        for video, images in zip(batch["video"].view(-1, 3), batch["rgb_time"].view(-1, 3), strict=True):
            assert len(set(video.tolist())) == 1
            assert images.diff().min() > 0
            seen += [(int(video[0]), image) for image in images.tolist()]
    assert len(seen) == len(set(seen)) == (12 if labels == "one" else 24)
    assert {video for video, _ in seen} == ({0, 2} if labels == "one" else {0, 1, 2})


def test_images_and_flow(folders):
    batch = next(iter(make(folders, spec=FLOW, batch_size=3).test_dataloader()))
    assert batch["flow"].shape == (12, 6, 24, 24)
    assert batch["rgb_time"].tolist()[:4] == [1, 16, 32, 48]
    assert batch["flow_time"].tolist()[:4] == [1, 15, 29, 43]  # of 47 fields, the last stack begins 4 before
    assert shown(batch["rgb"]) == batch["rgb_time"].tolist()  # the image that was decoded is the one that was meant
    assert batch["flow"][:, :, 5, 5].tolist() == [
        [n, 255 - n, n + 1, 254 - n, n + 2, 253 - n] for n in batch["flow_time"].tolist()
    ]
    seen = set()
    for batch in make(folders, spec=FLOW, batch_size=1).train_dataloader():
        assert batch["rgb_time"].tolist() == batch["flow_time"].tolist() == batch["flow"][:, 0, 5, 5].tolist()
        assert shown(batch["rgb"]) == batch["rgb_time"].tolist()
        seen.add((*batch["video"].tolist(), *batch["rgb_time"].tolist()))
    assert max(image for video, image in seen if video == 0) == 41  # 45 is within 4 of the end


def test_flow_alone_needs_no_images(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / "root", ignore=shutil.ignore_patterns("Charades_v1_rgb"))
    data = make(root, spec=FLOW.replace(moments=replace(FLOW.moments, streams=("flow",))))
    assert sorted(next(iter(data.train_dataloader()))) == [
        "flow", "flow_time", "label", "progress", "scene", "unreadable", "video",
    ]  # fmt: skip
    assert "rgb" not in next(iter(data.test_dataloader()))
    assert data.check().ok


def test_folders_of_images_go_before_videos_and_smaller_videos_before_larger(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / "root", ignore=shutil.ignore_patterns("*flow", "ZZZ00"))
    for folder, name in (("Charades_v1_480", "00T1A"), ("Charades_v1_480", "ZZZ00"), ("Charades_v1", "ZZZ00")):
        (root / folder).mkdir(exist_ok=True)
        render(root / folder / f"{name}.mp4", frames=24, fps=24)
    places = [record.path.relative_to(root).as_posix() for record in make(root).records("val")]
    assert places == ["Charades_v1_rgb/00T1A", "Charades_v1_480/ZZZ00.mp4", "Charades_v1_rgb/7UPGT"]
    with pytest.warns(UserWarning, match="1 of 3 videos of split 'val' are missing"):
        slower = make(root, spec=SPEC.replace(fps=12)).records("val")  # the folders hold 24 a second
    assert [record.path.parent.name for record in slower] == ["Charades_v1_480"] * 2


# Epochs


def test_an_epoch_is_drawn_from_its_seed_alone(whole):
    assert served(make(whole)) == served(make(whole))
    assert served(make(whole)) == served(make(whole, num_workers=2))
    assert served(make(whole)) != served(make(whole, seed=1))
    loader = make(whole, spec=SPEC.replace(moments=MomentSpec(share=1.0)), batch_size=1).train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append({(batch["label"].item(), batch["rgb_time"].item()): batch["rgb"] for batch in loader})
    first, second = epochs
    assert first.keys() == second.keys()
    assert list(first) != list(second)
    assert not any(torch.equal(first[key], second[key]) for key in first)  # cut and coloured anew


def test_an_epoch_is_a_share_and_the_next_is_another(whole):
    data = make(whole, spec=SPEC.replace(moments=replace(PLAIN, share=0.3)), batch_size=1)
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(8):
        loader.sampler.set_epoch(epoch)
        epochs.append([(batch["label"].item(), batch["rgb_time"].item()) for batch in loader])
    assert all(len(epoch) == len(set(epoch)) == 6 for epoch in epochs)  # of 17, rounded up
    assert len(set().union(*epochs)) > 14
    assert epochs[0] != epochs[1]


def test_a_killed_epoch_goes_on_where_it_was(whole):
    loader = make(whole).train_dataloader()
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    expected = [batch["rgb"] for batch in batches]
    again = make(whole).train_dataloader()
    again.load_state_dict(state)
    resumed = [batch["rgb"] for batch in again]
    assert len(resumed) == len(expected) == 3
    assert all(map(torch.equal, resumed, expected))


@pytest.mark.parametrize(("samples", "world", "each"), [(20, 3, 3), (2, 4, 1), (1, 3, 1), (100, 7, 7)])
def test_each_process_draws_its_own_samples(samples, world, each):
    samplers = [ShareSampler(range(samples), rank, world, seed=3, share=0.5) for rank in range(world)]
    drawn = [list(sampler) for sampler in samplers]
    assert all(len(one) == len(sampler) == each for one, sampler in zip(drawn, samplers, strict=True))
    rows = [row for one in drawn for row, _ in one]
    assert len(set(rows)) == min(len(rows), samples)


def test_each_process_tests_its_own_videos(whole):
    assert sorted(seen_in_tests(lambda: make(whole, batch_size=1))) == [0, 1, 2]


def test_a_trainer_fits(root):
    (root / "Charades_v1_480" / "ZZZ00.mp4").write_bytes(b"no video")
    model, data = Learner("video", "rgb"), make(root)
    model.fit(data, epochs=2)
    assert len(model.trained) == 2 * 16
    assert model.validated == [0, 2] * 2
    assert data.unreadable[1].startswith("ZZZ00: ")


# Damage


def test_broken_videos_are_replaced_or_reported(root):
    (root / "Charades_v1_480" / "DE34F.mp4").write_bytes(b"no video")
    (root / "Charades_v1_480" / "00T1A.mp4").write_bytes(b"")
    (root / "Charades_v1_480" / "7UPGT.mp4").unlink()
    data = make(root)
    with pytest.warns(UserWarning, match="1 of 3 videos of split 'val' are missing"):
        (batch,) = data.test_dataloader()
    data.on_before_batch_transfer(batch, 0)
    assert (batch["index"].tolist(), batch["lengths"].tolist(), len(batch["rgb"])) == ([1], [4], 4)
    assert batch["duration"].tolist() == [1.0]
    assert data.unreadable.pop(0).startswith("00T1A: ")
    data = make(root)
    trained = [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert {video for batch in trained for video in batch["video"].tolist()} == {0}
    assert list(data.unreadable) == [2]
    assert served(make(root)) == served(make(root))  # what stands in is drawn from the seed, too


def test_a_batch_of_nothing(root):
    for name in VAL:
        (root / "Charades_v1_480" / f"{name}.mp4").write_bytes(b"no video")
    (batch,) = make(root, batch_size=9).test_dataloader()
    assert {key: tuple(value.shape) for key, value in batch.items() if key != "unreadable"} == {
        "rgb": (0, 3, 24, 24), "rgb_time": (0,), "lengths": (0,), "index": (0,), "scene": (0,), "label": (0, 157),
        "moment_label": (0, 25, 157), "duration": (0,),
    }  # fmt: skip
    assert [index for index, _ in batch["unreadable"]] == [0, 1, 2]


def test_nothing_at_all_can_be_decoded(root):
    for name in TRAIN:
        (root / "Charades_v1_480" / f"{name}.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="10 videos in a row could not be decoded"):
        next(iter(make(root).train_dataloader()))


@pytest.mark.parametrize("kind", ["videos", "images"])
def test_videos_shorter_than_annotated_are_trained_on_within_their_length(tmp_path, kind):
    train = {"AB12C": ("c008 0.00 4.00", 4.0, "Kitchen")}
    root = charades(tmp_path / "root", train, {}, lengths={"AB12C": 1.0}, **{kind: True})
    for spec, last in ((SPEC, 21), (ALL, 21), (SPEC.replace(moments=replace(PLAIN, together=4)), 24)):
        batches = list(make(root, spec=spec, batch_size=1).train_dataloader())
        assert len(batches) == (5 if spec.moments.together > 1 else 23 if spec is SPEC else 24)
        assert not any(batch["unreadable"] for batch in batches)
        images = [image for batch in batches for image in batch["rgb_time"].tolist()]
        assert 1 <= min(images) < max(images) <= last
    broken = charades(tmp_path / "short", train, {}, lengths={"AB12C": 2 / 24}, images=True, flow=True)
    with pytest.raises(DataError, match="AB12C has 1 images, too few for one sample"):
        next(iter(make(broken, spec=FLOW).train_dataloader()))


def test_a_picture_that_lacks_in_the_middle(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / "root", ignore=shutil.ignore_patterns("*flow"))
    (root / "Charades_v1_rgb" / "00T1A" / "00T1A-000016.jpg").unlink()
    (root / "Charades_v1_rgb" / "DE34F" / "DE34F-000009.jpg").write_bytes(b"no picture")
    data = make(root, batch_size=1)
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert [batch["index"].tolist() for batch in batches] == [[], [1], [2]]
    assert "there is no file" in data.unreadable[0]
    assert "00T1A-000016.jpg" in data.unreadable[0]
    for batch in make(root, batch_size=1).train_dataloader():
        assert shown(batch["rgb"]) == batch["rgb_time"].tolist() != [9] or batch["video"].item() != 2
        assert all(video == 2 and "DE34F-000009.jpg" in why for video, why in batch["unreadable"])


# Annotations alone


@pytest.mark.parametrize("kind", ["root", "folder", "json", "folder of json"])
def test_annotations_alone(tmp_path, kind):
    root = charades(tmp_path / "root")
    if kind == "folder":
        root = root / "Charades"
    elif "json" in kind:
        root = write_json(tmp_path / "annotations" / "charades.json")
        (root.parent / "other.json").write_text("[]")
        root = root if kind == "json" else root.parent
    data = make(root, spec=BLIND, batch_size=2)
    first, second = data.test_dataloader()
    assert not {"rgb", "rgb_time"} & first.keys()
    assert (first["lengths"].tolist(), second["index"].tolist()) == ([0, 0], [2])
    assert [label.nonzero().flatten().tolist() for label in first["label"]] == [[11, 59], [0]]
    assert first["moment_label"].shape == (2, 25, 157)
    assert first["duration"].tolist() == [2.0, 1.0]
    trained = list(data.train_dataloader())
    assert {video for batch in trained for video in batch["video"].tolist()} == {0, 2}
    assert set(trained[0]) == {"video", "scene", "label", "progress", "unreadable"}
    assert data.check(decode=True).ok
    assert [len(data.records(split)) for split in ("train", "val")] == [3, 3]
    # Where nothing says what a sample is, it is what the default says.
    assert next(iter(make(root, spec=VideoSpec(pixels=False)).train_dataloader()))["label"].shape == (
        2,
    )  # a tenth of 18


def test_pixels_beside_the_annotation_folder_are_found(whole, tmp_path):
    assert len(next(iter(make(whole / "Charades").test_dataloader()))["rgb"]) == 12
    root = shutil.copytree(whole, tmp_path / "root", ignore=shutil.ignore_patterns("Charades"))
    assert len(next(iter(make(write_json(root / "charades.json")).test_dataloader()))["rgb"]) == 12
    assert make(root, spec=SPEC).check(decode=True).ok
    assert (root / "checksums.json").is_file()
    assert make(root).check(decode=True).ok  # which is no file of annotations


# Clips


@pytest.mark.parametrize("kind", ["whole", "folders"])
def test_clips_have_every_class_of_their_video(kind, request):
    root = request.getfixturevalue(kind)
    spec = VideoSpec(
        frames=4, stride=2, crop=24, short_side=(24, 24), test_crop=24, test_short_side=24, clips=2, crops=1,
        flip=False, size=(24, 24),
    )  # fmt: skip
    data = make(root, spec=spec, batch_size=3)
    (batch,) = data.train_dataloader()
    assert (batch["clips"].shape, batch["label"].shape, batch["label"].dtype) == (
        (3, 3, 4, 24, 24), (3, 157), torch.int64,
    )  # fmt: skip
    on = [label.nonzero().flatten().tolist() for label in batch["label"]]
    assert dict(zip(batch["index"].tolist(), on, strict=True)) == {0: [8, 106], 1: [], 2: [156]}
    for clip in batch["clips"].permute(0, 2, 3, 4, 1).numpy():
        assert np.diff(numbers_in(clip)).tolist() == [2, 2, 2]
    tested = list(data.test_dataloader())
    assert torch.cat([batch["index"] for batch in tested]).tolist() == [0, 0, 1, 1, 2, 2]
    assert tested[0]["label"].shape == (3, 157)
    assert data.check().ok


# What is wrong


def test_check_names_everything_that_is_wrong(root):
    write_csv(root / "Charades" / "Charades_v1_test.csv", [
        *(row(name, *said) for name, said in VAL.items()), row("BAD00", "c999 0 1", 3), row("GONE0", "c001 5 3", 9),
    ])  # fmt: skip
    (root / "Charades_v1_480" / "00T1A.mp4").write_bytes(b"no video")
    data = zoo.datamodule("charades", root=root, spec=SPEC)
    with pytest.warns(UserWarning, match="GONE0 c001 from 5 to 3 s"):
        report = data.check(decode=True)
    assert not report.ok
    assert report.splits["train"].unreadable == {}
    val = report.splits["val"]
    assert (val.expected, val.found, val.missing) == (4, 3, 1)
    assert sorted(val.unreadable) == ["00T1A", "BAD00"]
    assert "Charades_v1_test.csv, line 5: BAD00 has class c999" in val.unreadable["BAD00"]
    assert len(json.loads((root / "checksums.json").read_text())) == 5
    left_out = "1 videos of split 'val' are left out for their annotations, the first: .*BAD00 has class c999"
    with pytest.warns(UserWarning, match=left_out):
        assert len(data.find_records("val")[0]) == 3


def test_check_looks_at_folders(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / "root")
    assert make(root, spec=FLOW).check(decode=True).ok
    (root / "Charades_v1_flow" / "00T1A" / "00T1A-000047y.jpg").write_bytes(b"no picture")
    (root / "Charades_v1_flow" / "ZZZ00" / "ZZZ00-000002x.jpg").unlink()
    (root / "Charades_v1_rgb" / "7UPGT" / "7UPGT-000003.jpg").write_bytes(b"no picture")
    shutil.rmtree(root / "Charades_v1_flow" / "AB12C")
    with pytest.warns(UserWarning, match=r"1 videos of split 'train' lack their flow .*`zoo data flow charades"):
        report = make(root, spec=FLOW).check(decode=True)
    assert sorted(report.splits["val"].unreadable) == ["00T1A", "7UPGT", "ZZZ00"]
    assert "00T1A-000047y.jpg cannot be read" in report.splits["val"].unreadable["00T1A"]
    assert report.splits["train"].missing == 1
    with pytest.warns(UserWarning, match="lack their flow"):
        quick = make(root, spec=FLOW).check().splits["val"].unreadable
    assert list(quick) == ["ZZZ00"]


def test_flow_that_is_nowhere(whole):
    data = make(whole, spec=FLOW)
    for find in (data.check, lambda: data.setup("test")):
        with pytest.raises(DataError, match=r"no folder Charades_v1_flow .*`zoo data flow charades .*root`"):
            find()


def test_specs_that_cannot_be_served(whole):
    with pytest.raises(DataError, match=r"Set spec.fps; the release has 24"):
        make(whole, spec=SPEC.replace(fps=None))
    with pytest.raises(DataError, match=r"flow lies at 24 images a second, and the model's spec has fps=12"):
        make(whole, spec=FLOW.replace(fps=12))
    make(whole, spec=FLOW.replace(fps=12, pixels=False))


def test_roots_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such folder; give the folder that holds Charades/"):
        make(tmp_path / "none").records("val")
    with pytest.raises(
        DataError, match=r"neither Charades/Charades_v1_train.csv nor .* and no JSON file of annotations"
    ):
        make(tmp_path).check()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(DataError, match="no JSON file of annotations"):
        make(tmp_path).check()
    for name in ("c", "d"):
        write_json(tmp_path / f"{name}.json")
    with pytest.raises(DataError, match="2 JSON files with annotations, and one is wanted"):
        make(tmp_path).check()
    root = charades(tmp_path / "root")
    with pytest.raises(DataError, match=r"no videos \(Charades_v1 or Charades_v1_480\), and no images"):
        make(root).check()
    (root / "Charades_v1").mkdir()
    with pytest.raises(DataError, match="no videos"):
        make(root).records("val")
    (root / "Charades" / "Charades_v1_train.csv").unlink()
    assert list(make(root, spec=BLIND).check().splits) == ["val"]
    with pytest.raises(DataError, match=r"there is no list .*Charades_v1_train.csv"):
        make(root, spec=BLIND).records("train")
    with pytest.raises(DataError, match=r"b.json cannot be read as JSON"):
        make(tmp_path / "b.json", spec=BLIND).records("val")


def test_nothing_to_train_on(tmp_path):
    root = charades(tmp_path / "root", {"AB12C": ("", 2.0, "Kitchen")})
    with pytest.raises(DataError, match="no video of split 'train' has an image that could be trained on"):
        make(root, spec=BLIND).train_dataloader()


def test_official_names_in_the_root_go_before(tmp_path):
    root = charades(tmp_path / "root")
    assert make(root, spec=BLIND).vocabulary == packaged_vocabulary()
    official = packaged_vocabulary()
    for kind, letter, names in (("objectclasses", "o", official.objects[::-1]), ("verbclasses", "v", official.verbs)):
        write_list(root / "Charades" / f"Charades_v1_{kind}.txt", [f"{letter}{n:03d} {x}" for n, x in enumerate(names)])
    write_list(root / "Charades" / "Charades_v1_mapping.txt", [
        f"c{n:03d} o{37 - thing:03d} v{verb:03d}" for n, (thing, verb) in enumerate(official.mapping)
    ])  # fmt: skip
    found = make(root, spec=BLIND).vocabulary
    assert found.objects == official.objects[::-1]
    assert found.mapping[8] == (25, 12)
    assert make(write_json(tmp_path / "a.json"), spec=BLIND).vocabulary == official


def test_an_odd_picture_does_not_end_a_run(folders, tmp_path):
    """A picture of another mode, and one that is absurdly wide once scaled."""
    root = shutil.copytree(folders, tmp_path / "root", ignore=shutil.ignore_patterns("*flow"))
    Image.fromarray(np.zeros((1, 40_000, 3), np.uint8)).save(root / "Charades_v1_rgb" / "00T1A" / "00T1A-000001.jpg")
    picture(root / "Charades_v1_rgb" / "ZZZ00" / "ZZZ00-000024.jpg", 24, 30, 200)  # of another size: no harm
    data = make(root, spec=SPEC.replace(test_short_side=1024, test_crop=24), batch_size=9)
    batch = data.on_before_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert batch["index"].tolist() == [1, 2]
    assert "absurd" in data.unreadable[0]
