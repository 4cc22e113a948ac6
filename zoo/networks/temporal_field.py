"""The conditional random field of asynchronous temporal fields: its states, its potentials and mean-field inference.

Sigurdsson, Divvala, Farhadi and Gupta 2017. A frame's state is a category, an object, an action and a progress (and a
scene); a video has one latent intent. The score of all states of a video is

    sum_t phi_X(x_t) + sum_t phi_XI(u_t, intent) + sum_{i<j} k(i, j) mu(u_i, u_j)

with phi_X = phi(o, p) + phi(a, p) + phi(c, o, a, p) + phi(o, s) and, of a frame's state, u the part that time sees: its
object, or (as released) its object and progress. Higher is likelier. Letters of shapes: B frames, N states that were
seen in training, O, A, P, S objects, actions, progresses, scenes, U values of u, G intents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.networks.message_server import fade


class States(nn.Module):
    """The states that a frame may be in, and which value of each factor a state has.

    Args:
        rows: one ``(category, object, action, progress)`` a state; all other combinations are impossible.
        sizes: number of categories, objects, actions and progresses.
        scenes: number of scenes; with 1 there is nothing to tell.
        joint: whether time sees object and progress together.
    """

    rows: Tensor
    category: Tensor
    object: Tensor
    op: Tensor
    ap: Tensor
    unit: Tensor

    def __init__(
        self, rows: Sequence[Sequence[int]], sizes: Sequence[int], scenes: int = 1, joint: bool = False
    ) -> None:
        super().__init__()
        rows = [tuple(map(int, row)) for row in rows]
        if not rows or any(len(row) != 4 for row in rows):
            raise ZooError(f"states are rows of (category, object, action, progress), got {rows[:1]}.")
        if any(not 0 <= value < size for row in rows for value, size in zip(row, sizes, strict=True)):
            raise ZooError(f"a state has a category, object, action or progress beyond their numbers {tuple(sizes)}.")
        table = torch.tensor(rows)
        self.categories, self.objects, self.actions, self.progresses = map(int, sizes)
        self.scenes, self.joint = scenes, joint
        category, thing, action, progress = table.unbind(1)
        values = {
            "rows": table,
            "category": category,
            "object": thing,
            "op": thing + self.objects * progress,  # the release's order: all objects of the first progress, then ...
            "ap": action + self.actions * progress,
        }
        values["unit"] = values["op"] if joint else thing
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def units(self) -> int:
        """U, the values that time tells apart."""
        return self.objects * (self.progresses if self.joint else 1)

    def number(self, category: Tensor, progress: Tensor) -> Tensor:
        """``[B]`` numbers of the states with these categories and progresses.

        Raises:
            ZooError: there is no such state.
        """
        found = (self.category == category[:, None]) & (self.rows[:, 3] == progress[:, None])
        if not bool(found.any(1).all()):
            raise ZooError("a label has a category and progress that the field does not admit; was it built for them?")
        return found.int().argmax(1)

    def marginal(self, q: Tensor, factor: Tensor, size: int) -> Tensor:
        """Probabilities of states ``[B, N]`` (or with scenes ``[B, N, S]``) summed over all but one factor."""
        q = q if q.ndim == 2 else q.sum(-1)
        return q.new_zeros(len(q), size).index_add(1, factor, q)

    def units_of(self, q: Tensor) -> Tensor:
        """q(u), ``[B, U]``."""
        return self.marginal(q, self.unit, self.units)

    def categories_of(self, q: Tensor) -> Tensor:
        """P(category), ``[B, C]``."""
        return self.marginal(q, self.category, self.categories)

    def every(self, q: Tensor) -> dict[str, Tensor]:
        """The marginals that people ask for: category, object, action, progress and, where told, scene."""
        marginals = {
            "category": self.categories_of(q),
            "object": self.marginal(q, self.object, self.objects),
            "action": self.marginal(q, self.rows[:, 2], self.actions),
            "progress": self.marginal(q, self.rows[:, 3], self.progresses),
        }
        if self.scenes > 1:
            marginals["scene"] = q.sum(1)
        return marginals


@dataclass(frozen=True)
class Potentials:
    """What the network says of B frames; a term that is None is left out of the model.

    Attributes:
        op: phi(o, p), ``[B, P * O]`` with the object fastest.
        ap: phi(a, p), ``[B, P * A]``.
        coap: phi(c, o, a, p), ``[B, N]``.
        os: phi(o, s), ``[B, O, S]``.
        xi: phi_XI, ``[B, U, G]``.
        mu: ``[U, U]``, row: the earlier frame; the same for all frames.
    """

    op: Tensor
    ap: Tensor
    coap: Tensor
    os: Tensor | None = None
    xi: Tensor | None = None
    mu: Tensor | None = None

    def frames(self, states: States) -> Tensor:
        """phi_X of every state, ``[B, N, S]``."""
        score = (self.op[:, states.op] + self.ap[:, states.ap] + self.coap)[..., None]
        return score.expand(-1, -1, states.scenes) if self.os is None else score + self.os[:, states.object]

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def map(self, change) -> Potentials:
        """A copy with every tensor changed."""
        return replace(self, **{name: change(value) for name, value in self.tensors().items()})


class Frames:
    """B frames as their video sees them: what others tell changes q(u), and within a value of u nothing.

    So inference needs the U values of u only, and the N states once in the end.

    Attributes:
        phi: their potentials.
        score: phi_X of every state, ``[B, N, S]``.
        base: what they come to for each value of u, ``[B, U]``: the logarithm of the sum of their exponentials.
    """

    def __init__(self, phi: Potentials, states: States) -> None:
        self.phi, self.states, self.score = phi, states, phi.frames(states)
        of_states, unit = self.score.logsumexp(-1), states.unit.expand(len(self.score), -1)
        lowest = of_states.new_full((len(of_states), states.units), -torch.inf)
        highest = lowest.scatter_reduce(1, unit, of_states, "amax")
        sums = torch.zeros_like(highest).scatter_add(1, unit, (of_states - highest.gather(1, unit)).exp())
        self.base = sums.log() + highest

    def leaning(self, intent: Tensor) -> Tensor:
        """What an intent says of u: sum_g Q_I(g) phi_XI(u, g), ``[B, U]`` from ``[B, G]``."""
        # A row times a matrix is several times faster on a CPU than a matrix times a column.
        return torch.bmm(intent[:, None], self.phi.xi.transpose(1, 2))[:, 0]

    def units(self, told: Tensor | None = None) -> Tensor:
        """q(u) by what the others tell, ``[B, U]``."""
        return (self.base if told is None else self.base + told).softmax(1)

    def expand(self, u: Tensor) -> Tensor:
        """q of every state from q(u), ``[B, N, S]``."""
        unit = self.states.unit
        return (self.score - self.base[:, unit, None]).exp() * u[:, unit, None]


@dataclass(frozen=True)
class Belief:
    """Mean-field distributions.

    Attributes:
        frames: that it is about.
        u: of what time sees of each, ``[B, U]``.
        intent: as each frame sees it, ``[B, G]``; None without intents.
    """

    frames: Frames
    u: Tensor
    intent: Tensor | None

    @property
    def q(self) -> Tensor:
        """Of each frame's state, ``[B, N, S]``."""
        return self.frames.expand(self.u)


