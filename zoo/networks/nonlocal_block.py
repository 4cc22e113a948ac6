"""The non-local block: every position of a feature map answered by a weighted sum over all positions in space-time.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018: ``y_i = (1 / C(x)) sum_j f(x_i, x_j) g(x_j)`` (Eq. 1)
and ``z_i = W_z y_i + x_i`` (Eq. 6), with four choices of ``f``. None of them builds the matrix of all pairs:

- the two softmax forms go through fused attention, which wants queries, keys and values contiguous;
- the dot product is linear, so ``theta (phi^T g)`` costs as much as there are positions, not pairs;
- the concatenation ``relu(w . [theta_i, phi_j])`` is ``relu(a_i + b_j)`` with one number per position, and sorting the
  ``b_j`` lets running sums answer every query (see `zoo.networks.attention`).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.networks.attention import concatenation_attention, dot_product_attention, softmax_attention
from zoo.networks.norm import Norm, build_norm, scale_and_shift
from zoo.networks.pooling import halve

Instantiation = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
Extent = Literal["spacetime", "space", "time"]


class NonLocalBlock(nn.Module):
    """A residual block ``[B, C, T, H, W] -> [B, C, T, H, W]`` that starts as the identity.

    Args:
        channels: C of the feature map.
        inner: channels of theta, phi and g; half of ``channels`` if None.
        instantiation: the pairwise function f.
        attention: what a position attends to: all of space-time, its own frame, or its own place in all frames.
        temporal_group: with ``"spacetime"``, cut the clip into consecutive groups of this many frames that attend only
            to themselves (the released long-clip models do so in res3).
        sub_sample: halve the height and width of the keys by max pooling (with ``"time"`` there is none to halve).
        pool_position: pool the features ``"before"`` phi and g (released code), or phi and g ``"after"`` they were
            computed (the paper's text, mmcv); the two differ.
        scale: multiply the embedded Gaussian's affinity by ``inner ** -0.5`` (released code; the paper's equation has
            no such factor). The other forms never have one.
        norm: after the output projection; None leaves it out, as in the released long-clip models.
        out_bias: whether the output projection has a bias (mmcv has none before a norm).
    """

    def __init__(
        self,
        channels: int,
        inner: int | None = None,
        *,
        instantiation: Instantiation = "embedded_gaussian",
        attention: Extent = "spacetime",
        temporal_group: int | None = None,
        sub_sample: bool = True,
        pool_position: Literal["before", "after"] = "before",
        scale: bool = True,
        norm: Norm | None = "bn",
        out_bias: bool = True,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("instantiation", instantiation, get_args(Instantiation)),
            ("attention", attention, get_args(Extent)),
            ("pool_position", pool_position, ("before", "after")),
        ):
            if value not in known:
                raise ZooError(f"non-local block: {name} must be one of {', '.join(known)}, got {value!r}.")
        if temporal_group is not None and (attention != "spacetime" or temporal_group < 1):
            raise ZooError(
                f"non-local block: temporal_group must be positive and needs attention='spacetime'; "
                f"got {temporal_group!r} with attention={attention!r}."
            )
        inner = inner or channels // 2
        self.instantiation = instantiation
        self.attention = attention
        self.temporal_group = 1 if attention == "space" else temporal_group
        self.sub_sample = sub_sample and attention != "time"
        self.pool_position = pool_position
        self.scale = inner**-0.5 if scale and instantiation == "embedded_gaussian" else 1.0

        if instantiation != "gaussian":
            self.theta = nn.Conv3d(channels, inner, 1)
            self.phi = nn.Conv3d(channels, inner, 1)
        self.g = nn.Conv3d(channels, inner, 1)
        if instantiation == "concatenation":
            self.concat = nn.Linear(2 * inner, 1, bias=False)
        self.out = nn.Conv3d(inner, channels, 1, bias=out_bias)
        self.norm = None if norm is None else build_norm(norm, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of deviation 0.01, zero biases; the norm's scale, or else the output weight, is zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.norm is not None and self.norm.weight.requires_grad:
            nn.init.zeros_(self.norm.weight)
        else:  # a scale that never learns would hold the block at the identity for ever
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``z = norm(W_z y) + x`` for ``x`` ``[B, C, T, H, W]``."""
        return self._add_to(x, self._answer(x))

    def affinity(self, x: Tensor) -> Tensor:
        """The weights that `forward` never builds, ``[S, N, M]``: of S sequences, N queries over M keys.

        Queries and keys are in ``t, y, x`` order. A sequence is a clip, one group of a clip's frames (clip-major), or
        one place's line through time.
        """
        q, k, _ = self._embed(x)
        return self._weights(q, k)

    def attention_map(self, x: Tensor, position: tuple[int, int, int]) -> Tensor:
        """How much the query at ``position`` (t, y, x of ``x``'s own grid) takes of each key: ``[B, T, H', W']``.

        H' and W' are the keys' own, half of ``x``'s with sub-sampling; a key that the query cannot see weighs nothing.
        """
        (batch, _, frames, height, width), (t, row, column) = x.shape, position
        if not (0 <= t < frames and 0 <= row < height and 0 <= column < width):
            raise ZooError(
                f"position {position} (t, y, x) lies outside a feature map of {frames} x {height} x {width}."
            )
        q, k, _ = self._embed(x)
        if self.attention == "time":
            sequence, query = row * width + column, t
        else:
            sequence, first = divmod(t, self.temporal_group or frames)
            query = (first * height + row) * width + column
        q, k = (tensor.unflatten(0, (batch, -1))[:, sequence] for tensor in (q, k))
        weights = self._weights(q[:, query : query + 1], k)
        if self.attention == "time":
            result = x.new_zeros(batch, frames, height, width)
            result[:, :, row, column] = weights.squeeze(1)
            return result
        step = 2 if self.sub_sample else 1
        weights = weights.view(batch, -1, height // step, width // step)
        result = x.new_zeros(batch, frames, *weights.shape[2:])
        start = t - first
        result[:, start : start + weights.shape[1]] = weights
        return result

    def _answer(self, x: Tensor) -> Tensor:
        """``y`` ``[B, T * H * W, inner]`` (Eq. 1)."""
        q, k, v = self._embed(x)
        if self.instantiation == "dot_product":
            y = dot_product_attention(q, k, v)
        elif self.instantiation == "concatenation":
            y = concatenation_attention(q.squeeze(2), k.squeeze(2), v)
        else:
            y = softmax_attention(q, k, v, self.scale)
        return self._join(y, x)

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        if self.instantiation == "concatenation":
            return F.relu(q + k.mT) / k.shape[1]
        if self.instantiation == "dot_product":
            return q @ k.mT / k.shape[1]
        return (self.scale * q @ k.mT).softmax(dim=2)

    def _embed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[S, N, D]``, keys ``[S, M, D]`` and values ``[S, M, inner]`` of S separate sequences.

        D is ``inner``, C for the Gaussian, and 1 for the concatenation (``w . [theta_i, phi_j]`` is two numbers added).
        """
        if self.sub_sample and min(x.shape[-2:]) < 2:
            raise ZooError(
                f"non-local block: a feature map of {x.shape[-2]} x {x.shape[-1]} leaves no keys when it is halved; "
                "give the network larger frames, or sub_sample=False."
            )
        before = self.sub_sample and self.pool_position == "before"
        after = self.sub_sample and self.pool_position == "after"
        pooled = halve(x) if before else x
        v = self._cut(halve(_project(self.g, x)) if after else _project(self.g, pooled))
        if self.instantiation == "gaussian":
            q, k = x, halve(x) if after else pooled
        elif self.instantiation == "concatenation":
            q_mix, k_mix = self.concat.weight.chunk(2, dim=1)
            q = _project(self.theta, x, q_mix)
            if after:  # pooling phi needs all its channels; else they are mixed before they are computed
                phi = halve(_project(self.phi, x))
                k = _matmul(k_mix, phi.flatten(2)).unflatten(2, phi.shape[2:])
            else:
                k = _project(self.phi, pooled, k_mix)
        else:
            q = _project(self.theta, x)
            k = halve(_project(self.phi, x)) if after else _project(self.phi, pooled)
        return self._cut(q), self._cut(k), v

    def _cut(self, map_BDTHW: Tensor) -> Tensor:
        """``[S, N, D]``: the positions of each sequence, in ``t, y, x`` order."""
        map_BTHWD = map_BDTHW.movedim(1, -1)
        if self.attention == "time":
            return map_BTHWD.movedim(1, 3).flatten(0, 2)
        if self.temporal_group is None:
            return map_BTHWD.flatten(1, 3)
        frames = map_BTHWD.shape[1]
        if frames % self.temporal_group:
            raise ZooError(
                f"non-local block: {frames} frames of features cannot be cut in groups of {self.temporal_group}."
            )
        return map_BTHWD.unflatten(1, (-1, self.temporal_group)).flatten(0, 1).flatten(1, 3)

    def _join(self, y_SNC: Tensor, x: Tensor) -> Tensor:
        """The inverse of `_cut` for queries: ``[B, T * H * W, C]``."""
        batch, _, _, height, width = x.shape
        if self.attention == "time":
            return y_SNC.unflatten(0, (batch, height * width)).transpose(1, 2).flatten(1, 2)
        return y_SNC.reshape(batch, -1, y_SNC.shape[2])

    def _add_to(self, x: Tensor, y_BNC: Tensor) -> Tensor:
        """``norm(W_z y) + x``. A norm with fixed statistics becomes part of ``W_z``: one product gives the answer."""
        weight, bias = self.out.weight.flatten(1), self.out.bias
        fixed = None if self.norm is None else scale_and_shift(self.norm)
        if self.norm is not None and fixed is None:
            return self.norm(_matmul(weight, y_BNC.mT, bias).view_as(x)).add_(x)
        if fixed is not None:
            scale, shift = fixed
            weight = weight * scale.unsqueeze(1)
            bias = shift if bias is None else bias * scale + shift
        z = torch.baddbmm(x.flatten(2), weight.expand(len(x), -1, -1), y_BNC.mT)
        return (z if bias is None else z.add_(bias.unsqueeze(1))).view_as(x)


def _project(conv: nn.Conv3d, x: Tensor, mix: Tensor | None = None) -> Tensor:
    """A 1x1x1 convolution of ``[B, C, T, H, W]``, its channels then mixed by ``mix`` ``[D, C']``, as one product."""
    weight, bias = conv.weight.flatten(1), conv.bias
    if mix is not None:
        weight, bias = mix @ weight, mix @ bias
    return _matmul(weight, x.flatten(2), bias).unflatten(2, x.shape[2:])


def _matmul(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """``weight`` ``[D, C]`` times ``x`` ``[B, C, N]``, plus ``bias`` ``[D]``."""
    weight = weight.expand(len(x), -1, -1)
    return weight.bmm(x) if bias is None else torch.baddbmm(bias.unsqueeze(1), weight, x)
