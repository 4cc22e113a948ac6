"""Steps by a model of steps and by actionness: Eq. 4, whichever rows the two look at."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.goldens import load
from tests.methods.crosstask_tree import DIM, TASKS, WORDS, crosstask
from zoo.errors import FetchError, ZooError
from zoo.hub.weights import read_weights, save_weights
from zoo.methods.step_localization import StepLocalization
from zoo.methods.step_models import StepModel
from zoo.spec import FeatureSpec, VideoSpec

STEPS = TASKS["2"][1]


class Given(StepModel):
    """Scores that stand in the rows: a step model that a golden case can speak through."""

    name = "given"

    def __init__(self, dim):
        super().__init__(VideoSpec(features=FeatureSpec(dim=dim, samples="videos")))

    def step_scores(self, features, names, task=""):
        return features


def parts(actionness_dim=DIM):
    torch.manual_seed(0)
    steps = zoo.create("crosstask_weak_tiny", dim=DIM, vocabulary=WORDS).eval()
    return steps, zoo.create("actionness", dim=actionness_dim).eval()


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_golden_eq4(alpha):
    """The reference's assignments and recalls, by way of the evaluation batch."""
    case = load("actionness_eq4_step_localization")
    config, video = case.manifest["config"], 0
    models = {}
    for task in config["task_order"]:
        steps, lengths = config["tasks"][task]["n_steps"], config["tasks"][task]["lengths"]
        speaker = zoo.create("actionness", dim=1)
        speaker.actionness.weight.data.fill_(1)
        speaker.actionness.bias.data.fill_(0)
        model = models[task] = StepLocalization(Given(steps), speaker, alpha)
        if video:  # one metric over all tasks
            model.test_metrics = next(iter(models.values())).test_metrics
        for n, length in enumerate(lengths):
            name = f"{task}_v{n}"
            rows = torch.cat([case.input(f"step_{name}"), case.input(f"actionness_{name}")[:, None]], 1)
            at = [int(found.seconds) for found in model.localize(rows, [f"step {k}" for k in range(steps)])]
            case.check(f"steps_{name}.alpha{alpha}", torch.tensor(at))
            lines = [line.split(",") for line in config["annotation_lines"][f"{name}.csv"]]
            model.test_step(
                {
                    "features": rows,
                    "lengths": torch.tensor([length]),
                    "rate": np.array([1.0]),
                    "index": torch.tensor([video]),
                    "video_id": [name],
                    "intervals": [np.array([[float(start), float(end)] for _, start, end in lines])],
                    "steps": [np.array([int(step) - 1 for step, _, _ in lines])],
                    "task": [task],
                    "names": [tuple(f"step {k}" for k in range(steps))],
                    "constraints": [None],
                },
                0,
            )
            video += 1
    scores = model.test_metrics.compute()
    found = torch.stack([scores[task] for task in config["task_order"]]).float() / 100
    case.check(f"recall.alpha{alpha}", found)
    case.check(f"mean_recall.alpha{alpha}", scores["average"].float()[None] / 100)


def test_streams_share_rows_of_one_width_and_split_others():
    rows = torch.randn(9, DIM)
    steps, actionness = parts()
    both = StepLocalization(steps, actionness, 0.3)
    assert both.spec.features.dim == DIM
    expected = 0.7 * steps.step_scores(rows, STEPS) + 0.3 * actionness(rows)[:, None]
    torch.testing.assert_close(both.step_scores(rows, STEPS), expected)

    steps, actionness = parts(5)
    other = torch.randn(9, 5)
    both = StepLocalization(steps, actionness, 0.3)
    assert both.spec.features.dim == DIM + 5
    expected = 0.7 * steps.step_scores(rows, STEPS) + 0.3 * actionness(other)[:, None]
    torch.testing.assert_close(both.step_scores(torch.cat([rows, other], 1), STEPS), expected)
    joined = both.localize(torch.cat([rows, other], 1), STEPS)
    assert both.localize(rows, STEPS, actionness=other.repeat_interleave(2, 0), actionness_rate=2.0) == joined
    assert both.localize(rows, STEPS, alpha=0) == steps.localize(rows, STEPS)  # without the other's rows
    assert both.alpha == 0.3
    with pytest.raises(ZooError, match="lasts 4 seconds and the step model's features 9"):
        both.localize(rows, STEPS, actionness=other[:4])
    with pytest.raises(ZooError, match="rows of 21 numbers"):
        both.localize(rows, STEPS)
    with pytest.raises(ZooError, match="0 to 1"):
        both.localize(rows, STEPS, alpha=1.1)


