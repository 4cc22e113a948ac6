"""DAVIS' J and F against the published evaluator's numbers, and against a plain dilation wherever contours may lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from tests.goldens import Case, load
from zoo.errors import ZooError
from zoo.metrics import contours
from zoo.metrics.davis import DavisJF, boundary, contour_accuracy, region_similarity, statistics
from zoo.metrics.segmentation import radius

GLOBAL = ("jf_mean", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
STATISTICS = {"M": "mean", "R": "recall", "D": "decay"}
PLACES = [f"{q}.{s}" for q in "JF" for s in STATISTICS]
# These were measured on masks of 480 x 854, of which the case stores every fourth row and column alone ("small").
NOT_STORED = {
    f"{part}.{name}"
    for part in ("full", "binary_semi")
    for name in (
        "global",
        *PLACES,
        "car-shadow.J_frames",
        "car-shadow.F_frames",
        "judo.J_frames",
        "judo.F_frames",
    )
}


def objects_in(truth: Tensor) -> int:
    """Highest label of the first annotation."""
    return int(truth[0].masked_fill(truth[0] == 255, 0).max())


def feed(metric: DavisJF, prediction: Tensor, truth: Tensor, sequence: int, run: int = 5) -> None:
    """A sequence in runs of so many frames."""
    for numbers in torch.arange(len(truth)).split(run):
        metric.update(
            prediction[numbers],
            truth[numbers],
            sequence=sequence,
            frames=numbers,
            length=len(truth),
            objects=objects_in(truth),
        )


def check(case: Case, metric: DavisJF, part: str) -> None:
    """Feed a case's sequences and compare every number that the case has of one part of it."""
    names = case.manifest["config"]["sequences"]
    for number, name in enumerate(names):
        feed(metric, case.stored[f"{name}.prediction"], case.stored[f"{name}.annotation"], number)
    result = metric.compute()
    assert (result["videos"], result["incomplete"]) == (len(names), 0)
    case.check(f"{part}.global", torch.stack([result[name] for name in GLOBAL]) / 100)
    objects = metric.per_object()
    for place in PLACES:
        key = f"{place[0].lower()}_{STATISTICS[place[2]]}"
        case.check(f"{part}.{place}", torch.tensor([o[key] for o in objects], dtype=torch.float64) / 100)
    for number, name in enumerate(names):
        own = [curve for curve in metric.per_frame() if curve["sequence"] == number]
        for quantity in "JF":
            values = torch.stack([curve[quantity.lower()] for curve in own])
            case.check(f"{part}.{name}.{quantity}_frames", values)


def test_equals_the_published_evaluator():
    case = load("time_cycle_davis_metrics")
    check(case, DavisJF(), "semi")
    check(case, DavisJF("unsupervised"), "unsup")

    truth, prediction = case.stored["void.annotation"], case.stored["void.prediction"]
    masks = prediction == 1, truth == 1, truth == 255
    case.check("void_direct.J", region_similarity(*masks))
    case.check("void_direct.F", contour_accuracy(*masks))

    nothing = torch.zeros(2, 40, 50, dtype=torch.bool)
    drawn = nothing.clone()
    drawn[0, 10:20, 10:30] = True
    case.check("empty_direct.J", region_similarity(drawn, nothing))
    case.check("empty_direct.F", contour_accuracy(drawn, nothing))
    case.check("empty_direct.F_swapped", contour_accuracy(nothing, drawn))
    case.assert_complete()


def test_equals_the_published_evaluator_on_real_masks():
    case = load("time_cycle_davis_metrics_real")
    check(case, DavisJF("unsupervised"), "small")
    assert case.checked == set(case.outputs) - NOT_STORED
    assert set(case.outputs) >= NOT_STORED


def scribble(generator: np.random.Generator, shape: tuple[int, ...], labels: int) -> np.ndarray:
    """Label maps of blobs that overlap, touch the borders and are sometimes single pixels or absent."""
    maps = np.zeros(shape, np.uint8)
    for frame in maps:
        for label in generator.permutation(labels)[: generator.integers(0, labels + 1)]:
            y, x = generator.integers(0, shape[1]), generator.integers(0, shape[2])
            h, w = generator.integers(1, shape[1] + 1), generator.integers(1, shape[2] + 1)
            part = frame[y : y + h, x : x + w]
            part[generator.random(part.shape) < generator.choice([0.2, 1.0])] = label + 1
    return maps


