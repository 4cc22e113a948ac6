"""What all metrics of rows share: pickling, discarding, and the same number from one process and from two."""

from __future__ import annotations

import pickle
from collections.abc import Iterable

import pytest
import torch

from tests.pairs import in_two
from zoo.errors import ZooError
from zoo.metrics.actionness import ActionnessScore, ChanceAP
from zoo.metrics.davis import DavisJF
from zoo.metrics.frame_error import FrameError
from zoo.metrics.intentionality import ChanceScore, IntentionalityScore
from zoo.metrics.parts import PartAP, PartIoU
from zoo.metrics.pck import PCK
from zoo.metrics.rows import FrameRows
from zoo.metrics.steps import StepRecall
from zoo.metrics.svo import SvoScore, SvoShift

METRICS = {
    "davis": DavisJF,
    "davis unsupervised": lambda: DavisJF("unsupervised"),
    "pck": PCK,
    "parts": PartIoU,
    "instances": PartAP,
    "frames": FrameError,
    "intentionality": IntentionalityScore,
    "chance": ChanceScore,
    "svo": SvoScore,
    "svo shift": SvoShift,
    "actionness": ActionnessScore,
    "actionness of chance": lambda: ChanceAP(trim=0.3),
    "steps": StepRecall,
}
# What nothing gives where that is not 0.
OF_NOTHING = {
    "frames": {"l1_5f", "l1_10f"},
    "intentionality": {"mean_abs_error", "median_abs_error", "mean_rel_error", "median_rel_error"},
    "svo shift": {f"{s}_d_rank_{u}" for s in ("intentional", "unintentional") for u in ("millions", "percent")},
}
FRAMES = 5


def feed(metric: FrameRows, sequences: Iterable[int]) -> None:
    """Sequences of noise, each always the same, of sizes of their own."""
    for sequence in sequences:
        draw = torch.Generator().manual_seed(sequence)
        size = (FRAMES, 20 + sequence, 30)
        prediction, truth = (torch.randint(0, 4, size, generator=draw).byte() for _ in range(2))
        truth[0, 0, 0] = 3
        at = {"sequence": sequence, "frames": torch.arange(FRAMES)}
        match metric:
            case DavisJF():
                metric.update(prediction, truth, length=FRAMES, objects=3, **at)
            case PCK():
                joints = 100 * torch.rand(FRAMES, 15, 2, generator=draw)
                metric.update(joints + 20 * torch.randn(joints.shape, generator=draw), joints, **at)
            case PartIoU():
                metric.update(prediction, truth, **at)
            case PartAP():
                for frame in range(FRAMES):
                    classes = torch.tensor([0, 1, 2, 1])
                    scores = torch.rand(4, generator=draw)
                    metric.update(
                        prediction[frame], classes, scores, truth[frame], classes, sequence=sequence, frame=frame
                    )
            case FrameError():
                pixels = torch.rand(2, FRAMES, 3, 8, 9, generator=draw) * 255
                metric.update(*pixels, gap=5 + 5 * (sequence % 2), **at)
            case IntentionalityScore():
                start = torch.arange(3.0 + sequence)
                logits = torch.randn(len(start), 3, generator=draw)
                metric.update(
                    logits,
                    torch.randint(-1, 3, (len(start),), generator=draw),
                    torch.stack([start, start + 15 / 16], dim=1),
                    annotated=3 * torch.rand(3, generator=draw) + 0.5,
                    duration=4.0 + sequence,
                    video=sequence,
                )
            case ChanceScore():
                metric.update(3 * torch.rand(3, generator=draw) + 0.5, 4.0 + sequence, sequence)
            case SvoScore():
                for segment in range(2):
                    triples = torch.randint(0, 9, (3, 3), generator=draw)
                    metric.update(torch.randn(3, 9, generator=draw), triples, video=sequence, segment=segment)
            case SvoShift():
                before, after = torch.randn(2, 3, 9, generator=draw)
                goals, failures = torch.randint(0, 9, (2, 1 + sequence, 3), generator=draw)
                metric.update(before, after, intentional=goals, unintentional=failures, video=sequence)
            case ActionnessScore() | ChanceAP() | StepRecall():
                duration = 12 + 9.1 * sequence
                intervals = duration * torch.rand(1 + sequence, 2, generator=draw).double().sort(1).values
                if isinstance(metric, StepRecall):
                    at = torch.randint(0, int(duration), (4,), generator=draw)
                    steps = torch.randint(0, 4, (len(intervals),), generator=draw)
                    metric.update(at, intervals, steps, f"task {sequence % 2}", int(duration), sequence)
                elif isinstance(metric, ChanceAP):
                    metric.update(intervals, duration, sequence)
                else:
                    scores = 3 * torch.randn(int(5 * duration), generator=draw)
                    metric.update(scores, intervals=intervals, duration=duration, rate=5.0, video=sequence)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """To the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", METRICS)
def test_pickled_on_the_way(name):
    through, straight = METRICS[name](), METRICS[name]()
    feed(straight, range(4))
    feed(through, range(2))
    through = pickle.loads(pickle.dumps(through))
    feed(through, range(2, 4))
    assert equal(through.compute(), straight.compute())
    assert straight.compute()["videos"] == 4


@pytest.mark.parametrize("name", METRICS)
def test_discarded_sequences_and_repeated_ones(name):
    metric, expected = METRICS[name](), METRICS[name]()
    feed(expected, (0, 1, 4))
    feed(metric, (4, 2, 1, 1))
    before = metric.compute()
    metric.discard(2)
    assert not equal(metric.compute(), before)  # not a number from before the discarding
    metric.discard(3)
    feed(metric, (0, 3, 4, 2))
    assert equal(metric.compute(), expected.compute())
    metric.reset()
    feed(metric, (0, 1, 2, 3, 4))
    assert metric.compute()["videos"] == 5
    with pytest.raises(ZooError, match="numbered from 0"):
        metric.discard(-1)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_came(name):
    metric = METRICS[name]()
    with pytest.warns(UserWarning, match="before the ``update``"):
        result = metric.compute()
    assert result.pop("videos") == 0
    if name == "chance":
        assert result.pop("cls_acc") == 100 / 3  # which needs no videos
    unknown = {name for name, value in result.items() if value.isnan()}
    assert unknown == OF_NOTHING.get(name, set())
    assert all(value == 0 for name, value in result.items() if name not in unknown)


SPLITS = {
    "shared out": ([0, 2, 4], [1, 3], []),
    "one has all": ([0, 1, 2, 3, 4], [], []),
    "some twice": ([0, 1, 2, 3], [3, 4, 0], []),
    "one discarded by the other": ([0, 1, 2, 3, 4, 5], [4], [5]),
}


def _one_of_two(rank: int) -> dict:
    results = {}
    for name, make in METRICS.items():
        for split, (*shares, discarded) in SPLITS.items():
            metric = make()
            feed(metric, shares[rank])
            for sequence in discarded if rank else ():
                metric.discard(sequence)
            results[name, split] = metric.compute()
            if name == "davis":
                results["objects", split] = len(metric.per_object())
        metric.reset()
        feed(metric, SPLITS["shared out"][rank])  # the second test run of the same object
        assert equal(metric.compute(), results[name, "shared out"])
    return results


@pytest.mark.slow
def test_two_processes_give_the_number_of_one(tmp_path):
    for results in in_two(tmp_path, _one_of_two):
        for name, make in METRICS.items():
            single = make()
            feed(single, range(5))
            for split in SPLITS:
                assert equal(results[name, split], single.compute()), (name, split)
        assert all(results["objects", split] == 15 for split in SPLITS)
