"""Features of one video: those of each clip by itself, whatever is done ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import zoo
from tests.data.render import render
from zoo.data.ahead import ahead
from zoo.data.sampling import three_crops
from zoo.data.transforms import crop_view
from zoo.data.video import read_frames
from zoo.methods.extracting import extract


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """3.2 seconds of colours that change."""
    dice = np.random.default_rng(0)
    blocks = dice.integers(0, 256, (80, 6, 8, 3), dtype=np.uint8)

    def picture(number, height, width):
        return np.kron(blocks[number], np.ones((height // 6, width // 8, 1), np.uint8))

    return render(tmp_path_factory.mktemp("film") / "film.mp4", frames=80, height=60, width=80, picture=picture)


def test_a_row_is_the_vector_of_its_clip(film):
    model = zoo.load("nonlocal_i3d_tiny").train()
    found = extract(model, film, 2.0, batch_size=3)
    assert model.training
    model.eval()
    rows = []
    for middle in (6, 18, 31, 43, 56, 68, 81):  # frames 25 a second, rows 2
        numbers = np.clip(middle + 2 * np.arange(-9, 9), 0, 79)
        frames = read_frames(film, numbers, short_side=44)
        clip = crop_view(frames, three_crops(*frames.shape[1:3], 40, 1)[0], 40)
        with torch.no_grad():
            rows.append(model.trunk(model.normalize(clip[None])).mean((2, 3, 4))[0])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(rows), atol=1e-6, rtol=1e-5)
    assert (found[1:] - found[:-1]).abs().amax(1).min() > 1e-3
    assert torch.equal(found, extract(model, film, 2.0, batch_size=3))


def test_what_is_seen_twice_is_computed_once(film, monkeypatch):
    model, sizes = zoo.load("temporal_fields_tiny"), []
    features = model.features
    monkeypatch.setattr(model, "features", lambda clips: sizes.append(len(clips)) or features(clips))
    found = extract(model, film, 100.0, batch_size=50)  # a frame at a time, 24 of them a second
    assert len(found) == 320
    assert sum(sizes) == len(found.unique_consecutive(dim=0)) == 77


def test_numbers_that_are_none_are_refused(film):
    model = zoo.load("i3d_tiny")
    model.trunk.res5.blocks[0].norm3.bias.data[3] = torch.nan
    with pytest.raises(zoo.ZooError, match=r"i3d_tiny: row 0 of .*film\.mp4 is NaN"):
        extract(model, film)


def test_a_video_that_breaks_off_is_refused_and_nothing_stays_open(film, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:2000])
    threads = threading.active_count()
    with pytest.raises(zoo.VideoError, match=r"broken\.mp4"):
        extract(zoo.load("i3d_tiny"), broken)
    assert threading.active_count() == threads


def test_ahead_keeps_the_order_stops_when_asked_and_hands_on_errors():
    made, closed = [], []

    def items():
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.append(threading.current_thread())

    assert list(ahead(items())) == list(range(100))
    made.clear()
    some = ahead(items(), depth=2)
    assert [next(some), next(some)] == [0, 1]
    some.close()
    assert len(made) <= 5
    assert threading.main_thread() not in closed
    assert len(closed) == 2

    def failing():
        yield 1
        raise zoo.VideoError("broken")

    some = ahead(failing())
    assert next(some) == 1
    with pytest.raises(zoo.VideoError, match="broken"):
        next(some)
