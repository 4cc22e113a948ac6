"""MIL-NCE (Miech et al., "End-to-end learning of visual representations from uncurated instructional videos", CVPR
2020): a tower for clips and one for sentences, whose dot product is high where what is said is also seen.

A clip's narration is often a little early or late, so several sentences near it are candidates, and one good one among
them is enough: the positives of a clip are summed before they are held against everything else (`milnce_loss`).

`zoo.methods.actionness` scores the mean of this network's ``mixed_5c``. The released weights are those of the PyTorch
port; the paper of actionness used the I3D of the same training, which was published for TensorFlow only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.optim import Adam

from zoo.data.transforms import test_views
from zoo.errors import DataError, ZooError, require_top
from zoo.methods.base import Recipe, ScoredModule
from zoo.metrics.text_to_clip import TextToClip
from zoo.networks.dictionary import Dictionary
from zoo.networks.s3d import S3D
from zoo.networks.sentences import WORDS, SentenceEncoder, tokenize
from zoo.registry import register
from zoo.spec import VideoSpec

DICTIONARY = "dictionary"  # what the words of a published file are called among its tensors
_TEXT = "text_module."

RECIPE = Recipe(rate=1e-3, batch=512, iterations=300_000, schedule="cosine", warmup=5_000, weight_decay=0.0)
"""Adam with a linear warm-up and a cosine, as the public training code has it; the lengths are ours."""


def milnce_loss(video: Tensor, text: Tensor) -> Tensor:
    """The negative log of the share that a clip's candidate sentences have in all pairs with it or with them (Eq. 1).

    A pair weighs ``exp`` of its dot product; a clip's own pairs stand in the denominator twice, as in the public code.

    Args:
        video: embeddings of clips ``[B, D]``.
        text: embeddings of their candidates ``[B * C, D]``, clip after clip.
    """
    scores = (video @ text.T).unflatten(1, (len(video), -1))  # [B, B, C]
    own = scores.diagonal().T  # [B, C]
    every = torch.cat([scores.flatten(1), scores.transpose(0, 1).flatten(1)], 1)
    return (every.logsumexp(1) - own.logsumexp(1)).mean()


@dataclass(frozen=True)
class Sentence:
    """A sentence, and how well it goes with a video: a dot product without a scale of its own."""

    label: str
    score: float


class MilNce(ScoredModule):
    """The two towers, and the words that the second one knows."""

    task = "video-text-to-text"
    example = 'model.predict("clip.mp4", texts=["pour the milk", "jack up the car"])'

    def __init__(
        self,
        video: S3D,
        text: SentenceEncoder,
        *,
        spec: VideoSpec,
        recipe: Recipe = RECIPE,
        length: int = WORDS,
        freeze_words: bool = True,
    ) -> None:
        """
        Args:
            video: the tower for clips.
            text: that for sentences.
            spec: what the first wants to eat.
            recipe: how both are trained.
            length: words of a sentence.
            freeze_words: the table of words does not learn.
        """
        super().__init__(spec, recipe)
        self.video, self.text = video, text
        self.words = Dictionary(text.word_embd.num_embeddings - 1)
        self.length = length
        text.word_embd.requires_grad_(not freeze_words)
        self.val_metrics, self.test_metrics = TextToClip(), TextToClip()

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The port's names to ours, and those of the training code, which begin with ``module.``."""
        ours: dict[str, Tensor] = {}
        for key, value in state.items():
            name = key.removeprefix("module.")
            if name == DICTIONARY:
                continue
            tower = f"text.{name.removeprefix(_TEXT)}" if name.startswith(_TEXT) else f"video.{name}"
            ours[tower] = torch.as_tensor(value)
        # A file alone tells the numbers of words and not the words: `read_dictionary` does.
        rows = len(ours["text.word_embd.weight"]) - 1 if "text.word_embd.weight" in ours else 0
        words = Dictionary(rows)
        if DICTIONARY in state:
            words.fill(state[DICTIONARY])
        return {**ours, **{f"words.{key}": value for key, value in words.state_dict().items()}}

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """The stem, and how many words are known."""
        asked: dict[str, Any] = {}
        if "video.conv1.conv1.weight" in state:
            asked["space_to_depth"] = state["video.conv1.conv1.weight"].shape[2] == 2
        if "text.word_embd.weight" in state:
            asked["num_words"] = len(state["text.word_embd.weight"])
        return {**said, **asked}

    def read_dictionary(self, path: str | os.PathLike) -> None:
        """Take the words from a file of theirs, such as the release's ``s3d_dict.npy``: an array of texts, in order.

        Raises:
            WeightsError: it is no such file, or has another number of words than the table.
        """
        self.words.fill(Dictionary.read(path))

    def protocol(self) -> dict[str, Any]:
        """Retrieval of clips by their narration."""
        spec = self.spec
        size = f"{spec.test_crop} pixels at short side {spec.test_short_side}"
        seen = f"{spec.frames} frames at {spec.fps:g} a second, {size}"
        words = f"every clip's sentence against all clips, by the dot product; {seen}"
        return {"frames": spec.frames, "fps": spec.fps, "crop": spec.test_crop, "in_words": words}

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, T, H, W]``, RGB in 0..1, to embeddings ``[B, D]``."""
        return self.video(clips)

    def features(self, clips: Tensor) -> Tensor:
        """The mean of ``mixed_5c``, ``[B, 1024]``: what actionness is learned on; see `ZooModule.features`."""
        return self.video.mixed_5c_pooled(self.normalize(clips)).float()

    def tokenize(self, sentences: Sequence[str]) -> Tensor:
        """Sentences to word numbers, int64 ``[N, length]``; unknown words are left out.

        Raises:
            ZooError: no word is known, for the weights came without their dictionary.
        """
        if not self.words.numbers:
            raise ZooError(
                f"{self.name} has no dictionary, so it cannot read: model.read_dictionary('s3d_dict.npy') takes the "
                "published one."
            )
        return tokenize(sentences, self.words.numbers, self.length).to(self.device)

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """Embeddings of sentences ``[N, D]``."""
        return self.text(self.tokenize(sentences))

    def step_scores(self, features: Tensor, names: Sequence[str], task: str = "") -> Tensor:
        """How well each row of features goes with each step's name, ``[T, 1024]`` to ``[T, K]`` (the f_k of Eq. 4).

        Args:
            features: of this network.
            names: of the steps.
            task: unused; a name says enough.
        """
        return linear(features, self.video.fc.weight, self.video.fc.bias) @ self.encode_text(names).T

    @torch.inference_mode()
    def predict(self, video: str | os.PathLike, texts: Sequence[str], top: int = 5) -> list[Sentence]:
        """Sentences by how well they go with a video, best first.

        Args:
            video: any file that FFmpeg decodes; as many clips of it as the spec says.
            texts: sentences to choose from.
            top: how many; all where there are fewer.

        Raises:
            zoo.VideoError: the file cannot be decoded.
            zoo.ZooError: there is nothing to choose from, or no dictionary; ``top`` is below 1.
        """
        require_top(top)
        if isinstance(texts, str) or not len(texts):
            raise ZooError(
                f"{self.name} chooses among sentences: give it texts=['pour the milk', 'cut the bread'], on the "
                "command line --text."
            )
        was_training, _ = self.training, self.eval()
        try:
            clips = self.normalize(test_views(video, self.spec, None).to(self.device))
            scores = (self(clips) @ self.encode_text(texts).T).mean(0)
        finally:
            self.train(was_training)
        order = scores.argsort(descending=True)[:top].tolist()
        return [Sentence(texts[n], float(scores[n])) for n in order]

    def on_fit_start(self) -> None:
        """Learn the words of the data's narration where none are known yet: the most frequent, as many as fit."""
        super().on_fit_start()
        if not self.words.numbers:
            data = self.trainer.datamodule
            if not hasattr(data, "vocabulary"):
                raise DataError(
                    f"{self.name} learns from narrated videos, and this data says nothing: --data howto100m."
                )
            self.words.learn(data.vocabulary(self.words.room))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        video = self(self.normalize(batch["clips"]))
        text = self.encode_text([sentence for candidates in batch["captions"] for sentence in candidates])
        if self.trainer.world_size > 1:  # every process's clips are negatives of every other's
            video, text = (self.all_gather(x, sync_grads=True).flatten(0, 1) for x in (video, text))
        with torch.autocast(self.device.type, enabled=False):  # dot products of embeddings outgrow half precision
            loss = milnce_loss(video.float(), text.float())
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["clips"]))
        return loss

    def _score(self, batch: dict[str, Any], metric: TextToClip) -> None:
        if not len(batch["clips"]):  # a process that could read nothing takes part in the gather all the same
            nothing = torch.empty(0, self.video.fc.out_features, device=self.device)
            metric.update(nothing, nothing, batch["index"])
            return
        text = self.encode_text([candidates[0] for candidates in batch["captions"]])
        metric.update(self(self.normalize(batch["clips"])), text, batch["index"])

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with a warm-up and a cosine."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.scheduled(Adam(learning, self.recipe.rate))


