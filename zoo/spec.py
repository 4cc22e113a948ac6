"""What a model wants to eat. A method states a `VideoSpec`; a datamodule serves it; neither knows the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from zoo.errors import ZooError


@dataclass(frozen=True)
class TrajectorySpec:
    """How a video is cut into a sequence of clips, for methods that see a video as one.

    Candidate clips of ``spec.frames`` frames (at ``spec.fps``) begin every ``step`` frames; a trajectory takes every
    ``stride``-th of them.

    Attributes:
        clips: in a training trajectory, a closed range; fewer where the video ends before.
        step: frames from one candidate to the next.
        stride: candidates from one clip of a trajectory to the next.
        starts: training trajectories that are drawn from a video in an epoch, at most.
        balanced: draw starts so that clips of each class are about as frequent in a video's; where a trajectory has
            several clips this changes nothing.
        cap: candidates of a video that a test looks at, from the first on; None looks at all.
    """

    clips: tuple[int, int] = (6, 8)
    step: int = 4
    stride: int = 4
    starts: int = 10
    balanced: bool = False
    cap: int | None = 50

    def __post_init__(self) -> None:
        low, high = self.clips
        if not 1 <= low <= high:
            raise ZooError(f"spec: a trajectory's clips must be an ascending range from 1 on, got {low}..{high}.")
        for name in ("step", "stride", "starts", "cap"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1) and not (name == "cap" and value is None):
                raise ZooError(f"spec: a trajectory's {name} must be a positive integer, got {value!r}.")


@dataclass(frozen=True)
class MomentSpec:
    """How a video is seen as single frames at known times, for methods that label moments.

    Images are counted from 1, ``spec.fps`` of them a second: image n is at ``(n - 1) / fps`` seconds.

    Attributes:
        streams: what is seen of a moment: ``"rgb"``, ``"flow"`` or both.
        flow: consecutive flow fields in a stack, whose ``2 * flow`` channels are x1, y1, x2, y2, ...
        labels: ``"one"``: every pair of an annotation and an image within it is a training sample with that class;
            ``"all"``: every image is a sample with all classes at its time.
        every: images from one training sample to the next.
        progress: where in its annotation a sample lies: ``"thirds"`` of the interval, or as ``"released"``, where the
            time since its start is divided by its end instead of its length.
        points: frames of a video that a test looks at, from the first image to the last.
        share: part of the training samples that an epoch draws.
        together: frames of one video in a training sample. With 1 a batch is as diverse as can be; with more it holds
            videos whole, as synchronous training needs them.
        jitter: largest change of brightness, contrast and saturation while training, as a fraction.
        lighting: standard deviation of the noise along the principal components of colour while training.
        area: part of the image that a training crop covers, of an aspect between 3/4 and 4/3.
    """

    streams: tuple[str, ...] = ("rgb",)
    flow: int = 10
    labels: Literal["one", "all"] = "one"
    every: int = 4
    progress: Literal["thirds", "released"] = "thirds"
    points: int = 25
    share: float = 0.1
    together: int = 1
    jitter: float = 0.4
    lighting: float = 0.1
    area: tuple[float, float] = (0.08, 1.0)

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) != len(self.streams) or set(self.streams) - {"rgb", "flow"}:
            raise ZooError(f"spec: streams must be of 'rgb' and 'flow', each once, got {self.streams!r}.")
        for name, known in (("labels", ("one", "all")), ("progress", ("thirds", "released"))):
            if getattr(self, name) not in known:
                raise ZooError(f"spec: a moment's {name} must be one of {known}, got {getattr(self, name)!r}.")
        for name in ("flow", "every", "points", "together"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ZooError(f"spec: a moment's {name} must be a positive integer, got {getattr(self, name)!r}.")
        if not 0 < self.share <= 1:
            raise ZooError(f"spec: share must be above 0 and at most 1, got {self.share!r}.")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ZooError(f"spec: area must be an ascending range within 0..1, got {self.area!r}.")


@dataclass(frozen=True)
class FeatureSpec:
    """How a video is seen as rows of features that a frozen network computed beforehand; row k of a file with r rows a
    second stands for the time from k / r to (k + 1) / r.

    Attributes:
        dim: numbers in a row.
        samples: what a training sample is: ``"order"``: ``clips`` clips of one video, in its order or reversed;
            ``"rows"``: ``clips`` rows of one video, each with whether an action is annotated there; ``"videos"``: a
            whole video with its annotation or, where it has none, the order of its steps.
        clips: in a training sample (the M of the paper).
        window: seconds that the clips of a training sample span at most (the paper's d); None for all there is.
        trim: part of a video at each end that training on order leaves out.
        reverse: whether a sample of order is reversed with probability one half.
        segment: seconds of the segments that a test scores.
    """

    dim: int = 1024
    samples: Literal["order", "rows", "videos"] = "order"
    clips: int = 5
    window: float | None = None
    trim: float = 0.3
    reverse: bool = True
    segment: float = 0.2

    def __post_init__(self) -> None:
        if self.samples not in ("order", "rows", "videos"):
            raise ZooError(f"spec: samples must be 'order', 'rows' or 'videos', got {self.samples!r}.")
        for name, least in (("dim", 1), ("clips", 2 if self.samples == "order" else 1)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                raise ZooError(f"spec: the features' {name} must be an integer of at least {least}, got {value!r}.")
        if self.window is not None and not self.window > 0:
            raise ZooError(
                f"spec: the window must be above 0 seconds, or None for the whole video, got {self.window!r}."
            )
        if not 0 <= self.trim < 0.5:
            raise ZooError(f"spec: trim must be at least 0 and below 0.5 of a video's length, got {self.trim!r}.")
        if not self.segment > 0:
            raise ZooError(f"spec: segment must be above 0 seconds, got {self.segment!r}.")


#: What changes between simulated collisions, in the order of the physics vector; released files call speed "force".
PROPERTIES = ("mass", "speed", "friction")


@dataclass(frozen=True)
class CollisionSpec:
    """How simulated collisions are grouped, for methods that learn from what changes between them.

    A mini-batch is five sequences that differ in one physical property only, in the order of its five scales.

    Attributes:
        properties: those whose mini-batches are trained on, in the order in which staggered training adds them.
        groups: mini-batches of each property in a training batch.
        flow: whether the optical flow between consecutive frames is served, too.
    """

    properties: tuple[str, ...] = PROPERTIES
    groups: int = 4
    flow: bool = False

    def __post_init__(self) -> None:
        named = set(self.properties)
        if not named or len(named) != len(self.properties) or named - {*PROPERTIES}:
            raise ZooError(f"spec: properties must be of {', '.join(PROPERTIES)}, each once, got {self.properties!r}.")
        if not (isinstance(self.groups, int) and self.groups >= 1):
            raise ZooError(f"spec: groups must be a positive integer, got {self.groups!r}.")


@dataclass(frozen=True)
class VideoSpec:
    """How a clip is cut out of a video, for training and for testing. Sizes in pixels, colours RGB in 0..1.

    Attributes:
        frames: frames in a clip (the T of ``[B, C, T, H, W]``).
        stride: source frames from one clip frame to the next; a clip spans ``frames * stride`` source frames.
        fps: the rate that frames are counted at; None counts the frames that the file has.
        sampling: ``"clip"`` takes ``frames`` frames; ``"past_and_target"`` takes two more, further on in the video: one
            to track from and the one after it (`zoo.data.sampling.past_and_target`).
        crop: side of the square training crop.
        short_side: the frame's short side is scaled to a random integer in this closed range while training.
        test_crop: side of the square crops when testing.
        test_short_side: the frame's short side when testing.
        clips: clips spread evenly over a video when testing.
        crops: crops of a clip when testing: 1 (centre) or 3 (along the long side).
        flip: whether a training clip is mirrored with probability one half.
        size: ``(height, width)`` that frames are scaled to, whatever their shape, instead of by their short side.
        trajectory: how a video becomes a sequence of clips; None where each clip stands alone.
        moments: how a video is seen as single frames; None for models of clips.
        features: how it is seen as rows of features; None for models of pixels.
        collisions: how simulated collisions are grouped; None for models of single videos.
        pixels: whether the model looks at videos (or their features) at all; a baseline that guesses needs their
            annotations only.
        mean: per channel, subtracted from RGB in 0..1.
        std: per channel, divides after the mean was subtracted.
    """

    frames: int = 32
    stride: int = 2
    fps: float | None = None
    sampling: Literal["clip", "past_and_target"] = "clip"
    crop: int = 224
    short_side: tuple[int, int] = (256, 320)
    test_crop: int = 256
    test_short_side: int = 256
    clips: int = 10
    crops: int = 3
    flip: bool = True
    size: tuple[int, int] | None = None
    trajectory: TrajectorySpec | None = None
    moments: MomentSpec | None = None
    features: FeatureSpec | None = None
    collisions: CollisionSpec | None = None
    pixels: bool = True
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "crop", "test_crop", "test_short_side", "clips"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ZooError(f"spec: {name} must be a positive integer, got {value!r}.")
        if self.fps is not None and not self.fps > 0:
            raise ZooError(f"spec: fps must be above 0, got {self.fps!r}.")
        if self.sampling not in ("clip", "past_and_target"):
            raise ZooError(f"spec: sampling must be 'clip' or 'past_and_target', got {self.sampling!r}.")
        if self.crops not in (1, 3):
            raise ZooError(f"spec: crops must be 1 or 3, got {self.crops!r}.")
        low, high = self.short_side
        if not self.crop <= low <= high:
            raise ZooError(f"spec: short_side {low}..{high} must be an ascending range that holds crop {self.crop}.")
        if self.size is not None and max(self.crop, self.test_crop) > min(self.size):
            raise ZooError(f"spec: size {self.size} must hold crop {self.crop} and test_crop {self.test_crop}.")
        if self.test_crop > self.test_short_side:
            raise ZooError(f"spec: test_crop {self.test_crop} is larger than test_short_side {self.test_short_side}.")

    @property
    def views(self) -> int:
        """Views of one video when testing: clips times crops."""
        return self.clips * self.crops

    def replace(self, **changes: Any) -> VideoSpec:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only (tuples become lists), fit for JSON and YAML."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VideoSpec:
        """The inverse of `to_dict`; an unknown field is an error that names it."""
        values = _checked(cls, "spec", values)
        kinds = {
            "trajectory": TrajectorySpec,
            "moments": MomentSpec,
            "features": FeatureSpec,
            "collisions": CollisionSpec,
        }
        for name, kind in kinds.items():
            if values.get(name) is not None:
                values[name] = kind(**_checked(kind, f"spec.{name}", values[name]))
        return cls(**values)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {k: _plain(v) if isinstance(v, dict) else v for k, v in plain.items()}


def _checked(kind: type, where: str, values: dict[str, Any]) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(kind)}
    if surplus := sorted(set(values) - known):
        raise ZooError(f"{where}: unknown field {', '.join(surplus)}; known fields: {', '.join(sorted(known))}.")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


#: One-second clips of 112 pixels that make trajectories, as the networks of Oops! see them.
ONE_SECOND = VideoSpec(
    frames=16,
    stride=1,
    fps=16,
    crop=112,
    short_side=(112, 168),
    test_crop=112,
    test_short_side=112,
    clips=1,
    crops=1,
    trajectory=TrajectorySpec(),
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)
