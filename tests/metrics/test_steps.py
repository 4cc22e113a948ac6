"""Step recall: the released code's numbers through Eq. 4, and what videos can lack."""

from __future__ import annotations

import pytest
import torch

from tests import goldens
from zoo.errors import ZooError
from zoo.metrics.steps import StepRecall, step_truth
from zoo.networks.alignment import assign_steps, combine


def annotated(lines: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Intervals and their steps, from 0."""
    rows = torch.tensor([[float(x) for x in line.split(",")] for line in lines], dtype=torch.float64)
    return rows[:, 1:], rows[:, 0].long() - 1


def test_released_code():
    case = goldens.load("actionness_eq4_step_localization")
    config = case.manifest["config"]
    for alpha in config["alphas"]:
        metric = StepRecall()
        for task, facts in config["tasks"].items():
            for number, length in enumerate(facts["lengths"]):
                name = f"{task}_v{number}"
                intervals, steps = annotated(config["annotation_lines"][f"{name}.csv"])
                case.check(f"truth_{name}", step_truth(intervals, steps, facts["n_steps"], length))
                scores = combine(case.input(f"step_{name}"), case.input(f"actionness_{name}"), alpha)
                at = assign_steps(-scores)
                case.check(f"steps_{name}.alpha{alpha}", at)
                # Videos are numbered over all tasks.
                metric.update(at, intervals, steps, task, length, len(metric.rows))
        result = metric.compute()
        recall = torch.stack([result[task] for task in config["task_order"]]) / 100
        case.check(f"recall.alpha{alpha}", recall.float())
        case.check(f"mean_recall.alpha{alpha}", result["average"][None].float() / 100)
        assert result["videos"] == 6
    case.assert_complete()


def give(metric: StepRecall, at: list[int], lines: list[str], task: str = "tea", length: int = 10, video: int = 0):
    intervals, steps = annotated(lines) if lines else (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    metric.update(torch.tensor(at), intervals, steps, task, length, video)


def test_a_task_is_pooled_and_tasks_are_averaged():
    metric = StepRecall()
    give(
        metric, [0, 4, 9], ["1,0.5,0.9", "3,8.2,8.9", "2,1,2", "2,4,5"], video=0
    )  # found, twice annotated, not the 3rd
    give(metric, [0, 1, 2], ["3,2.999,3.001"], video=1)  # from the clip that it starts in
    give(metric, [5], ["1,0,1"], task="açaí", video=2)
    result = metric.compute()
    assert {name: float(value) for name, value in result.items()} == {
        "tea": 75,
        "açaí": 0,
        "average": 37.5,
        "videos": 3,
    }


def test_what_reaches_no_clip_counts_in_no_recall():
    metric = StepRecall()
    give(metric, [0, 1], ["1,12,15", "2,3,3"], length=10)  # behind the end; at a clip's start, and over at once
    give(metric, [0, 1], [], task="coffee", video=1)
    give(metric, [0], ["1,0,5"], task="empty", length=0, video=2)
    assert {name: float(value) for name, value in metric.compute().items()} == {"average": 0, "videos": 3}
    give(metric, [12, -1], ["1,0,15", "2,9,99"], length=10, video=3)  # clips that are none find nothing
    assert metric.compute()["tea"] == 0


def test_what_cannot_be_scored_is_refused_by_name():
    metric = StepRecall()
    for at, lines, task, message in (
        ([0, 1], ["3,0,1"], "tea", r"video 7: the task has steps 0 to 1, and intervals of \[2\]"),
        ([0, 1], ["1,2,1"], "tea", "video 7: intervals must be finite and end after they start"),
        ([0, 1], ["1,nan,1"], "tea", "video 7: intervals must be finite"),
        ([0.5], ["1,0,1"], "tea", r"video 7: the clips of its steps must be \[K\] whole numbers"),
        ([], [], "tea", r"video 7: the clips of its steps must be \[K\]"),
        ([0], [], "average", "video 7: a task's key"),
        ([0], [], "t" * 129, "video 7: a task's key has 1 to 128 bytes"),
    ):
        with pytest.raises(ZooError, match=message):
            give(metric, at, lines, task, video=7)
    with pytest.raises(ZooError, match="numbered from 0"):
        give(metric, [0], [], video=-1)
    with pytest.raises(ZooError, match=r"video 0: intervals \(1, 2\) and their steps \(2,\)"):
        metric.update(torch.tensor([0]), torch.zeros(1, 2), torch.tensor([0, 0]), "tea", 5, 0)
