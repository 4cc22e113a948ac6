"""Whether what is done is meant, is just going wrong, or has gone wrong: models that label a video's clips.

The protocol is that of the goals code: a video is cut into clips of a second from its beginning, each gets one of three
labels, and the failure is where the second label is likeliest. A subclass says how clips become features and how these
become a trajectory; testing, prediction and correction are here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer

from zoo.data.clip_sampling import INTENTIONAL
from zoo.data.trajectories import whole_video_clips
from zoo.errors import WeightsError, ZooError
from zoo.methods.autocorrect import Corrected, Settings, auto_correct, extrapolate
from zoo.methods.base import Recipe, ScoredModule
from zoo.metrics.intentionality import CLASSES, IntentionalityScore
from zoo.networks.sequences import Layout
from zoo.spec import VideoSpec

EPS = 1e-4  # of the optimisers, as half precision wants it

_AT_ONCE = 16  # clips that the encoder takes at a time when nothing is learned


@dataclass(frozen=True)
class Moment:
    """A clip: when it is, in seconds, and the probabilities of the three labels."""

    start: float
    end: float
    intentional: float
    transitional: float
    unintentional: float


@dataclass(frozen=True)
class Timeline:
    """What is meant and what is not, over a video.

    Attributes:
        video: the file.
        moments: its clips in order.
        failure: the likeliest time, in seconds, at which things go wrong: the middle of the clip that is likeliest
            transitional.
        h: the trajectory, float32 ``[n, D]`` on the CPU.
    """

    video: str
    moments: tuple[Moment, ...]
    failure: float
    h: Tensor


@dataclass(frozen=True)
class Embedding:
    """A video's clips: seconds float64 ``[n, 2]``, features and trajectory float32 ``[n, D]``, logits ``[n, 3]``."""

    times: Tensor
    phi: Tensor
    h: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Correction:
    """A failed trajectory and what it would have been.

    Attributes:
        times: of the clips in seconds, float64 ``[n, 2]``.
        wrong: which clips were to be corrected, bool ``[n]``.
        before: the trajectory ``[n, D]``.
        after: the corrected one ``[n, D]``.
        logits_before: ``[n, 3]``.
        logits_after: ``[n, 3]``.
        iterations: steps that it took.
        done: whether all clips read as intentional in the end.
    """

    times: Tensor
    wrong: Tensor
    before: Tensor
    after: Tensor
    logits_before: Tensor
    logits_after: Tensor
    iterations: int
    done: bool


def failure_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """``L_fail``: cross-entropy of the labelled clips, each weighed by its class, over their number (section 3.2).

    Args:
        logits: ``[M, C]``.
        labels: ``[M]``; -1 does not count.
        weights: ``[C]``; the number that is divided by stays the plain one, as in the release.
    """
    weights = None if weights is None else weights.to(logits)
    total = cross_entropy(logits, labels, weights, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)


def class_weights(counts: Tensor) -> Tensor:
    """Inverse frequencies, 1 for the most frequent class and for one that never occurs; ``[C]``."""
    return torch.where(counts > 0, counts.max() / counts.clamp(min=1), 1.0).float()


def finite(module: nn.Module, loss: Tensor) -> Tensor:
    """The loss, or a zero with zero gradients in place of one that is not finite (the release skips such a batch)."""
    if loss.isfinite():
        return loss
    warnings.warn(f"a training batch was skipped: its loss is {float(loss.detach())}.", stacklevel=2)
    # Processes that train together all want a gradient of every parameter.
    return sum((p.nan_to_num() * 0).sum() for p in module.parameters() if p.requires_grad)


