"""Proposals in ActivityNet's JSON: written, read back, refused by name; and AR@AN from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests import goldens
from zoo.errors import DataError, ZooError
from zoo.proposal_files import read_proposals, recall_of, write_proposals

PROPOSALS = {"-b_1": np.array([[1.5, 2.0, 0.25], [0.0, 1 / 3, 7.5]]), "a": np.zeros((0, 3))}


def test_what_is_written_is_read_the_best_first(tmp_path):
    path = write_proposals(tmp_path / "new" / "p.json", PROPOSALS, "made of nothing")
    content = json.loads(path.read_text())
    assert content == {
        "version": "VERSION 1.3",
        "external_data": {"details": "made of nothing"},
        "results": {
            "-b_1": [{"segment": [0.0, 1 / 3], "score": 7.5}, {"segment": [1.5, 2.0], "score": 0.25}],
            "a": [],
        },
    }
    read = read_proposals(path)
    assert read["-b_1"].tolist() == [[0.0, 1 / 3, 7.5], [1.5, 2.0, 0.25]]
    assert read["a"].shape == (0, 3)


def test_what_cannot_be_written_says_so_and_leaves_nothing(tmp_path):
    for proposals, words in [
        ({}, "no proposals to write"),
        ({"v": [[0.0, 1.0]]}, r"proposals of v must be \[n, 3\]"),
        ({"v": [[0, 1, 2], [3, 2, 1]]}, "proposal 1 of v is"),
        ({"v": [[0, 1, np.nan]]}, "proposal 0 of v is"),
    ]:
        with pytest.raises(ZooError, match=words):
            write_proposals(tmp_path / "p.json", proposals)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "cannot be read as JSON"),
        ([], "holds no JSON object"),
        ({"version": "VERSION 1.3"}, 'has no object "results"'),
        ({"results": {"v": {}}}, "the proposals of v are no list"),
        ({"results": {"v": [{"segment": [0, 1], "score": 1}, {"segment": [0, 1]}]}}, "proposal 1 of v is no"),
        ({"results": {"v": [{"segment": [0, 1, 2], "score": 1}]}}, "proposal 0 of v is no"),
        ({"results": {"v": [{"segment": ["0", 1], "score": 1}]}}, "proposal 0 of v is no"),
        ({"results": {"v": [{"segment": [1, 0], "score": 1}]}}, "proposal 0 of v: .* is no interval"),
        ({"results": {"v": [{"segment": [0, 1], "score": float("nan")}]}}, "proposal 0 of v: .* finite score"),
        ({"results": {"v": [{"segment": [0, 10**400], "score": 1}]}}, "proposal 0 of v: .* finite score"),
    ],
)
def test_a_file_that_is_something_else_is_refused(content, words, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=words):
        read_proposals(path)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(DataError, match="there is no file of proposals"):
        read_proposals(tmp_path / "p.json")


@pytest.mark.parametrize(("budget", "name"), [(100, "max_100"), (5, "max_5"), (None, "max_none")])
def test_recall_from_a_file_is_the_reference_s(budget, name, tmp_path):
    case = goldens.load("actionness_ar_an")
    truth, found = (case.stored[key].numpy() for key in ("ground_truth", "proposals"))
    videos = np.unique(found[:, 0])
    write_proposals(tmp_path / "p.json", {f"v{n:.0f}": found[found[:, 0] == n, 1:] for n in videos})
    proposals = read_proposals(tmp_path / "p.json")
    proposals["of another split"] = np.array([[0.0, 1.0, 9.0]] * 50)
    recall = recall_of(proposals, [(f"v{n:.0f}", truth[truth[:, 0] == n, 1:]) for n in videos], budget)
    case.check(f"average_recall.{name}", torch.from_numpy(recall.curve.average))
    case.check(f"avg_nr_proposals.{name}", torch.from_numpy(recall.curve.numbers))
    assert recall.videos == len(np.unique(truth[:, 0])) == len(videos) - 1
    assert (recall.missing, recall.unknown) == ((), ("of another split",))


def test_videos_without_proposals_are_told_and_those_of_two_tasks_count_twice():
    proposals = {"a": [[0.0, 10.0, 1.0]], "c": []}
    truth = [("a", [[0.0, 10.0]]), ("b", [[0.0, 5.0]]), ("a", [[0.0, 10.0]]), ("c", [])]
    recall = recall_of(proposals, truth, None)
    assert recall.curve.average[-1] == pytest.approx(2 / 3)
    assert (recall.videos, recall.missing) == (3, ("b",))


def test_what_has_no_recall_says_so():
    with pytest.raises(ZooError, match="no video has an annotated interval"):
        recall_of({"a": [[0, 1, 1]]}, [("a", [])])
    with pytest.raises(ZooError, match=r"none of the 1 annotated videos has a proposal \(the first is a.* are of b\)"):
        recall_of({"b": [[0, 1, 1]]}, [("a", [[0, 1]])])
