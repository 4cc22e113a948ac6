"""Features of a frame to the potentials of the temporal field."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from zoo.networks.message_server import wide
from zoo.networks.temporal_field import Potentials, States


class FieldHead(nn.Module):
    """Linear layers without bias for what a frame shows, a small network for phi_XI, one matrix for mu (Figure 5).

    Args:
        features: of a frame.
        states: of the field.
        intents: G; 0 leaves phi_XI out.
        pairwise: whether there is phi_XX.
        hidden: width between the features and phi_XI, whose layer would be huge without it; 0 makes phi_XI a constant.
        cut: keep what phi_XI learns away from the features, as released.
        scene_weight: that phi(o, s) is multiplied by; reasoning about scenes did not help (section 4), so the paper
            lowered it.
        mu_start: half width of the uniform distribution that mu starts from.
    """

    def __init__(
        self,
        features: int,
        states: States,
        intents: int,
        *,
        pairwise: bool = True,
        hidden: int = 100,
        cut: bool = False,
        scene_weight: float = 0.1,
        mu_start: float = 1.0,
    ) -> None:
        super().__init__()
        self.intents, self.units, self.cut, self.scene_weight = intents, states.units, cut, scene_weight
        self.objects, self.scenes = states.objects, states.scenes
        self.op = nn.Linear(features, states.objects * states.progresses, bias=False)
        self.ap = nn.Linear(features, states.actions * states.progresses, bias=False)
        self.coap = nn.Linear(features, len(states), bias=False)
        self.os = nn.Linear(features, states.objects * states.scenes, bias=False) if states.scenes > 1 else None
        self.xi: nn.Module | None = None
        self.xi_constant: nn.Parameter | None = None
        if intents and hidden:
            out = nn.Linear(hidden, states.units * intents, bias=False)
            self.xi = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.5), out)
        elif intents:
            self.xi_constant = nn.Parameter(torch.empty(states.units * intents).uniform_(-1, 1))
        start = torch.empty(states.units, states.units).uniform_(-mu_start, mu_start)
        self.mu = nn.Parameter(start) if pairwise else None

    def forward(self, features: Tensor) -> Potentials:
        """``[B, D]`` to the potentials of B frames, in 32-bit floats at least."""
        features = features.to(self.op.weight.dtype)
        # Tensors without memory, which costs are counted with, know no autocast.
        with nullcontext() if features.is_meta else torch.autocast(features.device.type, enabled=False):
            xi = None
            if self.xi is not None:
                xi = self.xi(features.detach() if self.cut else features)
            elif self.xi_constant is not None:
                xi = self.xi_constant.expand(len(features), -1)
            os = None if self.os is None else self.scene_weight * self.os(features)
            potentials = Potentials(
                self.op(features),
                self.ap(features),
                self.coap(features),
                None if os is None else os.unflatten(1, (self.objects, self.scenes)),
                None if xi is None else xi.unflatten(1, (self.units, self.intents)),
                self.mu,
            )
            return potentials.map(wide)
