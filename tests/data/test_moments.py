"""Single images of a video: which ones, out of files and folders, and how they become what a network eats."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.activities import PLAIN, SPEC
from tests.data.render import number_in, render
from tests.data.trees import picture
from tests.goldens import load
from zoo.data import moment_views, moments
from zoo.data.activities import Action
from zoo.data.moment_sampling import MomentTable, image_count, last_image, progress, spread_images
from zoo.data.moments import FileImages, FlowFolder, FolderImages, open_images
from zoo.errors import DataError, VideoError
from zoo.spec import MomentSpec

# Which images: the releases' tables


@pytest.fixture(scope="module")
def golden():
    return load("temporal_fields_postprocess")


@pytest.fixture(scope="module")
def said(golden):
    return [[Action(*action) for action in video["actions"]] for video in golden.manifest["config"]["rows"]]


def drawn(table):
    """(video, image) of every sample."""
    return [(table.video(row), *table.images(row).tolist()) for row in range(len(table))]


def test_training_images_are_the_ports(golden, said):
    counts = golden.manifest["config"]["images_per_video"]
    table = MomentTable(said, counts, MomentSpec(labels="all"), 24)
    videos, files = (golden.outputs[f"rgb_train.{key}"].tolist() for key in ("video", "file"))
    assert drawn(table) == list(zip(videos, files, strict=True))
    assert [file - 1 for file in files] == golden.outputs["rgb_train.time"].tolist()  # stored from 0 there


def test_training_stacks_of_flow_are_the_ports(golden, said):
    counts = golden.manifest["config"]["images_per_video"]
    table = MomentTable(said, counts, MomentSpec(streams=("flow",)), 24)
    videos, files = (golden.outputs[f"flow_train.{key}"].tolist() for key in ("video", "file"))
    assert drawn(table) == list(zip(videos, files, strict=True))
    rng = np.random.default_rng(0)
    labels = [table.annotated(row, table.images(row), rng)[0].label for row in range(len(table))]
    assert labels == golden.outputs["flow_train.target"].tolist()


def test_test_images_are_the_ports(golden):
    counts = golden.manifest["config"]["images_per_video"]
    rgb, flow = (golden.outputs[f"{stream}_video.file"].tolist() for stream in ("rgb", "flow"))
    assert [number for count in counts for number in spread_images(count, 50)] == rgb
    assert [number for count in counts for number in spread_images(count, 25, ahead=11)] == flow


def test_progress_is_the_papers_and_the_releases(golden):
    starts, ends, seconds = golden.outputs["progress.segment_time"].numpy().T
    paper, released = (progress(seconds, starts, ends, rule) for rule in ("thirds", "released"))
    assert (paper + 1).tolist() == golden.outputs["progress.paper"].tolist()
    assert (released + 1).tolist() == golden.outputs["progress.released"].tolist()
    assert progress(*np.array([[5.0], [1.0], [1.0]]), "thirds") == 2  # nothing there divides by 0
    assert progress(*np.array([[0.0], [1.0], [2.0]]), "released") == 0


@pytest.mark.parametrize("streams", [("rgb",), ("rgb", "flow")])
def test_training_images_with_one_label_are_the_torch_releases(streams):
    """Its loops, spelt out, on intervals that begin and end on images, between them, and beyond the video."""
    rng = np.random.default_rng(0)
    counts = [1, 2, 12, 13, 50, 51, 90]
    videos = [
        [Action(int(rng.integers(157)), *np.sort(rng.choice([rng.uniform(0, 4), rng.integers(0, 90) / 24], 2)))
         for _ in range(int(rng.integers(0, 6)))]
        for _ in counts
    ]  # fmt: skip
    videos[5].append(Action(3, 1.5, 0.5))
    spec = MomentSpec(streams=streams)
    expected = [
        (video, number, action.label)
        for video, (actions, count) in enumerate(zip(videos, counts, strict=True))
        for action in actions
        for number in range(1, count + 1, 4)
        if action.start < (number - 1) / 24 < action.end and ("flow" not in streams or number + 11 <= count)
    ]
    table = MomentTable(videos, counts, spec, 24)
    labels = [table.annotated(row, table.images(row), rng)[0].label for row in range(len(table))]
    assert [(*place, label) for place, label in zip(drawn(table), labels, strict=True)] == expected
    assert len(expected) > 20


def test_a_table_of_nothing():
    for spec in (MomentSpec(), MomentSpec(labels="all"), MomentSpec(together=3)):
        assert len(MomentTable([], [], spec, 24)) == 0
        assert len(MomentTable([[]], [1], spec, 24)) == 0


@pytest.mark.parametrize("labels", ["one", "all"])
def test_a_shorter_video_gives_what_it_has(labels):
    table = MomentTable([[Action(8, 0.0, 4.0), Action(9, 3.0, 4.0)]], [96], MomentSpec(labels=labels), 24)
    found = [table.images(row, 50).item() for row in range(len(table))]
    behind = {50} if labels == "one" else set()  # for what is annotated where nothing is
    assert set(found) == {*range(1 if labels == "all" else 5, 50, 4)} | behind
    for row in range(len(table)):
        assert table.images(row, 500) == table.images(row)  # a longer one changes nothing
    if labels == "one":
        assert [table.images(row, 50).item() for row in range(23, len(table))] == [50] * 5  # annotated behind the end


@pytest.mark.parametrize("labels", ["one", "all"])
def test_images_together_are_spread_over_the_video(labels):
    actions = [Action(8, 0.5, 2.5), Action(9, 2.0, 3.7)]
    spec = MomentSpec(labels=labels, together=5)
    table = MomentTable([actions, [], actions], [97, 97, 30], spec, 24)
    rows = [table.images(row) for row in range(len(table)) if table.video(row) == 0]
    usable = [n for n in range(1, 97, 4) if labels == "all" or 0.5 < (n - 1) / 24 < 3.7]
    assert len(rows) == len(usable) // 5 > 1
    everything = np.concatenate(rows)
    assert len(set(everything.tolist())) == len(everything)  # no image twice in an epoch
    assert set(everything.tolist()) <= set(usable)
    for numbers in rows:
        assert np.diff(numbers).min() > 0
        assert np.ptp(np.diff(numbers)) <= 4 * 2  # evenly, as far as the grid goes
        assert np.ptp(numbers) > 0.6 * np.ptp(usable)
    assert [table.video(row) for row in range(len(table))].count(1) == (4 if labels == "all" else 0)
    (short,) = [table.images(row) for row in range(len(table)) if table.video(row) == 2]
    assert len(set(short.tolist())) == 5  # 30 images have no 5 of every fourth one within 0.5..1.2 s, but 5 at all
    if labels == "one":
        rng = np.random.default_rng(0)
        labelled = [table.annotated(0, rows[0], rng) for _ in range(20)]
        for number, *choices in zip(rows[0], *labelled, strict=True):
            on = {action.label for action in actions if action.start < (number - 1) / 24 < action.end}
            assert {choice.label for choice in choices} == on  # either of two that are on at once


def test_together_from_a_video_with_hardly_any_images():
    table = MomentTable([[Action(1, 0.0, 9.0)]], [96], MomentSpec(together=5, labels="all"), 24)
    assert table.images(0, 4).tolist() == [1, 1, 2, 2, 3]
    one = MomentTable([[Action(1, 3.0, 9.0)]], [96], MomentSpec(together=2), 24)
    assert one.images(0, 24).tolist() == [24, 24]  # what is annotated lies behind the end
    assert one.annotated(0, one.images(0, 24), np.random.default_rng(0)) == [Action(1, 3.0, 9.0)] * 2


def test_last_images():
    assert last_image(100, MomentSpec()) == 100
    assert last_image(100, MomentSpec(labels="all")) == 99
    assert last_image(100, MomentSpec(streams=("flow", "rgb"), flow=5)) == 94
    assert [image_count(seconds, 24) for seconds in (0.0, 1.0, 30.02, 30.03)] == [1, 24, 720, 721]
    assert spread_images(3, 5).tolist() == [1, 1, 2, 2, 3]
    assert spread_images(5, 3, ahead=11).tolist() == [1, 1, 1]
    assert spread_images(5, 1).tolist() == [1]


# Out of video files


def by_ffmpeg(path, fps):
    """The numbers that FFmpeg's own filter shows, image after image."""
    with av.open(str(path)) as file:
        stream, graph = file.streams.video[0], av.filter.Graph()
        source, chosen = graph.add_buffer(template=stream), graph.add("fps", str(fps))
        sink = graph.add("buffersink")
        source.link_to(chosen)
        chosen.link_to(sink)
        graph.configure()
        numbers = []

        def drain():
            while True:
                try:
                    numbers.append(number_in(sink.pull().to_ndarray(format="rgb24")))
                except (BlockingIOError, EOFError):
                    return

        for frame in file.decode(stream):
            source.push(frame)
            drain()
        source.push(None)
        drain()
    return numbers


