"""Labels through time: against the published procedures' outputs, and against sums written out in double precision."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.goldens import load
from zoo.errors import ZooError
from zoo.networks.label_maps import classes_in, labels_to_mask, mask_to_labels
from zoo.networks.propagation import Propagation, Propagator, largest

WALK = {"topk": 10, "temperature": 0.05, "joint": True, "rescale": False}
pytestmark = pytest.mark.usefixtures("one_thread")


def video(
    frames: int, shape: tuple[int, int], *, channels: int = 8, classes: int = 3, noise: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Features ``[T, C, h, w]`` that change slowly, and soft labels ``[K, h, w]`` of the first."""
    make = torch.Generator().manual_seed(0)
    base = torch.randn(channels, *shape, generator=make)
    features = base + noise * torch.randn(frames, channels, *shape, generator=make)
    return features, torch.rand(classes, *shape, generator=make).softmax(0)


def run(settings: Propagation, features: Tensor, labels: Tensor) -> Tensor:
    """Soft labels ``[T, K, h, w]`` of all frames."""
    propagator = Propagator(settings, features[0], labels)
    return torch.stack([propagator.step(frame) for frame in features])


def written_out(settings: Propagation, features: Tensor, labels: Tensor) -> Tensor:
    """The same in double precision, one query at a time, on the video with its copies of frame 0 before it."""
    n, (count, _, h, w) = settings.references, features.shape
    unit = features.double().flatten(2)
    unit = unit / unit.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit = torch.cat([unit[:1].expand(n, -1, -1), unit])
    given = labels.double().flatten(1)
    known = [given] * n
    y, x = torch.arange(h * w) // w, torch.arange(h * w) % w
    for t in range(count):
        slots = settings.slots(t)
        table = torch.cat([given if slot == 0 else known[slot] for slot in slots], dim=1)
        out = torch.zeros(len(labels), h * w, dtype=torch.float64)
        for q in range(h * w):
            rows = []
            for order, slot in enumerate(slots):
                score = unit[slot].T @ unit[n + t][:, q] / settings.temperature
                if settings.radius is not None and order:
                    score[(y - y[q]) ** 2 + (x - x[q]) ** 2 >= settings.radius**2] = -torch.inf
                rows.append(score)
            if settings.joint:
                score, place = torch.cat(rows).sort(descending=True)
                out[:, q] = table[:, place[: settings.topk]] @ score[: settings.topk].softmax(0)
                continue
            for order, score in enumerate(rows):
                weight, place = score.softmax(0).sort(descending=True)
                out[:, q] += table[:, order * h * w + place[: settings.topk]] @ weight[: settings.topk] / len(slots)
        if settings.joint and t == 0:
            out = given
        elif settings.rescale:
            low, high = out.amin(1, keepdim=True), out.amax(1, keepdim=True)
            out = torch.where(high > low, (out - low) / (high - low), out)
        known.append(out)
    return torch.stack(known[n:]).view(count, -1, h, w)


