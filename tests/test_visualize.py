"""Pictures are there whole or not at all, whatever fails on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import av
import pytest
from PIL import Image

import zoo
from zoo.errors import ZooError
from zoo.visualize import attention as visualize


@pytest.fixture
def video(kinetics_root):
    return next((kinetics_root / "val").glob("*/*.mp4"))


def test_nothing_is_left_where_the_film_fails(video, tmp_path, monkeypatch):
    """The encoder refuses pictures of no size, by an error of FFmpeg's that is no OSError."""
    monkeypatch.setattr(visualize, "_SIDE", 1)
    with pytest.raises(ZooError, match=r"film .* cannot be encoded"):
        visualize.draw_attention(zoo.create("nonlocal_i3d_tiny").eval(), video, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(video, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ZooError, match=r"cannot write .*attention\.mp4 into .*out: it is not a usable folder"):
        visualize.draw_attention(zoo.create("nonlocal_i3d_tiny").eval(), video, tmp_path / "out")


def test_two_runs_at_once_do_not_mix(video, tmp_path):
    model = zoo.create("nonlocal_i3d_tiny").eval()
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(visualize.draw_attention, model, video, tmp_path) for _ in range(2)]
        (strip, film), _ = [run.result() for run in runs]
    assert sorted(tmp_path.iterdir()) == sorted([strip, film])
    Image.open(strip).verify()
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == model.spec.frames
