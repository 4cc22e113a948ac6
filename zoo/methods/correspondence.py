"""An encoder of single frames whose features correspond over time: what TimeCycle and its kin share when they are used.

However they are trained, they are used alike: the labels of a video's first frame (masks, joints, body parts, painted
stripes) go to every other frame by nearest neighbours among its features (`zoo.networks.propagation`), frame by frame,
in memory that does not grow with the video. `Correspondence` is the LightningModule around such an encoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.data.sequences import FrameSource, frames_of
from zoo.errors import DataError, VideoError, ZooError
from zoo.methods.base import Recipe, ZooModule
from zoo.methods.carried import KINDS, Carried, View
from zoo.methods.scoring import Scores
from zoo.networks.flow import correspondence_flow, flow_to_pixels, warp
from zoo.networks.propagation import Propagation, Propagator
from zoo.spec import VideoSpec

GAPS = (5, 10)  # frames between a picture and the one that it is rebuilt from (table 2.5)


class Correspondence(ZooModule):
    """A per-frame encoder and what its features are good for: propagation, flow, and the tests of both."""

    test_batch_size = 8  # frames at a time
    task = "mask-generation"
    example = 'masks = model.propagate("clip.mp4", "first.png")'

    def __init__(
        self,
        encoder: nn.Module,
        *,
        spec: VideoSpec,
        recipe: Recipe | None = None,
        propagation: Propagation | None = None,
    ) -> None:
        """
        Args:
            encoder: normalised frames ``[N, 3, H, W]`` to features ``[N, C, h, w]``.
            spec: what it is trained on, and its mean and standard deviation.
            recipe: how it is trained.
            propagation: how labels are carried; TimeCycle's settings by default.
        """
        super().__init__(spec, recipe)
        self.encoder = encoder
        self.propagation = propagation or Propagation()
        self._scores: Scores | None = None
        self._run: Run | None = None

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised clips ``[B, 3, T, H, W]`` to features ``[B, C, T, h, w]``, each frame by itself."""
        return self.encoder(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, clips.shape[2])).transpose(1, 2)

    def protocol(self) -> dict[str, Any]:
        """How labels are propagated; the data's official evaluation scores them."""
        p = self.propagation
        size = f"frames of {p.size} x {p.size}" if p.size else "frames as they are"
        near = f" within {p.radius:g} cells" if p.radius else ""
        words = f"{size}; the first frame and the {p.references} before; {p.topk} nearest neighbours{near}"
        precision = "32-bit floats" + (", cosines of 16-bit ones" if p.half else "")
        return {**asdict(p), "precision": precision, "in_words": words}

    def seen(self, frames: Tensor) -> Tensor:
        """Frames as the encoder gets them: resized as `Propagation.size` says, normalised.

        Args:
            frames: uint8 ``[T, 3, H, W]``, RGB.

        Returns:
            ``[T, 3, S, S]``, or the frames' own size.
        """
        pixels = frames.to(self.device, self.dtype)
        if size := self.propagation.size:  # without antialiasing, as the published code has it
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        return self.normalize(pixels.transpose(0, 1)).transpose(0, 1)

    def maps(self, frames: Tensor) -> Tensor:
        """Features ``[T, C, h, w]`` of frames, uint8 ``[T, 3, H, W]``."""
        return self.encoder(self.seen(frames))

    def features(self, clips: Tensor) -> Tensor:
        """The mean over time and space of all frames' features, ``[B, C]``; see `ZooModule.features`."""
        return self(self.normalize(clips)).mean((2, 3, 4)).float()

    def start(self, kind: str, first: Any, picture: tuple[int, int]) -> Run:
        """Begin to carry something through a video, whose frames then go to `Run.step`.

        Args:
            kind: ``"masks"``, ``"keypoints"``, ``"stripes"``, ``"parts"``, or ``"frames"`` (which needs nothing).
            first: what the first frame is labelled with, see `zoo.methods.carried`.
            picture: (height, width) of the frames.
        """
        return Rebuilding(self) if kind == "frames" else Propagating(self, kind, first, picture)

    def propagate(
        self,
        video: str | os.PathLike | Iterable[np.ndarray],
        first: Any,
        *,
        kind: str = "masks",
        batch_size: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Carry labels from the first frame of a video to all its frames, one after another.

        Memory does not grow with the video's length.

        Args:
            video: a video file, a folder of images in the order of their names, or frames, uint8 ``[H, W, 3]`` RGB.
            first: ``kind="masks"``: uint8 ``[H, W]``, 0 for the background and a number for each object, or a PNG that
                holds it; ``"keypoints"``: ``[J, 2]`` (x, y) in pixels; ``"stripes"``: a mask as above, whose
                object is painted with six stripes.
            kind: what is carried.
            batch_size: frames that are encoded at a time.

        Yields:
            For each frame, the first included, what was given for the first: a mask uint8 ``[H, W]`` (of stripes, 1 to
            6), or joints float32 ``[J, 2]``, NaN where one is lost.

        Raises:
            VideoError: a frame cannot be read, or there is but one.
            DataError: the mask cannot be read, or does not belong to this video.
            ZooError: the labels are none.
        """
        if kind not in ("masks", "keypoints", "stripes"):
            raise ZooError(f"propagate carries masks, keypoints or stripes, not {kind!r}.")
        if batch_size is not None and batch_size < 1:
            raise ZooError(f"propagate wants a batch_size of at least 1, got {batch_size}.")
        if isinstance(first, str | os.PathLike):
            first = KINDS[kind].read_file(first)
        pictures = moving(video) if isinstance(video, str | os.PathLike) else video
        return self._propagate(pictures, first, kind, batch_size or self.test_batch_size)  # what is wrong shows at once

    @torch.inference_mode()
    def _propagate(self, pictures: Iterable[np.ndarray], first: Any, kind: str, size: int) -> Iterator[np.ndarray]:
        was_training, _ = self.training, self.eval()
        try:
            run: Run | None = None
            for frames in _batched(pictures, size):
                run = run or self.start(kind, first, tuple(frames.shape[2:]))
                for output in run.step(frames):
                    yield output.cpu().numpy()
        finally:
            self.train(was_training)

    @torch.inference_mode()
    def flow(self, source: Tensor, target: Tensor) -> Tensor:
        """Where each pixel of ``target`` is in ``source``: flow ``[2, H, W]`` (x, y) in pixels, by nearest neighbours.

        Args:
            source: uint8 ``[3, H, W]``.
            target: the same.
        """
        maps = self.maps(torch.stack((source, target)))
        return self.match(maps[0], maps[1], tuple(target.shape[1:]))

    def match(self, source: Tensor, target: Tensor, picture: tuple[int, int]) -> Tensor:
        """`flow` between two frames' features ``[C, h, w]``, for pictures of (height, width)."""
        p = self.propagation
        flow = correspondence_flow(target, source, topk=p.topk, temperature=p.temperature, half=p.half)
        return flow_to_pixels(flow, picture)

    # Tests: batches are runs of frames of one sequence, in order (`zoo.data.sequences`).

    def setup(self, stage: str) -> None:
        """Refuse data that has no sequences to carry labels through."""
        super().setup(stage)
        data = self.trainer.datamodule
        if stage == "test" and data is not None and not hasattr(data, "kind"):
            raise DataError(
                f"{self.name} is tested by labels carried through sequences, and {data.name} has none: test on "
                "davis2017, davis2016, jhmdb or vip."
            )

    def on_test_start(self) -> None:
        self._scores = self._run = None

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """What a run of frames turns out to hold: ``outputs``, one a frame, beside ``index`` and ``numbers``.

        There are none of a sequence that could not be read.
        """
        if len(batch["frames"]) and int(batch["numbers"][0]) == 0:
            self._run = self.start(batch["kind"], batch["truth"][0], tuple(batch["frames"].shape[2:]))
        outputs = list(self._run.step(batch["frames"])) if len(batch["frames"]) else []
        return {"index": batch["index"], "numbers": batch["numbers"], "outputs": outputs}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if self._scores is None:
            self._scores = Scores(batch["kind"], GAPS).to(self.device)
        if not len(batch["frames"]):  # could not be read; the datamodule keeps the message
            self._scores.drop(batch["index"])
            return
        self._scores.update(self.predict_step(batch, batch_idx)["outputs"], batch)

    def on_test_epoch_end(self) -> None:
        values = self._scores.compute()
        self.log_dict({name: float(value) for name, value in values.items()}, batch_size=1, sync_dist=True)
        self._scores = self._run = None  # a module that stays would be asked for its mode when the model trains


class Run:
    """Something on its way through one video."""

    def step(self, frames: Tensor) -> Iterable[Any]:
        """What the next frames, uint8 ``[T, 3, H, W]``, turn out to hold: an output for each, as they come."""
        raise NotImplementedError


class Propagating(Run):
    """Labels on their way, by a model's features."""

    def __init__(self, model: Correspondence, kind: str, first: Any, picture: tuple[int, int]) -> None:
        self.model, self.kind, self.first, self.picture = model, kind, first, picture
        self.carried: Carried | None = None
        self.propagator: Propagator | None = None

    def step(self, frames: Tensor) -> Iterator[Any]:
        for features in self.model.maps(frames):
            if self.propagator is None:
                view = View(self.picture, self.model.propagation.size, tuple(features.shape[1:]))
                self.carried = KINDS[self.kind](self.first, view, features.device)
                self.propagator = Propagator(self.model.propagation, features, self.carried.labels)
                yield self.carried.given
                self.propagator.step(features)  # the first frame is propagated too; what is put out is what was given
            else:
                yield self.carried.read(self.propagator.step(features))


class Rebuilding(Run):
    """Pictures rebuilt from the one so many frames before (table 2.5): warped by the flow between their features."""

    def __init__(self, model: Correspondence) -> None:
        self.model = model
        self.past: list[tuple[Tensor, Tensor]] = []  # the last pictures and their features, the oldest first

    def step(self, frames: Tensor) -> list[dict[int, Tensor]]:
        """For each frame the rebuilt pictures, float ``[3, H, W]`` 0 to 255, by the gap that they bridge."""
        outputs = []
        for picture, features in zip(frames.to(self.model.device), self.model.maps(frames), strict=True):
            outputs.append({gap: self._rebuild(gap, features) for gap in GAPS if len(self.past) >= gap})
            self.past = [*self.past[-max(GAPS) + 1 :], (picture, features)]
        return outputs

    def _rebuild(self, gap: int, features: Tensor) -> Tensor:
        picture, before = self.past[-gap]
        return warp(picture.float(), self.model.match(before, features, tuple(picture.shape[1:])))


def moving(video: str | os.PathLike) -> FrameSource:
    """The frames of a video file or a folder of images, two at least.

    Raises:
        VideoError: it cannot be read, or has one frame only.
    """
    source = frames_of(video)
    if len(source) < 2:
        raise VideoError(f"{video} has one frame only: there is nothing to propagate to.")
    return source


def _batched(frames: Iterable[np.ndarray], size: int) -> Iterator[Tensor]:
    """Frames ``[H, W, 3]`` as tensors ``[T, 3, H, W]`` of at most ``size``."""
    held: list[np.ndarray] = []
    for frame in frames:
        held.append(frame)
        if len(held) == size:
            yield torch.from_numpy(np.stack(held)).permute(0, 3, 1, 2)
            held = []
    if held:
        yield torch.from_numpy(np.stack(held)).permute(0, 3, 1, 2)