def kernel(times: Tensor, sigma: float) -> Tensor:
    """k(i, j) of every two frames (Eq. 4), ``[T, T]`` from times in images."""
    return fade(times[:, None] - times, sigma)


def neighbours(times: Tensor, sigma: float, like: Tensor, *, compounding: bool = False) -> tuple[Tensor, Tensor]:
    """What each frame takes of every earlier and of every later one, ``[T, T]`` each, for means faded by the kernel.

    Args:
        times: of the frames in order, ``[T]``.
        sigma: of the kernel.
        like: gives the type of the numbers.
        compounding: as `message_passing` has it.
    """
    near = kernel(times, sigma).to(like)
    # earlier[i, j] is whether frame i hears j as an earlier one
    earlier, later = torch.ones_like(near).tril(-1), torch.ones_like(near).triu(1)
    past, future = near * earlier, near * later
    if compounding:
        past = torch.where(earlier > 0, past, 1).cumprod(0) * earlier
        future = torch.where(later > 0, future, 1).cumprod(0) * later
    return past / earlier.sum(1, keepdim=True).clamp(min=1), future / later.sum(1, keepdim=True).clamp(min=1)


def alternate(
    frames: Frames,
    heard: Tensor | None = None,
    wish: Tensor | None = None,
    rounds: int = 5,
) -> Belief:
    """Q_i and Q_I by turns, for frames that know of the others only what they were told (Algorithm 1, lines 7-8).

    Q_I begins with what the others wish for alone.

    Args:
        frames: B of them.
        heard: FA + FB, what other frames say of u, ``[B, U]``; None for nothing.
        wish: H, what other frames say of the intent, ``[B, G]``; None for nothing.
        rounds: of Eq. 27 and 29.
    """
    xi = frames.phi.xi
    if xi is None:
        return Belief(frames, frames.units(heard), None)
    score = frames.base if heard is None else frames.base + heard
    wish = xi.new_zeros(len(score), xi.shape[-1]) if wish is None else wish
    intent = wish.softmax(-1)
    for _ in range(rounds):
        u = (score + frames.leaning(intent)).softmax(1)
        intent = (wish + towards_intent(u, xi)).softmax(-1)
    return Belief(frames, u, intent)


