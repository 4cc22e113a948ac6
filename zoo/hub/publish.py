"""A model to the Hugging Face hub, and back by ``hf://org/name``.

A repository holds four files, written in one commit so that they always belong together: ``model.safetensors``
(sealed), ``config.json`` (what `zoo.load` must know, and the hashes of the other files), ``proof.safetensors`` (what
`zoo verify` recomputes) and ``README.md``, the model card with its machine-readable results (``model-index``).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo._version import __version__
from zoo.errors import FetchError, WeightsError, ZooError
from zoo.files import sha256_of, sha256_once, write_whole
from zoo.hub.card import model_card
from zoo.hub.fetch import hub_file
from zoo.hub.manifest import Checkpoint
from zoo.hub.proof import Verification, verify_files, write_proof
from zoo.hub.weights import save_weights

WEIGHTS, PROOF, CONFIG, CARD = "model.safetensors", "proof.safetensors", "config.json", "README.md"


def publish(
    model: nn.Module,
    repo: str,
    *,
    checkpoint: Checkpoint | None = None,
    license: str | None = None,
    proof_inputs: Mapping[str, Tensor] | None = None,
    private: bool = False,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Writes a model, its configuration, proof and card into a repository of the hub; makes it if it is not there.

    Args:
        model: a module with ``name: str``, ``arguments: dict`` (plain values, the builder's), ``spec: VideoSpec`` and
            ``labels: Sequence[str] | None``, such as every `ZooModule`; ``task`` (the hub's word) and ``example`` (a
            line that uses it) are a classifier's where the module has none.
        repo: ``org/name``.
        checkpoint: the manifest's entry that the weights are, whose licence and scores go into the card;
            ``model.checkpoint`` by default, if the model has it.
        license: of the weights (SPDX); the checkpoint's by default. Weights that were trained on from others are bound
            by the others' licence too.
        proof_inputs: arguments of ``model.forward``; a small seeded clip by default.
        private: whether a new repository is private.
        message: of the commit.
        token: of the hub; the one of ``hf auth login`` or ``HF_TOKEN`` by default.

    Returns:
        The repository's address.

    Raises:
        FetchError: the hub cannot be reached or refuses.
        ZooError: something in the model's arguments is not plain.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token, library_name="videozoo", library_version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        write_repo(Path(folder), model, repo, checkpoint=checkpoint, license=license, proof_inputs=proof_inputs)
        files = [CommitOperationAdd(path.name, path) for path in sorted(Path(folder).iterdir())]
        try:
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.create_commit(repo, files, commit_message=message or f"{model.name} with videozoo {__version__}")
        except Exception as error:  # the errors of the client, its validation and its transport share no parent
            raise FetchError(
                f"cannot publish to {repo!r}: {error}. Log in with `hf auth login` (a token that may write), check the "
                "name, and that HF_ENDPOINT and HF_HUB_OFFLINE are what they should be."
            ) from error
    return str(address)


def write_repo(
    folder: Path,
    model: nn.Module,
    repo: str,
    *,
    checkpoint: Checkpoint | None = None,
    license: str | None = None,
    proof_inputs: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes the four files of a repository into ``folder``; the arguments are those of `publish`."""
    checkpoint = checkpoint or getattr(model, "checkpoint", None)
    license = license or (checkpoint.license if checkpoint else None)
    labels = list(model.labels) if model.labels else None
    about = {"model": model.name, "license": license, "labels": labels, "spec": model.spec.to_dict()}
    save_weights(folder / WEIGHTS, model.state_dict(), about)
    write_proof(folder / PROOF, model, proof_inputs or _small_clip(model))
    config = {
        "library": "videozoo",
        "version": __version__,
        **about,
        "arguments": dict(model.arguments),
        "task": getattr(model, "task", "video-classification"),
        "example": getattr(model, "example", 'model.predict("clip.mp4", top=5)'),
        "checkpoint": checkpoint.name if checkpoint else None,
        "files": {name: sha256_of(folder / name) for name in (WEIGHTS, PROOF)},
    }
    try:
        text = json.dumps(config, indent=2)
    except TypeError as error:
        raise ZooError(f"{model.name}: its arguments must be plain values to be published: {error}.") from error
    write_whole(folder / CONFIG, text.encode())
    write_whole(folder / CARD, str(model_card(config, repo, checkpoint)).encode())


def read_repo(uri: str) -> tuple[dict[str, Any], Path]:
    """The configuration and the local, verified weight file of ``hf://org/name[@revision]``.

    The configuration holds ``model``, ``arguments``, ``spec``, ``labels`` and ``license`` (or None) and ``files``.

    Raises:
        FetchError: no such repository, no network and not in the cache.
        WeightsError: a repository that `publish` did not write, or whose file is not the one that was published.
    """
    config, commit = _config(uri)
    return config, _file(uri, WEIGHTS, config, commit)


def verify_repo(uri: str, module: nn.Module) -> Verification:
    """The steps of `zoo.hub.proof.verify` for a published repository; ``module`` is its model, freshly built."""
    config, commit = _config(uri)

    def weights() -> tuple[Path, str]:
        path = _file(uri, WEIGHTS, config, commit, again=True)
        return path, f"SHA-256 {config['files'][WEIGHTS]} is that of the repository's {CONFIG}"

    def proof() -> Path | None:
        return _file(uri, PROOF, config, commit, again=True) if PROOF in config["files"] else None

    return verify_files(uri, module, weights, proof)


def _config(uri: str) -> tuple[dict[str, Any], str]:
    """The checked configuration and the commit that it belongs to."""
    path = _download(uri, CONFIG)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        right = isinstance(config["model"], str) and all(isinstance(config[k], dict) for k in ("arguments", "spec"))
        right = right and isinstance(config["labels"], list | None) and isinstance(config["files"][WEIGHTS], str)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{uri} holds no {CONFIG} of videozoo ({error!r}); `zoo publish` writes one.") from error
    if not right:
        raise WeightsError(f"{uri}: a field of {CONFIG} is not of the type that `zoo publish` writes.")
    return config, path.parent.name  # the hub client's cache: snapshots/<commit>/config.json


def _file(uri: str, name: str, config: dict[str, Any], commit: str, *, again: bool = False) -> Path:
    """A file of the same commit as ``config``, its hash checked (``again``: even if this process did so before)."""
    path = _download(uri, name, commit)
    digest = sha256_of(path) if again else sha256_once(path)
    if digest != config["files"][name]:
        raise WeightsError(
            f"{path} is not the {name} that was published at {uri}: its SHA-256 is {digest}, {CONFIG} says "
            f"{config['files'][name]}. Remove {path.resolve()} and load again."
        )
    return path


def _download(uri: str, file: str, revision: str | None = None) -> Path:
    parts = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", uri)
    if not parts:
        raise FetchError(f"{uri!r} is no address of a repository; write hf://org/name or hf://org/name@revision.")
    repo, wanted = parts.groups()
    try:
        return hub_file(repo, file, revision or wanted)
    except FetchError as error:
        raise FetchError(
            f"cannot fetch {uri}: {error}. Check the name; a private repository needs `hf auth login`; without "
            "a network it must be in the cache (HF_HOME), or a mirror in HF_ENDPOINT."
        ) from error


def _small_clip(model: nn.Module) -> dict[str, Tensor]:
    """A seeded, normalised clip ``[1, 3, T, S, S]`` with S = 64 at most."""
    size = min(64, model.spec.crop)
    random = torch.Generator().manual_seed(0)
    return {"clips": torch.randn(1, 3, model.spec.frames, size, size, generator=random)}
