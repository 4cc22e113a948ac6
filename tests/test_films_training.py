"""The script that trains on the how-to films: memory gives what the files give, and what it writes can be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
from tests.test_sandbox_training import _script
from zoo.data.narrated_loader import NarratedClips
from zoo.data.sandbox.film_datamodules import SandboxHowTo100MFilms
from zoo.data.sandbox.howto_films import describe, render_howto_films
from zoo.reproduce.tables import read_tables


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return render_howto_films(tmp_path_factory.mktemp("films") / "root", train=2, training=0, testing=0)


def test_films_from_memory_are_the_datamodules(root, tmp_path):
    memory, spec = _script("films_memory"), zoo.create("s3d_milnce_tiny").spec
    data = memory.RememberedFilms(root, spec, batch_size=2, num_workers=0, seed=5, memory=tmp_path)
    np.save(tmp_path / "films.npy", np.concatenate(films := [memory._decoded(r.path) for r in data.records("train")]))
    (tmp_path / "films.json").write_text(str([len(film) for film in films]))
    from_files, from_memory = NarratedClips(data.records("train"), spec, 5, 4), data._training_data()
    for key in ((0, 0), (0, 1), (1, 7)):
        expected, got = from_files[key], from_memory[key]
        assert torch.equal(got.pop("clips"), expected.pop("clips"))
        assert got == expected
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (2, 3, spec.frames, spec.crop, spec.crop)
    assert set(SandboxHowTo100MFilms(root, spec).vocabulary()) == set(data.vocabulary())


def test_chance_and_the_tables(tmp_path):
    script, tables = _script("milnce"), _script("films_tables")
    films = [describe(0, "testing", index) for index in range(20)]
    whole, trimmed = script.chance(films, 0.0), script.chance(films, 0.3)
    share = sum(end - start for film in films for _, start, end in film.steps) / sum(film.duration for film in films)
    assert whole["ap"] == pytest.approx(100 * share, abs=2)
    assert trimmed["ap"] > whole["ap"] + 5  # steps are in the middle of films
    found, scores = dict.fromkeys(script.RETRIEVAL, 10.0), dict.fromkeys(script.METRICS, 80.0)
    ours = [dict.fromkeys(script.METRICS, score) for score in (50.0, 51.0)]
    runs = [{"seed": seed, **found, "ours": ours[seed], "supervised": scores} for seed in (0, 1)]
    results = {"runs": runs, "films": [9, 3, 20], "chance": {"whole": whole, "trimmed": trimmed}}
    results["summary"] = script.summarize(runs)
    tables.rewrite_tables(tmp_path / "films.yaml", [tables.actionness_table(results), tables.milnce_table(results)])
    films, milnce = read_tables(tmp_path / "films.yaml")
    assert films.row("Order alone").values["ap"] == 50.5
    assert films.row("Chance, trimmed").values["ap"] == trimmed["ap"]
    assert milnce.row("Chance").values == {"recall_1": 5.0, "recall_10": 50.0, "median_rank": 10.5}
    assert milnce.row("MIL-NCE, tiny").checkpoints == ("s3d_milnce_tiny.sandbox",)
