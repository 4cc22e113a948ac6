"""Labels carried through videos: what goes in, what comes out, what is refused, and how it is scored."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

import zoo
from tests.data import trees
from zoo.data.masks import write_mask
from zoo.methods.correspondence import Correspondence
from zoo.methods.scoring import Scores
from zoo.networks.propagation import Propagation
from zoo.spec import VideoSpec

HEIGHT, WIDTH, SIDE = 48, 64, 16


class Colours(nn.Module):
    """Features that anybody can check: the mean colour of every 4 x 4 pixels, and a constant against division by 0."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        cells = avg_pool2d(frames, 4)
        return torch.cat((cells, torch.full_like(cells[:, :1], 1e-3)), dim=1)


@pytest.fixture
def model():
    spec = VideoSpec(frames=1, stride=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Correspondence(Colours(), spec=spec, propagation=Propagation(size=None, references=2, topk=3)).eval()


def scene(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A red square that goes right by four pixels a frame before blue, [T, H, W, 3], and its masks [T, H, W]."""
    pictures = np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8)
    pictures[..., 2] = 200
    masks = np.zeros(pictures.shape[:3], np.uint8)
    for t in range(frames):
        pictures[t, 16 : 16 + SIDE, 4 * t : 4 * t + SIDE] = (220, 10, 10)
        masks[t, 16 : 16 + SIDE, 4 * t : 4 * t + SIDE] = 1
    return pictures, masks


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return ((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum()


def test_masks_follow_what_they_are_drawn_on(model):
    pictures, masks = scene(10)
    found = list(model.propagate(pictures, masks[0]))
    assert len(found) == 10
    assert all(mask.dtype == np.uint8 and mask.shape == (HEIGHT, WIDTH) for mask in found)
    assert np.array_equal(found[0], masks[0])  # the first frame is as it was given
    assert min(overlap(a, b) for a, b in zip(found, masks, strict=True)) > 0.8
    assert overlap(found[-1], masks[0]) == 0  # and it really moved


def test_objects_keep_their_numbers_and_void_is_nobodys(model):
    pictures, masks = scene(3)
    mask = masks[0] * 7
    mask[0, 40:50] = 255
    *_, last = model.propagate(pictures, mask)
    assert set(np.unique(last)) == {0, 7}


def test_keypoints_follow_and_a_missing_one_stays_missing(model):
    pictures, _ = scene(6)
    *_, last = model.propagate(pictures, [[8, 24], [float("nan"), float("nan")]], kind="keypoints")
    assert abs(last[0, 1] - 24) < 8
    assert last[0, 0] > 16  # it went right with the square
    assert np.isnan(last[1]).all()


def test_stripes_are_six_and_stay_on_the_object(model):
    pictures, masks = scene(4)
    first, *_, last = model.propagate(pictures, masks[0], kind="stripes")
    assert set(np.unique(first)) - {0} <= set(range(1, 7))
    assert len(np.unique(first)) > 2
    assert not first[masks[0] == 0].any()
    assert (first[masks[0] > 0] > 0).mean() > 0.8
    assert (last[masks[3] > 0] > 0).mean() > 0.8


def test_frames_are_taken_as_they_are_wanted(model):
    """Memory cannot grow with a video of which no more than a batch is read ahead."""
    taken = 0

    def endless():
        nonlocal taken
        pictures, _ = scene(8)
        while True:
            taken += 1
            yield pictures[taken % 8]

    masks = model.propagate(endless(), scene(1)[1][0], batch_size=4)
    for _ in range(25):
        next(masks)
    assert taken <= 28
    masks.close()


def test_a_folder_of_pictures_is_a_video(model, tmp_path):
    trees.davis(tmp_path, {"walk": 4})
    folder = tmp_path / "JPEGImages/480p/walk"
    assert len(list(model.propagate(folder, tmp_path / "Annotations/480p/walk/00000.png"))) == 4


def test_the_mode_is_put_back(model):
    pictures, masks = scene(2)
    model.train()
    list(model.propagate(pictures, masks[0]))
    assert model.training


@pytest.mark.parametrize(
    ("first", "kind", "message"),
    [
        (np.ones((HEIGHT, WIDTH + 2), np.uint8), "masks", "66 x 48 pixels, the video of 64 x 48"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "masks", "mask is empty"),
        (np.full((HEIGHT, WIDTH), 255, np.uint8), "masks", "mask is empty"),
        (np.full((HEIGHT, WIDTH), 300, np.int64), "masks", "objects are 1 to 254"),
        (np.full((HEIGHT, WIDTH), -1, np.int64), "masks", "objects are 1 to 254"),
        (np.ones((HEIGHT, WIDTH), np.float32), "masks", "integers"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "stripes", "mask is empty"),
        ([[1.0, 2.0, 3.0]], "keypoints", r"must be \[J, 2\]"),
        ([[100.0, 5.0]], "keypoints", "not one of the 1 keypoints lies in the first frame"),
        (np.ones((HEIGHT, WIDTH), np.uint8), "parts", "masks, keypoints or stripes"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(model, first, kind, message):
    with pytest.raises(zoo.ZooError, match=message):
        list(model.propagate(scene(3)[0], first, kind=kind))


def test_what_is_wrong_with_the_call_shows_at_once(model):
    pictures, masks = scene(3)
    with pytest.raises(zoo.ZooError, match="batch_size of at least 1"):
        model.propagate(pictures, masks[0], batch_size=-1)
    with pytest.raises(zoo.VideoError, match=r"nowhere\.mp4"):
        model.propagate("nowhere.mp4", masks[0])
    small = np.zeros((HEIGHT, WIDTH), np.uint8)
    small[0, 0] = 1
    with pytest.raises(zoo.ZooError, match="too small for a texture"):
        list(model.propagate(pictures, small, kind="stripes"))


def test_a_video_of_one_frame_is_refused(model, tmp_path):
    trees.davis(tmp_path, {"walk": 1})
    with pytest.raises(zoo.VideoError, match="one frame only"):
        list(model.propagate(tmp_path / "JPEGImages/480p/walk", np.ones((48, 64), np.uint8)))


def test_flow_points_to_where_a_pixel_was(model):
    pictures, _ = scene(3)
    earlier, later = torch.from_numpy(pictures[[0, 2]]).permute(0, 3, 1, 2)
    rebuilt = model.match(*model.maps(torch.stack((earlier, later))), (HEIGHT, WIDTH))
    assert rebuilt.shape == (2, HEIGHT, WIDTH)
    still = model.flow(earlier, earlier)
    assert still.abs().mean() < rebuilt.abs().mean() + 32


def test_identity_has_no_flow():
    frames = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    assert not zoo.load("label_propagation_identity").flow(*frames).any()


# Scores


def test(model, data) -> dict[str, float]:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (scores,) = pl.Trainer(accelerator="cpu", **quiet).test(model, data, verbose=False)
    return scores


test.__test__ = False


def davis(root, sequences: int = 2, frames: int = 6):
    """The scene as sequences of DAVIS."""
    pictures, masks = scene(frames)
    from PIL import Image

    names = [f"scene{number}" for number in range(sequences)]
    for name in names:
        for t in range(frames):
            path = root / "JPEGImages/480p" / name / f"{t:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[t]).save(path, quality=95)
            write_mask(root / "Annotations/480p" / name / f"{t:05d}.png", masks[t])
    trees.write_list(root / "ImageSets/2017/val.txt", names)
    return root


def data_of(root, **options):
    return zoo.datamodule("davis2017", root=root, num_workers=0, batch_size=4, **options)


def test_identity_scores_what_a_hand_computes(tmp_path):
    """The square moves a quarter of its side a frame: its overlap with where it was is (16 - 4t) / (16 + 4t)."""
    scores = test(zoo.load("label_propagation_identity"), data_of(davis(tmp_path)))
    expected = [max(0, (SIDE - 4 * t) / (SIDE + 4 * t)) for t in range(1, 5)]  # without the first and the last frame
    assert scores["j_mean"] == pytest.approx(100 * np.mean(expected), abs=1e-3)
    assert scores["videos"] == 2


def test_what_follows_scores_better_than_what_stays(model, tmp_path):
    data = data_of(davis(tmp_path))
    assert test(model, data)["j_mean"] > 80 > test(zoo.load("label_propagation_identity"), data)["j_mean"]


def test_a_sequence_with_a_broken_frame_counts_for_nothing(model, tmp_path):
    root = davis(tmp_path)
    whole = test(model, data_of(root))
    (root / "JPEGImages/480p/scene1/00005.jpg").write_bytes(b"no picture")
    data = data_of(root)
    scores = test(model, data)
    assert scores["videos"] == 1
    assert scores["j_mean"] == pytest.approx(whole["j_mean"])  # both sequences are the same
    assert "scene1" in data.unreadable[1]
    assert "00005.jpg" in data.unreadable[1]


def test_a_trainer_predicts_what_propagate_gives(model, tmp_path):
    pictures = sorted((davis(tmp_path) / "JPEGImages/480p/scene0").iterdir())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    found = [mask for batch in trainer.predict(model, data_of(tmp_path)) for mask in batch["outputs"]]
    expected = list(model.propagate(pictures[0].parent, tmp_path / "Annotations/480p/scene0/00000.png"))
    assert len(found) == 12
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(found, expected, strict=False))


def test_frames_are_rebuilt_from_those_before(model, tmp_path):
    root = davis(tmp_path, frames=12)
    ours, staying = (
        test(m, data_of(root, task="reconstruction")) for m in (model, zoo.load("label_propagation_identity"))
    )
    assert ours["l1_5f"] < staying["l1_5f"]
    assert staying["l1_10f"] >= staying["l1_5f"] > 0


def test_identity_of_joints_and_parts(tmp_path):
    """The other two kinds go the same road; the numbers' own tests are those of the metrics."""
    jhmdb = zoo.datamodule("sandbox_jhmdb", root=_rendered("jhmdb", tmp_path), num_workers=0)
    scores = test(zoo.load("label_propagation_identity"), jhmdb)
    assert 0 <= scores["pck_01"] <= scores["pck_05"] <= 100
    vip = zoo.datamodule("sandbox_vip", root=_rendered("vip", tmp_path), num_workers=0)
    scores = test(zoo.load("label_propagation_identity"), vip)
    assert 0 < scores["miou"] < 100
    assert 0 <= scores["ap_r_70"] <= scores["ap_r_30"] <= 100


def test_void_of_the_first_frame_and_instance_255(tmp_path):
    """Pixels of no class are the background's when they are propagated; of instances every number means something."""
    semantic, instances = torch.zeros(16, 16, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.int64)
    semantic[4:12], instances[4:12], semantic[0] = 3, 255, 255
    truth = {"semantic": semantic, "instances": instances, "classes": torch.tensor([0] * 255 + [3])}
    batch = {"kind": "parts", "index": 0, "length": 2, "name": "one", "numbers": torch.arange(2), "truth": [truth] * 2}
    for start in (
        zoo.load("label_propagation_identity").start,
        Correspondence(Colours(), spec=VideoSpec(), propagation=Propagation(size=None)).start,
    ):
        scores = Scores("parts")
        scores.update(
            start("parts", truth, (16, 16)).step(torch.rand(1, 3, 16, 16).mul(255).byte().repeat(2, 1, 1, 1)), batch
        )
        assert scores.compute()["ap_r_vol"] > 0
        assert scores.compute()["videos"] == 1


def test_data_without_sequences_is_refused(model, kinetics_root):
    data = zoo.datamodule("sandbox_kinetics", root=kinetics_root, spec=model.spec, num_workers=0)
    with pytest.raises(zoo.DataError, match="sandbox_kinetics has none: test on davis2017"):
        test(model, data)


class Learning(Correspondence):
    """Learns anything, from clips."""

    def __init__(self) -> None:
        spec = VideoSpec(frames=1, stride=1, crop=16, short_side=(16, 16), test_crop=16, test_short_side=16)
        super().__init__(nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.BatchNorm2d(2)), spec=spec)

    def training_step(self, batch, batch_idx):
        assert self.encoder.training
        return self(self.normalize(batch["clips"])).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_it_trains_after_a_test_on_labelled_videos_that_hold_none_out(tmp_path, kinetics_root):
    """The labels are not read and not remembered; what a test leaves behind does not keep the model from training."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train").symlink_to(kinetics_root / "val")
    model = Learning().eval()
    model.propagation = Propagation(size=None)
    assert test(model, data_of(davis(tmp_path / "davis")))["videos"] == 2
    data = zoo.datamodule("folder", root=tmp_path / "mine", spec=model.spec, num_workers=0)
    assert data.classes
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", max_steps=1, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, data)
    assert trainer.global_step == 1
    assert model.labels is None


def _rendered(kind: str, folder):
    """A small rendered set in the layout of JHMDB or VIP."""
    from zoo.data.sandbox import correspondence

    return getattr(correspondence, f"render_{kind}")(folder / kind, val=2)