@pytest.mark.parametrize("fps", [8, 12, 24, 25, 30, 48, 60, Fraction(30000, 1001)])
def test_images_of_a_file_are_those_of_ffmpegs_filter(tmp_path, fps):
    path = render(tmp_path / "a.mp4", frames=61, fps=fps)
    with FileImages(path, 24) as images:
        assert images.frames(np.arange(1, images.count + 1)).tolist() == by_ffmpeg(path, 24)


def test_images_of_an_uneven_file_are_those_of_ffmpegs_filter(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(20, 120, 40)).tolist()
    path = render(tmp_path / "a.mkv", frames=40, times=[time - times[0] for time in times])
    with FileImages(path, 24) as images:
        expected = by_ffmpeg(path, 24)
        assert abs(images.count - len(expected)) <= 2  # how long the last frame stays nobody knows
        count = min(images.count, len(expected))
        assert images.frames(np.arange(1, count + 1)).tolist() == expected[:count]


def test_pictures_of_a_file(tmp_path):
    path = render(tmp_path / "a.mp4", frames=30, fps=12)
    with open_images(path, 24) as images:
        assert images.count == 60
        assert [images.has(number) for number in (0, 1, 60, 61)] == [False, True, True, False]
        shown = [number_in(picture) for picture in images.pictures([1, 1, 2, 31, 60])]
    assert shown == [0, 0, 0, 15, 29]


