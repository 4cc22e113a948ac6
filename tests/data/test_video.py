"""The right frame for every number: containers, codecs, time stamps, turns and colours, judged by pixel content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.render import number_in, numbered, numbers_in, render
from zoo.data.decoder import Decoder
from zoo.data.video import VideoReader, iter_frames, probe, read_frames
from zoo.errors import VideoError

B_FRAMES = {"bf": "3", "g": "24"}
UNEVEN = [40 * n + 11 * (n % 3) + 3000 * (n > 50) for n in range(120)]  # milliseconds, with a gap
X265 = "log-level=none:keyint=24"

# name: what `render` is to do, and whether frames are found by seeking (else by decoding from the start).
CASES: dict[str, tuple[dict, bool]] = {
    "long_gop.mp4": ({"frames": 300, "options": {"bf": "3", "g": "250", "x264-params": "scenecut=0"}}, True),
    "open_gop.mp4": ({"options": {"bf": "3", "x264-params": "open-gop=1:keyint=24:scenecut=0"}}, True),
    "open_gop.mkv": ({"options": {"bf": "3", "x264-params": "open-gop=1:keyint=24:scenecut=0"}}, True),
    "fragmented.mp4": ({"options": B_FRAMES, "container_options": {"movflags": "frag_keyframe+empty_moov"}}, True),
    "fast_start.mp4": ({"options": B_FRAMES, "container_options": {"movflags": "faststart"}, "audio": True}, True),
    "audio.mkv": ({"options": B_FRAMES, "audio": True}, True),
    "h264.ts": ({"options": B_FRAMES}, True),
    "h264.flv": ({"options": B_FRAMES}, True),
    "uneven.mkv": ({"options": B_FRAMES, "times": UNEVEN}, True),
    "uneven.mp4": ({"options": B_FRAMES, "times": UNEVEN}, True),
    "late.mp4": ({"options": B_FRAMES, "times": [2000 + 40 * n for n in range(120)]}, True),
    "late.ts": ({"options": B_FRAMES, "times": [2000 + 40 * n for n in range(120)]}, True),
    "ten_bit.mp4": ({"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": X265}}, True),
    "open_gop_hevc.mkv": ({"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=1"}}, True),
    "vp9.webm": ({"codec": "libvpx-vp9", "options": {"g": "30", "deadline": "realtime", "cpu-used": "8"}}, True),
    "vp8.webm": ({"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}, True),
    "av1.mkv": ({"codec": "libsvtav1", "frames": 60, "height": 96, "width": 128, "options": {"crf": "10"}}, True),
    "mpeg4.mp4": ({"codec": "mpeg4", "options": {"bf": "2"}}, True),
    "mpeg4.avi": ({"codec": "mpeg4"}, True),
    "mjpeg.avi": ({"codec": "mjpeg", "pix_fmt": "yuvj420p"}, True),
    "ffv1.mkv": ({"codec": "ffv1", "frames": 40}, True),
    "palette.gif": ({"codec": "gif", "pix_fmt": "rgb8", "frames": 40, "fps": 20}, True),
    # Without presentation times in the file, only decoding tells which frame is which.
    "b_frames.avi": ({"codec": "mpeg4", "options": {"bf": "2"}}, False),
    "b_frames_h264.avi": ({"options": B_FRAMES}, False),
    "mpeg2.mpg": ({"codec": "mpeg2video", "options": {"bf": "2"}}, False),
    "bare.h264": ({"options": B_FRAMES}, False),
}


def make(name: str, folder: Path) -> tuple[Path, int]:
    options = {"frames": 120, **CASES[name][0]}
    try:
        av.Codec(options.get("codec", "libx264"), "w")
    except ValueError:
        pytest.skip(f"this FFmpeg cannot encode {options['codec']}")
    return render(folder / name, **options), options["frames"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of the packets that decoders were fed with."""
    sizes: list[int] = []
    feed = Decoder._feed
    monkeypatch.setattr(Decoder, "_feed", lambda self, packet: sizes.append(packet.size) or feed(self, packet))
    return sizes


