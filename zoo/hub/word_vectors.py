"""Tables of word vectors as others publish them: word2vec's own files, NumPy archives, and those of `zoo.hub.words`.

- ``.safetensors``: what `zoo.hub.words` and `pack_word_vectors` write;
- ``.npz``: arrays ``words`` (text ``[V]``) and ``vectors`` (``[V, dim]``), never unpickled;
- ``.bin``: word2vec's binary format, such as ``GoogleNews-vectors-negative300.bin``: a line with V and dim, then for
  each word its bytes, a space and dim floats of four bytes.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import require_modest
from zoo.hub.weights import save_weights
from zoo.hub.words import TABLE, read_words

_LONGEST_WORD = 1000  # bytes


def read_word_vectors(path: Path | str, keep: Collection[str] | None = None) -> tuple[list[str], Tensor]:
    """The words of a table in order, and their vectors, float32 ``[V, dim]``.

    Args:
        path: of the file.
        keep: the words that are wanted, as far as they are there; all by default.

    Raises:
        WeightsError: no such file, a broken one, or one that does not hold words and finite vectors.
    """
    path = Path(path)
    try:
        if path.suffix == ".bin":
            words, table = _word2vec(path, keep)
        elif path.suffix == ".npz":
            words, table = _archive(path)
        else:
            words, table = read_words(path)
    except (OSError, ValueError, KeyError, EOFError, MemoryError, TypeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"the word vectors {path} cannot be read ({error}); give word2vec's .bin, an .npz of words and vectors, or "
            "a file that `zoo words` wrote."
        ) from error
    if keep is not None and path.suffix != ".bin":
        rows = [n for n, word in enumerate(words) if word in keep]
        words, table = [words[n] for n in rows], table[rows]
    if len(set(words)) < len(words):
        raise WeightsError(f"{path} has a word twice; which vector counts cannot be told. Make each word stand once.")
    if not words:
        raise WeightsError(f"{path} holds none of the words that are wanted; give another table.")
    if not table.isfinite().all():
        row = int(table.isfinite().all(1).logical_not().nonzero()[0])
        raise WeightsError(f"{path}: the vector of {words[row]!r} holds NaN or infinity. Get the file again.")
    return words, table


def pack_word_vectors(source: Path | str, target: Path | str, keep: Collection[str] | None = None) -> int:
    """Write a table, or a part of one, into a file of the zoo's, and return how many words it has.

    Args:
        source: a file that `read_word_vectors` reads.
        target: the safetensors file.
        keep: the words that are wanted; all by default.

    Raises:
        WeightsError: as `read_word_vectors`.
        FetchError: the file cannot be written.
    """
    words, table = read_word_vectors(source, keep)
    save_weights(target, {TABLE: table}, {"encoder": Path(source).name, "revision": None, "words": words})
    return len(words)


def _archive(path: Path) -> tuple[list[str], Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        require_modest(arrays.zip)
        words, vectors = arrays["words"], arrays["vectors"]
    if words.ndim != 1 or words.dtype.kind != "U" or vectors.ndim != 2 or len(words) != len(vectors):
        raise ValueError(f"words {words.dtype} {list(words.shape)} and vectors {list(vectors.shape)} do not match")
    if vectors.dtype.kind != "f":
        raise ValueError(f"vectors are {vectors.dtype}, not real numbers")
    return words.tolist(), torch.from_numpy(vectors.astype(np.float32))


def _word2vec(path: Path, keep: Collection[str] | None) -> tuple[list[str], Tensor]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        words, places, (dim, entries) = [], [], _entries(data)
        for word, place in entries:
            if keep is None or word in keep:
                words.append(word)
                places.append(place)
        table = np.empty((len(words), dim), np.float32)
        for row, place in zip(table, places, strict=True):
            row[:] = np.frombuffer(data, "<f4", dim, place)
    return words, torch.from_numpy(table)


def _entries(data: mmap.mmap) -> tuple[int, Iterator[tuple[str, int]]]:
    """The numbers of a vector; and of each word, itself and where its vector begins."""
    end = data.find(b"\n", 0, 100)
    head = data[: max(end, 0)].split()
    if len(head) != 2 or not all(part.isdigit() for part in head):
        raise ValueError("it does not begin with the numbers of words and of their dimensions")
    count, dim = map(int, head)
    if not dim or len(data) - end - 1 < count * (4 * dim + 1):
        raise ValueError(f"{count} words of {dim} numbers do not fit into it: it is cut short")
    return dim, _places(data, count, dim, end + 1)


def _places(data: mmap.mmap, count: int, dim: int, place: int) -> Iterator[tuple[str, int]]:
    for n in range(count):
        space = data.find(b" ", place, place + _LONGEST_WORD)
        if space < 0 or len(data) < space + 1 + 4 * dim:
            raise ValueError(f"word {n} of {count} is not whole")
        # Some writers end each vector with a line break, which then stands before the next word.
        yield data[place:space].lstrip(b"\n").decode("utf-8", "replace"), space + 1
        place = space + 1 + 4 * dim
