"""Single non-local blocks against the release (pooling before the projections) and against mmcv (after them)."""

from __future__ import annotations

import pytest
import torch

from tests.goldens import Case, load
from zoo.methods.nonlocal_keys import from_caffe2, from_mmaction
from zoo.networks.nonlocal_block import NonLocalBlock

CASES = [
    "block_dot_product",
    "block_embedded_gaussian",
    "block_group4",
    "block_pool_after_concatenation",
    "block_pool_after_dot_product",
    "block_pool_after_embedded_gaussian",
    "block_pool_after_gaussian",
    "block_space_only",
    "block_time_only",
]
ATTENTION = {"space_only": "space", "time_only": "time"}


def is_mmcv(case: Case) -> bool:
    return "mmcv" in case.manifest["reference"]


def our_name(case: Case, key: str) -> str:
    """The block's own name of an upstream entry, by way of the converters."""
    ours = convert(case, {key: torch.zeros(1, 16, 1, 1)})
    return next(iter(ours))


def convert(case: Case, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A lone block's weights through the converters of whole networks, as if it followed block 1 of res3."""
    if is_mmcv(case):
        ours = from_mmaction({f"backbone.layer2.1.non_local_block.{key}": value for key, value in state.items()})
    else:
        ours = from_caffe2({key.replace("nonlocal_", "nonlocal_conv3_1_"): value for key, value in state.items()})
    return {key.removeprefix("trunk.res3.nonlocal_blocks.1."): value for key, value in ours.items()}


def build(case: Case) -> NonLocalBlock:
    config = case.manifest["config"]
    attention = config.get("attention", "spacetime")
    group = int(attention.removeprefix("group")) if attention.startswith("group") else None
    block = NonLocalBlock(
        config["channels"],
        config["inner"],
        instantiation=config["instantiation"],
        attention="spacetime" if group else ATTENTION.get(attention, attention),
        temporal_group=group,
        sub_sample=config["sub_sample"] is not None,
        pool_position="after" if is_mmcv(case) else "before",
        scale=config.get("scale", True),
        out_bias=not is_mmcv(case),
    )
    block.load_state_dict(convert(case, case.state()))
    return block


@pytest.mark.parametrize("name", CASES)
def test_block(name: str) -> None:
    case = load(f"nonlocal_{name}")
    block = build(case)
    prefixes = {"eval/": False, "train/": True} if "train/z" in case.outputs else {"": False}
    for prefix, training in prefixes.items():
        block.train(training).zero_grad()
        x = case.input("x").requires_grad_()
        z = block(x)
        (z * case.input("grad_out")).sum().backward()
        case.check(f"{prefix}z", z)
        case.check(f"{prefix}grad_x", x.grad)
        # Batch statistics cancel some biases: their gradient is zero, and what is stored is rounding of large sums.
        norms = {key: value for key, value in case.outputs.items() if key.startswith(f"{prefix}grad_norm/")}
        noise = 1e-5 * float(max(norms.values(), default=torch.zeros(())))
        for output in norms:
            parameter = block.get_parameter(our_name(case, output.removeprefix(f"{prefix}grad_norm/")))
            case.check(output, parameter.grad.norm(), atol=noise)
        for output in [key for key in case.outputs if key.startswith(f"{prefix}after/")]:
            case.check(output, block.get_buffer(our_name(case, output.removeprefix(f"{prefix}after/"))))
    if "eval/attention_row0" in case.outputs:
        case.check("eval/attention_row0", block.eval().affinity(case.input("x"))[0, 0])
    case.assert_complete()
