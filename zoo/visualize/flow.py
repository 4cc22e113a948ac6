"""How the pixels of two frames correspond: the flow between them in colours, and one frame rebuilt from the other."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from zoo.data.video import VideoReader
from zoo.errors import ZooError
from zoo.files import write_whole
from zoo.methods.correspondence import Correspondence
from zoo.networks.flow import flow_to_colour, warp

_ROOM = 18  # pixels above a picture, for its name


def draw_flow(
    model: Correspondence, video: str | os.PathLike, out: str | os.PathLike, *, at: float = 0.5, gap: int = 5
) -> list[Path]:
    """Draw two frames of a video, the flow between them and the later one rebuilt from the earlier; returns the path.

    Args:
        model: any model of correspondence.
        video: a video file.
        out: folder for the PNG.
        at: place of the earlier frame in the video, 0 to 1.
        gap: frames from the earlier to the later one.

    Raises:
        VideoError: the file cannot be decoded.
        ZooError: the model is of another kind, or the video is too short.
    """
    if not isinstance(model, Correspondence):
        raise ZooError(f"{model.name} has no correspondence to draw; `zoo list 'time_cycle*'` shows models that do.")
    with VideoReader(video) as reader:
        if gap < 1 or reader.frames <= gap:
            raise ZooError(f"{video} has {reader.frames} frames; two that are {gap} apart are wanted.")
        first = min(int(at * reader.frames), reader.frames - 1 - gap)
        pictures = reader.read([first, first + gap])
    source, target = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(model.device)
    flow = model.flow(source, target)
    rebuilt = warp(source.float(), flow).round().clamp(0, 255).byte()
    panels = {
        f"frame {first}": pictures[0],
        f"frame {first + gap}": pictures[1],
        "flow": _pixels(flow_to_colour(flow)),
        f"frame {first + gap} rebuilt from {first}": _pixels(rebuilt),
    }
    path = Path(out) / f"{Path(video).stem}.{model.name}.flow.png"
    write_whole(path, _sheet(panels))
    return [path]


def _pixels(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).cpu().numpy()


def _sheet(panels: dict[str, np.ndarray]) -> bytes:
    """Pictures in a row with their names above, as a PNG."""
    height, width = next(iter(panels.values())).shape[:2]
    sheet = Image.new("RGB", ((width + 4) * len(panels) - 4, height + _ROOM), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, picture) in enumerate(panels.items()):
        sheet.paste(Image.fromarray(picture), (number * (width + 4), _ROOM))
        pen.text((number * (width + 4) + 2, 3), name, fill="black")
    content = io.BytesIO()
    sheet.save(content, format="png")
    return content.getvalue()
