"""Weighted sums over all positions that never build the matrix of all pairs (Wang et al. 2018, Eqs. 2 to 5).

All take S separate sequences of N queries and M keys, and return ``[S, N, C]``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

# Up to so many pairs (64 MiB of weights), keeping them is faster than computing them twice.
# Beyond, so many queries at a time.
FEW_PAIRS, QUERIES_AT_ONCE = 2**24, 512


def softmax_attention(q_SND: Tensor, k_SMD: Tensor, v_SMC: Tensor, scale: float) -> Tensor:
    """``softmax_j(scale * q_i . k_j) v_j`` (Eqs. 2 and 3): fused attention, lean only on contiguous tensors."""
    if q_SND.device.type != "cpu" or q_SND.shape[2] == v_SMC.shape[2]:
        q, k, v = (part.contiguous().unsqueeze(1) for part in (q_SND, k_SMD, v_SMC))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).squeeze(1)
    # On the CPU it is fused only where all three have one width.
    if q_SND.shape[:2].numel() * k_SMD.shape[1] <= FEW_PAIRS:
        return (scale * q_SND @ k_SMD.mT).softmax(dim=2) @ v_SMC
    return _SoftmaxInParts.apply(q_SND, k_SMD, v_SMC, scale)


def dot_product_attention(q_SND: Tensor, k_SMD: Tensor, v_SMC: Tensor) -> Tensor:
    """``(1 / M) sum_j (q_i . k_j) v_j`` (Eq. 4), bracketed whichever way multiplies less."""
    queries, keys, width, channels = q_SND.shape[1], *k_SMD.shape[1:], v_SMC.shape[2]
    v_SMC = v_SMC / keys
    if queries * keys * (width + channels) < (queries + keys) * width * channels:
        return q_SND @ k_SMD.mT @ v_SMC
    return q_SND @ (k_SMD.mT @ v_SMC)


def concatenation_attention(a_SN: Tensor, b_SM: Tensor, v_SMC: Tensor) -> Tensor:
    """``(1 / M) sum_j relu(a_i + b_j) v_j`` (Eq. 5), in ``O((N + M) log M)``.

    With the keys in descending order of ``b``, query ``i`` sees just the first ``n_i`` of them, those with
    ``b_j > -a_i``, and its sum is ``a_i * (sum of their v) + (sum of their b v)``: two running sums, read at ``n_i``.
    """
    # Moving b's mean over to a changes no a_i + b_j, and keeps the two terms from being large and cancelling.
    centre = b_SM.detach().mean(dim=1, keepdim=True)
    a_SN, b_SM = a_SN + centre, b_SM - centre
    b_SM, order = b_SM.sort(dim=1, descending=True)
    v_SMC = v_SMC.gather(1, order.unsqueeze(2).expand_as(v_SMC)) / b_SM.shape[1]
    seen_SN1 = torch.searchsorted(-b_SM.detach().contiguous(), a_SN.detach().contiguous()).unsqueeze(2)

    def sum_of_seen(values_SMC: Tensor) -> Tensor:
        running = F.pad(values_SMC.cumsum(dim=1), (0, 0, 1, 0))
        return running.gather(1, seen_SN1.expand(-1, -1, running.shape[2]))

    return a_SN.unsqueeze(2) * sum_of_seen(v_SMC) + sum_of_seen(b_SM.unsqueeze(2) * v_SMC)


class _SoftmaxInParts(torch.autograd.Function):
    """Softmax attention, some queries at a time; the backward pass computes their weights again."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        y, log_total = q.new_empty(*q.shape[:2], v.shape[2]), q.new_empty(*q.shape[:2], 1)
        for part in _parts(q):
            weights = (scale * q[:, part]) @ k.mT
            highest = weights.amax(dim=2, keepdim=True)
            total = weights.sub_(highest).exp_().sum(dim=2, keepdim=True)
            y[:, part] = (weights @ v).div_(total)
            log_total[:, part] = highest + total.log()
        ctx.save_for_backward(q, k, v, y, log_total)
        ctx.scale = scale
        return y

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, log_total = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dy = dy.contiguous()
        answered = (dy * y).sum(dim=2, keepdim=True)  # each row's sum of weight times the weight's gradient
        for part in _parts(q):
            q_part = ctx.scale * q[:, part]
            weights = (q_part @ k.mT).sub_(log_total[:, part]).exp_()
            dv.baddbmm_(weights.mT, dy[:, part])
            weights.mul_((dy[:, part] @ v.mT).sub_(answered[:, part]))  # now the gradient of the scaled affinity
            dq[:, part] = (weights @ k).mul_(ctx.scale)
            dk.baddbmm_(weights.mT, q_part)
        return dq, dk, dv, None


def _parts(q_SND: Tensor) -> list[slice]:
    return [slice(start, start + QUERIES_AT_ONCE) for start in range(0, q_SND.shape[1], QUERIES_AT_ONCE)]
