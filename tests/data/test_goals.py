"""What people said of the failures: names, triples, word numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.data.failures import goals, mojibake, said
from zoo.data.goals import (
    Annotator,
    Vocabulary,
    all_triples,
    draw_triples,
    has_triples,
    read_goals,
    read_vocabulary,
    repaired,
    unknown_words,
)
from zoo.errors import DataError

WORDS = ["", "!see", "fall", "jump", "kid", "man"]
VOCABULARY = Vocabulary(tuple(WORDS), {"kids": "kid", "jumps": "hop"})
NAMES = ("plain", "Piñata Party0", "“Quotes” – and – dashes…", "短い動画 5", "Ça va? Où ça, Ï")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_turned_back(name):
    assert repaired(mojibake(name)) == name
    assert repaired(name) == name  # what was stored rightly stays


def test_bytes_without_a_letter_in_windows_1252():
    assert mojibake("“Quotes”") == "â€œQuotesâ€\x9d"
    assert repaired("â€œQuotesâ€\x9d") == "“Quotes”"
    assert repaired("caf\xe9 \x81") == "caf\xe9 \x81"


def test_numbers_of_words():
    assert [VOCABULARY.number(word) for word in ("", "man", "kids", "kid", "jumps", "nobody")] == [0, 5, 4, 4, -1, -1]
    triples = (("man", "jump", ""), ("kids", "fall", "man"), ("kids", "jumps", "man"), ("nobody", "", ""))
    assert VOCABULARY.numbers(triples) == [(5, 3, 0), (4, 2, 5)]  # a triple that is not whole is none


def test_what_the_vocabulary_does_not_know_is_counted():
    said_of_it = [Annotator("", "", (("man", "jumps", "moon"),), (("man", "fall", ""), ("moon", "fall", "")))]
    unknown = unknown_words(said_of_it, VOCABULARY)
    assert (unknown.triples, unknown.words) == (2, {"jumps": 1, "moon": 2})
    assert str(unknown).startswith("2 triples are left out, for 2 of their words ('moon', 'jumps', ...)")
    assert has_triples(said_of_it, VOCABULARY)
    assert not has_triples([Annotator("", "", (("moon", "", ""),), ())], VOCABULARY)


def test_one_annotator_and_one_triple_of_each_kind_are_drawn():
    both = (
        Annotator("", "", (("man", "jump", ""), ("man", "jump", "kid")), ()),
        Annotator("", "", (), (("kid", "fall", ""),)),
    )
    drawn = {draw_triples(both, VOCABULARY, np.random.default_rng(seed)) for seed in range(50)}
    nothing = (-1, -1, -1)
    assert drawn == {((5, 3, 0), nothing), ((5, 3, 4), nothing), (nothing, (4, 2, 0))}
    everything = all_triples(both, VOCABULARY)
    assert everything["intentional"].tolist() == [[5, 3, 0], [5, 3, 4]]
    assert everything["unintentional"].tolist() == [[4, 2, 0]]
    assert all_triples((), VOCABULARY)["intentional"].shape == (0, 3)


def test_files_as_they_are_released(tmp_path):
    entries = {name: [said([["man", "jump", ""]], []), said([], [["kids", "fall", "man"]])] for name in NAMES[:2]}
    folder = goals(tmp_path / "svos", {"train": entries}, WORDS, {"kids": "kid"})
    found, problems = read_goals(folder / "train.json")
    assert list(found) == list(NAMES[:2])
    assert not problems
    assert found[NAMES[1]][0] == Annotator("Somebody tries.", "It fails.", (("man", "jump", ""),), ())
    assert read_vocabulary(folder) == Vocabulary(tuple(WORDS), {"kids": "kid"})
    (folder / "corrections.json").unlink()
    assert read_vocabulary(folder).corrections == {}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        5,
        "words",
        {"goal": ""},
        [None],
        [{"goal": "It goes."}],
        [said([["man", "jump"]], [])],
        [said(["man"], [])],
        [said([["man", "jump", 5]], [])],
        [said(None, [])],
        [{**said([], []), "goal": 5}],
    ],
)
def test_an_entry_that_cannot_be_meant_is_named(tmp_path, entry):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"good": [said([], [])], "bad": entry}))
    found, problems = read_goals(path)
    assert list(found) == ["good"]
    assert "what is said of 'bad' is not a list of annotators" in problems["bad"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("vocab.json", "no json", "cannot be read as JSON"),
        ("vocab.json", "[" * 100_000, "cannot be read as JSON"),
        ("vocab.json", "{}", "holds no JSON list"),
        ("vocab.json", '["a", "a"]', "not a list of different words"),
        ("vocab.json", "[]", "not a list of different words"),
        ("vocab.json", "[1]", "not a list of different words"),
        ("corrections.json", "[]", "holds no JSON object"),
        ("corrections.json", '{"a": 1}', "does not map words to words"),
        ("corrections.json", b"\xff\xfe\xff", "cannot be read as JSON"),
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path, name, text, complaint):
    folder = goals(tmp_path / "svos", {}, WORDS, {})
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=complaint):
        read_vocabulary(folder)
    (folder / "vocab.json").unlink()
    with pytest.raises(DataError, match=r"there is no .*vocab\.json"):
        read_vocabulary(folder)
