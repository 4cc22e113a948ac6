"""The pages with programs on them are followed to the letter."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.goldens import load, recipe
from tests.hub.caffe2_file import write_caffe2
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


def test_single_parts_work_as_their_page_says(kinetics_root, tmp_path, monkeypatch):
    """Every block of Python, one after the other, beside a video and a file with a published block's names."""
    shutil.copy(next((kinetics_root / "val").glob("*/*.mp4")), tmp_path / "clip.mp4")
    shapes = load("nonlocal_i3d_r50_nl5_32f_small").manifest["shapes"]
    wanted = {
        name: shape for name, shape in shapes.items() if name == "conv1_w" or name.startswith("nonlocal_conv3_1_")
    }
    write_caffe2(tmp_path / "i3d_nonlocal_32x2_IN_pretrain_400k.pkl", recipe.state_dict(wanted))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "parts.md").read_text(), re.DOTALL):
        exec(compile(code, "parts.md", "exec"), names)
    assert torch.equal(names["block"].theta.bias, names["state"]["trunk.res3.nonlocal_blocks.1.theta.bias"])
    assert names["views"].shape == (30, 3, 8, 64, 64)


def test_the_table_is_a_table(tmp_path):
    path = tmp_path / "frame_average.yaml"
    path.write_text(block("yaml"))
    (table,) = read_tables(path)
    assert table.name == "frame_average/baseline"
    assert table.rows[0].model == "frame_average"


@pytest.mark.parametrize("page", ["goals.md", "activities.md"])
def test_the_models_of_a_page_have_these_names(page):
    """Its first table lists them."""
    table = re.search(r"(?:^\|.*\n)+", (DOCS / page).read_text(), re.MULTILINE)[0]
    names = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert len(names) > 5
    assert set(names) <= set(zoo.list_models())


def test_links_and_navigation_lead_somewhere():
    pages = {p.name for p in DOCS.glob("*.md")}
    linked = set(re.findall(r"\]\((?:docs/)?([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    linked |= set(re.findall(r"\]\(docs/([\w-]+\.md)\)", (DOCS.parent / "README.md").read_text()))
    linked |= set(re.findall(r"([\w-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE))
    assert linked <= pages, linked - pages
    assert pages <= linked, pages - linked