_SPEC = VideoSpec(
    frames=32, stride=1, fps=10, crop=224, short_side=(256, 256), test_crop=224, test_short_side=256, clips=4, crops=1,
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


@register("s3d_milnce", paper="miech2020milnce")
def s3d_milnce(
    space_to_depth: bool = True,
    num_words: int = 66250,
    freeze_words: bool = True,
    rate: float | None = None,
) -> MilNce:
    """S3D-G and a bag of words, embedded side by side; 32 frames, 10 a second.

    Args:
        space_to_depth: the stem of the released weights; False for that of the public training code.
        num_words: rows of the word table, one more than there are words.
        freeze_words: the table does not learn; say False from scratch, for it is random then.
        rate: learning rate in place of the recipe's.
    """
    return MilNce(
        S3D(space_to_depth=space_to_depth),
        SentenceEncoder(num_words),
        spec=_SPEC,
        recipe=RECIPE.with_rate(rate),
        freeze_words=freeze_words,
    )


@register("s3d_milnce_tiny", paper="miech2020milnce", summary="S3D-G an eighth as wide, for the sandbox's films")
def s3d_milnce_tiny(
    num_words: int = 128, freeze_words: bool = False, space_to_depth: bool = True, rate: float | None = None
) -> MilNce:
    """S3D-G an eighth as wide with a small bag of words; 8 frames of 64 pixels, 5 a second.

    Args:
        num_words: rows of the word table, one more than there are words.
        freeze_words: the table does not learn.
        space_to_depth: the stem of the released weights; False for that of the public training code.
        rate: learning rate in place of the recipe's.
    """
    spec = _SPEC.replace(frames=8, fps=5, crop=64, short_side=(64, 64), test_crop=64, test_short_side=64, clips=2)
    recipe = Recipe(rate=1e-3, batch=64, iterations=2_000, schedule="cosine", warmup=100, weight_decay=0.0)
    return MilNce(
        S3D(embedding=64, space_to_depth=space_to_depth, width=0.125),
        SentenceEncoder(num_words, 32, 128, 64),
        spec=spec,
        recipe=recipe.with_rate(rate),
        freeze_words=freeze_words,
    )
