"""What is written down of collisions beside their frames: the journal of an unfinished run, and the folder ``info``.

    info/unfinished.jsonl    while a set is being made: the settings, and a line for each mini-batch that is there
    info/collisions.json     all settings, and of every collision its values, poses and the hash of its frames
    info/data.p, batch.p     as released: the folders, and the mini-batches of numbers of folders

``data.p`` is written last and ``unfinished.jsonl`` is then removed: a set that was interrupted has the one and lacks
the other.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.collisions.plan import PROPERTIES, RELEASED, TABLE, UNITS, Plan, physical
from zoo.data.collisions.render import CAMERA, FORWARD, WIDTH
from zoo.errors import DataError
from zoo.files import write_whole, writing

RECIPE = 1  # to be raised when the same settings give other pictures
FILES = tuple(f"{number:02d}.png" for number in range(5))
TIMES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of the frames, seconds from the contact


@dataclass
class Ledger:
    """What is known of the set in a folder.

    Attributes:
        root: the folder.
        settings: what the set is made with.
        records: of the collisions that are written down, by name.
    """

    root: Path
    settings: dict[str, Any]
    records: dict[str, dict[str, Any]]

    @property
    def journal(self) -> Path:
        return self.root / "info" / "unfinished.jsonl"

    @classmethod
    def open(cls, root: Path, settings: dict[str, Any]) -> Ledger:
        """Read what an earlier run left.

        Raises:
            DataError: it is of other settings, or not of this making.
        """
        ledger, info = cls(root, settings, {}), root / "info"
        whole = info / "collisions.json"
        try:
            if ledger.journal.exists():
                found, *batches = _lines(ledger.journal)
            elif whole.exists():
                found = json.loads(whole.read_bytes())
                batches = [found["collisions"]]
            elif info.exists() and any(info.iterdir()):
                raise DataError(f"{info} was not written by this simulator: give another folder.")
            else:
                return ledger
            ledger.records = {record["name"]: record for batch in batches for record in batch}
            others = {name: found.get(name) for name, value in settings.items() if found.get(name) != value}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{info} was not written by this simulator, or is damaged ({error!r}): give another folder, or remove "
                f"{info} and lose what it says."
            ) from error
        if others:
            here, asked = (", ".join(f"{k} {v}" for k, v in kind.items()) for kind in (others, _part(settings, others)))
            raise DataError(
                f"{root} holds collisions made with {here}; asked for were {asked}. Give another folder, or the same "
                "settings to go on with it."
            )
        return ledger

    def start(self) -> None:
        """Write the journal anew with what is known, and take the mark of a whole set away."""
        lines = [self.settings, *([record] for record in self.records.values())]
        write_whole(self.journal, "".join(f"{_compact(line)}\n" for line in lines).encode())
        for name in ("data.p", "batch.p", "collisions.json"):
            (self.root / "info" / name).unlink(missing_ok=True)

    def add(self, records: list[dict[str, Any]]) -> None:
        """Note the collisions of a mini-batch, which are there from now on."""
        with writing(self.journal), open(self.journal, "a", encoding="utf-8") as file:
            file.write(f"{_compact(records)}\n")
        self.records |= {record["name"]: record for record in records}

    def finish(self, plan: Plan, versions: dict[str, str]) -> None:
        """Write the folder ``info`` of a set that is whole."""
        info, records = self.root / "info", [self.records[c.name] for c in plan.collisions]
        pixels = len(records) * len(FILES) * self.settings["size"] ** 2
        head = self.settings | {
            "made_with": versions,
            "times": TIMES,
            "values": {name: [physical(name, scale) for scale in range(1, 6)] for name in PROPERTIES},
            "table": TABLE,
            "units": UNITS,
            "draws": [vars(variant) for variant in plan.variants],
            "camera": {"place": CAMERA.tolist(), "forward": FORWARD.tolist(), "width": WIDTH},
            "mean": [round(sum(r["rgb"][k] for r in records) / pixels / 255, 6) for k in range(3)],
        }
        # A collision a line, so that the file can be read by eye and by line.
        lines = ",\n".join(map(_compact, records))
        write_whole(info / "collisions.json", f'{_compact(head)[:-1]},\n"collisions":[\n{lines}\n]}}\n'.encode())
        for name, content in _released_lists(plan).items():
            write_whole(info / name, content)
        self.journal.unlink()

    def is_finished(self, plan: Plan) -> bool:
        """Whether the folder ``info`` is that of a whole set."""
        info = self.root / "info"
        if self.journal.exists() or not (info / "collisions.json").exists():
            return False
        try:
            return all((info / name).read_bytes() == content for name, content in _released_lists(plan).items())
        except OSError:
            return False

    def is_whole(self, name: str) -> bool:
        """Whether a collision's frames are there, as they were written down."""
        if name not in self.records:
            return False
        try:
            return hash_of((self.root / name / frame).read_bytes() for frame in FILES) == self.records[name]["sha256"]
        except OSError:
            return False


def hash_of(frames: Iterable[bytes]) -> str:
    """The SHA-256 over the files of all frames, one after another."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame)
    return digest.hexdigest()


def _released_lists(plan: Plan) -> dict[str, bytes]:
    """What the lists of the release hold of a plan, by their names; ``data.p`` is the last to be written."""
    batches = {RELEASED[name]: splits for name, splits in plan.mini_batches().items()}
    entries = [[c.name, *c.pair, c.variant, c.mass, c.speed, c.friction] for c in plan.collisions]
    return {"batch.p": pickle.dumps(batches, 0), "data.p": pickle.dumps(entries, 0)}


def _lines(path: Path) -> list[Any]:
    """The lines of a journal up to one that a kill cut off."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _part(settings: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: settings[name] for name in names}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
