"""Where the files that travel with the package lie: checkpoints.yaml, the tables, the bundled weights."""

from __future__ import annotations

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
