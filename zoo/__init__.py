"""A PyTorch Lightning model zoo for understanding what people do in video, and why.

    import zoo

    model = zoo.load("nonlocal_i3d")                 # a LightningModule in eval mode, with its published weights
    model.predict("clip.mp4", top=5)
    zoo.list_models("*i3d*", pretrained=True)
    zoo.info("nonlocal_i3d")
    data = zoo.datamodule("kinetics", root="/data/k400", spec=model.spec)
    zoo.reproduce("nonlocal/5.2f", data={"kinetics": "/data/k400"})

    model = zoo.fuse("temporal_fields", "temporal_fields_flow")   # who does what, when, and to what end?
    model.predict("kitchen.mp4", per_frame=True, flow="flow/kitchen")

    model = zoo.load("goal_trajectory_tiny")         # when does it go wrong, and what was meant?
    model.predict("fail.mp4").failure
    model.autocorrect("fail.mp4").after

This module is the face: every function says what it does and calls the part that does it, imported when it is called,
so that ``import zoo`` costs milliseconds and pulls in no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo._version import __version__
from zoo.errors import DataError, FetchError, UnknownNameError, VideoError, WeightsError, ZooError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from zoo.loading import Info
    from zoo.reproduce.runner import Report
    from zoo.spec import VideoSpec

__all__ = [
    "DataError",
    "FetchError",
    "UnknownNameError",
    "VideoError",
    "WeightsError",
    "ZooError",
    "__version__",
    "create",
    "datamodule",
    "fuse",
    "info",
    "list_models",
    "load",
    "reproduce",
    "verify",
]


def load(name: str, weights: str | Path | Sequence[str | Path] | None = None, **arguments: Any) -> pl.LightningModule:
    """A model with weights, in eval mode.

    Args:
        name: a model (``"nonlocal_i3d"``: its default checkpoint), a checkpoint
            (``"nonlocal_i3d_r50_8x8.kinetics400_8x8"``), a repository on the hub (``"hf://org/name"``), or the path of
            a ``.ckpt`` that `zoo fit` wrote.
        weights: other weights than the default: a checkpoint's name, ``"imagenet"`` (2D weights, inflated), or a file
            (safetensors, or a published ``.pkl`` / ``.pth`` / ``.t7``, recognised by its content and converted). A list
            of them, one for each, fills the streams of a model that has several.
        **arguments: the model's own. With another ``num_classes`` than the weights have, the head starts fresh and
            everything else is loaded.

    Raises:
        UnknownNameError: no such model or checkpoint; the message suggests the nearest names.
        FetchError: the weights cannot be had here; the message says what was tried and what to do.
        WeightsError: they are not what the manifest says, or do not fit the model.
    """
    from zoo.loading import load

    return load(name, weights, **arguments)


def create(name: str, **arguments: Any) -> pl.LightningModule:
    """A freshly initialised model: the LightningModule registered as ``name``.

    Args:
        name: a registered name, see `list_models`.
        **arguments: the model's own, such as ``num_classes``; unknown ones are refused by name.
    """
    from zoo.registry import create

    return create(name, **arguments)


def fuse(
    a: pl.LightningModule | str | Path, b: pl.LightningModule | str | Path, how: Literal["mean", "product"] = "mean"
) -> pl.LightningModule:
    """A model of RGB and one of flow as one, which tests and predicts with the scores of both.

    Args:
        a: a model, or what `load` takes.
        b: another; either of them may be the one of RGB.
        how: the mean of the two scores of a class, or their product.

    Raises:
        ZooError: they are not one of RGB and one of flow, of the same classes at as many moments.
    """
    from zoo.loading import fuse

    return fuse(a, b, how)


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names that match a shell pattern: registered models, or with ``pretrained`` the checkpoints they have."""
    from zoo.registry import list_models

    names = list_models(pattern)
    if not pretrained:
        return names
    from fnmatch import fnmatch

    from zoo.hub.manifest import manifest

    return sorted(c for c in manifest() if manifest()[c].model in names or fnmatch(c, pattern))


def info(name: str) -> Info:
    """What is known of a model: paper, input, parameters, multiply-adds, checkpoints, licences, reported numbers."""
    from zoo.loading import info

    return info(name)


def datamodule(name: str, root: str | Path | None = None, spec: VideoSpec | None = None, **options: Any) -> Any:
    """The LightningDataModule of a data set.

    Args:
        name: ``"kinetics"``, ``"sandbox_kinetics"``, ...
        root: the folder that holds the official release; the sandbox needs none.
        spec: what the model wants to eat: ``model.spec``.
        **options: ``batch_size``, ``num_workers``, ``seed``.
    """
    from zoo.data.catalog import datamodule_class

    if root is not None:
        options["root"] = root
    return datamodule_class(name)(spec=spec, **options)


def reproduce(
    table: str, data: dict[str, str | Path] | None = None, rows: Sequence[str] | None = None, **options: Any
) -> Report:
    """A paper's table with what was measured here beside what was reported.

    Args:
        table: ``"nonlocal/5.2f"``, or ``"sandbox"`` for everything that runs without any data of yours.
        data: data set name to its folder.
        rows: names of the rows to run; all by default.
        **options: see `zoo.reproduce.runner.reproduce`.
    """
    from zoo.reproduce.runner import reproduce

    return reproduce(table, data, rows, **options)


def verify(name: str) -> Any:
    """Recompute the proof that travels with a checkpoint: the file's hash, a strict load, the outputs it must give."""
    from zoo.loading import verify

    return verify(name)
