"""Proofs: a small input and the outputs that a model with the right weights must give for it.

A proof is a sealed safetensors file (`zoo.hub.weights`) of ``input/<argument>`` and ``output/<name>`` tensors that
travels with the weights. Recomputing it catches what no hash can: a wrong conversion, a changed layer, another
library's arithmetic.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.files import cache_root, sha256_of
from zoo.hub.fetch import Arguments, Convert, check_original, known_sha256, local_weights, proof_path, upstream_path
from zoo.hub.manifest import Checkpoint, Upstream
from zoo.hub.weights import load_strict, read_weights, save_weights


@dataclass(frozen=True)
class ProofResult:
    """What recomputing a proof gave.

    Attributes:
        differences: per output the largest absolute difference; infinite for a wrong shape or what is no number.
        outside: the outputs that are not within ``atol + rtol * |expected|`` everywhere.
        made_with: the versions with which the proof was written.
    """

    differences: dict[str, float]
    outside: tuple[str, ...]
    atol: float
    rtol: float
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every output is what it must be."""
        return not self.outside

    def __str__(self) -> str:
        found = ", ".join(f"{name} differs by {value:.2g}" for name, value in self.differences.items())
        return f"{found} (allowed: {self.atol:g} + {self.rtol:g} x value)"


def write_proof(
    path: Path | str, module: nn.Module, inputs: Mapping[str, Tensor], *, atol: float = 1e-4, rtol: float = 1e-3
) -> None:
    """Runs ``module(**inputs)`` in eval mode and writes inputs and outputs as its proof.

    Args:
        inputs: by the name of the argument of ``module.forward``, on the CPU.
        atol: absolute tolerance that the proof allows later.
        rtol: relative tolerance.
    """
    outputs = _run(module, inputs)
    tensors = {f"input/{name}": value for name, value in inputs.items()}
    tensors |= {f"output/{name}": value for name, value in outputs.items()}
    made_with = {"torch": torch.__version__, "machine": platform.machine()}
    save_weights(path, tensors, {"proof": {"atol": atol, "rtol": rtol, "made_with": made_with}})


def check_proof(path: Path | str, module: nn.Module) -> ProofResult:
    """Recomputes a proof with ``module``, on the device where it lies.

    Raises:
        WeightsError: the proof itself is damaged or is none.
    """
    tensors, metadata = read_weights(path)
    inputs = {name.removeprefix("input/"): value for name, value in tensors.items() if name.startswith("input/")}
    expected = {name.removeprefix("output/"): value for name, value in tensors.items() if name.startswith("output/")}
    if "proof" not in metadata or not inputs or not expected:
        raise WeightsError(f"{path} is no proof: it lacks inputs, outputs or tolerances. Write it with write_proof.")
    atol, rtol = metadata["proof"]["atol"], metadata["proof"]["rtol"]
    outputs = _run(module, inputs)
    differences, outside = {}, []
    for name in sorted(expected.keys() | outputs.keys()):
        got, must = outputs.get(name), expected.get(name)
        if got is None or must is None or got.shape != must.shape:
            differences[name] = float("inf")
            outside.append(name)
            continue
        difference = (got.double() - must.double()).abs().nan_to_num(nan=float("inf"))
        differences[name] = difference.max().item()
        if not (difference <= atol + rtol * must.double().abs()).all():
            outside.append(name)
    return ProofResult(differences, tuple(outside), atol, rtol, metadata["proof"]["made_with"])


@dataclass(frozen=True)
class Step:
    """One check of a verification: True passed, False failed, None could not be made (and ``detail`` says why)."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """What is known to be right about a checkpoint on this machine, and what is not."""

    name: str
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed. A check that could not be made is no failure, but is listed."""
        return all(step.ok is not False for step in self.steps)

    def __str__(self) -> str:
        marks = {True: "ok", False: "FAILED", None: "not checked"}
        return "\n".join([self.name, *(f"  {step.name}: {marks[step.ok]}: {step.detail}" for step in self.steps)])


Module = nn.Module | Callable[[dict[str, Any]], nn.Module]


def verify(
    checkpoint: Checkpoint,
    module: Module,
    convert: Convert,
    version: str = "1",
    cache: Path | None = None,
    arguments: Arguments | None = None,
) -> Verification:
    """Checks a checkpoint from its file's bytes to the model's outputs, recomputing everything.

    Args:
        module: the checkpoint's model, freshly built; it holds the weights afterwards. Or what builds it, given the
            metadata of the converted file.
        convert: as for `local_weights`.
        version: as for `local_weights`.
        cache: as for `local_weights`.
        arguments: as for `local_weights`.

    Returns:
        The steps with their outcome; the first failure ends them.

    Raises:
        FetchError: the weights cannot be brought here, so that nothing can be said of them.
    """

    def file() -> tuple[Path, str]:
        path = local_weights(checkpoint, convert, version, cache, arguments)
        return path, _check_file(checkpoint, path, Path(cache or cache_root()))

    return verify_files(checkpoint.name, module, file, lambda: proof_path(checkpoint))


def verify_files(
    name: str, module: Module, file: Callable[[], tuple[Path, str]], proof: Callable[[], Path | None]
) -> Verification:
    """The steps of `verify` for weights from anywhere.

    Args:
        module: as for `verify`.
        file: brings and checks the weight file; returns its path and what was found out in words.
        proof: brings the proof, or None where there is none.
    """
    steps: list[Step] = []
    check = "file"
    try:
        path, found = file()
        steps.append(Step(check, True, found))
        check = "weights"
        state, about = read_weights(path)
        module = module if isinstance(module, nn.Module) else module(about)
        load_strict(module, state)
        steps.append(Step(check, True, f"each of the {len(state)} tensors has its place and shape"))
        check = "outputs"
        if (path := proof()) is None:
            why = "no proof was published with these weights; the rules that convert them have golden cases"
            steps.append(Step(check, None, why))
        else:
            result = check_proof(path, module)
            steps.append(Step(check, result.ok, str(result)))
    except WeightsError as error:
        steps.append(Step(check, False, str(error)))
    return Verification(name, tuple(steps))


def _check_file(checkpoint: Checkpoint, path: Path, cache: Path) -> str:
    """Hashes the published file anew; says in words what that is worth."""
    original = upstream_path(checkpoint.source, cache) if isinstance(checkpoint.source, Upstream) else path
    if not original.exists():
        return f"only the conversion is here ({path}); the original was removed from the cache"
    known = known_sha256(checkpoint, original)
    digest = sha256_of(original)
    check_original(checkpoint, original, digest, known)
    if checkpoint.sha256:
        return f"SHA-256 {digest} is the manifest's"
    if checkpoint.sha256_prefix:
        return f"SHA-256 {digest} is that of the first download and begins as its publisher says"
    return f"SHA-256 {digest} is that of the first download here; its publisher gives none"


@torch.inference_mode()
def _run(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of ``module(**inputs)`` by name, on the CPU."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = module.training
    module.eval()
    try:
        result: Any = module(**{name: value.to(device) for name, value in inputs.items()})
    finally:
        module.train(training)
    if isinstance(result, Tensor):
        result = {"output": result}
    elif dataclasses.is_dataclass(result):
        result = {name: value for name, value in vars(result).items() if value is not None}
    elif not isinstance(result, Mapping):
        result = {str(number): value for number, value in enumerate(result)}
    return {name: value.detach().cpu() for name, value in result.items()}
