"""What was reported, what was measured here, and the page that shows both.

The package has the name of the face's function: ``zoo.reproduce("sandbox")``. Importing any part of a package sets that
attribute of its parent, so the function would be gone after its first call; therefore the package itself can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.reproduce.results import Report


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Report:
        """See `zoo.reproduce.runner.reproduce`."""
        from zoo.reproduce.runner import reproduce

        return reproduce(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
