"""The pixels of a clip: equal to the published pipelines, draw by draw, and to PyTorch's own interpolation."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests import goldens
from zoo.data.pixels import Window, centre_window, draw_window
from zoo.spec import VideoSpec


class Recorded:
    """A generator that gives the draws of a recording, and fails where others are asked for."""

    def __init__(self, draws):
        self.draws = [(kind, tuple(bounds), value) for kind, bounds, value in draws]

    def random(self):
        kind, _, value = self.draws.pop(0)
        assert kind == "random"
        return value

    def integers(self, low, high):
        kind, bounds, value = self.draws.pop(0)
        assert bounds == ((low, high - 1) if kind == "randint" else (low, high))  # the first includes its upper bound
        return value


def golden_frames(name, shape):
    generator = np.random.default_rng(zlib.crc32(f"0:input:{name}".encode()))
    return generator.integers(0, 256, shape).astype(np.uint8)


def normalised(frames, window, config):
    """A clip as the network gets it: ``[3, T, S, S]``."""
    clip = torch.from_numpy(np.stack([window.cut(frame) for frame in frames], axis=1))
    mean, std = (torch.tensor(config[key]).view(3, 1, 1, 1) for key in ("mean", "std"))
    return (clip / 255 - mean) / std


def test_training_and_test_pixels_are_the_published_ones():
    case = goldens.load("goal_trajectory_pixels")
    for number, pipeline in enumerate(case.manifest["config"]["pipelines"]):
        frames = golden_frames(f"frames.{number}", pipeline["frames"])
        side, shape = pipeline["image_dim"], frames.shape[1:3]
        spec = VideoSpec(crop=side, short_side=(side, round(1.5 * side)), test_crop=side, test_short_side=side)
        case.check(f"p{number}.val", normalised(frames, centre_window(*shape, spec), case.manifest["config"]))
        recorded = Recorded(pipeline["train_draws"])
        case.check(f"p{number}.train", normalised(frames, draw_window(*shape, spec, recorded), case.manifest["config"]))
        assert not recorded.draws
    case.assert_complete()


SQUEEZED = VideoSpec(crop=112, short_side=(112, 112), test_crop=112, test_short_side=112, size=(128, 171))


def test_pixels_of_the_first_release_keep_no_shape():
    case = goldens.load("oops_r3d18_forward")
    frames = golden_frames("frames", case.manifest["config"]["frames"])
    clip = normalised(frames, centre_window(96, 150, SQUEEZED), case.manifest["config"])
    case.check("pixels.test.crop", clip[..., ::7, ::7])
    case.check("pixels.test.mean", clip.mean())
    case.check("pixels.test.std", clip.std(), atol=1e-4)  # the other outputs are the network's


def test_a_fixed_size_draws_mirroring_and_corner_alone():
    draws = Recorded([("random", (), 0.1), ("torch.randint", (0, 17), 16), ("torch.randint", (0, 60), 59)])
    assert draw_window(96, 150, SQUEEZED, draws) == Window(128, 171, 16, 59, 112, mirrored=True)
    assert not draws.draws
    unmirrored = Recorded([("torch.randint", (0, 17), 0), ("torch.randint", (0, 60), 0)])
    assert not draw_window(96, 150, SQUEEZED.replace(flip=False), unmirrored).mirrored


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (50, 71), (24, 24), (3, 300), (1, 1)])
def test_a_window_is_a_part_of_the_interpolated_picture(size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    spec = VideoSpec(crop=24, short_side=(24, 36), test_crop=24, test_short_side=24)
    windows = [draw_window(*size, spec, rng) for _ in range(6)]
    assert {window.mirrored for window in windows} == {True, False}
    for window in (*windows, centre_window(*size, spec)):
        source = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        source = source.flip(-1) if window.mirrored else source
        whole = interpolate(source, size=(window.height, window.width), mode="bilinear", align_corners=False)[0]
        expected = whole[:, window.top : window.top + 24, window.left : window.left + 24]
        torch.testing.assert_close(torch.from_numpy(window.cut(picture)), expected, atol=1e-3, rtol=1e-5)


def test_half_pixels_round_to_the_even_number():
    spec = VideoSpec(crop=24, short_side=(24, 24), test_crop=24, test_short_side=27)
    assert centre_window(27, 33, spec) == Window(27, 33, 2, 4, 24)
