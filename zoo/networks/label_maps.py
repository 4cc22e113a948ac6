"""Labels of pictures and soft labels of feature cells, there and back: masks, keypoints, painted stripes.

Soft labels are ``[K, h, w]``: a map for every class over the cells of a feature map. Three resizes lie between them and
a picture, each as the published test procedures do it:

- a mask to the square that frames are encoded at: nearest, by the centres of pixels (as Pillow does it);
- one-hot maps to cells, and soft labels from cells to pixels: bilinear, without antialiasing (as OpenCV does it);
- a predicted mask from the square to the picture: nearest, by the corners of pixels (as OpenCV does it).

Where frames keep their size, the first and the last do not take place.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError

VOID = 255  # pixels of masks that belong to nothing


def resize_nearest(labels: Tensor, shape: tuple[int, int], *, centres: bool) -> Tensor:
    """``[..., H, W]`` of any type resized to ``[..., h, w]`` by picking, exactly, whatever the ratio.

    Output pixel i of n shows input pixel ``floor((i + 1/2) N / n)`` of N if ``centres`` (Pillow, torch's
    "nearest-exact"), otherwise ``floor(i N / n)`` (OpenCV), which lies up to half a pixel further up and left.
    """
    rows, columns = (
        ((2 * torch.arange(to, device=labels.device) + centres) * of).div(2 * to, rounding_mode="floor")
        for to, of in zip(shape, labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def resize_bilinear(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Maps ``[K, H, W]`` resized to ``[K, h, w]``: linear between the centres of pixels, without antialiasing."""
    return F.interpolate(maps[None].float(), shape, mode="bilinear", align_corners=False)[0]


def classes_in(mask: Tensor, *, published: bool = False, void: int | None = VOID) -> Tensor:
    """The classes of a mask ``[H, W]`` of whole numbers: ``[K]`` of the mask's type, background (0) first.

    Args:
        mask: ids.
        published: go by TimeCycle's rule for coloured pictures, which knows no ids: the other classes in the order of
            their first pixels, row by row, and only those with more than 10 further pixels; the background only if it
            has more than 10. Otherwise 0 and every id that is there, ascending.
        void: the id that belongs to nothing; None where every id means something.

    Raises:
        ZooError: for a mask that is not of two dimensions, of whole numbers, or is empty.
    """
    if mask.ndim != 2 or not mask.numel() or mask.is_floating_point() or mask.is_complex():
        raise ZooError(f"A mask must be [H, W] of whole numbers and not empty, got {mask.dtype} {tuple(mask.shape)}.")
    flat = mask.flatten()
    ids, inverse, counts = flat.unique(return_inverse=True, return_counts=True)
    if not published:
        known = ids != 0 if void is None else (ids != 0) & (ids != void)
        return torch.cat([ids.new_zeros(1), ids[known]])
    places = torch.arange(len(flat), device=flat.device)
    first = torch.full_like(counts, len(flat)).scatter_reduce(0, inverse, places, "amin")
    order = torch.where(ids == 0, -1, first).argsort()
    ids, counts = ids[order], counts[order]
    return ids[counts > torch.where(ids == 0, 10, 11)]


def mask_to_labels(
    mask: Tensor,
    cells: tuple[int, int],
    *,
    size: int | None = None,
    classes: Tensor | None = None,
    void: int | None = VOID,
) -> tuple[Tensor, Tensor]:
    """A mask as soft labels.

    Args:
        mask: ``[H, W]`` whole numbers, 0 background.
        cells: ``(h, w)`` of the feature map.
        size: side of the square that frames are resized to; None where they keep their size.
        classes: ``[K]`` the ids of the channels; None: those in the mask (`classes_in`). A pixel of another id belongs
            to no channel.
        void: the id that counts as background; None where every id means something.

    Returns:
        Soft labels ``[K, h, w]`` float32 and the ids ``[K]`` of their channels, of the mask's type.
    """
    classes = classes_in(mask, void=void) if classes is None else classes
    if void is not None:
        mask = torch.where(mask == void, 0, mask)
    if size is not None:
        mask = resize_nearest(mask, (size, size), centres=True)
    return resize_bilinear(mask == classes[:, None, None], cells), classes


def labels_to_mask(labels: Tensor, classes: Tensor, shape: tuple[int, int], *, size: int | None = None) -> Tensor:
    """Soft labels as the mask of a picture: the class of the largest soft label, the first of equal ones.

    Args:
        labels: ``[K, h, w]``.
        classes: ``[K]`` the ids of the channels.
        shape: ``(H, W)`` of the picture.
        size: side of the square that frames were resized to; None where they kept their size.

    Returns:
        ``[H, W]`` of the type of ``classes``.
    """
    if len(labels) != len(classes):
        raise ZooError(f"Soft labels of {len(labels)} channels cannot become a mask of {len(classes)} classes.")
    winner = resize_bilinear(labels, shape if size is None else (size, size)).argmax(0)
    mask = classes.to(labels.device)[winner]
    return mask if size is None else resize_nearest(mask, shape, centres=False)


def mean_labels(labels: Tensor, shape: tuple[int, int]) -> Tensor:
    """How sure soft labels ``[K, h, w]`` are of each class: the mean of its map over the pixels that it wins.

    Args:
        labels: ``[K, h, w]``.
        shape: of the picture that soft labels are brought to, such as the square that frames were resized to.

    Returns:
        ``[K]``; 0 for a class that wins no pixel.
    """
    value, winner = (x.flatten() for x in resize_bilinear(labels, shape).max(0))
    zeros = labels.new_zeros(len(labels), dtype=value.dtype)
    count = zeros.scatter_add(0, winner, torch.ones_like(value))
    return zeros.scatter_add(0, winner, value) / count.clamp(min=1)


