"""Which units of a trajectory go with which words (section 5.4 of "Video representations of goals ...", figure 7a).

A video is one observation: the mean of its clips' vectors, each of unit length as the index keeps them, and for each
word of the vocabulary whether any annotator's triple holds it. The paper does not say how a video's vectors are pooled.
"""

from __future__ import annotations

from typing import Any

import torch

from zoo.clip_index import Index
from zoo.data.goals import all_triples
from zoo.errors import DataError
from zoo.metrics.neurons import top_neurons, word_correlations
from zoo.visualize.neurons import Row, neuron_rows


def word_neurons(index: Index, data: Any, k: int = 3, clips: int = 5) -> list[Row]:
    """The units that correlate most with a word, and the clips that move them most.

    Args:
        index: of the videos.
        data: datamodule of the same data set with ``goals``.
        k: units.
        clips: of each.

    Raises:
        DataError: fewer than two of the annotated videos are in the index.
    """
    triples = {record.name: all_triples(record.goals, data.words) for record in data.records("val")}
    known = [i for i, video in enumerate(index.videos) if video.source == data.name and video.name in triples]
    if len(known) < 2:
        raise DataError(
            f"{len(known)} of the {len(index.videos)} videos of {index.folder} have goals in {data.root}: build the "
            f"index from the same data (`zoo index MODEL {data.name}=ROOT`)."
        )
    h = index.vectors("h").float()
    activations = torch.stack([h[index.owner == video].mean(0) for video in known])
    present = torch.zeros(len(known), len(data.vocabulary), dtype=torch.bool)
    for row, video in enumerate(known):
        for segment in triples[index.videos[video].name].values():
            present[row, segment[segment >= 0].flatten()] = True
    chosen = top_neurons(word_correlations(activations, present), data.vocabulary, k)
    return neuron_rows(chosen, h, index.owner, index.hit, clips)
