"""What asynchronous temporal fields learn from: the gradients of Eq. 7-9 as a loss that autograd understands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.networks.message_server import Mail
from zoo.networks.temporal_field import Belief, Potentials, States, neighbours


@dataclass(frozen=True)
class Told:
    """What B frames were told by the others of their videos: sums over frames, or what stands for them.

    Attributes:
        later: KA, the later frames' q(u) by the kernel, ``[B, U]`` (Eq. 22).
        earlier: KB, the earlier ones'.
        later_label: KA*, the same of their labels (Eq. 23).
        earlier_label: KB*.
        intent_label: H*, phi_XI of the labels of all frames, the own one too, ``[B, G]``; None without intents.
    """

    later: Tensor
    earlier: Tensor
    later_label: Tensor
    earlier_label: Tensor
    intent_label: Tensor | None


def from_mail(mail: Mail, scale: float, *, released: bool = False) -> tuple[Tensor, Tensor]:
    """KA and KB out of the server's ``q``, ``[B, U]`` each.

    Args:
        mail: with messages ``q`` and ``label`` (the label's u, ``[B, K, 1]``).
        scale: h of Eq. 10.
        released: the release keeps log q and multiplies the logarithm of the mean by h, so that a frame without mail
            hears ones.
    """
    sides = tuple(mail.gather("q", side) for side in ("future", "past"))
    if not released:
        return tuple(scale * side for side in sides)
    return tuple(
        torch.where((mail.count(name) > 0)[:, None], side, 1) ** scale
        for side, name in zip(sides, ("future", "past"), strict=True)
    )


def labels_from_mail(mail: Mail, units: int, scale: float) -> tuple[Tensor, Tensor]:
    """KA* and KB*: the labels of later and of earlier frames by weight and kernel, ``[B, U]`` each."""
    label = mail.messages["label"][..., 0].long()
    return tuple(
        scale * weight.new_zeros(len(label), units).scatter_add(1, label, weight)
        for weight in (mail.future * mail.kernel, mail.past * mail.kernel)
    )


def told_by_all(
    belief: Belief, phi: Potentials, states: States, label: Tensor, times: Tensor, sigma: float, scale: float
) -> Told:
    """What the T frames of a whole video tell each other, in the scaled means of `message_passing`."""
    past, future = (scale * side for side in neighbours(times, sigma, belief.u))
    u, true = belief.u, F.one_hot(states.unit[label], states.units).to(belief.u)
    wish = None
    if phi.xi is not None:
        own = phi.xi[torch.arange(len(label), device=label.device), states.unit[label]]
        wish = scale * own.mean(0) + own
    return Told(future @ u, past @ u, future @ true, past @ true, wish)


def minus_gradients(
    belief: Belief, phi: Potentials, states: States, label: Tensor, scene: Tensor | None, told: Told
) -> Potentials:
    """Prediction minus target for every potential: the negative of Eq. 7 to 9, a row for each frame.

    Args:
        belief: the mean field of the frames.
        phi: their potentials.
        states: of the field.
        label: numbers of the states that are true, ``[B]``.
        scene: true scenes ``[B]``, -1 where it is not known; None where the field tells none.
        told: by the other frames.

    Returns:
        Tensors shaped like the potentials, ``mu`` as ``[B, U, U]``; not averaged over the batch.
    """
    q = belief.q
    if phi.os is None:  # nothing is learnt of scenes: what a frame's state is, is all
        q = q.sum(-1, keepdim=True)
        scene = None
    target = torch.zeros_like(q)
    frame = torch.arange(len(q), device=q.device)
    if scene is None:
        target[frame, label, 0] = 1
    else:  # where nobody noted the scene it is latent: what is believed of it, given the rest, is its target
        believed = q[frame, label] / q[frame, label].sum(1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
        noted = F.one_hot(scene.clamp(min=0), q.shape[2]).to(q)
        target[frame, label] = torch.where((scene < 0)[:, None], believed, noted)
    gap = q - target

    def factor(index: Tensor, size: int) -> Tensor:
        return states.marginal(gap, index, size)

    u, true = belief.u, F.one_hot(states.unit[label], states.units).to(q)
    os = xi = mu = None
    if phi.os is not None:
        os = gap.new_zeros(len(gap), states.objects, states.scenes).index_add(1, states.object, gap)
    if phi.xi is not None:
        xi = u[:, :, None] * belief.intent[:, None] - true[:, :, None] * told.intent_label.softmax(-1)[:, None]
    if phi.mu is not None:
        mu = torch.einsum("ba,bc->bac", u, told.later) - torch.einsum("ba,bc->bac", true, told.later_label)
        mu = mu + torch.einsum("ba,bc->bac", told.earlier, u) - torch.einsum("ba,bc->bac", told.earlier_label, true)
    return Potentials(
        factor(states.op, states.objects * states.progresses),
        factor(states.ap, states.actions * states.progresses),
        gap.sum(-1),
        os,
        xi,
        mu,
    )


def surrogate(phi: Potentials, gradients: Potentials, prior: float = 0.0) -> Tensor:
    """The loss whose gradient is the given one, averaged over the batch, with the prior on phi_XI.

    Args:
        phi: of B frames, with a graph.
        gradients: of `minus_gradients`.
        prior: lambda of the quadratic prior (appendix 6.4), 4e-4 in the paper.
    """
    count = len(phi.op)
    grads = gradients.tensors()
    loss = sum((grads[name].detach() * value).sum() for name, value in phi.tensors().items() if name != "mu") / count
    if phi.mu is not None:
        loss = loss + (grads["mu"].detach().mean(0) * phi.mu).sum()
    if phi.xi is not None and prior:
        loss = loss + prior / 2 * phi.xi.square().sum() / count
    return loss


def log_likelihood(belief: Belief, label: Tensor, scene: Tensor | None = None) -> Tensor:
    """log Q_i(x*_i) of each frame, ``[B]``, whatever its scene or with the given one (-1: not known)."""
    q = belief.q[torch.arange(len(label), device=label.device), label]
    found = q.sum(1)
    if scene is not None:
        found = torch.where(scene < 0, found, q.gather(1, scene.clamp(min=0)[:, None])[:, 0])
    return found.clamp(min=torch.finfo(q.dtype).tiny).log()
