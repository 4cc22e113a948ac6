"""Tables of word vectors in every form that they come in, and broken ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.errors import WeightsError
from zoo.hub.word_vectors import pack_word_vectors, read_word_vectors

WORDS = ["tea", "Wasser", "naïve"]
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


def word2vec(path, words=WORDS, vectors=VECTORS, end=b"\n"):
    """The binary format; the original program ends each vector with a line break, other writers do not."""
    entries = (word.encode() + b" " + row.tobytes() + end for word, row in zip(words, vectors, strict=True))
    path.write_bytes(f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(entries))
    return path


@pytest.mark.parametrize("kind", ["bin", "bin without breaks", "npz", "packed"])
def test_every_form_says_the_same(kind, tmp_path):
    if kind == "npz":
        np.savez(path := tmp_path / "words.npz", words=np.array(WORDS), vectors=VECTORS.astype(np.float16))
    else:
        path = word2vec(tmp_path / "words.bin", end=b"\n" if kind == "bin" else b"")
    if kind == "packed":
        source, path = path, tmp_path / "words.safetensors"
        assert pack_word_vectors(source, path) == 3
    words, table = read_word_vectors(path)
    assert words == WORDS
    assert torch.equal(table, torch.from_numpy(VECTORS))
    words, table = read_word_vectors(path, keep={"naïve", "tea", "milk"})
    assert words == ["tea", "naïve"]
    assert torch.equal(table, torch.from_numpy(VECTORS[[0, 2]]))
    with pytest.raises(WeightsError, match="none of the words"):
        read_word_vectors(path, keep={"milk"})


def test_refuses_broken_tables(tmp_path):
    path = word2vec(tmp_path / "words.bin")
    whole = path.read_bytes()
    for content, said in (
        (whole[:-20], "cut short"),
        (b"", "cannot be read"),
        (b"\x80\x02 pickle" * 20, "does not begin"),
        (b"3 4\n" + b"x" * 2000, "word 0 of 3"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=said):
            read_word_vectors(path)
    with pytest.raises(WeightsError, match="twice"):
        read_word_vectors(word2vec(path, ["tea", "tea"], VECTORS[:2]))
    broken = VECTORS.copy()
    broken[1, 2] = np.nan
    with pytest.raises(WeightsError, match="the vector of 'Wasser' holds NaN"):
        read_word_vectors(word2vec(path, vectors=broken))
    np.savez(tmp_path / "objects.npz", words=np.array(WORDS, dtype=object), vectors=VECTORS)
    with pytest.raises(WeightsError, match="allow_pickle"):
        read_word_vectors(tmp_path / "objects.npz")
    np.savez(tmp_path / "few.npz", words=np.array(WORDS[:2]), vectors=VECTORS)
    with pytest.raises(WeightsError, match="do not match"):
        read_word_vectors(tmp_path / "few.npz")
    np.savez_compressed(tmp_path / "bomb.npz", words=np.array(WORDS), vectors=np.zeros((2**22, 5), np.float32))
    with pytest.raises(WeightsError, match="bytes would unpack to 83886"):
        read_word_vectors(tmp_path / "bomb.npz")
    for content in (np.lib.format.magic(1, 0), b""):
        (tmp_path / "other.npz").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read"):
            read_word_vectors(tmp_path / "other.npz")
    with open(tmp_path / "other.npz", "wb") as file:
        np.save(file, VECTORS)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_word_vectors(tmp_path / "other.npz")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_word_vectors(tmp_path / "nothing.bin")