@pytest.mark.parametrize("name", CASES)
def test_every_number_gives_its_frame(name, folder, monkeypatch):
    path, frames = make(name, folder)
    if CASES[name][1]:
        monkeypatch.setattr(Decoder, "_from_start", lambda self: pytest.fail("decoded from the start"))
    assert probe(path).frames == frames
    assert [number_in(frame) for frame in iter_frames(path)] == list(range(frames))
    rng = np.random.default_rng(0)
    wrapped = (np.arange(16) * 2 + frames - 7) % frames
    for indices in [
        wrapped,
        [frames - 1],
        [5, 5, 0],
        *(rng.integers(0, frames, rng.integers(1, 16)) for _ in range(9)),
    ]:
        assert numbers_in(read_frames(path, indices)) == list(indices)
    with VideoReader(path) as video:  # one after another in one open file
        for number in rng.integers(0, frames, 20).tolist():
            assert numbers_in(video.read([number])) == [number]


def test_real_times_are_told(folder):
    for name in ("uneven.mkv", "uneven.mp4"):
        with VideoReader(make(name, folder)[0]) as video:
            assert video.times() == pytest.approx(np.array(UNEVEN) / 1000, abs=1e-3)
    for name in ("late.mp4", "late.ts", "b_frames.avi", "mpeg4.avi", "palette.gif"):
        path, frames = make(name, folder)
        with VideoReader(path) as video:
            assert video.times() == pytest.approx(np.arange(frames) / video.info.fps, abs=1e-3)
            assert numbers_in(video.read([3])) == [3]  # reading goes on after it


def test_probe_tells_what_is_in_the_file(folder):
    info = probe(make("audio.mkv", folder)[0])
    assert (info.width, info.height, info.frames, info.rotation, info.codec) == (64, 48, 120, 0, "h264")
    assert info.has_audio
    assert info.fps == 25
    assert info.duration == pytest.approx(4.8, abs=0.05)
    assert not probe(make("h264.ts", folder)[0]).has_audio


# Only what is needed is decoded


def test_a_frame_is_decoded_from_the_key_frame_before_it(folder, fed):
    path = render(folder / "keys.mp4", frames=300, options={"bf": "0", "g": "30", "x264-params": "scenecut=0"})
    read_frames(path, [290])
    assert len(fed) == 21  # 270 .. 290


def test_groups_far_apart_are_sought_apart(folder, fed):
    path = render(folder / "groups.mp4", frames=300, options={"bf": "0", "g": "30", "x264-params": "scenecut=0"})
    assert numbers_in(read_frames(path, [272, 3, 1, 270, 150])) == [272, 3, 1, 270, 150]
    assert len(fed) == 4 + 1 + 3


