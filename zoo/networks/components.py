"""The component model of Zhukov et al., CVPR 2019: a step's score is the mean score of what its name consists of.

A linear layer scores each clip for M components, by default the words of all steps of all tasks; ``A`` of a task,
``[M, K]``, averages the components of each of its K steps. A task's steps thereby learn from other tasks that pour,
stir or add. Training alternates between where the steps are (``Y``, 0 or 1, ``[T, K]``) and the layer: ``Y`` minimises
the loss as it would be after one step of gradient descent (`assignment_gradient`), by dynamic programming
(`zoo.networks.alignment`), within what the narration allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from zoo.errors import ZooError
from zoo.networks.alignment import assign_steps

Share = Literal["words", "task_words", "steps", "none"]
SHARES: tuple[Share, ...] = ("words", "task_words", "steps", "none")


def components(task: str, step: str, share: Share = "words") -> tuple[str, ...]:
    """The components of a step, each once.

    Args:
        task: its task's key.
        step: its name.
        share: ``"words"`` of all tasks, ``"task_words"`` of one task, whole ``"steps"`` of one name, or ``"none"``.

    Raises:
        ZooError: the name is empty.
    """
    if share not in SHARES:
        raise ZooError(f"share must be one of {', '.join(SHARES)}, got {share!r}.")
    parts = dict.fromkeys(step.split()) if share.endswith("words") else ([step] if step.strip() else [])
    if not parts:
        raise ZooError(f"a step of task {task!r} has no name, so it has no components; give it one.")
    return tuple(part if share in ("words", "steps") else f"{task}: {part}" for part in parts)


def component_names(tasks: Mapping[str, Iterable[str]], share: Share = "words") -> tuple[str, ...]:
    """The components of all steps of all tasks, sorted: the order that a layer's rows are in."""
    return tuple(
        sorted({part for task, steps in tasks.items() for step in steps for part in components(task, step, share)})
    )


def step_matrix(
    task: str, steps: Sequence[str], numbers: Mapping[str, int], share: Share = "words", *, size: int | None = None
) -> Tensor:
    """``A`` of a task, float32 ``[M, K]``: what each component counts in each step; a column sums to one.

    Args:
        task: its key.
        steps: its steps' names in order.
        numbers: component to row.
        share: as `components`.
        size: M; as many as there are numbers by default.

    Raises:
        ZooError: a step has a component that nobody numbered; all such are named.
    """
    parts = [components(task, step, share) for step in steps]
    missing = ((step, [part for part in of if part not in numbers]) for step, of in zip(steps, parts, strict=True))
    if words := ", ".join(f"{' '.join(map(repr, of))} (in {step!r})" for step, of in missing if of):
        kind = "words" if share.endswith("words") else "steps"
        raise ZooError(
            f"task {task!r}: the model has no component for {words}. Name its steps with {kind} that it was trained "
            "on, or train it on this task's videos."
        )
    matrix = torch.zeros(len(numbers) if size is None else size, len(steps))
    for k, of in enumerate(parts):
        matrix[[numbers[part] for part in of], k] = 1 / len(of)
    return matrix


class Components(nn.Module):
    """The linear layer to components, behind dropout; ``fc.weight`` ``[M, D]``, ``fc.bias`` ``[M]``."""

    def __init__(self, dim: int, count: int, dropout: float = 0.7) -> None:
        """
        Args:
            dim: numbers in a clip's features.
            count: of components.
            dropout: probability, of each feature while training.
        """
        super().__init__()
        self.fc = nn.Linear(dim, count)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, matrix: Tensor | None = None) -> Tensor:
        """Features ``[..., D]`` to scores of components ``[..., M]``, or of steps ``[..., K]`` with a task's ``A``."""
        scores = self.fc(self.dropout(features))
        return scores if matrix is None else scores @ matrix


class Assigned(NamedTuple):
    """What an assignment costs.

    Attributes:
        loss: L, a scalar.
        objective: L as it would be after one small step of gradient descent: ``L - rate / 2 * |grad L|^2``.
        gradient: of the objective by Y, ``[T, K]``: what the next assignment is chosen by.
    """

    loss: Tensor
    objective: Tensor
    gradient: Tensor


