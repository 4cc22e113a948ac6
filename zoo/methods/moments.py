"""Models that see a video as single frames at known times, and say of each what is done in it.

A subclass says how the frames of a test become scores of the whole video and of its moments; batches, metrics,
prediction on files and the optimiser are here. The protocol is that of Charades: mean average precision of the videos'
classes (classification) and of the classes at 25 points of time in each video (localisation).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from zoo.data.moments import test_moments
from zoo.data.tvl1 import VideoFlow
from zoo.errors import DataError, ZooError, require_top
from zoo.methods.base import Recipe, ScoredModule, constant
from zoo.methods.classifier import Prediction
from zoo.metrics.charades import POINTS, CharadesClassificationMAP, CharadesLocalizationMAP
from zoo.metrics.smoothing import localisation_points
from zoo.spec import VideoSpec

#: Subtracted from a flow image in 0..1, where it stands for no motion (the ports write 0.502).
STILL = 128 / 255


@dataclass(frozen=True)
class MomentPrediction:
    """The likeliest classes of one frame, best first, and its time in seconds."""

    second: float
    classes: tuple[Prediction, ...]


@dataclass(frozen=True)
class Activities:
    """What is done in a video and when.

    Attributes:
        video: the file or folder.
        times: of the frames that were looked at, in seconds, float64 ``[T]``.
        moments: scores of every class at every frame, float32 ``[T, C]`` on the CPU.
        scores: of every class in the whole video, float32 ``[C]``.
    """

    video: str
    times: Tensor
    moments: Tensor
    scores: Tensor


class MomentScore(WrapperMetric):
    """Classification and localisation together, of videos that come one by one.

    Args:
        num_classes: C.
        smooth: half width, in frames, of the average over time that ``point_map_post`` takes before it is scored;
            0 leaves it out.
    """

    def __init__(self, num_classes: int, smooth: int = 0) -> None:
        super().__init__()
        self.smooth = smooth
        self.videos = CharadesClassificationMAP(num_classes)
        self.points = CharadesLocalizationMAP(num_classes, points=POINTS)
        self.smoothed = CharadesLocalizationMAP(num_classes, points=POINTS) if smooth else None

    def update(self, scores: Tensor, moments: Tensor, label: Tensor, moment_label: Tensor, index: Tensor) -> None:
        """One video: ``[C]`` and ``[T, C]`` scores, ``[C]`` and ``[25, C]`` labels of 0 and 1, its number ``[]``."""
        index = torch.as_tensor(index).reshape(1)
        self.videos.update(scores[None], label[None], index)
        self.points.update(localisation_points(moments, POINTS)[None], moment_label[None], index)
        if self.smoothed is not None:
            self.smoothed.update(
                localisation_points(moments, POINTS, half=self.smooth)[None], moment_label[None], index
            )

    def compute(self) -> dict[str, Any]:
        """The metrics' values by name; those after smoothing end in ``_post``."""
        values = {**self.points.compute(), **self.videos.compute()}
        if self.smoothed is not None:
            values |= {f"{k}_post": v for k, v in self.smoothed.compute().items() if k.startswith("point_")}
        return values

    def reset(self) -> None:
        for metric in (self.videos, self.points, self.smoothed):
            if metric is not None:
                metric.reset()
        super().reset()


