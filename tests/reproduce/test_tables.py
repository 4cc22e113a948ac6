"""The reported tables: whole, typed, tied to registered models and published weights, and strict about mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zoo
from zoo import registry
from zoo.data.catalog import DATA_SETS
from zoo.errors import UnknownNameError, ZooError
from zoo.hub.manifest import manifest
from zoo.loading import on_paper
from zoo.reproduce import tables
from zoo.resources import resource

PAPER = ["5.2a", "5.2b", "5.2c", "5.2d", "5.2e", "5.2f", "5.2g", "5.3", "5.4", "5.5", "5.6"]
# Rows that a paper measured itself, of methods which the zoo has not.
NOT_OURS = {
    *("Optical Flow (FlowNet2)", "SIFT Flow", "Transitive Inv.", "DeepCluster"),
    *("Two-Stream+LSTM", "lstm_rgb.t7", "lstm_flow.t7", "lstm, combine_rgb_flow.py", "async__par1.pth.tar"),
}
ROWS = [pytest.param(t, r, id=f"{t.name}: {r.name}") for t in tables.load_tables().values() for r in t.rows if r.model]


def test_every_table_of_the_paper_is_there():
    names = [t.name for t in tables.get("nonlocal")]
    assert names[: len(PAPER)] == [f"nonlocal/{p}" for p in PAPER]
    assert tables.get("nonlocal/5.2f")[0].row("R50 NL I3D").values == {"top1": 74.9, "top5": 91.6}


def test_every_own_row_names_its_model_unless_the_table_says_why_not():
    for table in tables.load_tables().values():
        for row in table.rows:
            if row.name not in NOT_OURS:
                assert bool(row.model) == (row.own and not table.needs), (table.name, row.name)
    assert {t.name for t in tables.load_tables().values() if t.needs} == {"nonlocal/5.5", "nonlocal/5.6"}


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_a_rows_model_and_override_are_what_the_paper_says_of_it(table, row):
    parameters = registry.builder(row.model).__signature__.parameters
    assert set(row.override) <= set(parameters)
    built = {name: row.override.get(name, parameter.default) for name, parameter in parameters.items()}
    said = dict(row.config)
    if "size" in row.override or "references" in row.override:
        assert row.override.get("size", 320) == said.get("image_size", said.get("size", 320))
    if "family" in said:
        assert built["depth"] == int(said["backbone"].removeprefix("r"))
        assert built["inflate"] == {"c2d": None, "i3d_3x1x1": "3x1x1", "i3d_3x3x3": "3x3x3"}[said["family"]]
        assert built["clip"] == f"{said['frames']}x{said['frame_stride']}"
    for name in ("nonlocal_blocks", "stages", "instantiation", "attention", "num_classes"):
        assert said.get(name, built.get(name)) == built.get(name)
    if isinstance(row.weights, tuple):
        streams = on_paper(row.model, **row.override).streams
        assert [stream.name for stream in streams.values()] == [manifest().get(one).model for one in row.weights]
    else:
        assert row.weights in (None, *tables.WORDS) or manifest().get(row.weights).model == row.model
    assert table.data in {*DATA_SETS, "charades"}


def test_tables_and_manifest_tell_the_same_scores():
    """What a checkpoint says it scored is the row it points to, and that row is measured with this checkpoint."""
    pointing = [c for c in manifest().values() if c.reported and c.reported.table]
    assert pointing
    for checkpoint in pointing:
        row = tables.get(checkpoint.reported.table)[0].row(checkpoint.reported.row)
        assert row.weights == checkpoint.name
        assert {k: row.values[k] for k in checkpoint.reported.scores} == checkpoint.reported.scores


def test_the_same_model_is_reported_alike_in_every_table_of_the_paper():
    """The paper repeats rows from table to table; a slip of the copy would show here."""
    seen: dict[tuple, dict] = {}
    for table in tables.get("nonlocal"):
        if table.name.removeprefix("nonlocal/") in PAPER:
            for row in (r for r in table.rows if r.model and "top1" in r.values):
                key = (row.model, yaml.safe_dump(row.override))
                values = {k: row.values[k] for k in ("top1", "top5")}
                assert seen.setdefault(key, values) == values, (table.name, row.name)
    assert len(seen) > 20


def test_reading_tables_needs_no_torch():
    code = "import sys, zoo.reproduce.tables as t; t.load_tables(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"nonlocal/5\.2f"):
        tables.get("nonlocl/5.2f")
    with pytest.raises(zoo.ZooError, match="R50 I3D"):
        tables.get("nonlocal/5.2f")[0].row("R50 I3E")


GOOD = """
tables:
- id: "1"
  title: t
  task: video classification
  dataset: d
  split: val
  metrics: {top1: {unit: percent, higher_is_better: true}}
  rows:
  - {name: a, own: true, model: m, weights: m.w, values: {top1: 1.5}, spread: {top1: 0.1}}
  - {name: b, own: false, values: {top1: null}}
"""


@pytest.mark.parametrize(
    ("mistake", "correction", "message"),
    [
        ('id: "1"', "id: 1.0", r"'id' must be a non-empty text \(in quotes"),
        ("  split: val\n", "", "table '1': field 'split' is missing"),
        ("unit: percent", "units: percent", "metric 'top1': unknown field units"),
        ("own: false", "own: perhaps", "row 'b': field 'own' must be true or false"),
        ("top1: 1.5", "top1: high", "row 'a': field 'values' must be a mapping of metrics to numbers"),
        ("top1: 1.5", "top2: 1.5", "row 'a': top2 is not among the table's metrics"),
        ("model: m, ", "", "row 'a': weights and override need a model"),
        ("weights: m.w", "weights: n.w", "row 'a': weights 'n.w' are not of model 'm'"),
        ("weights: m.w", "weights: [m]", "'weights' must be a checkpoint's name or a word for weights, or a list"),
        ("weights: m.w", "weights: [m.w, none]", "'weights' must be a checkpoint's name"),
        ("spread: {top1: 0.1}", "measure: {top5: map}", "row 'a': top5 is not among the table's metrics"),
        ("spread: {top1: 0.1}", "measure: {top1: 1}", "'measure' must be a mapping of names to texts"),
        ("name: b", "name: a", "row a stands twice"),
        ("true}}", "true, relative_to: a}}", "relative_to goes with"),
        ("true}}", "true, measure: params, relative_to: c}}", "'c' is none of its rows"),
        ("tables:", "tables", "file.yaml"),
        ("values: {top1: null}", "values: [1]", "row 'b'"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, mistake, correction, message):
    file = tmp_path / "file.yaml"
    file.write_text(GOOD)
    (table,) = tables.read_tables(file)
    assert (table.name, table.row("a").spread, table.row("b").values) == ("file/1", {"top1": 0.1}, {"top1": None})
    assert mistake in GOOD
    file.write_text(GOOD.replace(mistake, correction, 1))
    with pytest.raises(ZooError, match=message):
        tables.read_tables(file)


def test_every_file_of_tables_is_read():
    files = {path.stem for path in resource("benchmarks/tables").glob("*.yaml")}
    assert files == {name.partition("/")[0] for name in tables.load_tables()}
