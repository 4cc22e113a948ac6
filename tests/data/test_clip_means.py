"""Means of clips: the same whatever is read beside them, however they lie on the disk and wherever the batch lies."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from zoo.data import batch_memory, clip_means
from zoo.data.batch_memory import BatchMemory, sent
from zoo.data.clip_means import ClipMeans, one_thread, open_each
from zoo.data.feature_files import FeatureFile

DIM, KINDS = 33, ["<f2", "<f4", "<f8", ">f4", "<f2"]


@pytest.fixture
def files(tmp_path):
    for number in range(40):
        rows = np.random.default_rng(number).standard_normal((120, DIM)).astype(KINDS[number % 5])
        np.save(tmp_path / f"{number}.npy", np.asfortranarray(rows) if number % 7 == 3 else rows)
    return tmp_path


def drawn():
    """Clips of 1 to 9 rows; side by side, apart, far apart or overlapping."""
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 10, 40)
    steps = np.where(np.arange(40) % 4 == 0, 1, lengths + np.array([0, 0, 3, 12])[np.arange(40) % 4])
    return steps[:, None] * np.arange(5) + draw.integers(0, 10, 40)[:, None], lengths, draw.random(40) < 0.5


def read(folder, numbers, places=None, out=None, means=None):
    starts, lengths, forward = (column[numbers] for column in drawn())
    out = torch.full((len(numbers), 5, DIM), torch.nan) if out is None else out
    places = np.arange(len(numbers)) if places is None else places
    with open_each(lambda number: FeatureFile(folder / f"{number}.npy"), numbers) as videos:
        return out, (means or ClipMeans()).read(videos, starts, lengths, forward, places, out)


def expected(folder, number):
    starts, lengths, forward = (column[number] for column in drawn())
    rows = np.load(folder / f"{number}.npy").astype(np.float64)
    means = np.array([rows[start : start + lengths].mean(0) for start in starts])
    return torch.from_numpy(means if forward else means[::-1].copy())


@pytest.mark.parametrize(("run", "call"), [(1, 0), (5000, 0), (5000, 1 << 10), (1 << 20, 1 << 20)])
def test_means_are_those_of_the_rows(files, monkeypatch, run, call):
    monkeypatch.setattr(clip_means, "_RUN", run)
    monkeypatch.setattr(clip_means, "_CALL", call)
    order = np.random.default_rng(0).permutation(40)
    out, broken = read(files, order)
    assert broken == {}
    for place, number in enumerate(order):
        assert torch.allclose(out[place].double(), expected(files, number), rtol=0, atol=3e-7)


def test_a_mean_does_not_hang_on_what_is_read_beside_it(files):
    whole, _ = read(files, np.arange(40))
    means = ClipMeans()
    for numbers in (np.arange(40)[::-1].copy(), np.array([7]), np.array([3, 22, 21, 20])):
        assert torch.equal(read(files, numbers, means=means)[0], whole[torch.from_numpy(numbers)])
    out, _ = read(files, np.array([5, 6]), np.array([3, 1]), torch.zeros(4, 5, DIM))
    assert torch.equal(out, torch.stack([whole[0] * 0, whole[6], whole[0] * 0, whole[5]]))


@pytest.mark.parametrize("call", [0, 1 << 20])
def test_what_is_broken_is_told_of_and_nothing_else(files, monkeypatch, call):
    monkeypatch.setattr(clip_means, "_CALL", call)
    starts, lengths, _ = drawn()
    rows = np.load(files / "2.npy")
    rows[starts[2, 3] + lengths[2] - 1, 8] = np.nan
    np.save(files / "2.npy", rows)
    rows = np.load(files / "5.npy")
    rows[starts[5, 0] - 1] = np.inf  # nobody looks there
    rows[starts[5, 1] :] = 60_000  # sums are large
    np.save(files / "5.npy", rows)
    opened = [FeatureFile(files / f"{number}.npy") for number in range(40)]
    os.truncate(files / "1.npy", 128 + 4 * DIM * int(starts[1, 4]))
    out = torch.full((40, 5, DIM), torch.nan)
    with open_each(opened.__getitem__, np.arange(40)) as videos:
        broken = ClipMeans().read(videos, *drawn(), np.arange(40), out)
    assert set(broken) == {1, 2}
    assert f"1.npy is truncated: rows {starts[1, 4]} to" in str(broken[1])
    assert f"2.npy: row {starts[2, 3] + lengths[2] - 1} holds NaN" in str(broken[2])
    assert torch.isfinite(out[[0, *range(3, 40)]]).all()


def test_one_thread_for_a_while():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Numbered(Dataset):
    """Batches full of their number."""

    def __init__(self):
        self.memory = BatchMemory()

    def __len__(self):
        return 30

    def __getitem__(self, number):
        features = self.memory.empty(300, 5, 200)
        return {"features": features.fill_(number), "where": features.data_ptr()}


def pass_on(batch):
    return {**batch[0], "features": sent(batch[0]["features"])}


def test_memory_is_used_again_when_nobody_holds_it():
    memory = BatchMemory()
    one, two = memory.empty(300, 5, 200), memory.empty(300, 5, 200)
    places = {one.data_ptr(), two.data_ptr()}
    assert len(places) == 2
    view = one[7:9].fill_(3)
    del one
    assert memory.empty(300, 5, 200).data_ptr() not in places  # a view holds it too
    assert (view == 3).all()
    del view, two
    again = [memory.empty(100, 5, 500), memory.empty(300, 5, 200)]
    assert {tensor.data_ptr() for tensor in again} <= places | {again[0].data_ptr()}
    again = again[1].requires_grad_()
    loss = (again * again).sum()
    place = again.data_ptr()
    del again
    taken = [memory.empty(300, 5, 200) for _ in range(12)]  # more than are kept
    assert place not in {tensor.data_ptr() for tensor in taken}  # the graph holds it
    loss.backward()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_stay_what_they_were_while_somebody_holds_them(workers):
    held, places = [], set()
    for number, batch in enumerate(DataLoader(Numbered(), 1, num_workers=workers, collate_fn=pass_on)):
        assert (batch["features"] == number).all()
        places.add((number % max(workers, 1), batch["where"]))
        if number % 7 == 0:
            held.append((number, batch["features"][2:4]))
    assert all((view == number).all() for number, view in held)
    # 30 batches in a few pieces of memory: those that are held, and those under way.
    assert len(places) <= len(held) + 1 + 5 * workers
    many = list(DataLoader(Numbered(), 1, num_workers=workers, collate_fn=pass_on))
    assert [int(batch["features"].max()) for batch in many] == list(range(30))
    assert [int(batch["features"].min()) for batch in many] == list(range(30))
    assert batch_memory._KEPT < 30
