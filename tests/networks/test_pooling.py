"""Halving equals the library's max pooling, in values and in gradients, ties and odd edges included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.networks.pooling import halve


@pytest.mark.parametrize("height", [6, 7])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_max_pooling(height: int, channels_last: bool) -> None:
    x = torch.randn(2, 3, 4, height, 9).relu()  # many equal values: zeros
    if channels_last:
        x = x.to(memory_format=torch.channels_last_3d)
    results = []
    for pool in (halve, lambda map_: F.max_pool3d(map_, (1, 2, 2))):
        map_ = x.clone().requires_grad_()
        pooled = pool(map_)
        (pooled * torch.arange(pooled.numel()).view(pooled.shape)).sum().backward()
        results.append((pooled, map_.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)
