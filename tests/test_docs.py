"""The page that tells how to add a method is followed to the letter."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl

import zoo
from tests.methods import test_every_name
from zoo import registry
from zoo.reproduce.tables import read_tables

DOCS = Path(__file__).resolve().parents[1] / "docs"


def block(language: str) -> str:
    """The first fenced block of a language on the page."""
    return re.search(rf"```{language}\n(.*?)```", (DOCS / "add-a-method.md").read_text(), re.DOTALL)[1]


@pytest.fixture
def frame_average(tmp_path):
    path = tmp_path / "frame_average.py"
    path.write_text(block("python"))
    spec = importlib.util.spec_from_file_location("frame_average", path)
    module = sys.modules["frame_average"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield "frame_average"
    for record in (registry._RUNTIME, registry._BUILDERS, sys.modules):
        record.pop("frame_average", None)


def test_the_method_trains_and_predicts(frame_average, kinetics_root):
    assert frame_average in zoo.list_models("frame*")
    model = zoo.create(frame_average, num_classes=8)
    data = zoo.datamodule("sandbox_kinetics", root=kinetics_root, spec=model.spec, batch_size=4, num_workers=0)
    trainer = pl.Trainer(
        max_steps=2,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    video = next((kinetics_root / "val").glob("*/*.mp4"))
    predictions = model.predict(video, top=8)
    assert sum(p.score for p in predictions) == pytest.approx(1, abs=1e-4)
    assert {p.label for p in predictions} == set(data.classes)


def test_it_passes_the_test_of_every_name(frame_average, tmp_path):
    test_every_name.test_lives(frame_average, tmp_path)
    test_every_name.test_says_what_it_is(frame_average)


def test_the_table_is_a_table(tmp_path):
    path = tmp_path / "frame_average.yaml"
    path.write_text(block("yaml"))
    (table,) = read_tables(path)
    assert table.name == "frame_average/baseline"
    assert table.rows[0].model == "frame_average"


def test_links_and_navigation_lead_somewhere():
    pages = {p.name for p in DOCS.glob("*.md")}
    linked = set(re.findall(r"\]\((?:docs/)?([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    linked |= set(re.findall(r"\]\(docs/([\w-]+\.md)\)", (DOCS.parent / "README.md").read_text()))
    linked |= set(re.findall(r"([\w-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE))
    assert linked <= pages, linked - pages
    assert pages <= linked, pages - linked
