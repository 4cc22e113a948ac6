"""The component model against the released code, and its closed-form gradient against differentiating twice."""

from __future__ import annotations

import pytest
import torch

from tests.goldens import load
from zoo.errors import ZooError
from zoo.networks.alignment import assign_steps
from zoo.networks.components import (
    Components,
    assignment_gradient,
    assignment_loss,
    component_names,
    one_hot,
    random_assignment,
    step_matrix,
    uniform_assignment,
    violations,
)

TASKS = {"tea": ["boil water", "add tea", "pour water"], "latte": ["add coffee", "pour milk milk"]}


def numbers(tasks, share="words"):
    return {name: n for n, name in enumerate(component_names(tasks, share))}


def test_golden_crosstask_weak_baseline():
    case = load("actionness_crosstask_weak_baseline")
    config = case.manifest["config"]
    tasks, task = config["task_steps"], config["task"]
    assert list(component_names(tasks)) == config["component_order"]
    network = Components(48, 11, config["dropout"]).eval()
    network.load_state_dict(case.state())
    matrix = step_matrix(task, tasks[task], numbers(tasks))
    features, barred = case.input("X"), case.stored["C"]
    logits = network(features, matrix)
    case.check("logits", logits)
    uniform = uniform_assignment(*logits.shape)
    case.check("uniform_assignment", uniform)
    y = one_hot(uniform, len(features))
    options = {"penalty": config["lambda"], "rate": config["lr"]}
    found = assignment_gradient(features, network.fc, matrix, y, barred, **options)
    case.check("loss", found.loss[None])
    case.check("objective", found.objective[None])
    case.check("assignment_grad", found.gradient)
    new = assign_steps(found.gradient)
    case.check("new_assignment", new)
    # The gradients that the optimiser sees, as their norms.
    grads = torch.autograd.grad(assignment_loss(logits, y, barred, config["lambda"]), network.fc.parameters())
    case.check("grad_norm.fc.weight", grads[0].norm()[None])
    case.check("grad_norm.fc.bias", grads[1].norm()[None])
    case.check("test_assignment", assign_steps(-logits.log_softmax(1)))
    case.assert_complete()


def test_gradient_is_that_of_differentiating_twice():
    torch.manual_seed(0)
    network, matrix = Components(6, 5, 0.0).double(), torch.rand(5, 3, dtype=torch.float64)
    features, barred = torch.randn(9, 6, dtype=torch.float64), (torch.rand(9, 3) > 0.5).double()
    # A rate at which the squared gradient counts as much as the loss does; several clips of a step, and of none.
    y, rate = torch.rand(9, 3, dtype=torch.float64, requires_grad=True), 2.0
    loss = assignment_loss(network(features, matrix), y, barred, 1.0)
    grads = torch.autograd.grad(loss, network.parameters(), create_graph=True)
    objective = loss - 0.5 * rate * sum(g.square().sum() for g in grads)
    (expected,) = torch.autograd.grad(objective, y)
    found = assignment_gradient(features, network.fc, matrix, y.detach(), barred, penalty=1.0, rate=rate)
    torch.testing.assert_close(found.objective, objective.detach())
    torch.testing.assert_close(found.gradient, expected)


@pytest.mark.parametrize(
    ("share", "count", "first_column"),
    [
        ("words", 7, {"boil": 0.5, "water": 0.5}),
        ("task_words", 9, {"tea: boil": 0.5, "tea: water": 0.5}),
        ("steps", 5, {"boil water": 1.0}),
        ("none", 5, {"tea: boil water": 1.0}),
    ],
)
def test_what_tasks_share(share, count, first_column):
    known = numbers(TASKS, share)
    matrix = step_matrix("tea", TASKS["tea"], known, share)
    assert matrix.shape == (count, 3)
    assert {name: float(matrix[n, 0]) for name, n in known.items() if matrix[n, 0]} == first_column


def test_a_word_that_comes_twice_counts_once():
    matrix = step_matrix("latte", TASKS["latte"], known := numbers(TASKS))
    assert matrix[known["milk"], 1] == matrix[known["pour"], 1] == 0.5


def test_unknown_words_are_named():
    with pytest.raises(ZooError, match=r"'whisk' 'eggs' \(in 'whisk eggs'\), 'cup' \(in 'pour cup'\)"):
        step_matrix("cake", ["add tea", "whisk eggs", "pour cup"], numbers(TASKS))
    with pytest.raises(ZooError, match="no name"):
        component_names({"cake": [" "]})


def test_narration_bars_clips_and_random_assignments_heed_it():
    barred = violations(torch.tensor([[0, 2, 3], [1, 8, 20], [2, 9, 9]]), 10, 3)
    expected = torch.ones(10, 3)
    expected[2:4, 0] = expected[8:, 1] = expected[9:, 2] = 0
    assert torch.equal(barred, expected)
    assert violations(None, 4, 2).sum() == 0
    drawn = {tuple(random_assignment(barred, torch.Generator().manual_seed(n)).tolist()) for n in range(30)}
    assert drawn == {(2, 8, 9), (3, 8, 9)}  # all that is allowed, and both of it


def test_uniform_assignment_stays_within_the_video():
    assert uniform_assignment(4, 4).max() == 3
    with pytest.raises(ZooError, match="5 steps do not fit into 4 clips"):
        uniform_assignment(4, 5)
