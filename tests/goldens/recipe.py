"""The weights and inputs of a golden case, drawn from names, shapes and a seed, so that no large file travels.

Whoever made the cases drew the same numbers in the same way and fed them to the methods' published reference code.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np


def fill(key: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The tensor called ``key`` in the reference's state dict: float32, except counters, which are int64 zeros.

    Variances are uniform in 0.5..1.5, vectors that scale uniform in 0.8..1.2, other vectors normal with deviation 0.1,
    and everything else normal with variance 1 / fan-in.
    """
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = _generator(f"{seed}:{key}")
    if key.endswith(("running_var", "_riv")):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) * sqrt(1.0 / prod(shape[1:]))
    elif key.endswith(("weight", "_s", "gamma", "scale")):
        values = rng.uniform(0.8, 1.2, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)


def inputs(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The float32 input called ``name``, standard normal."""
    return _generator(f"{seed}:input:{name}").standard_normal(shape).astype(np.float32)


def state_dict(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor of a manifest's ``shapes``."""
    return {key: fill(key, shape, seed) for key, shape in shapes.items()}


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
