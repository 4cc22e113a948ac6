"""DAVIS and what all data sets of sequences share: runs in order, whole sequences per process, and what is given up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import zoo
from tests.data import trees
from tests.data.render import numbers_in, render
from zoo.data.davis import Davis2016, Davis2017, export_results
from zoo.data.masks import PALETTE, read_mask, write_mask
from zoo.data.sequences import SequenceRuns, SequenceSampler, frames_of
from zoo.errors import DataError, VideoError

LENGTHS = {"zebra": 5, "ant": 9, "bear": 2}


@pytest.fixture
def root(tmp_path):
    return trees.davis(tmp_path / "DAVIS", LENGTHS)


def make(root, cls=Davis2017, **options):
    return cls(root, **{"batch_size": 4, "num_workers": 0, **options})


def batches(data):
    """All batches as a trainer would get them, with the datamodule's record of what could not be read."""
    return [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]


def shown(frames):
    return numbers_in(frames.permute(0, 2, 3, 1).numpy())


def spoil(path, change=lambda data: data[: len(data) // 2]):
    path.write_bytes(change(path.read_bytes()))
    return path


def only_fault(data, sequence):
    """The one message about ``sequence``, after making sure that the others come whole and nothing follows it."""
    seen = {name: [] for name in LENGTHS}
    for batch in batches(data):
        seen[batch["name"]] += batch["numbers"].tolist()
    index = list(LENGTHS).index(sequence)
    assert list(data.unreadable) == [index]
    assert all(numbers == list(range(LENGTHS[name])) for name, numbers in seen.items() if name != sequence)
    assert seen[sequence] == list(range(len(seen[sequence])))  # nothing after the fault
    assert len(seen[sequence]) < LENGTHS[sequence]
    return data.unreadable[index]


# What is served


@pytest.mark.parametrize("workers", [0, 2])
def test_sequences_come_whole_and_in_the_order_of_the_list(root, workers):
    got = list(make(root, num_workers=workers).test_dataloader())
    assert [(b["index"], b["name"], b["length"], b["numbers"].tolist()) for b in got] == [
        (0, "zebra", 5, [0, 1, 2, 3]),
        (0, "zebra", 5, [4]),
        (1, "ant", 9, [0, 1, 2, 3]),
        (1, "ant", 9, [4, 5, 6, 7]),
        (1, "ant", 9, [8]),
        (2, "bear", 2, [0, 1]),
    ]
    for batch in got:
        assert batch["kind"] == "masks"
        assert batch["unreadable"] == []
        assert batch["frames"].dtype == torch.uint8
        assert batch["frames"].shape[1:] == (3, trees.HEIGHT, trees.WIDTH)
        assert batch["frames"].is_contiguous()
        assert shown(batch["frames"]) == batch["numbers"].tolist()
        for number, truth in zip(batch["numbers"].tolist(), batch["truth"], strict=True):
            assert truth["mask"].dtype == torch.uint8
            assert np.array_equal(truth["mask"], trees.mask(number))


def test_reconstruction_needs_no_annotations(root):
    shutil.rmtree(root / "Annotations")
    data = make(root, task="reconstruction")
    got = batches(data)
    assert [b["kind"] for b in got] == ["frames"] * 6
    assert all(entry is None for b in got for entry in b["truth"])
    assert not data.unreadable
    assert data.check().ok
    with pytest.raises(DataError, match="none of the 3"):
        make(root).records("val")


def test_resolution_and_split(root):
    trees.davis(root, {"fox": 3}, resolution="Full-Resolution")
    assert [r.name for r in make(root, resolution="Full-Resolution").records("val")] == ["fox"]
    with pytest.raises(DataError, match=r"no list .*train\.txt"):
        make(root, split="train").records("val")
    trees.write_list(root / "ImageSets" / "2017" / "train.txt", ["fox"])
    assert [r.name for r in make(root, split="train", resolution="Full-Resolution").records("val")] == ["fox"]
    for wrong in ({"split": "everything"}, {"task": "boxes"}, {"resolution": "../480p"}):
        with pytest.raises(DataError, match=next(iter(wrong.values())).strip("./")):
            make(root, **wrong)


def test_the_test_sets_show_the_first_annotation_alone(root):
    trees.write_list(root / "ImageSets" / "2017" / "test-dev.txt", ["ant"])
    for path in sorted((root / "Annotations" / "480p" / "ant").iterdir())[1:]:
        path.unlink()
    data = make(root, split="test-dev")
    truth = [entry for batch in batches(data) for entry in batch["truth"]]
    assert truth[0] is not None
    assert truth[1:] == [None] * 8
    assert not data.unreadable


def test_the_older_release_has_one_object(tmp_path):
    root = trees.davis(tmp_path, {"ant": 3, "bear": 2}, year="2016")
    write_mask(root / "Annotations" / "480p" / "ant" / "00001.png", trees.mask(1))  # two objects, with a palette
    data = make(root, Davis2016)
    for batch in batches(data):
        for number, truth in zip(batch["numbers"].tolist(), batch["truth"], strict=True):
            assert np.array_equal(truth["mask"], trees.mask(number) > 0)
    assert not data.unreadable
    (root / "ImageSets" / "2016" / "val.txt").unlink()
    lines = [
        f"/JPEGImages/480p/{name}/{k:05d}.jpg /Annotations/480p/{name}/{k:05d}.png"
        for name in ("bear", "ant")
        for k in (0, 1)
    ]
    trees.write_list(root / "ImageSets" / "480p" / "val.txt", lines)
    assert [r.name for r in make(root, Davis2016).records("val")] == ["bear", "ant"]
    assert [len(r.frames) for r in make(root, Davis2016).records("val")] == [2, 3]


def test_the_newer_one_refuses_masks_without_palette(tmp_path):
    root = trees.davis(tmp_path, {"ant": 3}, year="2016")
    trees.write_list(root / "ImageSets" / "2017" / "val.txt", ["ant"])
    data = make(root)
    assert batches(data)[0]["frames"].numel() == 0
    assert "no palette" in data.unreadable[0]


# Processes


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_each_sequence_goes_whole_to_one_process(root, world_size):
    runs = SequenceRuns(make(root).records("val"), 2, "masks", lambda *_: [])
    shares = [list(SequenceSampler(runs, rank, world_size)) for rank in range(world_size)]
    whole = [[row for row, (index, _, _) in enumerate(runs.rows) if index == sequence] for sequence in range(3)]
    owned = [[index for index in range(3) if whole[index][0] in share] for share in shares]
    assert shares == [[row for index in own for row in whole[index]] for own in owned]  # whole, and in order
    assert all(owned)  # a process without any would keep the others waiting
    counts = [sum(own.count(index) for own in owned) for index in range(3)]
    assert counts == [max(1, world_size - 2), 1, 1]  # only where sequences run out is the first one repeated


def test_the_shares_are_balanced_by_frames(tmp_path):
    root = trees.davis(tmp_path, {"long": 12, **{f"s{k}": 2 for k in range(6)}})
    runs = SequenceRuns(make(root).records("val"), 4, "masks", lambda *_: [])
    first, second = ({runs.rows[row][0] for row in SequenceSampler(runs, rank, 2)} for rank in range(2))
    assert (first, second) == ({0}, {1, 2, 3, 4, 5, 6})
    shares = [{runs.rows[row][0] for row in SequenceSampler(runs, rank, 7)} for rank in range(7)]
    assert shares == [{k} for k in range(7)]  # one long sequence leaves no process empty


# A trainer


class Counts(pl.LightningModule):
    """Counts frames and remembers what came."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        return x

    def test_step(self, batch, batch_idx):
        assert "unreadable" not in batch
        self.seen += [(batch["name"], number) for number in batch["numbers"].tolist()]

    def predict_step(self, batch, batch_idx):
        self.test_step(batch, batch_idx)
        return batch["numbers"].tolist()


def trainer():
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_a_trainer_tests_and_predicts(root):
    spoil(root / "JPEGImages" / "480p" / "ant" / "00005.jpg")
    model, data = Counts(), make(root)
    trainer().test(model, data, verbose=False)
    expected = [("zebra", k) for k in range(5)] + [("ant", k) for k in range(4)] + [("bear", 0), ("bear", 1)]
    assert model.seen == expected
    assert list(data.unreadable) == [1]
    model.seen.clear()
    predicted = trainer().predict(model, make(root))
    assert model.seen == expected
    assert predicted == [[0, 1, 2, 3], [4], [0, 1, 2, 3], [], [0, 1]]
    with pytest.raises(DataError, match="davis2017 is a test of correspondence"):
        make(root).setup("fit")
    with pytest.raises(DataError, match="train on vlog"):
        make(root).train_dataloader()


def test_a_classifier_is_refused(root):
    model = Counts()
    model.num_classes = 5
    with pytest.raises(DataError, match="has no classes, and the model tells 5 apart"):
        trainer().test(model, make(root), verbose=False)


def test_cutting_the_records_cuts_the_loader(root):
    data = make(root)
    data.setup("test")
    data.records("val")[:] = data.records("val")[1:2]
    assert {(b["index"], b["name"]) for b in batches(data)} == {(0, "ant")}


# What is wrong with a sequence


def test_a_frame_broken_in_the_middle_gives_up_its_sequence(root):
    path = spoil(root / "JPEGImages" / "480p" / "ant" / "00005.jpg")
    data = make(root)
    message = only_fault(data, "ant")
    assert "ant" in message
    assert str(path) in message
    report = data.check(decode=True)
    assert list(report.splits["val"].unreadable) == ["ant/00005"]
    assert report.units == ("sequences", "frames")
    assert any("1 frames cannot be used" in line for line in report.advice())
    assert not (root / "checksums.json").read_text().count("ant")


@pytest.mark.parametrize(
    ("damage", "frame", "words"),
    [
        (lambda images, masks: (images / "00003.jpg").unlink(), "00003", r"no file .*00003\.jpg"),
        (lambda images, masks: (masks / "00003.png").unlink(), "00003", r"00003\.png"),
        (lambda images, masks: spoil(masks / "00006.png"), None, r"00006\.png cannot be read"),
        (lambda images, masks: write_mask(masks / "00002.png", trees.mask(2, height=24, width=32)), None, "32 x 24"),
        (lambda images, masks: write_mask(masks / "00000.png", trees.mask(0, objects=0)), "00000", "nothing to propag"),
        (lambda images, masks: write_mask(masks / "00000.png", trees.mask(0) * 0 + 255), "00000", "nothing to propag"),
        (lambda images, masks: trees.picture(images / "00008.jpg", 8, 24, 32), "00008", "of one size"),
        (lambda images, masks: (images / "00007.jpg").write_text("no picture"), "00007", r"00007\.jpg cannot be read"),
    ],
)
def test_what_is_wrong_is_named_and_costs_its_sequence_alone(root, damage, frame, words):
    damage(root / "JPEGImages" / "480p" / "ant", root / "Annotations" / "480p" / "ant")
    data = make(root)
    message = only_fault(data, "ant")
    with pytest.raises(DataError, match=words):
        raise DataError(message)
    found = data.check().splits["val"].unreadable
    if frame:  # without decoding, the headers and the first annotation alone are looked at
        assert list(found) == [f"ant/{frame}"]
    assert list(data.check(decode=True).splits["val"].unreadable) == list(found) or not frame


def test_there_must_be_something_to_propagate_to(root):
    for path in root.glob("*/480p/bear/00001.*"):
        path.unlink()
    data = make(root)
    assert "has 1 frames" in only_fault(data, "bear")
    assert "has 1 frames" in data.check().splits["val"].unreadable["bear"]


def test_missing_sequences_are_counted(root):
    shutil.rmtree(root / "JPEGImages" / "480p" / "zebra")
    data = make(root)
    with pytest.warns(UserWarning, match="1 of 3 videos of split 'val' are missing"):
        assert [record.name for record in data.records("val")] == ["ant", "bear"]
    report = data.check()
    assert (report.splits["val"].expected, report.splits["val"].missing) == (3, 1)
    assert any("1 sequences are missing" in line for line in report.advice())


@pytest.mark.parametrize("name", ["../ant", "/etc", "..", "a\\b", "ant/../../x"])
def test_a_list_does_not_lead_out_of_the_root(root, name):
    trees.write_list(root / "ImageSets" / "2017" / "val.txt", ["ant", name])
    with pytest.raises(DataError, match=r"val\.txt, line 2"):
        make(root).records("val")
    trees.write_list(root / "ImageSets" / "2016" / "val.txt", ["ant", name])
    with pytest.raises(DataError, match=r"val\.txt, line 2"):
        make(root, Davis2016).records("val")


def test_a_wrong_root_and_wrong_lists_are_refused(root, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        make(tmp_path / "nowhere").records("val")
    with pytest.raises(DataError, match="no such folder"):
        make(tmp_path / "nowhere").check()
    with pytest.raises(DataError, match=r"no list .*ImageSets/2017/val\.txt"):
        make(tmp_path).check()
    trees.write_list(root / "ImageSets" / "2017" / "val.txt", ["ant", "bear", "ant"])
    with pytest.raises(DataError, match="'ant' twice"):
        make(root).records("val")
    (root / "ImageSets" / "2017" / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a list"):
        make(root).records("val")


def test_check_is_content_and_remembers_checksums(root):
    data = make(root, num_workers=2)
    assert data.check().ok
    assert not (root / "checksums.json").exists()
    assert data.check(decode=True).ok
    trees.picture(root / "JPEGImages" / "480p" / "bear" / "00001.jpg", 7)
    assert data.check(decode=True).splits["val"].changed == ["bear"]
    report = zoo.datamodule("davis2017", root=root).check()
    assert (report.name, report.ok) == ("davis2017", True)


# Results


def test_results_are_written_as_the_server_wants_them(tmp_path):
    masks = [trees.mask(k) for k in range(3)]
    export_results(tmp_path, "ant", masks[:2])
    written = export_results(tmp_path, "ant", (torch.from_numpy(m) for m in masks[2:]), start=2)
    assert written == [tmp_path / "ant" / "00002.png"]
    assert sorted(p.name for p in (tmp_path / "ant").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    for k, expected in enumerate(masks):
        path = tmp_path / "ant" / f"{k:05d}.png"
        assert np.array_equal(read_mask(path), expected)
        with Image.open(path) as image:
            assert image.getpalette() == PALETTE.ravel().tolist()
    with pytest.raises(DataError, match="not the name of a folder"):
        export_results(tmp_path, "../ant", masks)


# Any video


def test_frames_of_a_file_and_of_a_folder_are_the_same_kind_of_thing(tmp_path):
    video = frames_of(render(tmp_path / "v.mp4", frames=12, fps=10))
    assert (video.length, video.fps, video.size, video.names[:2]) == (12, 10, (48, 64), ("00000", "00001"))
    assert numbers_in(list(video)) == list(range(12)) == numbers_in(list(video))
    for number in range(12):
        trees.picture(tmp_path / "frames" / f"{number + 1}.png", number)
    (tmp_path / "frames" / "._1.png").write_text("what an archive of macOS leaves")
    (tmp_path / "frames" / "notes.txt").write_text("no picture")
    folder = frames_of(tmp_path / "frames")
    assert (len(folder), folder.fps, folder.size, folder.names[1:3]) == (12, None, (48, 64), ("2", "3"))
    assert numbers_in(list(folder)) == list(range(12))


def test_frames_of_nothing_usable_are_refused(tmp_path):
    with pytest.raises(VideoError, match="no file"):
        frames_of(tmp_path / "nothing.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no pictures"):
        frames_of(tmp_path / "empty")
    trees.picture(tmp_path / "two" / "1.jpg", 0)
    trees.picture(tmp_path / "two" / "2.jpg", 1, 24, 32)
    with pytest.raises(VideoError, match=r"2\.jpg has 32 x 24 pixels"):
        list(frames_of(tmp_path / "two"))
    trees.grey(tmp_path / "deep" / "1.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(VideoError, match="8 bits a channel"):
        list(frames_of(tmp_path / "deep"))


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    sideways = np.rot90(np.asarray(Image.open(trees.picture(tmp_path / "upright.png", 1234))))
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.ascontiguousarray(sideways)).save(tmp_path / "photos" / "1.jpg", quality=95, exif=exif)
    photos = frames_of(tmp_path / "photos")
    assert photos.size == (48, 64)
    assert numbers_in(list(photos)) == [1234]
