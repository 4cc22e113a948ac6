"""What `zoo predict` says with a model of moments: what is done in a video, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.cli.common import table


def answer(
    model: Any, file: Path, *, top: int, plot: Path | None = None, per_frame: bool = False, flow: Path | None = None
) -> tuple[dict, list]:
    """The answer for a file: for machines, and as tables."""
    if plot:
        from zoo.visualize.drawing import require_png

        require_png(plot)  # before the work, not after it
    found = model.watch(file, flow)
    if plot:
        from zoo.visualize.activities import draw_activities, story_rows

        classes = [model.label(number) for number in range(model.num_classes)]
        rows = story_rows(found, classes, getattr(model, "vocabulary", None))
        draw_activities(file, found.times, rows, plot, fps=model.spec.fps)
    predictions = model.best(found.scores, top)
    grid = table("score", "class")
    for p in predictions:
        grid.add_row(f"{p.score:.3f}", p.label)
    said, grids = {"predictions": [vars(p) for p in predictions]}, [grid]
    if per_frame:
        frames = model.frames(found, top)
        said["frames"] = [asdict(frame) for frame in frames]
        grids.append(_over_time(frames))
    return said, grids


def _over_time(frames: Sequence[Any]) -> Any:
    """The likeliest of everything at each frame."""
    story = hasattr(frames[0], "verbs")
    grid = table("seconds", "class", *(("verb", "object", "progress") if story else ()), numbers=("seconds",))
    for frame in frames:
        cells = [frame.classes, *((frame.verbs, frame.objects) if story else ())]
        words = [f"{best[0].label} {best[0].score:.2f}" for best in cells]
        if story:
            part = max(frame.progress, key=frame.progress.get)
            words.append(f"{part} {frame.progress[part]:.2f}")
        grid.add_row(f"{frame.second:.2f}", *words)
    return grid
