"""What scores rows by how much is done: in which precision, on which data, and the network of the features."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import zoo
from tests.data.render import render
from zoo.errors import DataError


def test_a_model_in_half_precision_scores_rows():
    torch.manual_seed(0)
    model, rows = zoo.create("actionness_tiny").eval(), np.random.default_rng(0).random((30, 64), np.float32)
    expected = model.predict(rows).scores
    found = model.to(torch.bfloat16).predict(rows).scores
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_network_of_the_features_is_loaded_once(tmp_path):
    film, loaded = render(tmp_path / "film.mp4"), []

    def load(name):
        loaded.append(name)
        return zoo.create(name)

    model = zoo.create("actionness_films").eval()
    model.loader = load
    first = model.predict(film)
    assert np.array_equal(model.predict(film).scores, first.scores)
    assert loaded == ["s3d_milnce_tiny"]
    assert not any(key.startswith("_loaded") or "video" in key for key in model.state_dict())


def test_what_is_scored_by_annotations_refuses_data_without_any(tmp_path):
    (tmp_path / "features").mkdir()
    for n in range(20):
        np.save(tmp_path / "features" / f"v{n}.npy", np.ones((40, 1), np.float32))
    model = zoo.create("actionness_flow")
    data = zoo.datamodule("howto100m_features", root=tmp_path, spec=model.spec, batch_size=4, num_workers=0)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(DataError, match="actionness_flow is scored by what is annotated"):
        trainer.test(model, data, verbose=False)


def test_features_that_no_network_makes_are_not_looked_for_in_a_film(tmp_path):
    model = zoo.create("actionness_tiny").eval()
    model.loader = zoo.create
    with pytest.raises(zoo.ZooError, match="actionness_tiny scores features that no network makes of a video"):
        model.predict(render(tmp_path / "film.mp4"))
