"""VLOG by its manifest, and videos of one's own without classes: training data that has no labels and no split."""

from __future__ import annotations

import shutil

import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.data import trees
from tests.data.render import numbers_in, render
from zoo.data.vlog import Vlog
from zoo.errors import DataError
from zoo.spec import VideoSpec

SPEC = VideoSpec(
    frames=4, stride=2, fps=12, sampling="past_and_target", crop=48, short_side=(48, 48), test_crop=48,
    test_short_side=48, flip=False,
)  # fmt: skip
CLIPS = ("X/I/4/v_aaaaaaaaXI4/016", "b/0/_/v_bbbbbbbbb0_/001", "b/0/_/v_bbbbbbbbb0_/002")


@pytest.fixture
def root(tmp_path):
    first = None
    for name in CLIPS:
        (tmp_path / name).mkdir(parents=True)
        if first is None:
            first = render(tmp_path / name / "clip.mp4", frames=50, height=48, width=48)
        else:
            shutil.copy(first, tmp_path / name)
    trees.write_list(tmp_path / "manifest.txt", [f"{name}/" for name in CLIPS])
    return tmp_path


def make(root, **options):
    return Vlog(root, **{"spec": SPEC, "batch_size": 3, "num_workers": 0, **options})


def shown(clip):
    """The numbers that a clip ``[3, T, H, W]`` shows."""
    return numbers_in(clip.permute(1, 2, 3, 0).numpy())


