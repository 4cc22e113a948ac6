"""Word tables: a vector for every word of a vocabulary, out of a text encoder on the Hugging Face hub.

A word's vector is the mean of the encoder's input embeddings of its word pieces, without special tokens; the empty
string (a missing object) has the padding token's. Epstein and Vondrick 2020 take them from ``bert-base-uncased``.

Of a repository two files are fetched, ``tokenizer.json`` and ``model.safetensors`` (or the one shard that counts), and
of the weights one tensor is read. What was computed lies in the cache, so that the second time needs neither a network
nor the encoder::

    words/<encoder>-<hash of encoder, revision and words>.safetensors
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from zoo._version import __version__
from zoo.errors import DataError, FetchError, WeightsError, ZooError
from zoo.extras import optional
from zoo.files import cache_root, sha256_once
from zoo.hub.fetch import hub_file
from zoo.hub.weights import read_weights, save_weights

ENCODER = "bert-base-uncased"
RANDOM = "random"  # in an encoder's place: vectors that mean nothing, for machines without a network
TABLE = "words"  # the tensor's name in a file of words
_TOKENIZER, _WEIGHTS, _INDEX = "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
_EMBEDDINGS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "shared.weight")
_PADDING = ("[PAD]", "<pad>")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def word_table(
    words: Sequence[str], encoder: str = ENCODER, *, revision: str | None = None, cache: Path | None = None
) -> Tensor:
    """The vectors of ``words``, float32 ``[V, dim]``.

    Args:
        words: a vocabulary, each word once.
        encoder: a repository of the hub, ``org/name``.
        revision: a branch, tag or commit; what ``main`` was at the first call by default.
        cache: instead of `zoo.files.cache_root`.

    Raises:
        FetchError: the encoder cannot be had.
        WeightsError: its files are not as published, are pickles only, or hold no table of embeddings, or several.
        DataError: a word that is there twice or that the tokenizer cannot cut.
        ZooError: the package ``tokenizers`` is missing.
    """
    return _cached(words, encoder, revision, cache)[0]


def build_words(
    vocabulary: Path | str,
    encoder: str,
    target: Path | str,
    *,
    revision: str | None = None,
    dim: int = 768,
    seed: int = 0,
) -> Tensor:
    """Write the word table of a vocabulary file into a file of the user's, and return it.

    Args:
        vocabulary: a JSON list of words, such as the ``vocab.json`` of Oops!.
        encoder: a repository of the hub; or ``"random"``, see `random_words`.
        target: the safetensors file; its metadata hold the words in order and where the vectors come from.
        revision: of the encoder.
        dim: of random vectors.
        seed: of random vectors.

    Raises:
        FetchError: the encoder cannot be had, or the file cannot be written; and what `word_table` raises.
    """
    words = read_vocabulary(vocabulary)
    if encoder == RANDOM:
        table, about = random_words(words, dim, seed), {"encoder": RANDOM, "seed": seed}
    else:
        table, about = _cached(words, encoder, revision, None)
    save_weights(target, {TABLE: table}, {**about, "words": words})
    return table


def read_words(path: Path | str) -> tuple[list[str], Tensor]:
    """The words of a file in order and their vectors, float32 ``[V, dim]``.

    Raises:
        WeightsError: the file is damaged, or none that `build_words` wrote.
    """
    words, table, _ = _read(Path(path))
    return words, table


def random_words(words: Sequence[str], dim: int, seed: int = 0) -> Tensor:
    """Vectors drawn from a normal distribution, of unit length on average, float32 ``[V, dim]``; they mean nothing."""
    _check(words, "the vocabulary")
    if dim < 1:
        raise ZooError(f"word vectors need at least one number each, got dim={dim}.")
    return torch.randn(len(words), dim, generator=torch.Generator().manual_seed(seed)) * dim**-0.5


def read_vocabulary(path: Path | str) -> list[str]:
    """The words of a JSON list.

    Raises:
        DataError: there is no such file, it is no list of words, or a word is there twice.
    """
    try:
        words = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"the vocabulary {path} cannot be read ({error}); it is a JSON list of words.") from error
    return _check(words, f"the vocabulary {path}")


# --- From an encoder to a table.


def _cached(
    words: Sequence[str], encoder: str, revision: str | None, cache: Path | None
) -> tuple[Tensor, dict[str, Any]]:
    """The table, and what is to be said about it: encoder and commit."""
    words = _check(words, "the vocabulary")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", encoder):
        raise FetchError(f"{encoder!r} is no repository of the hub; write org/name, such as {ENCODER}.")
    key = hashlib.sha256(json.dumps([encoder, revision or "main", words]).encode()).hexdigest()
    path = (cache or cache_root()) / "words" / f"{encoder.replace('/', '--')}-{key[:16]}.safetensors"
    if not path.exists():
        table, commit = _compute(words, encoder, revision)
        save_weights(path, {TABLE: table}, {"encoder": encoder, "revision": commit, "words": words})
    _, table, about = _read(path)
    return table, {name: about[name] for name in ("encoder", "revision")}


def _compute(words: Sequence[str], encoder: str, revision: str | None) -> tuple[Tensor, str]:
    """The table and the commit that it was computed from."""
    tokenizers = optional("tokenizers", "goals", "a table of word embeddings")
    path = _file(encoder, _TOKENIZER, revision)
    commit = path.parent.name  # the hub client's cache: snapshots/<commit>/tokenizer.json
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises this very class
        raise WeightsError(f"{path} is no tokenizer that this version of tokenizers reads: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = [_pieces(tokenizer, word, encoder) for word in words]
    matrix = _matrix(encoder, commit)
    ids = torch.tensor([number for word in pieces for number in word])
    if int(ids.max()) >= len(matrix):
        raise WeightsError(
            f"{encoder}: its tokenizer gives word piece {int(ids.max())}, its table has {len(matrix)} rows; the two "
            "files do not belong together. Use another revision."
        )
    offsets = torch.tensor([0, *(len(word) for word in pieces)]).cumsum(0)[:-1]
    return embedding_bag(ids, matrix.float(), offsets, mode="mean"), commit


def _pieces(tokenizer: Any, word: str, encoder: str) -> list[int]:
    """The numbers of a word's pieces; of the empty word, the padding token's."""
    if word:
        found = tokenizer.encode(word, add_special_tokens=False).ids
        if not found:
            raise DataError(f"the tokenizer of {encoder} finds nothing in the word {word!r}; take it out of the list.")
        return found
    padding = [number for name in _PADDING if (number := tokenizer.token_to_id(name)) is not None]
    if not padding:
        raise WeightsError(
            f"the empty word takes the padding token's vector, and {encoder} has no {' or '.join(_PADDING)}. Use an "
            f"encoder that has, such as {ENCODER}."
        )
    return padding[:1]


def _matrix(encoder: str, commit: str) -> Tensor:
    """The input embeddings ``[pieces, dim]``, the one tensor of the repository's weights that is read."""
    try:
        path, key = _file(encoder, _WEIGHTS, commit), None
    except _NoSuchFileError:
        path, key = _shard(encoder, commit)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            matrix = file.get_tensor(key or _embedding_key(file.keys(), encoder))
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file: {error}. Remove it and try again.") from error
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise WeightsError(f"{encoder}: its word embeddings are {matrix.dtype} {list(matrix.shape)}, not a table.")
    return matrix


