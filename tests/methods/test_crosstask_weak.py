"""The component model: learns steps from their order and narration, remembers its words, goes on where it was."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.methods.crosstask_tree import DIM, TASKS, WORDS, crosstask
from zoo.errors import WeightsError, ZooError
from zoo.hub.weights import save_weights
from zoo.methods.step_models import per_second


def trainer(tmp_path, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, **{"enable_checkpointing": False, **quiet, **options}
    )


def model(**options):
    pl.seed_everything(0)
    return zoo.create("crosstask_weak_tiny", dim=DIM, dropout=0.1, learning_rate=0.02, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model, its data, and the checkpoint of its training."""
    root = tmp_path_factory.mktemp("crosstask")
    net = model()
    data = crosstask(root, spec=net.spec, batch_size=1)
    run = trainer(root, max_epochs=8, limit_val_batches=0)
    run.fit(net, data)
    run.save_checkpoint(root / "last.ckpt")
    return net, data, root / "last.ckpt"


def test_learns_steps_from_order_and_narration(trained, tmp_path):
    net, data, _ = trained
    assert net.vocabulary == tuple(WORDS)
    scores = trainer(tmp_path).test(net, data, verbose=False)[0]
    untrained = trainer(tmp_path).test(model(vocabulary=WORDS), data, verbose=False)[0]
    assert set(scores) == {"make_latte", "brew_tea", "cook_rice", "average", "videos"}
    assert scores["videos"] == 6
    assert scores["average"] > 75 > 45 > untrained["average"]


def test_assigns_within_the_narration_then_by_the_gradient(trained):
    net, data, _ = trained
    records = data.records("train")
    assert sorted(net.assigned) == list(range(len(records)))
    found = [
        any(start <= at < end for step, start, end in records[index].said.intervals if step == k)
        for index, steps_at in net.assigned.items()
        for k, at in enumerate(steps_at.tolist())
    ]
    assert np.mean(found) > 0.75  # of eight clips that narration allows, two are right


def test_a_checkpoint_knows_words_and_assignments(trained):
    net, data, path = trained
    loaded = zoo.load(str(path))
    assert loaded.vocabulary == net.vocabulary
    assert loaded.share == "words"
    features = torch.randn(9, DIM)
    steps = TASKS["2"][1]
    assert torch.equal(loaded.step_scores(features, steps), net.eval().step_scores(features, steps))
    bare = model()
    assert trainer(path.parent).test(bare, data, ckpt_path=str(path), verbose=False)[0]["videos"] == 6
    assert bare.vocabulary == net.vocabulary
    raw = torch.load(path, weights_only=True)
    again = model()
    again.on_load_checkpoint({"zoo": raw["zoo"], "state_dict": {}, "assigned": raw["assigned"]})
    assert all(torch.equal(again.assigned[n], at) for n, at in net.assigned.items())
    other = model(vocabulary=[*WORDS[1:], WORDS[0]])
    with pytest.raises(WeightsError, match="in another order"):
        other.on_load_checkpoint(raw)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    """Three epochs of nine videos, and the same with a stop amid the last one, which assigns by the gradient."""

    class Save(pl.Callback):
        def on_train_batch_end(self, run, net, outputs, batch, batch_idx):
            if run.global_step == 22:
                run.save_checkpoint(tmp_path / "stopped.ckpt")

    def fit(name, **options):
        net = model(random_share=0.3)
        run = trainer(tmp_path, max_epochs=3, limit_val_batches=0, callbacks=[Save()])
        run.fit(net, crosstask(tmp_path / name, videos=4, batch_size=1, spec=net.spec), **options)
        return net

    whole, resumed = fit("whole"), fit("resumed", ckpt_path=str(tmp_path / "stopped.ckpt"))
    assert torch.equal(resumed.network.fc.weight, whole.network.fc.weight)
    assert all(torch.equal(resumed.assigned[n], at) for n, at in whole.assigned.items())


