"""An index of clips: the nearest ones by a plain search, runs that are killed, and indexes of something else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.data.render import render
from zoo import clip_index
from zoo.clip_index import Index, state_hash
from zoo.data.video import VideoReader
from zoo.errors import DataError, VideoError, WeightsError, ZooError
from zoo.hub.weights import read_weights
from zoo.retrieval import build_index, retrieve


class Colours(nn.Module):
    """Clips of a second by what their pixels look like: sixteen blocks, projected; no training, any video."""

    name = "colours"

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.project = nn.Linear(16, 6, bias=False)
        self.seen: list[str] = []
        nn.init.normal_(self.project.weight, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def embed(self, video, stride: float = 1.0) -> SimpleNamespace:
        self.seen.append(str(video))
        with VideoReader(video) as reader:
            fps = round(reader.info.fps)
            starts = range(0, reader.frames - fps + 1, round(stride * fps))
            pixels = torch.from_numpy(reader.read(range(reader.frames), size=(4, 4))).float().mean(3).flatten(1) / 255
        phi = torch.stack([pixels[start : start + fps].mean(0) - 0.5 for start in starts])
        h = self.project(phi)
        times = torch.tensor([[start, start + fps - 1] for start in starts], dtype=torch.float64) / fps
        return SimpleNamespace(times=times, phi=phi, h=h, logits=h[:, :3])

    def autocorrect(self, video) -> SimpleNamespace:
        found = self.embed(video)
        wrong = torch.arange(len(found.h)) > 0
        return SimpleNamespace(
            times=found.times, before=found.h, after=torch.where(wrong[:, None], -found.h, found.h), wrong=wrong
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven videos of two to four seconds, all different, and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")

    def picture(shift):
        def draw(number, height, width):
            dice = np.random.default_rng((shift, number // 10))
            blocks = dice.integers(0, 256, (4, 4, 1), dtype=np.uint8)
            return np.kron(np.repeat(blocks, 3, 2), np.ones((height // 4, width // 4, 1), np.uint8))

        return draw

    made = [render(folder / f"clip {n}.mp4", frames=20 + 10 * (n % 3), fps=10, picture=picture(n)) for n in range(7)]
    (folder / "broken.mp4").write_bytes(b"no video")
    return [*made[:3], folder / "broken.mp4", *made[3:]]


@pytest.fixture
def index(files, tmp_path):
    return build_index(Colours(), {"toys": files[:5], "games": files[5:]}, tmp_path / "index", shard=3)


def plain_search(model, files, query, k, space="h", but=None):
    """(file name, number of its clip, cosine) of the k nearest clips, one a video, written as it is thought of."""
    found = []
    for path in files:
        if path.name in ("broken.mp4", but):
            continue
        vectors = getattr(model.embed(path), space)
        cosines = [float(torch.cosine_similarity(vector, query, dim=0)) for vector in vectors]
        found.append((path.name, int(np.argmax(cosines)), max(cosines)))
    return sorted(found, key=lambda entry: -entry[2])[:k]


@pytest.mark.parametrize("rows", [16384, 4], ids=["in one block", "in blocks of a video"])
@pytest.mark.parametrize("space", ["h", "phi"])
def test_the_nearest_clips_are_those_of_a_plain_search(index, files, space, rows, monkeypatch):
    monkeypatch.setattr(clip_index, "_ROWS", rows)
    model = Colours()
    query = getattr(model.embed(files[1]), space)
    for number, hits in enumerate(index.search(query, space, k=4, exclude=files[1])):
        expected = plain_search(model, files, query[number], 4, space, but=files[1].name)
        assert [(hit.name, round(hit.start)) for hit in hits] == [(name, second) for name, second, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for *_, score in expected], abs=2e-3)
        assert {hit.source for hit in hits} <= {"toys", "games"}
        assert all(hit.end == pytest.approx(hit.start + 0.9) for hit in hits)


def test_a_video_is_found_again_and_left_out_on_demand(index, files, monkeypatch):
    query = Colours().embed(files[6]).h
    for number, hits in enumerate(index.search(query, k=100)):
        assert (hits[0].name, hits[0].start) == (files[6].name, number)
        assert hits[0].score == pytest.approx(1, abs=1e-4)
        assert hits[0].path == str(files[6])
        assert len(hits) == 7, "one a video"
    for name in (files[6], files[6].name, f"/elsewhere/{files[6].name}"):
        assert all(hit.path != str(files[6]) for hits in index.search(query, k=100, exclude=name) for hit in hits)
    monkeypatch.setattr(clip_index, "_QUERIES", 1)
    every = index.search(query, k=100, one_per_video=False)
    assert [len(hits) for hits in every] == [len(index)] * len(query)
    assert every[0] == sorted(every[0], key=lambda hit: -hit.score)


def test_what_cannot_be_read_is_listed_and_the_rest_is_there(index, files):
    assert [(source, name) for source, name, _ in index.unreadable] == [("toys", "broken.mp4")]
    assert "broken.mp4" in index.unreadable[0][2]
    assert [video.name for video in index.videos] == [path.name for path in files if path.name != "broken.mp4"]
    assert len(index) == sum(len(Colours().embed(path).h) for path in files if path.name != "broken.mp4")
    assert index.vectors("phi").shape == (len(index), 16)
    torch.testing.assert_close(index.vectors("h").float().norm(dim=1), torch.ones(len(index)), atol=1e-3, rtol=0)
    torch.testing.assert_close(index.logits[:2], Colours().embed(files[0]).logits)


def test_a_killed_run_goes_on_and_gives_the_same(index, files, tmp_path):
    class Killed(Colours):
        def embed(self, video, stride=1.0):
            if len(self.seen) == 4:
                raise KeyboardInterrupt
            return super().embed(video, stride)

    sources, out = {"toys": files[:5], "games": files[5:]}, tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        build_index(Killed(), sources, out, shard=3)
    left = {path.name for path in out.iterdir()} - {".lock"}
    assert left == {"index.json", "00000.safetensors"}
    with pytest.raises(ZooError, match=r"is not finished: 00001\.safetensors is missing"):
        Index.open(out)
    model, told = Colours(), []
    build_index(model, sources, out, shard=3, progress=lambda *numbers: told.append(numbers))
    assert model.seen == [str(path) for path in files[3:]], "only what was missing"
    assert told[0] == (3, 8)
    assert told[-1] == (8, 8)
    for path in sorted((tmp_path / "index").glob("*.safetensors")):
        (one, about_one), (other, about_other) = read_weights(path), read_weights(out / path.name)
        assert about_one == about_other
        assert all(torch.equal(one[name], other[name]) for name in one | other)
    again = Colours()
    build_index(again, sources, out, shard=3)
    assert again.seen == []


def test_a_damaged_file_is_noticed_and_written_again(index, files):
    path = index.folder / "00001.safetensors"
    data = bytearray(path.read_bytes())
    whole = {name: value.clone() for name, value in read_weights(path)[0].items()}  # off the file, which changes
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="do not match its seal"):
        Index.open(index.folder)
    build_index(Colours(), {"toys": files[:5], "games": files[5:]}, index.folder, shard=3)
    assert all(torch.equal(value, whole[name]) for name, value in read_weights(path)[0].items())


def test_an_index_of_something_else_is_refused(index, files):
    sources = {"toys": files[:5], "games": files[5:]}
    assert Index.open(index.folder, Colours()).about["state"] == state_hash(Colours())
    with pytest.raises(ZooError, match="was built of other weights"):
        Index.open(index.folder, Colours(seed=1))
    with pytest.raises(ZooError, match="was built of other weights"):
        retrieve(Colours(seed=1), files[0], index)
    other = Colours()
    other.name = "shapes"
    with pytest.raises(ZooError, match="of the model colours, not shapes"):
        Index.open(index.folder, other)
    with pytest.raises(ZooError, match=r"with a clip every 1\.0 s, not 0\.5 s"):
        build_index(Colours(), sources, index.folder, 0.5, shard=3)
    with pytest.raises(ZooError, match="of another list of videos"):
        build_index(Colours(), {"toys": files}, index.folder, shard=3)
    with pytest.raises(ZooError, match="no index in"):
        Index.open(index.folder.parent)


def test_wrong_questions_are_answered_in_words(index, files, tmp_path):
    with pytest.raises(ZooError, match=r"the query has 5 numbers a clip, h of .* 6"):
        index.search(torch.zeros(1, 5))
    with pytest.raises(ZooError, match="NaN"):
        index.search(torch.full((1, 6), torch.nan))
    with pytest.raises(ZooError, match="'h' and 'phi', not 'g'"):
        index.search(torch.zeros(1, 6), "g")
    with pytest.raises(ZooError, match="k=0"):
        index.search(torch.zeros(1, 6), k=0)
    with pytest.raises(ZooError, match="Linear embeds no videos"):
        build_index(nn.Linear(2, 2), {"toys": files}, tmp_path / "x")
    with pytest.raises(DataError, match="twice"):
        build_index(Colours(), {"toys": [files[0], files[0]]}, tmp_path / "x")
    with pytest.raises(DataError, match="no video to index"):
        build_index(Colours(), {"toys": []}, tmp_path / "x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ZooError, match="not a usable folder"):
        build_index(Colours(), {"toys": files}, tmp_path / "file")


def test_an_index_of_nothing_readable_is_empty(files, tmp_path):
    index = build_index(Colours(), {"toys": [files[3]]}, tmp_path / "empty")
    assert (len(index), len(index.unreadable)) == (0, 1)
    assert index.search(torch.ones(2, 6)) == [[], []]


def test_clips_of_a_video_before_and_after_it_was_corrected(index, files):
    rows = retrieve(Colours(), files[1], index, k=2)
    assert [row.start for row in rows] == [0, 1, 2]
    assert [row.wrong for row in rows] == [False, True, True]
    assert rows[0].before == rows[0].after
    h = Colours().embed(files[1]).h
    for number in (1, 2):
        before, after = index.search(torch.stack([h[number], -h[number]]), k=2, exclude=files[1])
        assert [(hit.name, hit.start) for hit in rows[number].before] == [(hit.name, hit.start) for hit in before]
        assert [(hit.name, hit.start) for hit in rows[number].after] == [(hit.name, hit.start) for hit in after]
    with pytest.raises(VideoError):
        retrieve(Colours(), files[3], index)


@pytest.mark.slow
def test_the_zoos_own_model_and_a_datamodule(kinetics_root, tmp_path):
    torch.manual_seed(0)
    model = zoo.create("goal_trajectory_tiny").eval()
    data = zoo.datamodule("sandbox_kinetics", root=kinetics_root)
    index = build_index(model, {"kinetics": data}, tmp_path / "index")
    assert [video.name for video in index.videos] == [record.name for record in data.records("val")]
    record = data.records("val")[2]
    rows = retrieve(model, record.path, index, k=3)
    assert len(rows) == int((index.owner == 2).sum())
    h = model.embed(record.path).h
    torch.testing.assert_close(
        index.vectors("h")[index.owner == 2].float(), nn.functional.normalize(h, dim=1), atol=1e-3, rtol=0
    )
    assert all(hit.path != str(record.path) for row in rows for hit in (*row.before, *row.after))
    assert all(len(row.before) == len(row.after) == 3 for row in rows)
