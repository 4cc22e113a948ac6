"""Figures 9.4 to 9.8 on intuitive physics (chapter 9 of the thesis): each as a contact sheet and as a short film.

What a model predicted has a blue rim, a baseline's prediction a red one; what was seen or is true has none. All is
drawn from the two tests of a data set. Where the objects are small, only the rows in which something moves are shown;
errors are of whole frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError, unknown_name
from zoo.files import require_writable
from zoo.methods.collisions import CollisionModel
from zoo.visualize.physics_figures import (
    Figure,
    Steps,
    interpolation,
    ratios,
    switched,
    unseen_parameters,
    unseen_shapes,
)
from zoo.visualize.physics_scenes import Scenes
from zoo.visualize.physics_sheets import Sheet, draw_film, draw_sheet

#: Their numbers in the thesis.
FIGURES: dict[str, Callable[[Figure], tuple[Sheet, Steps]]] = {
    "9.4": unseen_parameters,
    "9.5": unseen_shapes,
    "9.6": interpolation,
    "9.7": ratios,
    "9.8": switched,
}


def draw_physics(
    model: CollisionModel,
    data: Any,
    out: str | os.PathLike,
    figures: Sequence[str] | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    baselines: Sequence[CollisionModel] = (),
) -> list[Path]:
    """Draw figures, a PNG and an MP4 each; returns their paths.

    Args:
        model: of collisions, such as ``zoo.load("intuitive_physics_tiny")``.
        data: ``zoo.datamodule("physics_collisions", root=..., spec=model.spec)``.
        out: folder.
        figures: of `FIGURES`; all that the model can draw by default.
        count: examples of a kind: of figure 9.4 collisions (4), of the others mini-batches of each property (and of
            each test or pair of shapes, where these are apart; 1, and 2 of figure 9.8).
        seed: of the draw of examples.
        baselines: other models, whose interpolations figure 9.6 has in red.

    Raises:
        DataError: the data set lacks a test, or a frame of it.
        ZooError: the model is of another kind or cannot do what a figure shows; there is no such figure; the folder
            cannot be written to.
    """
    chosen = list(FIGURES if figures is None else dict.fromkeys(figures))
    for figure in chosen:
        if figure not in FIGURES:
            raise unknown_name("figure", figure, FIGURES)
    for one in (model, *baselines):
        require_physics(one)
    if figures is None:
        chosen = [figure for figure in chosen if not lacking(model, figure)]
    if why := next(filter(None, (lacking(model, figure) for figure in chosen)), None):
        raise ZooError(why)
    for other in baselines:
        if why := lacking(other, "9.6"):
            raise ZooError(why)
        if other.spec.crop != model.spec.crop:
            raise ZooError(
                f"{other.name} sees frames of {other.spec.crop} pixels and {model.name} of {model.spec.crop}; a "
                "baseline is of the same size."
            )
    require_writable(Path(out))
    scenes = Scenes(data, seed)
    paths = []
    for figure in chosen:
        drawn = FIGURES[figure](Figure(figure, model, scenes, count, tuple(baselines)))
        stem = Path(out) / f"{model.name or 'model'}.figure_{figure}"
        paths += [draw_sheet(drawn[0], f"{stem}.png"), draw_film(drawn[1], f"{stem}.mp4")]
    return paths


def require_physics(model: Any) -> None:
    """Refuse, by a `ZooError`, a model that is not of collisions."""
    if not isinstance(model, CollisionModel):
        name = getattr(model, "name", "") or type(model).__name__
        raise ZooError(f"{name} predicts no collisions; `zoo list '*physics*'` shows models that do.")


def lacking(model: CollisionModel, figure: str) -> str | None:
    """Why a model cannot draw a figure, or None where it can."""
    if figure in ("9.4", "9.5"):
        return None
    if not model.interpolates:
        return f"figure {figure}: {model.name} has no part of its vector for each property, so it can change none."
    if figure == "9.8" and hasattr(model, "told"):
        return f"figure 9.8: {model.name} is told the properties, and what is told of the same scale is the same."
    if figure == "9.7" and not getattr(model, "ratios", None):
        return f"figure 9.7: these weights of {model.name} have no networks that multiply a property."
    return None
