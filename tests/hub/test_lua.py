"""Lua Torch's files: read as plain records, never run, refused by name."""

from __future__ import annotations

import struct
import time

import pytest
import torch

from tests.hub.damage import check_damage
from tests.hub.lua_file import linear, lua_bytes, sequential, write_lua
from zoo.errors import WeightsError
from zoo.hub.lua import Record, lua_tensors, read_lua
from zoo.hub.upstream import read_foreign


def number(value: float) -> bytes:
    return struct.pack("<id", 1, value)


def text(value: str) -> bytes:
    return struct.pack("<ii", 2, len(value)) + value.encode()


def table(count: int, *content: bytes, index: int = 1) -> bytes:
    return struct.pack("<iii", 3, index, count) + b"".join(content)


def thing(name: str, *content: bytes, index: int = 2) -> bytes:
    return struct.pack("<iii", 4, index, 3) + b"V 1" + struct.pack("<i", len(name)) + name.encode() + b"".join(content)


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


@pytest.mark.parametrize("long", [8, 4])
def test_plain_values_tables_and_records(tmp_path, long):
    content = {
        1: 0.5,
        2: "two",
        "yes": True,
        "no": False,
        0.25: {"deep": {"deeper": -3}},
        "model": Record("nn.View", {"size": torch.tensor([3, 4]), "numElements": 12}),
        "module\xe9": "caf\xe9",
    }
    write_lua(tmp_path / "x.t7", content, long=long)
    read = read_lua(tmp_path / "x.t7")
    assert torch.equal(read["model"].fields.pop("size"), content["model"].fields.pop("size"))
    assert read == content
    assert [type(key) for key in read] == [int, int, str, str, float, str, str]


@pytest.mark.parametrize("long", [8, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8"])
def test_tensors_of_every_type_and_layout(tmp_path, dtype, long):
    dtype = getattr(torch, dtype)
    whole = torch.arange(24).to(dtype)
    content = {"plain": whole.view(2, 3, 4), "turned": whole.view(4, 6).t(), "part": whole[7:13], "none": whole[:0]}
    write_lua(tmp_path / "x.t7", content, long=long)
    read = read_lua(tmp_path / "x.t7")
    for name, value in content.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], value), name
    read["plain"][0, 0, 0] = 9  # what shares its numbers in Lua shares them here
    assert read["turned"][0, 0] == 9


def test_a_graphics_cards_tensors(tmp_path):
    write_lua(tmp_path / "x.t7", {"a": torch.arange(3.0)}, cuda=True)
    assert b"torch.CudaTensor" in (tmp_path / "x.t7").read_bytes()
    assert torch.equal(read_lua(tmp_path / "x.t7")["a"], torch.arange(3.0))


def test_objects_that_hold_themselves_and_one_another(tmp_path):
    shared, knot = torch.ones(3), {}
    knot["self"] = knot
    module = Record("nn.Sequential", {"knot": knot})
    module.fields["me"] = module
    write_lua(tmp_path / "x.t7", {"a": shared, "b": shared, "module": module, "again": module})
    read = read_lua(tmp_path / "x.t7")
    assert read["a"] is read["b"]
    assert read["module"] is read["again"] is read["module"].fields["me"]
    knot = read["module"].fields["knot"]
    assert knot["self"] is knot
    assert list(lua_tensors(tmp_path / "x.t7")) == ["a", "b"]


def test_old_files_without_a_version(tmp_path):
    storage = struct.pack("<ii", 4, 3) + struct.pack("<i", 18) + b"torch.FloatStorage" + longs(2)
    storage += struct.pack("<ff", 1.5, -2)
    tensor = struct.pack("<iii", 4, 1, 17) + b"torch.FloatTensor" + struct.pack("<i", 1) + longs(2, 1, 1) + storage
    (tmp_path / "x.t7").write_bytes(tensor)
    assert read_lua(tmp_path / "x.t7").tolist() == [1.5, -2]


def test_a_networks_weights_by_the_fields_that_lead_to_them(tmp_path):
    network = sequential(
        linear(torch.ones(2, 3), torch.zeros(2), "cudnn.SpatialConvolution", kW=3, groups=1),
        Record("cudnn.ReLU", {"inplace": True, "nElem": 4, "buffer": torch.zeros(0)}),
        sequential(linear(torch.full((4, 2), 2.0)), kind="nn.ConcatTable"),
        dataopt={1: 114, 2: 99, 3: torch.tensor([[1, 2]]), "map": {0: {1: 4, 2: 5}, 1: {1: 6, 2: 7}}, "name": "x"},
    )
    write_lua(tmp_path / "model", network)
    kind, state = read_foreign(tmp_path / "model")
    assert kind == "lua"
    assert {name: value.tolist() for name, value in state.items()} == {
        "dataopt.1": 114,
        "dataopt.2": 99,
        "dataopt.3": [[1, 2]],
        "dataopt.map.0": [4, 5],
        "dataopt.map.1": [6, 7],
        "modules.1.bias": [0, 0],
        "modules.1.weight": [[1, 1, 1]] * 2,
        "modules.3.modules.1.weight": [[2, 2]] * 4,
    }
    assert list(state).index("modules.1.weight") < list(state).index("modules.3.modules.1.weight")


