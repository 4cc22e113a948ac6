"""What figures are drawn with: fonts, smooth lines, ticks, frames of a video, and PNG files that are whole."""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from zoo.data.video import VideoReader
from zoo.errors import VideoError, ZooError
from zoo.files import write_whole

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK, GREY, PALE, PAPER = (28, 28, 30), (120, 122, 128), (236, 237, 240), (255, 255, 255)
# Three colours that stay apart to colour-blind eyes and in grey: what is meant, where it goes wrong, what went wrong.
STATES: tuple[Colour, Colour, Colour] = ((38, 110, 190), (240, 165, 0), (200, 45, 75))

_QUOTES = str.maketrans("“”„‘’–—−", '"""\'\'---')
_SMOOTH = 4  # shapes are drawn that much larger and scaled down
_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has the letters of ASCII."""
    return ImageFont.load_default(size=size)


def plain(text: str) -> str:
    """A text in the letters that the font has: accents are dropped, what is left over becomes ``?``."""
    letters = unicodedata.normalize("NFKD", text.translate(_QUOTES))
    return "".join(c if " " <= c <= "~" else "?" for c in letters if not unicodedata.combining(c))


def shortened(text: str, width: float, size: int) -> str:
    """A text that takes ``width`` pixels at most, cut in its middle if need be."""
    text = plain(text)
    if font(size).getlength(text) <= width:
        return text
    for kept in range(len(text), 1, -1):
        short = f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
        if font(size).getlength(short) <= width:
            return short
    return ""


def ticks(low: float, high: float, count: float) -> list[float]:
    """Round numbers of seconds from ``low`` to ``high``, about ``count`` of them at most."""
    step = next((s for s in _STEPS if (high - low) / s <= count), _STEPS[-1])
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def rounds(low: float, high: float, count: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them at most."""
    sizes = (digit * 10.0**power for power in range(-9, 300) for digit in (1, 2, 5))
    step = next(size for size in sizes if (high - low) / size <= count + 0.001)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def clock(seconds: float, long: bool) -> str:
    """Seconds as a reader wants them: ``"2.5"``, or of ``long`` videos ``"1:05"`` and ``"1:00:05"``."""
    if not long:
        return f"{seconds:.10g}"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Canvas:
    """A picture in the making. Coordinates are pixels from the top left; shapes are smooth, texts sharp."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def text(self, at: Point, text: str, size: int = 15, fill: Colour = INK, anchor: str = "la") -> None:
        """Write; ``anchor`` is Pillow's."""
        self.pen.text(at, plain(text), font=font(size), fill=fill, anchor=anchor)

    def sideways(self, centre: Point, text: str, size: int = 15, fill: Colour = INK) -> None:
        """Write from bottom to top, around a point."""
        left, top, right, bottom = font(size).getbbox(text)
        label = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(label).text((2 - left, 2 - top), text, font=font(size), fill=255)
        label = label.rotate(90, expand=True)
        self.image.paste(fill, (round(centre[0] - label.width / 2), round(centre[1] - label.height / 2)), label)

    def area(self, outline: Sequence[Point], fill: Colour, opacity: float = 1.0) -> None:
        """A filled polygon."""
        self._shape(outline, fill, opacity, 0, lambda pen, points: pen.polygon(points, fill=255))

    def line(
        self,
        points: Sequence[Point],
        fill: Colour = INK,
        width: float = 2,
        *,
        opacity: float = 1.0,
        dash: tuple[float, float] | None = None,
    ) -> None:
        """A line through points, round at its joints; ``dash`` are the lengths of strokes and of gaps."""
        strokes = _dashed(points, *dash) if dash else [list(points)]
        thick, cap = max(1, round(width * _SMOOTH)), width * _SMOOTH / 2

        def draw(pen: ImageDraw.ImageDraw, scaled: list[Point]) -> None:
            done = 0
            for stroke in strokes:
                part, done = scaled[done : done + len(stroke)], done + len(stroke)
                pen.line(part, fill=255, width=thick, joint="curve")
                if not dash:
                    for x, y in (part[0], part[-1]):
                        pen.ellipse([x - cap, y - cap, x + cap, y + cap], fill=255)

        self._shape([point for stroke in strokes for point in stroke], fill, opacity, width, draw)

    def dot(self, at: Point, radius: float, fill: Colour, opacity: float = 1.0, rim: Colour | None = None) -> None:
        """A disc, with a thin rim of another colour on demand."""
        for grown, colour in ((1.5, rim), (0, fill)):
            if colour is not None:
                r = (radius + grown) * _SMOOTH
                self._shape(
                    [at], colour, opacity, radius + grown, lambda pen, p, r=r: pen.ellipse(_around(p[0], r), fill=255)
                )

    def arrow(self, start: Point, end: Point, fill: Colour = INK, size: float = 9) -> None:
        """The head of an arrow half way from one point to another; nothing where they are close."""
        length = math.dist(start, end)
        if length < 1.5 * size:
            return
        x, y = ((b - a) / length for a, b in zip(start, end, strict=True))
        middle = (start[0] + x * (length + size) / 2, start[1] + y * (length + size) / 2)
        back = (middle[0] - x * size, middle[1] - y * size)
        side = size * 0.45
        self.area([middle, (back[0] - y * side, back[1] + x * side), (back[0] + y * side, back[1] - x * side)], fill)

    def label(
        self, centre: float, top: float, text: str, bounds: tuple[float, float], *, filled: bool, size: int = 14
    ) -> None:
        """A text in a rounded box around a place on the x axis, pushed to stay within ``bounds``."""
        width = font(size).getlength(plain(text)) + 16
        left = min(max(centre - width / 2, bounds[0]), bounds[1] - width)
        box = (left, top, left + width, top + size + 8)
        self.pen.rounded_rectangle(box, 4, fill=INK if filled else PAPER, outline=INK)
        self.text((left + 8, top + size / 2 + 4), text, size, PAPER if filled else INK, "lm")

    def paste(self, frame: np.ndarray | None, box: tuple[int, int, int, int]) -> None:
        """A frame, uint8 ``[H, W, 3]``, into a box: cut where the shapes differ little, else with grey beside it."""
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        if frame is None:
            self.pen.rectangle((left, top, right - 1, bottom - 1), fill=PALE)
            self.pen.line([(left, top), (right - 1, bottom - 1)], fill=GREY)
            return
        picture = Image.fromarray(frame)
        shape = picture.width / picture.height * size[1] / size[0]
        if 0.8 < shape < 1.25:
            picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        else:
            picture = ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=PALE)
        self.image.paste(picture, (left, top))

    def save(self, path: str | os.PathLike) -> Path:
        """Write the PNG, whole or not at all."""
        content = io.BytesIO()
        self.image.save(content, format="png", optimize=True)
        write_whole(Path(path), content.getvalue())
        return Path(path)

    def _shape(self, points: Sequence[Point], fill: Colour, opacity: float, margin: float, draw) -> None:
        """Paste a colour through a mask that is drawn large around the points."""
        margin = math.ceil(margin) + 2
        left, top = (math.floor(min(p[axis] for p in points)) - margin for axis in (0, 1))
        right, bottom = (math.ceil(max(p[axis] for p in points)) + margin for axis in (0, 1))
        mask = Image.new("L", ((right - left) * _SMOOTH, (bottom - top) * _SMOOTH))
        draw(ImageDraw.Draw(mask), [((x - left + 0.5) * _SMOOTH, (y - top + 0.5) * _SMOOTH) for x, y in points])
        mask = mask.resize((right - left, bottom - top), Image.Resampling.BOX)
        if opacity < 1:
            mask = mask.point(lambda value: round(value * opacity))
        self.image.paste(fill, (left, top), mask)


