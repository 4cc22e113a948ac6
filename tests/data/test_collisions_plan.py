"""Which collisions there are, and which mini-batches: against what the thesis says of its data."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.collisions.plan import PAIRS, PROPERTIES, SHAPES, SUBSETS, UNSEEN_PAIRS, Plan, physical
from zoo.errors import DataError


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan()


@pytest.fixture(scope="module")
def rows(plan) -> np.ndarray:
    """Of every collision: number of the pair, variant, scales of mass, speed and friction."""
    return np.array([(PAIRS.index(c.pair), c.variant, *c.scales) for c in plan.collisions])


@pytest.fixture(scope="module")
def batches(plan) -> dict[str, list[np.ndarray]]:
    return {name: [np.array(split) for split in splits] for name, splits in plan.mini_batches().items()}


def test_numbers_are_those_of_the_thesis(plan, batches):
    assert len(plan) == len(plan.collisions) == len({c.name for c in plan.collisions}) == 20625
    assert sum(not c.is_unseen for c in plan.collisions) == 16740
    assert len(PAIRS) == 11
    assert PAIRS[9:] == UNSEEN_PAIRS
    assert {shape for pair in PAIRS[:9] for shape in pair} == set(SHAPES)
    for splits in batches.values():
        assert [len(split) for split in splits] == [3240, 750, 135]
    unseen = [np.unique([splits[k] for splits in batches.values()]) for k in (1, 2)]
    assert len(unseen[0]) == 3750
    assert sum(plan.collisions[number].is_unseen for number in unseen[1]) == 135


def test_mini_batch_differs_in_one_property_in_order(rows, batches):
    for name, splits in batches.items():
        found = rows[np.concatenate(splits)]
        column = 2 + PROPERTIES.index(name)
        assert (found[:, :, column] == [1, 2, 3, 4, 5]).all()
        others = np.delete(found, column, axis=2)
        assert (others == others[:, :1]).all()


def test_splits_share_nothing_unseen(plan, rows, batches):
    is_unseen = np.array([c.is_unseen for c in plan.collisions])
    for train, shape_test, parameter_test in batches.values():
        assert not is_unseen[train].any()
        assert (rows[shape_test, 0] >= 9).all()
        # The unseen triple is the middle, and what is around it was trained on.
        assert (is_unseen[parameter_test] == [False, False, True, False, False]).all()
        assert (rows[parameter_test[:, 2], 2:] == 3).all()
        # Each collision is in one mini-batch of each property.
        every = np.concatenate([train, shape_test, parameter_test])
        assert (np.sort(every, axis=None) == np.arange(len(plan))).all()


def test_groups_are_the_mini_batches_of_mass(plan, batches):
    numbers = {collision.name: number for number, collision in enumerate(plan.collisions)}
    groups = [[numbers[c.name] for c in group] for group in plan.groups()]
    assert sorted(groups) == sorted(np.concatenate(batches["mass"]).tolist())


def test_small_subset_is_a_part_of_the_full_one(plan):
    small = Plan(SUBSETS["small"][1])
    assert len(small) == 4125
    assert small.variants == plan.variants[: len(small.variants)]
    assert {c.name for c in small.collisions} < {c.name for c in plan.collisions}
    assert Plan(3, seed=1).variants != small.variants
    # Draws as they were when the bundled weights were trained: another generator would make another data set.
    assert small.variants[0].damping == pytest.approx(0.432446)
    assert small.variants[2].mover_yaw == pytest.approx(2.365673)


def test_values_keep_the_ratios_of_table_9_1():
    assert [physical("mass", k) for k in range(1, 6)] == [100, 200, 300, 400, 500]
    for name in PROPERTIES:
        assert [physical(name, k) / physical(name, 1) for k in range(1, 6)] == pytest.approx([1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    "wrong",
    [{"pairs": ()}, {"pairs": (("cube", "cone"),)}, {"pairs": (("cone", "cube"),) * 2}, {"variants": 0}],
    ids=str,
)
def test_impossible_plan_is_refused(wrong):
    with pytest.raises(DataError, match=r"pairs|variants"):
        Plan(**wrong)
