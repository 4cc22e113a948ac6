"""Asynchronous temporal fields: what is done in a video, how far it has got, with what, where, and to what end.

Sigurdsson, Divvala, Farhadi and Gupta 2017. A network looks at single frames and predicts the potentials of a
conditional random field over category, object, action, progress (and scene) of all frames and one intent of the video
(`zoo.networks.temporal_field`). Mean-field inference goes through the whole video (Eq. 5 and 6). Training takes one
frame at a time from as many videos as a batch has rows; what a frame would hear from the others of its video comes from
a message server (Eq. 10), and the gradients of Eq. 7-9 become a loss (`zoo.methods.temporal_field_loss`).

The paper and its Torch release differ; ``released`` follows the release, to which the published weights belong:

- time sees object and progress together, scenes are left out, an annotation's progress is divided by its end;
- the oldest of the messages count most, and log q is what is sent and scaled;
- a test multiplies the kernel into the messages again and again (`message_passing`, compounding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

from zoo.data.activities import ActivityVocabulary
from zoo.errors import DataError, WeightsError, ZooError
from zoo.methods.asynchronous import Asynchronous, rows_of
from zoo.methods.base import Recipe
from zoo.methods.classifier import Prediction
from zoo.methods.moments import Activities, MomentPrediction, MomentScore
from zoo.methods.temporal_field_keys import arguments_of_release, from_release
from zoo.methods.temporal_field_loss import (
    Told,
    from_mail,
    labels_from_mail,
    log_likelihood,
    minus_gradients,
    surrogate,
    told_by_all,
)
from zoo.methods.temporal_field_words import SPOKEN, spoken_arguments, vocabulary_of
from zoo.networks.field_head import FieldHead
from zoo.networks.message_server import MessageServer
from zoo.networks.temporal_field import Belief, Frames, Potentials, States, alternate, message_passing, towards_intent
from zoo.spec import VideoSpec

PROGRESS = ("start", "middle", "end")


@dataclass(frozen=True)
class Story(Activities):
    """What is done in a video, with what, how far it has got, where, and to what end.

    Attributes:
        objects: probabilities at every frame, float32 ``[T, O]``.
        verbs: ``[T, A]``.
        progress: ``[T, P]``: start, middle, end.
        scenes: ``[T, S]``; None where the model does not tell scenes apart.
        intent: of the video, ``[G]``; None of a model without intents. Intents have no names: they were never labelled.
    """

    objects: Tensor
    verbs: Tensor
    progress: Tensor
    scenes: Tensor | None
    intent: Tensor | None


@dataclass(frozen=True)
class FieldMoment(MomentPrediction):
    """The likeliest of everything at one frame, best first.

    Attributes:
        objects: what it is done with.
        verbs: what is done with it.
        progress: probability of each part of an activity.
        scenes: where; empty where the model does not tell.
        intent: probability of each of the video's unnamed intents; empty of a model without.
    """

    objects: tuple[Prediction, ...]
    verbs: tuple[Prediction, ...]
    progress: dict[str, float]
    scenes: tuple[Prediction, ...]
    intent: tuple[float, ...]


@dataclass(frozen=True)
class Field:
    """What a temporal field consists of, and how its messages are counted.

    Attributes:
        released: as the Torch release has it (see the module's docstring), not as the paper says.
        intents: G; 0 leaves the intent out (no phi_XI).
        pairwise: whether frames speak to each other of what comes before what (phi_XX).
        progress: parts of an activity that are told apart; 1 leaves progress out (no phi(P)).
        scenes: whether scenes are told apart.
        hidden: width within phi_XI; 0 makes it the same for all frames.
        sigma: of the kernel in images, 24 a second (Eq. 4).
        scale: h, which weighted means of messages are multiplied by (Eq. 10), in tests too.
        decay: d, what a message counts against its neighbour in the order of sending.
        memory: messages kept of a video.
        prior: lambda of the prior on phi_XI.
        passes: over a video in a test.
        rounds: of a frame's own inference in each.
        compounding: the release's slip in tests.
    """

    released: bool = True
    intents: int = 30
    pairwise: bool = True
    progress: int = 3
    scenes: bool = False
    hidden: int = 100
    sigma: float = 150.0
    scale: float = 0.1
    decay: float = 0.9
    memory: int = 50
    prior: float = 4e-4
    passes: int = 10
    rounds: int = 5
    compounding: bool = False

    def __post_init__(self) -> None:
        if self.progress not in (1, len(PROGRESS)):
            raise ZooError(f"progress has {len(PROGRESS)} parts, or 1 where it is left out, not {self.progress}.")
        if min(self.intents, self.hidden) < 0 or min(self.passes, self.rounds) < 1:
            raise ZooError(
                f"a field needs intents and hidden >= 0, passes and rounds >= 1; got {self.intents}, {self.hidden}, "
                f"{self.passes}, {self.rounds}."
            )


class TemporalFields(Asynchronous):
    """The paper's model on any network for frames.

    Attributes:
        vocabulary: what the numbers stand for.
        field: the options.
        states: a frame's possible states; those that no class has are impossible.
        learnt: whether its weights are more than a start, so that what they stand for is settled.
    """

    learnt: bool = False
    nesterov = True
    pooling = "maximum over the frames"

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        spec: VideoSpec,
        recipe: Recipe,
        field: Field,
        vocabulary: ActivityVocabulary,
        mu_start: float = 1.0,
        smooth: int = 15,
    ) -> None:
        super().__init__(spec=spec, recipe=recipe, num_classes=len(vocabulary.classes), smooth=smooth)
        self.backbone, self.width, self.field, self.mu_start = backbone, features, field, mu_start
        self._speak(vocabulary)

    def _speak(self, vocabulary: ActivityVocabulary) -> None:
        """Make the field of a vocabulary, its weights fresh."""
        field, self.vocabulary = self.field, vocabulary
        self.num_classes = len(vocabulary.classes)
        self.val_metrics, self.test_metrics = MomentScore(self.num_classes), MomentScore(self.num_classes, self.smooth)
        self.states, pair_of_class = field_states(vocabulary, field)
        self.register_buffer("pair_of_class", pair_of_class, persistent=False)
        self.head = FieldHead(
            self.width,
            self.states,
            field.intents,
            pairwise=field.pairwise,
            hidden=field.hidden,
            cut=field.released,
            mu_start=self.mu_start,
        )
        widths = {"q": self.states.units, "label": 1}
        if field.intents:
            widths |= {"wish": field.intents, "label_wish": field.intents}
        emphasis = "oldest" if field.released else "recent"
        self.server = MessageServer(widths, field.memory, field.decay, emphasis, field.sigma, strict=not field.released)

    def setup(self, stage: str) -> None:
        """Take over the objects, verbs and mapping of the data where nothing was learnt yet; else they must agree."""
        spoken = getattr(self.trainer.datamodule, "vocabulary", None)
        if spoken is not None and spoken != self.vocabulary:
            if not self.learnt and self.arguments.get("mapping") is None:
                self._take_over(spoken, stage)
            elif spoken.mapping != self.vocabulary.mapping and spoken.classes != self.vocabulary.classes:
                # Of the same classes, the mapping holds that the weights were trained with.
                raise DataError(
                    f"{self.name} was built for other objects and verbs than those of {self.trainer.datamodule.name} "
                    f"({len(self.vocabulary.mapping)} and {len(spoken.mapping)} classes). Start from a fresh head "
                    "(without --weights of this model and without --model.mapping), or give the data its own files."
                )
        super().setup(stage)

    def _take_over(self, spoken: ActivityVocabulary, stage: str) -> None:
        if stage == "fit" and isinstance(self.trainer.strategy.launcher, _MultiProcessingLauncher):
            # Its processes hand back weights alone, which would not fit the model that stayed here.
            raise DataError(
                f"{self.name} is made for other objects and verbs than those of {self.trainer.datamodule.name}, and "
                "what processes take over that were spawned or forked does not come back. Train with strategy 'ddp', "
                f"or make it for the data: zoo.create({self.name!r}, **spoken_arguments(data.vocabulary)) with "
                "zoo.methods.temporal_field_words.spoken_arguments."
            )
        self._speak(spoken)
        self.to(device=self.device, dtype=self.dtype)
        self.arguments |= spoken_arguments(spoken)

    def on_fit_start(self) -> None:
        """From here on the weights belong to these words, and its checkpoints name them."""
        super().on_fit_start()
        self.learnt = True
        self.arguments |= spoken_arguments(self.vocabulary)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the objects and verbs that the weights were trained on.

        Raises:
            WeightsError: they were trained on other classes.
        """
        said = checkpoint.get("zoo", {}).get("arguments", {})
        if said.get("mapping") is not None:
            spoken = vocabulary_of(*(said.get(name) for name in spoken_arguments(self.vocabulary)))
            if spoken.classes != self.vocabulary.classes:
                raise WeightsError(
                    f"the checkpoint's {self.name} was trained on other classes ({len(spoken.classes)}: "
                    f"{spoken.classes[0]!r}, ...) than this one is for ({len(self.vocabulary.classes)}: "
                    f"{self.vocabulary.classes[0]!r}, ...). Give the data that it was trained on."
                )
            if spoken != self.vocabulary:
                self._speak(spoken)
                self.to(device=self.device, dtype=self.dtype)
        super().on_load_checkpoint(checkpoint)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        own = self.head.state_dict(prefix="head.")
        given = {key: state_dict[key] for key in own if key in state_dict}
        # A start has this very head, and another network under it; see `adapt`.
        self.learnt |= any(value.data_ptr() != own[key].data_ptr() for key, value in given.items())
        return super().load_state_dict(state_dict, *args, **options)

    def forward(self, frames: Tensor) -> Potentials:
        """Normalised frames ``[B, C, S, S]`` to their potentials."""
        return self.head(self.backbone(frames))

    # Training

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss, likelihood = self.loss(self(self.inputs(batch)), batch)
        values = {"train_loss": loss, "log_likelihood": likelihood}
        self.log_dict(values, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def loss(self, phi: Potentials, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The surrogate loss of a batch, and the mean of log Q_i of its labels; sends the batch's messages."""
        label, scene = self._labels(batch)
        learn = self._together if self.spec.moments.together > 1 else self._asynchronously
        with torch.autocast(label.device.type, enabled=False):
            gradients, likelihood = learn(phi.map(Tensor.detach), label, scene, batch)
            return surrogate(phi, gradients, self.field.prior), likelihood.mean()

    def _labels(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Numbers of the true states ``[B]``, and the scenes (-1: not known) where they are told apart."""
        progress = batch["progress"] if self.field.progress > 1 else torch.zeros_like(batch["progress"])
        state = self.states.number(self.pair_of_class[batch["label"]], progress)
        return state, None if self.states.scenes == 1 else batch["scene"]

    def _asynchronously(
        self, phi: Potentials, label: Tensor, scene: Tensor | None, batch: dict[str, Any]
    ) -> tuple[Potentials, Tensor]:
        """Algorithm 2 for B frames of any videos: get messages, infer, send, and what follows for the potentials."""
        field, states, scale = self.field, self.states, self.field.scale
        mail, heard, wish = self.hear(batch, phi.op), None, None
        if phi.mu is not None:
            heard = scale * (mail.gather("q", "past") @ phi.mu + mail.gather("q", "future") @ phi.mu.T)
        if phi.xi is not None:
            wish = scale * mail.gather("wish", "all", fade=False)
        belief = alternate(Frames(phi, states), heard, wish, field.rounds)
        messages = {"q": belief.u, "label": states.unit[label][:, None].float()}
        own = None
        if phi.xi is not None:
            own = phi.xi[torch.arange(len(label), device=label.device), states.unit[label]]
            messages |= {"wish": towards_intent(belief.u, phi.xi), "label_wish": own}
        self.exchange(batch, **messages)
        mail = self.hear(batch, phi.op)  # what this batch has just said is heard too
        told = Told(
            *from_mail(mail, scale, released=field.released),
            *labels_from_mail(mail, states.units, scale),
            None if own is None else scale * mail.gather("label_wish", "all", fade=False) + own,
        )
        gradients = minus_gradients(belief, phi, states, label, scene, told)
        return gradients, log_likelihood(belief, label, scene)

    def _together(
        self, phi: Potentials, label: Tensor, scene: Tensor | None, batch: dict[str, Any]
    ) -> tuple[Potentials, Tensor]:
        """The synchronous variant of section 4: whole videos in a batch, passes among their frames, no server."""
        parts, likelihoods = [], []
        k = self.spec.moments.together
        for first in range(0, len(label), k):
            rows = slice(first, first + k)
            video = Potentials(**{n: v if n == "mu" else v[rows] for n, v in phi.tensors().items()})
            times, truth = self.times(batch)[rows], label[rows]
            place = None if scene is None else scene[rows]
            belief = self.infer(video, times)
            told = told_by_all(belief, video, self.states, truth, times, self.field.sigma, self.field.scale)
            parts.append(minus_gradients(belief, video, self.states, truth, place, told).tensors())
            likelihoods.append(log_likelihood(belief, truth, place))
        gradients = Potentials(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        return gradients, torch.cat(likelihoods)

    # Looking at whole videos

    def infer(self, phi: Potentials, times: Tensor) -> Belief:
        """Message passing among the T frames of one video."""
        field = self.field
        how = (field.sigma, field.scale, field.passes, field.rounds)
        with torch.autocast(times.device.type, enabled=False):
            return message_passing(phi, self.states, times, *how, compounding=field.compounding)[-1]

    def beliefs(self, batch: dict[str, Any]) -> list[Belief]:
        """Of each video of a test batch."""
        phi = self(self.inputs(batch))
        parts = {n: rows_of(v, batch["lengths"]) for n, v in phi.tensors().items() if n != "mu"}
        videos = (
            Potentials(**dict(zip(parts, rows, strict=True)), mu=phi.mu) for rows in zip(*parts.values(), strict=True)
        )
        return [
            self.infer(one, when)
            for one, when in zip(videos, rows_of(self.times(batch), batch["lengths"]), strict=True)
        ]

    def classes_of(self, belief: Belief) -> Tensor:
        """P(category) of each frame, all else summed out; ``[T, C]``."""
        return self.states.categories_of(belief.q)[:, self.pair_of_class]

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Category probabilities of the frames, and their maxima for the video."""
        moments = [self.classes_of(belief) for belief in self.beliefs(batch)]
        return [(of_frames.amax(0), of_frames) for of_frames in moments]

    def told(self, video: str, batch: dict[str, Any]) -> Story:
        """Everything that the model tells of a video."""
        belief = self.beliefs(batch)[0]
        moments = self.classes_of(belief)
        told = {name: value.float().cpu() for name, value in self.states.every(belief.q).items()}
        return Story(
            video,
            self.seconds(batch),
            moments.float().cpu(),
            moments.amax(0).float().cpu(),
            told["object"],
            told["action"],
            told["progress"],
            told.get("scene"),
            None if belief.intent is None else belief.intent.mean(0).float().cpu(),
        )

    def frames(self, story: Story, top: int = 5) -> list[FieldMoment]:
        """Everything at each frame of what `watch` found, the likeliest ``top`` of each."""
        names = self.vocabulary
        intent = () if story.intent is None else tuple(story.intent.tolist())
        parts = PROGRESS if self.field.progress > 1 else ("whole",)
        return [
            FieldMoment(
                second,
                tuple(self.best(story.moments[t], top)),
                _best(story.objects[t], names.objects, top),
                _best(story.verbs[t], names.verbs, top),
                dict(zip(parts, story.progress[t].tolist(), strict=True)),
                () if story.scenes is None else _best(story.scenes[t], names.scenes, top),
                intent,
            )
            for t, second in enumerate(story.times.tolist())
        ]

    def protocol(self) -> dict[str, Any]:
        """With the inference of a test."""
        field = self.field
        passed = {"passes": field.passes, "rounds": field.rounds, "sigma": field.sigma, "scale": field.scale}
        said = super().protocol()
        said["in_words"] += f", {field.passes} message passes"
        return {**said, **passed, "compounding": field.compounding}

    @staticmethod
    def upstream_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The Torch release's weights, read layer by layer; see `zoo.methods.temporal_field_keys`."""
        return from_release(state)

    @staticmethod
    def upstream_arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        """The release's own mapping, where the file has it and the package another."""
        return arguments_of_release(state)

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """The same vocabulary."""
        return {name: said[name] for name in SPOKEN if said.get(name) is not None}


def field_states(vocabulary: ActivityVocabulary, field: Field) -> tuple[States, Tensor]:
    """The states that the classes of a vocabulary admit, and which category of the field each class is, ``[C]``.

    As released, classes with the same object and verb are one: these determine a category there. The paper's field
    knows each class by itself.
    """
    pairs = [tuple(pair) for pair in vocabulary.mapping]
    kinds = sorted(set(pairs)) if field.released else list(range(len(pairs)))
    category = {pair: n for n, pair in enumerate(kinds)}
    numbers = [category[pair if field.released else n] for n, pair in enumerate(pairs)]
    rows = {
        (numbers[n], thing, verb, progress)
        for n, (thing, verb) in enumerate(pairs)
        for progress in range(field.progress)
    }
    objects, verbs = len(vocabulary.objects), len(vocabulary.verbs)
    # The release's order: by object and progress, the object fastest, then by verb and progress.
    ordered = sorted(rows, key=lambda row: (row[3], row[1], row[2], row[0]))
    scenes = len(vocabulary.scenes) if field.scenes else 1
    states = States(ordered, (len(kinds), objects, verbs, field.progress), scenes, joint=field.released)
    return states, torch.tensor(numbers)


def _best(values: Tensor, names: Sequence[str], top: int) -> tuple[Prediction, ...]:
    scores, numbers = values.topk(min(top, len(values)))
    return tuple(Prediction(names[n], s, n) for s, n in zip(scores.tolist(), numbers.tolist(), strict=True))
