"""What is learned of a finished physics vector: the baseline's columns, and networks that multiply a property.

Sections 9.4 ("Baseline model") and 9.4.2 ("Changing physical properties") of the thesis. Loss, optimiser and length of
the ratio networks are not given there; these are ours.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from zoo.methods.collisions import PROPERTIES, CollisionModel

STEPS, BATCH, RATE = 800, 256, 1e-3  # of a ratio network, by Adam

#: From which scales to which, as places in a mini-batch.
PAIRS = {"third": ((2, 0),), "half": ((1, 0), (3, 1)), "double": ((0, 1), (1, 3)), "triple": ((0, 2),)}

_log = logging.getLogger(__name__)


def finish(model: CollisionModel, data: Any) -> None:
    """Find the columns of a model that was trained without constraints, and teach the ratio networks.

    Args:
        model: as it was trained; changed in place.
        data: the datamodule of its training, whose training mini-batches are looked at once more.
    """
    ratios = getattr(model, "ratios", None)
    if not ratios and _constrained(model):
        return
    if not hasattr(data, "sequence_dataloader"):
        warnings.warn(
            f"{model.name}'s columns and networks of ratios stay as they were: they are learned from mini-batches of "
            "the physics_collisions datamodule, and another one, or a bare loader, was trained on.",
            stacklevel=2,
        )
        return
    training = model.training
    model.eval()
    vectors = grouped_vectors(model, data)
    if not _constrained(model):
        model.dims.copy_(columns_of_variance([vectors[p] for p in PROPERTIES], model.dims.shape[1]))
    for number, property in enumerate(PROPERTIES):
        for ratio, pairs in PAIRS.items():
            if f"{property}_{ratio}" in (ratios or {}):
                own = vectors[property][..., model.dims[number].cpu()]
                before = torch.cat([own[:, a] for a, _ in pairs]).to(model.device)
                after = torch.cat([own[:, b] for _, b in pairs]).to(model.device)
                network = ratios[f"{property}_{ratio}"].float()  # it learns in 32 bits, whatever the model is in
                left = teach(network, before, after)
                network.to(model.dtype)
                _log.info("%s, %s: %.3f of the variance is left", property, ratio, left)
    model.train(training)


def _constrained(model: CollisionModel) -> bool:
    return getattr(model, "constraint", "release") != "none"


@torch.no_grad()
def grouped_vectors(model: CollisionModel, data: Any) -> dict[str, Tensor]:
    """The vectors of all training mini-batches, each property's ``[M, 5, D]``, on the CPU."""
    found, numbers = [], []
    for batch in data.sequence_dataloader():
        numbers.append(batch["index"])
        batch = {key: value.to(model.device) for key, value in batch.items()}
        found.append(model.latent(model.views(batch)).float().cpu())
    z = torch.empty(len(data.index), found[0].shape[1])
    z[torch.cat(numbers)] = torch.cat(found)
    groups = data.index.mini_batches
    return {property: z[torch.from_numpy(groups[property]["train"])] for property in PROPERTIES}


def columns_of_variance(vectors: list[Tensor], count: int) -> Tensor:
    """Columns whose variance within a property's mini-batches is largest, ``[P, count]``.

    The thesis does not say to whom a column belongs that is among the best of two properties: here to both.

    Args:
        vectors: of each property ``[M, 5, D]``.
        count: columns of each.
    """
    return torch.stack([z.var(dim=1, unbiased=False).mean(dim=0).topk(count).indices.sort().values for z in vectors])


@torch.enable_grad()
def teach(network: nn.Module, before: Tensor, after: Tensor, steps: int = STEPS) -> float:
    """Teach a ratio network by Adam on mean squared differences; a seed of its own makes it repeatable.

    Args:
        network: ``[B, C]`` to ``[B, C]``.
        before: vectors at a scale, ``[N, C]``.
        after: those at its multiple.
        steps: of the optimiser.

    Returns:
        The part of the variance that it leaves unexplained in the end.
    """
    device = before.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        draws = torch.Generator().manual_seed(0)
        network.requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        scale = after.var(dim=0, unbiased=False).mean().clamp_min(1e-12)
        for step in range(steps):
            rows = torch.randint(len(before), (min(BATCH, len(before)),), generator=draws).to(device)
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            optimizer.zero_grad()
            loss = mse_loss(network(before[rows]), after[rows]) / scale
            loss.backward()
            optimizer.step()
        network.requires_grad_(False)
    with torch.no_grad():
        return float(mse_loss(network(before), after) / scale)
