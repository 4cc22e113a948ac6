"""The row that every table of correspondence begins with: labels that stay where they are in the first frame."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zoo.methods.carried import KINDS, View
from zoo.methods.correspondence import GAPS, Correspondence, Run
from zoo.registry import register
from zoo.spec import VideoSpec


class Identity(Correspondence):
    """Copies the first frame's labels to all others; nothing in it learns."""

    default_weights = "none"

    def __init__(self) -> None:
        super().__init__(nn.Identity(), spec=VideoSpec(frames=1, stride=1, clips=1, crops=1))

    def protocol(self) -> dict[str, Any]:
        """Nothing to set."""
        return {"in_words": "the first frame's labels, where they are"}

    def features(self, clips: Tensor) -> Tensor:
        """None."""
        raise self.featureless("it copies labels and looks at no frame")

    def match(self, source: Tensor, target: Tensor, picture: tuple[int, int]) -> Tensor:
        """No flow: every pixel is where it was."""
        return target.new_zeros(2, *picture)

    def start(self, kind: str, first: Any, picture: tuple[int, int]) -> Run:
        """As `Correspondence.start`."""
        return _Staying() if kind == "frames" else _Copying(kind, first, picture)


class _Copying(Run):
    def __init__(self, kind: str, first: Any, picture: tuple[int, int]) -> None:
        self.kind, self.first, self.picture = kind, first, picture
        self.given: Any = None

    def step(self, frames: Tensor) -> list[Any]:
        if self.given is None:
            self.given = KINDS[self.kind](self.first, View(self.picture, None, self.picture), frames.device).given
        return [self.given] * len(frames)


class _Staying(Run):
    def __init__(self) -> None:
        self.past: list[Tensor] = []

    def step(self, frames: Tensor) -> list[dict[int, Tensor]]:
        outputs = []
        for frame in frames.float():
            outputs.append({gap: self.past[-gap] for gap in GAPS if len(self.past) >= gap})
            self.past = [*self.past[-max(GAPS) + 1 :], frame]
        return outputs


@register("label_propagation_identity", paper="wang2019timecycle")
def label_propagation_identity() -> Identity:
    """Nothing moves: the baseline of all label propagation."""
    return Identity()
