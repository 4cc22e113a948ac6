"""Which collisions there are, and which mini-batches: against what the thesis says of its data."""

from __future__ import annotations

import pytest

from zoo.data.collisions.plan import PAIRS, PROPERTIES, SHAPES, SUBSETS, UNSEEN_PAIRS, Plan, physical
from zoo.errors import DataError


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan()


def test_numbers_are_those_of_the_thesis(plan):
    assert len(plan) == len(plan.collisions) == len({c.name for c in plan.collisions}) == 20625
    assert sum(not c.is_unseen for c in plan.collisions) == 16740
    assert sum(c.pair in UNSEEN_PAIRS for c in plan.collisions) == 3750
    assert sum(c.is_unseen and c.pair not in UNSEEN_PAIRS for c in plan.collisions) == 135
    assert len(PAIRS) == 11
    assert {shape for pair in PAIRS[:9] for shape in pair} == set(SHAPES)
    for splits in plan.mini_batches().values():
        assert [len(batches) for batches in splits] == [3240, 750, 135]


def test_mini_batch_differs_in_one_property_in_order(plan):
    for name, splits in plan.mini_batches().items():
        others = [other for other in PROPERTIES if other != name]
        for batch in (batch for split in splits for batch in split):
            first, *_ = found = [plan.collisions[number] for number in batch]
            assert [getattr(c, name) for c in found] == [1, 2, 3, 4, 5]
            assert all((c.pair, c.variant) == (first.pair, first.variant) for c in found)
            assert all(getattr(c, other) == getattr(first, other) for c in found for other in others)


def test_splits_share_nothing_unseen(plan):
    train, shape_test, parameter_test = (
        [
            [plan.collisions[number] for number in batch]
            for splits in plan.mini_batches().values()
            for batch in splits[k]
        ]
        for k in range(3)
    )
    assert not any(c.is_unseen for batch in train for c in batch)
    assert all(c.pair in UNSEEN_PAIRS for batch in shape_test for c in batch)
    for batch in parameter_test:  # the unseen triple is its middle, and what is around it was trained on
        assert [c.scales == (3, 3, 3) for c in batch] == [False, False, True, False, False]
        assert not any(c.pair in UNSEEN_PAIRS for c in batch)


def test_groups_are_the_mini_batches_of_mass(plan):
    numbers = {collision.name: number for number, collision in enumerate(plan.collisions)}
    batches = {tuple(batch) for split in plan.mini_batches()["mass"] for batch in split}
    assert {tuple(numbers[c.name] for c in group) for group in plan.groups()} == batches


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
