"""Correspondence as flow: where each cell of one frame is in another, for warping and for pictures.

The table of reconstructed frames (2.5) came without code. What its text leaves open is decided here: the match of a
cell is a mean of its nearest neighbours' places, flow and frame are read bilinearly, and what lies beyond the border
is the border.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError
from zoo.networks.label_maps import resize_bilinear
from zoo.networks.propagation import Propagation, Propagator

# The colour wheel of the Middlebury flow benchmark: its hues, and how many steps lie between each and the next.
_HUES = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))
_STEPS = (15, 6, 4, 11, 13, 6)


def correspondence_flow(
    features: Tensor, other: Tensor, *, topk: int = 5, temperature: float = 512**-0.5, half: bool = False
) -> Tensor:
    """How far each cell of a frame is from its match in another frame, in cells.

    The match is the mean place of the ``topk`` cells of the other frame with the largest cosines, weighted by a softmax
    over these. It can lie between cells, and between two good matches that are far apart: 1 never does.

    Args:
        features: ``[C, h, w]`` of the frame whose cells look for a match.
        other: ``[C, h, w]`` of the frame that they look into.
        topk: neighbours; 1 is the hard arg-max, ``h * w`` the soft one.
        temperature: of the softmax.
        half: multiply in half precision.

    Returns:
        ``[2, h, w]`` float32: to the right, and down.

    Raises:
        ZooError: for features of different shapes, or settings out of range.
    """
    settings = Propagation(references=0, topk=topk, temperature=temperature, joint=True, rescale=False, half=half)
    _, h, w = features.shape
    weights, places = Propagator(settings, other, other[:1]).neighbours(features)
    match = torch.stack([(weights * (places % w)).sum(1), (weights * (places // w)).sum(1)]).view(2, h, w)
    return match - _places(h, w, features.device)


def flow_to_pixels(flow: Tensor, shape: tuple[int, int]) -> Tensor:
    """Flow in cells ``[2, h, w]`` as flow in pixels ``[2, H, W]``: bilinear, and longer by the size of a cell."""
    (height, width), (h, w) = shape, flow.shape[1:]
    scale = flow.new_tensor([width / w, height / h])
    return resize_bilinear(flow, shape) * scale[:, None, None]


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """What a frame would show if each pixel came from where its flow points to.

    With the flow from frame t to frame s, warping frame s reconstructs frame t.

    Args:
        frame: ``[C, H, W]`` of any type.
        flow: ``[2, H, W]`` in pixels, to the right and down.

    Returns:
        ``[C, H, W]`` float32, read bilinearly; beyond the border is what is on it.
    """
    if frame.ndim != 3 or flow.shape != (2, *frame.shape[1:]):
        raise ZooError(
            f"warp: a frame {tuple(frame.shape)} needs a flow [2, H, W] of its size, got {tuple(flow.shape)}; "
            "`flow_to_pixels` brings a flow between cells to the size of a frame."
        )
    _, h, w = frame.shape
    x, y = (_places(h, w, frame.device) + flow).unbind(0)
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=2)  # of pixels' centres, from -1 to 1
    return F.grid_sample(frame[None].float(), grid[None], padding_mode="border", align_corners=False)[0]


def flow_to_colour(flow: Tensor, longest: float | None = None) -> Tensor:
    """A flow as a picture: hue is its direction, saturation its length (the wheel of the Middlebury benchmark).

    Args:
        flow: ``[2, H, W]``, to the right and down.
        longest: the length that is drawn in full colour; longer ones are darker. None: the longest there is.

    Returns:
        ``[3, H, W]`` uint8 RGB; no motion is white, and where the flow is not finite it is black.
    """
    steps = zip(_HUES, (*_HUES[1:], _HUES[0]), _STEPS, strict=True)
    wheel = torch.tensor(
        [
            [a + (b - a) * i / n for a, b in zip(hue, following, strict=True)]
            for hue, following, n in steps
            for i in range(n)
        ],
        device=flow.device,
    )
    known = flow.isfinite().all(0)
    x, y = torch.where(known, flow.float(), 0.0)
    length = torch.hypot(x, y)
    length = length / (length.max() if longest is None else length.new_tensor(longest)).clamp(min=1e-12)
    place = torch.atan2(-y, -x).add(math.pi) / (2 * math.pi) * len(wheel)  # red is to the right, yellow down
    low = place.floor()
    share = (place - low)[..., None]
    low = low.long() % len(wheel)
    colour = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    length = length[..., None]
    colour = torch.where(length <= 1, 255 - length * (255 - colour), 0.75 * colour) * known[..., None]
    return colour.round().to(torch.uint8).permute(2, 0, 1)


def _places(h: int, w: int, device: torch.device) -> Tensor:
    """``[2, h, w]`` the column and the row of every cell."""
    y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    return torch.stack([x, y])
