"""From a checkpoint's name to a verified safetensors file on this machine.

Bundled files are there already. Files on the hub come through `huggingface_hub` (its cache, its locks, ``HF_ENDPOINT``,
``HF_HUB_OFFLINE``). A file at its authors' address is downloaded, checked, converted once, and loaded from the
conversion afterwards. Nothing on the way notices a flipped byte by itself, so the SHA-256 is checked here: against the
manifest or, where nobody published one, against the first download, whose hash is pinned beside it.

The cache (``ZOO_CACHE``, else ``~/.cache/videozoo``)::

    upstream/<host>/<path of the URL>           the file as published, and beside it
    upstream/<host>/<path of the URL>.sha256    its pin, as `sha256sum -c` reads it
    converted/<name>-<hash>-v<version>.safetensors
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from torch import Tensor

from zoo._version import __version__
from zoo.errors import FetchError, WeightsError
from zoo.files import NoPlaceError, cache_root, sha256_of, sha256_once, write_whole, writing
from zoo.hub.checkpoint import Source
from zoo.hub.download import download
from zoo.hub.manifest import Bundled, Checkpoint, Hub, Upstream, manifest
from zoo.hub.upstream import read_foreign, recognise
from zoo.hub.weights import save_weights
from zoo.networks.dictionary import Dictionary
from zoo.resources import resource

_WORDS = "words"  # the format of a list of them, which is no weights

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # an upstream state dict to the zoo's
Arguments = Callable[[dict[str, Tensor]], dict[str, Any]]  # what it says of how the model is built


def local_weights(
    checkpoint: Checkpoint,
    convert: Convert,
    version: str = "1",
    cache: Path | None = None,
    arguments: Arguments | None = None,
) -> Path:
    """The safetensors file of a checkpoint under the zoo's own names, fetched and converted if it is not here yet.

    Args:
        convert: turns the state dict of an upstream file into the model's; not used for bundled and hub files.
        version: names the converter's revision: with another one the file is converted again.
        cache: instead of `zoo.files.cache_root`.
        arguments: reads off an upstream file the builder's arguments, which the converted one then has as metadata.

    Raises:
        FetchError: the file cannot be had (what was tried, and what to do) or there is no place to keep it.
        WeightsError: it is not the published file, or cannot be read or converted.
    """
    source = checkpoint.source
    if isinstance(source, Bundled):
        return _published(checkpoint, resource(source.path))
    if isinstance(source, Hub):
        return _published(checkpoint, _from_hub(checkpoint, source.file))
    cache = Path(cache or cache_root())
    original = upstream_path(source, cache)
    if digest := known_sha256(checkpoint, original):
        converted = _converted_path(checkpoint, digest, version, cache)
        if converted.exists():
            return converted
    with _locked(original):
        digest = _original(checkpoint, original)
        converted = _converted_path(checkpoint, digest, version, cache)
        if not converted.exists():
            words = {name: _companion(checkpoint, url, cache) for name, url in source.companions.items()}
            for leftover in converted.parent.glob(f".{converted.name}.*.tmp"):  # of a process that was killed
                leftover.unlink()
            convert_file(
                original,
                converted,
                lambda state: convert({**state, **words}),
                arguments,
                checkpoint=checkpoint.name,
                source=str(source),
                source_sha256=digest,
                converter=version,
                license=checkpoint.license,
                labels=checkpoint.labels,
                spec=checkpoint.spec,
            )
        return converted


def convert_file(
    original: Path | str, target: Path | str, convert: Convert, arguments: Arguments | None = None, **metadata: Any
) -> None:
    """Reads a foreign weight file, converts it and writes the safetensors with ``metadata``, whole or not at all."""
    kind, state = read_foreign(original)
    if arguments is not None and (said := arguments(state)):
        metadata["arguments"] = said
    save_weights(target, convert(state), {"source_format": kind, **metadata})


def hub_file(repo: str, file: str, revision: str | None = None) -> Path:
    """The local copy of a file of the hub, fetched by the hub's client if it is not in the client's cache."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repo, file, revision=revision, library_name="videozoo", library_version=__version__)
    except Exception as error:  # the errors of the client, its validation and its transport share no parent
        raise FetchError(f"{file} of hf://{repo} cannot be had: {error}") from error
    return Path(path)


def proof_path(checkpoint: Checkpoint) -> Path | None:
    """The local proof file of a checkpoint (fetched if it lies on the hub), or None where none is published."""
    if checkpoint.proof is None:
        return None
    if isinstance(checkpoint.source, Hub):
        return _from_hub(checkpoint, checkpoint.proof)
    return resource(checkpoint.proof)


def upstream_path(source: Upstream, cache: Path) -> Path:
    """Where the cache keeps an upstream file, and where a download by hand belongs."""
    parts = urlsplit(source.url)
    folders = [p for p in parts.path.split("/") if p not in ("", ".", "..")]
    return cache.joinpath("upstream", parts.netloc, *folders, *filter(None, [source.name]))


def known_sha256(checkpoint: Checkpoint, original: Path) -> str | None:
    """What an upstream file's hash must be: the manifest's, else the pin of the first download, else nobody knows."""
    if checkpoint.sha256:
        return checkpoint.sha256
    try:
        return _pin(original).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None