def test_localizes_in_a_file(trained, tmp_path):
    net, data, _ = trained
    record = data.records("val")[0]
    found = net.eval().localize(record.path, steps=list(record.said.steps))
    assert [step for step, _, _ in found] == list(record.said.steps)
    truth = {i.step: (i.start, i.end) for i in record.said.intervals}
    hits = [truth[k][0] < at.seconds < truth[k][1] for k, at in enumerate(found)]
    assert np.mean(hits) > 0.5
    rows = np.load(record.path)
    assert found == net.localize(rows, list(record.said.steps))
    np.save(tmp_path / "twice.npy", rows.repeat(2, 0))
    (tmp_path / "extraction.json").write_text('{"rate": 2.0}')
    assert net.localize(tmp_path / "twice.npy", list(record.said.steps)) == found


def test_refuses_by_name(trained, tmp_path):
    net = trained[0].eval()
    rows, steps = torch.randn(9, DIM), ["add tea", "pour milk"]
    with pytest.raises(ZooError, match="'whisk' \\(in 'whisk milk'\\)"):
        net.localize(rows, ["add tea", "whisk milk"])
    with pytest.raises(ZooError, match="1 clips of a second, fewer than the 2 steps"):
        net.localize(rows[:1], steps)
    with pytest.raises(ZooError, match=r"rows of 16 numbers, \[T, 16\], got \[9, 5\]"):
        net.localize(rows[:, :5], steps)
    with pytest.raises(ZooError, match="row 3 of the features holds NaN"):
        net.localize(rows.index_fill(0, torch.tensor(3), torch.nan), steps)
    with pytest.raises(ZooError, match="list of their names"):
        net.localize(rows, "add tea")
    with pytest.raises(ZooError, match="rate"):
        net.localize(rows, steps, rate=0)
    with pytest.raises(ZooError, match="which word each of its components"):
        model().localize(rows, steps)
    broken = model(vocabulary=WORDS)
    broken.network.fc.bias.data.fill_(torch.nan)
    with pytest.raises(ZooError, match="scores NaN"):
        broken.localize(rows, steps)


def test_a_video_with_fewer_clips_than_steps_is_missed_and_said(trained, tmp_path):
    net, data, _ = trained
    batch = next(iter(data.test_dataloader()))
    batch["features"], batch["lengths"] = batch["features"][:1], torch.tensor([1])
    for name in ("video_id", "intervals", "steps", "task", "names", "constraints"):
        batch[name] = batch[name][:1]
    batch["index"], batch["rate"] = batch["index"][:1], batch["rate"][:1]
    batch["intervals"] = [np.array([[0.0, 1.0]])]
    batch["steps"] = [np.array([0])]
    net.test_metrics.reset()
    with pytest.warns(UserWarning, match="1 clips for 3 steps, all of which are missed"):
        net.test_step(batch, 0)
    assert float(net.test_metrics.compute()["average"]) == 0
    net.test_metrics.reset()


def test_reads_the_released_codes_weights(tmp_path):
    state = {"fc.weight": torch.randn(len(WORDS), 3200), "fc.bias": torch.randn(len(WORDS))}
    torch.save(state, tmp_path / "net.pth")
    net = zoo.load("crosstask_weak", weights=tmp_path / "net.pth", vocabulary=WORDS)
    assert torch.equal(net.network.fc.weight, state["fc.weight"])
    assert len(net.localize(torch.randn(9, 3200), ["add tea", "pour milk"])) == 2
    bare = zoo.load("crosstask_weak", weights=tmp_path / "net.pth")
    with pytest.raises(ZooError, match="vocabulary"):
        bare.localize(torch.randn(9, 3200), ["add tea"])
    save_weights(tmp_path / "x.safetensors", {"fc.weight": torch.ones(2, 2)})
    with pytest.raises(WeightsError, match=r"fc\.bias"):
        zoo.load("crosstask_weak", weights=tmp_path / "x.safetensors")


def test_rows_become_seconds():
    rows = torch.arange(10.0)[:, None]
    assert per_second(rows, 1.0) is rows
    assert per_second(rows, 5.0).flatten().tolist() == [2.0, 7.0]
    assert per_second(rows, 4.0).flatten().tolist() == [1.5, 5.5, 8.5]  # the last second is not whole
    assert per_second(rows[:3], 1.5).flatten().tolist() == [0.0, 1.5]
    assert per_second(rows[:2], 0.4).flatten().tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
