"""A differentiable tracker: where in a frame is this patch (Wang, Jabri, Efros, CVPR 2019, section 3.2)?

An affinity between the patch's features and the frame's, a small network that reads off it where the patch lies and how
it is turned, and a sampler that cuts the frame's features out there. Positions are in the affine coordinates of
`torch.nn.functional.grid_sample` with aligned corners: -1 and 1 are the centres of a map's first and last cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, leaky_relu

TEMPERATURE = 512**-0.5  # the release's: one by the root of its features' width; the paper's Eq. 1 shows none
OFFSET = 227 / 210  # what the release multiplies a crop's translation by, a heritage of another network's input size


def affinity(query: Tensor, keys: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """How likely each of a frame's cells is where a patch's cell came from (Eq. 1), in 32-bit floats.

    Args:
        query: the patch's features ``[N, C, p, q]``, of length one over channels.
        keys: the frame's ``[N, C, h, w]``, likewise.
        temperature: divides the cosines.

    Returns:
        ``[N, h * w, p, q]``, which sums to one over the frame's cells (row by row).
    """
    with torch.autocast(query.device.type, enabled=False):
        cosines = torch.einsum("nck,ncq->nkq", keys.float().flatten(2), query.float().flatten(2))
        return (cosines / temperature).softmax(1).unflatten(2, query.shape[2:])


class Localizer(nn.Module):
    """The affinity to a place and an angle: two convolutions over the patch's cells, one linear layer.

    Args:
        grid: cells along a side of the (square) frame.
        patch: cells along a side of the (square) patch.
        widths: channels of the two convolutions.
        kernel: side of their kernels; nothing is padded.
    """

    def __init__(self, grid: int = 30, patch: int = 10, widths: tuple[int, int] = (128, 64), kernel: int = 4) -> None:
        super().__init__()
        side = patch - 2 * (kernel - 1)
        if side < 1:
            raise ValueError(f"two unpadded convolutions of {kernel} leave nothing of {patch} x {patch} cells.")
        self.grid = grid
        self.conv1 = nn.Conv2d(grid * grid, widths[0], kernel, bias=False)
        self.conv2 = nn.Conv2d(widths[0], widths[1], kernel, bias=False)
        self.linear = nn.Linear(widths[1] * side * side, 3)
        for convolution in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.linear.weight, std=0.01)  # the first guess is the centre, unturned
        nn.init.zeros_(self.linear.bias)

    def forward(self, affinities: Tensor) -> Tensor:
        """`affinity`'s ``[N, grid * grid, p, p]`` to ``(x, y, angle)`` ``[N, 3]``, unbounded."""
        return self.linear(self.hidden(affinities))

    def hidden(self, affinities: Tensor) -> Tensor:
        """What the linear layer reads."""
        # Published weights count the frame's cells column by column.
        columns = (
            affinities.unflatten(1, (self.grid, self.grid)).transpose(1, 2).flatten(1, 2).to(self.conv1.weight.dtype)
        )
        return leaky_relu(self.conv2(leaky_relu(self.conv1(columns), 0.1)), 0.1).flatten(1)


def transform(x: Tensor, y: Tensor, angle: Tensor, scale: float = 1 / 3) -> Tensor:
    """The affine map of a patch's corners into a frame, ``[N, 2, 3]``: turned by ``angle``, shrunk, then moved.

    Args:
        x: of the patch's centre, ``[N]``.
        y: likewise.
        angle: in radians, ``[N]``.
        scale: the patch's side in the frame's.
    """
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.stack((torch.stack((cos, -sin, x), 1), torch.stack((sin, cos, y), 1)), 1)


def lattice(theta: Tensor, size: int, offset: float = 1.0) -> Tensor:
    """Where the ``size`` x ``size`` cells of a patch lie in the frame: ``(x, y)``, ``[N, size, size, 2]``.

    Args:
        theta: `transform`'s ``[N, 2, 3]``.
        size: cells along a side.
        offset: multiplies the translation; see `OFFSET`.
    """
    line = torch.linspace(-1, 1, size, device=theta.device, dtype=theta.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    with torch.autocast(theta.device.type, enabled=False):  # half precision would move points by a tenth of a cell
        points = torch.stack((x, y), -1).view(1, -1, 2) @ theta[:, :, :2].transpose(1, 2)
    points = points + offset * theta[:, None, :, 2]
    return points.unflatten(1, (size, size))


def crop(maps: Tensor, theta: Tensor, size: int, offset: float = 1.0) -> Tensor:
    """``[N, C, size, size]`` read off ``[N, C, H, W]`` at `lattice`'s points, bilinearly; zero outside."""
    with torch.autocast(maps.device.type, enabled=False):
        read = grid_sample(maps.float(), lattice(theta.float(), size, offset), align_corners=True)
    return read.to(maps.dtype)


def soft_inliers(affinities: Tensor, theta: Tensor, grid: int, offset: float = OFFSET) -> Tensor:
    """How much of the affinity agrees with where the patch was located, ``[N]`` (after Rocco et al. 2018).

    The mean, over the patch's cells that fall into the frame, of the affinity read off at the very place that ``theta``
    puts the cell. The release does it with a dense mask; here only its four bilinear weights a cell are made.

    Args:
        affinities: `affinity`'s ``[N, grid * grid, p, p]``.
        theta: ``[N, 2, 3]``, located from it.
        grid: cells along a side of the frame.
        offset: multiplies the translation.
    """
    size, flat = affinities.shape[-1], affinities.flatten(2)
    place = (lattice(theta.float(), size, offset).flatten(1, 2) + 1) / 2 * (grid - 1)  # in cells
    first = place.detach().floor()
    score, weights = torch.zeros_like(flat[:, 0]), torch.zeros_like(flat[:, 0])
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cell = first + first.new_tensor(step)
        weight = (1 - (place - cell).abs()).prod(-1)
        inside = ((cell >= 0) & (cell < grid)).all(-1)
        weight = torch.where(inside, weight, 0)
        x, y = cell.clamp(0, grid - 1).long().unbind(-1)
        score = score + weight * flat.gather(1, (y * grid + x).unsqueeze(1)).squeeze(1)
        weights = weights + weight
    # The release adds 1e-5 to every entry of its mask before it sums them up.
    return score.sum(1) / (weights.sum(1) + 1e-5 * flat[0].numel())


def alignment(theta: Tensor, other: Tensor, size: int = 20) -> Tensor:
    """How far two maps put the same patch apart (Eq. 3): mean squared distance over ``size`` x ``size`` points."""
    return (lattice(theta, size) - lattice(other, size)).square().sum(-1).mean()
