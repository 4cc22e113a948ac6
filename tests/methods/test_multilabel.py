"""A classifier of videos with several labels each: its loss, its scores, its recipe, and what it refuses."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import zoo
from zoo.data.transforms import test_views as views_of
from zoo.loading import on_paper
from zoo.methods.nonlocal_net import recipe_of
from zoo.metrics.ranking import average_precision
from zoo.reproduce import tables

CLASSES = ("opening", "closing", "holding")
QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


class Films(pl.LightningDataModule):
    """Six small films; each of three classes is one colour being bright, and any number of them may be."""

    name, classes, batch_size, multilabel = "films", CLASSES, 3, True

    def __init__(self, clips: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
        self.films = torch.randint(0, 60, (6, 3, 8, 24, 24), dtype=torch.uint8, generator=generator)
        for film, label in zip(self.films, self.labels.tolist(), strict=True):
            for channel, bright in enumerate(label):
                film[channel] += 150 * bright
        self.clips = clips

    def train_dataloader(self) -> DataLoader:
        rows = [
            {"clips": f, "label": y, "index": i} for i, (f, y) in enumerate(zip(self.films, self.labels, strict=True))
        ]
        return DataLoader(rows, batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader:
        rows = [
            {"clips": torch.roll(self.films[i], c, 0)[None], "label": self.labels[i], "index": i, "view": c}
            for i in range(6)
            for c in range(self.clips)
        ]
        return DataLoader(rows, batch_size=4)


class OneEach(Films):
    """The same with one label each."""

    multilabel = False


def tiny(**arguments) -> pl.LightningModule:
    torch.manual_seed(0)
    return zoo.create("i3d_tiny", num_classes=3, multilabel=True, **arguments)


def trained(model: pl.LightningModule, steps: int = 1, data: type[Films] = Films) -> pl.Trainer:
    trainer = pl.Trainer(max_steps=steps, accelerator="cpu", limit_val_batches=0, **QUIET)
    trainer.fit(model, data())
    return trainer


def test_the_loss_is_the_mean_cross_entropy_of_every_class():
    model = tiny()
    model.log = lambda *_, **__: None
    data = Films()
    batch = {"clips": data.films, "label": data.labels}
    shares = model.eval()(model.normalize(data.films)).double().sigmoid()
    label = data.labels.double()
    expected = -(label * shares.log() + (1 - label) * (1 - shares).log()).mean()
    assert model.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_lowers_the_loss():
    model, losses = tiny(learning_rate=0.3), []
    model.log = lambda name, value, **_: losses.append(value.item())
    trained(model, steps=16)
    assert sum(losses[-2:]) < 0.5 * sum(losses[:2]), losses


def test_a_view_scores_each_class_by_itself():
    model = tiny().eval()
    clips = model.normalize(Films().films)
    with torch.no_grad():
        torch.testing.assert_close(model.view_scores(clips), model(clips).sigmoid())
        wide = torch.cat([clips, clips.flip(0)], dim=4)
        model.head.window = 1
        places = model.head.dense(model.trunk(wide)).sigmoid()
        assert places[0, 0].numel() > 1
        torch.testing.assert_close(model.view_scores(wide), places.mean((2, 3, 4)))


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_a_test_ranks_videos_by_their_views_together(combine):
    model = tiny(combine=combine).eval()
    model.spec = model.spec.replace(clips=2)
    data = Films(clips=2)
    trainer = pl.Trainer(accelerator="cpu", **QUIET)
    (found,) = trainer.test(model, data, verbose=False)
    with torch.no_grad():
        scores = [model.view_scores(model.normalize(torch.roll(data.films, c, 1))) for c in range(2)]
    together = torch.maximum(*scores) if combine == "max" else sum(scores) / 2
    labelled = data.labels.any(1)  # the fifth film has none: it ranks last
    expected = 100 * average_precision(together[labelled], data.labels[labelled]).mean()
    assert found["map"] == pytest.approx(float(expected), abs=1e-4)
    assert (found["videos"], found["incomplete"], found["classes"]) == (6, 0, 3)
    assert "maximum" in model.protocol()["in_words"] if combine == "max" else "mean" in model.protocol()["in_words"]


def test_labels_of_the_other_kind_are_refused():
    model = tiny()
    with pytest.raises(zoo.DataError, match=r"gives any number of labels.*films has one.*--model.multilabel false"):
        trained(model, data=OneEach)
    one = zoo.create("i3d_tiny", num_classes=5)
    with pytest.raises(
        zoo.DataError,
        match=r"new head: --model.multilabel true --model.num_classes 3 on .* multilabel=True, num_classes=3 in",
    ):
        trained(one)
    with pytest.raises(zoo.DataError, match="Fine-tune it first"):
        pl.Trainer(accelerator="cpu", **QUIET).test(one, Films(), verbose=False)


def test_a_checkpoint_remembers_the_kind_of_its_labels(tmp_path, kinetics_root):
    model = tiny()
    trained(model).save_checkpoint(path := tmp_path / "films.ckpt")
    loaded = zoo.load(str(path))
    assert loaded.multilabel
    assert loaded.labels == CLASSES
    with pytest.raises(zoo.WeightsError, match=r"trained with multilabel=True.*resume with --model.multilabel true"):
        zoo.create("i3d_tiny", num_classes=3).on_load_checkpoint(torch.load(path, weights_only=True))

    video = next((kinetics_root / "val").glob("*/*.mp4"))
    with torch.no_grad():
        views = views_of(video, loaded.spec.replace(clips=3), None)
        scores = loaded.view_scores(loaded.normalize(views))
    for combine, expected in (("max", scores.amax(0)), ("mean", scores.mean(0))):
        loaded.combine = combine
        predictions = loaded.predict(video, clips=3, top=2)
        assert [p.score for p in predictions] == pytest.approx(expected.sort(descending=True)[0][:2].tolist(), abs=1e-6)
        assert [p.label for p in predictions] == [CLASSES[i] for i in expected.argsort(descending=True)[:2]]
    assert len(loaded.predict(video, clips=1, top=99)) == len(CLASSES)
    for top in (-1, 0, 2.5):
        with pytest.raises(zoo.ZooError, match=f"a whole number from 1 on, not {top}"):
            loaded.predict(video, top=top)


def test_the_recipe_for_charades_is_the_papers():
    recipe = recipe_of("128x1", recipe="charades")
    rates = {step: recipe.rate * recipe.factor(step / recipe.iterations) for step in (0, 74_999, 75_000, 150_000)}
    assert list(rates.values()) == pytest.approx([1.25e-3, 1.25e-3, 1.25e-4, 1.25e-5])
    assert recipe.steps(8) == 200_000

    for row in tables.get("nonlocal/5.4")[0].rows:
        if row.model:
            model = on_paper(row.model, **row.override)
            spec = model.spec
            assert (spec.frames, spec.stride, spec.crop, spec.test_crop, spec.test_short_side) == (
                128,
                1,
                288,
                320,
                320,
            )
            # The window is chosen in a frame as Kinetics' is, and then comes out at 288 pixels instead of 224.
            assert [side / 288 for side in spec.short_side] == pytest.approx([256 / 224, 320 / 224], abs=2e-3)
            assert model.multilabel
            assert model.head.window == model.trunk(torch.empty(1, 3, 128, 288, 288, device="meta")).shape[-1]
            assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
