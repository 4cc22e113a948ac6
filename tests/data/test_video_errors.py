"""Files that are broken, hostile or no videos: each a `VideoError` that names the file; and what reading costs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from torch.utils.data import DataLoader

from tests.data.fuzz import fuzz
from tests.data.render import numbers_in, render
from zoo.data.video import VideoReader, iter_frames, probe, read_frames
from zoo.errors import VideoError

FAST_START = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    """200 frames in groups of 20, its table of contents in front."""
    return render(folder / "whole.mp4", frames=200, options={"g": "20", "bf": "2"}, container_options=FAST_START)


def refused(path: Path, words: str) -> None:
    """Every way to read the file says what is wrong, where, and what to do."""
    for read in (probe, lambda p: read_frames(p, [0]), lambda p: list(iter_frames(p))):
        with pytest.raises(VideoError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).split(str(path))[1]) > 25


def altered(video: Path, target: Path, name: bytes, offset: int, value: int) -> Path:
    """A copy with a 32-bit number changed, ``offset`` bytes behind the first mention of ``name``."""
    data = bytearray(video.read_bytes())
    struct.pack_into(">I", data, data.index(name) + offset, value)
    target.write_bytes(data)
    return target


def test_no_video_at_all(tmp_path):
    refused(tmp_path / "nowhere.mp4", "there is no file")
    refused(tmp_path, "is a folder")
    for name, data, words in [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"hello\n" * 500, "does not open as a video"),
        ("zeros.avi", bytes(50_000), "does not open as a video"),
        ("noise.mkv", np.random.default_rng(0).bytes(50_000), "does not open as a video"),
        ("header.webm", b"\x1a\x45\xdf\xa3", "does not open as a video"),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, words)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", "device or a pipe")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_permission_denied(video, tmp_path):
    (tmp_path / "locked.mp4").write_bytes(video.read_bytes())
    (tmp_path / "locked.mp4").chmod(0)
    refused(tmp_path / "locked.mp4", "may not be read")


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:10,\n{}\n", "ffconcat version 1.0\nfile {}\n", "[Script Info]\n"])
def test_a_text_file_opens_no_other_file(text, video, tmp_path):
    """FFmpeg would follow a playlist to any file, and draw other texts as pictures."""
    path = tmp_path / "list.mp4"
    path.write_text(text.format(video))
    refused(path, "does not open as a video")


def test_sound_only(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    refused(path, r"no video stream \(it holds: audio\)")


def test_a_song_s_cover_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        cover, sound = out.add_stream("mjpeg", rate=1), out.add_stream("aac", rate=48000)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for stream, piece in ((sound, frame), (sound, None), (cover, None)):
            out.mux(stream.encode(piece))
    refused(path, "no video stream")


def test_more_frames_than_there_are(video):
    for indices in ([200], [3, 4000], [-1]):
        with pytest.raises(VideoError, match=r"whole\.mp4 has 200 frames.*no frame (200|4000|-1)\b"):
            read_frames(video, indices)


def test_what_stands_before_the_cut_is_read(video, tmp_path):
    path = tmp_path / "cut.mp4"
    data = video.read_bytes()
    path.write_bytes(data[: (data.index(b"mdat") + len(data)) // 2])
    assert probe(path).frames == 200  # so its header says
    assert numbers_in(read_frames(path, [0, 33, 40])) == [0, 33, 40]
    with pytest.raises(VideoError, match=r"cut\.mp4: it breaks( off before| at) frame 190"):
        read_frames(path, [3, 190])
    given = []
    with pytest.raises(VideoError, match=r"cut\.mp4: it breaks"):
        given.extend(iter_frames(path))  # extend keeps what came before the error
    assert numbers_in(given) == list(range(len(given)))
    assert 50 < len(given) < 150


def test_a_table_of_contents_at_the_end_is_missed(folder, tmp_path):
    whole = render(folder / "moov_last.mp4", frames=60)
    path = tmp_path / "cut.mp4"
    data = whole.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    refused(path, "does not open as a video")


def peak_of_probing(path: Path) -> int:
    """The most memory that a process of its own takes to probe a file, broken or not, MiB."""
    code = """if True:
        import contextlib, sys
        from tests.data.fuzz import peak
        from zoo.data.video import probe
        from zoo.errors import VideoError
        with contextlib.suppress(VideoError):
            probe(sys.argv[1])
        print(peak())"""
    root = Path(__file__).parents[2]
    return int(subprocess.check_output([sys.executable, "-c", code, path], text=True, timeout=60, cwd=root))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("count", [100_000, 1 << 24, (1 << 32) - 1])
def test_a_header_that_claims_billions_of_frames_costs_nothing(count, video, tmp_path):
    """One size for all samples, so that the table itself can be tiny: FFmpeg would fill gigabytes."""
    path = altered(video, tmp_path / "many.mp4", b"stsz", 8, 1)
    path = altered(path, path, b"stsz", 12, count)
    path = altered(path, path, b"stsc", 16, count)
    refused(path, "more than it has bytes")
    assert peak_of_probing(path) < peak_of_probing(video) + 20  # MiB


def test_a_fragment_that_claims_billions_of_frames_is_refused(folder, tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov"}
    video = render(folder / "fragments.mp4", frames=40, options={"g": "20"}, container_options=options)
    refused(altered(video, tmp_path / "many.mp4", b"trun", 8, (1 << 32) - 1), "more than it has bytes")


def test_a_table_longer_than_its_times_is_not_searched(video, tmp_path):
    """FFmpeg's seek takes minutes in such a file; reading it from the start finds at once that it is broken."""
    path = altered(video, tmp_path / "long.mp4", b"stsz", 8, 1)
    path = altered(path, path, b"stsz", 12, 1 << 20)
    path = altered(path, path, b"stsc", 16, 1 << 20)
    path.write_bytes(path.read_bytes() + bytes(2_000_000))
    code = f"from zoo.data.video import probe\nprobe({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert "VideoError" in done.stderr


