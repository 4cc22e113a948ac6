"""Views of rendered videos: which pixels of which frames end up where."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.render import numbered, numbers_in, render
from zoo.data import sampling
from zoo.data.images import ImageFolder
from zoo.data.transforms import crop_view, test_views, train_view
from zoo.data.video import read_frames
from zoo.errors import VideoError
from zoo.spec import VideoSpec

test_views.__test__ = False

# Short side = crop = the clip's height, so a view 48 high holds all three rows of a number's blocks.
SPEC = VideoSpec(frames=8, stride=3, crop=48, short_side=(48, 48), test_crop=48, test_short_side=48, clips=4, crops=3)


def square(number: int, height: int, width: int) -> np.ndarray:
    """A picture three times as wide as high that shows its number on each third."""
    return np.concatenate([numbered(number, height, width // 3)] * 3, axis=1)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """50 frames of 144 x 48 pixels."""
    return render(tmp_path_factory.mktemp("views") / "v.mp4", frames=50, height=48, width=144, picture=square)


def frames_of(view: torch.Tensor) -> list[int]:
    """The numbers that a view ``[3, T, H, W]`` shows."""
    return numbers_in(view.permute(1, 2, 3, 0).numpy())


def test_test_views_are_clip_major_and_crop_along_the_long_side(video):
    views = test_views(video, SPEC, None)
    assert views.shape == (12, 3, 8, 48, 48)
    assert views.dtype == torch.uint8
    assert views.is_contiguous()
    clips = sampling.test_clips(50, 8, 3, 4)
    assert [frames_of(view) for view in views] == [clip.tolist() for clip in clips for _ in range(3)]
    for clip in range(4):
        assert torch.equal(test_views(video, SPEC, clip), views[3 * clip : 3 * clip + 3])
    centre = test_views(video, SPEC.replace(crops=1), None)
    assert torch.equal(centre, views[1::3])


def test_crops_show_the_left_the_middle_and_the_right(tmp_path):
    def thirds(number, height, width):
        return np.repeat(np.repeat([[20], [120], [220]], width // 3, axis=0).reshape(1, -1, 1), height, 0).repeat(3, 2)

    path = render(tmp_path / "v.mp4", frames=4, height=48, width=144, picture=lambda *a: thirds(*a).astype(np.uint8))
    views = test_views(path, SPEC.replace(frames=2, stride=1, clips=1), 0)
    assert views[..., 8:40].float().mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([20, 120, 220], abs=4)


def test_a_training_view_is_one_window_of_consecutive_frames(video):
    clips = [train_view(video, SPEC.replace(flip=False), np.random.default_rng(seed)) for seed in range(8)]
    assert {clip.shape for clip in clips} == {(3, 8, 48, 48)}
    assert all(clip.is_contiguous() and clip.dtype == torch.uint8 for clip in clips)
    # The three copies repeat every 48 columns, so undoing a window's offset gives the number back.
    for seed, clip in enumerate(clips):
        rng = np.random.default_rng(seed)
        indices = sampling.train_clip(50, 8, 3, rng)
        sampling.short_side_jitter(SPEC.short_side, rng)
        left = sampling.random_crop(48, 144, 48, rng)[1]
        assert frames_of(torch.roll(clip, left % 48, dims=-1)) == indices.tolist()


def test_half_of_the_training_views_are_mirrored_whole(video):
    mirrored = 0
    for seed in range(24):
        plain = train_view(video, SPEC.replace(flip=False), np.random.default_rng(seed))
        view = train_view(video, SPEC, np.random.default_rng(seed))
        assert torch.equal(view, plain) or torch.equal(view, plain.flip(-1))
        mirrored += torch.equal(view, plain.flip(-1))
    assert 5 < mirrored < 19


def test_the_short_side_varies_over_its_range(video):
    spec = SPEC.replace(short_side=(48, 72), flip=False)
    sides = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        indices = sampling.train_clip(50, 8, 3, rng)
        side = sampling.short_side_jitter(spec.short_side, rng)
        top, left = sampling.random_crop(*sampling.scaled_size(48, 144, side), 48, rng)
        sides.add(side)
        frames = read_frames(video, indices, short_side=side)
        expected = torch.from_numpy(frames[:, top : top + 48, left : left + 48].copy()).permute(3, 0, 1, 2)
        assert torch.equal(train_view(video, spec, np.random.default_rng(seed)), expected)
    assert len(sides) > 8


def test_views_of_one_seed_are_the_same(video):
    first, second = (train_view(video, SPEC, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_clip_shorter_than_the_model_wants_goes_round(tmp_path):
    path = render(tmp_path / "short.mp4", frames=5, height=48, width=144, picture=square)
    view = test_views(path, SPEC.replace(clips=1, crops=1), 0)[0]
    assert frames_of(view) == [0, 3, 1, 4, 2, 0, 3, 1]


def test_cropping_keeps_the_axes_apart():
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    view = crop_view(frames, (1, 3), 4, mirrored=True)
    assert view.is_contiguous()
    for c, t, y, x in np.ndindex(3, 2, 4, 4):
        assert view[c, t, y, x] == frames[t, 1 + y, 3 + 3 - x, c]


TWELVE = SPEC.replace(frames=4, stride=2, fps=12, flip=False, clips=2, crops=1)


@pytest.mark.parametrize(
    ("name", "codec", "times"),
    [
        ("steady.mp4", "libx264", None),
        ("uneven.mp4", "libx264", [40 * k if k < 25 else 1000 + 20 * (k - 25) for k in range(50)]),
        ("uneven.webm", "libvpx-vp9", [40 * k if k < 25 else 1000 + 20 * (k - 25) for k in range(50)]),
        ("steady.avi", "mpeg4", None),
        ("steady.mkv", "libx264", None),
    ],
)
def test_frames_are_counted_at_the_rate_asked_for(tmp_path, name, codec, times):
    path = render(tmp_path / name, codec, frames=50, height=48, width=48, times=times)
    seconds = np.array(times) / 1000 if times else np.arange(50) / 25
    n = sampling.count_at_rate(seconds, 12)
    for spec, sample in (
        (TWELVE, sampling.train_clip),
        (TWELVE.replace(sampling="past_and_target"), sampling.past_and_target),
    ):
        view = train_view(path, spec, np.random.default_rng(3))
        chosen = sample(n, frames=4, stride=2, rng=np.random.default_rng(3))
        assert view.shape == (3, len(chosen), 48, 48)
        assert frames_of(view) == [int(np.sum(seconds < k / 12 + 1e-6)) - 1 for k in chosen]
    clips = sampling.test_clips(n, 4, 2, 2)
    views = test_views(path, TWELVE, None)
    assert [frames_of(v) for v in views] == [[int(np.sum(seconds < k / 12 + 1e-6)) - 1 for k in c] for c in clips]


def test_a_faster_rate_than_the_files_repeats_frames(tmp_path):
    path = render(tmp_path / "slow.mp4", frames=20, height=48, width=48, fps=5)
    view = train_view(path, TWELVE.replace(fps=10, frames=8, stride=1), np.random.default_rng(0))
    start = int(np.random.default_rng(0).integers(0, 40 - 8 + 1))
    assert frames_of(view) == [(start + k) // 2 for k in range(8)]


def test_a_file_without_a_rate_is_refused(tmp_path):
    """IVF keeps a length in its header and a time with every frame; here they are all nothing."""
    path = render(tmp_path / "v.ivf", "libvpx", frames=9, height=48, width=48)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 24, 0)
    at = 32
    while at < len(data):
        struct.pack_into("<Q", data, at + 4, 0)
        at += 12 + struct.unpack_from("<I", data, at)[0]
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"v\.ivf does not tell how fast .* 12 frames per second"):
        train_view(path, TWELVE, np.random.default_rng(0))
    assert train_view(path, TWELVE.replace(fps=None), np.random.default_rng(0)).shape == (3, 4, 48, 48)


def test_past_and_target_without_a_rate_count_the_files_own_frames(video):
    view = train_view(video, SPEC.replace(sampling="past_and_target", frames=4, flip=False), np.random.default_rng(5))
    rng = np.random.default_rng(5)
    chosen = sampling.past_and_target(50, rng, 4, 3)
    sampling.short_side_jitter(SPEC.short_side, rng)
    left = sampling.random_crop(48, 144, 48, rng)[1]
    assert frames_of(torch.roll(view, left % 48, dims=-1)) == chosen.tolist()


def test_pictures_in_a_folder_are_a_video(tmp_path):
    for number in range(30):
        path = tmp_path / "clip" / f"{number + 1:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(numbered(number, 96, 128)).save(path, quality=95)
    view = train_view(tmp_path / "clip", TWELVE.replace(crop=48, short_side=(48, 48)), np.random.default_rng(0))
    assert view.shape == (3, 4, 48, 48)  # scaled from 96 x 128 to 48 x 64, as a video would be
    start = sampling.train_clip(30, 4, 2, np.random.default_rng(0))
    wide = ImageFolder(tmp_path / "clip").read(start, short_side=48)
    assert wide.shape == (4, 48, 64, 3)
    assert numbers_in(wide) == start.tolist()
    (tmp_path / "clip" / "000031.jpg").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"000031\.jpg"):
        ImageFolder(tmp_path / "clip").read([29, 30])
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="no picture in this folder"):
        train_view(tmp_path / "none", TWELVE, np.random.default_rng(0))


def test_an_unreadable_file_is_named(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    for view in (lambda: test_views(path, SPEC, None), lambda: train_view(path, SPEC, np.random.default_rng(0))):
        with pytest.raises(VideoError, match=r"notes\.mp4"):
            view()
