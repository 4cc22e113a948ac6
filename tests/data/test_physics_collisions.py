"""Collisions in mini-batches: what a batch holds, frozen batches in new orders, resuming, sharing, broken frames."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from itertools import islice

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.nn import functional as F

from tests.data.collision_tree import PAIRS, write_collisions, write_lists
from zoo.data.collisions.flow import backward_flow
from zoo.data.collisions.frames import read_frames
from zoo.data.collisions.plan import PROPERTIES
from zoo.data.collisions.store import CollisionStore
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.errors import DataError, VideoError, ZooError
from zoo.spec import CollisionSpec, VideoSpec

SIZE = 16
SPEC = VideoSpec(
    frames=5,
    crop=SIZE,
    short_side=(SIZE, SIZE),
    test_crop=SIZE,
    test_short_side=SIZE,
    clips=1,
    crops=1,
    collisions=CollisionSpec(groups=3),
)
ONLY_MASS = SPEC.replace(collisions=CollisionSpec(("mass",)))
TRAINED = 24  # mini-batches of each property


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_collisions(tmp_path_factory.mktemp("collisions") / "set", SIZE)


@pytest.fixture
def own(root, tmp_path):
    """A copy that may be spoilt: its pictures are links, to be replaced and not to be written to."""
    shutil.copytree(root / "info", tmp_path / "set" / "info")
    return shutil.copytree(
        root, tmp_path / "set", ignore=lambda *_: ["info"], copy_function=os.link, dirs_exist_ok=True
    )


def make(root, **options):
    return PhysicsCollisions(root, **{"spec": SPEC, "num_workers": 0, **options})


@pytest.fixture(scope="module")
def data(root):
    """All of it, in memory."""
    data = make(root)
    data.store.load(range(250))
    return data


@pytest.fixture
def loader(data):
    return data.train_dataloader()


def picture(data, number, frame):
    """A frame of a sequence as its file has it, ``[3, H, W]``."""
    return np.asarray(Image.open(data.index.folders[number] / f"{frame:02d}.png")).transpose(2, 0, 1)


def of_seed(data, seed, monkeypatch):
    monkeypatch.setattr(data, "seed", seed)
    return data.train_dataloader()


def batches_of(loader):
    """The sequences of every batch of an epoch."""
    return [tuple(batch["index"].tolist()) for batch in loader]


# What a batch is


def test_a_batch_has_mini_batches_of_every_property(data, loader):
    batch = next(iter(loader))
    assert batch["property"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert batch["groups"].shape == (9, 5)
    assert sorted(batch["groups"].flatten().tolist()) == list(range(45))
    for changing, rows in zip(batch["property"].tolist(), batch["groups"], strict=True):
        scales = batch["scales"][rows]
        assert scales[:, changing].tolist() == [1, 2, 3, 4, 5]
        others = [column for column in range(3) if column != changing]
        assert bool((scales[:, others] == scales[:1, others]).all())
        # the names of the folders say the same
        for row, scale in zip(rows.tolist(), scales.tolist(), strict=True):
            name = data.index.folders[batch["index"][row]].name
            assert name.endswith("mass{:.0f}_speed{:.0f}_friction{:.0f}".format(*scale))
            assert name.startswith("_".join(PAIRS[0]))
    assert batch["clips"].dtype == torch.uint8
    assert batch["clips"].shape == (45, 3, 5, SIZE, SIZE)
    for row in (0, 17, 44):
        for frame in range(5):
            assert np.array_equal(batch["clips"][row, :, frame], picture(data, batch["index"][row], frame))


def test_a_test_sees_both_tests_row_by_row(data):
    records, expected = data.find_records("val")
    assert len(records) == expected == 3 * 25 + 3 * 1
    assert len({record.identity for record in records}) == len(records)
    assert [record.name for record in records[:: len(records) - 1]] == [
        "mass/shape_test/0",
        "friction/parameter_test/0",
    ]
    seen = list(data.test_dataloader())
    joined = {key: torch.cat([batch[key] for batch in seen]) for key in seen[0].keys() - {"unreadable"}}
    assert joined["index"].tolist() == list(range(78))
    assert joined["property"].tolist() == [0] * 25 + [1] * 25 + [2] * 25 + [0, 1, 2]
    assert joined["split"].tolist() == [0] * 75 + [1] * 3
    assert joined["view"].tolist() == [0] * 78
    assert bool(joined["unseen"][:75].all())
    assert joined["unseen"][75:].tolist() == [[False, False, True, False, False]] * 3
    assert joined["scales"][75, :, 0].tolist() == [1, 2, 3, 4, 5]
    assert bool((joined["scales"][75, :, 1:] == 3).all())
    assert joined["clips"].shape == (78, 5, 3, 5, SIZE, SIZE)
    assert np.array_equal(joined["clips"][40, 2, :, 4], picture(data, records[40].sequences[2], 4))


def test_every_sequence_of_training_may_be_had_once(data):
    seen = list(data.sequence_dataloader())
    numbers = torch.cat([batch["index"] for batch in seen])
    assert numbers.tolist() == np.flatnonzero(data.index.trained).tolist()
    assert torch.equal(torch.cat([batch["clips"] for batch in seen]), data.store.take(numbers.numpy())["clips"])
    assert torch.cat([batch["scales"] for batch in seen]).shape == (len(numbers), 3)


def test_memory_workers_and_reading_give_the_same(root, data):
    read = make(root, cache=False, num_workers=1, batch_size=2)
    assert data.store.cached
    for mine, other in zip(islice(data.train_dataloader(), 2), islice(read.train_dataloader(), 2), strict=True):
        assert all(torch.equal(mine[key], other[key]) for key in mine.keys() | other.keys())
    mine, other = next(iter(data.test_dataloader())), next(iter(read.test_dataloader()))
    assert all(torch.equal(mine[key][:2], other[key]) for key in mine.keys() - {"unreadable"})


def test_what_is_kept_in_memory_unasked_is_limited(root, monkeypatch):
    needed = CollisionStore.bytes_of(250, SIZE, flow=False)
    assert needed == make(root).store._clips.nbytes
    for limit, cached in ((needed, False), (needed + 1, True)):
        monkeypatch.setattr("zoo.data.physics_collisions._CACHED", limit)
        assert make(root).store.cached is cached
        assert make(root, cache=not cached).store.cached is not cached


# Which batches there are, and in which order


@pytest.mark.parametrize(("groups", "batches"), [(1, 23), (3, 7), (4, 5), (5, 4), (23, 1)])
def test_the_last_batch_is_dropped_as_in_the_release(data, groups, batches, monkeypatch):
    monkeypatch.setattr(data, "groups", groups)
    loader = data.train_dataloader()
    assert len(loader) == batches == -(-(TRAINED - groups) // groups)
    seen = batches_of(loader)
    assert [len(batch) for batch in seen] == [15 * groups] * batches
    masses = [number for batch in seen for number in batch[: 5 * groups]]
    assert len(set(masses)) == len(masses)


def test_batches_are_frozen_and_their_order_is_not(data, monkeypatch):
    loader, again, other = (of_seed(data, seed, monkeypatch) for seed in (0, 0, 1))
    epochs = []
    for epoch in range(2):
        for one in (loader, again, other):
            one.sampler.set_epoch(epoch)
        epochs.append(batches_of(loader))
        assert epochs[-1] == batches_of(again)
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) == set(epochs[1])
    assert not set(epochs[0]) & set(batches_of(other))


def test_properties_may_change_between_epochs(loader):
    everything = batches_of(loader)
    loader.sampler.properties = ("friction", "mass")  # a batch has them in the usual order all the same
    assert batches_of(loader) == [batch[:15] + batch[30:] for batch in everything]
    loader.sampler.properties, loader.sampler.groups = ("speed",), 2
    assert len(loader) == 11
    batch = next(iter(loader))
    assert batch["property"].tolist() == [1, 1]
    for wrong, message in (((), "no property"), (("mass", "force"), "'force'"), (("mass", "mass"), "each once")):
        with pytest.raises(DataError, match=message):
            loader.sampler.properties = wrong
    with pytest.raises(DataError, match="24 mini-batches to train on, which with 24 in a batch"):
        loader.sampler.groups = 24
    assert batches_of(loader)[0] == tuple(batch["index"].tolist())  # what is refused changes nothing


def test_the_shortest_property_that_is_trained_counts(root, own):
    index = make(root).index
    lists = {name: [splits[split].tolist() for split in splits] for name, splits in index.mini_batches.items()}
    lists["friction"][0] = lists["friction"][0][:7]
    lists["force"] = lists.pop("speed")
    write_lists(own, [[folder.name] for folder in index.folders], lists)
    loader = make(own).train_dataloader()
    assert len(loader) == len(batches_of(loader)) == 2
    loader.sampler.properties = ("mass", "speed")
    assert len(loader) == len(batches_of(loader)) == 7


def test_a_set_without_unseen_pairs_is_whole_too(root, own):
    index = make(root).index
    lists = {name: [splits["train"].tolist(), [], []] for name, splits in index.mini_batches.items()}
    lists["force"] = lists.pop("speed")
    write_lists(own, [[folder.name] for folder in index.folders], lists)
    report = make(own).check()
    assert report.ok
    assert list(report.splits) == ["train"]
    with pytest.raises(DataError, match="none of the 0 videos of split 'val'"):
        make(own).test_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_resumes_at_the_next_batch(root, data, workers):
    if workers:
        data = make(root, cache=False, num_workers=1, groups=6, spec=ONLY_MASS)
    loader, later = data.train_dataloader(), data.train_dataloader()
    loader.sampler.set_epoch(3)
    iterator = iter(loader)
    seen = [next(iterator)["index"].tolist() for _ in range(2)]
    later.load_state_dict(loader.state_dict())
    later.sampler.set_epoch(3)
    rest = batches_of(later)
    assert rest == [tuple(batch["index"].tolist()) for batch in iterator]
    assert len(rest) == len(loader) - len(seen) > 0
    assert len(batches_of(later)) == len(loader)  # the next epoch is whole


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_divide_batches_and_see_every_row_of_a_test_once(data, world, monkeypatch):
    trained, tested = [], []
    for rank in range(world):
        monkeypatch.setattr(data, "_place", lambda rank=rank: (rank, world))
        trained.append(batches_of(data.train_dataloader()))
        tested += [number for batch in data.test_dataloader() for number in batch["index"].tolist()]
    assert {len(share) for share in trained} == {max(7 // world, 1)}
    together = [batch for share in trained for batch in share]
    assert len(set(together)) == min(len(together), 7)
    assert sorted(tested) == list(range(78))


class Probe(pl.LightningModule):
    """Learns nothing; notes what it was given."""

    spec = SPEC

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch["index"].tolist())
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_killed_staggered_run_goes_on_with_the_same_batch(data, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "schedule", lambda epoch: PROPERTIES[: 1 + epoch])

    def run(path=None):
        probe = Probe()
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=10, save_top_k=-1)],
        )
        trainer.fit(probe, data, ckpt_path=path, weights_only=False)
        return probe.seen

    whole = run()
    assert [len(batch) for batch in whole] == [15] * 7 + [30] * 7 + [45] * 7
    assert run(tmp_path / "step=10.ckpt") == whole[10:]


# What is refused


def cut_off(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-40])


def enlarge(path, height=SIZE + 1):
    path.unlink()
    Image.new("RGB", (SIZE + 1, height)).save(path)


FAULTS = [
    (cut_off, "02", r"mass1_speed2_friction3: .*02\.png cannot be read"),
    (os.unlink, "04", r"mass1_speed2_friction3: there is no file .*04\.png"),
    (enlarge, "01", r"01\.png has 17 x 17 pixels, the first frame of its sequence 16 x 16"),
    (lambda path: enlarge(path, SIZE), "00", r"00\.png has 17 x 16 pixels. Frames of collisions are square"),
]


@pytest.mark.parametrize(("spoil", "frame", "message"), FAULTS)
def test_a_broken_frame_is_refused_by_name(own, spoil, frame, message):
    name = "_".join((*PAIRS[0], "00", "mass1_speed2_friction3"))
    spoil(own / name / f"{frame}.png")
    for cache in (True, False):
        data = make(own, cache=cache)
        whole, broken = (np.array([data.index.folders.index(own / folder)]) for folder in (f"{name[:-1]}4", name))
        assert data.store.take(whole)["clips"].shape == (1, 3, 5, SIZE, SIZE)
        with pytest.raises(DataError, match=f"^sequence .*{message}.* `zoo data make"):
            data.store.take(broken)


def test_a_broken_frame_ends_training_and_is_left_out_of_a_test(own):
    trained, tested = ("_".join((*pair, "00", "mass1_speed2_friction3")) for pair in PAIRS)
    for name in (trained, tested):
        cut_off(own / name / "02.png")
    data = make(own)
    with pytest.raises(DataError, match=f"1 sequences cannot be used. The first: sequence {trained}"):
        data.train_dataloader()
    seen = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    lost = [k for k, record in enumerate(data.records("val")) if tested in record.folders]
    assert list(data.unreadable) == lost
    assert len(lost) == 3
    assert all(f"sequence {tested}" in message for message in data.unreadable.values())
    assert [k for batch in seen for k in batch["index"].tolist()] == [k for k in range(78) if k not in lost]
    report = data.check(decode=True)
    for split, name in (("train", trained), ("shape_test", tested)):
        assert list(report.splits[split].unreadable) == [f"{name}/02"]
    assert "makes what is missing or broken" in report.advice()[-1]


@pytest.mark.parametrize(("spoil", "frame", "message"), FAULTS[:2])
def test_a_broken_frame_ends_training_without_memory_too(own, spoil, frame, message):
    data = make(own, cache=False, spec=ONLY_MASS)
    number = data.records("train")[0].sequences[2]
    spoil(data.index.folders[number] / f"{frame}.png")
    with pytest.raises(DataError, match=message.partition(": ")[2]):
        list(data.train_dataloader())


def test_a_batch_of_broken_rows_is_empty(own):
    spec = SPEC.replace(collisions=CollisionSpec())
    data = make(own, batch_size=1, spec=spec, cache=False)
    cut_off(data.index.folders[data.records("val")[0].sequences[0]] / "00.png")
    batch = next(iter(data.test_dataloader()))
    assert {key: tuple(value.shape) for key, value in batch.items() if key != "unreadable"} == {
        "clips": (0, 5, 3, 5, SIZE, SIZE),
        "property": (0,),
        "split": (0,),
        "unseen": (0, 5),
        "scales": (0, 5, 3),
        "index": (0,),
        "view": (0,),
    }


def test_an_interrupted_generation_says_how_to_complete_it(own):
    data = make(own)
    shutil.rmtree(data.index.folders[3])
    with pytest.raises(DataError, match=f"1 sequences to train on are missing, the first is {data._name(3)}"):
        make(own).setup("fit")
    make(own).setup("test")
    report = make(own).check()
    assert report.splits["train"].missing == 1
    assert f"The first that is missing: {data._name(3)}." in report.advice()
    assert f"`zoo data make physics_collisions --out {own}`" in report.advice()[-1]
    shutil.rmtree(data.index.folders[-1])
    with pytest.warns(UserWarning, match="3 of 78 videos of split 'val' are missing"):
        make(own).setup("test")
    (own / "info" / "batch.p").unlink()
    for use in (make(own).check, lambda: make(own).setup("fit")):
        with pytest.raises(DataError, match=r"there is no .*batch\.p.*`zoo data make physics_collisions --out"):
            use()


def test_a_flipped_byte_shows_in_a_check(own):
    assert make(own).check(decode=True).ok
    before, after = make(own).index.folders[7:9]
    (before / "02.png").unlink()
    shutil.copy(before / "00.png", before / "02.png")
    # what was noted when the set was made is known without an earlier check
    noted = {"name": after.name, "sha256": "0" * 64}
    (own / "info" / "collisions.json").write_text(json.dumps({"collisions": [noted]}))
    assert make(own).check().ok
    assert make(own).check(decode=True).splits["train"].changed == [before.name, after.name]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SPEC.replace(collisions=None), "its spec has no collisions"),
        (SPEC.replace(frames=4), "wants 4 frames a sequence, of which there are 5"),
    ],
)
def test_a_model_of_something_else_is_refused(root, spec, message):
    for use in (lambda d: d.setup("fit"), lambda d: d.train_dataloader(), lambda d: d.test_dataloader()):
        with pytest.raises(DataError, match=message):
            use(make(root, spec=spec))
    assert make(root, spec=None).check().ok


def test_wrong_options_are_refused(root):
    with pytest.raises(DataError, match="groups must be at least 1"):
        make(root, groups=0)
    with pytest.raises(DataError, match="which with 30 in a batch"):
        make(root, groups=30).train_dataloader()


# Frames


def test_wide_renders_are_cut_as_the_release_cuts_them(tmp_path):
    wide = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 360, 640), dtype=np.uint8))
    by_opencv = {  # SHA-256 of what cv2.resize makes of rows 100 to 323, columns 150 to 509
        64: "bb6b44165e23b086385159c7f21950c52b6b679107544436585765fe56e4c6f8",
        256: "26c9e34d36bdcb4ac6240f423b4a1838de14faec1461fd30d7d842a8c8c4aac8",
    }
    for size, digest in by_opencv.items():
        with pytest.warns(UserWarning, match="640 x 360 pixels .* columns 150 to 509"):
            found = read_frames(wide, size)
        assert found.shape == (2, 3, size, size)
        assert hashlib.sha256(found.numpy().tobytes()).hexdigest() == digest
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, frame in zip(paths, wide, strict=True):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)
    assert torch.equal(read_frames(paths, 256), found)


def test_square_frames_are_only_scaled(root):
    folder = next(root.glob("sphere*"))
    frames = read_frames(folder, SIZE)
    assert torch.equal(frames, read_frames([folder / f"{k:02d}.png" for k in range(5)], SIZE))
    assert torch.equal(read_frames(frames, SIZE), frames)
    halves = F.avg_pool2d(frames.float(), 2)  # which bilinear scaling to half the size is
    assert float((read_frames(folder, SIZE // 2) - halves).abs().max()) <= 0.5
    square = torch.zeros(1, 3, 600, 600, dtype=torch.uint8)
    square[..., :100, :150] = 255  # a square is kept whole, however large
    assert read_frames(square, 6)[0, 0, 0, 0] == 255


def test_four_frames_will_do_and_three_will_not(own):
    folder = next(own.glob("sphere*"))
    (folder / "04.png").unlink()
    assert read_frames(str(folder), SIZE).shape == (4, 3, SIZE, SIZE)
    (folder / "03.png").unlink()
    with pytest.raises(VideoError, match=r"there is no file .*03\.png"):
        read_frames(folder, SIZE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(4, 3, 323, 640, dtype=torch.uint8), "the tensor of frames has 640 x 323 pixels"),
        (torch.zeros(4, 3, 360, 509, dtype=torch.uint8), "has 509 x 360 pixels"),
        (torch.zeros(4, 3, 16, 16), r"got float32 of shape \[4, 3, 16, 16\]"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), r"of shape \[3, 16, 16\]"),
        ("nowhere", "there is no folder nowhere"),
        ([], "no frames"),
    ],
)
def test_other_frames_are_refused(source, message):
    with pytest.raises(VideoError, match=message):
        read_frames(source, 16)


# Flow


def test_flow_points_back_to_the_frame_before(root):
    pytest.importorskip("cv2")
    size, (down, right) = 64, (3, 6)
    noise = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    scene = (F.interpolate(noise, size=(100, 100), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)[0]
    # What is seen moves down and to the right, so frame t + 1 looks at p as frame t at p - (right, down).
    frames = torch.stack(
        [scene[:, 20 - down * t : 20 - down * t + size, 30 - right * t : 30 - right * t + size] for t in range(5)]
    )
    flow = backward_flow(frames)
    assert flow.shape == (4, 2, size, size)
    assert flow.dtype == torch.float16
    inner = flow[..., 12:-12, 12:-12].float().mean(dim=(0, 2, 3))
    assert inner.tolist() == pytest.approx([-right, -down], abs=0.2)


def test_flow_is_served_where_a_model_wants_it(root):
    pytest.importorskip("cv2")
    spec = SPEC.replace(collisions=CollisionSpec(groups=1, flow=True))
    kept, read = (make(root, spec=spec, cache=cache, batch_size=2) for cache in (True, False))
    batch, other = (next(iter(data.train_dataloader())) for data in (kept, read))
    assert batch["flow"].shape == (15, 4, 2, SIZE, SIZE)
    assert batch["flow"].dtype == torch.float32
    assert torch.equal(batch["flow"], other["flow"])
    assert torch.equal(batch["flow"][7], backward_flow(batch["clips"][7].transpose(0, 1)).float())
    assert next(iter(read.test_dataloader()))["flow"].shape == (2, 5, 4, 2, SIZE, SIZE)


def test_flow_without_opencv_says_what_is_lacking(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    data = make(root, spec=SPEC.replace(collisions=CollisionSpec(flow=True)))
    with pytest.raises(ZooError, match=r"pip install 'videozoo\[flow\]'"):
        data.train_dataloader()
