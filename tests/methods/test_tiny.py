"""What the sandbox's two networks can see: the whole comparison rests on it."""

from __future__ import annotations

import torch
from torch import nn

import zoo
from zoo.data.sandbox import ONSETS, PRESENCE
from zoo.networks.nonlocal_block import NonLocalBlock


def frames_seen(model: nn.Module, at: int) -> list[int]:
    """The clip frames that the trunk's output at frame ``at`` depends on."""
    size = model.spec.test_crop
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 3, model.spec.frames, size, size, generator=generator, requires_grad=True)
    model.trunk(clip)[0, :, at].sum().backward()
    return clip.grad.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist()


def test_the_twin_never_sees_both_events():
    model = zoo.create("i3d_tiny").eval()
    seen = frames_seen(model, 9)
    assert seen == list(range(6, 13))
    pause = ONSETS[1].start - (
        ONSETS[0].stop - 1 + PRESENCE - 1
    )  # from the last sight of one to the first of the other
    assert (len(seen) - 1) * model.spec.stride < pause


def test_the_nonlocal_blocks_see_the_whole_clip():
    model = zoo.create("nonlocal_i3d_tiny").eval()
    assert frames_seen(model, 9) == list(range(6, 13))  # fresh blocks are the identity
    for block in (m for m in model.modules() if isinstance(m, NonLocalBlock)):
        nn.init.ones_(block.norm.weight)
    assert frames_seen(model, 9) == list(range(model.spec.frames))
