"""Foreign weight files: read by content, never run, refused by name."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import time
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.hub.caffe2_file import caffe2_pickle, write_caffe2
from tests.hub.damage import check_damage
from tests.hub.python2_file import write_python2
from zoo.errors import WeightsError
from zoo.hub.upstream import read_foreign, recognise

BLOBS = {
    "conv1_w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "res_conv1_bn_riv": np.linspace(0.5, 1.5, 4, dtype=np.float32),
    "pred_b": np.array([0.25, -1.5], dtype=np.float64),
    "lr": np.array(0.0001, dtype=np.float32),
    "counts": np.arange(3, dtype=np.int64),
    "model_iter": 400_000,
}


class Code:
    """Makes a file when it is unpickled by something that runs pickles."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_python_2_pickle_of_caffe2_is_read(tmp_path):
    write_caffe2(tmp_path / "x.pkl", BLOBS)
    assert pickle.loads((tmp_path / "x.pkl").read_bytes(), encoding="latin1")["blobs"]["model_iter"] == 400_000
    kind, state = read_foreign(tmp_path / "x.pkl")
    assert kind == "caffe2"
    assert set(state) == set(BLOBS) - {"model_iter"}
    for name, value in state.items():
        assert value.dtype == torch.from_numpy(np.asarray(BLOBS[name])).dtype
        np.testing.assert_array_equal(value.numpy(), BLOBS[name])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_what_python_3_writes_is_read_too(tmp_path, protocol):
    big_endian, columns = np.arange(5, dtype=">i4"), np.asfortranarray(np.arange(6.0).reshape(2, 3))
    blobs = {**BLOBS, "big": big_endian, "columns": columns, "none": np.zeros((0, 3), np.float32)}
    (tmp_path / "x").write_bytes(pickle.dumps({"blobs": blobs}, protocol))
    _, state = read_foreign(tmp_path / "x")
    for name, value in state.items():
        np.testing.assert_array_equal(value.numpy(), blobs[name])
    assert state["none"].shape == (0, 3)


@pytest.mark.parametrize("write", ["caffe2", "torch", "old torch"])
def test_code_is_refused_by_name_and_not_run(tmp_path, write):
    path, made = tmp_path / "weights", tmp_path / "made by the file"
    if write == "caffe2":
        path.write_bytes(pickle.dumps({"blobs": {"a": np.ones(2), "b": Code(made)}}, 2))
    else:
        content = {"state_dict": {"a": torch.ones(2), "b": Code(made)}}
        torch.save(content, path, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(WeightsError, match=r"weights is refused: it wants \w+\.mkdir to be called"):
        read_foreign(path)
    assert not made.exists()


@pytest.fixture
def history_buffer(monkeypatch):
    """MMEngine's record of a training, as files hold it; gone again, as from a machine without MMEngine."""

    class HistoryBuffer:
        def __init__(self):
            self.log, self.count, self.last = np.arange(3.0), np.ones(3, np.int64), np.float32(0.5)

        def mean(self):
            return self.log.mean()

        def __getstate__(self):
            return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}

        def __setstate__(self, state):
            raise AssertionError("the file's own class was built")

    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    for name, value in (("HistoryBuffer", HistoryBuffer), ("HistoryBuffer.mean", HistoryBuffer.mean)):
        value.__module__, value.__qualname__ = module.__name__, name
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer


@pytest.mark.parametrize("old", [False, True])
def test_records_of_a_training_beside_the_weights_are_passed_over(tmp_path, monkeypatch, history_buffer, old):
    """What OpenMMLab's files hold: the class, its functions by getattr, arrays, and numbers of numpy's."""
    content = {
        "meta": {"epoch": 3},
        "state_dict": {"backbone.conv1.conv.weight": torch.arange(4.0)},
        "message_hub": {"log_scalars": OrderedDict({"train/loss": history_buffer()}), "lr": np.float64(0.01)},
    }
    torch.save(content, tmp_path / "mm.pth", _use_new_zipfile_serialization=not old)
    for name in ("mmengine.logging.history_buffer", "mmengine.logging", "mmengine"):
        monkeypatch.delitem(sys.modules, name)
    kind, state = read_foreign(tmp_path / "mm.pth")
    assert kind == "torch"
    assert list(state) == ["backbone.conv1.conv.weight"]
    assert torch.equal(state["backbone.conv1.conv.weight"], torch.arange(4.0))


