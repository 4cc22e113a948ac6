"""Every registered name as a callable: ``zoo.models.nonlocal_i3d_r50(num_classes=157, weights="imagenet")``.

This is what a configuration file of `zoo fit` names as its ``class_path``: plain words in, a LightningModule out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from zoo import registry
from zoo.errors import UnknownNameError


def __getattr__(name: str) -> Callable[..., pl.LightningModule]:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return _factory(registry.builder(name), registry.entry(name).name)
    except UnknownNameError as error:
        raise AttributeError(str(error)) from None


def __dir__() -> list[str]:
    return registry.list_models()


def _factory(build: Callable[..., Any], name: str) -> Callable[..., pl.LightningModule]:
    """The builder with one more argument, the weights to start from, under a signature that a command line can read."""

    def model(**arguments: Any) -> pl.LightningModule:
        from zoo.loading import load

        weights = arguments.pop("weights", None)
        if weights is None:
            return registry.create(name, **arguments)
        # A command line says everything. What it leaves at nothing, the weights may know.
        said = {k: v for k, v in arguments.items() if v is not None or k not in unsaid}
        return load(name, weights, **said).train()

    signature = inspect.signature(build)
    unsaid = {parameter.name for parameter in signature.parameters.values() if parameter.default is None}
    weights = inspect.Parameter("weights", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    model.__signature__ = inspect.Signature([*parameters, weights], return_annotation=pl.LightningModule)
    model.__annotations__ = {p.name: p.annotation for p in (*parameters, weights)} | {"return": pl.LightningModule}
    model.__name__ = model.__qualname__ = name
    model.__module__ = __name__
    model.__doc__ = build.__doc__
    return model
