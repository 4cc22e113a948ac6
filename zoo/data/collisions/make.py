"""Collisions simulated, drawn and written in the layout of the released data set, over several processes.

    OUT/<collision>/00.png ... 04.png      appears whole, once all of its mini-batch of mass is drawn
    OUT/info/...                           see `zoo.data.collisions.records`

The same settings give the same bytes, whatever the number of processes and however often a run was interrupted. On
other machines that holds for the pictures of given poses; the poses are MuJoCo's, and were compared on one machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from filelock import FileLock, Timeout

from zoo._version import __version__
from zoo.data.collisions.plan import Collision, Plan, Variant
from zoo.data.collisions.records import FILES, RECIPE, Ledger, hash_of
from zoo.data.collisions.render import Renderer, encode
from zoo.data.collisions.scene import Motion, Scene, mujoco
from zoo.errors import DataError
from zoo.files import require_writable, writing
from zoo.pools import process_pool

SIZES = (8, 1024)  # least and most pixels of a side


@dataclass
class MakeReport:
    """What `make_collisions` did.

    Attributes:
        folder: where the set lies.
        made: collisions that were simulated.
        kept: collisions that were there already.
    """

    folder: Path
    made: int = 0
    kept: int = 0


def make_collisions(
    out: str | Path,
    plan: Plan,
    *,
    size: int = 256,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MakeReport:
    """Make the collisions of a plan that are not in ``out`` yet, or not as they were written.

    Args:
        out: the folder.
        plan: which collisions.
        size: pixels of a side of the square frames.
        workers: processes; with 1 this one does it all.
        progress: called with how many collisions are there, and of how many.

    Raises:
        DataError: ``out`` holds a set with other settings or something else, another run is at it, or no such size.
        NoPlaceError: ``out`` can't be written to, or the disk is full.
        ZooError: MuJoCo is not installed, or a worker died.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"frames of {size} pixels: a side must have {SIZES[0]} to {SIZES[1]}.")
    versions = {"videozoo": __version__, "mujoco": mujoco().__version__, "numpy": np.__version__}
    versions["pillow"] = PIL.__version__
    settings = {
        "recipe": RECIPE,
        "size": size,
        "seed": plan.seed,
        "variants": len(plan.variants),
        "pairs": [list(pair) for pair in plan.pairs],
        "mujoco": versions["mujoco"],
    }
    root = Path(out)
    require_writable(root)
    with ExitStack() as held:
        _lock(root, held)
        ledger = Ledger.open(root, settings)
        groups = plan.groups()
        lacking = [group for group in groups if not all(ledger.is_whole(c.name) for c in group)]
        report = MakeReport(root, kept=len(plan) - 5 * len(lacking))
        progress(report.kept, len(plan))
        if not lacking and ledger.is_finished(plan):
            return report
        planned = {collision.name for group in groups for collision in group}
        for collision in (collision for group in lacking for collision in group):
            if (place := root / collision.name).exists() and not _is_ours(place):
                raise DataError(f"{place} holds more than frames of a collision, and would be replaced: move it away.")
            ledger.records.pop(collision.name, None)
        with writing(ledger.journal):
            for left in root.glob(".*.part"):  # by somebody who was killed
                if left.name.split(".")[1] in planned and _is_ours(left):
                    shutil.rmtree(left, ignore_errors=True)
            ledger.start()
        for records in _each(lacking, plan.variants, root, size, workers):
            ledger.add(records)
            report.made += len(records)
            progress(report.kept + report.made, len(plan))
        with writing(root / "info" / "data.p"):
            ledger.finish(plan, versions)
    return report


def _lock(root: Path, held: ExitStack) -> None:
    lock = root / ".lock"
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            raise DataError(f"{root}: another run is making collisions there. Wait for it, or end it.") from None
    held.callback(lock.unlink, missing_ok=True)


def _each(
    groups: list[list[Collision]], variants: Sequence[Variant], root: Path, size: int, workers: int
) -> Iterator[list[dict[str, Any]]]:
    """What `_make_group` says of each mini-batch, as they get done."""
    tasks = [(group, variants[group[0].variant], root, size) for group in groups]
    if workers == 1 or len(groups) < 2:
        for task in tasks:
            yield _make_group(*task)
        return
    died = (
        f"a process that simulated collisions died, perhaps for lack of memory. What is whole in {root} stays: run it "
        "again, with fewer of them (--workers)."
    )
    with process_pool(workers, died) as pool:
        for future in as_completed([pool.submit(_make_group, *task) for task in tasks]):
            yield future.result()


@lru_cache(maxsize=2)
def _scene(pair: tuple[str, str]) -> Scene:
    return Scene(pair)


@lru_cache(maxsize=2)
def _renderer(pair: tuple[str, str], size: int) -> Renderer:
    return Renderer(pair, size)


def _make_group(group: list[Collision], variant: Variant, root: Path, size: int) -> list[dict[str, Any]]:
    """Simulate, draw and write a mini-batch of mass; what is to be noted of each collision."""
    pair, drawn, records = group[0].pair, {}, []
    for motion in _scene(pair).motions(variant, group):
        frames = []
        for poses in motion.poses:
            if (key := poses.tobytes()) not in drawn:  # the frames before the contact are the same in all five
                picture = _renderer(pair, size).draw(poses)
                drawn[key] = encode(picture), picture.sum((0, 1), dtype=np.int64)
            frames.append(drawn[key])
        _write(root / motion.collision.name, [frame for frame, _ in frames])
        records.append(_record(motion, frames))
    return records


def _record(motion: Motion, frames: list[tuple[bytes, np.ndarray]]) -> dict[str, Any]:
    collision = motion.collision
    return {
        "name": collision.name,
        "pair": list(collision.pair),
        "variant": collision.variant,
        "mass": collision.mass,
        "speed": collision.speed,
        "friction": collision.friction,
        "launch": motion.launch,
        "contact": motion.contact,
        "poses": motion.poses.tolist(),
        "rgb": [int(value) for value in sum(total for _, total in frames)],
        "sha256": hash_of(frame for frame, _ in frames),
    }


def _is_ours(folder: Path) -> bool:
    """Whether nothing is lost with a folder but what is made again."""
    return folder.is_dir() and not folder.is_symlink() and {path.name for path in folder.iterdir()} <= set(FILES)


def _write(folder: Path, frames: list[bytes]) -> None:
    """A folder with its frames, all of it or nothing."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with writing(folder):
        try:
            part.mkdir()
            for name, frame in zip(FILES, frames, strict=True):
                (part / name).write_bytes(frame)
            if folder.exists():
                shutil.rmtree(folder)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