def _shard(encoder: str, commit: str) -> tuple[Path, str]:
    """Where weights lie in several files: the file with the embeddings, and their name in it."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(library_name="videozoo", library_version=__version__).model_info(encoder, revision=commit)
    except Exception as error:  # the errors of the client, its validation and its transport share no parent
        raise FetchError(f"the files of {encoder} cannot be listed: {error}. Try again.") from error
    names = [sibling.rfilename for sibling in info.siblings or ()]
    if _INDEX in names:
        index = _file(encoder, _INDEX, commit)
        try:
            shards = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
            key = _embedding_key(shards, encoder)
            if shards[key] in names:
                return _file(encoder, shards[key], commit), key
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{index} is no index of weights ({error!r}); use another revision.") from error
        raise WeightsError(f"{encoder}: {_INDEX} puts {key} into {shards[key]!r}, which the repository lacks.")
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        raise WeightsError(
            f"{encoder} has its weights as pickles only ({', '.join(pickles)}), which can run code and are not opened. "
            f"Use a revision with {_WEIGHTS} (the hub's converter proposes one as a pull request: "
            f"revision='refs/pr/NUMBER'), or another encoder, such as {ENCODER}."
        )
    raise WeightsError(
        f"{encoder} has no {_WEIGHTS} (it has {', '.join(names) or 'no files'}); use a text encoder, such as {ENCODER}."
    )


def _embedding_key(keys: Iterable[str], encoder: str) -> str:
    """The one name among a repository's tensors that input embeddings have.

    Raises:
        WeightsError: none, or several.
    """
    keys = sorted(keys)
    found = [key for key in keys if any(f".{key}".endswith(f".{name}") for name in _EMBEDDINGS)]
    if len(found) == 1:
        return found[0]
    if found:
        problem = f"has several tables of word embeddings ({', '.join(found)}), and which one counts cannot be told"
    else:
        near = [key for key in keys if "emb" in key.lower()] or keys[:8]
        problem = f"has no tensor that ends in {', '.join(_EMBEDDINGS)}; nearest: {', '.join(near) or 'none at all'}"
    raise WeightsError(f"{encoder} {problem}. Use another encoder, such as {ENCODER}.")


class _NoSuchFileError(FetchError):
    """The repository is there, the file is not in it."""


def _file(encoder: str, name: str, revision: str | None) -> Path:
    """The local copy of a repository's file, its bytes checked against the hash that the hub names it by."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = hub_file(encoder, name, revision)
    except FetchError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            raise _NoSuchFileError(
                f"{encoder} has no {name}; use an encoder or a revision that has, such as {ENCODER}."
            ) from error
        raise FetchError(
            f"cannot fetch the text encoder {encoder}: {error}. Check its name; without a network it must be in the "
            "hub client's cache (HF_HOME), a mirror goes into HF_ENDPOINT, and 'random' in the encoder's place gives "
            "vectors that mean nothing."
        ) from error
    _check_blob(path)
    return path


