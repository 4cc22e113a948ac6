"""Models that find the steps of a task in a video: at which second each one is, given their names and their order.

The protocol is that of Zhukov et al., CVPR 2019 (CrossTask): one clip a second, every step of the task gets exactly one
clip, in the order of the steps, such that the sum of their scores is the highest; a step is found if its clip lies in
one of its annotated intervals. A subclass says how clips are scored for steps.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.data.feature_files import read_features
from zoo.data.feature_settings import rate_of
from zoo.errors import DataError, VideoError, ZooError
from zoo.methods.base import Recipe, ScoredModule
from zoo.metrics.steps import StepRecall
from zoo.networks.alignment import assign_steps
from zoo.spec import VideoSpec

Rows = str | os.PathLike | np.ndarray | Tensor


class Located(NamedTuple):
    """A step, the middle of the second that it was found in, and its score there."""

    step: str
    seconds: float
    score: float


@dataclass(frozen=True)
class StepVideo:
    """A video of a batch, one clip a second.

    Attributes:
        features: float32 ``[T, D]``.
        names: of its task's steps in order, K.
        task: its key.
        index: its number.
        video_id: its id.
        rate: rows a second that it had.
        intervals: float64 ``[n, 2]`` seconds.
        steps: the step of each, int64 ``[n]``.
        constraints: the narration's, in rows as they were, int64 ``[c, 3]``, or None.
    """

    features: Tensor
    names: tuple[str, ...]
    task: str
    index: int
    video_id: str
    rate: float
    intervals: Tensor
    steps: Tensor
    constraints: Tensor | None


def per_second(rows: Tensor, rate: float) -> Tensor:
    """One row a second, ``[ceil(T / rate), D]``: the mean of the rows whose middle lies in it.

    A second without one, where rows are rarer than that, takes the row that it lies in.

    Args:
        rows: ``[T, D]``; row k stands for ``k / rate`` to ``(k + 1) / rate`` seconds.
        rate: rows a second.
    """
    if rate == 1:
        return rows
    second = ((torch.arange(len(rows), dtype=torch.float64) + 0.5) / rate).long()
    seconds = torch.arange(int(np.ceil(len(rows) / rate - 1e-6)), dtype=torch.float64)
    nearest = ((seconds + 0.5) * rate).long().clamp(max=len(rows) - 1).to(rows.device)
    count = torch.bincount(second, minlength=len(seconds))[: len(seconds)].to(rows.device)
    total = torch.zeros(len(seconds), rows.shape[1], dtype=rows.dtype, device=rows.device)
    total.index_add_(0, second.clamp(max=len(seconds) - 1).to(rows.device), rows)
    return torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], rows[nearest])


def step_videos(batch: dict[str, Any]) -> Iterator[StepVideo]:
    """The videos of a batch of whole videos (`zoo.data.annotated_videos`) one by one, one clip a second."""
    lengths = batch["lengths"].tolist()
    parts = batch["features"].split(lengths) if lengths else ()
    constraints = batch.get("constraints") or [None] * len(lengths)
    fields = (batch["names"], batch["task"], batch["index"].tolist(), batch["video_id"], batch["rate"].tolist())
    rest = (batch["intervals"], batch["steps"], constraints)
    for features, names, task, index, video_id, rate, *annotated in zip(parts, *fields, *rest, strict=True):
        clips = per_second(features, rate)
        yield StepVideo(clips, tuple(names), task, index, video_id, rate, *map(_tensor, annotated))


class StepModel(ScoredModule):
    """The parent of models of steps."""

    task = "video-classification"
    example = 'model.localize("features.npy", steps=["boil water", "add tea", "pour water"])'
    test_batch_size = 16  # videos
    wanted_rows = "Give the features that it was trained on, or build it for these (dim=...)."  # said of other ones

    def __init__(self, spec: VideoSpec, recipe: Recipe | None = None) -> None:
        """
        Args:
            spec: what it wants to eat; has features.
            recipe: how it is trained.
        """
        super().__init__(spec, recipe)
        if spec.features is None:
            raise ZooError(f"{type(self).__name__} sees rows of features, but its spec has none (spec.features).")
        self.val_metrics: Metric = StepRecall()
        self.test_metrics: Metric = StepRecall()

    def step_scores(self, features: Tensor, names: Sequence[str], task: str = "") -> Tensor:
        """``f_k(x_t)`` of Eq. 4: clips ``[T, D]``, one a second, to scores of a task's steps ``[T, K]``.

        Args:
            features: of the clips.
            names: of the steps, in order.
            task: the task's key, for models that know tasks apart.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores steps.")

    def clips(self, video: StepVideo) -> Tensor:
        """The rows of a video that `step_scores` takes, ``[T, D]``."""
        return video.features

    def protocol(self) -> dict[str, Any]:
        """How clips become located steps."""
        return {
            "features": self.spec.features.dim,
            "clips_per_second": 1,
            "precision": "32-bit floats",
            "in_words": "one clip a second, exactly one for each step, in the order of the steps",
        }

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Some rows of features, ``[clips, dim]``."""
        return (self.spec.features.clips, self.spec.features.dim)

    def normalize(self, features: Tensor) -> Tensor:
        """Features are what they are; in the model's precision."""
        return features.to(self.dtype)

    def features(self, clips: Tensor) -> Tensor:
        raise self.featureless("it looks at features itself")

    def setup(self, stage: str) -> None:
        """Refuse data that serves no features."""
        data = self.trainer.datamodule
        if data is not None and not getattr(data, "serves_features", False):
            raise DataError(
                f"{self.name} looks at features, and {data.name} serves videos: compute theirs with `zoo extract`, and "
                "give crosstask or coin the folder."
            )
        super().setup(stage)

    def assign(self, features: Tensor, names: Sequence[str], task: str, where: str) -> tuple[Tensor, Tensor]:
        """Clips ``[T, D]`` to the clip of each step, int64 ``[K]``, and all scores ``[T, K]``, both on the CPU.

        Raises:
            ZooError: fewer clips than steps, or scores that are no numbers; ``where`` says of which video.
        """
        if len(features) < len(names):
            raise ZooError(
                f"{where} has {len(features)} clips of a second, fewer than the {len(names)} steps that are to be "
                "found in it, one clip each. Give a longer video, or fewer steps."
            )
        scores = self.step_scores(self.normalize(features), names, task).float().cpu()
        if not scores.isfinite().all():
            what = f"{self.name or type(self).__name__} scores NaN or infinity in {where}"
            raise ZooError(f"{what}: its weights are broken, or the features are. Load others.")
        return assign_steps(-scores), scores

    @torch.no_grad()
    def _score(self, batch: dict[str, Any], metric: Metric) -> None:
        for video in step_videos(batch):
            if not video.names:
                raise DataError(f"the batch does not name the steps of {video.video_id}; serve crosstask or coin.")
            try:
                clips = self.clips(video)
            except VideoError as error:
                self._pass_over(video, error)
                continue
            if len(clips) < len(video.names):
                # No assignment exists; a clip beyond the end finds nothing, so that every step counts as missed.
                said = f"{video.video_id}: {len(clips)} clips for {len(video.names)} steps, all of which are missed."
                warnings.warn(said, stacklevel=2)
                steps_at = torch.full((len(video.names),), len(clips))
            else:
                steps_at, _ = self.assign(clips, video.names, video.task, video.video_id)
            metric.update(steps_at, video.intervals, video.steps, video.task, len(clips), video.index)

    def _pass_over(self, video: StepVideo, error: VideoError) -> None:
        """Go on without a video, and have it reported beside the score, as the data's own are."""
        data = self.trainer.datamodule
        if data is None:
            raise error
        data.unreadable[video.index] = f"{video.video_id}: {error}"

    @torch.no_grad()
    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """For every video: its ``index``, ``names``, ``steps_at`` (the clip of each step) and ``scores`` ``[T, K]``."""
        found = []
        for video in step_videos(batch):
            steps_at, scores = self.assign(self.clips(video), video.names, video.task, video.video_id)
            found.append({"index": video.index, "names": video.names, "steps_at": steps_at, "scores": scores})
        return found

    @torch.inference_mode()
    def localize(
        self, features: Rows, steps: Sequence[str], *, task: str = "", rate: float | None = None
    ) -> list[Located]:
        """Where the steps of a task are in a video: `Located` of each, in their order.

        Args:
            features: rows of the video, ``[T, D]``, or a ``.npy`` file of them.
            steps: names of the steps, in the order that they come in.
            task: the task's key, for models that know tasks apart.
            rate: rows a second; by default as `zoo extract` noted it beside the file, else 1.

        Raises:
            ZooError: the rows are not what the model takes, or fewer than steps; no steps, or unknown words in them.
            VideoError: the file is broken.
        """
        clips = per_second(self.rows(features, self.spec.features.dim), rate_of(features, rate))
        return self._located(clips, steps, task, _place(features))

    def _located(self, clips: Tensor, steps: Sequence[str], task: str, where: str) -> list[Located]:
        if isinstance(steps, str) or not steps:
            raise ZooError("give the steps to be found as a list of their names, in order.")
        steps_at, scores = self.assign(clips, list(steps), task, where)
        return [Located(steps[k], t + 0.5, float(scores[t, k])) for k, t in enumerate(steps_at.tolist())]

    def rows(self, features: Rows, *dims: int) -> Tensor:
        """Features from wherever they are, float32 ``[T, D]`` on the model's device, where D is one of ``dims``.

        Raises:
            ZooError: another shape, no rows, or numbers that are none.
            VideoError: the file is broken.
        """
        if isinstance(features, (str, os.PathLike)):
            features = read_features(features)
        rows = torch.as_tensor(features)
        if rows.ndim != 2 or rows.shape[1] not in dims or not len(rows):
            raise ZooError(
                f"{self.name or type(self).__name__} takes rows of {' or '.join(map(str, dims))} numbers, "
                f"[T, {dims[0]}], got {list(rows.shape)}. {self.wanted_rows}"
            )
        rows = rows.to(self.device, torch.float32)
        if not (finite := rows.isfinite().all(1)).all():
            raise ZooError(f"row {int(finite.logical_not().nonzero()[0])} of the features holds NaN or infinity.")
        return rows


def _place(features: Rows) -> str:
    return str(features) if isinstance(features, (str, os.PathLike)) else "the video"


def _tensor(values: Any) -> Tensor | None:
    return None if values is None else torch.as_tensor(values)