def test_what_a_stream_is_built_with_stays_when_its_weights_are_loaded(tmp_path):
    steps, _ = parts()
    save_weights(
        tmp_path / "steps.safetensors", steps.state_dict(), {"model": steps.name, "arguments": steps.arguments}
    )
    both = zoo.load(
        "step_localization_tiny", weights=[tmp_path / "steps.safetensors"], alpha=0, step_options={"penalty": 7.0}
    )
    assert both.steps.penalty == 7
    assert both.steps.vocabulary == tuple(WORDS)


def test_loads_a_model_of_its_own_into_each_stream(tmp_path):
    steps, actionness = parts()
    for name, model in (("steps", steps), ("actionness", actionness)):
        about = {"model": model.name, "arguments": model.arguments, "spec": model.spec.to_dict()}
        save_weights(tmp_path / f"{name}.safetensors", model.state_dict(), about)
    files = [tmp_path / "steps.safetensors", tmp_path / "actionness.safetensors"]
    both = zoo.load("step_localization", weights=files, steps="crosstask_weak_tiny", alpha=0.5)
    rows = torch.randn(9, DIM)
    expected = StepLocalization(steps, actionness, 0.5).localize(rows, STEPS)
    assert both.localize(rows, STEPS) == expected
    alone = zoo.load("step_localization", weights=files[:1], steps="crosstask_weak_tiny", alpha=0.0)
    assert alone.localize(rows, STEPS) == steps.localize(rows, STEPS)
    # As one file, with the words of its step model.
    about = {"model": both.name, "arguments": both.arguments, "spec": both.spec.to_dict()}
    save_weights(tmp_path / "both.safetensors", both.state_dict(), about)
    again = zoo.load("step_localization", weights=tmp_path / "both.safetensors")
    assert again.localize(rows, STEPS) == expected
    assert read_weights(tmp_path / "both.safetensors")[1]["arguments"]["step_options"]["vocabulary"] == WORDS


def test_refuses_streams_that_do_not_go():
    steps, actionness = parts()
    with pytest.raises(ZooError, match="actionness does not score steps"):
        StepLocalization(actionness, actionness)
    with pytest.raises(ZooError, match="wants a model of actionness"):
        StepLocalization(steps, None, 0.5)
    with pytest.raises(ZooError, match="wants a model of actionness"):
        StepLocalization(steps, None, 0.0).localize(torch.randn(9, DIM), STEPS, alpha=0.5)


def test_reads_actionness_features_from_a_folder_of_their_own(tmp_path):
    """The step model's features at one row a second, actionness at two from another folder, one file missing."""
    steps, actionness = parts(5)
    both = StepLocalization(steps, actionness, 1.0, actionness_features=str(tmp_path / "other"))
    assert both.spec.features.dim == DIM
    data = crosstask(tmp_path / "data", spec=both.spec, batch_size=3)
    data.setup("test")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "extraction.json").write_text('{"rate": 2.0}')
    records = data.records("val")
    for record in records[1:]:
        # Acted on nowhere but in the annotated clips, in their order: actionness alone finds one clip of each step.
        rows = -actionness.actionness.weight.detach().repeat(60, 1)
        for interval in record.said.intervals:
            rows[2 * int(interval.start) + 1] *= -1
            rows[2 * int(interval.start)] *= -1
        np.save(tmp_path / "other" / f"{record.video}.npy", rows.numpy())
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet)
    scores = trainer.test(both, data, verbose=False)[0]
    assert scores["average"] == 100
    assert scores["videos"] == len(records) - 1
    assert list(data.unreadable) == [0]
    assert "no such file" in data.unreadable[0]


def test_milnce_is_a_step_model_too():
    torch.manual_seed(0)
    both = zoo.create(
        "step_localization", steps="s3d_milnce_tiny", actionness_options={"dim": 128}, step_options={"num_words": 16}
    ).eval()
    both.steps.words.learn(WORDS)
    rows = torch.rand(9, 128)  # both see the same network's
    assert both.spec.features.dim == 128
    expected = 0.2 * both.steps.step_scores(rows, STEPS) + 0.8 * both.actionness(rows)[:, None]
    torch.testing.assert_close(both.step_scores(rows, STEPS), expected)
    assert len(both.localize(rows, STEPS)) == 4


def test_weights_that_nobody_published_are_named():
    with pytest.raises(FetchError, match="crosstask_weak"):
        zoo.load("step_localization")
