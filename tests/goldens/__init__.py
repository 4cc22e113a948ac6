"""Golden cases: numbers that the methods' published reference code gave, to hold the zoo's own code against.

A folder is a case: ``manifest.json`` says what was run, ``outputs.safetensors`` what came out, and `recipe` draws the
weights and inputs again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.goldens import recipe

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One case: its manifest, the reference's outputs by name, and which of them have been compared."""

    name: str
    manifest: dict[str, Any]
    outputs: dict[str, Tensor]
    stored: dict[str, Tensor] = field(default_factory=dict)  # inputs that no recipe makes: masks, labels
    checked: set[str] = field(default_factory=set)

    def state(self, shapes: str = "shapes") -> dict[str, Tensor]:
        """The weights under the reference's own names; ``shapes`` is the manifest's field that lists them."""
        weights = recipe.state_dict(self.manifest[shapes], self.manifest["seed"])
        return {key: torch.from_numpy(value) for key, value in weights.items()}

    def input(self, name: str) -> Tensor:
        """The input called ``name``."""
        return torch.from_numpy(recipe.inputs(name, self.manifest["inputs"][name], self.manifest["seed"]))

    def check(self, name: str, actual: Tensor, *, atol: float | None = None, rtol: float | None = None) -> None:
        """Fails unless ``actual`` is the output called ``name``, within the case's tolerance or the given one.

        A case may have another tolerance for some of its outputs.
        """
        self.checked.add(name)
        others = self.manifest.get("tolerances")  # in some cases a remark
        tolerance = others.get(name, self.manifest) if isinstance(others, dict) else self.manifest
        torch.testing.assert_close(
            actual.detach(),
            self.outputs[name],
            atol=tolerance["atol"] if atol is None else atol,
            rtol=tolerance["rtol"] if rtol is None else rtol,
            msg=lambda message: f"{self.name}: {name}: {message}",
        )

    def check_relative(self, name: str, actual: Tensor) -> None:
        """`check` with an absolute tolerance of a thousandth of the output's largest value (activations)."""
        self.check(name, actual, atol=1e-3 * float(self.outputs[name].abs().max()), rtol=1e-3)

    def check_activation(self, name: str, actual: Tensor) -> None:
        """Compares a big activation's thinned values, mean and deviation, which are what a case stores of it."""
        self.check_relative(f"act/{name}/sample", thin(actual, 256))
        scale = 1e-3 * float(self.outputs[f"act/{name}/sample"].abs().max())
        self.check(f"act/{name}/mean", actual.mean(), atol=scale, rtol=1e-3)
        self.check(f"act/{name}/std", actual.std(correction=0), atol=scale, rtol=1e-3)

    def activations(self) -> set[str]:
        """Names of the activations that the case stores."""
        return {name.split("/")[1] for name in self.outputs if name.startswith("act/")}

    def assert_complete(self) -> None:
        """Fails if an output was left out: passing a case means every number, not some."""
        assert self.checked == set(self.outputs)


def load(name: str) -> Case:
    """The case in the folder ``name``."""
    folder = FOLDER / name
    inputs = folder / "inputs.safetensors"
    return Case(
        name,
        json.loads((folder / "manifest.json").read_text()),
        load_file(folder / "outputs.safetensors"),
        load_file(inputs) if inputs.exists() else {},
    )


def thin(tensor: Tensor, count: int) -> Tensor:
    """About ``count`` values of a tensor, evenly spaced in its memory order."""
    return tensor.flatten()[:: max(1, tensor.numel() // count)]