def test_close_frames_are_decoded_through(folder, fed):
    path = render(folder / "close.mp4", frames=60, options={"bf": "0", "g": "4", "x264-params": "scenecut=0"})
    read_frames(path, range(9, 40, 2))
    assert len(fed) == 32  # 8 .. 39


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux's /proc")
def test_the_rest_of_the_file_is_not_even_read(folder):
    def noise(number: int, height: int, width: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    path = render(folder / "heavy.mp4", frames=300, height=96, width=128, options={"g": "10"}, picture=noise)
    before = bytes_read()
    assert read_frames(path, [250]).shape == (1, 96, 128, 3)
    assert bytes_read() - before < path.stat().st_size / 4


@pytest.mark.parametrize("name", ["long_gop.mp4", "open_gop.mkv", "mpeg4.mp4", "mpeg4.avi", "fast_start.mp4"])
def test_leaving_out_unneeded_pictures_changes_no_pixel(name, folder):
    path, frames = make(name, folder)
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rng = np.random.default_rng(1)
    for indices in [range(1, frames, 2), range(frames // 2, frames, 7), rng.integers(0, frames, 12)]:
        assert np.array_equal(read_frames(path, indices), np.stack([plain[i] for i in indices]))


# Files that were cut out of others


def cut(source: Path, target: Path, *, first: int = 0, shift: int = 0, options: dict[str, str] | None = None) -> Path:
    """Copy packets from the ``first`` on without decoding them, ``shift`` time units later."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            if number >= first:
                packet.pts += shift
                packet.dts += shift
                packet.stream = stream
                new.mux(packet)
    return target


def second_key(path: Path) -> int:
    with av.open(str(path)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0)].index(True, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("c.mp4", {}),
        ("c.mov", {"use_editlist": "0"}),
        ("c.mkv", {}),
        ("c.flv", {}),
        ("c.mp4", {"movflags": "faststart"}),
    ],
)
@pytest.mark.parametrize("start", ["at an open key frame", "between key frames"])
def test_pictures_that_lack_their_past_do_not_count(name, options, start, folder, tmp_path):
    """What a decoder shows first of such a file is frame 0; leading pictures of an open group are not shown."""
    source, _ = make("open_gop.mp4", folder)
    first = second_key(source) - (5 if start == "between key frames" else 0)
    path = cut(source, tmp_path / name, first=first, options=options)
    with av.open(str(path)) as container:
        shown = numbers_in([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert shown == list(range(24, 120))
    assert probe(path).frames == 96
    for indices in np.random.default_rng(0).integers(0, 96, (12, 6)).tolist():
        assert numbers_in(read_frames(path, indices)) == [24 + index for index in indices]


def test_an_edit_list_takes_frames_away(folder, tmp_path):
    """Packets before time 0 stay in the file, for the others to refer to, but are not shown."""
    source, _ = make("long_gop.mp4", folder)
    path = cut(source, tmp_path / "edited.mp4", shift=-5 * 512)
    assert probe(path).frames == 295
    assert numbers_in(read_frames(path, [0, 1, 260, 294])) == [5, 6, 265, 299]


def test_dropped_frames_of_an_avi_are_no_frames(folder, tmp_path):
    """An empty chunk says "nothing new"; a decoder would take an empty packet for the end of the stream."""
    data = bytearray(make("mpeg4.avi", folder)[0].read_bytes())
    table, movie = data.rindex(b"idx1") + 8, data.index(b"movi")
    for number in (5, 6, 30):
        entry = table + 16 * number
        chunk = movie + int.from_bytes(data[entry + 8 : entry + 12], "little")
        length = int.from_bytes(data[entry + 12 : entry + 16], "little")
        data[chunk + 4 : chunk + 16] = bytes(4) + b"JUNK" + (length + length % 2 - 8).to_bytes(4, "little")
        data[entry + 12 : entry + 16] = bytes(4)
    path = tmp_path / "dropped.avi"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        plain = numbers_in([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert probe(path).frames == len(plain) == 117
    assert numbers_in(read_frames(path, range(117))) == plain
    assert numbers_in(read_frames(path, [100, 4, 5])) == [plain[100], plain[4], plain[5]]


@pytest.mark.parametrize("name", ["mpeg4.avi", "b_frames.avi", "audio.mkv", "vp9.webm", "h264.ts", "h264.flv"])
def test_a_recording_that_broke_off_is_a_shorter_video(name, folder, tmp_path):
    """These name no number of frames that must be there, and keep their tables at the end."""
    whole, _ = make(name, folder)
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: int(0.7 * whole.stat().st_size)])
    frames = probe(path).frames
    assert 60 < frames < 100
    indices = np.random.default_rng(0).integers(0, frames - 1, 20).tolist()
    assert numbers_in(read_frames(path, indices)) == indices


# Sizes and turns


def test_scaling_keeps_the_content(folder):
    path, _ = make("long_gop.mp4", folder)
    with VideoReader(path) as video:
        assert video.read([77], short_side=30).shape == (1, 30, 40, 3)
        assert video.read([77], size=(100, 50)).shape == (1, 100, 50, 3)
        for size in [(30, 40), (100, 50), (12, 200)]:
            assert numbers_in(video.read([77, 299], size=size)) == [77, 299]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 37), (53, 1), (47, 63), (35, 111)])
@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [("odd.mkv", "ffv1", "yuv444p"), ("odd.gif", "gif", "rgb8")])
def test_odd_sizes(height, width, name, codec, pix_fmt, tmp_path):
    def shade(number, height, width):
        return np.full((height, width, 3), 36 * number, np.uint8)

    options = {"level": "1"} if codec == "ffv1" else {}  # later levels cut thin pictures into slices
    path = render(
        tmp_path / name, codec, 6, height=height, width=width, pix_fmt=pix_fmt, options=options, picture=shade
    )
    frames = read_frames(path, [5, 0, 3])
    assert frames.shape == (3, height, width, 3)
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx([180, 0, 108], abs=20)
    assert read_frames(path, [1], short_side=8).shape[1:3] == (max(8, 8 * height // width), max(8, 8 * width // height))


def turned(picture: np.ndarray, matrix: list[int]) -> np.ndarray:
    """Where a display matrix puts a picture's pixels, one by one: x' = a x + c y, y' = b x + d y."""
    (a, b, _, c, d), (height, width) = matrix[:5], picture.shape[:2]
    places = {(a * x + c * y, b * x + d * y): (y, x) for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    out = np.zeros((height, width, 3) if a else (width, height, 3), np.uint8)
    for (x, y), source in places.items():
        out[y - top, x - left] = picture[source]
    return out


@pytest.mark.parametrize("b_or_a", [1, -1])
@pytest.mark.parametrize("c_or_d", [1, -1])
@pytest.mark.parametrize("sideways", [False, True])
def test_a_phone_s_turn_is_undone(sideways, b_or_a, c_or_d, tmp_path):
    """All eight turns and mirrorings that a display matrix can hold."""
    matrix = [0, b_or_a, 0, c_or_d, 0] if sideways else [b_or_a, 0, 0, 0, c_or_d]

    def write(stream: av.VideoStream) -> None:
        stream.set_display_matrix([65536 * v for v in matrix] + [0, 0, 0, 1 << 30])

    path = render(tmp_path / "phone.mp4", frames=12, prepare=write)
    frames = read_frames(path, [11, 4])
    for frame, number in zip(frames, [11, 4], strict=True):
        assert frame == pytest.approx(turned(numbered(number), matrix), abs=40)
    info = probe(path)
    assert (info.height, info.width) == frames.shape[1:3] == ((64, 48) if sideways else (48, 64))
    assert read_frames(path, [4], short_side=24).shape[1:3] == ((32, 24) if sideways else (24, 32))


def test_a_clip_held_upright_is_seen_upright(tmp_path):
    """90 degrees counter-clockwise in the header turn a picture that was stored lying on its right side."""
    stored: Callable[..., np.ndarray] = lambda n, h, w: np.rot90(numbered(n, w, h), -1)  # noqa: E731
    path = render(tmp_path / "phone.mov", frames=30, picture=stored, rotation=(90, False, False), audio=True)
    assert numbers_in(iter_frames(path)) == list(range(30))
    info = probe(path)
    assert (info.height, info.width, info.rotation) == (64, 48, 270)


# Colours


def patch(colour: tuple[int, int, int]) -> Callable[[int, int, int], np.ndarray]:
    return lambda number, height, width: np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p"),
        ("libx264", "yuv444p"),
        ("libx264", "yuv420p10le"),
        ("libx265", "yuv420p10le"),
        ("mjpeg", "yuvj420p"),
        ("ffv1", "bgr0"),
        ("ffv1", "yuv422p16le"),
    ],
)
@pytest.mark.parametrize("colour", [(210, 40, 60), (30, 180, 90), (0, 0, 0), (255, 255, 255)])
def test_colours_come_back(codec, pix_fmt, colour, tmp_path):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = render(tmp_path / "c.mkv", codec, 3, pix_fmt=pix_fmt, options=options, picture=patch(colour))
    assert read_frames(path, [1]).mean(axis=(0, 1, 2)) == pytest.approx(colour, abs=4)


@pytest.mark.parametrize(("level", "color_range"), [(93, 1), (90, 2)])
def test_gray_of_either_range_is_gray(level, color_range, tmp_path):
    path = tmp_path / "gray.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.color_range = color_range
        frame = av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), format="gray")
        frame.color_range = color_range
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read_frames(path, [0]).mean(axis=(0, 1, 2)) == pytest.approx((90, 90, 90), abs=1.5)


