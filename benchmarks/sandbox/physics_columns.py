"""How table 9.2 depends on which columns a property is given: what the vectors of trained models have in them.

    python benchmarks/sandbox/physics_columns.py --root collisions --out runs/sandbox/physics --seeds 0 1 2 [--json]

For the models that `intuitive_physics.py` trained, on every sixth mini-batch of the shape test, the errors of
interpolation at scales 2 to 5 with other columns than the model's own:

- own: those that are its own (of ours the 25 that were set apart, of the baseline those of the largest variance, which
  may be another property's, too);
- apart: no column belongs to two properties: each to the one of whose variance it has the largest part;
- none: nothing is interpolated, the vector is that of scale 1; all: everything is.

Also, of how many columns the three properties' together are, and what part of a property's variance is in its own.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from collisions_tables import ROWS
from common import REPOSITORY, as_json
from torch import Tensor
from torch.utils.data import DataLoader

import zoo
from zoo.data.collisions.mini_batches import GroupedRows, collate_rows
from zoo.data.physics_collisions import PhysicsCollisions
from zoo.files import write_whole
from zoo.methods.collisions import PROPERTIES, SEEN, interpolated
from zoo.metrics.pixel_error import pixel_error

TRAINED, TESTED = 12, 6  # one in so many mini-batches is looked at


def variances(model: Any, rows: list[dict[str, Any]]) -> Tensor:
    """Variance within a property's mini-batches, ``[3, D]``."""
    found: list[list[Tensor]] = [[] for _ in PROPERTIES]
    for batch in rows:
        z = model.latent(model.views(batch)).unflatten(0, (-1, 5))
        for p, parts in enumerate(found):
            parts.append(z[batch["property"] == p])
    return torch.stack([torch.cat(parts).var(dim=1, unbiased=False).mean(dim=0) for parts in found])


def apart(variance: Tensor, count: int) -> Tensor:
    """Columns that no two properties share, ``[3, count]``."""
    owner = (variance / variance.sum(dim=1, keepdim=True)).argmax(dim=0)
    return torch.stack([torch.where(owner == p, variance[p], -1.0).topk(count).indices for p in range(len(PROPERTIES))])


def errors(model: Any, rows: list[dict[str, Any]], dims: Tensor | None) -> list[float]:
    """Of interpolation at scales 2 to 5 on unseen shapes; without columns the vector of scale 1 stays as it is."""
    found = []
    for batch in rows:
        views = model.views(batch)
        z = model.latent(views).unflatten(0, (-1, 5))
        mixed = z[:, :1].expand_as(z) if dims is None else interpolated(z[:, 0], z[:, -1], dims[batch["property"]])
        frame, _ = model.decode(mixed.flatten(0, 1), views.clips[:, :, SEEN - 1])
        found.append(pixel_error(frame, views.clips[:, :, SEEN]).unflatten(0, (-1, 5))[batch["split"] == 0])
    return [round(float(value), 1) for value in torch.cat(found).mean(dim=0)[1:]]


@torch.inference_mode()
def examine(model: Any, training: list[dict[str, Any]], tests: list[dict[str, Any]]) -> dict[str, Any]:
    variance, own = variances(model, training), model.dims
    everything = torch.arange(variance.shape[1]).repeat(len(PROPERTIES), 1)
    choices = {"own": own, "apart": apart(variance, own.shape[1]), "none": None, "all": everything}
    part = variance.gather(1, own).sum(dim=1) / variance.sum(dim=1)
    return {
        "columns": len(own.unique()),
        "part_of_variance": {name: round(float(x), 3) for name, x in zip(PROPERTIES, part, strict=True)},
        "errors": {name: errors(model, tests, dims) for name, dims in choices.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="of the collisions")
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox/physics"), help="where the weights are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/collisions_columns.json")
    options = parser.parse_args()

    data = PhysicsCollisions(options.root, zoo.create(ROWS["ours"]).spec, num_workers=0, cache=False)
    training, tests = (
        list(DataLoader(GroupedRows(data.store, data.records(split)[::every]), batch_size=16, collate_fn=collate_rows))
        for split, every in (("train", TRAINED), ("val", TESTED))
    )
    found = []
    for row, seed in product(("ours", "baseline"), options.seeds):
        model = zoo.load(ROWS[row], options.out / f"{ROWS[row]}.seed{seed}.safetensors")
        found.append({"row": row, "seed": seed, **examine(model, training, tests)})
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        place = REPOSITORY / "benchmarks/results/collisions_columns.json"
        write_whole(place, as_json({"script": "benchmarks/sandbox/physics_columns.py", "runs": found}))


if __name__ == "__main__":
    main()
