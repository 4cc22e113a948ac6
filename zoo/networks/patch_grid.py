"""Overlapping patches of every frame of a clip, each a little displaced (the random walk's training sample).

The release resizes a random part of each frame, cuts it into patches, and resizes a random part of each of them. All of
these are boxes, so here every patch is read off its frame in one go, on the model's device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

TRIES = 10


def random_boxes(
    shape: tuple[int, ...],
    area: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device | str | None = None,
) -> Tensor:
    """Random parts of a square, ``[*shape, 4]``: left, top, width and height as shares of its side.

    Area and (the logarithm of) width by height are uniform over boxes that fit; where ten tries gave none, it is the
    whole square.

    Args:
        shape: of the batch.
        area: least and largest share of the square.
        ratio: least and largest width by height.
        device: whose generator draws.
    """
    size = torch.empty(TRIES, *shape, device=device).uniform_(*area)
    low, high = torch.tensor(ratio).log().tolist()
    stretch = torch.empty(TRIES, *shape, device=device).uniform_(low, high).exp()
    sides = torch.stack(((size * stretch).sqrt(), (size / stretch).sqrt()), -1)
    fits = (sides <= 1).all(-1)
    first = fits.long().argmax(0)
    sides = sides.gather(0, first.view(1, *shape, 1).expand(1, *shape, 2)).squeeze(0)
    sides = torch.where(fits.any(0).unsqueeze(-1), sides, 1.0)
    corner = torch.rand(*shape, 2, device=device) * (1 - sides)
    return torch.cat((corner, sides), -1)


def patch_corners(size: int, patch: int, stride: int, device: torch.device | str | None = None) -> Tensor:
    """Left and top pixels of the patches of a square of ``size`` pixels, row by row, ``[N, 2]``."""
    line = torch.arange(0, size - patch + 1, stride, device=device)
    top, left = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((left, top), -1).flatten(0, 1)


def grid_patches(
    clips: Tensor, frame_boxes: Tensor, patch_boxes: Tensor, *, patch: int = 64, stride: int = 32
) -> Tensor:
    """Every patch of every frame, ``[B, T, N, 3, patch, patch]``, read bilinearly.

    Args:
        clips: ``[B, 3, T, S, S]``.
        frame_boxes: the part of each frame that is blown up to S pixels, ``[B, T, 4]``, of `random_boxes`.
        patch_boxes: the part of each of its patches that is blown up in turn, ``[B, T, N, 4]``.
        patch: side of a patch, in pixels.
        stride: from one patch to the next.
    """
    size = clips.shape[-1]
    corners = patch_corners(size, patch, stride, clips.device)
    line = (torch.arange(patch, device=clips.device) + 0.5) / patch  # pixels' centres
    # [B, T, N, 2, patch]: along x and along y, in shares of the patch, of the blown-up frame, of the frame.
    places = patch_boxes[..., :2, None] + patch_boxes[..., 2:, None] * line
    places = (corners[:, :, None] + patch * places) / size
    places = frame_boxes[:, :, None, :2, None] + frame_boxes[:, :, None, 2:, None] * places
    x, y = (2 * places - 1).unbind(3)
    grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1)  # [B, T, N, patch, patch, 2]
    frames = clips.transpose(1, 2).flatten(0, 1).float()  # half precision would not tell pixels apart
    patches = grid_sample(frames, grid.flatten(0, 1).flatten(1, 2), padding_mode="border", align_corners=False)
    return (
        patches.to(clips.dtype).unflatten(0, clips.shape[:1] + clips.shape[2:3]).unflatten(3, (-1, patch)).movedim(3, 2)
    )
