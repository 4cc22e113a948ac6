"""checkpoints.yaml, typed: every published set of weights, where it lies, what it is and what it scored.

Reading the manifest needs no torch and costs milliseconds, so that `zoo list` and `zoo info` can afford it. Every entry
is checked when the file is read: a wrong one is an error that names the file, the entry, the field and the remedy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import FetchError, WeightsError, unknown_name
from zoo.hub import schema
from zoo.hub.checkpoint import Bundled, Checkpoint, Hub, Protocol, Reported, Source, Upstream
from zoo.hub.schema import Fields
from zoo.resources import resource
from zoo.spec import VideoSpec

FORMATS = ("caffe2", "torch", "lightning", "safetensors", "lua")  # what zoo.hub.upstream can read


class Manifest(Mapping[str, Checkpoint]):
    """All checkpoints by name, in the order of the file."""

    def __init__(self, checkpoints: list[Checkpoint], path: Path):
        self.path = path
        self._by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints}
        for model in sorted({checkpoint.model for checkpoint in checkpoints}):
            defaults = [checkpoint.name for checkpoint in self.for_model(model) if checkpoint.default]
            if len(defaults) != 1:
                marked = " and ".join(defaults) or "none"
                raise WeightsError(
                    f"{path}: model {model!r}: exactly one checkpoint must say `default: true`; {marked} does."
                )

    def __getitem__(self, name: str) -> Checkpoint:
        return self._by_name[name]

    def __iter__(self):
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Checkpoint:  # type: ignore[override]  # a wrong name is an error here, not None
        """The checkpoint called ``model.tag``; an unknown name is an `UnknownNameError` with the nearest ones."""
        if name not in self._by_name:
            raise unknown_name("checkpoint", name, self._by_name, "`zoo list --pretrained` shows all.")
        return self._by_name[name]

    def for_model(self, model: str) -> list[Checkpoint]:
        """Every checkpoint of a model, its default first; empty where nothing is published."""
        return sorted((c for c in self._by_name.values() if c.model == model), key=lambda c: not c.default)

    def default(self, model: str) -> Checkpoint:
        """The checkpoint that the model's plain name stands for; `FetchError` where none is published."""
        if found := self.for_model(model):
            return found[0]
        raise FetchError(
            f"nobody has published weights for {model!r}. Build it untrained with zoo.create({model!r}), train it with "
            f"`zoo fit --model {model}`, or give your own file: zoo.load({model!r}, weights=PATH)."
        )

    def bundled(self) -> list[Checkpoint]:
        """The checkpoints that need no network."""
        return [c for c in self._by_name.values() if isinstance(c.source, Bundled)]


@functools.cache
def manifest() -> Manifest:
    """The manifest that travels with the package, read once."""
    return read_manifest(resource("checkpoints.yaml"))


def read_manifest(path: Path | str) -> Manifest:
    """Reads and checks a checkpoints.yaml. Anything wrong in it is a `WeightsError` naming entry, field and remedy."""
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=schema.StrictLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} cannot be read as YAML: {error}") from error
    top = Fields(path, "the file", document)
    protocols = {
        name: _dataclass(Protocol, Fields(path, f"protocols.{name}", values))
        for name, values in top.take("protocols", schema.mapping, {}).items()
    }
    top.take("shared", schema.mapping, {})  # holds the YAML anchors that entries merge
    entries = top.take("checkpoints", schema.mapping)
    top.end()
    return Manifest([_checkpoint(Fields(path, name, values), protocols) for name, values in entries.items()], path)


def _checkpoint(entry: Fields, protocols: dict[str, Protocol]) -> Checkpoint:
    model, _, tag = entry.name.partition(".")
    if not (re.fullmatch(r"[a-z][a-z0-9_]*", model) and re.fullmatch(r"[a-z0-9_]+", tag)):
        entry.fail("name", "is not `model.tag` in snake_case")
    checkpoint = Checkpoint(
        name=entry.name,
        source=_source(entry.inner("source")),
        license=entry.take("license", schema.text),
        code_license=entry.take("code_license", schema.text),
        trained_on=tuple(entry.take("trained_on", schema.texts)),
        num_classes=entry.take("num_classes", schema.positive, None),
        sha256=entry.take("sha256", schema.hex_digits(64), None),
        sha256_prefix=entry.take("sha256_prefix", schema.hex_digits(8), None),
        bytes=entry.take("bytes", schema.positive, None),
        labels=entry.take("labels", schema.text, None),
        spec=entry.take("spec", _spec, {}),
        reported=_reported(entry, protocols),
        measured=entry.take("measured", schema.scores, {}),
        proof=entry.take("proof", schema.relative, None),
        default=entry.take("default", schema.boolean, False),
        notes=entry.take("notes", schema.text, ""),
    )
    entry.end()
    if not isinstance(checkpoint.source, Upstream) and checkpoint.sha256 is None:
        entry.fail("sha256", f"is null for a {checkpoint.source.kind} file; write what `sha256sum` says of it")
    return checkpoint


def _source(entry: Fields) -> Source:
    if len(entry.values) != 1 or not set(entry.values) <= {"bundled", "hub", "upstream"}:
        entry.fail("source", "must have exactly one of `bundled: path`, `hub: {...}`, `upstream: {...}`")
    if "bundled" in entry.values:
        return Bundled(entry.take("bundled", schema.relative))
    if "hub" in entry.values:
        inner = entry.inner("hub")
        repo, file = inner.take("repo", schema.repo), inner.take("file", schema.relative)
        source: Source = Hub(repo, file, inner.take("revision", schema.text))
    else:
        inner = entry.inner("upstream")
        url, format = inner.take("url", schema.url), inner.take("format", schema.one_of(FORMATS))
        name, companions = inner.take("name", schema.file_name, None), inner.take("companions", schema.urls, {})
        source = Upstream(url, format, name, companions)
    inner.end()
    return source


def _reported(entry: Fields, protocols: dict[str, Protocol]) -> Reported | None:
    if "reported" not in entry.values:
        return None
    reported = entry.inner("reported")
    protocol = protocols[reported.take("protocol", schema.one_of(tuple(protocols)))]
    return _dataclass(Reported, reported, protocol=protocol)


def _dataclass(kind: type, entry: Fields, **given: Any) -> Any:
    """Fills a flat dataclass from an entry, each field checked by its annotation."""
    checks = {"str": schema.text, "int": schema.positive, "dict[str, float]": schema.scores}
    values = {}
    for f in fields(kind):
        if f.name not in given:
            values[f.name] = entry.take(f.name, checks[f.type.removesuffix(" | None")], f.default)
    entry.end()
    return kind(**values, **given)


def _spec(value: Any) -> dict[str, Any]:
    VideoSpec.from_dict({**VideoSpec().to_dict(), **schema.mapping(value)})  # complains about fields and values
    return value
