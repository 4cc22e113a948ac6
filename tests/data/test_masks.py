"""Masks in PNGs: what is kept, and everything that is refused because its values could mean anything."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.trees import grey
from zoo.data.masks import PALETTE, read_instances, read_mask, write_mask
from zoo.errors import DataError

ALL = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png(path, width, height, depth, colour, rows, palette=b""):
    """A PNG written by hand, so that its header says what a test wants it to."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"") + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    return path


def test_every_number_survives_and_wears_the_colours_of_davis(tmp_path):
    path = tmp_path / "new" / "folder" / "00000.png"
    write_mask(path, ALL)
    assert np.array_equal(read_mask(path), ALL)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image.convert("RGB")), PALETTE[ALL])
    assert [p.name for p in path.parent.iterdir()] == ["00000.png"]


def test_the_palette_is_bit_interleaved():
    assert PALETTE[:8].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128],
    ]  # fmt: skip
    assert PALETTE[[8, 22, 255]].tolist() == [[64, 0, 0], [0, 192, 128], [224, 224, 192]]
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == 256


def test_tensors_and_truth_values_can_be_written(tmp_path):
    write_mask(tmp_path / "a.png", torch.from_numpy(ALL.astype(np.int64)))
    assert np.array_equal(read_mask(tmp_path / "a.png"), ALL)
    write_mask(tmp_path / "b.png", ALL > 100)
    assert np.array_equal(read_mask(tmp_path / "b.png"), ALL > 100)


@pytest.mark.parametrize(
    "mask", [ALL.astype(np.float32), ALL.astype(np.int64) + 1, ALL.astype(int) - 1, ALL[0], ALL[:0]]
)
def test_what_is_no_mask_is_not_written(tmp_path, mask):
    with pytest.raises(DataError, match="mask"):
        write_mask(tmp_path / "m.png", mask)
    assert not list(tmp_path.iterdir())


def test_palettes_of_few_bits_hold_the_same_numbers(tmp_path):
    path = png(tmp_path / "m.png", 4, 1, 2, 3, b"\0" + bytes([0b00011011]), palette=bytes(12))
    assert read_mask(path).tolist() == [[0, 1, 2, 3]]


def test_grey_means_something_only_where_that_is_known(tmp_path):
    path = grey(tmp_path / "m.png", np.array([[0, 3], [19, 255]], dtype=np.uint8))
    with pytest.raises(DataError, match=r"m\.png has no palette"):
        read_mask(path)
    assert read_mask(path, grey="ids").tolist() == [[0, 3], [19, 255]]
    with pytest.raises(DataError, match="0 and 255 alone"):
        read_mask(path, grey="binary")


def test_one_object_however_it_is_stored(tmp_path):
    expected = [[0, 1], [1, 0]]
    assert read_mask(grey(tmp_path / "a.png", np.uint8([[0, 255], [255, 0]])), grey="binary").tolist() == expected
    assert read_mask(grey(tmp_path / "b.png", np.uint8([[0, 1], [1, 0]])), grey="binary").tolist() == expected
    write_mask(tmp_path / "c.png", np.uint8([[0, 1], [7, 0]]))
    assert read_mask(tmp_path / "c.png", grey="binary").tolist() == expected
    bits = png(tmp_path / "d.png", 2, 2, 1, 0, b"\0\x40\0\x80")
    assert read_mask(bits, grey="binary").tolist() == expected


def test_four_grey_bits_are_no_numbers(tmp_path):
    """Readers stretch them to 0..255, so 1 would be object 17."""
    path = png(tmp_path / "m.png", 2, 1, 4, 0, b"\0\x12")
    with pytest.raises(DataError, match="no palette"):
        read_mask(path, grey="ids")
    with pytest.raises(DataError, match="8 or 16 bits"):
        read_instances(path)


def test_colours_and_sixteen_bits_are_refused_with_a_remedy(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"rgb\.png is an RGB picture.*write_mask"):
        read_mask(tmp_path / "rgb.png", grey="ids")
    deep = grey(tmp_path / "deep.png", np.array([[0, 300]], dtype=np.uint16))
    with pytest.raises(DataError, match=r"deep\.png is a mask of 16 bits: at most 254 objects.*write_mask"):
        read_mask(deep, grey="ids")


def test_instances_may_be_more_than_a_byte_holds(tmp_path):
    values = read_instances(grey(tmp_path / "i.png", np.array([[0, 300]], dtype=np.uint16)))
    assert values.dtype == np.int64
    assert values.tolist() == [[0, 300]]
    write_mask(tmp_path / "j.png", ALL)
    assert np.array_equal(read_instances(tmp_path / "j.png"), ALL)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"rgb\.png"):
        read_instances(tmp_path / "rgb.png")


def test_a_broken_mask_is_named(tmp_path):
    whole = tmp_path / "m.png"
    write_mask(whole, np.random.default_rng(0).integers(0, 9, (64, 64)))
    for name, data in {
        "cut.png": whole.read_bytes()[:-300],
        "empty.png": b"",
        "text.png": b"not a picture",
        "flipped.png": whole.read_bytes()[:900] + b"\xff" + whole.read_bytes()[901:],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_mask(tmp_path / name)
    with pytest.raises(DataError, match=r"no file .*nothing\.png"):
        read_mask(tmp_path / "nothing.png")
    with pytest.raises(DataError, match="no file"):
        read_mask(tmp_path)
    Image.fromarray(ALL).save(tmp_path / "jpeg.png", format="JPEG")
    with pytest.raises(DataError, match=r"jpeg\.png cannot be read as PNG"):
        read_mask(tmp_path / "jpeg.png")


@pytest.mark.parametrize("side", [6000, 60000])
def test_absurd_sizes_are_refused_before_they_are_decoded(tmp_path, side):
    path = png(tmp_path / "bomb.png", side, side, 8, 3, b"\0", palette=bytes(6))
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_mask(path)
