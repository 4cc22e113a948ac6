"""Where a position looks: the keys that a non-local block weighs most for a query, on the frames (figure 5.3)."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from zoo.data.transforms import test_views
from zoo.data.video import probe
from zoo.errors import ZooError, unknown_name
from zoo.files import write_whole
from zoo.methods.base import ZooModule
from zoo.networks.nonlocal_block import NonLocalBlock
from zoo.visualize.film import Film

_SIDE = 256  # pixels of a drawn frame
_STRIP = 8  # frames in the strip, at most
_QUERY, _KEY = (255, 64, 64), (255, 210, 0)


def nonlocal_blocks(model: nn.Module) -> dict[str, NonLocalBlock]:
    """A model's non-local blocks by the residual block they follow: ``"res3.1"``, ``"res4.5"``, ..."""
    return {
        f"{name.split('.')[-3]}.{name.split('.')[-1]}": module
        for name, module in model.named_modules()
        if isinstance(module, NonLocalBlock)
    }


@torch.inference_mode()
def attention(
    model: ZooModule, clip: Tensor, at: tuple[float, float, float], block: str | None = None
) -> tuple[Tensor, tuple[int, int, int]]:
    """The weights of all keys for the query nearest to ``at``.

    Args:
        model: with non-local blocks.
        clip: uint8 ``[3, T, H, W]``.
        at: time, row and column of the query, each 0 to 1.
        block: such as ``"res3.1"``; the last one in res3 by default, or else the first.

    Returns:
        weights ``[T', H', W']`` over the block's own grid of keys, and the query's place (t, row, column) as a
        fraction-free position on that grid of queries.

    Raises:
        ZooError: the model has no non-local block, or none of that name.
    """
    blocks = nonlocal_blocks(model)
    if not blocks:
        raise ZooError(
            f"{model.name} has no non-local block to look into; `zoo list 'nonlocal*'` shows models that do."
        )
    block = block or max((name for name in blocks if name.startswith("res3")), default=next(iter(blocks)))
    if block not in blocks:
        raise unknown_name(f"non-local block of {model.name}", block, blocks)
    seen: list[Tensor] = []
    hook = blocks[block].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model(model.normalize(clip[None].to(model.device)))
    finally:
        hook.remove()
    grid = seen[0].shape[2:]
    place = tuple(min(int(a * n), n - 1) for a, n in zip(at, grid, strict=True))
    return blocks[block].attention_map(seen[0], place)[0].float().cpu(), place


def draw_attention(
    model: ZooModule,
    video: str | os.PathLike,
    out: str | os.PathLike,
    *,
    at: tuple[float, float, float] = (0.5, 0.5, 0.5),
    block: str | None = None,
    keys: int = 20,
) -> list[Path]:
    """Draw a strip (PNG) and a film (MP4) of the strongest keys of one query; returns the two paths.

    Brightness is the attention, rings are the ``keys`` strongest keys, the red dot in its frame is the query, from
    which lines lead to the keys of the same frame.

    Raises:
        VideoError: the file cannot be decoded.
        ZooError: no such block, a folder that cannot be written to, or a film that cannot be encoded.
    """
    spec = model.spec.replace(crops=1)
    views = test_views(video, spec, clip=spec.clips // 2)
    clip = views[0]
    weights, place = attention(model, clip, at, block)
    pictures = _draw(clip, weights, at, place[0], keys)

    name = f"{Path(video).stem}.{model.name}"
    strip, film = Path(out) / f"{name}.attention.png", Path(out) / f"{name}.attention.mp4"
    rate = Fraction(probe(video).fps or 25) / spec.stride
    shown = min(int(at[0] * len(pictures)), len(pictures) - 1)
    with Film(film, rate) as reel:  # nothing is left where the second of the two fails
        for picture in pictures:
            reel.add(np.asarray(picture))
        write_whole(strip, _strip(pictures, shown))
    return [strip, film]


def _draw(
    clip: Tensor, weights: Tensor, at: tuple[float, float, float], query_frame: int, keys: int
) -> list[Image.Image]:
    """One picture for every frame of the clip."""
    frames = clip.permute(1, 2, 3, 0).numpy()
    count, (steps, rows, columns) = len(frames), weights.shape
    strongest = weights.flatten().topk(min(keys, weights.numel())).indices
    marked = [tuple(int(i) for i in np.unravel_index(int(k), weights.shape)) for k in strongest]
    heat = (weights / weights.max().clamp(min=1e-12)).sqrt().numpy()  # the root keeps weak keys visible
    shown = min(int(at[0] * count), count - 1)
    query = (at[2] * _SIDE, at[1] * _SIDE)
    pictures = []
    for number, frame in enumerate(frames):
        step = number * steps // count
        picture = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        mask = Image.fromarray((heat[step] * 255).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        dimmed = Image.blend(picture, Image.new("RGB", picture.size), 0.55)
        picture = Image.composite(picture, dimmed, mask)
        pen = ImageDraw.Draw(picture)
        for t, row, column in marked:
            if t != step:
                continue
            x, y = (column + 0.5) * _SIDE / columns, (row + 0.5) * _SIDE / rows
            if step == query_frame:
                pen.line([query, (x, y)], fill=_KEY, width=1)
            pen.ellipse([x - 5, y - 5, x + 5, y + 5], outline=_KEY, width=2)
        if number == shown or step == query_frame:
            pen.ellipse([query[0] - 4, query[1] - 4, query[0] + 4, query[1] + 4], fill=_QUERY)
        pictures.append(picture)
    return pictures


def _strip(pictures: list[Image.Image], query_frame: int) -> bytes:
    """A PNG of frames spread evenly over the clip, side by side; the nearest one gives way to the query's own."""
    places = np.linspace(0, len(pictures) - 1, min(_STRIP, len(pictures))).round().astype(int)
    places[np.abs(places - query_frame).argmin()] = query_frame
    chosen = [pictures[place] for place in places]
    strip = Image.new("RGB", ((_SIDE + 4) * len(chosen) - 4, _SIDE), "white")
    for number, picture in enumerate(chosen):
        strip.paste(picture, (number * (_SIDE + 4), 0))
    content = io.BytesIO()
    strip.save(content, format="png")
    return content.getvalue()
