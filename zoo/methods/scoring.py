"""The official scores of what was carried through a data set's sequences, by the kind of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.metrics.davis import DavisJF
from zoo.metrics.frame_error import FrameError
from zoo.metrics.parts import PartAP, PartIoU
from zoo.metrics.pck import PCK
from zoo.networks.label_maps import VOID


class Scores(nn.Module):
    """Adds up the scores of one kind of labels over sequences; a sequence that could not be read whole is left out."""

    def __init__(self, kind: str, gaps: Sequence[int] = ()) -> None:
        super().__init__()
        self.kind = kind
        made = {
            "masks": lambda: {"jf": DavisJF()},
            "keypoints": lambda: {"pck": PCK()},
            "parts": lambda: {"iou": PartIoU(), "ap": PartAP()},
            "frames": lambda: {"error": FrameError(gaps)},
        }
        self.metrics = nn.ModuleDict(made[kind]())
        self.dropped: set[int] = set()
        self.objects = 0

    def drop(self, sequence: int) -> None:
        """Forget a sequence, and whatever of it still comes."""
        self.dropped.add(sequence)
        for metric in self.metrics.values():
            metric.discard(sequence)

    def update(self, outputs: list[Any], batch: dict[str, Any]) -> None:
        """Compare a run's outputs with its truth; ``batch`` is as `zoo.data.sequences` hands it out."""
        if batch["index"] not in self.dropped:
            getattr(self, f"_{self.kind}")(outputs, batch)

    def compute(self) -> dict[str, Tensor]:
        """Every number, by the names that tables use."""
        return {name: value for metric in self.metrics.values() for name, value in metric.compute().items()}

    def _masks(self, outputs: list[Tensor], batch: dict[str, Any]) -> None:
        if int(batch["numbers"][0]) == 0:
            first = batch["truth"][0]["mask"]
            self.objects = int(torch.where(first == VOID, 0, first).max())
        if known := _known(batch):
            truth = torch.stack([batch["truth"][i]["mask"] for i in known])
            place = {"sequence": batch["index"], "frames": batch["numbers"][known], "length": batch["length"]}
            self.metrics["jf"].update(torch.stack([outputs[i] for i in known]), truth, objects=self.objects, **place)

    def _keypoints(self, outputs: list[Tensor], batch: dict[str, Any]) -> None:
        if known := _known(batch):
            truth = torch.stack([batch["truth"][i]["keypoints"] for i in known])
            predicted = torch.stack([outputs[i] for i in known])
            self.metrics["pck"].update(predicted, truth, sequence=batch["index"], frames=batch["numbers"][known])

    def _parts(self, outputs: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        for output, truth, number in zip(outputs, batch["truth"], batch["numbers"].tolist(), strict=True):
            if truth is None:
                continue
            place = {"sequence": batch["index"]}
            semantic = (output["semantic"][None], truth["semantic"][None])
            self.metrics["iou"].update(*semantic, frames=torch.tensor([number]), **place)
            self.metrics["ap"].update(
                output["instances"],
                output["classes"],
                output["scores"],
                truth["instances"],
                truth["classes"],
                frame=number,
                **place,
            )

    def _frames(self, outputs: list[dict[int, Tensor]], batch: dict[str, Any]) -> None:
        for gap in self.metrics["error"].gaps:
            here = [i for i, output in enumerate(outputs) if gap in output]
            if here:
                rebuilt = torch.stack([outputs[i][gap] for i in here])
                place = {"sequence": batch["index"], "frames": batch["numbers"][here]}
                self.metrics["error"].update(rebuilt, batch["frames"][here], gap=gap, **place)


def _known(batch: dict[str, Any]) -> list[int]:
    """Which of the frames have an annotation."""
    return [i for i, entry in enumerate(batch["truth"]) if entry is not None]
