"""Opening a video file without trust in what it says, and saying what is wrong with it.

A video file comes from anybody. FFmpeg reads far more than videos (text as pictures, playlists that name other files),
and allocates what a header claims; both are ruled out here before a byte is decoded.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.stream import Discard, Disposition

from zoo.data.mp4 import claimed_samples
from zoo.errors import VideoError

# What hostile bytes cause: FFmpeg's own errors, and what PyAV's bindings stumble over.
DECODING_ERRORS = (
    av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError,
)  # fmt: skip
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,flv,ogg,asf,ivf,h264,hevc"
_MAX_PIXELS = 1 << 25  # 8K
_REMEDY = "Fetch it again, or re-encode it with `ffmpeg -i FILE -c:v libx264 NEW.mp4`."


def check_file(path: Path) -> None:
    """Refuse what is no readable, non-empty file, and a header that claims more pictures than the file has bytes."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise VideoError(f"{path} is a folder; give one of the video files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path} is a device or a pipe; save the video to a file first.")
        if not status.st_size:
            raise VideoError(f"{path} is empty (0 bytes). {_REMEDY}")
        with path.open("rb") as file:
            check_claim(path, claimed_samples(file, status.st_size))
    except FileNotFoundError:
        raise VideoError(f"there is no file {path}; check the name and the folder.") from None
    except PermissionError:
        raise VideoError(f"{path} may not be read by this user; change its permissions.") from None
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be opened ({error}); check the name and the disk.") from error


def open_video(path: Path, threads: int) -> tuple[av.container.InputContainer, av.VideoStream]:
    """A file's container, which the caller closes, and its video stream, set up for decoding."""
    container = av.open(
        str(path.absolute()),  # absolute: no file's name can be taken for a network address
        metadata_errors="replace",
        options={"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_pixels": str(_MAX_PIXELS)},
    )
    try:
        return container, _video_stream(path, container, threads)
    except BaseException:
        container.close()
        raise


def _video_stream(path: Path, container: av.container.InputContainer, threads: int) -> av.VideoStream:
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{path} has no video stream (it holds: {kinds}); give a file with moving pictures.")
    for stream in container.streams:
        if stream is not moving[0]:
            stream.discard = Discard.all
    context = moving[0].codec_context
    if context is None:
        raise VideoError(f"{path} is coded in a way that no decoder here knows. {_REMEDY}")
    check_size(path, context.height, context.width)
    context.options = {"max_pixels": str(_MAX_PIXELS)}
    # Not frame threads: those have deadlocked under readers that stop before the end.
    context.thread_type = "SLICE"
    context.thread_count = threads
    return moving[0]


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse pictures of no size or of an absurd one, before memory is spent on them."""
    if not (height > 0 and width > 0 and height * width <= _MAX_PIXELS):
        size = f"{width} x {height} pixels" if height and width else "unknown size"
        raise VideoError(
            f"{path}: pictures of {size} are not decoded (1 to {_MAX_PIXELS} pixels are): "
            f"its header is damaged, or the size asked for is absurd. {_REMEDY}"
        )


def check_claim(path: Path, frames: int) -> None:
    """Refuse a count of frames that cannot be."""
    if frames > path.stat().st_size:
        raise broken(path, f"it claims {frames} frames, more than it has bytes")


def broken(path: Path, what: str, error: BaseException | None = None) -> VideoError:
    """The error for a damaged file: which, ``what`` about it, the decoder's own words, and what to do."""
    reason = f" ({getattr(error, 'strerror', None) or error or type(error).__name__})" if error else ""
    return VideoError(f"{path}: {what}{reason}. {_REMEDY}")


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn whatever decoding throws into a `VideoError`."""
    try:
        yield
    except DECODING_ERRORS as error:
        raise broken(path, what, error) from error
