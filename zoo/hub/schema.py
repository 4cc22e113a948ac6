"""Checking what people write into YAML: fields are taken one by one; a wrong one is named with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import urlsplit

import yaml

from zoo.errors import WeightsError, ZooError


class Fields:
    """The fields of one entry: each is taken once and checked; what is left over at the end is an error."""

    def __init__(self, path: Path, name: str, values: Any):
        self.path, self.name = path, name
        if not isinstance(values, dict):
            self.fail("", f"must be a mapping of fields to values, got {values!r}")
        self.values = dict(values)

    def take(self, key: str, check: Callable[[Any], Any], default: Any = MISSING) -> Any:
        """A field's checked value. Without a default it must be there; null is allowed where None is the default."""
        if key not in self.values:
            if default is MISSING:
                self.fail(key, "is missing; add it")
            return default
        value = self.values.pop(key)
        if value is None and default is None:
            return None
        try:
            return check(value)
        except (TypeError, ValueError, ZooError) as error:
            self.fail(key, f"{error}; got {value!r}")

    def inner(self, key: str) -> Fields:
        """The fields of a field that is a mapping itself."""
        return Fields(self.path, f"{self.name}: {key}", self.take(key, mapping))

    def end(self) -> None:
        """To be called when every known field was taken."""
        if self.values:
            self.fail(", ".join(map(str, self.values)), "is no field of the schema; remove it or correct its spelling")

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises the `WeightsError` that names file, entry and field."""
        raise WeightsError(f"{self.path}: entry {self.name!r}{key and f', field {key!r}'}: {problem}.")


# The checks: each returns the value or raises ValueError with what it must be.


def _must(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"must be {what}")


def mapping(value: Any) -> dict[str, Any]:
    _must(isinstance(value, dict) and all(isinstance(key, str) for key in value), "a mapping with names as keys")
    return value


def text(value: Any) -> str:
    _must(isinstance(value, str) and bool(value.strip()), "a non-empty text")
    return value.strip()


def texts(value: Any) -> list[str]:
    _must(isinstance(value, list) and bool(value), "a non-empty list of texts")
    return [text(item) for item in value]


def boolean(value: Any) -> bool:
    _must(isinstance(value, bool), "true or false")
    return value


def positive(value: Any) -> int:
    _must(isinstance(value, int) and not isinstance(value, bool) and value > 0, "a positive integer")
    return value


def scores(value: Any) -> dict[str, float]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in mapping(value).values())
    _must(numbers, "metric names with numbers")
    return {name: float(number) for name, number in value.items()}


def relative(value: Any) -> str:
    path = PurePosixPath(text(value))
    _must(not path.is_absolute() and ".." not in path.parts and "\\" not in value, "a relative path without `..`")
    return str(path)


def file_name(value: Any) -> str:
    _must(relative(value) == PurePosixPath(value).name, "the name of a file, without folders")
    return value


def repo(value: Any) -> str:
    _must(bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text(value))), "a repository as `owner/name`")
    return value


def url(value: Any) -> str:
    parts = urlsplit(text(value))
    _must(
        parts.scheme in ("http", "https") and bool(parts.netloc) and bool(PurePosixPath(parts.path).name),
        "an http(s) URL of a file",
    )
    return value


def urls(value: Any) -> dict[str, str]:
    return {name: url(address) for name, address in mapping(value).items()}


def hex_digits(digits: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        right = isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value)
        _must(bool(right), f"{digits} lower-case hex digits, in quotes")
        return value

    return check


def one_of(known: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        _must(value in known, f"one of {', '.join(known) or '(nothing is defined)'}")
        return value

    return check


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """PyYAML's safe loader, the fast one where it is built, and one that does not keep the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
