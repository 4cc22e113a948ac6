"""How often order is told, of videos that come in any number of batches, twice or not at all."""

from __future__ import annotations

import math

import torch

from zoo.metrics.order import OrderAccuracy


def test_each_video_counts_once():
    """A process that would have none repeats the first video of all."""
    metric = OrderAccuracy()
    metric.update(torch.tensor([True, False, True]), torch.tensor([4, 0, 7]))
    metric.update(torch.tensor([], dtype=torch.bool), torch.tensor([], dtype=torch.int64))
    metric.update(torch.tensor([True, True]), torch.tensor([2, 4]))
    assert {name: float(value) for name, value in metric.compute().items()} == {"order_accuracy": 75, "videos": 4}


def test_of_no_video_there_is_no_accuracy():
    metric = OrderAccuracy()
    metric.update(torch.tensor([], dtype=torch.bool), torch.tensor([], dtype=torch.int64))
    found = metric.compute()
    assert math.isnan(found["order_accuracy"])
    assert found["videos"] == 0
