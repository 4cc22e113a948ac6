"""Action auto-correct: the smallest change to a failed trajectory after which it reads as meant (section 3.3).

The paper moves the clips' features (``space="phi"``), the released code by default the trajectory itself
(``space="h"``), where the coherence term is constant and every clip is on its own. The code's objective is followed:
it averages over the clips to correct where the paper's equation 1 sums, and weighs the coherence with 1/2 where the
paper weighs the failure with 2; the signs of both gradients agree but for the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from zoo.data.clip_sampling import INTENTIONAL
from zoo.errors import ZooError
from zoo.networks.sequences import Layout

Space = Literal["phi", "h"]

CONSISTENT = 1


class Trajectories(Protocol):
    """What is asked of a model: `zoo.methods.intentionality.Intentionality` says what each gives."""

    def layout(self, lengths: Sequence[int], firsts: Sequence[int] | None = None) -> Layout: ...

    def contextualize(self, phi: Tensor, layout: Layout) -> Tensor: ...

    def classify(self, h: Tensor) -> Tensor: ...

    def coherence(self, h: Tensor) -> Tensor | None: ...


@dataclass(frozen=True)
class Settings:
    """Of the iterative target class method (footnote 1 of the paper).

    Attributes:
        space: what moves: features ``"phi"`` or the trajectory ``"h"``.
        alpha: length of a step in every coordinate.
        epsilon: how far a coordinate may move in all.
        iterations: at most.
        coherence: weight of the coherence term; the failure's is 1.
    """

    space: Space = "phi"
    alpha: float = 0.03
    epsilon: float = 1.0
    iterations: int = 25
    coherence: float = 0.5

    def __post_init__(self) -> None:
        if self.space not in ("phi", "h"):
            raise ZooError(f"auto-correct moves 'phi' or 'h', not {self.space!r}.")
        for name in ("alpha", "epsilon", "iterations", "coherence"):
            if not getattr(self, name) >= 0:
                raise ZooError(f"auto-correct: {name} must not be negative, got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Evaluation:
    """One iteration, before its step; tensors ``[B]``, NaN for videos that are done.

    Attributes:
        failure: the loss towards "intentional" of the clips to correct.
        coherence: the loss towards "consistent"; NaN where the model has no such head.
        corrected: share of the clips to correct that are classified as intentional.
        kept: share of the other clips that are.
    """

    failure: Tensor
    coherence: Tensor
    corrected: Tensor
    kept: Tensor


@dataclass(frozen=True)
class Corrected:
    """What came of it. N clips of B videos.

    Attributes:
        moved: what was moved, ``[N, D]``.
        before: the trajectory at the start, ``[N, D]``.
        before_logits: of that, ``[N, C]``.
        h: the trajectory of ``moved``, ``[N, D]``.
        logits: of that, ``[N, C]``. Where the iterations ran out it is one step ahead of the last of ``history``.
        iterations: evaluations of each video, ``[B]``.
        done: whether all its clips came to read as intentional, ``[B]``.
        history: every iteration.
    """

    moved: Tensor
    before: Tensor
    before_logits: Tensor
    h: Tensor
    logits: Tensor
    iterations: Tensor
    done: Tensor
    history: tuple[Evaluation, ...] = ()


def auto_correct(
    model: Trajectories, phi: Tensor, lengths: Sequence[int], wrong: Tensor, settings: Settings | None = None
) -> Corrected:
    """Correct a batch of videos, each until it is done (equations 1 and 2).

    A video is split at its first clip to correct, so that what went well is the first segment; only clips to correct
    move. Videos do not see each other. Put the model into eval mode before.

    Args:
        model: whose gradients are followed.
        phi: features of the clips ``[N, D]``.
        lengths: clips of each video.
        wrong: bool ``[N]``, the clips to correct.
        settings: the paper's by default.
    """
    settings = settings or Settings()
    wrong, device = wrong.to(phi.device), phi.device
    owner = torch.repeat_interleave(torch.tensor(lengths)).to(device)
    firsts = _firsts(lengths, wrong)
    everyone = list(range(len(lengths)))

    def layout_of(videos: Sequence[int]) -> Layout:
        return model.layout([lengths[v] for v in videos], [firsts[v] for v in videos]).to(device)

    layout = layout_of(everyone)
    with torch.no_grad():
        tokens = model.contextualize(phi, layout)  # special tokens of the trajectory stay as they are
        before = layout.collect(tokens)
        before_logits = model.classify(before)
    origin = phi.detach() if settings.space == "phi" else before
    delta = torch.zeros_like(origin)

    def trajectory(x: Tensor, layout: Layout, videos: Sequence[int]) -> Tensor:
        if settings.space == "phi":
            return model.contextualize(x, layout)
        around = tokens[list(videos), : layout.clips.shape[1]]
        return torch.where(layout.is_clip[..., None], layout.place(x), around)

    iterations = torch.zeros(len(lengths), dtype=torch.int64)
    done = torch.tensor([first == length for first, length in zip(firsts, lengths, strict=True)])
    start = torch.full((len(lengths),), torch.nan, device=device)  # the coherence loss before any step
    history: list[Evaluation] = []
    while len(history) < settings.iterations and not done.all():
        active = [v for v in everyone if not done[v]]
        clips = torch.isin(owner, torch.tensor(active, device=device)).nonzero()[:, 0]
        layout = layout_of(active)
        x = (origin + delta)[clips].requires_grad_()
        now = trajectory(x, layout, active)
        now_logits = model.classify(now)
        failing = layout.place(wrong[clips].long()).bool()
        failure = _mean(-now_logits.float().log_softmax(-1)[..., INTENTIONAL], failing)
        objective, order = failure, model.coherence(now)
        incoherence = torch.full_like(failure, torch.nan)
        if order is not None:
            incoherence = -order.float().log_softmax(-1)[:, CONSISTENT]
            if not history:
                start[active] = incoherence.detach()
            objective = failure + settings.coherence * (incoherence - start[active]).relu()  # no gradient at 0
        meant = (now_logits.argmax(-1) == INTENTIONAL).float()
        corrected, kept = _mean(meant, failing), _mean(meant, layout.is_clip & ~failing)
        history.append(Evaluation(*(_spread(v, active, len(lengths)) for v in (failure, incoherence, corrected, kept))))
        iterations[active] += 1
        (gradient,) = torch.autograd.grad(objective.sum(), x)
        sign = gradient.sign() * wrong[clips, None]
        done[active] = corrected.cpu() == 1
        sign = sign * ~done.to(device)[owner[clips], None]
        delta[clips] = (delta[clips] - settings.alpha * sign).clamp(-settings.epsilon, settings.epsilon)
    moved, layout = origin + delta, layout_of(everyone)
    with torch.no_grad():
        h = layout.collect(trajectory(moved, layout, everyone))
        logits = model.classify(h)
    return Corrected(moved, before, before_logits, h, logits, iterations, done, tuple(history))


def extrapolate(model: Trajectories, phi: Tensor, lengths: Sequence[int], wrong: Tensor) -> Corrected:
    """`auto_correct`'s baseline: each trajectory continued by `linearized` from its first clip to correct."""
    firsts = _firsts(lengths, wrong)
    layout = model.layout(lengths, firsts).to(phi.device)
    with torch.no_grad():
        h = layout.collect(model.contextualize(phi, layout))
        logits = model.classify(h)
        ways = zip(h.split(list(lengths)), firsts, strict=True)
        moved = torch.cat([linearized(way, first) for way, first in ways])
        after = model.classify(moved)
    meant = (after.argmax(-1) == INTENTIONAL) | ~wrong.to(phi.device)
    done = torch.tensor([bool(part.all()) for part in meant.split(list(lengths))])
    return Corrected(moved, h, logits, moved, after, torch.zeros(len(lengths), dtype=torch.int64), done)


