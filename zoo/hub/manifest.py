"""checkpoints.yaml, typed: every published set of weights, where it lies, what it is and what it scored.

Reading the manifest needs no torch and costs milliseconds, so that `zoo list` and `zoo info` can afford it. Every entry
is checked when the file is read: a wrong one is an error that names the file, the entry, the field and the remedy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NoReturn
from urllib.parse import urlsplit

import yaml

from zoo.errors import FetchError, WeightsError, ZooError, unknown_name
from zoo.resources import resource
from zoo.spec import VideoSpec

FORMATS = ("caffe2", "torch", "lightning", "safetensors")  # what zoo.hub.upstream can read


@dataclass(frozen=True)
class Bundled:
    """Weights that travel with the package, at ``path`` relative to its resources."""

    kind: ClassVar[str] = "bundled"
    path: str

    def __str__(self) -> str:
        return f"bundled:{self.path}"


@dataclass(frozen=True)
class Hub:
    """Weights on the Hugging Face hub: ``file`` of the repository ``repo`` at ``revision`` (a commit or a tag)."""

    kind: ClassVar[str] = "hub"
    repo: str
    file: str
    revision: str

    def __str__(self) -> str:
        return f"hf://{self.repo}/{self.file}@{self.revision}"


@dataclass(frozen=True)
class Upstream:
    """Weights as their authors published them: a file of a foreign ``format`` at ``url``."""

    kind: ClassVar[str] = "upstream"
    url: str
    format: str

    @property
    def file(self) -> str:
        """The file's own name, the last part of the URL."""
        return PurePosixPath(urlsplit(self.url).path).name

    def __str__(self) -> str:
        return self.url


Source = Bundled | Hub | Upstream


@dataclass(frozen=True)
class Protocol:
    """How a number was measured, as data, so that nobody has to guess what "30 views" meant.

    Attributes:
        dataset: name of the data set, as `zoo data check` knows it.
        split: the part of it that was scored.
        clips: clips per video, spread evenly over it.
        crops: crops per clip along the long side.
        short_side: pixels of the frame's short side.
        crop: side of the square crops in pixels.
        score: how the views of a video become one prediction.
    """

    dataset: str
    split: str
    clips: int
    crops: int
    short_side: int
    crop: int
    score: str


@dataclass(frozen=True)
class Reported:
    """What the publisher of the weights says they score.

    Attributes:
        by: who says so: a repository at a commit, or a report.
        scores: metric name to value, in percent.
        protocol: how it was measured.
        table: the table among ``benchmarks/tables`` that holds the number, such as ``"nonlocal/release-r50"``.
        row: that table's row.
        videos: how many videos of the split the publisher had.
    """

    by: str
    scores: dict[str, float]
    protocol: Protocol
    table: str | None = None
    row: str | None = None
    videos: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights of one registered model.

    Attributes:
        name: ``model.tag``, what `zoo.load` takes.
        source: where the file lies.
        license: licence of the weights (SPDX).
        code_license: licence of the code that trained them (SPDX).
        trained_on: data sets, first to last; what came first initialised what came later.
        num_classes: width of the classifier in the file.
        sha256: hash of the file as published; None where nobody could compute it (then the first download is pinned).
        sha256_prefix: its first eight digits, where the publisher gives those only (in the file's name).
        bytes: the file's size, None where unknown.
        labels: name of the class list, in the order of the classifier's rows; None where the classes have no names.
        spec: fields of `VideoSpec` in which this checkpoint differs from its model.
        reported: the publisher's score.
        measured: scores that this project measured itself, metric name to value.
        proof: the proof file: a resource for bundled weights, a file of the same repository on the hub.
        default: whether the model's plain name loads this one.
        notes: what else a user must know.
    """

    name: str
    source: Source
    license: str
    code_license: str
    trained_on: tuple[str, ...]
    num_classes: int
    sha256: str | None = None
    sha256_prefix: str | None = None
    bytes: int | None = None
    labels: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    reported: Reported | None = None
    measured: dict[str, float] = field(default_factory=dict)
    proof: str | None = None
    default: bool = False
    notes: str = ""

    @property
    def model(self) -> str:
        """The registered model that the weights fit."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What tells the weights from others of the same model."""
        return self.name.partition(".")[2]


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
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} cannot be read as YAML: {error}") from error
    top = _Fields(path, "the file", document)
    protocols = {
        name: _dataclass(Protocol, _Fields(path, f"protocols.{name}", values))
        for name, values in top.take("protocols", _mapping, {}).items()
    }
    top.take("shared", _mapping, {})  # holds the YAML anchors that entries merge
    entries = top.take("checkpoints", _mapping)
    top.end()
    return Manifest([_checkpoint(_Fields(path, name, values), protocols) for name, values in entries.items()], path)


