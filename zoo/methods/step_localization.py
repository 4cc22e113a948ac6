"""Step localisation with actionness (Zhukov et al., ECCV 2020, section 4.5): a model of steps helped by one of actions.

A clip's score for a step is ``(1 - alpha) f_k(x_t) + alpha S(x_t)`` (Eq. 4): what the step model says of it, and
whether anything is done there at all. Both are trained by themselves and share nothing, so this only tests and
predicts. The paper's alpha is 0.8 with [41] (`crosstask_weak`) and with [22] (`s3d_milnce`), 0.1 with [23]
(`howto100m_embedding`). As printed the equation sums over all clips and steps; it is read as the sum over the clips
that the steps are assigned, as the code of [41] has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.data.feature_files import feature_path, read_features
from zoo.data.feature_settings import checked_rate, rate_of
from zoo.errors import VideoError, ZooError
from zoo.methods.base import ZooModule
from zoo.methods.step_models import Located, Rows, StepModel, StepVideo, per_second
from zoo.metrics.steps import StepRecall
from zoo.networks.alignment import combine
from zoo.registry import create, register
from zoo.spec import FeatureSpec, VideoSpec

_OFF = 0.1  # part by which the features of a video may last longer by one network than by the other


class StepLocalization(StepModel):
    """A model of steps and one of actionness.

    Where both take rows of one width, they look at the same ones. Else a row holds the step model's numbers and, after
    them, those for actionness; or the latter lie in files of their own (``actionness_features``).

    Attributes:
        alpha: share of actionness; with 0 there is no model of it.
    """

    starts_from_files = True
    stream_options: ClassVar = {"steps": "step_options", "actionness": "actionness_options"}
    untrainable = "has streams that are trained apart: zoo fit --model {}"
    wanted_rows = (
        "Where the step model and that of actionness see other features, a row holds the first one's and then the "
        "second one's; or give those by themselves (actionness=...)."
    )

    def __init__(
        self,
        steps: ZooModule,
        actionness: ZooModule | None,
        alpha: float = 0.8,
        *,
        actionness_features: str | None = None,
        actionness_rate: float | None = None,
    ) -> None:
        """
        Args:
            steps: has `step_scores`.
            actionness: rows of features to a score each; may be None with alpha 0.
            alpha: share of actionness.
            actionness_features: folder of the rows for actionness, ID.npy each; by default they are in the data's.
            actionness_rate: rows a second there; by default as `zoo extract` noted it beside them, else 1.
        """
        super().__init__(VideoSpec(frames=1, stride=1, features=FeatureSpec(dim=1, samples="videos")))
        self.actionness_features = None if actionness_features is None else Path(actionness_features).expanduser()
        self.actionness_rate = None if actionness_rate is None else checked_rate(actionness_rate)
        self.alpha = float(alpha)
        self.take(*(stream for stream in (steps, actionness) if stream is not None))
        self.untrainable = self.untrainable.format(" and ".join(stream.name for stream in self.streams.values()))

    def take(self, steps: ZooModule, actionness: ZooModule | None = None) -> None:
        """Put other models in the streams' places, such as those with weights.

        Raises:
            ZooError: the first does not score steps, or there is none of actionness and alpha is above 0.
        """
        if not hasattr(steps, "step_scores"):
            raise ZooError(
                f"{steps.name or type(steps).__name__} does not score steps; take crosstask_weak, "
                "howto100m_embedding or s3d_milnce."
            )
        self.steps, self.actionness = steps, actionness
        self._checked(self.alpha)
        own, other = self.widths
        joined = other and own != other and self.actionness_features is None
        features = FeatureSpec(dim=own + other if joined else own, samples="videos")
        self.spec = VideoSpec(frames=1, stride=1, features=features)
        # What it was built from may have been without memory, on no device.
        self.val_metrics, self.test_metrics = StepRecall(), StepRecall()
        self.to(steps.device)
        self.arguments |= {"steps": steps.name, "step_options": dict(steps.arguments)}
        if actionness is not None:
            self.arguments |= {"actionness": actionness.name, "actionness_options": dict(actionness.arguments)}

    def _checked(self, alpha: float) -> float:
        if not 0 <= alpha <= 1:
            raise ZooError(f"alpha is the share of actionness, 0 to 1, got {alpha!r}.")
        if alpha > 0 and self.actionness is None:
            raise ZooError(f"alpha {alpha:g} wants a model of actionness, and there is none; build it with alpha > 0.")
        return float(alpha)

    @property
    def streams(self) -> dict[str, ZooModule]:
        """The models by what they say."""
        return {"steps": self.steps} | ({} if self.actionness is None else {"actionness": self.actionness})

    @property
    def default_weights(self) -> tuple[str, ...]:
        """What `zoo.load` takes: each stream's own."""
        return tuple(stream.name for stream in self.streams.values())

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers in a row for each stream; 0 for one that is not there."""
        return _width(self.steps), 0 if self.actionness is None else _width(self.actionness)

    @staticmethod
    def asked_by(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> dict[str, Any]:
        """The same streams, built alike."""
        names = ("steps", "step_options", "actionness", "actionness_options", "alpha")
        return {name: said[name] for name in names if said.get(name) is not None}

    def protocol(self) -> dict[str, Any]:
        """Whose scores are added, and in which shares."""
        said, names = super().protocol(), [stream.name for stream in self.streams.values()]
        shares = [f"{share:.4g} {name}" for share, name in zip((1 - self.alpha, self.alpha), names)]  # noqa: B905
        return {**said, "alpha": self.alpha, "in_words": f"{' + '.join(shares)}; {said['in_words']}"}

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows ``[..., D]`` to what each stream's network says of them."""
        own, other = self._split(rows)
        return (self.steps(own),) if self.actionness is None else (self.steps(own), self.actionness(other))

    def step_scores(self, features: Tensor, names: Sequence[str], task: str = "") -> Tensor:
        """Eq. 4: ``[T, D]``, rows of both streams, to ``[T, K]``."""
        own, other = self._split(features)
        scores = self.steps.step_scores(own, names, task)
        return combine(scores, self.actionness(other), self.alpha) if self.alpha else scores

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of each stream."""
        own = self.widths[0]
        return rows[..., :own], rows[..., own:] if rows.shape[-1] > own else rows

    def clips(self, video: StepVideo) -> Tensor:
        if self.actionness_features is None or not self.alpha:
            return video.features
        path = feature_path(self.actionness_features, video.video_id)
        rows = torch.from_numpy(read_features(path, self.widths[1])).to(video.features)
        return self._joined(video.features, per_second(rows, rate_of(path, self.actionness_rate)), str(path))

    def _joined(self, own: Tensor, other: Tensor, where: str) -> Tensor:
        """The clips of both streams side by side, ``[T, D + D']``; the last one stands for a few that are missing.

        Raises:
            VideoError: the two do not last equally long.
        """
        if abs(len(own) - len(other)) > max(2, _OFF * len(own)):
            raise VideoError(
                f"{where} lasts {len(other)} seconds and the step model's features {len(own)}: they are not of the "
                "same video, or the rate is another one (actionness_rate)."
            )
        return torch.cat([own, other[torch.arange(len(own)).clamp(max=len(other) - 1)]], 1)

    @torch.inference_mode()
    def localize(
        self,
        features: Rows,
        steps: Sequence[str],
        *,
        task: str = "",
        rate: float | None = None,
        actionness: Rows | None = None,
        actionness_rate: float | None = None,
        alpha: float | None = None,
    ) -> list[Located]:
        """Where the steps of a task are in a video: `Located` of each, in their order.

        Args:
            features: rows of the video, ``[T, D]``, or a ``.npy`` file of them.
            steps: names of the steps, in the order that they come in.
            task: the task's key, for models that know tasks apart.
            rate: rows a second; by default as `zoo extract` noted it beside the file, else 1.
            actionness: rows for actionness, where they are others and ``features`` does not hold both.
            actionness_rate: rows of those a second; the model's own by default, else as ``rate``.
            alpha: share of actionness; the model's own by default.

        Raises:
            ZooError: the rows are not what the models take, or fewer than steps; no steps, or unknown words in them.
            VideoError: a file is broken, or the two do not last equally long.
        """
        before, (own, other) = self.alpha, self.widths
        self.alpha = self._checked(before if alpha is None else alpha)
        try:
            apart = own != other
            dims = ([own] if actionness is not None or not self.alpha or not apart else []) + [own + other] * apart
            clips = per_second(self.rows(features, *dims), rate_of(features, rate))
            if actionness is not None and self.alpha:
                rate = rate_of(actionness, self.actionness_rate if actionness_rate is None else actionness_rate)
                clips = self._joined(clips, per_second(self.rows(actionness, other), rate), "actionness")
            where = str(features) if isinstance(features, (str, os.PathLike)) else "the video"
            return self._located(clips, steps, task, where)
        finally:
            self.alpha = before


def _width(model: ZooModule) -> int:
    """Numbers in a row of features that a model takes; of `s3d_milnce`, that its last layer takes."""
    return model.spec.features.dim if model.spec.features else model.video.fc.in_features


@register("step_localization", paper="zhukov2020actionness")
@register(
    "step_localization_tiny",
    paper="zhukov2020actionness",
    summary="steps with actionness on the sandbox's features",
    steps="crosstask_weak_tiny",
    actionness="actionness_tiny",
)
def step_localization(
    steps: str = "crosstask_weak",
    actionness: str = "actionness",
    alpha: float = 0.8,
    step_options: dict[str, Any] | None = None,
    actionness_options: dict[str, Any] | None = None,
    actionness_features: str | None = None,
    actionness_rate: float | None = None,
) -> StepLocalization:
    """A task's steps in a video, by a model of steps and by actionness together (Eq. 4).

    Args:
        steps: name of the model of steps.
        actionness: name of the model of actionness.
        alpha: share of actionness; 0 leaves it out.
        step_options: arguments of the first one's builder.
        actionness_options: arguments of the second one's builder.
        actionness_features: folder of the features for actionness, where the data's are for steps alone.
        actionness_rate: rows of those a second; by default as `zoo extract` noted it beside them, else 1.
    """
    return StepLocalization(
        create(steps, **(step_options or {})),
        create(actionness, **(actionness_options or {})) if alpha else None,
        alpha,
        actionness_features=actionness_features,
        actionness_rate=actionness_rate,
    )
