"""Small video files whose every frame shows its own number, written with PyAV for the tests of decoding.

A frame's number stands in it as twelve big black or white blocks (three rows of four, most significant first), which
survive compression, scaling and turning; `number_in` reads it back out of the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ROWS, COLUMNS = 3, 4


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """The picture of a number below 4096, uint8 ``[height, width, 3]``: blocks of 16 and 235."""
    bits = [number >> b & 1 for b in reversed(range(ROWS * COLUMNS))]
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    luma = np.where(np.array(bits).reshape(ROWS, COLUMNS)[rows[:, None], columns], 235, 16)
    return np.repeat(luma[:, :, None], 3, axis=2).astype(np.uint8)


def number_in(picture: np.ndarray) -> int:
    """The number that an upright picture ``[height, width, 3]`` shows, read at the middle of each block."""
    height, width = picture.shape[:2]
    ys = ((np.arange(ROWS) + 0.5) * height / ROWS).astype(int)
    xs = ((np.arange(COLUMNS) + 0.5) * width / COLUMNS).astype(int)
    bits = picture[ys[:, None], xs].mean(axis=2).ravel() > 125
    return int(bits @ (1 << np.arange(bits.size)[::-1]))


def numbers_in(pictures: Sequence[np.ndarray]) -> list[int]:
    """`number_in` for every picture."""
    return [number_in(picture) for picture in pictures]


def render(
    path: Path,
    codec: str = "libx264",
    frames: int = 60,
    *,
    height: int = 48,
    width: int = 64,
    fps: int = 25,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    audio: bool = False,
    rotation: tuple[float, bool, bool] | None = None,
    picture: Callable[[int, int, int], np.ndarray] = numbered,
    prepare: Callable[[av.VideoStream], None] | None = None,
) -> Path:
    """Write ``frames`` numbered frames to ``path``, whose suffix chooses the container.

    Args:
        path: where to.
        codec: FFmpeg's name of the encoder.
        frames: how many.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        fps: frames per second, also the clock of ``times``.
        pix_fmt: of the encoded pictures.
        options: the encoder's.
        container_options: the muxer's.
        times: presentation times in units of 1/1000 s instead of a constant rate.
        audio: add a sound track of the same length.
        rotation: ``(degrees, hflip, vflip)`` of a display matrix to write.
        picture: draws frame ``number`` at ``(height, width)``.
        prepare: called with the stream before the first frame, to set anything else.
    """
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        if prepare:
            prepare(stream)
        sound = out.add_stream("aac" if path.suffix in {".mp4", ".mov"} else "libopus", rate=48000) if audio else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
            out.mux(stream.encode(frame))
        if sound:
            tone = np.sin(np.arange(48000 * frames // fps) / 20).astype(np.float32)
            chunk = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            chunk.sample_rate, chunk.pts = 48000, 0
            fifo = av.AudioFifo()
            fifo.write(chunk)
            while (part := fifo.read(960 if path.suffix != ".mp4" else 1024, partial=True)) is not None:
                out.mux(sound.encode(part))
            out.mux(sound.encode(None))
        out.mux(stream.encode(None))
    return path
