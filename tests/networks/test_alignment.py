"""Ordered steps: the released code's assignments, all assignments of small videos, and its rules for equal costs."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import goldens
from zoo.errors import ZooError
from zoo.networks.alignment import assign_segments, assign_steps, combine


def one_hot(steps: Tensor, clips: int) -> Tensor:
    return torch.zeros(clips, len(steps), dtype=torch.int8).index_put_((steps, torch.arange(len(steps))), _ONE)


_ONE = torch.tensor(1, dtype=torch.int8)


def test_released_code():
    case = goldens.load("actionness_crosstask_dp")
    for number in range(4):
        cost = case.input(f"cost{number}")
        steps = assign_steps(cost)
        case.check(f"steps{number}.exactly_one", steps)
        case.check(f"total{number}.exactly_one", cost[steps, torch.arange(len(steps))].sum()[None])
        # With one clip a step there are always T - K clips of background, whatever they cost.
        case.check(f"labels{number}.exactly_one_bg0.7", one_hot(steps, len(cost)))
        for background in ("0", "-0.4"):
            labels = assign_segments(cost, float(background))
            case.check(f"labels{number}.segments_bg{background}", labels)
    tied = case.input("tied").round()
    case.check("steps.tied", assign_steps(tied))
    case.check("labels.tied_segments", assign_segments(tied.numpy()))
    case.assert_complete()


def chain(cost: np.ndarray, background: float, exactly_one: bool) -> np.ndarray:
    """The programme clip after clip and state after state, with the rules for equal costs; labels ``[T, K]``."""
    clips, steps = cost.shape
    states = 2 * steps + 1
    total, came = np.full((clips, states), np.inf), np.zeros((clips, states), dtype=int)
    for t in range(clips):
        for s in range(states):
            own = cost[t, s // 2] if s % 2 else background
            if t == 0:
                total[t, s] = own if s < 2 else np.inf
                continue
            options = [s] if s % 2 == 0 or not exactly_one else []
            options += [s - 1] if s else []
            options += [s - 2] if s % 2 and s > 1 else []
            came[t, s] = min(options, key=lambda o: total[t - 1, o])  # the first of equals
            total[t, s] = own + total[t - 1, came[t, s]]
    state = states - 1 if total[-1, -1] < total[-1, -2] else states - 2
    labels = np.zeros((clips, steps), dtype=np.int8)
    for t in reversed(range(clips)):
        if state % 2:
            labels[t, state // 2] = 1
        state = came[t, state]
    return labels


def test_equal_costs_are_decided_as_clip_after_clip():
    draw = np.random.default_rng(0)
    for clips, steps in ((1, 1), (5, 1), (6, 3), (9, 4), (13, 2), (30, 6)):
        for levels in (1, 2, 3, 50):
            for _ in range(4):
                cost = draw.integers(-levels, levels, (clips, steps)).astype(np.float32)
                if clips > steps:  # else the released programme has no way to its end
                    assert np.array_equal(one_hot(assign_steps(cost), clips), chain(cost, 0, True))
                for background in (0, -1, 1):
                    assert np.array_equal(assign_segments(cost, background), chain(cost, background, False))


def segmentations(clips: int, steps: int):
    """Every labelling of clips in which each step has a run and the runs are in order, as states of the chain."""
    for states in product(range(2 * steps + 1), repeat=clips):
        moves = [(a, b - a) for a, b in pairwise(states)]
        whole = states[0] < 2 and states[-1] >= 2 * steps - 1
        if whole and all(move in (0, 1) or (move == 2 and state % 2) for state, move in moves):
            yield states


def test_no_assignment_is_cheaper():
    draw = torch.Generator().manual_seed(0)
    for clips, steps in ((4, 4), (7, 3), (8, 1), (9, 5)):
        cost = torch.randn(clips, steps, generator=draw, dtype=torch.float64)
        at = torch.arange(steps)
        best = min(combinations(range(clips), steps), key=lambda places: float(cost[list(places), at].sum()))
        assert assign_steps(cost).tolist() == list(best)
    for clips, steps, background in ((3, 3, 0.0), (6, 2, -0.3), (5, 2, 0.4), (6, 1, 0.0)):
        cost = torch.randn(clips, steps, generator=draw, dtype=torch.float64)
        every = torch.full((clips, 2 * steps + 1), background, dtype=torch.float64)
        every[:, 1::2] = cost
        totals = [
            float(every[torch.arange(clips), torch.tensor(states)].sum()) for states in segmentations(clips, steps)
        ]
        labels = assign_segments(cost, background)
        assert all(labels.any(0))
        assert float((labels * (cost - background)).sum() + clips * background) == pytest.approx(min(totals), abs=1e-12)


def test_as_many_clips_as_steps_is_the_diagonal_and_fewer_have_no_answer():
    cost = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    assert assign_steps(cost).tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(assign_segments(cost), torch.eye(6, dtype=torch.int8))
    with pytest.raises(ZooError, match=r"6 steps in order need as many clips, .* \[5\]"):
        assign_steps(cost[:5])
    with pytest.raises(ZooError, match="6 steps in order need as many clips, got 5"):
        assign_segments(cost[:5])


def test_several_videos_are_each_alone():
    lengths = torch.tensor([4, 11, 5, 20])
    cost = torch.randint(-3, 3, (4, 20, 4), generator=torch.Generator().manual_seed(2)).float()
    found = assign_steps(cost, lengths)
    for video, length in enumerate(lengths.tolist()):
        assert torch.equal(found[video], assign_steps(cost[video, :length]))
    with pytest.raises(ZooError, match=r"4 steps in order need as many clips, in rows of 20; .* \[3, 21\]"):
        assign_steps(cost[:2], torch.tensor([3, 21]))
    with pytest.raises(ZooError, match="must be 4 whole numbers"):
        assign_steps(cost, lengths[:3])


def test_a_cost_that_is_none_is_refused_by_its_place():
    cost = torch.zeros(5, 2)
    cost[3, 1] = torch.nan
    for assign in (assign_steps, assign_segments):
        with pytest.raises(ZooError, match="clip 3 and step 1 is nan"):
            assign(cost)
        with pytest.raises(ZooError, match=r"costs must be .* of one step or more"):
            assign(cost[:, :0])


def test_eq_4_weighs_steps_against_actionness():
    steps, actionness = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0])
    assert combine(steps, actionness, 0.0).tolist() == steps.tolist()
    assert combine(steps, actionness, 1.0).tolist() == [[10, 10], [20, 20]]
    torch.testing.assert_close(combine(steps, actionness, 0.1), torch.tensor([[1.9, 2.8], [4.7, 5.6]]))
    with pytest.raises(ZooError, match=r"0 to 1, got 1\.5"):
        combine(steps, actionness, 1.5)
    with pytest.raises(ZooError, match=r"\[T, K\] and \[T\]"):
        combine(steps, actionness[:1], 0.5)