class MomentModel(ScoredModule):
    """The parent of models of moments.

    Attributes:
        num_classes: of its scores.
        pooling: how the protocol says that moments become a video's scores, for people.
    """

    pooling = "maximum over the frames"
    nesterov: bool = False  # of SGD: the Torch releases' has it, the ports' has not

    def __init__(self, *, spec: VideoSpec, recipe: Recipe | None = None, num_classes: int = 157, smooth: int = 0):
        """
        Args:
            spec: what it wants to eat; has moments.
            recipe: how it is trained.
            num_classes: of its scores.
            smooth: half width, in test frames, of the average over time of ``point_map_post``; 0 leaves that out.
        """
        super().__init__(spec, recipe)
        if num_classes < 1:
            raise ZooError(f"num_classes must be at least 1, got {num_classes}.")
        if spec.moments is None:
            raise ZooError(f"{type(self).__name__} sees moments, but its spec has none (spec.moments).")
        self.num_classes, self.smooth = num_classes, smooth
        self.val_metrics: Metric = MomentScore(num_classes)
        self.test_metrics: Metric = MomentScore(num_classes, smooth)

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Of a sample: the channels of all streams one after another; the crop's (or the given) height and width."""
        size = size or self.spec.crop
        return (sum(self._channels(stream) for stream in self.spec.moments.streams), size, size)

    def _channels(self, stream: str) -> int:
        return 3 if stream == "rgb" else 2 * self.spec.moments.flow

    def normalize(self, frames: Tensor, stream: str | None = None) -> Tensor:
        """Bytes ``[N, C, H, W]`` to what the network was trained on: ``(x / 255 - mean) / std``.

        Args:
            frames: of one stream, or of all of them, their channels one after another.
            stream: which; all of the spec's by default.
        """
        mean, std = [], []
        for name in self.spec.moments.streams if stream is None else (stream,):
            mean += self.spec.mean if name == "rgb" else [STILL] * self._channels(name)
            std += self.spec.std if name == "rgb" else [1.0] * self._channels(name)
        mean, std = (constant(tuple(v), frames.device, self.dtype).view(-1, 1, 1) for v in (mean, std))
        return (frames.to(self.dtype) / 255 - mean) / std

    def features(self, clips: Tensor) -> Tensor:
        """What the network for frames gives to the head, the mean over a clip's frames; see `ZooModule.features`.

        Raises:
            ZooError: the model looks at optical flow.
        """
        if self.spec.moments.streams != ("rgb",):
            raise self.featureless("it looks at optical flow, and clips hold RGB")
        frames = self.normalize(clips.transpose(1, 2).flatten(0, 1), "rgb")
        return self.backbone(frames).unflatten(0, (len(clips), -1)).mean(1).float()

    def inputs(self, batch: dict[str, Any]) -> Tensor:
        """The normalised frames of a batch, ``[N, C, H, W]``, the channels of its streams one after another."""
        return torch.cat([self.normalize(batch[stream], stream) for stream in self.spec.moments.streams], 1)

    def times(self, batch: dict[str, Any]) -> Tensor:
        """Image numbers of a batch's frames from 1, int64 ``[N]``."""
        return batch[f"{self.spec.moments.streams[0]}_time"]

    def scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """Of each video of a test batch: its scores ``[C]``, and those of its frames ``[lengths[v], C]``."""
        raise NotImplementedError(f"{type(self).__name__} does not say how frames become scores.")

    def _scores(self, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        return self.scores(batch) if len(batch["lengths"]) else []  # no video of this batch could be decoded

    def _score(self, batch: dict[str, Any], metric: MomentScore) -> None:
        parts = (batch["label"], batch["moment_label"], batch["index"])
        for (scores, moments), *labels in zip(self._scores(batch), *parts, strict=True):
            metric.update(scores.float(), moments.float(), *labels)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """For every video of the batch: its ``index``, its ``scores`` ``[C]`` and at 25 ``moments`` ``[25, C]``."""
        return [
            {"index": int(index), "scores": scores.float().cpu(), "moments": localisation_points(moments.float().cpu())}
            for index, (scores, moments) in zip(batch["index"], self._scores(batch), strict=True)
        ]

    def protocol(self) -> dict[str, Any]:
        """Which frames a test looks at, and how they become scores."""
        spec, moments = self.spec, self.spec.moments
        streams = " and ".join({"rgb": "RGB", "flow": "flow"}[stream] for stream in moments.streams)
        words = f"{moments.points} frames of {streams}, {spec.test_crop} pixels at short side {spec.test_short_side}"
        return {
            "streams": list(moments.streams),
            "points": moments.points,
            "fps": spec.fps,
            "short_side": spec.test_short_side,
            "crop": spec.test_crop,
            "score": self.pooling,
            "smooth": self.smooth,
            "precision": "32-bit floats",
            "in_words": f"{words}, {self.pooling}",
        }

    @property
    def global_batch(self) -> int:
        """Frames in one optimiser step over all processes."""
        return super().global_batch * self.spec.moments.together

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD by the recipe, its rate scaled linearly with the global batch; everything decays, as in the releases."""
        recipe = self.recipe
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = SGD(
            learning,
            lr=recipe.rate * self.global_batch / recipe.batch,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=self.nesterov,
        )
        return self.scheduled(optimizer)

    @torch.inference_mode()
    def watch(self, video: str | os.PathLike, flow: str | os.PathLike | None = None) -> Activities:
        """The scores of a video's frames and of the whole, by the model's test protocol.

        Args:
            video: any file that FFmpeg decodes, or a folder of pictures.
            flow: the folder of its flow, for a model that looks at flow.

        Raises:
            zoo.VideoError: it cannot be decoded.
        """
        with self.at_rest():
            return self.told(str(video), self.read(video, flow))

    def told(self, video: str, batch: dict[str, Any]) -> Activities:
        """What `watch` says, from a batch of that video alone."""
        scores, moments = self.scores(batch)[0]
        return Activities(video, self.seconds(batch), moments.float().cpu(), scores.float().cpu())

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """In eval mode for as long as it lasts."""
        was_training, _ = self.training, self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def read(self, video: str | os.PathLike, flow: str | os.PathLike | None = None) -> dict[str, Tensor]:
        """What a test looks at of one video, on the model's device; see `zoo.data.moments.test_moments`.

        A model that looks at flow alone may be given the folder of flow as the video. Flow of which there is no folder
        is computed, if OpenCV is there.

        Raises:
            DataError: it is not.
        """
        moments = self.spec.moments
        if flow is None and moments.streams == ("flow",) and os.path.isdir(video):
            flow = video
        elif flow is None and "flow" in moments.streams:
            try:
                flow = VideoFlow(video, moments.flow, self.spec.fps)
            except ZooError as error:
                raise DataError(
                    f"{video}: {self.name} looks at optical flow. Either give the folder with this video's: "
                    "flow=FOLDER, on the command line --flow FOLDER (`zoo data flow charades ROOT` computes those of a "
                    f"data set). Or have it computed: {error}"
                ) from None
        return {name: value.to(self.device) for name, value in test_moments(video, self.spec, flow, threads=2).items()}

    def seconds(self, batch: dict[str, Any]) -> Tensor:
        """Times of a batch's frames, float64 ``[N]``."""
        return (self.times(batch).double().cpu() - 1) / self.spec.fps

    def predict(
        self,
        video: str | os.PathLike,
        top: int = 5,
        *,
        per_frame: bool = False,
        flow: str | os.PathLike | None = None,
    ) -> list[Prediction] | list[MomentPrediction]:
        """The likeliest classes of a video, best first, or with ``per_frame`` those of each frame; see `watch`.

        Args:
            video: any file that FFmpeg decodes, or a folder of pictures.
            top: how many classes; all where there are fewer.
            per_frame: of every frame that a test would look at.
            flow: the folder of its flow, for a model that looks at flow.

        Raises:
            zoo.VideoError: it cannot be decoded.
            zoo.ZooError: ``top`` is below 1.
        """
        require_top(top)  # before the work, not after it
        found = self.watch(video, flow)
        return self.frames(found, top) if per_frame else self.best(found.scores, top)

    def frames(self, found: Activities, top: int = 5) -> list[MomentPrediction]:
        """The likeliest at each frame of what `watch` found, ``top`` of each."""
        return [
            MomentPrediction(second, tuple(self.best(scores, top)))
            for second, scores in zip(found.times.tolist(), found.moments, strict=True)
        ]

    def best(self, scores: Tensor, top: int) -> list[Prediction]:
        """The likeliest classes by scores ``[C]``.

        Raises:
            ZooError: they are no numbers, as those of broken weights are, or ``top`` is below 1.
        """
        require_top(top)
        if scores.isnan().any():
            raise ZooError(f"{self.name or type(self).__name__} scores NaN: its weights are broken. Load others.")
        values, numbers = scores.topk(min(top, self.num_classes))
        return [Prediction(self.label(n), s, n) for s, n in zip(values.tolist(), numbers.tolist(), strict=True)]