def test_a_file_that_does_not_tell_its_rate(tmp_path, monkeypatch):
    path = render(tmp_path / "a.mp4", frames=5)
    monkeypatch.setattr(moments.VideoReader, "steady_rate", None)
    monkeypatch.setattr(moments.VideoReader, "times", lambda self: np.zeros(5))
    with pytest.raises(VideoError, match=r"a.mp4 does not tell how fast .* Store it with a frame rate"):
        FileImages(path, 24)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"b.mp4"):
        FileImages(tmp_path / "b.mp4", 24)


# Out of folders


def folder_of(root, count, name="AB12C"):
    for number in range(1, count + 1):
        picture(root / name / f"{name}-{number:06d}.jpg", number)
    return root / name


def test_pictures_of_the_release_are_found_without_a_listing(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, 12)
    images = FolderImages(folder)
    assert images.count == 12
    (folder / "AB12C-000005.jpg").unlink()
    monkeypatch.setattr(moments, "find_images", lambda path: pytest.fail("listed"))
    images = open_images(folder, 24)
    assert images.has(12)
    assert [number_in(shown) for shown in images.pictures([1, 2, 2, 12])] == [1, 2, 2, 12]
    with pytest.raises(VideoError, match=r"there is no file .*AB12C-000005.jpg"):
        list(images.pictures([5]))
    monkeypatch.undo()
    assert FolderImages(folder).has(5)  # it should be there
    assert not FolderImages(folder).has(13)


def test_pictures_of_any_folder_by_name(tmp_path):
    for number in (2, 10, 7):
        picture(tmp_path / "mine" / f"{number}.png", number)
    images = open_images(tmp_path / "mine", 24)
    assert images.count == 3
    assert [number_in(shown) for shown in images.pictures([1, 2, 3])] == [2, 7, 10]
    assert [images.has(number) for number in (0, 3, 4)] == [False, True, False]
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="no picture in this folder"):
        FolderImages(tmp_path / "none").has(1)


def flow_of(root, count, name="AB12C", size=(64, 48)):
    folder = root / name
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("L", size, number).save(folder / f"{name}-{number:06d}x.jpg")
        Image.new("L", size, 255 - number).save(folder / f"{name}-{number:06d}y.jpg")
    return folder