def test_gigantic_pictures_are_refused(folder, tmp_path):
    small = render(folder / "small.gif", "gif", 3, pix_fmt="rgb8")
    data = bytearray(small.read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # the canvas: 65535 x 65535
    (tmp_path / "huge.gif").write_bytes(data)
    refused(tmp_path / "huge.gif", "of unknown size are not decoded")  # FFmpeg has thrown its size away already
    with pytest.raises(VideoError, match="pixels are not decoded"):
        read_frames(small, [0], size=(100_000, 100_000))


def test_damaged_files_give_frames_or_an_error(folder, tmp_path):
    """220 damaged copies, read in a process apart: no other exception, no crash, no hang, no great memory."""
    sources = [
        render(folder / "a.mp4", frames=40, options={"g": "10", "bf": "2"}, container_options=FAST_START),
        render(folder / "b.mp4", frames=40, audio=True),
        render(folder / "c.avi", "mpeg4", frames=40, options={"bf": "2"}),
        render(folder / "d.mkv", frames=40, options={"g": "10"}, audio=True),
        render(folder / "e.gif", "gif", frames=20, pix_fmt="rgb8"),
    ]
    rows = fuzz(sources, tmp_path, count=220, seed=1)
    outcomes = Counter(row[0] for row in rows)
    assert [row for row in rows if row[0] not in {"frames", "VideoError"}] == []
    assert sum(outcomes.values()) == 220
    assert min(outcomes.values()) > 30  # both happen: neither all refused nor all harmless
    assert max(row[2] for row in rows) < 600  # MiB, the interpreter and its libraries included


# What reading costs


def resident() -> float:
    """Memory in use by this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_opening_many_files_leaks_nothing(folder, video, tmp_path):
    path = render(folder / "big.mp4", frames=30, height=240, width=320)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def work(times: int) -> None:
        for number in range(times):
            read_frames(path, [number % 30, 5], short_side=120)
            with VideoReader(path) as half_read:
                next(half_read.stream())
            with pytest.raises(VideoError):
                read_frames(broken, [29])

    work(30)
    before = resident()
    work(200)
    assert resident() - before < 20  # one picture of each kept would be over 40


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_streaming_keeps_a_few_frames_only(video):
    for frame in iter_frames(video, size=(480, 640)):
        first = frame
        break
    before = resident()
    assert sum(1 for _ in iter_frames(video, size=(480, 640))) == 200
    assert resident() - before < 20 * first.nbytes / 2**20  # all would be 200


class Clips:
    """A data set whose item k is the numbers that four frames of a video show."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 24

    def __getitem__(self, item: int) -> list[int]:
        return numbers_in(read_frames(self.path, [item, item + 100, item, 2 * item]))


def test_loader_workers_read_after_the_parent_did(video):
    """FFmpeg's threads and open files of the parent must not be needed, or in the way, in a forked worker."""
    assert numbers_in(read_frames(video, [150], threads=2)) == [150]
    with VideoReader(video) as still_open:
        assert numbers_in(still_open.read([5])) == [5]
        loader = DataLoader(Clips(video), batch_size=None, num_workers=2, timeout=60)
        assert list(loader) == [[k, k + 100, k, 2 * k] for k in range(24)]
        assert numbers_in(still_open.read([6])) == [6]
