"""What scores the rows of a video by how much is done there: how such models are tested, and what they predict."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.feature_files import read_features
from zoo.data.feature_settings import rate_of, settings_beside
from zoo.errors import DataError, VideoError, ZooError, require_top
from zoo.methods.base import Recipe, ScoredModule, ZooModule
from zoo.metrics.actionness import ActionnessScore
from zoo.networks.grouping import Normalize, proposals
from zoo.spec import VideoSpec


@dataclass(frozen=True)
class Proposal:
    """An interval in which something may be done, in seconds, and how much speaks for it."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Curve:
    """How much a video looks like action over time.

    Attributes:
        video: the file.
        times: from when to when a score holds, in seconds, float64 ``[T, 2]``.
        scores: S of each, float32 ``[T]``, without a scale of their own.
        duration: of the video, in seconds.
        proposals: the best first.
    """

    video: str
    times: np.ndarray
    scores: np.ndarray
    duration: float
    proposals: list[Proposal] = field(default_factory=list)


class ActionnessModel(ScoredModule):
    """The parent of what scores the rows of a video by how much is done there.

    A subclass says how; this tests (average precision of 0.2 s segments, AR@AN of proposals) and predicts.
    """

    task = "video-classification"
    example = 'model.predict("features.npy", rate=5.0).proposals'
    test_batch_size = 16  # videos

    def __init__(self, spec: VideoSpec, recipe: Recipe | None = None, normalize: Normalize = "minmax") -> None:
        """
        Args:
            spec: has features.
            recipe: how it is trained.
            normalize: how scores become a curve for proposals; see `zoo.networks.grouping.proposals`.
        """
        super().__init__(spec, recipe)
        self.curves = normalize
        self.val_metrics = ActionnessScore(proposals=False, segment=spec.features.segment)
        self.test_metrics = ActionnessScore(normalize=normalize, segment=spec.features.segment)

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Of a training sample: clips and the numbers of each."""
        return (self.spec.features.clips, self.spec.features.dim)

    def normalize(self, clips: Tensor) -> Tensor:
        """Features are taken as they are."""
        return clips.to(self.dtype)

    def features(self, clips: Tensor) -> Tensor:
        raise self.featureless("it looks at features itself")

    def protocol(self) -> dict[str, Any]:
        """Segments, and how scores and proposals are made of rows."""
        segment = self.spec.features.segment
        words = f"average precision of all {segment:g} s segments of the test videos together"
        grouped = f"AR@AN of proposals by TAG on the {self.curves} curve, NMS at 0.8, IoU 0.5:0.05:0.95"
        return {"segment": segment, "normalize": self.curves, "in_words": f"{words}; {grouped}"}

    def setup(self, stage: str) -> None:
        """Refuse data that serves no features."""
        data = self.trainer.datamodule
        if data is not None and not getattr(data, "serves_features", False):
            raise DataError(
                f"{self.name} looks at features, and {data.name} serves videos: compute theirs with `zoo extract`, and "
                "give howto100m_features, coin or crosstask the folder."
            )
        super().setup(stage)

    def curve(self, batch: dict[str, Any], video: int, rows: slice) -> tuple[Tensor, float]:
        """Scores of a video of an evaluation batch, float32 ``[T]``, and how many there are a second."""
        return self(self.normalize(batch["features"][rows])).float(), float(batch["rate"][video])

    def _score(self, batch: dict[str, Any], metric: ActionnessScore) -> None:
        if "intervals" not in batch:
            raise DataError(
                f"{self.name} is scored by what is annotated, and in this data nothing is: take coin or crosstask."
            )
        start = 0
        for video, count in enumerate(batch["lengths"].tolist()):
            scores, rate = self.curve(batch, video, slice(start, start + count))
            start += count
            metric.update(
                scores,
                intervals=torch.as_tensor(batch["intervals"][video]),
                duration=float(batch["duration"][video]),
                rate=rate,
                video=int(batch["index"][video]),
            )

    @torch.inference_mode()
    def predict(
        self,
        source: str | os.PathLike | np.ndarray | Tensor,
        top: int = 20,
        *,
        rate: float | None = None,
        extractor: ZooModule | None = None,
    ) -> Curve:
        """How much is done in a video over time, and the intervals in which something is.

        Args:
            source: a file of features (.npy) or the features, ``[T, D]``; or a video, whose features the extractor
                computes. Weights score the features of the network that they were trained on, and no others.
            top: proposals, at most.
            rate: rows of features a second; by default as `zoo extract` noted it beside the file, else 1.
            extractor: the network of the features; by default the one that the model names, which `zoo.load` brings.

        Raises:
            zoo.VideoError: the file cannot be read.
            zoo.DataError: of the file it is noted that its features are of another network.
            zoo.ZooError: features of another width, or with values that are not finite; ``top`` is below 1.
        """
        require_top(top)
        name = str(source) if isinstance(source, (str, os.PathLike)) else "features"
        rate = rate_of(source, rate)
        rows = torch.as_tensor(self._rows(source, rate, extractor), dtype=torch.float32, device=self.device)
        dim = self.spec.features.dim
        if rows.ndim != 2 or rows.shape[1] != dim or not len(rows):
            raise ZooError(f"{name}: {self.name} scores rows of {dim} numbers, [T, {dim}]; got {list(rows.shape)}.")
        if not rows.isfinite().all():
            first = int((~rows.isfinite()).any(1).int().argmax())
            raise ZooError(f"{name}: row {first} is not finite; extract it again.")
        scores = self(self.normalize(rows)).float().cpu().numpy()
        starts = np.arange(len(scores)) / rate
        duration = len(scores) / rate
        found = [Proposal(*map(float, row)) for row in proposals(scores, duration, normalize=self.curves)[:top]]
        return Curve(name, np.stack([starts, starts + 1 / rate], 1), scores, duration, found)

    def _rows(self, source: Any, rate: float, extractor: ZooModule | None) -> Any:
        if not isinstance(source, (str, os.PathLike)):
            return source
        if Path(source).suffix == ".npy":
            settings_beside(Path(source).parent).require(self.spec.features.dim)
            return read_features(source, self.spec.features.dim)
        return self.extract(source, rate, extractor)

    def extract(self, video: str | os.PathLike, rate: float, extractor: ZooModule | None) -> Tensor:
        """The features of a video file, ``[T, D]``."""
        raise VideoError(f"{self.name} scores features; give a .npy file of them instead of {video}.")
