"""The guess on Charades: what it logs is what random scores get, in however many batches and processes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from zoo.errors import ZooError
from zoo.metrics.charades import ChanceMAP, CharadesClassificationMAP, CharadesLocalizationMAP
from zoo.metrics.ranking import average_precision

VIDEOS, CLASSES = 60, 6


def batches(size: int, order: list[int] | None = None):
    """Batches of annotations, as the data set serves them without pixels; some videos have no label."""
    draw = torch.Generator().manual_seed(1)
    moments = (torch.rand(VIDEOS, 25, CLASSES, generator=draw) < 0.01 * torch.arange(1, CLASSES + 1)).to(torch.uint8)
    moments[::7] = 0
    for part in torch.tensor(order or range(VIDEOS)).split(size):
        yield {
            "label": moments[part].amax(1),
            "moment_label": moments[part],
            "index": part,
            "lengths": torch.zeros_like(part),
            "duration": np.full(len(part), 30.0),
            "unreadable": [],
        }


class Data(pl.LightningDataModule):
    """A stand-in for Charades: the batches above."""

    name, classes = "charades", tuple("abcdef")

    def test_dataloader(self):
        return torch.utils.data.DataLoader(list(batches(7)), batch_size=None)


def test_it_logs_what_random_scores_get(tmp_path):
    model = zoo.create("charades_chance", num_classes=CLASSES)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    (found,) = trainer.test(model, Data(), verbose=False)
    assert found["videos"] == VIDEOS
    assert found["classes"] == CLASSES
    logged = {name: [] for name in ("map", "wap", "point_map", "point_wap", "map_all_videos")}
    for seed in range(80):
        model.seed = seed
        videos, points = CharadesClassificationMAP(CLASSES), CharadesLocalizationMAP(CLASSES)
        for batch in batches(VIDEOS):
            scores, moments = (
                torch.stack([one[key] for one in model.predict_step(batch, 0)]) for key in ("scores", "moments")
            )
            videos.update(scores, batch["label"], batch["index"])
            points.update(moments, batch["moment_label"], batch["index"])
            logged["map_all_videos"].append(100 * float(average_precision(scores, batch["label"]).mean()))
        for name, value in {**videos.compute(), **points.compute()}.items():
            if name in logged:
                logged[name].append(float(value))
    for name, values in logged.items():
        spread = np.std(values) / len(values) ** 0.5
        assert abs(np.mean(values) - found[name]) < 3.5 * spread, name
    assert found["map_all_videos"] < found["map"] - 0.5


def test_a_draw_depends_on_the_video_s_number_alone():
    model = zoo.create("charades_chance", num_classes=CLASSES)
    drawn = {}
    for size, order in ((VIDEOS, None), (4, list(range(VIDEOS))[::-1])):
        for batch in batches(size, order):
            for one in model.predict_step(batch, 0):
                assert one["scores"].shape == (CLASSES,)
                known = drawn.setdefault(one["index"], one)
                assert torch.equal(known["scores"], one["scores"])
                assert torch.equal(known["moments"], one["moments"])
    assert len({float(one["scores"][0]) for one in drawn.values()}) == VIDEOS
    other = zoo.create("charades_chance", num_classes=CLASSES, seed=1).predict_step({"index": torch.tensor([0])}, 0)
    assert not torch.equal(other[0]["scores"], drawn[0]["scores"])


def test_a_video_that_comes_twice_counts_once():
    once, twice = ChanceMAP(CLASSES), ChanceMAP(CLASSES)
    for metric, orders in ((once, [None]), (twice, [None, list(range(20, 50))])):
        for order in orders:
            for batch in batches(9, order):
                metric.update(batch["label"], batch["moment_label"], batch["index"])
    assert twice.compute() == once.compute()


def test_what_it_says_and_refuses():
    model = zoo.create("charades_chance")
    assert (model.num_classes, model.spec.pixels, model.spec.fps) == (157, False, 24)
    assert model.spec.moments is not None
    assert model(torch.zeros(2, 3, 1, 8, 8)).shape == (2, 157)
    with pytest.raises(ZooError, match="num_classes >= 1"):
        zoo.create("charades_chance", num_classes=0)
    batch = next(batches(5))
    with pytest.raises(ZooError, match=r"must be \(5, 6\) and \(5, 25, 6\)"):
        ChanceMAP(CLASSES).update(batch["label"], batch["moment_label"][:, :24], batch["index"])
    model.trainer = SimpleNamespace(datamodule=Data())
    with pytest.raises(zoo.DataError, match="tells 157 classes apart, charades has 6"):
        model.setup("test")