def started(
    module: nn.Module, prefix: str, taken: Mapping[str, Tensor], fresh: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The module's own state with everything below ``prefix`` replaced, but for names that begin with ``fresh``.

    Raises:
        WeightsError: what was taken is not just that part.
    """
    own = module.state_dict()
    wanted = {key: value.shape for key, value in own.items() if key.startswith(prefix) and not key.startswith(fresh)}
    found = {key: value.shape for key, value in taken.items()}
    if wrong := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        raise WeightsError(
            f"{type(module).__name__} cannot start from these weights: {len(wrong)} of {len(wanted)} entries of its "
            f"{prefix.rstrip('.')} are missing or of another shape, such as {wrong[0]}. Take those of the same "
            "network, built with the same arguments."
        )
    return {**own, **taken}


class Intentionality(ScoredModule):
    """The parent of models of intentionality."""

    starts_from_files = True
    longest: int | None = None  # clips that one trajectory may have
    optimizer: type[Optimizer] = AdamW

    def __init__(
        self,
        width: int,
        *,
        spec: VideoSpec,
        recipe: Recipe,
        num_classes: int = 3,
        weighted: bool = True,
        epsilon: float = EPS,
    ) -> None:
        """
        Args:
            width: of a clip's vector in the trajectory.
            spec: what it wants to eat; has a trajectory.
            recipe: how it is trained.
            num_classes: three; another number is refused.
            weighted: weigh the labels by their inverse frequency in the training data.
            epsilon: of the optimiser.
        """
        super().__init__(spec, recipe)
        if num_classes != len(CLASSES):
            raise ZooError(f"{type(self).__name__} tells {', '.join(CLASSES)} apart, not {num_classes} classes.")
        self.head = nn.Linear(width, num_classes)
        self.num_classes = num_classes
        self.labels = CLASSES
        self.weighted, self.epsilon = weighted, epsilon
        self.register_buffer("class_weights", None, persistent=False)
        self.correction = Settings()
        self.val_metrics = IntentionalityScore()
        self.test_metrics = IntentionalityScore()

    def encode(self, clips: Tensor) -> Tensor:
        """Normalised clips ``[N, 3, T, H, W]`` to features ``[N, D]``, each by itself."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a clip becomes a vector.")

    def layout(self, lengths: Sequence[int], firsts: Sequence[int] | None = None) -> Layout:
        """How the clips of videos stand in sequences, each split after its ``firsts`` first where given."""
        raise NotImplementedError(f"{type(self).__name__} does not say how clips stand in a sequence.")

    def contextualize(self, phi: Tensor, layout: Layout) -> Tensor:
        """Features ``[N, D]`` to the trajectory at all tokens ``[B, K, D]``."""
        raise NotImplementedError(f"{type(self).__name__} does not say how features become a trajectory.")

    def classify(self, h: Tensor) -> Tensor:
        """Trajectory ``[..., D]`` to logits of the three labels ``[..., 3]``."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it labels.")

    def coherence(self, h: Tensor) -> Tensor | None:
        """Trajectory ``[B, K, D]`` to logits ``[B, 2]`` of perturbed and consistent; None without such a head."""
        return None

    def forward(self, clips: Tensor) -> Tensor:
        """The normalised clips of one video ``[n, 3, T, H, W]`` to logits ``[n, 3]``."""
        return self.trace(self.encode(clips), [len(clips)])[1]

    def trace(self, phi: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features of videos' clips ``[N, D]`` to their trajectories ``[N, D]`` and logits ``[N, 3]``.

        A video that is longer than a trajectory can be is followed in parts of about the same length.
        """
        layout = self.layout([part for length in lengths for part in self._parts(length)]).to(phi.device)
        h = layout.collect(self.contextualize(phi, layout))
        return h, self.classify(h)

    def _parts(self, length: int) -> list[int]:
        if self.longest is None or length <= self.longest:
            return [length]
        count = -(-length // self.longest)
        return [length * (i + 1) // count - length * i // count for i in range(count)]

    def features(self, clips: Tensor) -> Tensor:
        """`encode` of many clips, not normalised, a few at a time; see `ZooModule.features`."""
        return torch.cat([self.encode(self.normalize(part)) for part in clips.split(_AT_ONCE)])

    def protocol(self) -> dict[str, Any]:
        """How a video is cut when tested."""
        spec, cut = self.spec, self.spec.trajectory
        seconds = cut.step * cut.stride / spec.fps
        scale = "x".join(map(str, spec.size)) if spec.size else f"short side {spec.test_short_side}"
        limit = "all clips" if cut.cap is None else f"the first {-(-cut.cap // cut.stride)} clips at most"
        words = f"clips of {spec.frames} frames at {spec.fps:g} a second, one every {seconds:g} s, {limit}"
        return {
            "frames": spec.frames,
            "fps": spec.fps,
            "seconds_between_clips": seconds,
            "cap": cut.cap,
            "crop": spec.test_crop,
            "short_side": spec.test_short_side,
            "size": list(spec.size) if spec.size else None,
            "precision": "32-bit floats",
            "in_words": f"{words}; {spec.test_crop} pixels of {scale}; any annotator's time counts",
        }

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """For every video of the batch: its ``index``, and of its clips ``times`` and ``probabilities``."""
        logits = self._logits(batch).softmax(-1).cpu().split(batch["lengths"].tolist())
        times = torch.from_numpy(batch["times"]).split(batch["lengths"].tolist())
        return [
            {"index": int(index), "times": when, "probabilities": probabilities}
            for index, when, probabilities in zip(batch["index"], times, logits, strict=True)
        ]

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        if not len(batch["lengths"]):  # no video of this batch could be decoded
            return torch.zeros(0, self.num_classes, device=self.device)
        return self.trace(self.features(batch["clips"]), batch["lengths"].tolist())[1]

    def _score(self, batch: dict[str, Any], metric: IntentionalityScore) -> None:
        lengths = batch["lengths"].tolist()
        parts = (
            part.split(lengths) for part in (self._logits(batch), batch["label"], torch.from_numpy(batch["times"]))
        )
        for video, (logits, label, times) in enumerate(zip(*parts, strict=True)):
            metric.update(
                logits,
                label,
                times,
                annotated=torch.from_numpy(batch["annotated"][video]),
                duration=float(batch["duration"][video]),
                video=int(batch["index"][video]),
            )

    def on_fit_start(self) -> None:
        """Count the labels that the data will show, once, for the weights of the failure loss."""
        super().on_fit_start()
        count = getattr(self.trainer.datamodule, "class_counts", None)
        if self.weighted and count is not None:
            self.class_weights = class_weights(count()).to(self.device)

    def configure_optimizers(self) -> Any:
        """Of Adam's kind; the rate is not scaled with the batch, for it scales itself."""
        recipe = self.recipe
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = self.optimizer(learning, lr=recipe.rate, eps=self.epsilon, weight_decay=recipe.weight_decay)
        return optimizer if recipe.schedule == "constant" and not recipe.warmup else self.scheduled(optimizer)

    @torch.no_grad()  # not inference mode: what is embedded may be corrected by gradients
    def embed(self, video: str | os.PathLike, stride: float = 1.0) -> Embedding:
        """A video's clips as vectors, in memory that does not grow with its pixels.

        Args:
            video: any file that FFmpeg decodes, of any length.
            stride: seconds from one clip's beginning to the next, a multiple of a quarter with the paper's clips.

        Raises:
            zoo.VideoError: it cannot be decoded, or is shorter than one clip.
            ZooError: no clip begins so.
        """
        spec = self.spec
        step = stride * spec.fps / spec.trajectory.step
        if not 1 <= step < 1e6 or abs(step - round(step)) > 1e-6:  # nor NaN
            unit = spec.trajectory.step / spec.fps
            raise ZooError(f"stride {stride:g} s: {self.name} begins a clip every {unit:g} s; give a multiple of that.")
        was_training, _ = self.training, self.eval()
        try:
            phi, times = [], []
            for clips, when in whole_video_clips(video, spec, round(step), batch=_AT_ONCE):
                phi.append(self.features(clips.to(self.device)))
                times.append(when)
            phi = torch.cat(phi)
            h, logits = self.trace(phi, [len(phi)])
            if not logits.isfinite().all():
                raise ZooError(f"{video}: {self.name} finds no numbers for it; are its weights whole? (`zoo verify`)")
        finally:
            self.train(was_training)
        return Embedding(torch.cat(times), phi.float().cpu(), h.float().cpu(), logits.float().cpu())

    def predict(self, video: str | os.PathLike, stride: float = 1.0) -> Timeline:
        """When what is done is meant and when not, clip by clip, and when it goes wrong; see `embed`."""
        found = self.embed(video, stride)
        probabilities = found.logits.softmax(-1)
        moments = tuple(Moment(*when, *p) for when, p in zip(found.times.tolist(), probabilities.tolist(), strict=True))
        failure = float(found.times[int(probabilities[:, 1].argmax())].mean())
        return Timeline(str(video), moments, failure, found.h)

    def autocorrect(
        self, video: str | os.PathLike, *, linear: bool = False, settings: Settings | None = None
    ) -> Correction:
        """The trajectory of a video as it would be if nothing had gone wrong (section 3.3).

        Corrected are the clips that the model itself does not read as intentional.

        Args:
            video: any file that FFmpeg decodes.
            linear: continue the first part in a straight line instead of following gradients.
            settings: of the iterations; the model's own by default.
        """
        found = self.embed(video)
        if not self.can_correct(len(found.phi)):
            seconds = float(found.times[self.longest - 2, 1])
            raise ZooError(
                f"{video} has {len(found.phi)} clips, more than the {self.longest - 1} that can be corrected at once; "
                f"cut it to {seconds:.0f} seconds around the failure."
            )
        wrong = found.logits.argmax(-1) != INTENTIONAL
        result = self.correct(found.phi.to(self.device), [len(wrong)], wrong, linear=linear, settings=settings)
        tensors = (result.before, result.h, result.before_logits, result.logits)
        before, after, logits_before, logits_after = (tensor.float().cpu() for tensor in tensors)
        return Correction(
            found.times,
            wrong,
            before,
            after,
            logits_before,
            logits_after,
            int(result.iterations[0]),
            bool(result.done[0]),
        )

    def can_correct(self, clips: int) -> bool:
        """Whether a video of so many clips is short enough: split, it has one token more than whole."""
        return self.longest is None or clips < self.longest

    def correct(
        self,
        phi: Tensor,
        lengths: Sequence[int],
        wrong: Tensor,
        *,
        linear: bool = False,
        settings: Settings | None = None,
    ) -> Corrected:
        """`auto_correct` of features ``[N, D]`` in eval mode, or with ``linear`` its baseline."""
        was_training, _ = self.training, self.eval()
        try:
            with torch.inference_mode(False), torch.enable_grad():  # it is made of gradients, whoever asks
                phi, wrong = phi.detach().clone(), wrong.clone()
                if not phi.isfinite().all():
                    raise ZooError(
                        f"{self.name}: features that are no numbers cannot be corrected; look at the videos."
                    )
                if linear:
                    return extrapolate(self, phi, lengths, wrong)
                return auto_correct(self, phi, lengths, wrong, settings or self.correction)
        finally:
            self.train(was_training)
