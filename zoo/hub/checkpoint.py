"""What is known of one published set of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Bundled:
    """Weights that travel with the package, at ``path`` relative to its resources."""

    kind: ClassVar[str] = "bundled"
    path: str

    def __str__(self) -> str:
        return f"bundled:{self.path}"


@dataclass(frozen=True)
class Hub:
    """Weights on the Hugging Face hub: ``file`` of the repository ``repo`` at ``revision`` (a commit or a tag)."""

    kind: ClassVar[str] = "hub"
    repo: str
    file: str
    revision: str

    def __str__(self) -> str:
        return f"hf://{self.repo}/{self.file}@{self.revision}"


@dataclass(frozen=True)
class Upstream:
    """Weights as their authors published them: a file of a foreign ``format`` at ``url``.

    ``name`` is the file's own one, where the address does not end with it. ``companions`` are addresses of lists of
    words (.npy) that belong to the weights, by what they are called among the tensors.
    """

    kind: ClassVar[str] = "upstream"
    url: str
    format: str
    name: str | None = None
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's own name: the one given, or the last part of the URL."""
        return self.name or PurePosixPath(urlsplit(self.url).path).name

    def __str__(self) -> str:
        return self.url


Source = Bundled | Hub | Upstream


@dataclass(frozen=True)
class Protocol:
    """How a number was measured, as data, so that nobody has to guess what "30 views" meant.

    Attributes:
        dataset: name of the data set, as `zoo data check` knows it.
        split: the part of it that was scored.
        score: how a video's prediction and its score come about.
        clips: clips per video, spread evenly over it, where a prediction is made of views.
        crops: crops per clip along the long side.
        short_side: pixels of the frame's short side.
        crop: side of the square crops in pixels.
    """

    dataset: str
    split: str
    score: str
    clips: int | None = None
    crops: int | None = None
    short_side: int | None = None
    crop: int | None = None

    @property
    def in_words(self) -> str:
        """The protocol in a line."""
        if self.clips is None:
            return self.score
        views = f"{self.clips} clips x {self.crops} crops of {self.crop} pixels at short side {self.short_side}"
        return f"{views}, {self.score}"


@dataclass(frozen=True)
class Reported:
    """What the publisher of the weights says they score.

    Attributes:
        by: who says so: a repository at a commit, or a report.
        scores: metric name to value, in percent.
        protocol: how it was measured.
        table: the table among ``benchmarks/tables`` that holds the number, such as ``"nonlocal/release-r50"``.
        row: that table's row.
        videos: how many videos of the split the publisher had.
    """

    by: str
    scores: dict[str, float]
    protocol: Protocol
    table: str | None = None
    row: str | None = None
    videos: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights of one registered model.

    Attributes:
        name: ``model.tag``, what `zoo.load` takes.
        source: where the file lies.
        license: licence of the weights (SPDX).
        code_license: licence of the code that trained them (SPDX).
        trained_on: data sets, first to last; what came first initialised what came later.
        num_classes: width of the classifier in the file; None where there is no classifier.
        sha256: hash of the file as published; None where nobody could compute it (then the first download is pinned).
        sha256_prefix: its first eight digits, where the publisher gives those only (in the file's name).
        bytes: the file's size, None where unknown.
        labels: name of the class list, in the order of the classifier's rows; None where the classes have no names.
        spec: fields of `VideoSpec` in which this checkpoint differs from its model.
        reported: the publisher's score.
        measured: scores that this project measured itself, metric name to value.
        proof: the proof file: a resource for bundled weights, a file of the same repository on the hub.
        default: whether the model's plain name loads this one.
        notes: what else a user must know.
    """

    name: str
    source: Source
    license: str
    code_license: str
    trained_on: tuple[str, ...]
    num_classes: int | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    bytes: int | None = None
    labels: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    reported: Reported | None = None
    measured: dict[str, float] = field(default_factory=dict)
    proof: str | None = None
    default: bool = False
    notes: str = ""

    @property
    def model(self) -> str:
        """The registered model that the weights fit."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What tells the weights from others of the same model."""
        return self.name.partition(".")[2]
