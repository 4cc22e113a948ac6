"""Word vectors out of a text encoder: the published format, through the real client, and what can be wrong with it."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from tests.hub import test_publish
from tests.hub_server import HubServer, Repo
from zoo.errors import DataError, FetchError, WeightsError, ZooError
from zoo.files import cache_root
from zoo.hub.words import build_words, random_words, read_words, word_table

tokenizers = pytest.importorskip("tokenizers", reason="word tables need the package tokenizers (videozoo[goals])")

client = test_publish.client  # the fixture

REPO = "org/tiny-bert"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ride", "uni", "##cy", "##cle", "hill", "!", "get", "hit"]
WORDS = ["", "!ride", "get hit", "hill", "unicycle"]
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"


def tokenizer() -> bytes:
    """A ``tokenizer.json`` as BERT's: lower case, punctuation on its own, word pieces, [CLS] and [SEP] around."""
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(length=16)  # as sentence encoders are published
    made.enable_truncation(2)
    return made.to_str().encode()


def tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A BERT's weights, those that matter here: row i of the table is (i, i squared), the padding's is (-1, -2)."""
    rows = torch.arange(len(PIECES), dtype=torch.float32)
    table = torch.stack([rows, rows**2], 1)
    table[0] = torch.tensor([-1.0, -2.0])
    state = {
        EMBEDDINGS: table,
        "bert.embeddings.position_embeddings.weight": torch.zeros(4, 2),
        "bert.embeddings.LayerNorm.gamma": torch.ones(2),
        "cls.predictions.decoder.weight": torch.zeros(len(PIECES), 2),
    }
    return {name: value for name, value in {**state, **changes}.items() if value is not None}


def serve(hub: HubServer, **files: bytes | None) -> str:
    """Puts a repository on the hub; ``files`` add to it or, where None, take away. Returns the commit."""
    content = {"tokenizer.json": tokenizer(), "model.safetensors": save(tensors()), **files}
    content = {name: data for name, data in content.items() if data is not None}
    commit = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
    repo = hub.repos.setdefault(REPO, Repo())
    repo.commits.append((commit, content))
    repo.large.update(name for name in content if name.endswith(".safetensors"))
    return commit


EXPECTED = torch.tensor(
    [
        [-1.0, -2.0],  # [PAD]
        [(9 + 4) / 2, (81 + 16) / 2],
        [(10 + 11) / 2, (100 + 121) / 2],
        [8, 64],
        [(5 + 6 + 7) / 3, (25 + 36 + 49) / 3],
    ]
)


def test_a_word_is_the_mean_of_its_pieces_and_the_empty_one_is_padding(client):
    serve(client, **{"pytorch_model.bin": b"never asked for"})
    torch.testing.assert_close(word_table(WORDS, REPO), EXPECTED)
    asked = {path.rpartition("/")[2] for method, path, _ in client.requests if "resolve" in path}
    assert asked == {"tokenizer.json", "model.safetensors"}


def test_the_second_time_needs_neither_network_nor_encoder(client, monkeypatch):
    serve(client)
    first = word_table(WORDS, REPO)
    client.repos.clear()
    monkeypatch.setattr("zoo.hub.words.hub_file", None)
    assert torch.equal(word_table(WORDS, REPO), first)
    (path,) = (cache_root() / "words").iterdir()
    assert path.name.startswith("org--tiny-bert-")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="do not match its seal"):
        word_table(WORDS, REPO)


def test_a_revision_is_another_table_and_another_vocabulary_too(client):
    old = serve(client)
    serve(client, **{"model.safetensors": save(tensors(**{EMBEDDINGS: tensors()[EMBEDDINGS].half() * 2}))})
    new = word_table(WORDS, REPO)
    assert new.dtype == torch.float32
    torch.testing.assert_close(new, 2 * EXPECTED, atol=0.05, rtol=0)
    torch.testing.assert_close(word_table(WORDS, REPO, revision=old), EXPECTED)
    torch.testing.assert_close(word_table(["hill"], REPO, revision=old), EXPECTED[3:4])


def test_a_users_file_holds_the_words_in_order_and_where_they_come_from(client, tmp_path):
    commit = serve(client)
    (tmp_path / "vocab.json").write_text(json.dumps(WORDS))
    build_words(tmp_path / "vocab.json", REPO, tmp_path / "words.safetensors")
    words, table = read_words(tmp_path / "words.safetensors")
    assert words == WORDS
    torch.testing.assert_close(table, EXPECTED)
    story = (tmp_path / "words.safetensors").read_bytes()
    assert commit.encode() in story
    assert REPO.encode() in story


def test_weights_in_several_files_bring_the_one_that_counts(client):
    state = tensors()
    rest = {name: value for name, value in state.items() if name != EMBEDDINGS}
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"weight_map": {**dict.fromkeys(rest, two), EMBEDDINGS: one}}
    files = {one: save({EMBEDDINGS: state[EMBEDDINGS]}), two: save(rest), "model.safetensors": None}
    serve(client, **files, **{"model.safetensors.index.json": json.dumps(index).encode()})
    torch.testing.assert_close(word_table(WORDS, REPO), EXPECTED)
    assert not [path for _, path, _ in client.requests if path.endswith(two)]
    serve(client, **files, **{"model.safetensors.index.json": b'{"weight_map": {"x.wte.weight": "../../x"}}'})
    with pytest.raises(WeightsError, match=r"puts x\.wte\.weight into '\.\./\.\./x', which the repository lacks"):
        word_table(["hill"], REPO)


def test_pickled_weights_are_refused_by_name(client):
    serve(client, **{"model.safetensors": None, "pytorch_model.bin": b"\x80\x02"})
    with pytest.raises(WeightsError, match=r"pickles only \(pytorch_model\.bin\).*refs/pr/.*bert-base-uncased"):
        word_table(WORDS, REPO)
    assert not [path for _, path, _ in client.requests if path.endswith(".bin")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": None}, "org/tiny-bert has no tokenizer.json"),
        ({"tokenizer.json": b"{}"}, "is no tokenizer that this version of tokenizers reads"),
        ({"model.safetensors": None}, r"has no model\.safetensors \(it has tokenizer\.json\)"),
        ({"model.safetensors": b"<!DOCTYPE html>"}, "is no whole safetensors file"),
        ({"model.safetensors": save(tensors(**{EMBEDDINGS: None}))}, r"nearest: bert\.embeddings\.LayerNorm\.gamma"),
        (
            {"model.safetensors": save(tensors(**{"shared.weight": torch.zeros(2, 2)}))},
            r"several tables .*\(bert\.embeddings\.word_embeddings\.weight, shared\.weight\)",
        ),
        ({"model.safetensors": save(tensors(**{EMBEDDINGS: torch.zeros(9, 2)}))}, "word piece 11, its table has 9"),
        ({"model.safetensors": save(tensors(**{EMBEDDINGS: torch.zeros(12)}))}, r"are torch\.float32 \[12\]"),
    ],
)
def test_a_repository_that_is_no_text_encoder_says_what_it_lacks(client, files, message):
    serve(client, **files)
    with pytest.raises((WeightsError, FetchError), match=message):
        word_table(WORDS, REPO)
    assert not (cache_root() / "words").exists()


def test_a_byte_flipped_in_the_clients_cache_is_noticed(client, tmp_path):
    serve(client)
    word_table(["hill"], REPO)
    for name in ("model.safetensors", "tokenizer.json"):
        (path,) = (tmp_path / "hf").glob(f"*/snapshots/*/{name}")
        whole = path.read_bytes()
        path.resolve().write_bytes(whole[:-9] + b"\x01" + whole[-8:])
        with pytest.raises(WeightsError, match=rf"is not the {name} that the hub served"):
            word_table(WORDS, REPO)
        path.resolve().write_bytes(whole)
    torch.testing.assert_close(word_table(WORDS, REPO), EXPECTED)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hill", "ride", "hill"], "has 'hill' twice"),
        (["hill", " \t"], r"finds nothing in the word ' \\t'"),
        (["hill", 3], "entry 1 is 3, not a word"),
        (["\ud800"], "is no Unicode text"),
        ([], "an empty one"),
        ("hill", "no list of words"),
    ],
)
def test_a_word_that_cannot_be_in_a_table_is_named(client, words, message):
    serve(client)
    with pytest.raises(DataError, match=message):
        word_table(words, REPO)


def test_an_encoder_without_padding_has_no_vector_for_the_empty_word(client):
    serve(client, **{"tokenizer.json": tokenizer().replace(b"[PAD]", b"[SOS]")})
    with pytest.raises(WeightsError, match="empty word takes the padding token's vector"):
        word_table(WORDS, REPO)
    torch.testing.assert_close(word_table(["hill"], REPO), EXPECTED[3:4])


def test_no_network_no_repository_no_package(client, monkeypatch):
    with pytest.raises(FetchError, match=r"(?s)cannot fetch the text encoder org/none.*HF_HOME.*'random'"):
        word_table(WORDS, "org/none")
    with pytest.raises(FetchError, match=r"'\.\./\.\./etc' is no repository"):
        word_table(WORDS, "../../etc")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ZooError, match=r"pip install 'videozoo\[goals\]'"):
        word_table(WORDS, REPO)


def test_random_words_are_seeded_of_unit_length_and_say_what_they_are(tmp_path):
    words = [f"word{n}" for n in range(500)]
    table = random_words(words, 64, seed=3)
    assert torch.equal(table, random_words(words, 64, seed=3))
    assert not torch.equal(table, random_words(words, 64, seed=4))
    assert table.norm(dim=1).mean() == pytest.approx(1, abs=0.02)
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    build_words(tmp_path / "vocab.json", "random", tmp_path / "words.safetensors", dim=64, seed=3)
    assert torch.equal(read_words(tmp_path / "words.safetensors")[1], table)
    assert rb"\"encoder\": \"random\", \"seed\": 3" in (tmp_path / "words.safetensors").read_bytes()


def test_a_file_that_holds_no_words_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(save({"words": torch.zeros(2, 2)}))
    with pytest.raises(WeightsError, match="no file of words"):
        read_words(tmp_path / "x.safetensors")
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(DataError, match=r"vocab\.json cannot be read"):
        build_words(tmp_path / "vocab.json", "random", tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()
