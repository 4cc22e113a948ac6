"""What annotators write about the sandbox's films of mishaps: sentences, and triples of subject, verb and object.

Two annotators a film. They do not always use the same words (a boy is a kid to some, a throw a toss), sometimes name
a second thing that is true, sometimes nothing, and rarely misspell a word: then the vocabulary lacks it and
`CORRECTIONS` has it.
"""

from __future__ import annotations

import numpy as np

from zoo.data.sandbox.plots import Plot

SYNONYMS = {
    "boy": "kid",
    "girl": "kid",
    "bear": "animal",
    "stack": "pile",
    "throw": "toss",
    "carry": "bring",
    "jump": "leap",
    "topple": "collapse",
    "trip": "stumble",
    "drop": "lose",
}
CORRECTIONS = {
    "robbot": "robot",
    "pilow": "pillow",
    "vaze": "vase",
    "bottel": "bottle",
    "trow": "throw",
    "cary": "carry",
    "stumbel": "stumble",
}
VOCABULARY = sorted(
    {
        "",
        *SYNONYMS,
        *SYNONYMS.values(),
        *("robot", "ball", "box", "vase", "bottle", "pillow", "book", "tower", "basket"),
        *("build", "miss", "fall"),
    }
)

_SLIPS = {right: wrong for wrong, right in CORRECTIONS.items()}
_SYNONYM, _SLIP, _SECOND, _SILENT = 0.25, 0.05, 0.3, 0.03  # how often
_GOALS = {
    "stack": "The {} wants to {} one {} on another.",
    "throw": "The {} wants to {} the {} into the basket.",
    "carry": "The {} wants to {} the {} to another place.",
    "jump": "The {} wants to {} over the {}.",
}
_WRONGS = {
    "topple": "The {} starts to {}.",
    "miss": "The {} tries, but {}es the {}.",
    "drop": "The {} {}s the {}.",
    "trip": "The {} {}s.",
}


def annotate_goals(plot: Plot) -> list[dict[str, object]]:
    """What two annotators say was intended and what went wrong, with the fields of the release."""
    rng = np.random.default_rng((*plot.seed, 3))
    return [_annotation(rng, plot) for _ in range(2)]


def _annotation(rng: np.random.Generator, plot: Plot) -> dict[str, object]:
    words: dict[str, str] = {}  # one annotator calls a thing by one name throughout

    def said(triple: tuple[str, str, str]) -> list[str]:
        for word in triple:
            if word not in words:
                words[word] = SYNONYMS[word] if word in SYNONYMS and rng.random() < _SYNONYM else word
        return [words[word] for word in triple]

    def triples(first: tuple[str, str, str] | None, second: tuple[str, str, str] | None) -> list[list[str]]:
        if first is None or rng.random() < _SILENT:
            return []
        told = [said(first), *([said(second)] if second and rng.random() < _SECOND else [])]
        return [[_SLIPS[word] if word in _SLIPS and rng.random() < _SLIP else word for word in line] for line in told]

    goal = said(plot.goal)
    wrong = said(plot.wrong) if plot.wrong else None
    return {
        "goal": _GOALS[plot.activity].format(*goal),
        "wentwrong": _WRONGS[plot.mishap].format(*wrong) if wrong else "",
        "kgoalsvos": triples(plot.goal, (plot.subject, "build", "tower") if plot.activity == "stack" else None),
        "kwentwrongsvos": triples(plot.wrong, _consequence(plot)),
    }


def _consequence(plot: Plot) -> tuple[str, str, str] | None:
    """What else is true of the mishap."""
    if plot.mishap == "trip":
        return (plot.subject, "drop", plot.thing) if plot.activity == "carry" else (plot.subject, "fall", "")
    return (plot.thing, "fall", "") if plot.mishap in ("drop", "topple") else None