def test_what_stands_in_does_nothing_and_gives_nothing_to_call(tmp_path, history_buffer):
    class Thief:
        """Asks getattr for a function of a module that is there, and calls what it gets."""

        def __reduce__(self):
            return Called(), ("ls",)

    class Called:
        def __reduce__(self):
            return getattr, (history_buffer, "mean")

        def __call__(self, *args):
            raise AssertionError

    torch.save({"state_dict": {"a": torch.ones(2)}, "x": Thief()}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth is refused: it wants .* to be called .*save `model.state_dict"):
        read_foreign(tmp_path / "x.pth")


def test_arrays_among_the_weights_are_not_left_out_in_silence(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2), "b": np.ones(2)}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds b not as tensors"):
        read_foreign(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cnumpy\nload\nU\x01x\x85R.", "numpy.load"),
        (b"\x80\x02}U\x01acnumpy\ndtype\nU\x02O8\x85Rs.", "of type 'O8'"),
        (b"(ibuiltins\nexec\n.", "instruction b'i'"),
        (b"\x80\x02P1\n.", "instruction b'P'"),
        (b"\x80\x02}K\x01K\x02s.", "a int where a name belongs"),
        (b"\x80\x02}}b.", "sets the state of a dict"),
        (b"\x80\x02U\x03abcK\x01\x85R.", "to be called"),
    ],
    ids=["global", "objects", "instance", "persistent", "key", "build", "call a text"],
)
def test_anything_but_named_arrays_is_refused(tmp_path, program, message):
    (tmp_path / "x").write_bytes(program)
    with pytest.raises(WeightsError, match="refused") as error:
        read_foreign(tmp_path / "x")
    assert message in str(error.value)


def nested_key() -> bytes:
    """A dictionary key whose hash takes 2 to the 200 steps."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * 200 + b"K\x01s."


def copies_of_one_buffer() -> bytes:
    """Ten thousand arrays of a megabyte, out of one that lies in the file once."""
    dtype = b"cnumpy\ndtype\nU\x02u1\x85R"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J" + struct.pack("<i", 1 << 20) + b"\x85h\x02\x89h\x01tb"
    start = b"\x80\x02T" + struct.pack("<i", 1 << 20) + bytes(1 << 20) + b"q\x010" + dtype + b"q\x020}("
    return start + b"".join(b"U\x04%04d" % n + array for n in range(10_000)) + b"u."


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "holds no tensors"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", "ends early"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "ends early"),
        (b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "not one of named arrays"),
        (nested_key(), "a tuple where a name belongs"),
        (copies_of_one_buffer(), "more bytes than the file holds"),
    ],
    ids=["memo", "frame", "string", "depth", "hash", "copies"],
)
def test_a_small_file_cannot_take_all_time_or_memory(tmp_path, program, why):
    (tmp_path / "bomb").write_bytes(program)
    start = time.monotonic()
    with pytest.raises(WeightsError, match=why):
        read_foreign(tmp_path / "bomb")
    assert time.monotonic() - start < 5


def test_every_damage_to_a_file_is_a_weights_error_or_harmless(tmp_path):
    check_damage(caffe2_pickle(BLOBS), tmp_path / "x")


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state", "model", None])
@pytest.mark.parametrize("old", [False, True])
def test_pytorch_files_are_unwrapped_whatever_their_name(tmp_path, wrapper, old):
    state = {"module.a.weight": torch.arange(3.0), "module.b": torch.ones(2, 2)}
    content = {wrapper: state, "epoch": 3, "optimizer": {"x": torch.ones(1)}} if wrapper else state
    torch.save(content, tmp_path / "weights.pkl", _use_new_zipfile_serialization=not old)
    kind, read = read_foreign(tmp_path / "weights.pkl")
    assert kind == "torch"
    assert list(read) == ["a.weight", "b"]
    assert torch.equal(read["a.weight"], torch.arange(3.0))


@pytest.mark.parametrize("zipped", [False, True])
def test_what_torch_wrote_under_python_2_is_read(tmp_path, zipped, recwarn):
    """Names and numpy's numbers are byte strings, the latter of bytes that are no UTF-8; `OrderedDict` has a state."""
    state = OrderedDict({"module.conv1.weight": torch.arange(6.0).view(2, 3), "module.fc.mA.bias": torch.ones(2)})
    state._metadata = OrderedDict({"": {"version": 1}})
    content = {
        "epoch": 6,
        "arch": "resnet152",
        "state_dict": state,
        "mAP": np.float64(0.261),
        "optimizer": {
            "state": {140_000_000_000_000: {"momentum_buffer": torch.ones(2)}},
            "param_groups": [{"lr": 2e-3}],
        },
    }
    write_python2(tmp_path / "model.pth.tar", content, zipped=zipped)
    assert not zipped or b"U\x11module.fc.mA.bias" in (tmp_path / "model.pth.tar").read_bytes()
    kind, read = read_foreign(tmp_path / "model.pth.tar")
    assert kind == "torch"
    assert list(read) == ["conv1.weight", "fc.mA.bias"]
    assert all(torch.equal(value, state[f"module.{name}"]) for name, value in read.items())
    assert not recwarn.list


def test_lightning_and_safetensors_are_told_apart(tmp_path):
    state = {"trunk.w": torch.arange(3.0)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.6", "epoch": 1}, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "b.ckpt")
    for name, kind in (("a.pth", "lightning"), ("b.ckpt", "safetensors")):
        assert read_foreign(tmp_path / name)[0] == kind
        assert torch.equal(read_foreign(tmp_path / name)[1]["trunk.w"], state["trunk.w"])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08\x00", "gzip archive; unpack it"),
        (b"PK\x03\x04cut off", "cut off"),
        (b"RIFF....AVI ", "no weight file that the zoo knows"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, what):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=what) as error:
        recognise(tmp_path / "weights.pth")
    assert "weights.pth" in str(error.value)


def test_a_missing_file_and_one_without_tensors(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        read_foreign(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3, "accuracy": 0.5}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name, only epoch, accuracy"):
        read_foreign(tmp_path / "x.pth")


def test_a_truncated_pytorch_file_is_a_weights_error(tmp_path):
    torch.save({"state_dict": {"a": torch.arange(1000.0)}}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    for end in range(1, len(whole), 257):
        (tmp_path / "x.pth").write_bytes(whole[:end])
        with pytest.raises(WeightsError, match=r"x\.pth"):
            read_foreign(tmp_path / "x.pth")
