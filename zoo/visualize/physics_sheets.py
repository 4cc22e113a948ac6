"""Contact sheets: rows of small pictures with names beside, above and under them, as PNGs or step by step as films."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.errors import ZooError
from zoo.networks.flow import flow_to_colour
from zoo.visualize.drawing import GREY, INK, PALE, Canvas, Colour, font, plain, require_png, shortened
from zoo.visualize.film import Film

WIDE = 192  # pixels of a cell; frames of 64 are drawn three times as large
_MARGIN, _BETWEEN, _RIM = 24, 10, 4  # pixels: around the sheet, between its cells, and around a cell that has one
_TITLE, _LINE, _UNDER = 34, 20, 18  # heights: of a title, of a line of names and notes, of a line of a caption
_LEAST, _NAMES = 560, (90, 260)  # width of a sheet, and that of the rows' names within bounds
_WHEEL = 24  # radius of the key to the colours of displacements
_FULL = 0.9  # part of the displacements that fit into the wheel of colours
_STILL = 12  # grey levels by which a pixel may change over time and count as still
_RATE = 5  # pictures a second in a film: those that hold cost nothing, and players stumble over fewer


@dataclass(frozen=True)
class Cell:
    """A small picture.

    Attributes:
        picture: uint8 ``[H, W, 3]``; None leaves its place pale.
        under: a few words under it, in lines; None where the row has no room for any.
        rim: the colour of a frame around it.
    """

    picture: np.ndarray | None
    under: str | None = None
    rim: Colour | None = None


@dataclass(frozen=True)
class Row:
    """A row of cells with its name at the left, ``about`` in grey lines below that, and ``colour`` of the name."""

    name: str
    cells: Sequence[Cell]
    about: Sequence[str] = ()
    colour: Colour = INK


@dataclass(frozen=True)
class Block:
    """Rows under one title and one line of column names, which a newline breaks."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Sheet:
    """A whole picture.

    Attributes:
        title: its first line.
        blocks: from top to bottom.
        notes: grey lines below the title.
        longest: pixels of displacement in full colour; draws the key to these colours.
    """

    title: str
    blocks: Sequence[Block]
    notes: Sequence[str] = ()
    longest: float | None = None

    def image(self) -> Image.Image:
        """Draw it. Its size follows from how many cells there are and how tall they are, and not from any text.

        Raises:
            ZooError: a row has another number of cells than its block has columns.
        """
        rows = [row for block in self.blocks for row in block.rows]
        shapes = [cell.picture.shape for row in rows for cell in row.cells if cell.picture is not None]
        tall = round(WIDE * shapes[0][0] / shapes[0][1]) if shapes else WIDE
        room = [font(15).getlength(plain(row.name)) for row in rows]
        room += [font(12).getlength(plain(line)) for row in rows for line in row.about]
        names = min(max(int(max(room)) + 1, _NAMES[0]), _NAMES[1])
        columns = max(len(block.columns) for block in self.blocks)
        width = max(names + columns * (WIDE + _BETWEEN), _LEAST) + 2 * _MARGIN
        key = None if self.longest is None else _key(self.longest)
        room = width - 2 * _MARGIN - (key.width + 2 * _BETWEEN if key else 0)
        notes = [line for note in self.notes for line in wrapped(note, room, 13)]
        head = _MARGIN + max(_TITLE + _LINE * len(notes), key.height if key else 0) + _BETWEEN
        canvas = Canvas(width, head + sum(_height(block, tall) for block in self.blocks) + _MARGIN // 2)
        canvas.text((_MARGIN, _MARGIN), shortened(self.title, room, 18), 18)
        for number, note in enumerate(notes):
            canvas.text((_MARGIN, _MARGIN + _TITLE + _LINE * number), note, 13, GREY)
        if key:
            canvas.image.paste(key, (width - _MARGIN - key.width, _MARGIN))
        for block in self.blocks:
            _draw_block(canvas, block, head, names, tall)
            head += _height(block, tall)
        return canvas.image


def draw_sheet(sheet: Sheet, path: str | os.PathLike) -> Path:
    """Write a sheet as a PNG, whole or not at all; returns its path.

    Raises:
        ZooError: it is no PNG, or it cannot be written.
    """
    require_png(path)
    canvas = Canvas(1, 1)
    canvas.image = sheet.image()
    return canvas.save(path)


def draw_film(steps: Sequence[tuple[Sheet, float]], path: str | os.PathLike) -> Path:
    """Write sheets of one layout as an MP4, each held for its seconds; returns the path.

    Raises:
        ZooError: the name is not that of an MP4, the sheets differ in size, or the film cannot be written.
    """
    require_mp4(path)
    with Film(path, _RATE) as film:
        size = None
        for sheet, seconds in steps:
            picture = np.asarray(sheet.image())
            size = size or picture.shape
            if picture.shape != size:
                raise ZooError(f"the pictures of a film must be of one size, got {picture.shape} after {size}.")
            for _ in range(max(1, round(seconds * _RATE))):
                film.add(picture)
    return Path(path)


def require_mp4(path: str | os.PathLike) -> None:
    """Refuse, by a `ZooError`, a file name that promises something else than an MP4."""
    if Path(path).suffix.lower() != ".mp4":
        raise ZooError(f"the film {os.fspath(path)} is an MP4: give it the name of an .mp4 file.")


def colour_displacement(displacement: torch.Tensor, longest: float) -> np.ndarray:
    """A displacement in pixels ``[2, H, W]`` (x, y) as a picture uint8 ``[H, W, 3]``, see `flow_to_colour`."""
    return flow_to_colour(displacement, longest).permute(1, 2, 0).cpu().numpy()


def longest_of(moves: Sequence[tuple[torch.Tensor, np.ndarray, np.ndarray]]) -> float:
    """The length of displacement that gets full colour: nine tenths of the pixels that matter are below it.

    Where a frame looks the same before and after, such as on a bare wall, a displacement may be anything.

    Args:
        moves: displacements ``[2, H, W]``, each with the frame before and after it, uint8 ``[H, W, 3]``.

    Returns:
        Pixels, one at least.
    """
    lengths = []
    for displacement, before, after in moves:
        changed = np.abs(before.astype(np.int16) - after).max(2) > _STILL
        lengths.append(torch.linalg.vector_norm(displacement, dim=0).cpu().numpy()[changed])
    lengths = np.concatenate(lengths)
    return max(float(np.quantile(lengths, _FULL)), 1.0) if len(lengths) else 1.0


def moving_rows(clips: Sequence[torch.Tensor]) -> slice:
    """The rows of frames in which anything moves, with some room around them: half of all rows at least.

    Args:
        clips: bytes ``[..., 3, T, S, S]`` of one size.
    """
    side = clips[0].shape[-1]
    moving = torch.zeros(side, dtype=torch.bool)
    for clip in clips:
        change = clip.amax(dim=-3).int() - clip.amin(dim=-3).int()  # over time
        moving |= (change > _STILL).reshape(-1, side, side).any(dim=0).any(dim=1)
    places = moving.nonzero().flatten().tolist() or [0, side - 1]
    top, bottom = places[0], places[-1] + 1
    room = min(max(bottom - top + side // 6, side // 2), side)
    top = min(max((top + bottom - room) // 2, 0), side - room)
    return slice(top, top + room)


def rows_shown(rows: slice, side: int) -> list[str]:
    """What a reader should know of `moving_rows`, if they are not all."""
    return [] if rows.stop - rows.start == side else [f"Rows {rows.start} to {rows.stop} of {side} are shown."]


def wrapped(text: str, width: float, size: int) -> list[str]:
    """A text in lines that take ``width`` pixels at most, broken between words."""
    lines = [""]
    for word in plain(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shortened(line, width, size) for line in lines]


def _height(block: Block, tall: int) -> int:
    """Of a block with its title, its columns' names and the space after it."""
    lines = max((column.count("\n") + 1 for column in block.columns if column), default=0)
    rows = sum(tall + _BETWEEN + _caption(row) for row in block.rows)
    return (_TITLE if block.title else 0) + _LINE * lines + _RIM + rows + _BETWEEN


def _caption(row: Row) -> int:
    """The height of what is under its cells."""
    lines = max((cell.under.count("\n") + 1 for cell in row.cells if cell.under is not None), default=0)
    return _UNDER * lines + (_RIM if lines else 0)


def _draw_block(canvas: Canvas, block: Block, top: int, names: int, tall: int) -> None:
    left = _MARGIN + names + _BETWEEN
    if block.title:
        canvas.pen.line([(_MARGIN, top + 1), (canvas.image.width - _MARGIN, top + 1)], fill=PALE, width=2)
        title = shortened(block.title, canvas.image.width - 2 * _MARGIN, 15)
        canvas.text((_MARGIN, top + _TITLE / 2 + 2), title, 15, INK, "lm")
        top += _TITLE
    count = max((column.count("\n") + 1 for column in block.columns if column), default=0)
    for number, column in enumerate(block.columns):
        lines = column.split("\n")
        for place, line in enumerate(lines):
            at = (left + number * (WIDE + _BETWEEN) + WIDE / 2, top + _LINE * (place + count - len(lines) + 0.4))
            canvas.text(at, shortened(line, WIDE, 13), 13, GREY if place else INK, "mm")
    top += _LINE * count + _RIM
    for row in block.rows:
        if len(row.cells) != len(block.columns):
            raise ZooError(f"row {row.name!r} has {len(row.cells)} cells for {len(block.columns)} columns.")
        middle = top + tall / 2 - 9 * len(row.about)
        canvas.text((_MARGIN, middle), shortened(row.name, names, 15), 15, row.colour, "lm")
        for number, line in enumerate(row.about, 1):
            canvas.text((_MARGIN, middle + 18 * number), shortened(line, names, 12), 12, GREY, "lm")
        for number, cell in enumerate(row.cells):
            _draw_cell(canvas, cell, left + number * (WIDE + _BETWEEN), top, tall)
        top += tall + _BETWEEN + _caption(row)


def _draw_cell(canvas: Canvas, cell: Cell, left: int, top: int, tall: int) -> None:
    right, bottom = left + WIDE - 1, top + tall - 1
    if cell.picture is None:
        canvas.pen.rectangle((left, top, right, bottom), fill=PALE)
    else:  # smoothly, for the edges of a frame of 64 pixels would be stairs
        canvas.image.paste(Image.fromarray(cell.picture).resize((WIDE, tall), Image.Resampling.BICUBIC), (left, top))
    if cell.rim is not None:
        outer = (left - _RIM, top - _RIM, right + _RIM, bottom + _RIM)
        canvas.pen.rectangle(outer, outline=cell.rim, width=_RIM)
    for number, line in enumerate((cell.under or "").split("\n")):
        at = (left + WIDE / 2, bottom + _UNDER * (number + 0.5) + 5)
        canvas.text(at, shortened(line, WIDE, 13), 13, GREY if number else INK, "mm")


def _key(longest: float) -> Image.Image:
    """The wheel of colours with what it stands for, to be pasted into a sheet."""
    words = ("displacement, grid - identity", f"rim: {longest:.1f} pixels; longer: darker")
    room = int(max(font(12).getlength(word) for word in words)) + 1
    canvas = Canvas(room + 12 + 2 * _WHEEL, 2 * _WHEEL + 1)
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, 2 * _WHEEL + 1)], indexing="ij")
    wheel = flow_to_colour(torch.stack([x, y]), 1.0).permute(1, 2, 0)
    wheel[torch.hypot(x, y) > 1] = 255
    canvas.image.paste(Image.fromarray(wheel.numpy()), (room + 11, 0))
    for number, word in enumerate(words):
        canvas.text((room, _WHEEL - 9 + 18 * number), word, 12, GREY, "rm")
    return canvas.image
