"""Files that got hurt on their way."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import torch

from zoo.errors import WeightsError
from zoo.hub.upstream import read_foreign


def check_damage(whole: bytes, path: Path, times: int = 600) -> None:
    """A file that is cut, or has a bit turned, must be a `WeightsError` or hold tensors; a cut one is never read."""
    dice = random.Random(0)
    for turn in range(times):
        data = bytearray(whole)
        if cut := turn % 2:
            data = data[: dice.randrange(len(data))]
        else:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):  # whatever else it may raise fails here
            _, state = read_foreign(path)
            assert not cut, "a cut file was read"
            assert all(isinstance(value, torch.Tensor) for value in state.values())
