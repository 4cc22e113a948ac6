"""Packages that only some of the zoo needs: imported where they are used, with a word on where to get them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from zoo.errors import ZooError


def optional(module: str, extra: str, purpose: str) -> ModuleType:
    """The module of an optional package.

    Args:
        module: such as ``"sklearn.manifold"``.
        extra: of this package, which brings it.
        purpose: what it is wanted for, as the subject of "needs".

    Raises:
        ZooError: it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = module.partition(".")[0]
        if (error.name or missing).partition(".")[0] != missing:  # it is there, and lacks something of its own
            raise
        raise ZooError(
            f"{purpose} needs the package {missing!r}, which is not installed: pip install 'videozoo[{extra}]'."
        ) from error