def require_png(path: str | os.PathLike) -> None:
    """Refuse, by a `ZooError`, a file name that promises something else than a PNG."""
    if Path(path).suffix.lower() != ".png":
        raise ZooError(f"the figure {os.fspath(path)} is a PNG: give it the name of a .png file.")


def frames_at(reader: VideoReader, seconds: Sequence[float], short_side: int) -> list[np.ndarray | None]:
    """The frames that are on at these times by the file's clock; None for what cannot be decoded.

    Raises:
        VideoError: not one of them can.
    """
    numbers = np.searchsorted(reader.presentation_times(), np.asarray(seconds) + 1e-6, side="right") - 1
    numbers = numbers.clip(0, reader.frames - 1)
    try:
        return list(reader.read(numbers, short_side=short_side))
    except VideoError as error:  # a figure of a video with a broken end is better than none
        frames: list[np.ndarray | None] = []
        for number in numbers:
            try:
                frames.append(reader.read([number], short_side=short_side)[0])
            except VideoError:
                frames.append(None)
        if all(frame is None for frame in frames):
            raise error
        return frames


def _around(centre: Point, radius: float) -> list[float]:
    return [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]


def _dashed(points: Sequence[Point], stroke: float, gap: float) -> list[list[Point]]:
    """The strokes of a dashed line, each of two points or more."""
    strokes: list[list[Point]] = []
    period, at = stroke + gap, 0.0  # how far along the line
    for start, end in pairwise(points):
        length = math.dist(start, end)
        done = 0.0
        while done < length - 1e-9:
            phase = (at + done) % period
            is_stroke = phase < stroke - 1e-9
            step = min((stroke if is_stroke else period) - phase, length - done)
            if is_stroke:
                pair = [
                    (start[0] + (end[0] - start[0]) * d / length, start[1] + (end[1] - start[1]) * d / length)
                    for d in (done, done + step)
                ]
                if strokes and done == 0 and at > 0 and phase > 1e-9:  # round the corner
                    strokes[-1].append(pair[1])
                else:
                    strokes.append(pair)
            done += max(step, 1e-6)
        at += length
    return strokes
