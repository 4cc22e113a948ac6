"""The block against its definition, written out with the matrix of all pairs, and the promises it makes beside that."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import ZooError
from zoo.networks import attention
from zoo.networks.attention import concatenation_attention
from zoo.networks.nonlocal_block import Extent, Instantiation, NonLocalBlock

INSTANTIATIONS = get_args(Instantiation)


def randomized(block: NonLocalBlock) -> NonLocalBlock:
    """The block with weights large enough for its softmax to prefer some keys."""
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def defined(block: NonLocalBlock, x: Tensor) -> Tensor:
    """``z`` of a clip by the definition: all pairs of all positions, those that may not meet masked out."""

    def pool(map_: Tensor) -> Tensor:
        return F.max_pool3d(map_, (1, 2, 2)) if block.sub_sample else map_

    before = block.pool_position == "before"
    keys = pool(x) if before else x
    g = block.g(keys) if before else pool(block.g(keys))
    if block.instantiation == "gaussian":
        theta, phi = x, pool(x)
    else:
        theta, phi = block.theta(x), block.phi(keys) if before else pool(block.phi(keys))
    may_meet = meeting(block, x.shape[2:], phi.shape[2:])
    theta, phi, g = (part.flatten(2).mT for part in (theta, phi, g))
    if block.instantiation == "concatenation":
        pairs = torch.cat(
            [theta.unsqueeze(2).expand(-1, -1, phi.shape[1], -1), phi.unsqueeze(1).expand(-1, theta.shape[1], -1, -1)],
            3,
        )
        affinity = block.concat(pairs).squeeze(3).relu() * may_meet / may_meet.sum(1, keepdim=True)
    elif block.instantiation == "dot_product":
        affinity = theta @ phi.mT * may_meet / may_meet.sum(1, keepdim=True)
    else:
        affinity = (block.scale * theta @ phi.mT).masked_fill(~may_meet, -torch.inf).softmax(2)
    y = (affinity @ g).mT.unflatten(2, x.shape[2:])
    z = block.out(y)
    return (z if block.norm is None else block.norm(z)) + x


def meeting(block: NonLocalBlock, query_shape: torch.Size, key_shape: torch.Size) -> Tensor:
    """Which query ``[N]`` may see which key ``[M]``."""
    q, k = (torch.cartesian_prod(*(torch.arange(n) for n in shape)) for shape in (query_shape, key_shape))
    same = q.unsqueeze(1) == k.unsqueeze(0)
    if block.attention == "time":
        return same[..., 1] & same[..., 2]
    if block.temporal_group:
        return q[:, None, 0] // block.temporal_group == k[None, :, 0] // block.temporal_group
    return torch.ones(len(q), len(k), dtype=torch.bool)


FORMS = [
    {"instantiation": which, "attention": extent, "temporal_group": group, "sub_sample": sub, "pool_position": position}
    for which, (extent, group), (sub, position) in product(
        INSTANTIATIONS,
        [*((extent, None) for extent in get_args(Extent)), ("spacetime", 2)],
        [(False, "before"), (True, "before"), (True, "after")],
    )
    if not (extent == "time" and sub)
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(str(value) for value in form.values()))
def test_equals_its_definition(form: dict, training: bool) -> None:
    torch.manual_seed(0)
    block = randomized(NonLocalBlock(6, 4, **form)).double().train(training)
    x = torch.randn(2, 6, 4, 5, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, 6, 4, 5, 6, dtype=torch.double)
    wanted = [x, *block.parameters()]
    expected = defined(block, x)
    actual = block(x)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), wanted), torch.autograd.grad((expected * weight).sum(), wanted)
    )


def test_time_only_never_pools() -> None:
    assert not NonLocalBlock(4, attention="time", sub_sample=True).sub_sample


@pytest.mark.parametrize("norm", ["bn", "frozen", "affine", None])
@pytest.mark.parametrize("instantiation", INSTANTIATIONS)
def test_starts_as_the_identity_and_learns(instantiation: Instantiation, norm: str | None) -> None:
    block = NonLocalBlock(8, instantiation=instantiation, norm=norm)
    x = torch.randn(2, 8, 2, 4, 4)
    z = block(x)
    torch.testing.assert_close(z, x)
    (z * torch.randn_like(z)).sum().backward()
    gate = block.norm.weight if norm == "bn" else block.out.weight
    assert gate.grad.abs().max() > 0


@pytest.mark.parametrize("instantiation", INSTANTIATIONS)
def test_never_builds_the_matrix_of_pairs(instantiation: Instantiation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither forward nor backward makes a tensor with as many values as there are pairs, and few queries' weights are
    enough for the one form that weighs them a part at a time."""
    monkeypatch.setattr(attention, "FEW_PAIRS", 0)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 16)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
            largest = max([largest, *(tensor.untyped_storage().nbytes() // 4 for tensor in tensors)])
            return result

    block = randomized(NonLocalBlock(8, instantiation=instantiation, sub_sample=False))
    x = torch.randn(1, 8, 4, 16, 16, requires_grad=True)
    with Watch():
        block(x).sum().backward()
    assert largest <= 4 * x.numel() < (4 * 16 * 16) ** 2 / 10


def test_gaussian_in_parts_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    block = randomized(NonLocalBlock(6, instantiation="gaussian")).double()
    x = torch.randn(2, 6, 4, 6, 6, dtype=torch.double, requires_grad=True)
    wanted = [x, *block.parameters()]
    whole = block(x)
    expected = torch.autograd.grad(whole.square().sum(), wanted)
    monkeypatch.setattr(attention, "FEW_PAIRS", 0)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 50)
    parts = block(x)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), wanted), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), whole)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_concatenation_is_exact_in_single_precision(offset: float) -> None:
    """At res3's size, also where queries and keys have large opposite offsets that cancel in every pair."""
    torch.manual_seed(0)
    a, b, v = torch.randn(1, 3136) + offset, torch.randn(1, 784) - offset, torch.randn(1, 784, 16)
    expected = (a.double().unsqueeze(2) + b.double().unsqueeze(1)).relu() @ v.double() / 784
    torch.testing.assert_close(concatenation_attention(a, b, v), expected.float(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [{}, {"sub_sample": False}, {"attention": "space"}, {"attention": "time"}, {"temporal_group": 2}],
    ids=lambda form: str(form),
)
def test_attention_map_is_a_row_of_the_affinity(form: dict) -> None:
    torch.manual_seed(0)
    block = randomized(NonLocalBlock(4, **form)).eval()
    x = torch.randn(2, 4, 4, 5, 6)
    t, row, column = 3, 2, 5
    actual = block.attention_map(x, (t, row, column))
    assert actual.shape == ((2, 4, 2, 3) if block.sub_sample else (2, 4, 5, 6))
    torch.testing.assert_close(actual.sum((1, 2, 3)), torch.ones(2))
    visible = meeting(block, x.shape[2:], actual.shape[1:])[(t * 5 + row) * 6 + column].view(actual.shape[1:])
    assert (actual[:, ~visible] == 0).all()
    per_clip = block.affinity(x).unflatten(0, (2, -1))  # clips, sequences, queries, keys
    if block.attention == "time":
        expected = per_clip[:, row * 6 + column, t]
    else:
        sequence, first = divmod(t, block.temporal_group or 4)
        expected = per_clip[:, sequence, (first * 5 + row) * 6 + column]
    torch.testing.assert_close(actual[:, visible], expected)


def test_attention_map_names_a_position_outside() -> None:
    with pytest.raises(ZooError, match=r"\(0, 9, 0\).*2 x 4 x 4"):
        NonLocalBlock(4).attention_map(torch.randn(1, 4, 2, 4, 4), (0, 9, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instantiation": "softmax"}, "instantiation must be one of embedded_gaussian"),
        ({"attention": "frames"}, "attention must be one of spacetime"),
        ({"pool_position": "never"}, "pool_position must be one of before"),
        ({"norm": "layer"}, "norm must be"),
        ({"temporal_group": 0}, "temporal_group must be positive"),
        ({"temporal_group": 2, "attention": "space"}, "needs attention='spacetime'"),
    ],
)
def test_refuses_what_it_does_not_know(arguments: dict, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        NonLocalBlock(4, **arguments)


def test_refuses_a_map_without_keys() -> None:
    with pytest.raises(ZooError, match="a feature map of 4 x 1 leaves no keys"):
        NonLocalBlock(4)(torch.randn(1, 4, 6, 4, 1))


def test_refuses_a_clip_that_groups_do_not_divide() -> None:
    with pytest.raises(ZooError, match="6 frames of features cannot be cut in groups of 4"):
        NonLocalBlock(4, temporal_group=4)(torch.randn(1, 4, 6, 4, 4))
