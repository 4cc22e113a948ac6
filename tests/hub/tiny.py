"""A model of a few numbers with an upstream, for everything about weights that needs no network of size.

Its functions are also run in other processes, which is why they lie in a module of their own.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.hub.fetch import local_weights
from zoo.hub.manifest import Checkpoint, Upstream
from zoo.hub.weights import read_weights, save_weights
from zoo.spec import VideoSpec

URL = "https://weights.example.org/release/tiny.pkl"


class Tiny(nn.Module):
    """One convolution and a classifier of two named classes."""

    name = "tiny"
    spec = VideoSpec(frames=4, stride=1, crop=8, short_side=(8, 12), test_crop=8, test_short_side=8)

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"num_classes": num_classes}
        self.labels = ("sit", "stand")
        self.trunk = nn.Conv3d(3, 4, (1, 3, 3))
        self.head = nn.Linear(4, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, T, H, W]`` to logits ``[B, num_classes]``."""
        return self.head(self.trunk(clips).relu().mean((2, 3, 4)))


def blobs() -> dict[str, Any]:
    """The published weights under their publisher's names, with the leftovers of training that such files hold."""
    dice = np.random.default_rng(0)
    shapes = {"conv_w": (4, 3, 1, 3, 3), "conv_b": (4,), "pred_w": (2, 4), "pred_b": (2,)}
    arrays = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**arrays, "conv_w_momentum": np.zeros(shapes["conv_w"], np.float32), "model_iter": 400_001}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The publisher's names to those of `Tiny`."""
    names = {"conv": "trunk", "pred": "head", "w": "weight", "b": "bias"}
    wanted = {name: value for name, value in state.items() if not name.endswith("_momentum")}
    return {".".join(names[part] for part in name.split("_")): value for name, value in wanted.items()}


def expected() -> dict[str, Tensor]:
    """What a `Tiny` holds after loading the published weights."""
    return convert({name: torch.from_numpy(value) for name, value in blobs().items() if name != "model_iter"})


def checkpoint(**changes: Any) -> Checkpoint:
    """The manifest's entry of the published weights."""
    fields = {
        "name": "tiny.toys_4x1",
        "source": Upstream(URL, "caffe2"),
        "license": "CC-BY-NC-4.0",
        "code_license": "Apache-2.0",
        "trained_on": ("toys",),
        "num_classes": 2,
    }
    return Checkpoint(**{**fields, **changes})


def fetch(mirror: str, cache: Path) -> dict[str, list]:
    """In a process of its own: brings the weights and reads them."""
    os.environ.update(ZOO_MIRROR=mirror, ZOO_CACHE=str(cache), HF_HUB_OFFLINE="0")
    state, _ = read_weights(local_weights(checkpoint(), convert, cache=cache))
    return {name: value.tolist() for name, value in state.items()}


def fetch_with_limit(mirror: str, cache: Path, limit: int) -> None:
    """As `fetch`, in a process that may write no more than ``limit`` bytes into a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    fetch(mirror, cache)


def save_with_limit(path: Path, limit: int) -> None:
    """Saves four kilobytes in a process that may write no more than ``limit`` bytes into a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    save_weights(path, {"w": torch.zeros(1024)})


def fetch_as_nobody(mirror: str, cache: Path) -> None:
    """As `fetch`, by a user who may read the cache and not write it."""
    if os.geteuid() == 0:
        os.setuid(65534)
    fetch(mirror, cache)
