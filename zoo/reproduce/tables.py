"""The papers' tables, typed: `get("nonlocal/5.2f")`, `get("sandbox")`. Reading them needs no torch.

A file ``benchmarks/tables/STEM.yaml`` holds the tables of one paper; a table is known as ``STEM/ID`` and ``STEM`` alone
means all tables of the file. A file looks like this (``?`` marks what may be left out)::

    paper?: title, authors, year
    source?: where the numbers were copied from
    facts?: [{text: a number that stands in no table, params: 43.2M}]
    tables:
    - id: "5.2f"                     # in quotes, for 5.3 would be a number
      title: what the table compares
      task: video classification
      dataset: Kinetics-400          # for people
      split: val
      data?: kinetics                # for `zoo.datamodule`: what a row is measured on
      data_options?: {task: masks}   # for the same, beside root and spec
      videos?: 30                    # in the data set's official list, which a copy's own may have cut short
      protocol?: how the reported numbers were measured
      description?: what the reader must know of the data
      source?: of this table, where it differs from the file's
      needs?: a detector             # why none of its rows can be measured here
      comparable?: false             # the rows can be measured on other data than the paper's only: a measured number
                                     # stands beside the reported one, and `note` says what they share
      note?: a remark on the table
      metrics:
        top1: {unit: percent, higher_is_better: true}
        params_rel: {unit: ratio, higher_is_better: false, measure: params, relative_to: C2D baseline}
      rows:
      - name: R50 NL I3D
        own: true                    # the paper's own row; others are reported only
        config?: {frames: 32}        # what the paper says of it
        model?: nonlocal_i3d_r50     # the registered name that is this row; without one it is reported only
        override?: {nonlocal_blocks: 1}  # arguments that turn the model into the row
        data_options?: {rate: 5}     # where the row wants others than the table, such as the features of its network
        weights?: nonlocal_i3d_r50.kinetics400_32x2  # the checkpoint to measure it with (of a model of several
                                     # streams a list, one for each), or one of three words: random (fresh, seed 0),
                                     # none (nothing to learn), imagenet (timm's)
        measure?: {map: map_all_videos}  # where this row's number is another one than the metric's
        values: {top1: 74.9, top5: 91.6}
        unreported?: true            # the paper gives no number (values are null), and it is measured all the same
        spread?: {top1: 0.3}         # standard deviation over seeds, where ``values`` are means
        note?: a remark on the row

A metric is measured as the number that the model logs under the same name when tested. ``measure`` names another one,
or ``params`` and ``flops`` (counted from the network, without weights or data, as a ratio to the row ``relative_to`` if
that is given), or is null for a number that is only reported.

``sandbox.yaml`` is the group that runs on a machine with nothing on it. A method's training script adds a table of its
own (``id``: the method's name, ``data: sandbox_kinetics`` or the sandbox of another data set) and leaves the others
alone; ``values`` are means over seeds with their ``spread``, ``weights`` name the bundled checkpoint, ``description``
says what the data is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import ZooError, unknown_name
from zoo.resources import resource

COSTS = ("params", "flops")
UNTRAINED = ("none", "random")  # what stands for weights where nothing was learned
WORDS = (*UNTRAINED, "imagenet")


@dataclass(frozen=True)
class Metric:
    """A column. ``measure`` is what the runner looks up (see the module's docstring), None where it cannot."""

    unit: str
    higher_is_better: bool
    measure: str | None
    relative_to: str | None = None


@dataclass(frozen=True)
class Row:
    """A row as reported; a value is None where the paper leaves the cell empty."""

    name: str
    own: bool
    values: dict[str, float | None]
    config: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    override: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    weights: str | tuple[str, ...] | None = None
    measure: dict[str, str] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    unreported: bool = False
    note: str = ""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Names of the checkpoints that it is measured with: several of a model of several streams."""
        if isinstance(self.weights, tuple):
            return self.weights
        return () if self.weights in (None, *WORDS) else (self.weights,)


@dataclass(frozen=True)
class Table:
    """A table as reported; ``name`` is ``STEM/ID``."""

    name: str
    title: str
    task: str
    dataset: str
    split: str
    metrics: dict[str, Metric]
    rows: tuple[Row, ...]
    data: str | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    videos: int | None = None
    protocol: str = ""
    description: str = ""
    paper: str = ""
    source: str = ""
    needs: str = ""
    comparable: bool = True
    note: str = ""

    def row(self, name: str) -> Row:
        """The row called ``name``; `zoo.UnknownNameError` with the nearest names otherwise."""
        for row in self.rows:
            if row.name == name:
                return row
        raise unknown_name(f"row of {self.name}", name, (row.name for row in self.rows))


@functools.cache
def load_tables() -> dict[str, Table]:
    """Every table that travels with the package, by name, in the order of the files."""
    return {t.name: t for path in sorted(resource("benchmarks/tables").glob("*.yaml")) for t in read_tables(path)}


def get(name: str) -> tuple[Table, ...]:
    """The table ``"nonlocal/5.2f"``, or with a file's stem alone, as in ``"sandbox"``, all tables of that file.

    A table that has a part for each data set, as ``"actionness/1"`` has ``1-coin`` and ``1-crosstask``, is all of them.

    Raises:
        zoo.UnknownNameError: no such table; the message suggests the nearest names.
    """
    tables = load_tables()
    if found := tuple(t for t in tables.values() if name in (t.name, t.name.partition("/")[0])):
        return found
    if parts := tuple(t for t in tables.values() if "/" in name and t.name.startswith(f"{name}-")):
        return parts
    known = {*tables, *(n.partition("/")[0] for n in tables)}
    raise unknown_name("table", name, known, "A table is named by its file and id, as in `nonlocal/5.2f`.")


def read_tables(path: Path) -> tuple[Table, ...]:
    """Read and check one file of tables; whatever is wrong in it is a `ZooError` naming file, table, row and field."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ZooError(f"{path} cannot be read as YAML: {error}") from error
    top = _Entry(str(path), document, {"paper", "source", "facts", "tables"})
    shared = {key: top.get(key, _text, "") for key in ("paper", "source")}
    for fact in top.get("facts", _list, []):
        _Entry(f"{path}: facts", fact).get("text", _text)
    tables = tuple(_table(path, values, shared) for values in top.get("tables", _list))
    _unique(str(path), "table", [table.name for table in tables])
    return tables


def _table(path: Path, values: Any, shared: dict[str, str]) -> Table:
    entry = _Entry(f"{path}: a table", values, {"id", *(f.name for f in fields(Table))} - {"name", "paper"})
    entry.where = f"{path}: table {(name := entry.get('id', _text))!r}"
    metrics = {
        key: _metric(f"{entry.where}, metric {key!r}", key, metric)
        for key, metric in entry.get("metrics", _mapping).items()
    }
    rows = tuple(_row(entry.where, row, set(metrics)) for row in entry.get("rows", _list))
    _unique(entry.where, "row", [row.name for row in rows])
    for key, metric in metrics.items():
        if metric.relative_to and metric.relative_to not in {row.name for row in rows}:
            raise ZooError(f"{entry.where}, metric {key!r}: relative_to {metric.relative_to!r} is none of its rows.")
    texts = ("title", "task", "dataset", "split")
    optional = ("protocol", "description", "needs", "note")
    return Table(
        name=f"{path.stem}/{name}",
        metrics=metrics,
        rows=rows,
        data=entry.get("data", _text, None),
        data_options=entry.get("data_options", _mapping, {}),
        videos=entry.get("videos", _count, None),
        paper=shared["paper"],
        source=entry.get("source", _text, shared["source"]),
        comparable=entry.get("comparable", _boolean, True),
        **{key: entry.get(key, _text) for key in texts},
        **{key: entry.get(key, _text, "") for key in optional},
    )


def _metric(where: str, name: str, values: Any) -> Metric:
    entry = _Entry(where, values, {f.name for f in fields(Metric)})
    metric = Metric(
        unit=entry.get("unit", _text),
        higher_is_better=entry.get("higher_is_better", _boolean),
        measure=entry.get("measure", _text, None) if "measure" in entry.values else name,
        relative_to=entry.get("relative_to", _text, None),
    )
    if metric.relative_to and metric.measure not in COSTS:
        raise ZooError(f"{where}: relative_to goes with `measure: params` or `measure: flops` only.")
    return metric


def _row(where: str, values: Any, metrics: set[str]) -> Row:
    entry = _Entry(f"{where}, a row", values, {f.name for f in fields(Row)})
    entry.where = f"{where}, row {(name := entry.get('name', _text))!r}"
    row = Row(
        name=name,
        own=entry.get("own", _boolean),
        values=entry.get("values", _numbers),
        config=entry.get("config", _mapping, {}),
        model=entry.get("model", _text, None),
        override=entry.get("override", _mapping, {}),
        data_options=entry.get("data_options", _mapping, {}),
        weights=tuple(weights) if isinstance(weights := entry.get("weights", _weights, None), list) else weights,
        measure=entry.get("measure", _texts, {}),
        spread=entry.get("spread", _numbers, {}),
        unreported=entry.get("unreported", _boolean, False),
        note=entry.get("note", _text, ""),
    )
    if surplus := (set(row.values) | set(row.spread) | set(row.measure)) - metrics:
        raise ZooError(f"{entry.where}: {', '.join(sorted(surplus))} is not among the table's metrics.")
    if (row.weights or row.override) and not row.model:
        raise ZooError(f"{entry.where}: weights and override need a model; name the registered one.")
    if isinstance(row.weights, str) and row.checkpoints and row.weights.partition(".")[0] != row.model:
        raise ZooError(f"{entry.where}: weights {row.weights!r} are not of model {row.model!r}.")
    return row


def _unique(where: str, kind: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ZooError(f"{where}: {kind} {', '.join(twice)} stands twice; give each a name of its own.")


class _Entry:
    """One mapping of the file, whose fields are checked as they are taken."""

    def __init__(self, where: str, values: Any, known: set[str] | None = None) -> None:
        self.where, self.values = where, values
        if not isinstance(values, Mapping):
            raise ZooError(f"{where} must be a mapping of fields to values, got {values!r}.")
        if surplus := set(values) - (known or set(values)):
            raise ZooError(
                f"{where}: unknown field {', '.join(map(str, sorted(surplus, key=str)))}; remove it or see "
                f"zoo.reproduce.tables for the schema."
            )

    def get(self, key: str, check: Callable[[Any], bool], default: Any = MISSING) -> Any:
        """The field's value, if it passes the check (whose docstring says what it wants)."""
        value = self.values.get(key, default)
        if value is MISSING:
            raise ZooError(f"{self.where}: field {key!r} is missing.")
        if value is not default and not (check(value) or (value is None and default is None)):
            raise ZooError(f"{self.where}: field {key!r} must be {check.__doc__}, got {value!r}.")
        return value


def _text(value: Any) -> bool:
    """a non-empty text (in quotes, if it looks like a number)"""
    return isinstance(value, str) and bool(value.strip())


def _weights(value: Any) -> bool:
    """a checkpoint's name or a word for weights, or a list of checkpoints, one for each stream"""
    return _text(value) or (_list(value) and all(_text(one) and "." in one for one in value))


def _texts(value: Any) -> bool:
    """a mapping of names to texts"""
    return _mapping(value) and all(map(_text, value.values()))


def _boolean(value: Any) -> bool:
    """true or false"""
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    """a positive integer"""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _list(value: Any) -> bool:
    """a non-empty list"""
    return isinstance(value, list) and bool(value)


def _mapping(value: Any) -> bool:
    """a mapping with names as keys"""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _numbers(value: Any) -> bool:
    """a mapping of metrics to numbers (null for an empty cell)"""
    return _mapping(value) and all(
        number is None or (isinstance(number, (int, float)) and not isinstance(number, bool))
        for number in value.values()
    )