def check_original(checkpoint: Checkpoint, path: Path, digest: str, known: str | None) -> None:
    """Refuses with a `WeightsError` a file that is not what was published, by hash, size or format."""
    source = checkpoint.source
    if known and digest != known:
        by = "the manifest has" if checkpoint.sha256 else "the first download, which is pinned beside it, had"
        problem = f"its SHA-256 is {digest}, {by} {known}"
    elif checkpoint.sha256_prefix and not digest.startswith(checkpoint.sha256_prefix):
        problem = f"its SHA-256 is {digest}, its publisher says {checkpoint.sha256_prefix}..."
    elif checkpoint.bytes and path.stat().st_size != checkpoint.bytes:
        problem = f"it has {path.stat().st_size} bytes, the manifest says {checkpoint.bytes}"
    elif _is_weights(source) and recognise(path) != source.format.replace("lightning", "torch"):
        problem = f"it is a {recognise(path)} file, the manifest says {source.format}"
    else:
        return
    raise WeightsError(
        f"{path} is not {checkpoint.name} as published at {source}: {problem}. Remove it if it is still there and load "
        "again; if the same comes again, the file was replaced at its source: trust it only if its publisher says so."
    )


def _is_weights(source: Source) -> bool:
    return isinstance(source, Upstream) and source.format != _WORDS


def _published(checkpoint: Checkpoint, path: Path) -> Path:
    check_original(checkpoint, path, sha256_once(path), checkpoint.sha256)
    return path


def _original(checkpoint: Checkpoint, original: Path, read: Callable[[Path], Any] = read_foreign) -> str:
    """Downloads the upstream file if it is not in the cache, checks it, pins it, and returns its hash."""
    known = known_sha256(checkpoint, original)

    def check(path: Path, digest: str) -> None:
        check_original(checkpoint, path, digest, known)
        if not known:  # nothing says that it is right, but it must at least be whole before it is pinned
            read(path)

    if original.exists():
        digest = sha256_of(original)
        check(original, digest)
    else:
        url = _mirrored(checkpoint.source.url)
        if _offline():
            raise FetchError(_what_to_do(checkpoint, "HF_HUB_OFFLINE forbids the network", url, original))
        try:
            digest = download(url, original, check, checkpoint.bytes)
        except NoPlaceError:
            raise
        except FetchError as error:
            raise FetchError(_what_to_do(checkpoint, str(error), url, original)) from error
    if not known:
        write_whole(_pin(original), f"{digest}  {original.name}\n".encode())
    return digest


def _companion(checkpoint: Checkpoint, url: str, cache: Path) -> Tensor:
    """The words of a list that belongs to weights, as bytes; see `zoo.networks.dictionary`."""
    source = Upstream(url, _WORDS)
    file = dataclasses.replace(checkpoint, source=source, sha256=None, sha256_prefix=None, bytes=None)
    path = upstream_path(source, cache)
    _original(file, path, Dictionary.read)
    return Dictionary.read(path)


def _from_hub(checkpoint: Checkpoint, file: str) -> Path:
    source = checkpoint.source
    try:
        return hub_file(source.repo, file, source.revision)
    except FetchError as error:
        raise FetchError(_what_to_do(checkpoint, str(error), f"hf://{source.repo}", None)) from error


def _what_to_do(checkpoint: Checkpoint, problem: str, tried: str, place: Path | None) -> str:
    """What a `FetchError` says: what was asked, what went wrong, where it was looked for, what helps."""
    bundled = ", ".join(c.name for c in manifest().bundled())
    lines = [f"cannot fetch {checkpoint.name}: {problem}", f"  tried: {tried}"]
    if place:
        lines += [f"  not in the cache either: {place}"]
    lines += ["What helps:", "  - a network: a proxy goes into HTTPS_PROXY"]
    if place:
        lines += [
            f"  - a mirror: ZOO_MIRROR=https://HOST replaces the address up to {urlsplit(checkpoint.source.url).path}",
            f"  - a download by hand of {checkpoint.source} to {place}",
        ]
    else:
        lines += ["  - a mirror of the hub in HF_ENDPOINT, or a filled HF_HOME"]
    lines += [f"  - a file of your own: zoo.load({checkpoint.model!r}, weights=PATH)"]
    if bundled:
        lines += [f"  - a small model that needs no network: {bundled}"]
    return "\n".join(lines)


def _mirrored(url: str) -> str:
    """The URL, or the same path under ``ZOO_MIRROR``."""
    mirror = os.environ.get("ZOO_MIRROR", "").rstrip("/")
    if not mirror:
        return url
    if urlsplit(mirror).scheme not in ("http", "https"):
        raise FetchError(f"ZOO_MIRROR is {mirror!r}; it must be an http(s) address such as https://mirror.example.org.")
    parts = urlsplit(url)
    return mirror + parts.path + (f"?{parts.query}" if parts.query else "")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: whoever comes second finds the work done."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _pin(original: Path) -> Path:
    return original.with_name(f"{original.name}.sha256")


def _converted_path(checkpoint: Checkpoint, digest: str, version: str, cache: Path) -> Path:
    return cache / "converted" / f"{checkpoint.name}-{digest[:12]}-v{version}.safetensors"