class Learner(pl.LightningModule):
    """Counts the clips that it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clips, self.validated = 0, 0

    def training_step(self, batch, batch_idx):
        assert batch["label"].tolist() == [-1] * len(batch["clips"])
        self.clips += len(batch["clips"])
        return self.weight * batch["clips"].float().mean()

    def validation_step(self, batch, batch_idx):
        self.validated += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(model, data):
    pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, data)  # fmt: skip


def test_clips_of_twelve_a_second_with_past_and_target(root):
    data = make(root)
    assert data.classes == ()
    assert [r.name for r in data.records("train")] == list(CLIPS)
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (3, 3, 6, 48, 48)
    assert batch["clips"].dtype == torch.uint8
    assert batch["label"].tolist() == [-1, -1, -1]
    starts = set()
    for clip in batch["clips"]:
        numbers = shown(clip)
        # Fifty frames at 25 a second are twenty-four at 12; number k of those is on screen at k / 12 seconds.
        (start,) = [s for s in range(24 - 16 + 1) if s * 25 // 12 == numbers[0]]
        steps = [start, start + 2, start + 4, start + 6, start + 15, min(start + 17, 23)]
        assert numbers == [k * 25 // 12 for k in steps]
        starts.add(start)
    assert len(starts) > 1


@pytest.mark.filterwarnings("error:Total length")  # there is nothing that a user could do about it
def test_a_trainer_fits_without_validation(root):
    model = Learner()
    fit(model, make(root))
    assert (model.clips, model.validated) == (3, 0)
    for split, stage in (("val", "validate"), ("val", "test")):
        with pytest.raises(DataError, match=f"no split '{split}'; test on davis2017"):
            make(root).setup(stage)


def test_a_classifier_is_refused(root):
    model = Learner()
    model.num_classes = 8
    with pytest.raises(DataError, match=r"vlog in .* has no classes, and the model tells 8 apart"):
        fit(model, make(root))


def test_other_lists_of_the_release(root):
    trees.write_list(root / "lists" / "manifestTrain.txt", [CLIPS[1]])
    assert [r.name for r in make(root, manifest="lists/manifestTrain.txt").records("train")] == [CLIPS[1]]
    with pytest.raises(DataError, match=r"no list .*manifestNone\.txt"):
        make(root, manifest="manifestNone.txt").records("train")
    for outside in ("../manifest.txt", "/etc/hosts"):
        with pytest.raises(DataError, match="does not lie in"):
            make(root, manifest=outside).records("train")


@pytest.mark.parametrize("line", ["../x/I/4/v_aaaaaaaaXI4/016/", "/srv/clips/016/", "a/../../b", "a\\..\\b", "/"])
def test_a_manifest_does_not_lead_out_of_the_root(root, line):
    trees.write_list(root / "manifest.txt", [CLIPS[0], line])
    with pytest.raises(DataError, match=r"manifest\.txt, line 2: .* does not lie in"):
        make(root).records("train")


def test_pictures_prepared_at_twelve_a_second(root):
    for number in range(20):
        trees.picture(root / "jpg" / "one" / f"{number + 1:06d}.jpg", number, 48, 48)
    (root / "jpg" / "gone").mkdir()
    trees.write_list(root / "list.txt", [f"{root.absolute()}/jpg/one/ 20", "jpg/one/ 20", "jpg/none/ 20"])
    data = make(root, manifest="list.txt", batch_size=2)
    with pytest.warns(UserWarning, match="1 of 3"):
        (batch,) = data.train_dataloader()
    for clip in batch["clips"]:
        numbers = shown(clip)
        assert numbers == [numbers[0] + step for step in (0, 2, 4, 6, 15)] + [min(numbers[0] + 17, 19)]
    assert [r.name for r in data.records("train")] == ["jpg/one", "jpg/one"]
    assert data.check(decode=True).splits["train"].unreadable == {}
    (root / "jpg" / "one" / "000004.jpg").write_bytes(b"no picture")
    assert list(make(root, manifest="list.txt").check(decode=True).splits["train"].unreadable) == ["jpg/one"]


def test_broken_clips_are_replaced_and_counted(root):
    (root / CLIPS[1] / "clip.mp4").write_bytes(b"no video")
    data = make(root)
    (batch,) = [data.on_before_batch_transfer(b, 0) for b in data.train_dataloader()]
    assert len(batch["clips"]) == 3
    assert list(data.unreadable) == [1]
    (root / CLIPS[2] / "clip.mp4").unlink()
    report = zoo.datamodule("vlog", root=root).check()
    assert list(report.splits) == ["train"]
    assert (report.splits["train"].expected, report.splits["train"].missing) == (3, 1)
    assert list(report.splits["train"].unreadable) == [CLIPS[1]]
    with pytest.raises(DataError, match="no such folder"):
        make(root / "nowhere").records("train")


def test_a_folder_of_loose_videos_has_no_classes(root, tmp_path):
    clips = root / "X"
    data = zoo.datamodule("folder", root=clips, spec=SPEC, num_workers=0, batch_size=1)
    assert data.classes == ()
    assert [(r.name, r.label) for r in data.records("train")] == [("I/4/v_aaaaaaaaXI4/016/clip.mp4", -1)]
    assert list(data.check().splits) == ["train"]
    model = Learner()
    fit(model, data)
    assert (model.clips, model.validated) == (1, 0)
    with pytest.raises(DataError, match="no folder val"):
        data.setup("test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No class folders either"):
        zoo.datamodule("folder", root=tmp_path / "empty")


def test_loose_videos_may_have_a_validation_folder(root, tmp_path):
    mine = tmp_path / "mine"
    for split in ("train", "val"):
        (mine / split).mkdir(parents=True)
        shutil.copy(root / CLIPS[0] / "clip.mp4", mine / split / f"{split}.mp4")
    data = zoo.datamodule("folder", root=mine, spec=SPEC, num_workers=0, batch_size=1)
    assert [[r.name for r in data.records(split)] for split in ("train", "val")] == [["train.mp4"], ["val.mp4"]]
    assert sorted(data.check().splits) == ["train", "val"]
    (batch,) = data.val_dataloader()
    assert batch["clips"].shape == (1, 1, 3, 4, 48, 48)  # plain clips; those with a target are for training
    assert shown(batch["clips"][0, 0]) == [k * 25 // 12 for k in (8, 10, 12, 14)]  # the middle one, at the model's rate
