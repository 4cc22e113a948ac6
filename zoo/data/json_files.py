"""Annotations that are stored as JSON, read without trust in what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import DataError


def read_json(path: Path, kind: type) -> Any:
    """A JSON file whose outermost value is a ``kind`` (`dict` or `list`).

    Raises:
        DataError: there is no such file, or it is something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"there is no {path}; unpack the data set's annotations there.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); fetch it again.") from None
    if not isinstance(value, kind):
        raise DataError(f"{path} holds no JSON {'object' if kind is dict else 'list'}; fetch it again.")
    return value
