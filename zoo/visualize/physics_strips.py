"""One collision and what is predicted of it, as a strip; and what lies between two collisions, as a sheet or a film."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from zoo.errors import ZooError
from zoo.methods.collisions import SEEN, Future
from zoo.metrics.pixel_error import pixel_error
from zoo.visualize.drawing import STATES
from zoo.visualize.physics_sheets import (
    Block,
    Cell,
    Row,
    Sheet,
    colour_displacement,
    draw_film,
    draw_sheet,
    longest_of,
    moving_rows,
    rows_shown,
)

_BLUE = STATES[0]
_STEP, _END = 0.4, 1.2  # seconds that a film holds what lies between, and an end


def draw_strip(title: str, frames: Tensor, futures: Mapping[str, Future], path: str | os.PathLike) -> Path:
    """Draw four inputs, the true fifth frame where it is known, and predictions over their displacement.

    Args:
        title: of the sheet.
        frames: uint8 ``[T, 3, S, S]`` with T of 4 or more.
        futures: predictions by name, the first that of the frames as they are.
        path: of the PNG.

    Returns:
        The path.

    Raises:
        ZooError: it is no PNG, or it cannot be written.
    """
    rows, ones = moving_rows([frames.transpose(0, 1)]), list(futures.values())
    seen = [Cell(_picture(frame)[rows]) for frame in frames[: SEEN + 1]]
    error = error_of(frames, ones[0])
    said = [None if error is None else f"error {error:.1f}", *[None] * (len(ones) - 1)]
    predicted = [Cell(_picture(o.frame)[rows], words, _BLUE) for o, words in zip(ones, said, strict=True)]
    moved, longest = _displacements(frames[SEEN - 1], ones, rows)
    blank = Cell(np.full_like(seen[0].picture, 255))
    columns = [(f"frame {number + 1}", cell, blank) for number, cell in enumerate(seen[:SEEN])]
    columns += zip(futures, predicted, moved, strict=True)
    columns[SEEN + 1 : SEEN + 1] = [("ground truth", cell, blank) for cell in seen[SEEN:]]  # beside what is to equal it
    names, above, below = zip(*columns, strict=True)
    block = Block("", names, [Row("frames", above), Row("displacement", below)])
    notes = [" ".join(["Blue: predicted.", *rows_shown(rows, frames.shape[-1])])]
    return draw_sheet(Sheet(title, [block], notes, longest), path)


def draw_interpolation(
    title: str, property: str, ends: Sequence[tuple[str, Tensor]], futures: Sequence[Future], path: str | os.PathLike
) -> Path:
    """Draw the fifth frames between two collisions: beside each other into a PNG, one after another into an MP4.

    Args:
        title: of the sheet.
        property: that goes from the first collision's to the second's.
        ends: name and frames of the two, uint8 ``[T, 3, S, S]`` with T of 4 or more.
        futures: predictions, from the first's property to the second's.
        path: of the PNG or MP4.

    Returns:
        The path.

    Raises:
        ZooError: it is neither, or it cannot be written.
    """
    require_png_or_mp4(path)
    rows = moving_rows([frames.transpose(0, 1) for _, frames in ends])
    shares = [number / (len(futures) - 1) for number in range(len(futures))]
    between = [Cell(_picture(future.frame)[rows], rim=_BLUE) for future in futures]
    moved, longest = _displacements(ends[0][1][SEEN - 1], futures, rows)
    count = min(SEEN + 1, *(len(frames) for _, frames in ends))
    seen = [
        Row(place, [Cell(_picture(frame)[rows]) for frame in frames[:count]], [name])
        for place, (name, frames) in zip(("first", "second"), ends, strict=True)
    ]
    above = Block("", [f"frame {number + 1}" for number in range(count)], seen)
    words = f"the first's fifth frame, with its {property} turned into the second's"
    notes = [" ".join(["Blue: predicted.", *rows_shown(rows, ends[0][1].shape[-1])])]
    if Path(path).suffix.lower() == ".png":
        below = Block(
            words, [f"{share:.0%}" for share in shares], [Row("predicted", between), Row("displacement", moved)]
        )
        return draw_sheet(Sheet(title, [above, below], notes, longest), path)
    steps = []
    for at in [*range(len(futures)), *range(len(futures) - 2, 0, -1)]:
        below = Block(f"{words}: {shares[at]:.0%}", ["predicted", "displacement"], [Row("", [between[at], moved[at]])])
        seconds = _END if at in (0, len(futures) - 1) else _STEP
        steps.append((Sheet(title, [above, below], notes, longest), seconds))
    return draw_film(steps, path)


def require_png_or_mp4(path: str | os.PathLike) -> None:
    """Refuse, by a `ZooError`, a file name that promises neither."""
    if Path(path).suffix.lower() not in (".png", ".mp4"):
        raise ZooError(f"{os.fspath(path)} is to be a picture or a film: give it the name of a .png or .mp4 file.")


def error_of(frames: Tensor, future: Future) -> float | None:
    """The pixel error of a prediction, where the fifth of the frames uint8 ``[T, 3, S, S]`` is known."""
    if len(frames) <= SEEN:
        return None
    return float(pixel_error(future.frame.cpu() / 255, frames[SEEN].cpu() / 255))


def _picture(frame: Tensor) -> np.ndarray:
    """A frame uint8 ``[3, S, S]`` as ``[S, S, 3]``."""
    return frame.permute(1, 2, 0).cpu().numpy()


def _displacements(before: Tensor, futures: Sequence[Future], rows: slice) -> tuple[list[Cell], float]:
    """In colours, and the length in pixels of the full ones; ``before`` is the fourth frame, uint8 ``[3, S, S]``."""
    moved = [future.displacement.permute(2, 0, 1) for future in futures]
    frames = [_picture(future.frame) for future in futures]
    longest = longest_of([(one, _picture(before), frame) for one, frame in zip(moved, frames, strict=True)])
    return [Cell(colour_displacement(one, longest)[rows]) for one in moved], longest