def _check_blob(path: Path) -> None:
    """Refuse a file of the client's cache whose bytes are not those of its blob's name: SHA-256, or git's SHA-1."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = sha256_once(blob)
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        data = blob.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:  # a cache without links keeps no hashes
        return
    if digest != blob.name:
        raise WeightsError(f"{blob} is not the {path.name} that the hub served: its hash is {digest}. Remove it.")


# --- Lists of words and files of them.


def _check(words: Any, where: str) -> list[str]:
    if not isinstance(words, Sequence) or isinstance(words, str) or not words:
        raise DataError(f"{where} is no list of words, or an empty one.")
    seen: set[str] = set()
    for number, word in enumerate(words):
        if not isinstance(word, str):
            raise DataError(f"{where}: entry {number} is {word!r}, not a word.")
        if word in seen:
            raise DataError(f"{where} has {word!r} twice; a word's number would not be clear. Take one out.")
        if not word.isascii() and word != word.encode(errors="replace").decode():
            raise DataError(f"{where}: entry {number}, {word!r}, is no Unicode text; write the list as UTF-8.")
        seen.add(word)
    return list(words)


def _read(path: Path) -> tuple[list[str], Tensor, dict[str, Any]]:
    state, about = read_weights(path)
    words, table = about.get("words"), state.get(TABLE)
    if not isinstance(words, list) or table is None or table.ndim != 2 or len(table) != len(words):
        raise WeightsError(f"{path} is no file of words that videozoo wrote; `zoo.hub.words.build_words` writes one.")
    return words, table.float(), about
