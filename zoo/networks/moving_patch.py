"""Which patch of a frame to track: one that moves, jittered and turned (the TimeCycle release's training sample).

Everything here is a function of its arguments; what is random about a sample is drawn once, by `Draws.random`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from zoo.networks.tracker import transform

BOXES = 9  # along a side of the frame; a window of motion is 3 x 3 of them
CANDIDATES = 10  # windows that a patch is chosen among


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of ``N`` samples.

    Attributes:
        mirror: which samples are mirrored, bool ``[N]``.
        choice: which candidate, in [0, 1), ``[N]``.
        jitter: of the patch's place (x, y), in [0, 1), ``[N, 2]``.
        angle: in [0, 1), ``[N]``.
    """

    mirror: Tensor
    choice: Tensor
    jitter: Tensor
    angle: Tensor

    @classmethod
    def random(cls, samples: int, device: torch.device | str | None = None) -> Draws:
        """From the device's generator; one sample in two is mirrored."""
        mirror, choice, x, y, angle = torch.rand(5, samples, device=device)
        return cls(mirror < 0.5, choice, torch.stack((x, y), 1), angle)


def mirrored(clips: Tensor, mirror: Tensor) -> Tensor:
    """``[N, ..., W]`` with the samples that ``mirror`` ``[N]`` names turned left to right, all of their frames."""
    return torch.where(mirror.view(-1, *[1] * (clips.dim() - 1)), clips.flip(-1), clips)


def motion_scores(frame: Tensor, following: Tensor) -> Tensor:
    """The change from one frame to the one after it in each window, ``[N, columns, rows]``.

    Args:
        frame: ``[N, 3, S, S]``, normalised.
        following: likewise.

    Returns:
        Absolute differences, summed over channels and pixels. A window is 3 x 3 boxes of ``S // 9`` pixels; there is
        one at every box that leaves room for it, 7 x 7 of them.
    """
    box = frame.shape[-1] // BOXES
    change = (frame - following).abs().sum(1, keepdim=True)[..., : box * BOXES, : box * BOXES]
    return avg_pool2d(change, 3 * box, box, divisor_override=1).squeeze(1).transpose(1, 2)


def choose_cells(scores: Tensor, draws: Draws, mirror_column: bool) -> Tensor:
    """The window that each sample's patch is taken from, ``(column, row)``, int64 ``[N, 2]``.

    One of the ten with the highest scores. Where nothing moves (short videos repeat their last frame) it is any.

    Args:
        scores: of `motion_scores`, of frames that are mirrored already.
        draws: the batch's.
        mirror_column: mirror the column of mirrored samples once more, as the release does by mistake: its mirrored
            samples take the patch on the other side of the frame from the motion.
    """
    side = scores.shape[1]
    flat = scores.flatten(1)
    candidates = min(CANDIDATES, flat.shape[1])
    best = flat.topk(candidates).indices.flip(1)  # the best one last
    moving = best.gather(1, (draws.choice * candidates).long().unsqueeze(1)).squeeze(1)
    cell = torch.where(flat.amax(1) > 0, moving, (draws.choice * flat.shape[1]).long())
    column, row = cell // side, cell % side
    if mirror_column:
        column = torch.where(draws.mirror, side - 1 - column, column)
    return torch.stack((column, row), 1)


def place_patches(cells: Tensor, draws: Draws, scale: float = 1 / 3, windows: int = BOXES - 2) -> Tensor:
    """The affine map of a patch in each window: jittered by up to half a window's step, turned by up to 45 degrees.

    Args:
        cells: of `choose_cells`, ``[N, 2]``.
        draws: the batch's.
        scale: the patch's side in the frame's.
        windows: along a side.

    Returns:
        ``theta``, ``[N, 2, 3]``: see `zoo.networks.tracker.transform`.
    """
    step = 1 / (windows - 1)
    place = (cells * step + (draws.jitter - 0.5) * step).clamp(0, 1)
    x, y = ((2 * place - 1) * (1 - scale)).unbind(1)  # the whole patch lies in the frame, but for its turn
    return transform(x, y, (draws.angle - 0.5) * pi / 2, scale)
