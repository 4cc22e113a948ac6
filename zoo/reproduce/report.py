"""Reported | reproduced | difference: a `Report` as a terminal table, Markdown, JSON and one self-contained HTML page.

Every form shows the same: a cell's reproduced number only where the runner measured it, a row's status, and under each
table how both numbers were come by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.files import write_whole
from zoo.reproduce.results import FAILED, MEASURED, REPRODUCED, UNREACHABLE, Report, RowResult
from zoo.reproduce.tables import Row

if TYPE_CHECKING:
    from rich.console import Console


def show(report: Report, console: Console | None = None) -> None:
    """Print the report to the terminal, or to a `rich.console.Console` of yours."""
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = console or Console()
    for name, rows in report.tables.items():
        grid = _grid(rows)
        title = f"{name}  {rows[0].table.title}"
        if sum(max(map(len, (*column, *cells))) + 2 for column, cells in grid.by_column()) > console.width:
            shown = _parts(rows)
            grid, title = _grid(rows, narrow=True), f"{title}\n{' | '.join(shown)}"
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, (column, numeric) in enumerate(zip(grid.columns, grid.numeric, strict=True)):
            header = Text("\n".join(filter(None, column)))
            widest = max(len(cells[number]) for cells in grid.rows) if numeric else 0
            justify = "right" if numeric else "left"
            table.add_column(header, justify=justify, no_wrap=numeric, overflow="fold", min_width=widest)
        table.columns[0].min_width = min(20, max(len(cells[0]) for cells in grid.rows))
        table.columns[-1].min_width = min(24, max(len(cells[-1]) for cells in grid.rows))
        for row, cells in zip(rows, grid.rows, strict=True):
            table.add_row(*(Text(cell) for cell in cells), style=_TERMINAL_STYLE[_tone(row)])
        remarks = RichTable.grid(padding=(0, 2))
        for what, text in _remarks(rows):
            remarks.add_row(Text(what, style="bold"), Text(text))
        # A number that is cut short reads as another number: rather than that, the lines are longer than the terminal.
        least = sum(column.min_width + 2 for column in table.columns)
        console.print(Text(title, style="bold"))
        width, console.width = console.width, max(console.width, least)
        console.print(table)
        console.width = width
        console.print(Padding(remarks, (0, 2, 1, 2), style="dim"))
    console.print(Text(report.summary()))


def markdown(report: Report) -> str:
    """The report as GitHub's Markdown."""
    parts = [f"# {_md(report.name)}", _md(report.summary()) + "."]
    for name, rows in report.tables.items():
        grid = _grid(rows)
        parts.append(f"## {_md(name)}: {_md(rows[0].table.title)}")
        lines = [
            [" ".join(filter(None, column)) for column in grid.columns],
            ["---:" if numeric else "---" for numeric in grid.numeric],
            *grid.rows,
        ]
        parts.append("\n".join(f"| {' | '.join(_md(cell) for cell in line)} |" for line in lines))
        parts.append("\n".join(f"- **{_md(what)}**: {_md(text)}" for what, text in _remarks(rows)))
    return "\n\n".join([*filter(None, parts), _md(_about(report))]) + "\n"


def html(report: Report) -> str:
    """The report as one page that needs nothing else: on a phone, by day and by night, without a network."""
    body = "\n".join(_section(name, rows) for name, rows in report.tables.items())
    return _PAGE.format(
        style=_STYLE,
        title=escape(report.name),
        summary=escape(report.summary()),
        body=body,
        about=escape(_about(report)),
    )


def to_json(report: Report) -> str:
    """Everything in the report as the text of a results file (`Report.to_json` is the short form, the rows alone)."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"


def write(path: Path | str, text: str) -> None:
    """Write a report's text, whole or not at all, making its folder where it is missing."""
    write_whole(Path(path), text.encode())


# What all forms share: a table's columns, the texts of its cells, the remarks under it.


@dataclass(frozen=True)
class _Grid:
    """A table of texts: per column (metric, what of it) and whether it holds numbers, and the rows' cells."""

    columns: list[tuple[str, str]]
    numeric: list[bool]
    rows: list[list[str]]

    def by_column(self) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
        """Each column's header and cells."""
        return zip(self.columns, zip(*self.rows, strict=True), strict=True)


_SHORT = 32  # characters of a status that a cell still holds


def _parts(rows: list[RowResult]) -> tuple[str, ...]:
    """What is shown of each metric."""
    if not any(row.reproduced for row in rows):
        return ("reported",)
    return ("reported", "reproduced", "difference") if rows[0].table.comparable else ("reported", "measured")


def _grid(rows: list[RowResult], narrow: bool = False) -> _Grid:
    """The row's name; per metric the reported and, where one was measured, reproduced and difference; the status.

    Of other data than the paper's there is no difference.

    A ``narrow`` grid has these three in one column, without saying so in its header.
    """
    columns, cells = [("", "row")], [[row.row.name for row in rows]]
    for name, metric in rows[0].table.metrics.items():
        head = f"{name} %" if metric.unit == "percent" else name
        parts = [[_reported(row.row, name) for row in rows]]
        if any(name in row.reproduced for row in rows):
            parts.append([_number(row.reproduced.get(name), 2) for row in rows])
            if rows[0].table.comparable:
                parts.append([_number(row.difference(name), 2, sign=True) for row in rows])
        if narrow:
            widths = [max(map(len, part)) for part in parts]
            parts = [[" | ".join(map(str.rjust, cell, widths)) for cell in zip(*parts, strict=True)]]
            columns.append((head.replace("_", "\n"), ""))
        else:
            columns += [(head, part) for part in _parts(rows)[: len(parts)]]
        cells += parts
    columns.append(("", "status"))
    cells.append([row.status if len(row.status) <= _SHORT else row.kind for row in rows])
    return _Grid(columns, [bool(metric) for metric, _ in columns], [list(row) for row in zip(*cells, strict=True)])


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:{'+' if sign else ''},.{digits if abs(value) < 1000 else 0}f}"  # a count has no decimals