def plain_f(prediction: np.ndarray, truth: np.ndarray, reach: int) -> float:
    """F by boundary maps, dilations by a disk, and products."""

    def edges(mask: np.ndarray) -> np.ndarray:
        out = np.zeros(mask.shape, bool)
        out[:-1, :-1] = (mask[:-1, :-1] != mask[:-1, 1:]) | (mask[:-1, :-1] != mask[1:, :-1])
        out[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
        out[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
        out[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
        return out

    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = y**2 + x**2 <= reach**2
    ours, theirs = edges(prediction), edges(truth)
    assert np.array_equal(boundary(torch.from_numpy(truth)).numpy(), theirs)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    precision = (ours & ndimage.binary_dilation(theirs, disk)).sum() / ours.sum()
    recall = (theirs & ndimage.binary_dilation(ours, disk)).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("shape", [(6, 23, 31), (6, 40, 9), (3, 1, 17), (3, 17, 1), (2, 1, 1)])
@pytest.mark.parametrize("reach", [1, 2, 5, 11])
def test_contours_are_matched_as_a_dilation_would(shape, reach):
    generator = np.random.default_rng(reach)
    for _ in range(3):
        prediction, truth = scribble(generator, shape, 3), scribble(generator, shape, 3)
        for label in (1, 2, 3):
            ours, theirs = prediction == label, truth == label
            expected = [plain_f(p, t, reach) for p, t in zip(ours, theirs, strict=True)]
            got = contour_accuracy(torch.from_numpy(ours), torch.from_numpy(theirs), tolerance=reach)
            assert got.tolist() == pytest.approx(expected, abs=1e-12)


def test_all_labels_at_once_equal_each_alone(monkeypatch):
    """Label k with label k, or all with all; in one go, or a frame at a time where memory is short."""
    generator = np.random.default_rng(0)
    prediction, truth = scribble(generator, (9, 50, 60), 4), scribble(generator, (9, 50, 60), 4)
    alone = {
        (p, k): contours.matches((prediction == p) * np.uint8(1), (truth == k) * np.uint8(1), (1, 1), 3)
        for p in range(1, 5)
        for k in range(1, 5)
    }
    for cells in (contours._CELLS, 1):
        monkeypatch.setattr(contours, "_CELLS", cells)
        own, crossed = (contours.matches(prediction, truth, (4, 4), 3, crossed=c) for c in (False, True))
        for (p, k), one in alone.items():
            for both in (crossed, own) if p == k else (crossed,):
                assert np.array_equal(both.predicted[:, p - 1], one.predicted[:, 0])
                assert np.array_equal(both.annotated[:, k - 1], one.annotated[:, 0])
            assert np.array_equal(crossed.predicted_near[:, p - 1, k - 1], one.predicted_near[:, 0])
            assert np.array_equal(crossed.annotated_near[:, p - 1, k - 1], one.annotated_near[:, 0])
            if p == k:
                assert np.array_equal(own.predicted_near[:, k - 1], one.predicted_near[:, 0])
                assert np.array_equal(own.annotated_near[:, k - 1], one.annotated_near[:, 0])
    pairs = contours.overlaps(prediction, truth, (4, 4))
    for t, p, k in np.ndindex(pairs.shape):
        assert pairs[t, p, k] == ((prediction[t] == p) & (truth[t] == k)).sum()


def test_cropping_leaves_contours_and_counts_alone():
    """Objects that touch borders, cross them from frame to frame, or are not there at all."""
    generator = np.random.default_rng(1)
    for rows, columns in ((slice(3, 9), slice(4, 20)), (slice(0, 5), slice(0, 7)), (slice(9, None), slice(12, None))):
        prediction, truth = np.zeros((2, 4, 15, 25), np.uint8)
        for maps in (prediction, truth):
            part = maps[:, rows, columns]
            part[:] = scribble(generator, part.shape, 3)
        small = contours.cropped(prediction, truth)
        assert small[0].size < prediction.size
        found = (contours.matches(*pair, (3, 3), 2) for pair in ((prediction, truth), small))
        for whole, cut in zip(*found, strict=True):
            assert np.array_equal(whole, cut)
        pair, cut_pair = (contours.overlaps(*maps, (3, 3)) for maps in ((prediction, truth), small))
        assert np.array_equal(pair.reshape(4, -1)[:, 1:], cut_pair.reshape(4, -1)[:, 1:])  # but for the background
    assert contours.cropped(np.zeros((2, 9, 9), np.uint8))[0].shape == (2, 1, 1)


def test_the_tolerance_is_a_share_of_the_diagonal():
    assert radius(480, 854) == 8
    assert radius(300, 400) == 4  # exactly 0.008 x 500
    assert radius(301, 400) == 5
    assert radius(2160, 3840) == 36
    assert radius(480, 854, tolerance=3) == 3


@pytest.mark.parametrize("length", [*range(1, 14), 255, 256])
def test_statistics_are_the_published_ones_up_to_256_frames(length):
    values = torch.rand(length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(float(values.mean()))
    assert recall == pytest.approx(sum(v > 0.5 for v in values.tolist()) / length)
    assert decay == pytest.approx(published_decay(values.numpy()))


def test_decay_beyond_256_frames_is_not_the_published_one():
    """Its 8-bit edges wrap around: of 400 falling values, the last quarter would start at frame 299 - 256 = 43."""
    values = torch.linspace(1, 0, 400, dtype=torch.float64)
    assert statistics(values)[2] == pytest.approx(float(values[:101].mean() - values[299:].mean()))
    assert published_decay(values.numpy()) == pytest.approx(float(values[:101].mean() - values[43:144].mean()))
    assert abs(published_decay(values.numpy()) - statistics(values)[2]) > 0.5


def published_decay(values: np.ndarray) -> float:
    """With edges of 8 bits, as the published evaluator has them."""
    edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.uint8)
    return values[edges[0] : int(edges[1]) + 1].mean() - values[edges[3] : int(edges[4]) + 1].mean()


@pytest.mark.parametrize("task", ["semi_supervised", "unsupervised"])
def test_runs_order_and_repeats_change_nothing(task):
    case = load("time_cycle_davis_metrics")
    whole, pieces = DavisJF(task), DavisJF(task)
    sequences = [(case.stored[f"{n}.prediction"], case.stored[f"{n}.annotation"]) for n in ("drift", "void", "late")]
    for number, pair in enumerate(sequences):
        feed(whole, *pair, number, run=99)
    for number in (2, 0, 1, 0):
        feed(pieces, *sequences[number], number, run=1)
    assert sum(map(len, pieces.rows)) > sum(map(len, whole.rows))
    assert pieces.compute() == whole.compute()


def test_memory_does_not_grow_with_pixels():
    truth = load("time_cycle_davis_metrics").stored["drift.annotation"]
    held = []
    for maps in (truth, truth.repeat_interleave(4, 1).repeat_interleave(4, 2)):
        metric = DavisJF()
        feed(metric, maps, maps, 0)
        held.append(sum(rows.numel() for rows in metric.rows))
        assert metric.compute()["jf_mean"] == 100
    assert held[0] == held[1] == 2 * 7 * metric.columns


def square(frames: int, *squares: tuple[int, int, int]) -> Tensor:
    """Label maps ``[frames, 30, 40]`` with squares of 8 pixels, each (label, y, x)."""
    maps = torch.zeros(frames, 30, 40, dtype=torch.uint8)
    for label, y, x in squares:
        maps[:, y : y + 8, x : x + 8] = label
    return maps


def test_semi_supervised_scores_the_inner_frames_only():
    truth = square(5, (1, 2, 2), (2, 15, 15))
    prediction = truth.clone()
    prediction[0] = prediction[-1] = 9  # neither scored nor refused
    prediction[2] = 0
    metric = DavisJF()
    feed(metric, prediction, truth, 3)
    result = metric.compute()
    assert result["j_mean"] == pytest.approx(200 / 3)
    assert result["j_recall"] == pytest.approx(200 / 3)
    assert result["videos"] == 1
    assert [c["frames"].tolist() for c in metric.per_frame()] == [[1, 2, 3]] * 2

    truth[1:, :3] = 255  # void counts as background, and so does an object that the first annotation lacks
    truth[1:, 25:] = 7
    prediction = truth.masked_fill(truth == 255, 0).masked_fill(truth == 7, 0)
    metric = DavisJF()
    feed(metric, prediction, truth, 3)
    assert metric.compute()["jf_mean"] == 100

    metric = DavisJF()
    feed(metric, truth[:2], truth[:2], 0)  # too short to have inner frames
    feed(metric, square(4), square(4), 1)  # no objects
    assert metric.compute()["videos"] == 0


def test_means_are_over_objects_not_over_sequences():
    metric = DavisJF()
    one, three = square(4, (1, 2, 2)), square(4, (1, 2, 2), (2, 2, 20), (3, 15, 15))
    feed(metric, square(4), one, 0)
    feed(metric, three, three, 1)
    assert metric.compute()["jf_mean"] == 75
    assert [(s["sequence"], s["objects"], s["jf_mean"]) for s in metric.per_sequence()] == [(0, 1, 0), (1, 3, 100)]
    metric.discard(0)
    assert (metric.compute()["jf_mean"], metric.compute()["videos"]) == (100, 1)


def test_unsupervised_matches_proposals_to_objects():
    truth = square(4, (1, 2, 2), (2, 2, 20), (3, 15, 15))
    metric = DavisJF("unsupervised")
    feed(metric, square(4, (20, 2, 2), (7, 2, 20), (1, 15, 15), (4, 20, 30)), truth, 0)
    assert metric.compute()["jf_mean"] == 100
    assert [o["proposal"] for o in metric.per_object()] == [20, 7, 1]

    metric = DavisJF("unsupervised")
    feed(metric, square(4, (5, 15, 15)), truth, 0)  # two objects are left to empty proposals
    assert metric.compute()["jf_mean"] == pytest.approx(100 / 3)

    swapping = torch.cat([square(2, (1, 2, 2), (2, 2, 20)), square(2, (2, 2, 2), (1, 2, 20))])
    metric = DavisJF("unsupervised")
    feed(metric, swapping, square(4, (1, 2, 2), (2, 2, 20)), 0, run=1)
    assert metric.compute()["j_mean"] == 50  # one proposal an object for all of the sequence


def test_unsupervised_leaves_out_what_is_void():
    truth = square(3, (1, 2, 2), (255, 15, 15))
    metric = DavisJF("unsupervised")
    feed(metric, square(3, (1, 2, 2), (1, 15, 15)), truth, 0)
    assert metric.compute()["jf_mean"] == 100
    # Object 1 is gone after the first frame. Proposal 2 is all void, but there, and as an empty one the better match.
    truth[1:, 2:10, 2:10] = 0
    for prediction, share in ((square(3, (1, 20, 30), (2, 15, 15)), 2 / 3), (square(3, (1, 20, 30)), 0)):
        metric = DavisJF("unsupervised")
        feed(metric, prediction, truth, 0)
        assert metric.compute()["j_mean"] == pytest.approx(100 * share)


def test_missing_frames_are_counted():
    truth = square(6, (1, 2, 2))
    metric = DavisJF()
    feed(metric, truth, truth, 0)
    metric.update(truth[:3], truth[:3], sequence=1, frames=torch.arange(3), length=6, objects=1)
    result = metric.compute()
    assert (result["videos"], result["incomplete"], result["jf_mean"]) == (2, 1, 100)


def test_what_cannot_be_scored_is_refused_by_name():
    truth = square(4, (1, 2, 2))
    at = {"sequence": 8, "frames": torch.arange(10, 14), "length": 50, "objects": 1}
    with pytest.raises(ZooError, match=r"sequence 8, frame 12: the prediction has label 3, but the sequence has 1 obj"):
        DavisJF().update(torch.cat([truth[:2], square(2, (3, 1, 1))]), truth, **at)
    with pytest.raises(ZooError, match=r"frame 10: the prediction has label 21, but 20 proposals"):
        DavisJF("unsupervised").update(square(4, (21, 1, 1)), truth, **at)
    with pytest.raises(ZooError, match=r"got torch\.float32"):
        DavisJF().update(truth.float(), truth, **at)
    with pytest.raises(ZooError, match=r"one size, got .*\(4, 30, 39\)"):
        DavisJF().update(truth[..., 1:], truth, **at)
    with pytest.raises(ZooError, match=r"has 12 frames, numbered from 0, but frame 13"):
        DavisJF().update(truth, truth, **at | {"length": 12})
    with pytest.raises(ZooError, match=r"\[4\] whole numbers"):
        DavisJF().update(truth, truth, **at | {"frames": torch.arange(3)})
    with pytest.raises(ZooError, match="must differ"):
        DavisJF().update(truth, truth, **at | {"frames": torch.tensor([1, 2, 2, 3])})
    with pytest.raises(ZooError, match="objects must be"):
        DavisJF().update(truth, truth, **at | {"objects": 255})
    with pytest.raises(ZooError, match="task must be"):
        DavisJF("interactive")
    with pytest.raises(ZooError, match="prediction must be a bool mask"):
        region_similarity(truth, truth == 1)
    metric = DavisJF()
    metric.update(truth, truth, **at)
    metric.update(truth, truth, **at | {"frames": torch.arange(20, 24), "objects": 2})
    with pytest.raises(ZooError, match="sequence 8 was given with several"):
        metric.compute()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_maps_on_a_gpu():
    case = load("time_cycle_davis_metrics")
    here, there = DavisJF(), DavisJF().cuda()
    pair = case.stored["drift.prediction"], case.stored["drift.annotation"]
    feed(here, *pair, 0)
    feed(there, *(maps.cuda() for maps in pair), 0)
    assert {k: v.cpu() for k, v in there.compute().items()} == here.compute()
