"""Run the rows of a table and say of each what was measured, or what it lacks.

A cell counts as reproduced only if it was measured here, with named weights on the videos that the data set's official
list names, all of them or nearly so (`ENOUGH`; the status then says how many). Parameters and multiply-adds are counted
in the network. Nothing is ever filled in by hand.
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.data.catalog import DATA_SETS, datamodule_class
from zoo.errors import FetchError, MissingDataError, ZooError, unknown_name
from zoo.files import NoPlaceError, require_writable
from zoo.loading import on_paper
from zoo.networks.cost import cost
from zoo.reproduce import report as forms
from zoo.reproduce import tables
from zoo.reproduce.evaluate import Settings, evaluate
from zoo.reproduce.provenance import about
from zoo.reproduce.results import (
    ABSENT,
    FAILED,
    MEASURED,
    NEEDS_DATA,
    NEEDS_WEIGHTS,
    PARTIAL,
    REPORTED_ONLY,
    REPRODUCED,
    UNREACHABLE,
    Measurement,
    Report,
    RowResult,
)
from zoo.reproduce.tables import COSTS, Metric, Row, Table

RESULTS = Path("benchmarks/results")

#: The part of the listed videos that must have been scored. Nobody's Kinetics is whole, for its videos vanish from
#: where they were published: 18,434 of 19,761 (93%) is a usual copy. A smaller part is another, perhaps easier, test.
ENOUGH = 0.9

_log = logging.getLogger(__name__)


def reproduce(
    table: str,
    data: dict[str, str | Path] | None = None,
    rows: Sequence[str] | None = None,
    *,
    out: str | Path | None = RESULTS,
    limit: int | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str = "auto",
    devices: int = 1,
) -> Report:
    """A table with what was measured here beside what was reported. A row's failure is its status, not an exception.

    Args:
        table: ``"nonlocal/5.2f"``, or a whole group such as ``"nonlocal"`` or ``"sandbox"``.
        data: data set name to the folder of its official release. The sandbox needs none: it is rendered.
        rows: names of the rows to run; all by default.
        out: folder for the results, ``out/TABLE/TIME.json`` with ``.md`` and ``.html`` beside it, written for each
            table of which something was measured. None writes nothing. If the results cannot be saved in the end, a
            warning says so and the report is returned all the same.
        limit: test on so many videos only, spread over the list, for a trial: nothing then counts as reproduced.
        batch_size: clips at a time; by default as many as a few gigabytes hold.
        num_workers: processes that decode; by default one a core, at most eight.
        accelerator: Lightning's: ``"auto"``, ``"cpu"``, ``"gpu"``.
        devices: how many of them; each is a process, and every video is scored once.

    Raises:
        UnknownNameError: no such table, row or data set.
        NoPlaceError: something will be measured and ``out`` cannot be written to.
    """
    for name in data or {}:
        if name not in DATA_SETS:
            raise unknown_name("data set", name, DATA_SETS)
    chosen = _choose(table, rows)
    roots = {name: Path(root) for name, root in (data or {}).items()}
    bench = _Bench(roots, Settings(limit, batch_size, num_workers, accelerator, devices))
    if out is not None and any(bench.can_measure(one, row) for one, row in chosen):
        require_writable(Path(out))  # before the work of a day, not after it
    signature, results = about(), []
    for one, row in chosen:
        results.append(bench.run(one, row))
        if out is not None and results[-1].reproduced:  # at once, for the next row may take a day
            _save(one, results, signature, Path(out))
    if out is not None:
        for one in {result.table.name: result.table for result in results if result.reproduced}.values():
            _save(one, results, signature, Path(out))
    return Report(table, tuple(results), signature)


def _choose(table: str, rows: Sequence[str] | None) -> list[tuple[Table, Row]]:
    """The rows to run with their tables."""
    found = [(one, row) for one in tables.get(table) for row in one.rows]
    names = {row.name for _, row in found}
    for name in rows or ():
        if name not in names:
            raise unknown_name(f"row of {table}", name, names)
    return [(one, row) for one, row in found if rows is None or row.name in rows]


def _save(table: Table, results: list[RowResult], signature: dict[str, Any], out: Path) -> None:
    report = Report(table.name, tuple(r for r in results if r.table.name == table.name), signature)
    stem = out / table.name / signature["date"].replace(":", "")
    try:
        for suffix, form in ((".json", forms.to_json), (".md", forms.markdown), (".html", forms.html)):
            forms.write(f"{stem}{suffix}", form(report))
    except NoPlaceError as error:
        warnings.warn(f"{table.name}: the results were measured but not saved: {error}", stacklevel=3)


@dataclass
class _Bench:
    """The settings of one call, and what it has measured so far: rows with the same weights share one test."""

    roots: dict[str, Path]
    settings: Settings
    _tests: dict[str, Measurement | str] = field(default_factory=dict)
    _costs: dict[str, dict[str, float]] = field(default_factory=dict)

    def run(self, table: Table, row: Row) -> RowResult:
        """Measure what can be measured of a row."""
        if refusal := self._refusal(table, row):
            return RowResult(table, row, refusal)
        counted, scored = self._wanted(table, row)
        try:
            cells = {n: self._cost(table, row, m) for n, m in counted.items()}
        except Exception as error:
            return RowResult(table, row, _status(error, table, row))
        if not scored:
            return RowResult(table, row, REPRODUCED, cells)
        found = self._lacking(table, row) or self._test(table, row)
        if isinstance(found, str):
            return RowResult(table, row, found, cells)
        if lacking := sorted({m.measure for m in scored.values()} - set(found.metrics)):
            return RowResult(table, row, f"{FAILED}the model did not log {', '.join(lacking)}", cells, found)
        cells |= {n: found.metrics[m.measure] for n, m in scored.items()}
        return RowResult(table, row, _verdict(found, table, row), cells, found)

    def can_measure(self, table: Table, row: Row) -> bool:
        """Whether `run` will have something to measure."""
        if self._refusal(table, row):
            return False
        return bool(self._wanted(table, row)[0]) or self._lacking(table, row) is None

    def _refusal(self, table: Table, row: Row) -> str | None:
        """The status of a row that nobody can measure here, whatever the user gives."""
        if table.needs and row.own:
            return f"{ABSENT}needs {table.needs}"
        return None if row.own and row.model and any(self._wanted(table, row)) else REPORTED_ONLY

    def _wanted(self, table: Table, row: Row) -> tuple[dict[str, Metric], dict[str, Metric]]:
        """The metrics that the row reports and the runner knows: those counted in a network, those scored on data."""
        of_row = {n: replace(m, measure=row.measure.get(n, m.measure)) for n, m in table.metrics.items()}
        told = row.values if row.unreported else [n for n, value in row.values.items() if value is not None]
        wanted = {n: m for n, m in of_row.items() if m.measure and n in told}
        counted = {n: m for n, m in wanted.items() if m.measure in COSTS}
        return counted, {n: m for n, m in wanted.items() if n not in counted}

    def _lacking(self, table: Table, row: Row) -> str | None:
        """What neither the user has given nor the zoo has, if anything."""
        if not row.weights:
            return NEEDS_WEIGHTS
        if table.data in self.roots or (table.data in DATA_SETS and _needs_no_root(table.data)):
            return None
        return f"{NEEDS_DATA}{table.data}"

    def _test(self, table: Table, row: Row) -> Measurement | str:
        """The test run of a row's weights on its table's data, new or as another row has had it; or what went wrong."""
        options = {**table.data_options, **row.data_options}
        key = _key(row.model, row.weights, row.override, table.data, options)
        if key not in self._tests:
            try:
                root = self.roots.get(table.data)
                self._tests[key] = evaluate(row, table.data, options, root, self.settings)
            except Exception as error:
                self._tests[key] = _status(error, table, row)
        return self._tests[key]

    def _cost(self, table: Table, row: Row, metric: Metric) -> float:
        """Parameters or multiply-adds of a row's network on one training clip, or their ratio to another row's."""
        value = self._count(row)[metric.measure]
        return value / self._count(table.row(metric.relative_to))[metric.measure] if metric.relative_to else value

    def _count(self, row: Row) -> dict[str, float]:
        key = _key(row.model, row.override)
        if key not in self._costs:
            model = on_paper(row.model, **row.override)
            counted = cost(model, (1, *model.input_shape()))
            self._costs[key] = dict(zip(COSTS, map(float, counted), strict=True))
        return self._costs[key]


def _verdict(found: Measurement, table: Table, row: Row) -> str:
    """Whether a test was on enough of the videos that the official list names; how many, unless it was on all."""
    scored, expected = found.data["scored"], max(found.data["expected"], table.videos or 0)
    count = f"{scored} of {expected} videos"
    if found.data["limit"] or scored < ENOUGH * expected:
        return f"{PARTIAL}{count}"
    done = MEASURED if row.unreported or not table.comparable else REPRODUCED
    return done if scored == expected else f"{done}: {count}"


def _status(error: Exception, table: Table, row: Row) -> str:
    """A row's status after an error: one line; of an error that nobody foresaw, the log has the rest."""
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, FetchError):
        return f"{UNREACHABLE}{first}"
    if isinstance(error, MissingDataError):  # annotations alone are a root too: a guess is measured on them
        return f"{NEEDS_DATA}{table.data}: {first}"
    if isinstance(error, ZooError):
        return f"{FAILED}{first}"
    _log.error("%s, row %r", table.name, row.name, exc_info=error)
    return f"{FAILED}{type(error).__name__}: {first}"


def _needs_no_root(name: str) -> bool:
    return inspect.signature(datamodule_class(name)).parameters["root"].default is not inspect.Parameter.empty


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)
