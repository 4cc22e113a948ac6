"""HowTo100M: a text-video embedding learned from narrated clips (Miech et al., ICCV 2019), as a model of steps.

Clips and sentences become unit vectors (`zoo.networks.text_video`); a step's score at a second is the dot product of
that second's and its name's. A clip's features are those of a 2D and of a 3D network, one after another, each the
maximum over the clip's rows and of length one (`zoo.networks.text_video.clip_features`). Words are looked up in a table
of word2vec, which is no part of the published weights: give ``word_vectors=FILE`` once, and the table travels in what
is saved.

It trains on batches of narrated clips, ``features`` float32 ``[B, P, D]`` of P clips of each of B videos and
``captions``, B lists of P texts, by the max-margin loss against clips of other videos and of the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Adam

from zoo.errors import DataError, WeightsError, ZooError
from zoo.hub.word_vectors import read_word_vectors
from zoo.methods.base import Recipe
from zoo.methods.step_models import StepModel
from zoo.networks.text_video import TextVideoEmbedding, max_margin_loss, split_caption
from zoo.registry import register
from zoo.spec import FeatureSpec, VideoSpec

DECAY = 0.9  # of the rate, after every epoch

#: 15 epochs in batches of 32 videos with 64 clips each.
RECIPE = Recipe(rate=1e-4, batch=32, epochs=15, schedule="constant", weight_decay=0.0)

_UNUSED = ".cg.batch_norm."  # in the published files, without a part in what is computed


class HowTo100MEmbedding(StepModel):
    """The two towers and a table of words."""

    def __init__(
        self,
        network: TextVideoEmbedding,
        streams: Sequence[int],
        *,
        words: Sequence[str] | None = None,
        word_vectors: str | None = None,
        max_words: int = 20,
        margin: float = 0.1,
        negative_weighting: bool = True,
        hard_negative_rate: float = 0.5,
        recipe: Recipe = RECIPE,
    ) -> None:
        """
        Args:
            network: both towers.
            streams: numbers in a row of each network's features, which follow each other.
            words: those of the table that the weights bring; none where it comes by ``word_vectors``.
            word_vectors: a file that `zoo.hub.word_vectors` reads; takes the place of the weights' own table.
            max_words: of a sentence; further ones are left out.
            margin: of the loss.
            negative_weighting: weigh the clips of the same video and of others.
            hard_negative_rate: share of those of the same video.
            recipe: how it is trained.
        """
        dim = network.GU_video.fc.in_features
        super().__init__(VideoSpec(frames=1, stride=1, features=FeatureSpec(dim=dim, samples="videos")), recipe)
        if any(width < 1 for width in streams) or sum(streams) != dim:
            raise ZooError(f"the features' streams {tuple(streams)} do not add up to {dim}, the numbers of a clip.")
        if max_words < 1 or not 0 < hard_negative_rate < 1:
            raise ZooError(
                f"max_words must be at least 1 and hard_negative_rate in 0..1, got {max_words}, {hard_negative_rate}."
            )
        self.network, self.streams = network, tuple(streams)
        self.max_words, self.margin = max_words, margin
        self.negative_weighting, self.hard_negative_rate = negative_weighting, hard_negative_rate
        self.word_dim = network.text_pooling.fc.in_features
        self.register_buffer("word_vectors", None)
        self._numbers: dict[str, int] = {}
        if words:
            self.take_words(words, torch.zeros(len(words), self.word_dim))
        self._given = read_word_vectors(word_vectors) if word_vectors else None
        if self._given and self._given[1].shape[1] != self.word_dim:
            raise WeightsError(
                f"{word_vectors}: its vectors have {self._given[1].shape[1]} numbers, the model takes {self.word_dim}. "
                "Give a table of that size, such as word2vec's of Google News, which has 300."
            )
        self.arguments = {"word_vectors": None, "words": list(words) if words else None}

    def take_words(self, words: Sequence[str], vectors: Tensor) -> None:
        """Use a table of words, which then is part of the model's state: ``vectors`` ``[V, word_dim]``."""
        self.word_vectors = vectors.to(self.network.text_pooling.fc.weight)
        self._numbers = {word: n for n, word in enumerate(words)}
        # The vectors travel in the weights; the file need not lie where the model is loaded.
        self.arguments |= {"word_vectors": None, "words": list(words)}

    def _settle(self) -> None:
        """The file that was given, in the weights' table's place: after they were loaded, for theirs may be another."""
        if self._given:
            given, self._given = self._given, None
            self.take_words(*given)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        result = super().load_state_dict(state_dict, strict, assign)
        self._settle()
        return result

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The published names, which ours are but for a prefix; normalisation that nothing uses is left out."""
        kept = {key: value for key, value in state.items() if _UNUSED not in key}
        parts = ("text_pooling.", "GU_text.", "GU_video.")
        if strangers := sorted(key for key in kept if not key.startswith(parts)):
            raise WeightsError(
                f"howto100m_embedding weights: no place for {', '.join(strangers[:5])}. Is this a checkpoint of the "
                "HowTo100M code's text-video embedding?"
            )
        return {f"network.{key}": torch.as_tensor(value) for key, value in kept.items()}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """Widths as the weights have them, and the words of their table."""
        names = ("words", "dim", "embedding", "word_dim", "sentence", "streams")
        asked = {name: said[name] for name in names if said.get(name) is not None}
        if (video := state.get("network.GU_video.fc.weight")) is not None:
            text = state["network.text_pooling.fc.weight"]
            asked |= {"embedding": video.shape[0], "dim": video.shape[1], "word_dim": text.shape[1]}
            asked |= {"sentence": text.shape[0]}
        return asked

    def forward(self, features: Tensor) -> Tensor:
        """Features of clips ``[..., D]`` to unit vectors ``[..., E]``."""
        return self.network.video(features)

    def scaled(self, features: Tensor) -> Tensor:
        """Rows ``[..., D]``, each stream of them of length one, as the networks were trained."""
        return torch.cat([normalize(part, dim=-1) for part in features.split(self.streams, -1)], -1)

    def words(self, sentence: str) -> tuple[list[int], list[str]]:
        """The rows of a sentence's words in the table, and the words that it lacks.

        A word is looked up as it stands, as published, then in lower case.
        """
        self._settle()
        if self.word_vectors is None:
            raise ZooError(
                f"{self.name or 'howto100m_embedding'} has no word vectors, which are no part of the published "
                "weights: give word_vectors=FILE (--model.word_vectors FILE), such as "
                "GoogleNews-vectors-negative300.bin."
            )
        found, unknown = [], []
        for word in split_caption(sentence):
            number = self._numbers.get(word, self._numbers.get(word.lower()))
            unknown.append(word) if number is None else found.append(number)
        return found, unknown

    def encode_text(self, sentences: Sequence[str], *, strict: bool = False) -> Tensor:
        """Sentences to unit vectors, ``[C, E]``. Unknown words are left out; one of these alone is all padding.

        Args:
            sentences: C texts.
            strict: refuse a sentence without a known word.

        Raises:
            ZooError: there are no word vectors, or such a sentence.
        """
        rows = [self.words(sentence) for sentence in sentences]
        for sentence, (found, unknown) in zip(sentences, rows, strict=True):
            if strict and not found:
                raise ZooError(
                    f"no word of {sentence!r} is in the table of word vectors "
                    f"({', '.join(unknown) or 'it has no words'}): its score would mean nothing. Say it in other "
                    "words, or give another table."
                )
        table = self.word_vectors.new_zeros(len(sentences), self.max_words, self.word_dim)
        for row, (found, _) in zip(table, rows, strict=True):
            row[: len(found[: self.max_words])] = self.word_vectors[found[: self.max_words]]
        return self.network.text(table)

    def step_scores(self, features: Tensor, names: Sequence[str], task: str = "") -> Tensor:
        """Similarities of clips and names of steps, ``[T, K]``, in -1..1."""
        return self(self.scaled(features)) @ self.encode_text(names, strict=True).T

    def protocol(self) -> dict[str, Any]:
        """With what is compared."""
        said = super().protocol()
        return {**said, "in_words": f"{said['in_words']}; similarity of clip and name"}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if "captions" not in batch:
            raise DataError(
                f"{self.name} learns from narrated clips (features [B, P, D] and captions, B lists of P texts), and "
                "this data serves none; see zoo.networks.text_video.clip_features and merge_captions."
            )
        features, captions = batch["features"], [text for texts in batch["captions"] for text in texts]
        pairs = features.shape[1]
        if len(captions) != features.shape[0] * pairs:
            raise DataError(f"{len(captions)} captions for {features.shape[0]} x {pairs} clips: each clip wants one.")
        similarity = self.encode_text(captions) @ self(self.normalize(features.flatten(0, 1))).T
        loss = max_margin_loss(
            similarity, pairs, self.margin, self.hard_negative_rate, weighted=self.negative_weighting
        )
        self.log("train_loss", loss, prog_bar=True, batch_size=len(features))
        return loss

    def setup(self, stage: str) -> None:
        self._settle()
        super().setup(stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the words that were trained with."""
        words, table = checkpoint.get("zoo", {}).get("arguments", {}).get("words"), None
        if words:
            table = checkpoint["state_dict"].get("word_vectors")
        if table is not None:
            self._given = None
            self.take_words(words, table)
        super().on_load_checkpoint(checkpoint)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam, its rate times 0.9 after every epoch."""
        optimizer = Adam(self.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


@register("howto100m_embedding", paper="miech2019howto100m")
def howto100m_embedding(
    dim: int | None = None,
    embedding: int | None = None,
    streams: list[int] | None = None,
    word_vectors: str | None = None,
    words: list[str] | None = None,
    word_dim: int | None = None,
    sentence: int | None = None,
    max_words: int = 20,
    margin: float = 0.1,
    negative_weighting: bool = True,
    hard_negative_rate: float = 0.5,
    learning_rate: float | None = None,
) -> HowTo100MEmbedding:
    """Similarity of clips and the names of steps, in a space that narrated videos were embedded into.

    Args:
        dim: numbers in a clip's features; 4096 by default, or as the weights have it, as are the widths below.
        embedding: numbers in a vector of the joint space; 6144, as released (4096 in the published command).
        streams: numbers that each network has of the features; two halves, 2D and 3D, by default.
        word_vectors: a file of word vectors: word2vec's .bin, an .npz of words and vectors, or one of `zoo words`.
        words: those of the table that the weights bring.
        word_dim: numbers in a word's vector; 300.
        sentence: width of the maximum over words; that of the joint space by default.
        max_words: of a sentence.
        margin: of the loss.
        negative_weighting: weigh negatives of the same video and of others in training.
        hard_negative_rate: share of those of the same video.
        learning_rate: in place of the recipe's own.
    """
    dim = dim or 4096
    return HowTo100MEmbedding(
        TextVideoEmbedding(dim, embedding or 6144, word_dim or 300, sentence),
        [dim // 2, dim - dim // 2] if streams is None else streams,
        words=words,
        word_vectors=word_vectors,
        max_words=max_words,
        margin=margin,
        negative_weighting=negative_weighting,
        hard_negative_rate=hard_negative_rate,
        recipe=RECIPE.with_rate(learning_rate),
    )
