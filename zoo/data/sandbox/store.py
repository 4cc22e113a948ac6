"""A rendered data set on disk: what is there already, of which recipe, and who renders the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from zoo.errors import DataError
from zoo.files import write_whole, writing
from zoo.pools import process_pool

MARKER = "sandbox.json"
Job = TypeVar("Job")


def render_splits(
    root: str | Path,
    about: Mapping[str, Any],
    counts: Mapping[str, int],
    render: Callable[[Path, str, int], None],
) -> Path:
    """Render the splits that are not there yet, and return the root.

    A split counts as complete only when ``sandbox.json`` says so, which is written after it. Of two who start at once,
    the second finds the work done.

    Args:
        root: the data set's folder; missing, empty, or an earlier render by the same recipe and seed.
        about: ``description``, ``recipe`` and ``seed``; the latter two must be those of what is there.
        counts: videos in each split; a split of 0 is left alone.
        render: called with the root, a split and its count.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    root = Path(root)
    lock = root.with_name(f"{root.name}.lock")
    with writing(lock):
        root.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    with held:
        state = _read_marker(root, about)
        for split, count in counts.items():
            done = state["complete"].get(split)
            if done not in (None, count) and count:
                raise DataError(
                    f"{root} holds a sandbox with {done} {split} videos, not {count}; ask for {done} or name another "
                    "folder."
                )
            if done is None and count:
                render(root, split, count)
                state["complete"][split] = count
                write_whole(root / MARKER, json.dumps(state, indent=1).encode())
    return root


def each(function: Callable[[Job], None], jobs: list[Job], workers: int) -> None:
    """Call the function with every job, here or in several processes."""
    if workers > 1:
        with process_pool(workers, "a process that rendered died, perhaps for lack of memory; take fewer.") as pool:
            list(pool.map(function, jobs, chunksize=min(16, -(-len(jobs) // workers) or 1)))
    else:
        for job in jobs:
            function(job)


def _read_marker(root: Path, about: Mapping[str, Any]) -> dict:
    """The state of ``root``: its recipe and its complete splits; written afresh for a new or empty folder."""
    marker = root / MARKER
    if marker.exists():
        state = json.loads(marker.read_text())
        if (state["recipe"], state["seed"]) != (about["recipe"], about["seed"]):
            theirs = f"recipe {state['recipe']}, seed {state['seed']}"
            raise DataError(
                f"{root} holds the sandbox of {theirs}, not recipe {about['recipe']}, seed {about['seed']}; name "
                "another folder."
            )
        return state
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not empty and not a sandbox; name a new or an empty folder to render into.")
    state = {**about, "complete": {}}
    write_whole(marker, json.dumps(state, indent=1).encode())
    return state