def linearized(h: Tensor, first: int) -> Tensor:
    """The baseline of section 5.4: the trajectory up to the failure, continued in a straight line.

    ``h_k = h_j + (k - j) (h_j - h_0) / j`` from the first clip to correct, j, on.

    Args:
        h: trajectory of one video ``[n, D]``.
        first: j; where it is 0 there is nothing to continue and the trajectory stays.
    """
    if first == 0 or first >= len(h):
        return h
    steps = torch.arange(len(h) - first, device=h.device, dtype=h.dtype)[:, None]
    return torch.cat((h[:first], h[first] + steps * (h[first] - h[0]) / first))


def linearized_as_released(tokens: Tensor, intentional: int) -> Tensor:
    """The same as the released code has it, on all tokens ``[K, D]`` of one split sequence.

    It starts from CLS, takes the last intentional clip for the anchor and counts the separator as a step.
    """
    anchor = tokens[intentional]
    steps = torch.arange(len(tokens) - intentional, device=tokens.device, dtype=tokens.dtype)[:, None]
    return torch.cat((tokens[:intentional], anchor + steps * (anchor - tokens[0]) / intentional))


def _firsts(lengths: Sequence[int], wrong: Tensor) -> list[int]:
    """The first clip to correct of each video; its length where there is none."""
    return [int(mark.nonzero()[0]) if mark.any() else len(mark) for mark in wrong.split(list(lengths))]


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Over the chosen tokens, ``[B, K]`` to ``[B]``; NaN where none is."""
    return (values * chosen).sum(1) / chosen.sum(1)


def _spread(values: Tensor, videos: list[int], count: int) -> Tensor:
    """Values of some videos among all, the others NaN."""
    return torch.full((count,), torch.nan).index_copy(0, torch.tensor(videos), values.detach().float().cpu())
