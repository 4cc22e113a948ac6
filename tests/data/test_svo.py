"""Triples out of parsed sentences. The parses are written by hand, in spaCy's scheme, so that no model is needed."""

from __future__ import annotations

import sys

import pytest

from zoo.data.svo import extract_triples, load_pipeline, triples_of
from zoo.errors import ZooError

spacy = pytest.importorskip("spacy", reason="triples need the package spacy (videozoo[goals])")
POS = {"V": "VERB", "N": "NOUN", "P": "PRON", "I": "ADP", "D": "DET", "M": "AUX", "R": "ADV", "J": "ADJ", "T": "PART"}


def parsed(text: str):
    """A spaCy Doc out of ``word[=lemma]/TAG/relation/head`` for every word; the head is a number, counted from 0.

    A helping verb's tag begins with M, for the rest the tag's first letter tells the part of speech.
    """
    columns = [entry.split("/") for entry in text.split()]
    words = [word.partition("=")[0] for word, *_ in columns]
    lemmas = [word.partition("=")[2] or word.lower() for word, *_ in columns]
    tags = [tag for _, tag, *_ in columns]
    pos = [
        "ADP" if tag in ("IN", "RP") else "CCONJ" if tag == "CC" else "PART" if tag == "TO" else
        "PRON" if tag.startswith("W") else POS.get(tag[0], "X") for tag in tags
    ]  # fmt: skip
    heads = [int(head) for *_, head in columns]
    tags = ["V" + tag[1:] if tag[0] == "M" and tag != "MD" else tag for tag in tags]
    vocab = spacy.blank("en").vocab
    return spacy.tokens.Doc(
        vocab, words=words, lemmas=lemmas, tags=tags, pos=pos, heads=heads, deps=[dep for *_, dep, _ in columns]
    )


def check(text: str, *expected: str) -> None:
    """``expected`` are triples as ``"subject verb object"``, - for what is missing and _ for a blank inside."""
    triples = [[part.replace("-", "").replace("_", " ") for part in triple.split()] for triple in expected]
    assert triples_of(parsed(text)) == triples


def test_what_is_tried_is_what_counts():
    check(
        "The/DT/det/1 man/NN/nsubj/2 tries=try/VBZ/ROOT/2 to/TO/aux/4 jump/VB/xcomp/2 over/IN/prep/4 the/DT/det/7 "
        "fence/NN/pobj/5",
        "man jump fence",
    )
    check(
        "He/PRP/nsubj/1 wants=want/VBZ/ROOT/1 to/TO/aux/3 begin/VB/xcomp/1 riding=ride/VBG/xcomp/3",
        "he ride -",
    )
    check("He/PRP/nsubj/1 tries=try/VBZ/ROOT/1 a/DT/det/3 flip/NN/dobj/1", "he try flip")


def test_each_object_is_a_triple_of_its_own():
    check(
        "A/DT/det/1 person/NN/nsubj/2 rides=ride/VBZ/ROOT/2 a/DT/det/4 unicycle/NN/dobj/2 down/IN/prep/2 a/DT/det/7 "
        "hill/NN/pobj/5",
        "person ride unicycle",
        "person ride hill",
    )
    # The same sentence, the preposition on the noun: parsers do either.
    check(
        "A/DT/det/1 person/NN/nsubj/2 rides=ride/VBZ/ROOT/2 a/DT/det/4 unicycle/NN/dobj/2 down/IN/prep/4 a/DT/det/7 "
        "hill/NN/pobj/5",
        "person ride unicycle",
        "person ride hill",
    )
    check(  # what describes the noun is no object
        "He/PRP/nsubj/1 rides=ride/VBZ/ROOT/1 a/DT/det/3 bike/NN/dobj/1 with/IN/prep/3 a/DT/det/6 basket/NN/pobj/4",
        "he ride bike",
    )
    check(
        "He/PRP/nsubj/1 falls=fall/VBZ/ROOT/1 out/IN/prep/1 of/IN/prep/2 windows=window/NNS/pobj/3 and/CC/cc/4 "
        "doors=door/NNS/conj/4",
        "he fall window",
        "he fall door",
    )


def test_joined_verbs_and_subjects():
    check(
        "The/DT/det/1 man/NN/nsubj/5 and/CC/cc/1 the/DT/det/4 dog/NN/conj/1 slip/VBP/ROOT/5 and/CC/cc/5 hit/VBP/conj/5 "
        "the/DT/det/9 ground/NN/dobj/7",
        "man slip -",
        "dog slip -",
        "man hit ground",
        "dog hit ground",
    )
    check(
        "He/PRP/nsubj/1 tries=try/VBZ/ROOT/1 to/TO/aux/3 run/VB/xcomp/1 but/CC/cc/1 the/DT/det/6 rope/NN/nsubj/7 "
        "breaks=break/VBZ/conj/1",
        "he run -",
        "rope break -",
    )


def test_negation_is_seen_and_handed_on():
    check("He/PRP/nsubj/3 does=do/MBZ/aux/3 not/RB/neg/3 jump/VB/ROOT/3", "he !jump -")
    check(
        "He/PRP/nsubj/1 fails=fail/VBZ/ROOT/1 to/TO/aux/3 land/VB/xcomp/1 and/CC/cc/3 stop/VB/conj/3",
        "he !land -",
        "he !stop -",
    )
    check("He/PRP/nsubj/3 did=do/MBD/aux/3 not/RB/neg/3 fail/VB/ROOT/3 to/TO/aux/5 land/VB/xcomp/3", "he land -")
    check("He/PRP/nsubj/1 fails=fail/VBZ/ROOT/1", "he fail -")
    check(
        "He/PRP/nsubj/1 is=be/MBZ/ROOT/1 unable/JJ/acomp/1 to/TO/aux/4 stop/VB/xcomp/2 the/DT/det/6 car/NN/dobj/4",
        "he !stop car",
    )
    check(  # the second verb is another sentence's
        "He/PRP/nsubj/3 did=do/MBD/aux/3 not/RB/neg/3 jump/VB/ROOT/3 and/CC/cc/3 fell=fall/VBD/conj/3",
        "he !jump -",
        "he fall -",
    )


