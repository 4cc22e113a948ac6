"""`zoo pseudo-label`: when things go wrong in videos that nobody annotated, as a trained model sees it.

Section 4 of "Video representations of goals emerge from watching failure" trains on such times beside the annotated
ones (footnote 2). How the authors chose them is not published; here it is the middle of the clip that is likeliest
transitional, and the model's certainty is written beside it, so that a user may be choosier.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from zoo.clip_index import state_hash
from zoo.data.video import probe
from zoo.errors import DataError, VideoError, ZooError
from zoo.files import require_writable, write_whole, writing
from zoo.methods.intentionality import Intentionality

Progress = Callable[[int, int | None], None]


def pseudo_label(
    model: Intentionality,
    videos: Sequence[Any],
    out: str | os.PathLike,
    *,
    stride: float = 0.25,
    at_least: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write the times of failures into a JSON file like the annotators', for the option ``pseudo`` of Oops!.

    What is found is kept beside ``out`` video by video, so that a run that was killed goes on where it stopped.

    Args:
        model: that labels clips.
        videos: records with ``path`` and ``name``, such as ``datamodule.unlabelled()``.
        out: the JSON file; each video has ``t`` (one time, seconds), ``rel_t``, ``len`` and ``score``.
        stride: seconds from one clip to the next.
        at_least: probability of "transitional" below which a video is left out.
        progress: is told how far it is.

    Returns:
        ``labelled`` and ``left_out`` as numbers, ``unreadable`` as messages by name.

    Raises:
        DataError: there are no videos, or what is kept from before is of another model or stride.
        ZooError: the model does not say when things go wrong; a file cannot be written.
    """
    if not hasattr(model, "embed"):
        raise ZooError(f"{model.name} does not say when things go wrong; take oops_r3d18 or goal_trajectory.")
    if not videos:
        raise DataError("there is no unlabelled video to look at: every training video that is there has a time.")
    out = Path(out)
    if out.exists():
        raise ZooError(f"{out} is there already; remove it, or name another file.")
    require_writable(out.parent)
    kept = out.with_name(f".{out.name}.progress")
    about = {"model": model.name, "weights": state_hash(model), "stride": stride}
    with writing(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        file = kept.open("a+", encoding="utf-8")
    with file:
        found = _resume(kept, file, about)
        for number, record in enumerate(videos):
            if record.name not in found:
                found[record.name] = _look(model, record.path, stride)
                print(json.dumps([record.name, found[record.name]]), file=file, flush=True)
            progress(number + 1, len(videos))
    readable = {record.name: found[record.name] for record in videos if "t" in found[record.name]}
    chosen = {name: entry for name, entry in readable.items() if entry["score"] >= at_least}
    write_whole(out, json.dumps(chosen, indent=0, ensure_ascii=False).encode())
    kept.unlink()
    return {
        "labelled": len(chosen),
        "left_out": len(readable) - len(chosen),
        "unreadable": {r.name: found[r.name]["error"] for r in videos if "error" in found[r.name]},
    }


def _look(model: Intentionality, path: Path, stride: float) -> dict[str, Any]:
    try:
        length = probe(path).duration
        seen = model.embed(path, stride)
    except VideoError as error:
        return {"error": str(error)}
    likely = seen.logits.softmax(-1)[:, 1]
    best = int(likely.argmax())
    when = float(seen.times[best].mean())
    return {"t": [when], "rel_t": [when / length], "len": length, "score": float(likely[best])}


def _resume(kept: Path, file: TextIO, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an interrupted run has found, the file cut back to its last whole line; begins a new one."""
    file.seek(0)
    whole, newline, _ = file.read().rpartition("\n")
    file.seek(0)
    file.truncate(len((whole + newline).encode()))
    file.seek(0, os.SEEK_END)
    if not whole:
        print(json.dumps(about), file=file, flush=True)
        return {}
    try:
        first, *rest = map(json.loads, whole.split("\n"))
        found = dict(rest)
    except ValueError as error:
        raise DataError(f"{kept} is not what an interrupted run leaves ({error}); remove it to begin anew.") from None
    if first != about:
        raise DataError(
            f"{kept} was begun with other weights or another stride ({first} instead of {about}); remove it to begin "
            "anew."
        )
    return found
