"""Sentences to subject-verb-object triples, as the goals of Oops! are written: "The man tries to jump over the fence."
is ``["man", "jump", "fence"]``.

The release has its triples in its files; this is for sentences of one's own. A sentence is parsed by spaCy, and every
verb gives the triples of its subjects with its objects, all lemmatised and in lower case:

- what is only tried, wanted, begun or managed counts as done: *tries to jump* is ``jump``; *fails to jump* ``!jump``;
- a negated verb begins with ``!``; a missing subject or object is ``""``;
- an object is a direct one or one of a preposition, and has a triple of its own: *rides a unicycle down a hill* is two;
- verbs, subjects and objects joined by "and" count each, and a later verb takes over the first one's subject;
- *is hit by a ball* is ``["ball", "hit", ...]``; where nobody did it, and with *gets*, the verb is ``get hit``;
- particles (*falls over*) and adjectives are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.extras import optional

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

MODEL = "en_core_web_sm"

_CLAUSES = ("ROOT", "conj", "xcomp", "ccomp", "advcl", "relcl", "acl", "pcomp", "parataxis")
_SUBJECTS = ("nsubj", "nsubjpass")
_COMPLEMENTS = ("xcomp", "ccomp")
_RELATIVE = ("WDT", "WP", "WP$")  # tags of "who", "which", "that"
# Verbs that only say how another one stands: whether it is tried, wanted, begun, managed.
_FAILING = {"fail", "forget", "neglect", "refuse"}
# fmt: off
_LIGHT = _FAILING | {
    "aim", "appear", "attempt", "begin", "choose", "continue", "decide", "end", "expect", "get", "go", "have",
    "hope", "intend", "keep", "learn", "like", "love", "manage", "need", "plan", "prepare", "proceed", "seek",
    "seem", "start", "suppose", "try", "use", "want", "wish"
}
_UNABLE = {"unable"}
_ABLE = _UNABLE | {"able", "about", "eager", "ready", "set"}
_ASKING = {
    "allow", "ask", "cause", "command", "encourage", "force", "get", "help", "let", "make", "push", "teach",
    "tell", "train", "urge"
}
# Prepositions of a path, which parsers hang on the noun before them as often as on the verb.
_PATHS = {
    "across", "against", "along", "around", "down", "from", "into", "off", "onto", "over", "past", "through",
    "to", "toward", "towards", "up"
}
# fmt: on

Triple = list[str]


def extract_triples(sentence: str, nlp: Language | str | None = None) -> list[Triple]:
    """The ``[subject, verb, object]`` triples of a sentence (or several), in its order, each once.

    Args:
        sentence: English text.
        nlp: a spaCy pipeline with a dependency parser and a lemmatiser, or the name of one; ``en_core_web_sm`` by
            default, which is a download of its own.

    Raises:
        ZooError: spaCy or the pipeline is not installed, or the pipeline does not parse.
    """
    return triples_of((load_pipeline(nlp or MODEL) if nlp is None or isinstance(nlp, str) else nlp)(sentence))


@lru_cache(maxsize=2)
def load_pipeline(name: str = MODEL) -> Language:
    """A spaCy pipeline by its name.

    Raises:
        ZooError: spaCy is not installed, or has no such pipeline.
    """
    spacy = optional("spacy", "goals", "taking triples out of sentences")
    try:
        return spacy.load(name)
    except (OSError, ImportError) as error:
        raise ZooError(
            f"spaCy's pipeline {name!r} is not installed or cannot be loaded ({error}). Fetch it: "
            f"python -m spacy download {name}."
        ) from error


def triples_of(doc: Doc) -> list[Triple]:
    """The triples of a parsed text; see `extract_triples`.

    Raises:
        ZooError: it is not parsed.
    """
    if len(doc) and not doc.has_annotation("DEP"):
        raise ZooError(
            f"the text {doc.text[:40]!r} has no dependency parse; use a spaCy pipeline with a parser, such as {MODEL}."
        )
    found: dict[tuple[str, ...], None] = {}  # a set that keeps its order
    for token in doc:
        if _is_verb(token) and not _is_light(token):
            found.update(dict.fromkeys(_triples(token)))
    return [list(triple) for triple in found]


def _triples(verb: Token) -> Iterator[tuple[str, str, str]]:
    subjects, objects = _subjects(verb), _objects(verb)
    name = "be" if verb.lemma_ == "be" else _name(verb)
    if voice := _passive(verb):
        agents = [noun for child in verb.children if child.dep_ == "agent" for noun in _pobj(child)]
        if voice == "be" and agents:
            subjects, objects = agents, [*subjects, *objects]
        else:
            name, objects = f"get {verb.text.lower()}", [*agents, *objects]
    elif verb.lemma_ == "get" and (state := [c for c in verb.children if c.dep_ == "acomp"]):
        name = f"get {state[0].text.lower()}"
    if _is_negated(verb):
        name = f"!{name}"
    for subject in [_name(token) for token in subjects] or [""]:
        for thing in [_name(token) for token in objects] or [""]:
            yield subject, name, thing


def _name(token: Token) -> str:
    return (token.lemma_ or token.text).lower()


def _is_verb(token: Token) -> bool:
    """Whether the token is the verb of a clause, and not one that helps another or describes a noun."""
    return token.pos_ in ("VERB", "AUX") and token.dep_ in _CLAUSES


def _is_light(verb: Token) -> bool:
    """Whether the verb only introduces another, which stands for it."""
    clauses = [c for c in verb.children if c.dep_ in _COMPLEMENTS and _is_verb(c)]
    if verb.lemma_ == "be":
        states = [c for c in verb.children if c.dep_ == "acomp" and c.lemma_ in _ABLE]
        return any(_is_verb(c) for state in states for c in state.children if c.dep_ in _COMPLEMENTS)
    return verb.lemma_ in _LIGHT and bool(clauses)


def _governor(token: Token) -> Token | None:
    """The verb that a token depends on."""
    return next((above for above in token.ancestors if _is_verb(above)), None)


def _has(token: Token, *deps: str) -> bool:
    return any(child.dep_ in deps for child in token.children)


def _passive(verb: Token) -> str:
    """``"be"`` or ``"get"``, by which the verb is put into the passive voice; else nothing."""
    helpers = [child.lemma_ for child in verb.children if child.dep_ == "auxpass"]
    if helpers:
        return "get" if "get" in helpers else "be"
    if verb.tag_ == "VBN" and verb.dep_ in _COMPLEMENTS and verb.head.lemma_ == "get" and not _has(verb, *_SUBJECTS):
        return "get"
    if verb.tag_ == "VBN" and verb.dep_ == "conj" and not _has(verb, "aux", *_SUBJECTS):
        return _passive(verb.head)  # "is hit and thrown"
    if _has(verb, "nsubjpass") or (verb.tag_ == "VBN" and verb.dep_ == "acl"):
        return "be"
    return ""


def _is_negated(verb: Token) -> bool:
    negated = _has(verb, "neg")
    if verb.dep_ in _COMPLEMENTS and not _has(verb, *_SUBJECTS):
        state, above = verb.head, _governor(verb)
        if state is not above and state.lemma_ in _UNABLE:
            negated ^= True
        if above is not None and _is_light(above):
            negated ^= _is_negated(above) ^ (above.lemma_ in _FAILING)
    elif verb.dep_ == "conj" and verb.tag_ == verb.head.tag_ and verb.tag_ in ("VB", "VBG", "VBN"):
        # What helps the first verb helps the second: "can't run and jump".
        negated ^= not _has(verb, "aux", "auxpass", *_SUBJECTS) and _is_negated(verb.head)
    return negated


def _subjects(verb: Token) -> list[Token]:
    """Who does it, or in the passive voice whom it is done to; of verbs without a subject, whoever the context says."""
    own = [noun for child in verb.children if child.dep_ in _SUBJECTS for noun in _joined(child)]
    if own:
        return [found for noun in own for found in _antecedent(noun)]
    above = _governor(verb)
    if verb.dep_ == "relcl" or (verb.dep_ == "acl" and not any(child.tag_ == "TO" for child in verb.children)):
        return _joined(verb.head)
    if above is None:
        return []
    if verb.dep_ in _COMPLEMENTS and above.lemma_ in _ASKING and not _passive(above):
        told = [noun for child in above.children if child.dep_ in ("dobj", "dative") for noun in _joined(child)]
        if told:
            return [found for noun in told for found in _antecedent(noun)]
    return _subjects(above)


def _objects(verb: Token) -> list[Token]:
    """What it is done to and where, in the sentence's order."""
    found: list[Token] = []
    for child in verb.children:
        if child.dep_ in ("dobj", "attr", "dative") and child.pos_ != "ADP":
            found += _joined(child)
            found += [noun for near in child.children if near.lemma_.lower() in _PATHS for noun in _pobj(near)]
        elif child.dep_ in ("prep", "dative"):
            found += _pobj(child)
        elif child.dep_ == "acomp" and verb.lemma_ == "be":
            found += _joined(child)
    found = [token for noun in found for token in _antecedent(noun)]
    # "the ball he throws": what the clause says more about is its object, where it has neither that nor a pronoun.
    if verb.dep_ == "relcl" and _has(verb, *_SUBJECTS) and not found and verb.head.pos_ in ("NOUN", "PROPN", "PRON"):
        subjects = [child for child in verb.children if child.dep_ in _SUBJECTS]
        if all(child.tag_ not in _RELATIVE for child in subjects) and not _has(verb, "advmod"):
            return [verb.head]
    return found


def _pobj(preposition: Token) -> list[Token]:
    """The nouns after a preposition, which may be one of several: "out of the window"."""
    found: list[Token] = []
    for child in preposition.children:
        if child.dep_ == "pobj":
            found += _joined(child)
            found += [noun for near in child.children if near.lemma_.lower() in _PATHS for noun in _pobj(near)]
        elif child.dep_ == "prep" or (child.dep_ == "conj" and child.pos_ == "ADP"):
            found += _pobj(child)
    return found


def _joined(noun: Token) -> list[Token]:
    """A noun and those joined to it: "a ball, a bat and a glove"."""
    return [noun, *(child for child in noun.conjuncts if child.i > noun.i and child.pos_ not in ("VERB", "AUX"))]


def _antecedent(noun: Token) -> list[Token]:
    """What a relative pronoun stands for; any other noun itself."""
    if noun.tag_ not in _RELATIVE:
        return [noun]
    clause = next((above for above in noun.ancestors if above.dep_ == "relcl"), None)
    return [clause.head] if clause is not None else [noun]