def test_stacks_of_flow(tmp_path):
    flow = FlowFolder(flow_of(tmp_path, 12), 3)
    assert flow.count == 12
    assert [int(plane[0, 0]) for plane in flow.stack(5)] == [5, 250, 6, 249, 7, 248]
    assert [flow.has(number) for number in (0, 1, 10, 11)] == [False, True, True, False]
    (flow.path / "AB12C-000006y.jpg").unlink()
    with pytest.raises(VideoError, match=r"there is no file .*AB12C-000006y.jpg"):
        flow.stack(5)
    Image.new("RGB", (64, 48), (6, 6, 6)).save(flow.path / "AB12C-000006y.jpg")
    assert int(flow.stack(5)[3][0, 0]) == 6
    Image.new("L", (64, 40)).save(flow.path / "AB12C-000006y.jpg")
    with pytest.raises(VideoError, match=r"AB12C-000006y.jpg has 64 x 40 pixels, the first of its stack 64 x 48"):
        flow.stack(5)
    Image.new("CMYK", (64, 48)).save(flow.path / "AB12C-000006y.jpg")
    with pytest.raises(VideoError, match="a picture of kind 'CMYK' is no flow"):
        flow.stack(5)


def test_flow_that_is_not_there(tmp_path):
    with pytest.raises(VideoError, match=r"cannot be listed .* `zoo data flow charades ROOT`"):
        FlowFolder(tmp_path / "none", 3).count  # noqa: B018
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match=r"holds no flow. `zoo data flow charades ROOT`"):
        FlowFolder(tmp_path / "empty", 3).has(1)


# What a test looks at


def test_a_batch_of_one_video(tmp_path):
    path = render(tmp_path / "a.mp4", frames=24, fps=12)
    found = moments.test_moments(path, SPEC)
    assert {key: (tuple(value.shape), value.dtype) for key, value in found.items()} == {
        "rgb": ((4, 3, 24, 24), torch.uint8),
        "rgb_time": ((4,), torch.int64),
        "lengths": ((1,), torch.int64),
    }
    assert found["rgb_time"].tolist() == [1, 16, 32, 48]
    assert [number_in(view.permute(1, 2, 0).numpy()) for view in found["rgb"]] == [0, 7, 15, 23]
    assert found["lengths"].tolist() == [4]
    folder = folder_of(tmp_path, 9)
    assert moments.test_moments(str(folder), SPEC)["rgb_time"].tolist() == [1, 3, 6, 9]


def test_a_batch_of_flow(tmp_path):
    spec = SPEC.replace(moments=replace(PLAIN, streams=("flow",), flow=3))
    folder = flow_of(tmp_path, 12)
    found = moments.test_moments("nowhere.mp4", spec, folder)
    assert sorted(found) == ["flow", "flow_time", "lengths"]
    assert found["flow"].shape == (4, 6, 24, 24)
    assert found["flow_time"].tolist() == [1, 3, 5, 8]  # 4 before the last of 12
    assert found["flow"][1, :, 0, 0].tolist() == [3, 252, 4, 251, 5, 250]
    with pytest.raises(DataError, match=r"optical flow, and no folder .*`zoo data flow charades ROOT`"):
        moments.test_moments("nowhere.mp4", spec)
    assert moments.test_moments("x", spec, flow_of(tmp_path, 3, "SHORT"))["flow_time"].tolist() == [1, 1, 1, 1]
    with pytest.raises(VideoError, match="has flow of 2 images; a stack is of 3"):
        moments.test_moments("x", spec, flow_of(tmp_path, 2, "TINY0"))


# Views


RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (90, 160, 3), dtype=np.uint8)


def test_a_test_view_is_the_scaled_pictures_centre(tmp_path):
    spec = SPEC.replace(test_short_side=64, test_crop=56)
    expected = Image.fromarray(NOISE).resize((113, 64), Image.Resampling.BILINEAR).crop((28, 4, 84, 60))
    view = moment_views.test_rgb(NOISE, spec, tmp_path)
    assert np.array_equal(view.permute(1, 2, 0).numpy(), np.asarray(expected))
    planes = [NOISE[..., 0], NOISE[..., 1]]
    assert torch.equal(moment_views.test_flow(planes, spec, tmp_path), view[:2])
    with pytest.raises(VideoError, match="absurd"):
        moment_views.test_rgb(np.zeros((1, 40_000, 3), np.uint8), SPEC.replace(test_short_side=256), tmp_path)


