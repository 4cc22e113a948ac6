"""What people said of the Oops! videos: goals and what went wrong, as sentences and subject-verb-object triples.

    svos/ (or lang/)
      train.json  val.json     name -> two annotators, each {"goal", "wentwrong", "kgoalsvos", "kwentwrongsvos"}
      vocab.json               the words, sorted; a word's number is its place here
      corrections.json         word -> the word of the vocabulary that it stands for

Names with letters beyond ASCII are stored as their UTF-8 read as Windows-1252; `repaired` turns them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.json_files import read_json
from zoo.errors import DataError

Triple = tuple[str, str, str]
Pair = tuple[tuple[int, int, int], tuple[int, int, int]]
_NO_TRIPLE = (-1, -1, -1)
_FIELDS = ("kgoalsvos", "kwentwrongsvos")


@dataclass(frozen=True)
class Annotator:
    """What one annotator said of a video.

    Attributes:
        goal: the sentence on what was meant to happen.
        went_wrong: the sentence on what happened instead.
        goal_triples: subject, verb and object, as many times as the sentence has them; an object may be "".
        went_wrong_triples: the same of the other sentence.
    """

    goal: str
    went_wrong: str
    goal_triples: tuple[Triple, ...]
    went_wrong_triples: tuple[Triple, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Words and their numbers.

    Attributes:
        words: number to word.
        corrections: words that are not among them to words that are.
    """

    words: tuple[str, ...]
    corrections: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def number(self, word: str) -> int:
        """A word's number, after its correction where it has none itself; -1 if there is none either."""
        number = self._numbers.get(word)
        return self._numbers.get(self.corrections.get(word), -1) if number is None else number

    def numbers(self, triples: Iterable[Triple]) -> list[tuple[int, int, int]]:
        """The triples in numbers; one with an unknown word is left out whole."""
        found = [tuple(map(self.number, triple)) for triple in triples]
        return [triple for triple in found if -1 not in triple]


@dataclass
class UnknownWords:
    """Words of triples that are neither in the vocabulary nor corrected, and what they cost.

    Attributes:
        words: each and how often it was met.
        triples: left out because of one.
    """

    words: Counter[str] = field(default_factory=Counter)
    triples: int = 0

    def __str__(self) -> str:
        most = ", ".join(repr(word) for word, _ in self.words.most_common(5))
        return (
            f"{self.triples} triples are left out, for {len(self.words)} of their words ({most}, ...) are neither in "
            "vocab.json nor in corrections.json"
        )


def unknown_words(annotators: Iterable[Annotator], vocabulary: Vocabulary) -> UnknownWords:
    """What the vocabulary does not know of all that was said."""
    unknown = UnknownWords()
    for annotator in annotators:
        for triple in annotator.goal_triples + annotator.went_wrong_triples:
            strangers = [word for word in triple if vocabulary.number(word) < 0]
            unknown.words.update(strangers)
            unknown.triples += bool(strangers)
    return unknown


def has_triples(annotators: Iterable[Annotator], vocabulary: Vocabulary) -> bool:
    """Whether any triple can be put in numbers."""
    return any(vocabulary.numbers(a.goal_triples + a.went_wrong_triples) for a in annotators)


def draw_triples(annotators: tuple[Annotator, ...], vocabulary: Vocabulary, rng: np.random.Generator) -> Pair:
    """A goal and a went-wrong triple of one annotator at random, in numbers; (-1, -1, -1) where that one has none.

    Args:
        annotators: of one video, at least one.
        vocabulary: gives the numbers.
        rng: draws the annotator, then the two triples.
    """
    annotator = annotators[int(rng.integers(len(annotators)))]
    drawn = []
    for triples in (annotator.goal_triples, annotator.went_wrong_triples):
        numbers = vocabulary.numbers(triples)
        drawn.append(numbers[int(rng.integers(len(numbers)))] if numbers else _NO_TRIPLE)
    return tuple(drawn)


def all_triples(annotators: Iterable[Annotator], vocabulary: Vocabulary) -> dict[str, Tensor]:
    """All triples of a video, int64 ``[K, 3]``: "intentional" those of the goal, "unintentional" of what went wrong."""
    annotators = list(annotators)
    goals = [triple for a in annotators for triple in vocabulary.numbers(a.goal_triples)]
    wrongs = [triple for a in annotators for triple in vocabulary.numbers(a.went_wrong_triples)]
    return {
        kind: torch.tensor(triples, dtype=torch.int64).reshape(-1, 3)
        for kind, triples in (("intentional", goals), ("unintentional", wrongs))
    }


# The files


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary in a folder; corrections.json may be missing.

    Raises:
        DataError: no vocabulary, or a file that is none.
    """
    words = read_json(folder / "vocab.json", list)
    if not words or not all(isinstance(word, str) for word in words) or len(set(words)) < len(words):
        raise DataError(f"{folder / 'vocab.json'} is not a list of different words; fetch lang.tar.gz again.")
    corrections = {}
    if (place := folder / "corrections.json").exists():
        corrections = read_json(place, dict)
        if not all(isinstance(word, str) for word in corrections.values()):
            raise DataError(f"{place} does not map words to words; fetch lang.tar.gz again.")
    return Vocabulary(tuple(words), corrections)


def read_goals(path: Path) -> tuple[dict[str, tuple[Annotator, ...]], dict[str, str]]:
    """What is said of each video, by its repaired name, and what is wrong with those entries that cannot be used.

    Raises:
        DataError: there is no such file, or it is not JSON of this kind.
    """
    goals, problems = {}, {}
    for name, entry in read_json(path, dict).items():
        try:
            goals[repaired(name)] = tuple(map(_annotator, entry))
        except (TypeError, KeyError, ValueError):
            problems[repaired(name)] = (
                f"{path}: what is said of {name!r} is not a list of annotators with the sentences goal and wentwrong "
                "and the triples kgoalsvos and kwentwrongsvos. Fetch lang.tar.gz again."
            )
    return goals, problems


def repaired(name: str) -> str:
    """A file name out of one whose UTF-8 was read as Windows-1252; any other name as it is."""
    try:
        return b"".join(map(_byte, name)).decode("utf-8")
    except UnicodeError:
        return name


def _byte(letter: str) -> bytes:
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")  # five bytes have no letter in Windows-1252 and pass as control characters


def _annotator(entry: dict[str, Any]) -> Annotator:
    said = entry["goal"], entry["wentwrong"]
    triples = [tuple(map(_triple, entry[key])) for key in _FIELDS]
    if not all(isinstance(sentence, str) for sentence in said):
        raise TypeError
    return Annotator(*said, *triples)


def _triple(words: list[str]) -> Triple:
    if not (isinstance(words, list) and len(words) == 3 and all(isinstance(word, str) for word in words)):
        raise TypeError
    return tuple(words)