def _reported(row: Row, metric: str) -> str:
    """With as many decimals as were printed, one at least, and the spread over seeds where there is one."""
    value, spread = row.values.get(metric), row.spread.get(metric)
    if value is None:
        return ""
    digits = max(1, len(str(float(value)).partition(".")[2]))
    return _number(value, digits) + (f" ± {_number(spread, digits)}" if spread is not None else "")


def _remarks(rows: list[RowResult]) -> Iterator[tuple[str, str]]:
    """(what, text) of all that is to be said under a table."""
    table = rows[0].table
    for name, metric in table.metrics.items():
        if metric.unit != "percent" or not metric.higher_is_better:
            yield name, f"{metric.unit}, {'higher' if metric.higher_is_better else 'lower'} is better"
    yield from (
        (what, text)
        for what, text in (
            ("data", table.description or f"{table.dataset}, {table.split}"),
            ("source", "; ".join(filter(None, (table.paper, table.source)))),
            ("reported with", table.protocol),
            ("note", table.note),
            *((row.row.name, row.row.note) for row in rows),
            *((row.row.name, row.status) for row in rows if len(row.status) > _SHORT and row.kind != "not in the zoo"),
            ("status", next((row.status for row in rows if row.kind == "not in the zoo"), "")),
        )
        if text
    )
    if unreachable := next((row.row for row in rows if row.status.startswith(UNREACHABLE)), None):
        names = unreachable.checkpoints
        call = repr(names[0]) if len(names) == 1 else f"{unreachable.model!r}, {list(names)}"
        yield "weights", f"zoo.load({call}) says what was tried, and what helps"
    for measurement in {id(row.measurement): row.measurement for row in rows if row.measurement}.values():
        yield "reproduced with", measurement.summary()
        for video in measurement.unreadable[:_UNREADABLE_SHOWN]:
            yield f"unreadable: {video['name']}", video["message"]
        if (more := len(measurement.unreadable) - _UNREADABLE_SHOWN) > 0:
            yield "unreadable", f"and {more} more, all in the results file"


_UNREADABLE_SHOWN = 5


def _about(report: Report) -> str:
    about = report.about
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    return "; ".join(filter(None, (about.get("date"), versions, about.get("hardware"), about.get("commit"))))


def _tone(row: RowResult) -> str:
    """How a row is to look: measured, gone wrong, or waiting."""
    return "good" if row.kind in (REPRODUCED, MEASURED) else "bad" if row.status.startswith(FAILED) else "idle"


_TERMINAL_STYLE = {"good": "bold", "bad": "red", "idle": ""}


def _md(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell as elsewhere."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


# The page.


def _section(name: str, rows: list[RowResult]) -> str:
    grid, table = _grid(rows), rows[0].table
    head = "".join(
        f'<th scope="col"{_NUMERIC if numeric else ""}>{escape(metric)}{"<br>" if metric else ""}{escape(what)}</th>'
        for (metric, what), numeric in zip(grid.columns, grid.numeric, strict=True)
    )
    body = "\n".join(
        f'<tr class="{_tone(row)}"><th scope="row">{escape(cells[0])}</th>'
        + "".join(f"<td{_NUMERIC}>{escape(cell)}</td>" for cell in cells[1:-1])
        + f"<td>{escape(cells[-1])}</td></tr>"
        for row, cells in zip(rows, grid.rows, strict=True)
    )
    remarks = "".join(f"<dt>{escape(what)}</dt><dd>{escape(text)}</dd>" for what, text in _remarks(rows))
    return (
        f"<section>\n<h2><span>{escape(name)}</span> {escape(table.title)}</h2>\n"
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n<dl>{remarks}</dl>\n</section>"
    )


_NUMERIC = ' class="n"'

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: reported and reproduced</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{summary}</p></header>
<main>
{body}
</main>
<footer>{about}</footer>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1c1e21; --soft: #5f6670; --line: #dcdfe3; --paper: #fff; --good: #0b6b3a; --tint: #eef7f1;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9aa2ac; --line: #343a41; --paper: #14171a; --good: #7dd3a3; --tint: #17261d;
    --bad: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; }
header p, footer, dl { color: var(--soft); }
section { margin-top: 2.5rem; }
h2 { margin: 0 0 .5rem; font-size: 1.1rem; font-weight: 600; }
h2 span { color: var(--soft); font-weight: 400; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; font-size: .8rem; font-weight: 600; color: var(--soft); white-space: nowrap; }
tbody th { font-weight: 500; }
.n { text-align: right; white-space: nowrap; }
td:last-child { min-width: 10rem; color: var(--soft); overflow-wrap: anywhere; }
.good, .good th { background: var(--tint); }
.good td:last-child { color: var(--good); }
.bad td:last-child { color: var(--bad); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .15rem 1rem; margin: .8rem 0 0;
  font-size: .85rem; }
dt { font-weight: 600; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; font-size: .85rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  tbody th { position: sticky; left: 0; background: var(--paper); max-width: 9rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
}
"""