def test_passive_voice_with_and_without_somebody_who_did_it():
    check(
        "The/DT/det/1 man/NN/nsubjpass/3 is=be/MBZ/auxpass/3 hit/VBN/ROOT/3 by/IN/agent/3 a/DT/det/6 ball/NN/pobj/4",
        "ball hit man",
    )
    check("The/DT/det/1 man/NN/nsubjpass/3 is=be/MBZ/auxpass/3 hit/VBN/ROOT/3", "man get_hit -")
    check(
        "He/PRP/nsubjpass/2 gets=get/MBZ/auxpass/2 hit/VBN/ROOT/2 by/IN/agent/2 a/DT/det/5 ball/NN/pobj/3",
        "he get_hit ball",
    )
    check(
        "He/PRP/nsubjpass/2 was=be/MBD/auxpass/2 pushed=push/VBN/ROOT/2 and/CC/cc/2 thrown=throw/VBN/conj/2 "
        "into/IN/prep/4 a/DT/det/7 pool/NN/pobj/5",
        "he get_pushed -",
        "he get_thrown pool",
    )


def test_getting_into_a_state_is_a_verb_of_two_words():
    check(
        "The/DT/det/1 car/NN/nsubj/2 gets=get/VBZ/ROOT/2 stuck/JJ/acomp/2 in/IN/prep/2 mud/NN/pobj/4",
        "car get_stuck mud",
    )
    check("He/PRP/nsubj/1 gets=get/VBZ/ROOT/1 thrown=throw/VBN/xcomp/1 off/RP/prt/2", "he get_thrown -")
    check("He/PRP/nsubj/3 did=do/MBD/aux/3 n't/RB/neg/3 get/VB/ROOT/3 hurt/JJ/acomp/3", "he !get_hurt -")
    check("He/PRP/nsubj/1 gets=get/VBZ/ROOT/1 a/DT/det/3 ball/NN/dobj/1", "he get ball")
    check("The/DT/det/1 rope/NN/nsubj/2 is=be/MBZ/ROOT/2 too/RB/advmod/4 short/JJ/acomp/2", "rope be short")


def test_clauses_find_their_subjects():
    check(  # a relative clause, its pronoun, and the sentence around it
        "The/DT/det/1 man/NN/nsubj/6 who/WP/nsubj/3 rides=ride/VBZ/relcl/1 a/DT/det/5 bike/NN/dobj/3 "
        "falls=fall/VBZ/ROOT/6",
        "man ride bike",
        "man fall -",
    )
    check(
        "He/PRP/nsubj/1 drops=drop/VBZ/ROOT/1 the/DT/det/3 ball/NN/dobj/1 she/PRP/nsubj/5 throws=throw/VBZ/relcl/3",
        "he drop ball",
        "she throw ball",
    )
    check(
        "A/DT/det/1 man/NN/ROOT/1 riding=ride/VBG/acl/1 a/DT/det/4 bike/NN/dobj/2",
        "man ride bike",
    )
    check(
        "He/PRP/nsubj/1 falls=fall/VBZ/ROOT/1 while/IN/mark/3 riding=ride/VBG/advcl/1 a/DT/det/5 bike/NN/dobj/3",
        "he fall -",
        "he ride bike",
    )
    check(
        "He/PRP/nsubj/1 hurts=hurt/VBZ/ROOT/1 himself/PRP/dobj/1 by/IN/prep/1 jumping=jump/VBG/pcomp/3",
        "he hurt himself",
        "he jump -",
    )
    check(
        "She/PRP/nsubj/1 asks=ask/VBZ/ROOT/1 the/DT/det/3 dog/NN/dobj/1 to/TO/aux/5 jump/VB/xcomp/1",
        "she ask dog",
        "dog jump -",
    )
    check(
        "He/PRP/nsubj/1 makes=make/VBZ/ROOT/1 an/DT/det/3 attempt/NN/dobj/1 to/TO/aux/5 jump/VB/acl/3",
        "he make attempt",
        "he jump -",
    )


def test_a_goal_without_a_subject_keeps_its_place():
    check("To/TO/aux/1 do/VB/ROOT/1 a/DT/det/3 backflip/NN/dobj/1 ././punct/1", "- do backflip")
    assert triples_of(parsed("Ouch/UH/ROOT/0")) == []
    assert triples_of(spacy.tokens.Doc(spacy.blank("en").vocab)) == []


def test_a_pipeline_is_run_and_one_that_does_not_parse_is_refused():
    pipeline = spacy.blank("en")
    with pytest.raises(ZooError, match=r"'He falls' has no dependency parse.*en_core_web_sm"):
        extract_triples("He falls", pipeline)

    @spacy.Language.component("by_hand")
    def by_hand(doc):
        return parsed("He/PRP/nsubj/1 falls=fall/VBZ/ROOT/1")

    pipeline.add_pipe("by_hand")
    assert extract_triples("He falls", pipeline) == [["he", "fall", ""]]


def test_a_missing_model_and_a_missing_package_say_what_to_do(monkeypatch):
    with pytest.raises(ZooError, match="python -m spacy download en_none"):
        extract_triples("He falls.", "en_none")
    load_pipeline.cache_clear()
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ZooError, match=r"pip install 'videozoo\[goals\]'"):
        extract_triples("He falls.")
