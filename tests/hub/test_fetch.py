"""From a name to a verified file: one download, whole or not at all, pinned, converted once; and what goes wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.hub import tiny
from tests.hub.caffe2_file import caffe2_pickle
from tests.hub_server import HubServer, Plain
from zoo.errors import FetchError, WeightsError
from zoo.files import cache_root
from zoo.hub.download import download
from zoo.hub.fetch import local_weights, upstream_path
from zoo.hub.manifest import Bundled
from zoo.hub.weights import read_weights

PATH = "/release/tiny.pkl"
DATA = caffe2_pickle(tiny.blobs())
SHA256 = hashlib.sha256(DATA).hexdigest()


def files(folder: Path) -> set[str]:
    """Everything under a folder but the locks."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def original() -> Path:
    return upstream_path(tiny.checkpoint().source, cache_root())


def get(**changes) -> Path:
    return local_weights(tiny.checkpoint(**changes), tiny.convert)


# --- How it should go.


def test_published_file_is_fetched_pinned_converted_and_loaded(online):
    online.plain[PATH] = Plain(DATA)
    path = get()
    state, metadata = read_weights(path)
    assert {k: v.tolist() for k, v in state.items()} == {k: v.tolist() for k, v in tiny.expected().items()}
    assert metadata["source_sha256"] == SHA256
    assert metadata["source"] == tiny.URL
    assert metadata["source_format"] == "caffe2"
    assert original() == cache_root() / "upstream/weights.example.org/release/tiny.pkl"
    assert original().with_name("tiny.pkl.sha256").read_text() == f"{SHA256}  tiny.pkl\n"
    assert files(cache_root()) == {
        "upstream/weights.example.org/release/tiny.pkl",
        "upstream/weights.example.org/release/tiny.pkl.sha256",
        f"converted/tiny.toys_4x1-{SHA256[:12]}-v1.safetensors",
    }


def test_the_second_time_needs_no_network_and_no_conversion(online, monkeypatch):
    online.plain[PATH] = Plain(DATA)
    first = get()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def never(state):
        raise AssertionError("converted again")

    assert local_weights(tiny.checkpoint(), never) == first
    assert len(online.gets(PATH)) == 1
    again = local_weights(tiny.checkpoint(), tiny.convert, version="2")  # a new converter starts from the kept original
    assert again != first
    assert len(online.gets(PATH)) == 1


def test_what_a_killed_conversion_left_is_cleared_away(online):
    online.plain[PATH] = Plain(DATA)
    path = get()
    path.rename(path.with_name(f".{path.name}.123-abcdef01.tmp"))
    assert get() == path
    assert os.listdir(path.parent) == [path.name]


def test_a_file_put_there_by_hand_is_used_and_pinned():
    original().parent.mkdir(parents=True)
    original().write_bytes(DATA)
    state, _ = read_weights(get())
    assert set(state) == set(tiny.expected())
    assert original().with_name("tiny.pkl.sha256").exists()


def test_two_processes_at_once_share_one_download(hub, elsewhere, tmp_path):
    hub.plain[PATH] = Plain(DATA + bytes(1 << 20), pause=0.05)  # what follows the end of a pickle is not read
    futures = [elsewhere.submit(tiny.fetch, hub.url, tmp_path / "cache") for _ in range(2)]
    one, two = (future.result(timeout=60) for future in futures)
    assert one == two == {name: value.tolist() for name, value in tiny.expected().items()}
    assert len(hub.gets(PATH)) == 1


def test_bundled_weights_are_checked_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.hub.fetch.resource", lambda relative: tmp_path / relative)
    (tmp_path / "x.safetensors").write_bytes(b"content")
    right = hashlib.sha256(b"content").hexdigest()
    assert get(source=Bundled("x.safetensors"), sha256=right) == tmp_path / "x.safetensors"
    (tmp_path / "x.safetensors").write_bytes(b"cOntent")
    with pytest.raises(WeightsError, match="the manifest has"):
        get(source=Bundled("x.safetensors"), sha256=right)


# --- Downloads that break off.


