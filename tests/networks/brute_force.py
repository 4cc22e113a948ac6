"""A field by enumeration: every joint state of every frame and the intent, to hold mean field against."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from zoo.networks.temporal_field import Potentials, States, kernel


def joint_scores(phi: Potentials, states: States, times: Tensor, sigma: float) -> Tensor:
    """The score of every joint state, ``[N * S] * T + [G]``."""
    frames = phi.frames(states).flatten(1)  # [T, N * S]
    unit = states.unit.repeat_interleave(states.scenes)
    near = kernel(times, sigma)
    rows = []
    for joint in product(range(frames.shape[1]), repeat=len(frames)):
        u = unit[list(joint)]
        score = sum(frames[t, x] for t, x in enumerate(joint))
        if phi.mu is not None:
            for j in range(len(joint)):
                score = score + sum(near[i, j] * phi.mu[u[i], u[j]] for i in range(j))
        intents = frames.new_zeros(1) if phi.xi is None else phi.xi[torch.arange(len(joint)), u].sum(0)
        rows.append(score + intents)
    return torch.stack(rows).view(*[frames.shape[1]] * len(frames), -1)


def marginals(scores: Tensor) -> tuple[list[Tensor], Tensor]:
    """Of every frame, and of the intent."""
    p = scores.flatten().softmax(0).view_as(scores)
    axes = range(scores.ndim)
    return [p.sum([a for a in axes if a != t]) for t in axes[:-1]], p.sum(tuple(axes[:-1]))


def log_likelihood(scores: Tensor, joint: tuple[int, ...]) -> Tensor:
    """Of a joint state of the frames, whatever the intent."""
    return scores[joint].logsumexp(0) - scores.flatten().logsumexp(0)
