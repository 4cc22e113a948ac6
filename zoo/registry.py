"""The names of the zoo: `@register` gives a method's builder its names, `create` builds one, `list_models` lists them.

Listing must not import torch, so the names of the package's own methods are read off their source (`@register(...)` is
required to have literal arguments) and a method's file is only imported when one of its names is built. A method that
lives outside the package registers itself when its module is imported; modules that an installed distribution names as
entry points of the group ``videozoo.methods`` are imported as soon as a name is looked up.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import importlib
import importlib.metadata
import inspect
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ZooError, unknown_name

_METHODS = Path(__file__).resolve().parent / "methods"
_BUILDERS: dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True)
class Entry:
    """A registered name: where its builder is, what it is called in the literature, what it fixes.

    Attributes:
        name: the registered name, ``method_variant``.
        module: the module to import before the builder is there.
        paper: the citation key of the paper.
        summary: one line for people.
        aliases: other names that mean this one.
        preset: the builder's arguments that this name fixes.
    """

    name: str
    module: str
    paper: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    preset: dict[str, Any] = field(default_factory=dict)


_RUNTIME: dict[str, Entry] = {}


def register(name: str, *, paper: str, summary: str = "", aliases: tuple[str, ...] = (), **preset: Any) -> Callable:
    """Give a builder a name. Stack it to give one builder several names with different presets.

    Args:
        name: lower-case ``method_variant``.
        paper: citation key, such as ``"wang2018nonlocal"``.
        summary: one line for people; by default the builder's own first line, and the preset.
        aliases: further names of the same model.
        **preset: arguments of the builder that this name fixes (a caller may still override them).
    """

    def decorate(builder: Callable[..., Any]) -> Callable[..., Any]:
        line = summary or _summary(builder.__doc__, preset)
        entry = Entry(name, builder.__module__, paper, line, tuple(aliases), preset)
        for known in (name, *entry.aliases):
            other = _RUNTIME.get(known)
            if other and (other.name, other.module) != (name, entry.module):
                raise ZooError(f"the name {known!r} is registered twice: in {other.module} and in {entry.module}.")
            _RUNTIME[known] = entry
        _BUILDERS[name] = _bind(builder, name, preset)
        return builder

    return decorate


def _bind(builder: Callable[..., Any], name: str, preset: dict[str, Any]) -> Callable[..., Any]:
    """The builder with its presets as defaults, under a signature that a command line can read."""
    hints = typing.get_type_hints(builder)
    parameters = [
        p.replace(annotation=hints.get(p.name, p.annotation), default=preset.get(p.name, p.default))
        for p in inspect.signature(builder).parameters.values()
    ]
    accepted = {p.name for p in parameters}
    if surplus := set(preset) - accepted:
        raise ZooError(f"{name}: the builder {builder.__qualname__} has no argument {', '.join(sorted(surplus))}.")

    @functools.wraps(builder)
    def build(**arguments: Any) -> Any:
        for argument in arguments:
            if argument not in accepted:
                raise unknown_name(f"argument of {name}", argument, accepted)
        return builder(**{**preset, **arguments})

    build.__name__ = build.__qualname__ = name
    build.__signature__ = inspect.Signature(parameters, return_annotation=hints.get("return", Any))
    build.__annotations__ = hints
    del build.__wrapped__
    return build


def _summary(docstring: str | None, preset: dict[str, Any]) -> str:
    first = (docstring or "").strip().split("\n")[0].rstrip(".")
    return f"{first} ({', '.join(f'{k} {v}' for k, v in preset.items())})" if preset else first


@functools.cache
def _scan() -> dict[str, Entry]:
    """Every name registered in ``zoo/methods/*.py``, read off the source without running it."""
    found: dict[str, Entry] = {}
    for file in sorted(_METHODS.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "register":
                    preset = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                    paper, summary = preset.pop("paper"), preset.pop("summary", "")
                    aliases = tuple(preset.pop("aliases", ()))
                    line = summary or _summary(ast.get_docstring(node), preset)
                    name, module = ast.literal_eval(call.args[0]), f"zoo.methods.{file.stem}"
                    entry = Entry(name, module, paper, line, aliases, preset)
                    found.update(dict.fromkeys((entry.name, *entry.aliases), entry))
    return found


@functools.cache
def _import_plugins() -> None:
    for plugin in importlib.metadata.entry_points(group="videozoo.methods"):
        try:
            plugin.load()
        except Exception as error:  # a broken plugin must not take the whole zoo down with it
            warnings.warn(f"the videozoo plugin {plugin.value!r} does not import: {error!r}", stacklevel=2)


def _entries() -> dict[str, Entry]:
    _import_plugins()
    return {**_scan(), **_RUNTIME}


def entry(name: str) -> Entry:
    """The entry of a registered name or alias; `zoo.UnknownNameError` with the nearest names otherwise."""
    entries = _entries()
    if name not in entries:
        raise unknown_name("model", name, entries, "`zoo list` shows every model.")
    return entries[name]


def builder(name: str) -> Callable[..., Any]:
    """The callable that builds a registered name; importing its method's file is all this does."""
    found = entry(name)
    importlib.import_module(found.module)
    return _BUILDERS[found.name]


def create(name: str, **arguments: Any) -> Any:
    """A freshly initialised model: the `pytorch_lightning.LightningModule` registered as ``name``, without weights.

    Args:
        name: a registered name or alias, see `list_models`.
        **arguments: the builder's own, such as ``num_classes``; unknown ones are refused by name.
    """
    found = entry(name)
    module = builder(name)(**arguments)
    module.name = found.name
    module.arguments = {**found.preset, **arguments, **getattr(module, "arguments", {})}  # a builder may say it better
    return module


def list_models(pattern: str = "*") -> list[str]:
    """Registered names (aliases left out) that match a shell pattern such as ``"*i3d*"``, sorted."""
    return sorted(
        {e.name for n, e in _entries().items() if fnmatch.fnmatch(n, pattern) or fnmatch.fnmatch(e.name, pattern)}
    )
