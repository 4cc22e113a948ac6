"""Where files lie: those that travel with the package, and the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import ZooError

_PACKAGE = Path(__file__).resolve().parent


def resource(relative: str) -> Path:
    """The path of a file or folder that travels with the package, such as ``"checkpoints.yaml"``.

    In a checkout these lie at the repository's top, where readers look for them; a wheel carries them in ``zoo/_data``.
    """
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        if (path := base / relative).exists():
            return path
    raise ZooError(f"the installation lacks {relative!r} (looked beside and inside {_PACKAGE}); reinstall videozoo.")


def cache_root() -> Path:
    """The folder for what is downloaded, converted or rendered once: ``ZOO_CACHE``, or ``~/.cache/videozoo``."""
    return Path(os.environ.get("ZOO_CACHE") or "~/.cache/videozoo").expanduser()
