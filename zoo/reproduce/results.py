"""What came of a run: rows with their status, the cells that were measured, and all that a measurement rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.reproduce.tables import Row, Table

# "reproduced" alone is said of all videos; of fewer, after a colon, how many they were.
REPRODUCED, REPORTED_ONLY, NEEDS_WEIGHTS = "reproduced", "reported only", "needs weights"
MEASURED = "measured"  # in the place of "reproduced" where nothing was reported, or of other data
FAILED, PARTIAL, UNREACHABLE, ABSENT = "failed: ", "partial: ", "weights not reachable: ", "not in the zoo: "
NEEDS_DATA = "needs data: "  # the data set's name, and where a root was given what it lacks


@dataclass(frozen=True)
class Measurement:
    """One test run of one set of weights, with everything needed to judge or repeat it.

    Attributes:
        weights: name, sha256, source and licence of the checkpoint, and the model's arguments that were overridden; of
            a model of several streams those of each stand in a list, ``streams``.
        data: name of the data set, videos expected by the official list, found, scored, of these incomplete, the limit
            that was set (or None), and the SHA-256 of the list of videos found.
        unreadable: videos that could not be decoded: number in the list, name, message.
        protocol: what the model says of how it was tested (`ZooModule.protocol`).
        labels_sha256: of the class names in the order of the model's outputs.
        metrics: every number that the model logged.
        device: what computed it.
        seconds: that the test took.
    """

    weights: dict[str, Any]
    data: dict[str, Any]
    unreadable: tuple[dict[str, Any], ...]
    protocol: dict[str, Any]
    labels_sha256: str | None
    metrics: dict[str, float]
    device: str
    seconds: float

    def summary(self) -> str:
        """The facts that decide whether two numbers may be compared, in one line."""
        videos = self.data
        parts = [
            f"{self.weights['name']}: {videos['scored']} of {videos['expected']} videos scored",
            self.protocol["in_words"],
            f"single view {self.metrics['clip_top1']:.2f}" if "clip_top1" in self.metrics else "",
            f"{len(self.unreadable)} videos unreadable" if self.unreadable else "",
            f"{videos['incomplete']} videos incomplete" if videos["incomplete"] else "",
            f"{self.seconds:.0f} s on {self.device}",
        ]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class RowResult:
    """A row and what came of it. ``reproduced`` holds the cells that were measured and no others."""

    table: Table
    row: Row
    status: str
    reproduced: dict[str, float] = field(default_factory=dict)
    measurement: Measurement | None = None

    @property
    def kind(self) -> str:
        """The status without its particulars."""
        for reason in (REPRODUCED, MEASURED, FAILED, PARTIAL, UNREACHABLE, ABSENT):
            if self.status.startswith(reason):
                return reason.removesuffix(": ")
        if self.status.startswith(NEEDS_DATA):
            return f"{NEEDS_DATA}{self.table.data}"
        return self.status

    def difference(self, metric: str) -> float | None:
        """Reproduced minus reported, in the metric's unit; None where either is lacking or they are of other data."""
        reported, reproduced = self.row.values.get(metric), self.reproduced.get(metric)
        if reported is None or reproduced is None or not self.table.comparable:
            return None
        return reproduced - reported

    def to_json(self) -> dict[str, Any]:
        """Plain values: table, row, model, weights, reported, reproduced, status."""
        return {
            "table": self.table.name,
            "row": self.row.name,
            "model": self.row.model,
            "weights": self.row.weights,
            "reported": self.row.values,
            "reproduced": self.reproduced,
            "status": self.status,
        }


@dataclass(frozen=True)
class Report:
    """All rows of one `zoo.reproduce`.

    Attributes:
        name: what was asked for, such as ``"nonlocal/5.2f"`` or ``"sandbox"``.
        rows: in the order of the tables.
        about: date, versions, hardware and commit.
    """

    name: str
    rows: tuple[RowResult, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, list[RowResult]]:
        """The rows of each table, by the table's name."""
        tables: dict[str, list[RowResult]] = {}
        for row in self.rows:
            tables.setdefault(row.table.name, []).append(row)
        return tables

    @property
    def failed(self) -> list[RowResult]:
        """The rows that should have been measured and went wrong."""
        return [row for row in self.rows if row.status.startswith(FAILED)]

    def summary(self) -> str:
        """How many rows came out how, in one sentence."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.kind] = counts.get(row.kind, 0) + 1
        return f"{len(self.rows)} rows: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())

    def to_json(self) -> list[dict[str, Any]]:
        """A list of rows with the keys table, row, model, weights, reported, reproduced, status."""
        return [row.to_json() for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Everything: ``about``, the rows, and each measurement once, with the rows that it stands for."""
        measurements: dict[int, dict[str, Any]] = {}
        for row in self.rows:
            if row.measurement:
                entry = measurements.setdefault(id(row.measurement), {"rows": [], **asdict(row.measurement)})
                entry["rows"].append(f"{row.table.name}: {row.row.name}")
        return {
            "name": self.name,
            "about": self.about,
            "rows": self.to_json(),
            "measurements": list(measurements.values()),
        }
