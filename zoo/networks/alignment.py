"""Which clips of a video are which steps of its task, when the steps' order is known: the cheapest way through.

CrossTask (Zhukov et al., CVPR 2019) finds it by a dynamic programme over background, step 1, background, ..., step K,
background. Here each of these states is solved for all clips at once, by running minima over time. Costs add up in
float64; ties are broken as the released code breaks them: clips stay what they are, and between two steps there is
background rather than none.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from zoo.errors import ZooError


def combine(step_scores: Tensor, actionness: Tensor, alpha: float) -> Tensor:
    """``(1 - alpha) f + alpha S``, the score of every clip and step: ``[T, K]`` in float32.

    That is what is summed over the steps' clips in Eq. 4 of Zhukov et al., ECCV 2020; `assign_steps` takes minus it.

    Args:
        step_scores: f, ``[T, K]``.
        actionness: S, ``[T]``.
        alpha: 0 = the steps' scores alone, 1 = actionness alone; 0.1 and 0.8 in the paper.
    """
    if step_scores.ndim != 2 or actionness.shape != step_scores.shape[:1]:
        raise ZooError(
            f"combine: step scores {tuple(step_scores.shape)} and actionness {tuple(actionness.shape)} must be [T, K] "
            "and [T]: a row for each clip of a second."
        )
    if not 0 <= alpha <= 1:
        raise ZooError(f"combine: alpha is the share of actionness, 0 to 1, got {alpha}.")
    return (1 - alpha) * step_scores.float() + alpha * actionness.float()[:, None]


def assign_steps(cost: Tensor | ArrayLike, lengths: Tensor | None = None) -> Tensor:
    """The clip of every step, int64 ``[K]``: exactly one each, in order, of the least summed cost.

    Args:
        cost: ``[T, K]`` of every clip and step; or ``[B, T, K]`` of B videos, which gives ``[B, K]``.
        lengths: ``[B]`` how many of the T clips a video has; all of them by default.

    Raises:
        ZooError: fewer clips than steps, costs that are not finite, wrong shapes.
    """
    given, cost = cost, _checked("assign_steps", cost, dims=(2, 3))
    single = cost.ndim == 2
    if single and lengths is not None:
        raise ZooError("assign_steps: lengths are of several videos, with costs [B, T, K].")
    cost = (cost[None] if single else cost).movedim(-1, 0)  # [K, B, T]
    steps, videos, clips = cost.shape
    lengths = torch.full((videos,), clips) if lengths is None else torch.as_tensor(lengths).cpu()
    if lengths.shape != (videos,) or lengths.is_floating_point():
        raise ZooError(f"assign_steps: lengths must be {videos} whole numbers, got {lengths.tolist()}.")
    if videos and (int(lengths.min()) < steps or int(lengths.max()) > clips):
        raise ZooError(
            f"assign_steps: {steps} steps in order need as many clips, in rows of {clips}; the videos have "
            f"{lengths.tolist()}. Leave shorter ones out."
        )
    lengths = lengths.to(cost.device)[:, None]
    total, before = cost[0], []  # [B, T] the cost of the steps so far, the last of them at that clip
    for own in cost[1:]:
        least, at = _least_so_far(total)
        before.append(at)
        total = torch.full_like(own, torch.inf)
        total[:, 1:] = own[:, 1:] + least[:, :-1]
    # A last step at the last clip wins over background after it, unless that is cheaper.
    least, at = _least_so_far(total)
    ended = (lengths - 2).clamp(min=0)
    earlier = (lengths > 1) & (least.gather(1, ended) < total.gather(1, lengths - 1))
    places = [torch.where(earlier, at.gather(1, ended), lengths - 1)]
    for at in reversed(before):
        places.append(at.gather(1, places[-1] - 1))
    found = _like(given, torch.cat(places[::-1], dim=1))
    return found[0] if single else found


def assign_segments(cost: Tensor | ArrayLike, background: float = 0.0) -> Tensor:
    """Which clips each step takes, int8 ``[T, K]`` of 0 and 1: runs of one clip or more, in order, of the least cost.

    Args:
        cost: ``[T, K]`` of every clip and step.
        background: the cost of a clip that no step takes.

    Raises:
        ZooError: fewer clips than steps, costs that are not finite, wrong shapes.
    """
    given, cost = cost, _checked("assign_segments", cost, dims=(2,)).cpu()
    clips, steps = cost.shape
    if clips < steps:
        raise ZooError(f"assign_segments: {steps} steps in order need as many clips, got {clips}. Leave the video out.")
    never = torch.full((clips,), torch.inf, dtype=cost.dtype)
    totals: list[Tensor] = []  # of every state [T]: the cost up to a clip that is in it
    entries: list[Tensor] = []  # the clip that the state was entered with
    skips: list[Tensor] = []  # whether a step was entered from the step before, without background
    for state in range(2 * steps + 1):
        own = cost[:, state // 2] if state % 2 else torch.full_like(never, background)
        paid = torch.cat([own.new_zeros(1), own.cumsum(0)])
        enter, skip = never.clone(), torch.zeros(clips, dtype=torch.bool)
        if state < 2:  # a video starts with background or with the first step
            enter[0] = 0
        if state:
            enter[1:] = totals[-1][:-1].minimum(enter[1:])
        if state % 2 and state > 1:
            skip[1:] = totals[-2][:-1] < enter[1:]
            enter[1:] = totals[-2][:-1].minimum(enter[1:])
        # Who enters at u and stays pays what came before u, and the own costs from u on.
        least, entry = _least_so_far(enter - paid[:-1])
        totals.append(paid[1:] + least)
        entries.append(entry)
        skips.append(skip)
    found = torch.zeros(clips, steps, dtype=torch.int8)
    clip, state = clips - 1, 2 * steps - int(totals[-1][-1] >= totals[-2][-1])
    while state >= 0 and clip >= 0:
        entry = int(entries[state][clip])
        if state % 2:
            found[entry : clip + 1, state // 2] = 1
        clip, state = entry - 1, state - 1 - int(skips[state][entry])
    return _like(given, found)


def _least_so_far(values: Tensor) -> tuple[Tensor, Tensor]:
    """``[..., T]`` the least value up to every place, and the first place where it stands."""
    least = values.cummin(-1).values
    new = torch.ones_like(values, dtype=torch.bool)
    new[..., 1:] = values[..., 1:] < least[..., :-1]
    places = torch.arange(values.shape[-1], device=values.device)
    return least, torch.where(new, places, 0).cummax(-1).values


def _like(given: Tensor | ArrayLike, found: Tensor) -> Tensor:
    """On the device that the costs came from."""
    return found.to(given.device) if isinstance(given, Tensor) else found


def _checked(name: str, cost: Tensor | ArrayLike, dims: tuple[int, ...]) -> Tensor:
    """The costs in float64."""
    cost = torch.as_tensor(cost).detach()
    if cost.ndim not in dims or not cost.shape[-1]:
        shapes = " or ".join(("[T, K]", "[B, T, K]")[dim - 2] for dim in dims)
        raise ZooError(f"{name}: costs must be {shapes} of one step or more, got {tuple(cost.shape)}.")
    if not cost.isfinite().all():
        place = (~cost.isfinite()).nonzero()[0].tolist()
        raise ZooError(
            f"{name}: the cost of clip {place[-2]} and step {place[-1]} is {float(cost[tuple(place)])}; costs must be "
            "finite. Look for what broke the model."
        )
    if cost.device.type == "mps":  # Apple's GPUs know no doubles
        cost = cost.cpu()
    return cost.double()