def assignment_loss(logits: Tensor, y: Tensor, violations: Tensor, penalty: float = 1e4) -> Tensor:
    """``L = sum_k mean_t Y (lambda C - log p)``, where p is the softmax over the steps at each time.

    Args:
        logits: of the steps, ``[T, K]``.
        y: the assignment, ``[T, K]``.
        violations: ``C``: 1 where the narration does not allow a step, ``[T, K]``.
        penalty: lambda.
    """
    return (y * (penalty * violations - logits.log_softmax(1))).mean(0).sum()


def assignment_gradient(
    features: Tensor,
    layer: nn.Linear,
    matrix: Tensor,
    y: Tensor,
    violations: Tensor,
    *,
    penalty: float = 1e4,
    rate: float = 1e-5,
) -> Assigned:
    """The objective of an assignment and its gradient, in closed form (no graph is built).

    The gradient of L by the layer is linear in Y. So that of its square by ``Y[t, k]`` is a score of clip t by a layer
    whose weights are the gradient itself: one more forward pass, and nothing is differentiated twice.

    Args:
        features: ``[T, D]``, those that dropout left while training.
        layer: to components.
        matrix: ``A`` of the task, ``[M, K]``.
        y: the assignment at which the gradient is taken, ``[T, K]``.
        violations: C, ``[T, K]``.
        penalty: lambda.
        rate: of gradient descent.
    """
    with torch.no_grad():
        logits = layer(features) @ matrix
        p, clips = logits.softmax(1), len(features)
        loss = assignment_loss(logits, y, violations, penalty)
        by_components = (y.sum(1, keepdim=True) * p - y) / clips @ matrix.T
        weight, bias = by_components.T @ features, by_components.sum(0)
        scores = linear(features, weight, bias) @ matrix
        objective = loss - 0.5 * rate * (weight.square().sum() + bias.square().sum())
        by_y = penalty * violations - logits.log_softmax(1) - rate * ((p * scores).sum(1, keepdim=True) - scores)
        return Assigned(loss, objective, by_y / clips)


def violations(constraints: Tensor | None, clips: int, steps: int) -> Tensor:
    """``C``, float32 ``[T, K]``: 0 where a step may be, 1 elsewhere; all zeros where nothing is known.

    Args:
        constraints: int64 ``[n, 3]``: a step, and the first and the last clip (included) that it may be in; a step
            without an entry costs the penalty wherever it is. None: nothing is known.
        clips: T.
        steps: K.
    """
    if constraints is None:
        return torch.zeros(clips, steps)
    result = torch.ones(clips, steps)
    for step, first, last in constraints.tolist():
        result[max(first, 0) : max(last + 1, 0), step] = 0
    return result


def one_hot(steps_at: Tensor, clips: int) -> Tensor:
    """An assignment as numbers of clips, int64 ``[K]``, to ``Y``, float32 ``[T, K]``."""
    y = torch.zeros(clips, len(steps_at), device=steps_at.device)
    y[steps_at, torch.arange(len(steps_at), device=steps_at.device)] = 1
    return y


def uniform_assignment(clips: int, steps: int) -> Tensor:
    """Steps spread evenly: the clip of each, int64 ``[K]``, at ``(k + 1/2) T / K``, halves to the even number."""
    if clips < steps:
        raise ZooError(f"{steps} steps do not fit into {clips} clips, one each; take a longer video.")
    return ((torch.arange(steps, dtype=torch.float64) + 0.5) * (clips / steps)).round().long().clamp(max=clips - 1)


def random_assignment(violations: Tensor, generator: torch.Generator) -> Tensor:
    """Steps in order at random clips, rather where the narration allows them than elsewhere; int64 ``[K]``.

    As released: the cheapest way through random costs in 0..1, with 1 more where a step is not allowed.

    Args:
        violations: C, ``[T, K]``, on the CPU.
        generator: of the draw.
    """
    return assign_steps(torch.rand(violations.shape, generator=generator) + violations)