def towards_intent(u: Tensor, xi: Tensor) -> Tensor:
    """H_j(g) = sum_u q_j(u) phi_XI_j(u, g) (Eq. 14), ``[B, G]``."""
    return torch.bmm(u[:, None], xi)[:, 0]


def mean_field(
    phi: Potentials, states: States, times: Tensor, sigma: float, passes: int = 10, *, in_turn: bool = False
) -> list[Belief]:
    """Eq. 5 and 6 on the T frames of one video with plain sums over the other frames; a belief for each pass.

    Args:
        phi: of the frames in order of time.
        states: of the field.
        times: image numbers, ``[T]``.
        sigma: of the kernel.
        passes: over all frames, from a uniform start.
        in_turn: update a frame after the other, each with the newest of all (coordinate ascent, which never makes the
            bound worse), instead of all at once from the last pass.
    """
    frames = Frames(phi, states)
    near = kernel(times, sigma).to(frames.base).fill_diagonal_(0)
    even = torch.full_like(frames.score[..., 0], 1 / len(states))
    u, intent = states.units_of(even), None
    if phi.xi is not None:
        intent = u.new_full((phi.xi.shape[-1],), 1 / phi.xi.shape[-1])

    def one_pass(chosen: slice) -> Tensor:
        told = frames.base[chosen]
        if phi.mu is not None:
            told = told + near.triu()[chosen] @ (u @ phi.mu.T) + near.tril()[chosen] @ (u @ phi.mu)
        if intent is not None:
            told = told + phi.xi[chosen] @ intent
        return told.softmax(1)

    beliefs = []
    for _ in range(passes):
        if in_turn:
            for t in range(len(u)):
                u = torch.cat([u[:t], one_pass(slice(t, t + 1)), u[t + 1 :]])
        else:
            u = one_pass(slice(None))
        if intent is not None:
            intent = towards_intent(u, phi.xi).sum(0).softmax(-1)
        beliefs.append(Belief(frames, u, None if intent is None else intent.expand(len(u), -1)))
    return beliefs


def bound(belief: Belief, phi: Potentials, times: Tensor, sigma: float) -> Tensor:
    """What mean field raises, below the log partition function: expected score plus entropies."""
    q, u = belief.q, belief.u
    value = (q * belief.frames.score).sum() + torch.special.entr(q).sum()
    if phi.mu is not None:
        near = kernel(times, sigma).to(u).triu(1)
        value = value + (near * (u @ phi.mu @ u.T)).sum()
    if phi.xi is not None:
        intent = belief.intent[0]
        value = value + (towards_intent(u, phi.xi) @ intent).sum() + torch.special.entr(intent).sum()
    return value


def message_passing(
    phi: Potentials,
    states: States,
    times: Tensor,
    sigma: float,
    scale: float,
    passes: int = 10,
    rounds: int = 5,
    *,
    compounding: bool = False,
) -> list[Belief]:
    """Synchronous passes over the T frames of one video with scaled means for sums, as training sees them (Eq. 10).

    In each pass every frame alternates with what the others sent in the pass before; in the first nobody has.

    Args:
        phi: of the frames in order of time.
        states: of the field.
        times: image numbers, ``[T]``.
        sigma: of the kernel.
        scale: h, which a mean is multiplied by.
        passes: over all frames.
        rounds: of `alternate` within a pass.
        compounding: repeat the release's slip, which multiplies the kernel into the messages in place while it goes
            from frame to frame, so that they carry the product of all kernels so far. Its scores went through this.
    """
    past, future = neighbours(times, sigma, phi.op, compounding=compounding)
    frames, beliefs = Frames(phi, states), []
    heard = wish = None
    for _ in range(passes):
        belief = alternate(frames, heard, wish, rounds)
        beliefs.append(belief)
        if phi.mu is not None:
            heard = scale * (past @ (belief.u @ phi.mu) + future @ (belief.u @ phi.mu.T))
        if phi.xi is not None:
            wish = scale * towards_intent(belief.u, phi.xi).mean(0, keepdim=True).expand(len(belief.u), -1)
    return beliefs