def keypoints_to_labels(
    keypoints: Tensor, cells: tuple[int, int], shape: tuple[int, int], *, sigma: float = 0.5
) -> Tensor:
    """Keypoints as soft labels: a Gaussian bump of height 1 for each, as JHMDB's test procedure draws it.

    The bump is drawn in a box from ``int(p - 3 sigma)`` to ``int(p + 3 sigma + 1)``, exclusive, on whole cells, so with
    the default sigma its top is the nearest cell.

    Args:
        keypoints: ``[J, 2]`` x and y in pixels; a keypoint that is NaN, or whose box is outside, has an empty map.
        cells: ``(h, w)`` of the feature map.
        shape: ``(H, W)`` of the picture.
        sigma: in cells; 0 sets the one cell ``int(p)``.

    Returns:
        ``[1 + J, h, w]`` float32. Channel 0, the background, is 1 where all others are 0.
    """
    if keypoints.ndim != 2 or keypoints.shape[1] != 2:
        raise ZooError(f"Keypoints must be [J, 2], x and y, got {tuple(keypoints.shape)}.")
    (h, w), (height, width) = cells, shape
    x, y = keypoints.double().unbind(1)
    bumps = _bumps(y * h / height, h, sigma)[:, :, None] * _bumps(x * w / width, w, sigma)[:, None]
    return torch.cat([~bumps.any(0, keepdim=True), bumps]).float()


def _bumps(centre: Tensor, length: int, sigma: float) -> Tensor:
    """One axis of Gaussians around ``centre [J]``: ``[J, length]``, 0 outside their boxes."""
    cell = torch.arange(length, device=centre.device)
    if sigma <= 0:
        return (centre[:, None].trunc() == cell).to(centre.dtype)
    start, stop = (centre - 3 * sigma).trunc()[:, None], (centre + 3 * sigma + 1).trunc()[:, None]
    side = 6 * sigma + 1
    place = cell - start
    inside = (place >= 0) & (place < math.ceil(side)) & (cell < stop)
    return torch.where(inside, torch.exp(-((place - side // 2) ** 2) / (2 * sigma**2)), 0.0)


def labels_to_keypoints(labels: Tensor, shape: tuple[int, int], *, top: int = 5) -> Tensor:
    """The keypoints that soft labels show: the mean place of the best cells of each map, weighted by their values.

    Args:
        labels: ``[1 + J, h, w]``; channel 0 is the background.
        shape: ``(H, W)`` of the picture.
        top: cells that are averaged; 1 takes the place of the maximum.

    Returns:
        ``[J, 2]`` float32 x and y in pixels; NaN for a keypoint whose map is nowhere above 0.
    """
    if labels.ndim != 3 or len(labels) < 1 or top < 1:
        raise ZooError(f"Wanted soft labels [1 + J, h, w] and top >= 1, got {tuple(labels.shape)} and top={top}.")
    _, h, w = labels.shape
    value, cell = labels[1:].flatten(1).float().topk(min(top, h * w), dim=1)
    weight = value.clamp(min=0)
    weight = weight / weight.sum(1, keepdim=True)  # NaN where a map is nowhere above 0
    x, y = (weight * (cell % w)).sum(1), (weight * (cell // w)).sum(1)
    return torch.stack([x * (shape[1] / w), y * (shape[0] / h)], dim=1)


def stripes(mask: Tensor, count: int = 6) -> Tensor:
    """The rows of an object cut into ``count`` stripes of equal height, from top to bottom.

    Args:
        mask: ``[h, w]``; what is not 0 is the object (several count as one).
        count: of stripes; fewer if the object has fewer rows.

    Returns:
        ``[h, w]`` int64: the number of the stripe from 1, 0 outside the object.
    """
    inside = mask != 0
    filled = inside.any(1)
    rows = int(filled.sum())
    if not rows:
        return torch.zeros_like(mask, dtype=torch.int64)
    # The floor division of floats, as published: row 9 of 18 in 10 stripes is in stripe 4, since 1.8 is a little more.
    stripe = 1 + (filled.cumsum(0) - 1).double().div(rows / min(count, rows), rounding_mode="floor").long()
    return torch.where(inside, stripe[:, None], 0)


def stripes_to_labels(
    mask: Tensor, cells: tuple[int, int], *, size: int | None = None, count: int = 6
) -> tuple[Tensor, Tensor]:
    """Stripes painted on the object of a mask, as soft labels of ``count + 1`` channels (texture propagation, 2.4.5).

    They are painted on cells, on those that the object covers by more than half; what of them an object that is too
    small lacks stays empty.

    Args:
        mask: ``[H, W]`` whole numbers; what is neither 0 nor 255 is the object.
        cells: ``(h, w)`` of the feature map.
        size: side of the square that frames are resized to; None where they keep their size.
        count: of stripes.

    Returns:
        Soft labels ``[count + 1, h, w]`` and the numbers of their channels, ``0 ... count``.
    """
    if count < 1:
        raise ZooError(f"stripes_to_labels: count={count} must be at least 1.")
    soft, _ = mask_to_labels(mask, cells, size=size, classes=mask.new_zeros(1))
    painted = stripes(soft[0] < 0.5, count)
    numbers = torch.arange(count + 1, device=mask.device)
    return (painted == numbers[:, None, None]).float(), numbers.to(mask.dtype)