def _checkpoint(entry: _Fields, protocols: dict[str, Protocol]) -> Checkpoint:
    model, _, tag = entry.name.partition(".")
    if not (re.fullmatch(r"[a-z][a-z0-9_]*", model) and re.fullmatch(r"[a-z0-9_]+", tag)):
        entry.fail("name", "is not `model.tag` in snake_case")
    checkpoint = Checkpoint(
        name=entry.name,
        source=_source(_Fields(entry.path, f"{entry.name}: source", entry.take("source", _mapping))),
        license=entry.take("license", _text),
        code_license=entry.take("code_license", _text),
        trained_on=tuple(entry.take("trained_on", _texts)),
        num_classes=entry.take("num_classes", _positive),
        sha256=entry.take("sha256", _hex(64), None),
        sha256_prefix=entry.take("sha256_prefix", _hex(8), None),
        bytes=entry.take("bytes", _positive, None),
        labels=entry.take("labels", _text, None),
        spec=entry.take("spec", _spec, {}),
        reported=_reported(entry, protocols),
        measured=entry.take("measured", _scores, {}),
        proof=entry.take("proof", _relative, None),
        default=entry.take("default", _boolean, False),
        notes=entry.take("notes", _text, ""),
    )
    entry.end()
    if not isinstance(checkpoint.source, Upstream) and checkpoint.sha256 is None:
        entry.fail("sha256", f"is null for a {checkpoint.source.kind} file; write what `sha256sum` says of it")
    return checkpoint


def _source(entry: _Fields) -> Source:
    if len(entry.values) != 1 or not set(entry.values) <= {"bundled", "hub", "upstream"}:
        entry.fail("source", "must have exactly one of `bundled: path`, `hub: {...}`, `upstream: {...}`")
    if "bundled" in entry.values:
        return Bundled(entry.take("bundled", _relative))
    if "hub" in entry.values:
        hub = _Fields(entry.path, f"{entry.name}.hub", entry.take("hub", _mapping))
        source: Source = Hub(hub.take("repo", _repo), hub.take("file", _relative), hub.take("revision", _text))
        hub.end()
        return source
    upstream = _Fields(entry.path, f"{entry.name}.upstream", entry.take("upstream", _mapping))
    source = Upstream(upstream.take("url", _url), upstream.take("format", _one_of(FORMATS)))
    upstream.end()
    return source


def _reported(entry: _Fields, protocols: dict[str, Protocol]) -> Reported | None:
    if not (values := entry.take("reported", _mapping, None)):
        return None
    reported = _Fields(entry.path, f"{entry.name}: reported", values)
    return _dataclass(Reported, reported, protocol=protocols[reported.take("protocol", _one_of(tuple(protocols)))])


def _dataclass(kind: type, entry: _Fields, **given: Any) -> Any:
    """Fills a flat dataclass from an entry, each field checked by its annotation."""
    checks = {"str": _text, "int": _positive, "dict[str, float]": _scores}
    values = {}
    for f in fields(kind):
        if f.name not in given:
            values[f.name] = entry.take(f.name, checks[f.type.removesuffix(" | None")], f.default)
    entry.end()
    return kind(**values, **given)


class _Fields:
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

    def end(self) -> None:
        """To be called when every known field was taken."""
        if self.values:
            self.fail(", ".join(map(str, self.values)), "is no field of the schema; remove it or correct its spelling")

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises the `WeightsError` that names file, entry and field."""
        raise WeightsError(f"{self.path}: entry {self.name!r}{key and f', field {key!r}'}: {problem}.")


# The checks of single fields: each returns the value or raises ValueError with what it should have been.


def _must(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"must be {what}")


def _mapping(value: Any) -> dict[str, Any]:
    _must(isinstance(value, dict) and all(isinstance(key, str) for key in value), "a mapping with names as keys")
    return value


def _text(value: Any) -> str:
    _must(isinstance(value, str) and bool(value.strip()), "a non-empty text")
    return value.strip()


def _texts(value: Any) -> list[str]:
    _must(isinstance(value, list) and bool(value), "a non-empty list of texts")
    return [_text(item) for item in value]


def _boolean(value: Any) -> bool:
    _must(isinstance(value, bool), "true or false")
    return value


def _positive(value: Any) -> int:
    _must(isinstance(value, int) and not isinstance(value, bool) and value > 0, "a positive integer")
    return value


def _scores(value: Any) -> dict[str, float]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in _mapping(value).values())
    _must(numbers, "metric names with numbers")
    return {name: float(number) for name, number in value.items()}


def _spec(value: Any) -> dict[str, Any]:
    VideoSpec.from_dict({**VideoSpec().to_dict(), **_mapping(value)})  # complains about fields and values
    return value


def _relative(value: Any) -> str:
    path = PurePosixPath(_text(value))
    _must(not path.is_absolute() and ".." not in path.parts and "\\" not in value, "a relative path without `..`")
    return str(path)


def _repo(value: Any) -> str:
    _must(bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", _text(value))), "a repository as `owner/name`")
    return value


def _url(value: Any) -> str:
    parts = urlsplit(_text(value))
    _must(
        parts.scheme in ("http", "https") and bool(parts.netloc) and bool(Upstream(value, "").file),
        "an http(s) URL of a file",
    )
    return value


def _hex(digits: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        right = isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value)
        _must(bool(right), f"{digits} lower-case hex digits, in quotes")
        return value

    return check


def _one_of(known: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        _must(value in known, f"one of {', '.join(known) or '(nothing is defined)'}")
        return value

    return check


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """PyYAML's safe loader, the fast one where it is built, and one that does not keep the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