@pytest.mark.parametrize("matrix", ["ITU709", "ITU601"])
@pytest.mark.parametrize("full", [False, True])
def test_the_tagged_matrix_and_range_are_used(matrix, full, tmp_path):
    """The same colour through both matrices and both ranges: reading one as another would be off by ten and more."""
    colour, spaces, ranges = (210, 40, 60), {"ITU709": 1, "ITU601": 5}, {False: "MPEG", True: "JPEG"}
    path = tmp_path / "tagged.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = spaces[matrix]
        stream.codec_context.color_range = 2 if full else 1
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(patch(colour)(0, 48, 64), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, src_color_range="JPEG", dst_color_range=ranges[full]
            )
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read_frames(path, [1]).mean(axis=(0, 1, 2)) == pytest.approx(colour, abs=5)


# Manners


@pytest.mark.parametrize("name", ["a:b.mp4", "concat:x.mp4", "frame%03d.mp4", "-y.mp4", "häß lich 100%.mp4"])
def test_a_file_s_name_is_only_a_name(name, folder, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(make("fast_start.mp4", folder)[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    assert numbers_in(read_frames(name, [7])) == [7]


def test_threads_change_nothing(folder):
    path, _ = make("long_gop.mp4", folder)
    assert np.array_equal(read_frames(path, range(0, 300, 11), threads=3), read_frames(path, range(0, 300, 11)))


def test_a_part_is_streamed(folder):
    path, _ = make("open_gop.mp4", folder)
    assert numbers_in(iter_frames(path, 50, 60)) == list(range(50, 60))
    assert list(iter_frames(path, 7, 7)) == []
    with pytest.raises(ValueError, match="at least one"):
        read_frames(path, [])


def test_reading_on_in_a_closed_or_shared_file_is_an_error_not_a_crash(folder):
    path, _ = make("long_gop.mp4", folder)
    with VideoReader(path) as video:
        frames = video.stream()
        next(frames)
    with pytest.raises(VideoError, match="closed or read elsewhere"):
        list(frames)
    with VideoReader(path) as video:
        frames = video.stream()
        next(frames)
        assert numbers_in(video.read([200])) == [200]
        with pytest.raises(VideoError, match="closed or read elsewhere"):
            list(frames)
        assert numbers_in(video.stream(3, 9)) == list(range(3, 9))


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_times_by_the_files_own_clock(tmp_path, name):
    path = render(tmp_path / name, frames=30, fps=25, times=[2000 + 40 * n for n in range(30)])
    with VideoReader(path) as video:
        clock, since_first = video.presentation_times(), video.times()
        assert video.fps == pytest.approx(25)
    np.testing.assert_allclose(since_first, 0.04 * np.arange(30), atol=1e-6)
    np.testing.assert_allclose(clock - clock[0], since_first, atol=1e-9)
    if name == "late.mkv":  # an mp4's edit list takes the delay away or keeps it, and a stream adds its own
        np.testing.assert_array_equal(clock, np.arange(2000, 3200, 40) / 1000)


def test_a_selection_is_streamed(folder):
    with VideoReader(folder / "long_gop.mp4") as video:
        assert numbers_in(video.select([3, 4, 20, 250])) == [3, 4, 20, 250]
        with pytest.raises(VideoError, match="there is no frame 300"):
            list(video.select([3, 300]))
