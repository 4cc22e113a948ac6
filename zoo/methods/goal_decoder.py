"""Goals in words: a linear read-out of subject, verb and object from a frozen representation (section 4 of
"Video representations of goals emerge from watching failure", Epstein and Vondrick 2020).

Clips before the failure are taught the goal, clips from the failure on what went wrong. Words are compared with a text
encoder's vectors (`zoo words`). A test pools the scores of each of the two segments (Table 2) and, when asked to,
corrects the second one and says how the words move (Table 3).

In training the released code scrambles the labels of items with more than one clip; what it means to do is done here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from zoo.data.clip_sampling import INTENTIONAL
from zoo.errors import DataError, ZooError, require_top
from zoo.hub.words import read_words
from zoo.methods.base import Recipe, ZooModule
from zoo.methods.goal_trajectory import RECIPE, from_release
from zoo.methods.intentionality import EPS, Intentionality, finite, started
from zoo.metrics.svo import POSITIONS, SEGMENTS, SvoScore, SvoShift
from zoo.networks.svo import SvoHead, svo_loss
from zoo.registry import create, register

Correct = Literal["adversarial", "linearized"]

_MISSING = -1
_DECODER = {
    "svo_decoder_head.1.weight": "decoder.linear.weight",
    "svo_decoder_head.1.bias": "decoder.linear.bias",
    "svo_decoder_embs.weight": "decoder.words",
}


@dataclass(frozen=True)
class Word:
    """A word and its probability among all."""

    word: str
    score: float


@dataclass(frozen=True)
class Description:
    """What a video's clips are read as, the likeliest words first, by ``"subject"``, ``"verb"`` and ``"object"``.

    Attributes:
        video: the file.
        failure: the first moment, in seconds, that does not read as intentional; None where all do.
        intentional: of the clips that do, None where none does.
        unintentional: of the others, None where there are none.
        corrected: of the same after auto-correct; None too where the video is too long for it.
    """

    video: str
    failure: float | None
    intentional: dict[str, list[Word]] | None
    unintentional: dict[str, list[Word]] | None
    corrected: dict[str, list[Word]] | None


class GoalDecoder(ZooModule):
    """A frozen model of intentionality and a linear layer to word vectors."""

    starts_from_files = True
    task = "video-text-to-text"
    example = 'model.describe("clip.mp4")'

    def __init__(
        self,
        trunk: Intentionality,
        head: SvoHead,
        *,
        recipe: Recipe = RECIPE,
        clips: tuple[int, int] = (7, 9),
        autocorrect: Correct | None = None,
        drop: float = 0.5,
        epsilon: float = EPS,
    ) -> None:
        """
        Args:
            trunk: gives each clip a vector; does not learn.
            head: of the trajectory's width.
            recipe: how it is trained.
            clips: of a training trajectory.
            autocorrect: how a test corrects; None leaves that out.
            drop: probability that a word of the labels is left out of the loss (the release's ``svo_pred_prob``).
            epsilon: of AdamW.
        """
        spec = trunk.spec
        super().__init__(spec.replace(trajectory=replace(spec.trajectory, clips=clips)), recipe)
        if autocorrect not in (None, "adversarial", "linearized"):
            raise ZooError(f"autocorrect must be 'adversarial', 'linearized' or None, got {autocorrect!r}.")
        self.trunk, self.decoder = trunk.requires_grad_(False), head
        self.autocorrect, self.drop, self.epsilon = autocorrect, drop, epsilon
        self.val_metrics, self.test_metrics = SvoScore(), SvoScore()
        self.shift = SvoShift()

    def features(self, clips: Tensor) -> Tensor:
        """Those of its trunk; see `ZooModule.features`."""
        return self.trunk.features(clips)

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The released code's names to ours: a trajectory model with its decoder."""
        names = {key: key.removeprefix("module.") for key in state}
        decoder = {_DECODER[name]: torch.as_tensor(state[key]) for key, name in names.items() if name in _DECODER}
        return {**{f"trunk.{key}": value for key, value in from_release(state).items()}, **decoder}

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the trunk, or what the trunk can start from, under a fresh read-out."""
        own = self.trunk.state_dict()
        # A classifier's state may have the very names of a clip network's, with a head for other classes.
        fits = state.keys() == own.keys() and state["head.weight"].shape == own["head.weight"].shape
        trunk = state if fits else self.trunk.adapt(state)
        return started(self, "trunk.", {f"trunk.{key}": value for key, value in trunk.items()})

    def train(self, mode: bool = True) -> GoalDecoder:
        """Batch norm keeps its statistics; the rest (dropout) trains as anywhere."""
        super().train(mode)
        for module in self.trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def protocol(self) -> dict[str, Any]:
        """The trunk's, and how clips become one prediction."""
        words = "mean scores of the clips before the failure, and of those from it on, against all annotators' triples"
        how = f"; the latter also after {self.autocorrect} correction" if self.autocorrect else ""
        known = self.trunk.protocol()
        return {**known, "autocorrect": self.autocorrect, "in_words": f"{known['in_words']}; {words}{how}"}

    def forward(self, clips: Tensor) -> Tensor:
        """The normalised clips of one video ``[n, 3, T, H, W]`` to scores ``[n, 3, V]``."""
        with torch.no_grad():
            h, _ = self.trunk.trace(self.trunk.encode(clips), [len(clips)])
        return self.decoder(h)

    def setup(self, stage: str) -> None:
        """Refuse data whose words are not the model's."""
        data = self.trainer.datamodule
        if stage == "predict":
            return
        vocabulary = data.vocabulary if getattr(data, "goals", False) else None
        if not vocabulary:
            raise DataError(
                f"{self.name} learns goals in words, and the data serves none: --data oops with --data.goals true "
                "(goals=True in Python), on a release with goal annotations."
            )
        count = len(self.decoder.words)
        if len(vocabulary) != count:
            raise DataError(
                f"{self.name} knows {count} words, {data.name} has {len(vocabulary)}. Give it their "
                f"vectors (--model.words FILE, which `zoo words` writes) or --model.num_words {len(vocabulary)}."
            )
        if self.labels and tuple(self.labels) != tuple(vocabulary):
            raise DataError(
                f"{self.name}'s words are others, or in another order, than those of {data.name}: "
                "a score would mean nothing. Make its table from that vocabulary with `zoo words`."
            )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.labels = tuple(self.trainer.datamodule.vocabulary)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with torch.no_grad():
            phi = self.trunk.encode(self.normalize(batch["clips"]))
            h, _ = self.trunk.trace(phi, batch["lengths"].tolist())
        loss = self.loss(h, batch["svo"])
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["lengths"]))
        return finite(self, loss)

    def loss(self, h: Tensor, svo: Tensor) -> Tensor:
        """Of vectors ``[N, D]`` and a triple of words each, ``[N, 3]``, some of which are left out at random."""
        dropped = torch.rand(svo.shape, device=svo.device) < self.drop
        return svo_loss(self.decoder(h), svo.masked_fill(dropped, _MISSING))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, self.val_metrics, None)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, self.test_metrics, self.shift if self.autocorrect else None)

    def _score(self, batch: dict[str, Any], metric: SvoScore, shift: SvoShift | None) -> None:
        lengths = batch["lengths"].tolist()
        if not lengths:  # no video of this batch could be decoded
            return
        phi = self.trunk.features(batch["clips"])
        self.score(phi, lengths, batch["label"], batch["triples"], batch["index"].tolist(), metric, shift)

    def score(
        self,
        phi: Tensor,
        lengths: Sequence[int],
        label: Tensor,
        triples: Sequence[Mapping[str, Tensor]],
        videos: Sequence[int],
        metric: SvoScore,
        shift: SvoShift | None = None,
    ) -> None:
        """Feed the metrics with videos whose clips' features are known.

        Args:
            phi: of all clips, ``[N, D]``.
            lengths: clips of each video.
            label: of the clips ``[N]``; 0 is the first segment, what is above it the second.
            triples: of each video, by segment.
            videos: their numbers.
            metric: of Table 2.
            shift: of Table 3; None corrects nothing.
        """
        h, _ = self.trunk.trace(phi, lengths)
        parts = (part.split(list(lengths)) for part in (label, self.decoder(h)))
        for video, known, mark, scores in zip(videos, triples, *parts, strict=True):
            for segment, chosen in enumerate((mark == INTENTIONAL, mark > INTENTIONAL)):
                if chosen.any():
                    pooled = scores[chosen].mean(0)
                    metric.update(pooled, known[SEGMENTS[segment]], video=video, segment=segment)
        if shift is not None:
            self._score_corrected(phi, lengths, label > INTENTIONAL, triples, videos, shift)

    def _score_corrected(
        self,
        phi: Tensor,
        lengths: Sequence[int],
        wrong: Tensor,
        triples: Sequence[Mapping[str, Tensor]],
        videos: Sequence[int],
        shift: SvoShift,
    ) -> None:
        """Correct all videos together that are short enough for it, and compare their second segments' words."""
        marks = wrong.split(list(lengths))
        able = [i for i, mark in enumerate(marks) if mark.any() and self.trunk.can_correct(len(mark))]
        if not able:
            return
        features = phi.split(list(lengths))
        sizes, marks = [lengths[i] for i in able], [marks[i] for i in able]
        linear = self.autocorrect == "linearized"
        found = self.trunk.correct(torch.cat([features[i] for i in able]), sizes, torch.cat(marks), linear=linear)
        ways = (self.decoder(h).split(sizes) for h in (found.before, found.h))
        for i, mark, before, after in zip(able, marks, *ways, strict=True):
            shift.update(before[mark].mean(0), after[mark].mean(0), **triples[i], video=videos[i])

    def on_validation_epoch_end(self) -> None:
        self._report("val_", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._report("", self.test_metrics, *([self.shift] if self.autocorrect else []))

    def _report(self, prefix: str, *metrics: Any) -> None:
        values: dict[str, Tensor] = {}
        for metric in metrics:
            values = {**metric.compute(), **values}
            metric.reset()
        self.log_dict({f"{prefix}{k}": v.float() for k, v in values.items()}, prog_bar=False, batch_size=1)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = AdamW(self.decoder.parameters(), lr=recipe.rate, eps=self.epsilon, weight_decay=recipe.weight_decay)
        return optimizer if recipe.schedule == "constant" else self.scheduled(optimizer)

    def describe(self, video: str | os.PathLike, top: int = 5) -> Description:
        """What a video is about in words: what is meant, what goes wrong, and the latter after correction.

        Which clips go wrong is the trunk's own opinion.

        Args:
            video: any file that FFmpeg decodes.
            top: words of each position.

        Raises:
            zoo.VideoError: it cannot be decoded, or is shorter than one clip.
            zoo.ZooError: ``top`` is below 1.
        """
        require_top(top)
        was_training, _ = self.training, self.eval()
        try:
            seen = self.trunk.embed(video)
            wrong = seen.logits.argmax(-1) != INTENTIONAL
            after, phi = None, seen.phi.to(self.device)
            if wrong.any() and self.trunk.can_correct(len(wrong)):
                linear = self.autocorrect == "linearized"
                after = self.trunk.correct(phi, [len(wrong)], wrong, linear=linear).h
            with torch.no_grad():
                before = self.decoder(seen.h.to(self.device)).cpu()
                after = None if after is None else self.decoder(after).cpu()
        finally:
            self.train(was_training)

        def words(scores: Tensor | None, chosen: Tensor) -> dict[str, list[Word]] | None:
            return None if scores is None or not chosen.any() else self._words(scores[chosen].mean(0), top)

        failure = float(seen.times[wrong][0, 0]) if wrong.any() else None
        return Description(str(video), failure, words(before, ~wrong), words(before, wrong), words(after, wrong))

    def _words(self, scores: Tensor, top: int) -> dict[str, list[Word]]:
        values, numbers = scores.softmax(-1).topk(min(top, scores.shape[-1]))
        return {
            position: [Word(self.label(n), p) for p, n in zip(*found, strict=True)]
            for position, *found in zip(POSITIONS, values.tolist(), numbers.tolist(), strict=True)
        }


@register("goal_decoder", paper="epstein2020goals")
@register("goal_decoder_r3d18", paper="epstein2020goals", trunk="oops_r3d18")
def goal_decoder(
    trunk: Literal["goal_trajectory", "oops_r3d18"] = "goal_trajectory",
    num_words: int = 3615,
    word_dim: int = 768,
    words: str | None = None,
    freeze_words: bool = True,
    autocorrect: Correct | None = None,
    drop: float = 0.5,
    learning_rate: float | None = None,
) -> GoalDecoder:
    """Subject, verb and object, read off frozen vectors of clips; start from a trunk with ``--weights``.

    Args:
        trunk: registered model whose vectors are read.
        num_words: of the vocabulary.
        word_dim: of a word's vector.
        words: file of word vectors that `zoo words` wrote, in place of the two numbers and of random vectors.
        freeze_words: the vectors do not learn.
        autocorrect: how a test corrects the unintentional clips, for Table 3.
        drop: probability that a word is left out of the training loss.
        learning_rate: in place of the recipe's own.
    """
    recipe = RECIPE.with_rate(learning_rate)
    return _decoder(trunk, num_words, word_dim, words, freeze_words, recipe, autocorrect, drop, EPS)


@register("goal_decoder_tiny", paper="epstein2020goals", summary="goals in words on the sandbox")
@register("goal_decoder_cnn_tiny", paper="epstein2020goals", trunk="oops_cnn_tiny", summary="the same without context")
def tiny(
    trunk: Literal["goal_trajectory_tiny", "oops_cnn_tiny"] = "goal_trajectory_tiny",
    num_words: int = 32,
    word_dim: int = 32,
    words: str | None = None,
    freeze_words: bool = True,
    autocorrect: Correct | None = None,
    drop: float = 0.5,
    batch: int = 8,
    iterations: int = 300,
    learning_rate: float | None = None,
) -> GoalDecoder:
    """The read-out of the sandbox's models.

    Args:
        trunk: registered model whose vectors are read.
        num_words: of the vocabulary.
        word_dim: of a word's vector.
        words: file of word vectors, in place of the two numbers and of random vectors.
        freeze_words: the vectors do not learn.
        autocorrect: how a test corrects the unintentional clips.
        drop: probability that a word is left out of the training loss.
        batch: videos in a step of its recipe.
        iterations: steps of its recipe.
        learning_rate: in place of the recipe's own.
    """
    recipe = Recipe(3e-3, batch, iterations, "cosine", weight_decay=0.01).with_rate(learning_rate)
    return _decoder(trunk, num_words, word_dim, words, freeze_words, recipe, autocorrect, drop, epsilon=1e-8)


def _decoder(
    trunk: str,
    num_words: int,
    word_dim: int,
    words: str | None,
    freeze_words: bool,
    recipe: Recipe,
    autocorrect: Correct | None,
    drop: float,
    epsilon: float,
) -> GoalDecoder:
    known, table = read_words(words) if words else (None, None)
    if table is not None:
        num_words, word_dim = table.shape
    body = create(trunk)
    head = SvoHead(body.head.in_features, num_words, word_dim, freeze_words=freeze_words)
    model = GoalDecoder(body, head, recipe=recipe, autocorrect=autocorrect, drop=drop, epsilon=epsilon)
    if table is not None:
        head.words.data.copy_(table)
        model.labels = tuple(known)
        # The vectors travel in the weights; the file need not lie where the model is loaded.
        model.arguments = {"words": None, "num_words": num_words, "word_dim": word_dim}
    return model