def killed(process, part_folder: Path) -> Path:
    """Kills a process as soon as it has begun to write a part; returns the part."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        parts = [p for p in part_folder.glob("*.part") if p.stat().st_size]
        if parts:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return parts[0]
        time.sleep(0.01)
    raise AssertionError("the download never began")


@pytest.mark.parametrize("etag", ['"v1"', None], ids=["resumable", "not resumable"])
def test_a_killed_download_leaves_no_file_and_the_next_one_succeeds(online, processes, etag):
    online.plain[PATH] = Plain(DATA + bytes(1 << 21), etag, pause=0.1)
    process = processes.Process(target=tiny.fetch, args=(online.url, cache_root()))
    process.start()
    part = killed(process, original().parent)
    assert not original().exists()
    had = part.stat().st_size
    online.plain[PATH].pause = 0
    state, metadata = read_weights(get())
    assert set(state) == set(tiny.expected())
    assert metadata["source_sha256"] == hashlib.sha256(online.plain[PATH].data).hexdigest()
    assert online.gets(PATH)[1:] == ([f"bytes={had}-"] if etag else [""])
    assert not list(original().parent.glob("*.part"))


def test_a_cut_connection_is_taken_up_where_it_broke(online):
    online.plain[PATH] = Plain(DATA, faults=["cut", "stall"])
    get()
    half, rest = len(DATA) // 2, len(DATA) - len(DATA) // 2
    assert online.gets(PATH) == ["", f"bytes={half}-", f"bytes={half + rest // 2}-"]
    assert original().read_bytes() == DATA


def test_a_server_without_ranges_is_asked_for_the_whole_again(online):
    online.plain[PATH] = Plain(DATA, etag=None, ranges=False, faults=["cut"])
    get()
    assert online.gets(PATH) == ["", ""]
    assert original().read_bytes() == DATA


def test_a_part_of_another_version_is_thrown_away(online):
    online.plain[PATH] = Plain(DATA)
    original().parent.mkdir(parents=True)
    original().with_name("tiny.pkl.%22v0%22.part").write_bytes(b"what the server had last year")
    get()
    assert original().read_bytes() == DATA
    assert not list(original().parent.glob("*.part"))


def test_a_part_that_is_whole_already_costs_one_more_question(online):
    online.plain[PATH] = Plain(DATA)
    original().parent.mkdir(parents=True)
    original().with_name("tiny.pkl.%22v1%22.part").write_bytes(DATA)
    get()
    assert original().read_bytes() == DATA


@pytest.mark.parametrize("etag", ['"v1"', None], ids=["resumable", "not resumable"])
def test_a_download_that_stays_cut_is_an_error_that_says_so(online, etag):
    online.plain[PATH] = Plain(DATA, etag, faults=["cut"] * 3)
    with pytest.raises(FetchError, match=r"cut off after \d+ of \d+ bytes \(3 attempts\)") as error:
        get()
    assert ("goes on where it stopped" in str(error.value)) == bool(etag)
    assert [name for name in files(cache_root()) if not name.endswith(".part")] == []
    assert bool(files(cache_root())) == bool(etag)
    get()
    assert original().read_bytes() == DATA


def test_a_passing_server_error_is_tried_again_a_lasting_one_is_not(online):
    online.plain[PATH] = Plain(DATA, faults=["503"])
    get()
    assert len(online.gets(PATH)) == 2
    shutil.rmtree(cache_root())
    online.plain[PATH].faults = ["404"]
    with pytest.raises(FetchError, match="answers 404"):
        get()
    assert len(online.gets(PATH)) == 3


# --- Files that are not the published ones.


def test_a_byte_flipped_on_the_way_is_noticed_against_the_manifest(online):
    online.plain[PATH] = Plain(DATA, faults=["flip"])
    with pytest.raises(WeightsError, match=f"the manifest has {SHA256}"):
        get(sha256=SHA256)
    assert files(cache_root()) == set()
    assert get(sha256=SHA256).exists()


def test_the_first_download_is_what_later_ones_must_match(online):
    online.plain[PATH] = Plain(DATA)
    get()
    original().unlink()
    shutil.rmtree(cache_root() / "converted")
    online.plain[PATH].data = caffe2_pickle({**tiny.blobs(), "model_iter": 1})
    with pytest.raises(WeightsError, match=f"the first download, which is pinned beside it, had {SHA256}"):
        get()
    assert files(cache_root()) == {"upstream/weights.example.org/release/tiny.pkl.sha256"}


def test_the_digits_in_a_published_file_name_are_checked(online):
    online.plain[PATH] = Plain(DATA)
    with pytest.raises(WeightsError, match=r"its publisher says 01234567\.\.\."):
        get(sha256_prefix="01234567")
    assert files(cache_root()) == set()
    assert get(sha256_prefix=SHA256[:8]).exists()


def test_a_file_of_another_size_or_kind_is_not_kept(online):
    online.plain[PATH] = Plain(DATA, faults=["", "page"])
    with pytest.raises(FetchError, match=f"has {len(DATA)} bytes, the published one {len(DATA) + 1}"):
        get(bytes=len(DATA) + 1)
    with pytest.raises(WeightsError, match="a web page"):
        get()
    online.plain[PATH].data = DATA[:-9]  # what a publisher's own broken upload looks like: all bytes come, too few
    with pytest.raises(WeightsError, match="a damaged Caffe2 pickle"):
        get()
    online.plain[PATH].data = b"PK\x03\x04" + DATA
    with pytest.raises(WeightsError, match="cut off"):
        get()
    assert files(cache_root()) == set()


def test_a_flipped_byte_in_the_cached_conversion_is_noticed(online):
    online.plain[PATH] = Plain(DATA)
    path = get()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="do not match its seal"):
        read_weights(get())


# --- No network, no place.


def test_offline_without_the_file_says_what_was_tried_and_what_helps(online, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("ZOO_MIRROR")
    with pytest.raises(FetchError) as error:
        get()
    for part in (
        "cannot fetch tiny.toys_4x1: HF_HUB_OFFLINE forbids the network",
        f"tried: {tiny.URL}",
        f"not in the cache either: {original()}",
        "ZOO_MIRROR",
        f"download by hand of {tiny.URL} to {original()}",
        "zoo.load('tiny', weights=PATH)",
    ):
        assert part in str(error.value)
    assert online.requests == []


def test_a_dead_server_says_so(online, monkeypatch):
    monkeypatch.setenv("ZOO_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"no connection .*refused.*\(3 attempts\)"):
        get()
    monkeypatch.setenv("ZOO_MIRROR", "file:///etc")
    with pytest.raises(FetchError, match="must be an http"):
        get()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_only_web_addresses_are_opened(tmp_path, url, online):
    with pytest.raises(FetchError, match="unknown url type"):
        download(url, tmp_path / "x", lambda path, digest: None)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_named_and_nothing_is_left(online, elsewhere):
    online.plain[PATH] = Plain(DATA + bytes(1 << 20))
    with pytest.raises(FetchError, match=r"disk or quota is full .*MiB free.*ZOO_CACHE"):
        elsewhere.submit(tiny.fetch_with_limit, online.url, cache_root(), 1 << 17).result(timeout=60)
    assert files(cache_root()) == set()
    target = cache_root() / "x.safetensors"
    with pytest.raises(FetchError, match="disk or quota is full"):
        elsewhere.submit(tiny.save_with_limit, target, 1000).result(timeout=60)
    assert files(cache_root()) == set()


def test_a_device_without_space_is_named(online):
    online.plain[PATH] = Plain(DATA, etag=None)
    original().parent.mkdir(parents=True)
    original().with_name("tiny.pkl.part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match="No space left on device"):
        get()
    assert files(cache_root()) == set()


@pytest.fixture
def readable_by_all():
    """A folder that other users can look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_read_only_cache_is_named_when_empty_and_serves_when_full(online, elsewhere, readable_by_all):
    cache = readable_by_all / "cache"
    cache.mkdir(mode=0o555)
    online.plain[PATH] = Plain(DATA)
    with pytest.raises(FetchError, match=r"may not be written to: .*set ZOO_CACHE") as error:
        elsewhere.submit(tiny.fetch_as_nobody, online.url, cache).result(timeout=60)
    assert str(cache) in str(error.value)
    assert online.requests == []
    cache.chmod(0o755)
    local_weights(tiny.checkpoint(), tiny.convert, cache=cache)
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    elsewhere.submit(tiny.fetch_as_nobody, online.url, cache).result(timeout=60)
    assert len(online.gets(PATH)) == 1
    for path in [cache, *cache.rglob("*")]:
        path.chmod(0o755)


def test_a_path_in_a_url_cannot_leave_the_cache(tmp_path):
    source = tiny.checkpoint().source
    for path in ("/../../x.pkl", "/a/../../../x.pkl", "//x.pkl"):
        place = upstream_path(type(source)(f"https://weights.example.org{path}", "caffe2"), tmp_path)
        assert place.resolve().is_relative_to(tmp_path / "upstream" / "weights.example.org")


def test_the_server_itself_serves_ranges_rightly(hub: HubServer):
    """The faults above mean nothing if the server's good answers are wrong."""
    import urllib.request

    hub.plain["/x"] = Plain(b"0123456789")
    request = urllib.request.Request(f"{hub.url}/x", headers={"Range": "bytes=4-", "If-Range": '"v1"'})
    with urllib.request.urlopen(request) as response:
        assert response.status == 206
        assert response.read() == b"456789"
