"""What a temporal field's numbers stand for, as arguments of its builders and in its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.data.activities import ActivityVocabulary, packaged_vocabulary

#: The builder's arguments that make a vocabulary.
SPOKEN = ("mapping", "objects", "verbs", "scene_names", "classes")


def spoken_arguments(vocabulary: ActivityVocabulary) -> dict[str, Any]:
    """A vocabulary as a builder's arguments: plain lists, fit for a checkpoint."""
    return {
        "mapping": [list(pair) for pair in vocabulary.mapping],
        "objects": list(vocabulary.objects),
        "verbs": list(vocabulary.verbs),
        "scene_names": list(vocabulary.scenes),
        "classes": list(vocabulary.classes),
    }


def vocabulary_of(
    mapping: Sequence[Sequence[int]] | None,
    objects: Sequence[str] | None,
    verbs: Sequence[str] | None,
    scenes: Sequence[str] | None,
    classes: Sequence[str] | None,
    packaged: str = "charades",
) -> ActivityVocabulary:
    """The inverse of `spoken_arguments`; without a mapping the one of the packaged lists, which lend names too."""
    own = packaged_vocabulary(packaged)
    if mapping is None:
        classes, pairs = classes or own.classes, own.mapping
    else:
        pairs = tuple((int(thing), int(verb)) for thing, verb in mapping)
    return ActivityVocabulary(
        tuple(classes or (f"class {n}" for n in range(len(pairs)))),
        tuple(objects or own.objects),
        tuple(verbs or own.verbs),
        pairs,
        tuple(scenes or own.scenes),
    )
