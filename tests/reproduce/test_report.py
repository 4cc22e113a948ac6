"""Every form of a report shows the same cells, shows hostile text as text, and asks for nothing from outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

from zoo.errors import ZooError
from zoo.reproduce import report as forms
from zoo.reproduce.results import FAILED, NEEDS_WEIGHTS, REPRODUCED, UNREACHABLE, Measurement, Report, RowResult
from zoo.reproduce.tables import Metric, Row, Table

EVIL = "<script>alert(\"1\")</script> & | `x` 'y' [red]z[/red]"
PERCENT = Metric("percent", higher_is_better=True, measure="top1")
RATIO = Metric(f"ratio {EVIL}", higher_is_better=False, measure="params")

ROWS = (
    Row("measured", True, {"top1": 71.8, "ratio": 1.0}, model="m", weights="m.w", spread={"top1": 1.25}),
    Row(EVIL, True, {"top1": 92.07, "ratio": None}, model="m", weights="m.v", note=EVIL),
    Row("far", True, {"top1": 70, "ratio": 1.5}, model="m", weights="m.u"),
    Row("waiting", True, {"top1": 60.0}, model="m"),
)
TABLE = Table(
    name="paper/1",
    title=EVIL,
    task="t",
    dataset="d",
    split="val",
    metrics={"top1": PERCENT, "ratio": RATIO},
    rows=ROWS,
    protocol="10 clips",
    description=EVIL,
    paper="A paper",
)
MEASUREMENT = Measurement(
    weights={"name": "m.w", "override": {}, "sha256": None, "source": "bundled:w", "license": "MIT"},
    data={"name": "d", "split": "val", "expected": 20, "found": 18, "scored": 17, "incomplete": 1, "limit": None},
    unreadable=tuple({"index": i, "name": f"video{i}", "message": EVIL} for i in range(7)),
    protocol={"clips": 10, "crops": 3, "crop": 256, "in_words": "10 clips x 3 crops of 256 at short side 256, sum"},
    labels_sha256=None,
    metrics={"top1": 72.456, "clip_top1": 61.5},
    device="CPU",
    seconds=12.0,
)
REPORT = Report(
    name=EVIL,
    rows=(
        RowResult(TABLE, ROWS[0], REPRODUCED, {"top1": 72.456, "ratio": 1.0}, MEASUREMENT),
        RowResult(TABLE, ROWS[1], f"{FAILED}{EVIL}"),
        RowResult(TABLE, ROWS[2], f"{UNREACHABLE}no connection to a server that is far away"),
        RowResult(TABLE, ROWS[3], NEEDS_WEIGHTS),
    ),
    about={"date": "2020-01-01T00:00:00Z", "versions": {"zoo": "0"}, "hardware": EVIL, "commit": None},
)
UNMEASURED = replace(REPORT, rows=REPORT.rows[1:])


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed in its order, and whatever could load something is kept."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data


def test_the_page_is_whole_and_asks_for_nothing_from_outside():
    text = forms.html(REPORT)
    page = Page(text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"})
    assert {name for name, _ in page.attributes}.isdisjoint({"src", "href", "srcset", "data", "action", "style"})
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not re.search(r"https?:|//|url\(|@import", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_hostile_text_as_text_and_every_cell():
    page = Page(forms.html(REPORT))
    # The page's title and heading, the table's title, data and unit, the hardware; a row's name, its note and status,
    # these two under its name; the videos.
    assert page.text.count(EVIL) == 6 + 1 + 2 * 2 + 5
    head, *rows = page.cells
    assert head[0] == "row"
    assert head[1:4] == ["top1 %reported", "top1 %reproduced", "top1 %difference"]
    assert rows[0] == ["measured", "71.8 ± 1.2", "72.46", "+0.66", "1.0", "1.00", "+0.00", "reproduced"]
    assert rows[1] == [EVIL, "92.07", "", "", "", "", "", "failed"]
    assert rows[2][-1] == "weights not reachable"
    assert rows[3] == ["waiting", "60.0", "", "", "", "", "", "needs weights"]
    assert "no connection to a server that is far away" in page.text


def test_of_other_data_there_is_no_difference():
    table = replace(TABLE, comparable=False)
    rows = tuple(replace(row, table=table) for row in REPORT.rows)
    head, first, *_ = Page(forms.html(replace(REPORT, rows=rows))).cells
    assert [cell.endswith("measured") for cell in head[1:-1]] == [False, True, False, True]
    assert first[:4] == ["measured", "71.8 ± 1.2", "72.46", "1.0"]
    assert rows[0].difference("top1") is None


def test_a_table_of_which_nothing_was_measured_has_no_empty_columns():
    head, *_ = Page(forms.html(UNMEASURED)).cells
    assert head == ["row", "top1 %reported", "ratioreported", "status"]


def test_what_a_number_rests_on_stands_under_the_table():
    text = Page(forms.html(REPORT)).text
    for fact in ("17 of 20 videos scored", "10 clips x 3 crops of 256", "single view 61.50", "7 videos unreadable",
                 "1 videos incomplete", "and 2 more", "lower is better", "A paper", "2020-01-01"):  # fmt: skip
        assert fact in text, fact


def test_markdown_keeps_its_columns_whatever_the_text():
    text = forms.markdown(REPORT)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {9}
    assert "<script>" not in text
    assert "| measured | 71.8 ± 1.2 | 72.46 | +0.66 |" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_terminal_shows_every_number_at_any_width(width):
    out = StringIO()
    forms.show(REPORT, Console(file=out, width=width))
    text = out.getvalue()
    for number in ("71.8 ± 1.2", "72.46", "+0.66", "92.07"):
        assert number in text
    assert "[red]z[/red]" in text  # rich's markup is text here too
    assert ("reported | reproduced | difference" in text) == (width < 200)
    assert "4 rows: 1 reproduced, 1 failed, 1 weights not reachable, 1 needs weights" in " ".join(text.split())


def test_json_is_a_list_of_rows_with_the_promised_keys():
    rows = json.loads(json.dumps(REPORT.to_json()))
    assert all(list(row) == ["table", "row", "model", "weights", "reported", "reproduced", "status"] for row in rows)
    assert rows[0]["reproduced"] == {"top1": 72.456, "ratio": 1.0}
    assert rows[3] == {
        "table": "paper/1",
        "row": "waiting",
        "model": "m",
        "weights": None,
        "reported": {"top1": 60.0},
        "reproduced": {},
        "status": "needs weights",
    }
    everything = json.loads(forms.to_json(REPORT))
    assert everything["measurements"][0]["unreadable"][6]["message"] == EVIL
    assert everything["measurements"][0]["rows"] == ["paper/1: measured"]


def test_writing_makes_the_folder_and_leaves_nothing_half_done(tmp_path):
    forms.write(tmp_path / "a" / "b.html", forms.html(REPORT))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="file"):
        forms.write(tmp_path / "file" / "b.html", "text")