def test_windows_cover_what_they_should():
    rng = np.random.default_rng(0)
    boxes = np.array([moment_views.random_window(90, 160, (0.08, 1.0), rng) for _ in range(2000)])
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    assert min(left.min(), top.min()) == 0
    assert (right.max(), bottom.max()) == (160, 90)
    area, aspect = width * height / (90 * 160), width / height
    assert 0.07 < area.min() < 0.09
    assert area.max() > 0.7
    assert 0.7 < aspect.min() < 0.8
    assert 1.28 < aspect.max() < 1.39
    assert abs(np.log(aspect).mean()) < 0.05
    # A whole wide picture has no aspect up to 4/3: its middle is taken, as large as may be.
    assert moment_views.random_window(90, 160, (1.0, 1.0), rng) == (20, 0, 140, 90)
    assert moment_views.random_window(160, 90, (1.0, 1.0), rng) == (0, 20, 90, 140)
    assert moment_views.random_window(48, 64, (1.0, 1.0), rng)[2:] == (64, 48)
    assert moment_views.random_window(1, 1, (0.08, 0.09), rng) == (0, 0, 1, 1)


def one_after_the_other(pixels, order, factors, shift):
    """Brightness, contrast, saturation as the releases write them, in floating point, ``[N, 3]``."""
    weights = np.array([0.299, 0.587, 0.114])
    for change in order:
        grey = pixels @ weights
        other = (np.zeros(1), grey.mean(), grey[:, None])[change]
        pixels = factors[change] * pixels + (1 - factors[change]) * other
    return pixels + shift


@pytest.mark.parametrize("seed", range(6))
def test_colours_change_as_the_releases_change_them(seed):
    pixels = NOISE.reshape(-1, 3).astype(np.float64)
    matrix, shift = moment_views.draw_colours(pixels.mean(0), 0.4, 0.0, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    order, factors = rng.permutation(3), rng.uniform(0.6, 1.4, 3)
    expected = one_after_the_other(pixels, order, factors, 0)
    assert np.allclose(pixels @ matrix.T + shift, expected, atol=1e-9)


def test_lighting_follows_the_colours_components():
    rng = np.random.default_rng(0)
    draws = [moment_views.draw_colours(np.zeros(3), 0.0, 0.1, rng) for _ in range(2000)]
    assert all(np.allclose(matrix, np.eye(3)) for matrix, _ in draws)
    shifts = np.array([shift for _, shift in draws]) / 255
    values, vectors = np.linalg.eigh(np.cov(shifts.T))
    assert np.sqrt(values[::-1]) == pytest.approx(0.1 * np.array([0.2175, 0.0188, 0.0045]), rel=0.06)
    assert abs(vectors[:, 2] @ [-0.5675, -0.5808, -0.5836]) == pytest.approx(1, abs=1e-3)


def test_training_views():
    spec = SPEC.replace(moments=MomentSpec(), crop=40, short_side=(40, 40), flip=True)
    view = moment_views.train_rgb(NOISE, spec, np.random.default_rng(0))
    assert (view.shape, view.dtype) == ((3, 40, 40), torch.uint8)
    assert torch.equal(view, moment_views.train_rgb(NOISE, spec, np.random.default_rng(0)))
    assert not torch.equal(view, moment_views.train_rgb(NOISE, spec, np.random.default_rng(1)))
    # Nothing but the mirror is random here, and it is in half of the views.
    ramp = np.repeat(np.arange(120, dtype=np.uint8)[None, :, None].repeat(90, 0), 3, 2)
    plain = spec.replace(moments=PLAIN)
    views = [moment_views.train_rgb(ramp, plain, np.random.default_rng(seed)) for seed in range(60)]
    mirrored = [bool(view[0, 0, 0] > view[0, 0, -1]) for view in views]
    assert 15 < sum(mirrored) < 45
    assert torch.equal(views[mirrored.index(True)].flip(2), views[mirrored.index(False)])


def test_training_views_of_flow_share_one_window_and_are_never_mirrored():
    spec = SPEC.replace(moments=MomentSpec(streams=("flow",)), crop=40, short_side=(40, 40), flip=True)
    ramp = np.arange(120, dtype=np.uint8)[None].repeat(90, 0)
    for seed in range(20):
        view = moment_views.train_flow([ramp, ramp, 255 - ramp], spec, np.random.default_rng(seed))
        assert (view.shape, view.dtype) == ((3, 40, 40), torch.uint8)
        assert torch.equal(view[0], view[1])
        assert (view[0].int() + view[2].int() - 255).abs().max() <= 1  # both are rounded
        assert view[0, 0, 0] < view[0, 0, -1]