def test_time_cycle_golden() -> None:
    """TimeCycle's DAVIS script from a coloured picture to the masks of all frames."""
    case = load("time_cycle_propagation")
    config, features, picture = case.manifest["config"], case.stored["features"], case.stored["label"].int()
    packed = (picture[..., 0] << 16) + (picture[..., 1] << 8) + picture[..., 2]
    colours = classes_in(packed, published=True)
    case.check("label_colours", torch.stack([colours >> 16, colours >> 8 & 255, colours & 255], dim=1).to(torch.uint8))
    first, _ = mask_to_labels(packed, (20, 20), size=config["image_size"], classes=colours)
    case.check("soft_first", first.permute(1, 2, 0))

    settings = Propagation(
        size=160, references=config["reference_slots"] - 1, topk=config["topk"], temperature=config["temperature"]
    )
    propagator = Propagator(settings, features[0], first)
    table = {0: first.flatten(1)}
    raw, soft, index = [], [], []
    for number, frame in enumerate(features):
        weights, places = propagator.neighbours(frame)
        labels = torch.zeros(4, 400)
        for slot in table:
            inside = weights * (places // 400 == slot)
            labels += (table[slot][:, places % 400] * inside).sum(2)
        raw.append(labels.view(4, 20, 20))
        soft.append(propagator.step(frame))
        table[1 + number % settings.references] = soft[-1].flatten(1)
        index.append(labels_to_mask(soft[-1], torch.arange(4, dtype=torch.uint8), (160, 160), size=160))
    case.check("soft_raw", torch.stack(raw).permute(0, 2, 3, 1))
    case.check("soft", torch.stack(soft).permute(0, 2, 3, 1))
    assert (torch.stack(index) != case.outputs["index"]).float().mean() <= 1e-3
    case.checked.add("index")
    case.assert_complete()


def test_contrastive_random_walk_golden() -> None:
    """The random walk's context, neighbours and labels. Its stripes are `test_label_maps`'s to compare."""
    case = load("contrastive_random_walk_propagation")
    config, features = case.manifest["config"], case.stored["features"]
    n, cells = config["context"], config["height"] * config["width"]
    settings = Propagation(**WALK, size=None, references=n, radius=config["radius"])
    case.check("key_indices", torch.tensor([settings.slots(number) for number in range(len(features))]))

    propagator = Propagator(settings, features[0], case.stored["labels"].permute(2, 0, 1))
    soft = [propagator.step(frame) for frame in features[:-1]]
    weights, places = propagator.neighbours(features[-1])
    soft.append(propagator.step(features[-1]))
    case.check("soft", torch.stack(soft).permute(0, 2, 3, 1))
    order = torch.zeros(1 + n, dtype=torch.int64)  # from our slots to the order in time
    for position, slot in enumerate(settings.slots(len(features) - 1)[1:], start=1):
        order[1 + (slot - n) % n] = position
    case.check("weights_last", weights.T.contiguous())
    case.check("ids_last", (order[places // cells] * cells + places % cells).T.contiguous())

    # Everything within reach is a neighbour when there are as many neighbours as cells.
    everything = Propagation(**WALK | {"topk": 2 * cells}, references=1, radius=config["radius"])
    propagator = Propagator(everything, features[0], case.stored["labels"].permute(2, 0, 1))
    propagator.step(features[0])
    weights, places = propagator.neighbours(features[1])
    reached = places[0][(weights[0] > 0) & (places[0] >= cells)] - cells
    case.check("mask_row0", torch.zeros(cells, dtype=torch.uint8).index_fill(0, reached, 1))
    assert case.checked == set(case.outputs) - {"texture", "texture_channels"}


@pytest.mark.parametrize(
    ("references", "topk", "radius", "joint", "rescale"),
    [
        *itertools.product([3], [4], [None, 2.5], [False, True], [False, True]),
        (0, 4, None, False, True),
        (0, 4, 2.0, True, False),
        (1, 1, 1.0, False, True),
        (2, 50, 3.0, True, False),  # more neighbours than cells
        (2, 50, 3.0, False, False),
    ],
)
def test_written_out(references: int, topk: int, radius: float | None, joint: bool, rescale: bool) -> None:
    """Both procedures, from the first frames with their copies until the ring has gone round."""
    features, labels = video(2 * references + 3, (5, 7))
    settings = Propagation(
        references=references, topk=topk, radius=radius, joint=joint, rescale=rescale, temperature=0.2
    )
    expected = written_out(settings, features, labels)
    torch.testing.assert_close(run(settings, features, labels), expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"radius": 4.0}, WALK, {**WALK, "radius": 4.0}], ids=str)
@pytest.mark.parametrize("shape", [(2, 700), (43, 41)], ids=["parts of rows", "rows"])
def test_parts_do_not_matter(options: dict[str, Any], shape: tuple[int, int]) -> None:
    features, labels = video(3, shape, channels=4)
    whole, parts = (run(Propagation(references=2, budget=b, **options), features, labels) for b in (1024, 1))
    torch.testing.assert_close(parts, whole, atol=2e-6, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation makes, in bytes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf._base is None:
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return out


@pytest.mark.parametrize("options", [{}, {**WALK, "radius": 12.0}], ids=["time_cycle", "random_walk"])
def test_memory_keeps_to_the_budget(options: dict[str, Any]) -> None:
    """All scores of 4 slots of 40 x 60 cells would be 88 MiB; no tensor, mask or other, is over 1."""
    features, labels = video(2, (40, 60), channels=4, classes=2)
    propagator = Propagator(Propagation(references=3, budget=1, **options), features[0], labels)
    propagator.step(features[0])
    with Largest() as made:
        propagator.step(features[1])
    assert 2**18 < made.bytes <= 2**20


def test_memory_does_not_grow_with_the_video() -> None:
    features, labels = video(4, (6, 5))
    propagator = Propagator(Propagation(references=3), features[0], labels)

    def held() -> int:
        return sum(x.untyped_storage().nbytes() for x in vars(propagator).values() if isinstance(x, Tensor))

    before = held()
    for number in range(25):
        propagator.step(features[number % 4])
    assert held() == before


def test_frames_out_of_the_ring_are_forgotten() -> None:
    """Two videos that differ in frame 1 only have the same labels again once nothing of it is left to read."""
    features, labels = video(12, (5, 6))
    settings = Propagation(references=2, radius=2.0, rescale=False)
    other = features.clone()
    other[1] = -other[1]
    one, two = (Propagator(settings, features[0], labels) for _ in range(2))
    for frame in range(6):
        one.step(features[frame]), two.step(other[frame])
    (w1, p1), (w2, p2) = one.neighbours(features[6]), two.neighbours(features[6])
    assert torch.equal(w1, w2)
    assert torch.equal(p1, p2)


@pytest.mark.parametrize(
    ("options", "off"),
    [({"temperature": 0.15}, 0.002), ({**WALK, "radius": 4.0}, 0.008)],
    ids=["time_cycle", "random_walk"],
)
def test_half_is_close_to_full(options: dict[str, Any], off: float) -> None:
    """Twice, and five times, closer than if scores were rounded as they come, far from 0."""
    features, labels = video(9, (12, 13), channels=64, noise=0.3)
    engines = [Propagator(Propagation(half=half, **options), features[0], labels) for half in (False, True)]
    for frame in features[:-1]:
        full, half = (engine.step(frame) for engine in engines)
    assert full.dtype == half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, atol=0.02, rtol=0)
    full, half = (engine.neighbours(features[-1])[0].sort(1).values for engine in engines)
    assert (half - full).abs().sum() / full.sum() < off


def test_features_are_taken_as_they_come() -> None:
    """Of any length and any floating type; half-precision features lose nothing more than they have lost."""
    features, labels = video(3, (6, 7))
    settings = Propagation(references=2)
    plain = run(settings, features, labels)
    torch.testing.assert_close(run(settings, 37.0 * features, labels), plain, atol=1e-5, rtol=1e-4)
    rounded = features.bfloat16()
    assert torch.equal(run(settings, rounded, labels), run(settings, rounded.float(), labels))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(settings, features, labels), plain)


def test_zero_features_look_everywhere_alike() -> None:
    features, labels = video(2, (4, 4))
    features[1] = 0
    soft = run(Propagation(references=1, topk=16, rescale=False), features, labels)[1]
    torch.testing.assert_close(soft, soft[:, :1, :1].expand_as(soft))


def test_a_class_that_is_nowhere_stays_nowhere() -> None:
    """The published rescaling divides 0 by 0 there, and lets that class win every pixel."""
    features, labels = video(4, (6, 6), classes=3)
    labels[1] = 0
    soft = run(Propagation(references=2), features, labels)
    assert soft.isfinite().all()
    assert (soft[:, 1] == 0).all()
    assert (soft.argmax(1) != 1).all()


def test_one_class_only() -> None:
    features, _ = video(4, (6, 6))
    given = torch.ones(1, 6, 6)
    walk = run(Propagation(**WALK), features, given)
    torch.testing.assert_close(walk, torch.ones_like(walk))
    cycle = run(Propagation(topk=36), features, given)  # all weights: a constant map, which is left as it is
    assert cycle.isfinite().all()
    assert cycle.shape == (4, 1, 6, 6)


@pytest.mark.parametrize("joint", [False, True])
def test_what_was_given_is_left_alone(joint: bool) -> None:
    """Neither the caller's labels nor the engine's memory can be changed through what it hands out."""
    features, labels = video(3, (4, 5), classes=1)
    before, frames = labels.clone(), features.clone()
    propagator = Propagator(Propagation(references=2, joint=joint), features[0], labels)
    twin = Propagator(Propagation(references=2, joint=joint), features[0], labels)
    for frame in features:
        out = propagator.step(frame)
        assert torch.equal(out, twin.step(frame))
        out.fill_(7)
    assert torch.equal(labels, before)
    assert torch.equal(features, frames)


@pytest.mark.parametrize("length", [1, 7, 32, 500, 1603])
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_largest(length: int, k: int, dtype: torch.dtype) -> None:
    x = torch.randn(9, length, generator=torch.Generator().manual_seed(length)).to(dtype)
    x[0] = -torch.inf
    x[1] = x[1, 0]
    values, places = largest(x, k)
    expected = x.topk(min(k, length), dim=1).values
    assert torch.equal(values, expected)
    assert torch.equal(x.gather(1, places), expected)
    assert all(len(set(row.tolist())) == len(row) for row in places)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 12},
        {"size": 0},
        {"references": -1},
        {"topk": 0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"radius": 0.0},
        {"budget": 0},
    ],
    ids=str,
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ZooError, match=next(iter(wrong))):
        Propagation(**wrong)


def test_wrong_shapes() -> None:
    features, labels = video(1, (4, 5))
    with pytest.raises(ZooError, match=r"\(4, 5\).*\(5, 4\)"):
        Propagator(Propagation(), features[0], labels.transpose(1, 2))
    with pytest.raises(ZooError, match="not empty"):
        Propagator(Propagation(), features[0], labels[:0])
    propagator = Propagator(Propagation(), features[0], labels)
    with pytest.raises(ZooError, match="frame 0"):
        propagator.step(features[0, :, :3])