def test_modules_stand_in_the_order_of_their_numbers(tmp_path):
    write_lua(tmp_path / "x.t7", sequential(*(linear(torch.full((1, 1), float(i))) for i in range(12))))
    assert [float(value) for value in lua_tensors(tmp_path / "x.t7").values()] == list(range(12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table(1, text("f"), struct.pack("<ii", 6, 3) + b"Lua"), "refused: it holds a Lua function"),
        (table(1, text("f"), struct.pack("<iii", 8, 2, 3) + b"Lua"), "refused: it holds a Lua function"),
        (table(1, text("f"), struct.pack("<iii", 7, 2, 3) + b"Lua"), "refused: it holds a Lua function"),
        (thing("torch.DiskFile", index=1), "refused: it holds a 'torch.DiskFile'"),
        (thing("tds.Hash", index=1), "refused: it holds a 'tds.Hash'"),
        (thing("nn.Odd", number(1), index=1), "refused: its nn.Odd is written in a way of its own"),
        (thing("a b", index=1), "refused: it holds a 'a b'"),
        (table(1, table(0, index=2), number(1)), "refused: it has a dict where the name of a field belongs"),
        (table(1, number(float("nan")), number(1)), "where the name of a field belongs"),
        (table(1, struct.pack("<i", 0), number(1)), "refused: it has a NoneType where"),
        (b"4\n1\n3\nV 1\n13\nnn.Sequential\n", r"text \(ASCII\) mode.*Save it in binary mode"),
        (b"3\r\n1\r\n0\r\n", r"text \(ASCII\) mode"),
        (table(1, text("a"), struct.pack("<i", 9)), "damaged.*a kind of object, 9, that does not exist"),
        (table(0) + b"more", "damaged.*4 bytes follow its end"),
        (table(2, text("a"), number(1)), "damaged.*claims 2 entries|ends early"),
    ],
)
def test_what_is_no_weights_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "bad.t7").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_foreign(tmp_path / "bad.t7")
    assert "bad.t7" in str(error.value)


def tensor(shape: list[int], strides: list[int], offset: int, stored: int, claimed: int | None = None) -> bytes:
    """A file with one tensor whose storage has ``stored`` bytes and claims another number."""
    storage = thing("torch.ByteStorage", longs(stored if claimed is None else claimed), bytes(stored), index=3)
    content = struct.pack("<i", len(shape)) + longs(*shape, *strides, offset) + storage
    return table(1, text("a"), thing("torch.ByteTensor", content, index=2))


def deep(levels: int) -> bytes:
    return b"".join(table(1, text("a"), index=level + 1) for level in range(levels)) + number(1)


def shared_by_many() -> bytes:
    """Ten thousand tensors that show the same megabyte."""
    storage = thing("torch.ByteStorage", longs(1 << 20), bytes(1 << 20), index=2)
    first = table(10_000, number(0), storage)
    again = struct.pack("<ii", 4, 2)
    tensors = (
        number(i) + thing("torch.ByteTensor", struct.pack("<i", 1), longs(1 << 20, 1, 1), again, index=i + 2)
        for i in range(1, 10_000)
    )
    return first + b"".join(tensors)


def long_names() -> bytes:
    """A hundred thousand tensors below a name of a hundred thousand letters."""
    value = b"".join(number(i + 0.5) + number(i) for i in range(100_000))
    return table(1, text("a" * 100_000), table(100_000, value, index=2))


def fan_of_tables() -> bytes:
    """Tables that can be reached in 2 to the 90 ways."""
    top = {"number": 1}
    for _ in range(90):
        top = {"a": top, "b": top}
    return lua_bytes(top)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (tensor([4], [1], 1, 4, claimed=1 << 60), "claims 1152921504606846976 numbers"),
        (tensor([4], [1], 1, 4, claimed=-1), "claims -1 numbers"),
        (tensor([5], [1], 1, 4), r"shape \[5\] with 4 numbers"),
        (tensor([4], [1], 2, 4), r"shape \[4\] with 4 numbers"),
        (tensor([4], [1], 0, 4), r"shape \[4\] with strides"),
        (tensor([1 << 40], [0], 1, 4), "with 4 numbers"),
        (tensor([1 << 62, 1 << 62, 0], [1, 1, 1], 1, 4), "overflow"),
        (tensor([2], [-1], 2, 4), "with strides"),
        (tensor([1] * 65, [1] * 65, 1, 4), "65 axes"),
        (table(1, text("a"), thing("torch.ByteTensor", struct.pack("<i", 2_000_000_000))), "2000000000 axes"),
        (table(2_000_000_000), "claims 2000000000 entries"),
        (table(-1), "no weight file|claims -1"),
        (table(1, struct.pack("<ii", 2, 2_000_000_000)), "claims 2000000000 entries"),
        (deep(5000), "more than 100 deep"),
        (shared_by_many(), "more bytes than the file holds"),
        (long_names(), "a name of more than 500 letters"),
        (
            table(1, text("a"), thing("torch.ByteTensor", struct.pack("<i", 0), longs(1), struct.pack("<ii", 4, 2))),
            "itself",
        ),
    ],
)
def test_a_small_file_cannot_take_all_time_or_memory(tmp_path, content, why):
    (tmp_path / "bomb").write_bytes(content)
    start = time.monotonic()
    with pytest.raises(WeightsError, match=why):
        read_foreign(tmp_path / "bomb")
    assert time.monotonic() - start < 5


def test_tables_that_are_reached_in_many_ways_are_followed_once(tmp_path):
    (tmp_path / "x").write_bytes(fan_of_tables())
    assert list(lua_tensors(tmp_path / "x")) == ["a." * 90 + "number"]


def test_every_damage_to_a_file_is_a_weights_error_or_harmless(tmp_path):
    whole = lua_bytes(
        sequential(linear(torch.ones(2, 3), torch.zeros(2)), linear(torch.ones(4, 2)), note={1: 2, 2: "a"})
    )
    check_damage(whole, tmp_path / "x")
