"""The rendered mishaps: annotated by what happens, alike before and after it, laid out as Oops! is released."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.data.sandbox import datamodules, mishaps
from zoo.data.sandbox.cast import KINDS, THINGS
from zoo.data.sandbox.goals import CORRECTIONS, SYNONYMS, VOCABULARY
from zoo.data.sandbox.oops import JITTER, annotate_times, describe, render_oops, video_path
from zoo.data.sandbox.plots import FPS, FRAMES, MOMENTS
from zoo.data.sandbox.stage import HEIGHT, WIDTH, Look, Track, draw
from zoo.data.video import VideoReader
from zoo.errors import DataError
from zoo.spec import TrajectorySpec, VideoSpec

TRAIN, VAL = 20, 10
SPEC = VideoSpec(
    frames=8, stride=1, fps=8, crop=40, short_side=(44, 52), test_crop=40, test_short_side=48, clips=1, crops=1,
    flip=False, trajectory=TrajectorySpec(clips=(3, 5), step=2, stride=4, starts=4, cap=None),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return render_oops(tmp_path_factory.mktemp("oops") / "root", seed=5, train=TRAIN, val=VAL)


@pytest.fixture(scope="module")
def plots():
    return [describe(0, "train", index) for index in range(300)]


@pytest.fixture(scope="module")
def tracks(plots):
    return [plot.act() for plot in plots]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def told(root: Path, name: str):
    return json.loads((root / name).read_text("utf-8"))


def lines(root: Path, name: str) -> list[str]:
    return (root / "annotations" / f"{name}.txt").read_text("utf-8").splitlines()


# What happens


def fallen(track: Track, look: Look) -> np.ndarray:
    """The frames in which a thing falls near the floor and no hand is at it."""
    hand = np.stack(
        (track.x + track.facing * track.hand[:, 0] * look.scale, track.lift + track.hand[:, 1] * look.scale)
    )
    free = np.hypot(*(track.things[:, :, :2] - hand.T[:, None]).transpose(2, 0, 1)) > 1
    sinks = np.diff(track.things[:, :, 1], axis=0, prepend=track.things[:1, :, 1]) < -1.2
    return np.flatnonzero((free & sinks & (track.things[:, :, 1] < 7)).any(1))


def stumbled(track: Track, look: Look) -> np.ndarray:
    """The frames in which the figure lies that stood three frames before."""
    return 3 + np.flatnonzero((track.tilt[3:] > 1.5) & (track.tilt[:-3] == 0))


def passed(track: Track, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """The frames in which a thing comes down past the ring's height: within the ring, and beside it."""
    ring, height = look.hoop
    x, heights = track.things[:, 0, 0], track.things[:, 0, 1]
    down = 1 + np.flatnonzero((heights[:-1] > height) & (heights[1:] <= height))
    inside = np.abs(x[down] - ring) < 1
    return down[inside], down[~inside]


def events(plot, track: Track, look: Look) -> np.ndarray:
    """The frames in which something of the kind of the film's mishap is seen."""
    if plot.mishap == "miss":
        return passed(track, look)[1]
    if plot.mishap == "trip":
        return stumbled(track, look)
    falls = fallen(track, look)
    if look.hoop:  # what falls out of the net falls, too
        hits = passed(track, look)[0]
        falls = np.array([fall for fall in falls if not ((hits <= fall) & (fall < hits + 15)).any()], int)
    return falls


def test_what_is_annotated_is_what_happens_and_nothing_of_the_kind_happens_before(plots, tracks):
    seen = dict.fromkeys(("topple", "miss", "drop", "trip"), 0)
    harmless = 0
    for plot, (track, look) in zip(plots, tracks, strict=True):
        if plot.mishap is None:
            assert not len(fallen(track, look))
            assert not len(stumbled(track, look))
            continue
        if look.hoop:
            harmless += (passed(track, look)[0] < plot.frame).sum()
        found = events(plot, track, look)
        # The film may begin just after a throw has passed the ring, and what falls out of the net is seen still.
        assert not ((found < plot.frame - 3) & (found >= (15 if look.hoop else 0))).any(), plot
        seen[plot.mishap] += (found <= plot.frame + 3).any() or plot.frame + 3 >= plot.frames
    counts = {mishap: sum(plot.mishap == mishap for plot in plots) for mishap in seen}
    assert min(counts.values()) >= 35
    assert seen == counts
    assert harmless > 15


def seconds_of(plots, tracks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every second: what can be measured in it, its label and where in the film it is."""
    rows, labels, places = [], [], []
    for plot, (track, _) in zip(plots, tracks, strict=True):
        things = track.things[:, :, :2].reshape(len(track.x), -1)
        state = (track.x, track.lift, track.tilt, track.crouch, *track.hand.T, things.max(1), things[:, 1::2].max(1))
        values = np.stack((*state, things[:, 1::2].mean(1), np.abs(things[:, 0] - track.x)), 1)
        for start in range(0, plot.frames - FPS + 1, FPS):
            second = values[start : start + FPS]
            change = np.abs(np.diff(second, axis=0))
            rows.append(np.concatenate((second.mean(0), second.std(0), second.min(0), second.max(0), change.max(0))))
            labels.append(0 if start + FPS - 1 < plot.frame else 2 if start > plot.frame else 1)
            places.append((start + FPS / 2) / plot.frames)
    return np.array(rows), np.array(labels), np.array(places)


def told_apart(plots, tracks) -> float:
    """How well a linear classifier tells seconds before from seconds after in films that it has not seen, balanced."""
    scores = []
    for activity in mishaps.MISHAPS:
        chosen = [i for i, plot in enumerate(plots) if plot.activity == activity and plot.mishap]
        rows, labels, _ = seconds_of([plots[i] for i in chosen], [tracks[i] for i in chosen])
        rows = np.concatenate(((rows - rows.mean(0)) / (rows.std(0) + 1e-6), np.ones((len(rows), 1))), 1)
        known, sides, half = rows[labels != 1], labels[labels != 1] - 1.0, (labels != 1).sum() // 2
        fair = 1 / np.where(sides > 0, (sides[:half] > 0).mean(), (sides[:half] < 0).mean())[:half, None]
        fitted, wanted = (fair * known[:half]).T, sides[:half]
        weights = np.linalg.solve(fitted @ known[:half] + 20 * np.eye(known.shape[1]), fitted @ wanted)
        right = np.sign(known[half:] @ weights) == sides[half:]
        scores.append((right[sides[half:] > 0].mean() + right[sides[half:] < 0].mean()) / 2)
    return float(np.mean(scores))


def test_a_second_alone_hardly_tells_before_from_after(plots, tracks, monkeypatch):
    """Not by what is in it, even for one who knows where everything is, nor by where in the film it is.

    Just before a mishap somebody tries, just after it nobody does, and that is all that there is to be seen.
    """
    assert told_apart(plots, tracks) < 0.72
    failed = [i for i, plot in enumerate(plots) if plot.mishap]
    _, labels, places = seconds_of([plots[i] for i in failed], [tracks[i] for i in failed])
    parts = np.floor(places * 10)
    assert sum(np.bincount(labels[parts == part]).max() for part in set(parts)) / len(labels) < 0.7
    assert abs((labels == 0).mean() - (labels == 2).mean()) < 0.1
    # Did nobody try again, it would be another matter.
    for activity in mishaps._ACTIVITIES.values():
        original = activity.attempt
        monkeypatch.setattr(
            activity,
            "attempt",
            lambda self, mishap, original=original: (
                original(self, mishap) if self.play.moment < 0 else self.play.step(8)
            ),
        )
    assert told_apart(plots, [plot.act() for plot in plots]) > 0.85


def test_moments_are_spread_and_films_differ(plots):
    shares = np.array([plot.frame / plot.frames for plot in plots if plot.mishap])
    assert 0.1 < shares.min() < 0.16
    assert 0.86 < shares.max() < 0.92
    assert ((shares > MOMENTS[1][0][0]) & (shares < MOMENTS[1][0][1])).mean() > 0.08
    assert {plot.subject for plot in plots} == set(KINDS)
    assert {plot.thing for plot in plots} == set(THINGS)
    assert {plot.frames for plot in plots} <= set(range(FRAMES[0], FRAMES[1] + 1))
    assert len({plot.name for plot in plots}) == len(plots)
    for split in ("train", "val"):
        assert describe(0, split, 3) == describe(0, split, 3) != describe(1, split, 3)


# What is drawn


def standing(count: int, x: float, thing: float) -> Track:
    still, hand = np.zeros(count), np.tile((2.0, 6.0), (count, 1))
    things = np.tile((thing, 3.0, 0.0), (count, 1, 1))
    return Track(still + x, still, still + 1, still, still, hand, still, things)


@pytest.mark.parametrize("thing", THINGS)
def test_a_thing_is_seen_where_the_track_has_it(thing):
    look = Look(scale=1.0, floor=40.0)
    pictures = [draw(np.random.default_rng(1), standing(1, 10, x), look, "boy", thing)[0] for x in (30.0, 50.0)]
    change = np.abs(np.diff(np.array(pictures, int), axis=0)[0]).max(-1)
    rows, columns = np.nonzero(change > 40)
    assert rows.min() >= 30  # the camera drifts up to three pixels
    assert rows.max() <= 43
    wide = np.bincount(columns, minlength=WIDTH) > 0
    places = [
        np.flatnonzero(wide[: WIDTH // 2 + 8]).mean(),
        np.flatnonzero(wide[WIDTH // 2 + 8 :]).mean() + WIDTH // 2 + 8,
    ]
    mirrored = [WIDTH - 1 - 50, WIDTH - 1 - 30]
    assert np.abs(np.subtract(places, (30, 50))).max() < 4 or np.abs(np.subtract(places, mirrored)).max() < 4


def test_kinds_of_figure_have_looks_of_their_own():
    look = Look(scale=1.0, floor=40.0)
    pictures = [draw(np.random.default_rng(1), standing(1, 32, 5), look, kind, "ball")[0].astype(int) for kind in KINDS]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (np.abs(one - other).max(-1) > 50).sum() > 40


def test_videos_decode_to_what_was_drawn(root):
    for plot in (describe(5, "val", 0), describe(5, "val", 7)):
        path = video_path(root, plot)
        with VideoReader(path) as video:
            frames, info = video.read(range(video.frames)), video.info
        assert (info.fps, info.codec, info.duration) == (FPS, "h264", plot.duration)
        assert frames.shape == (plot.frames, HEIGHT, WIDTH, 3)
        assert np.abs(frames.astype(int) - plot.render()).mean() < 6
        assert path.stat().st_size < 40_000


# How it is laid out and annotated


def test_same_seed_same_bytes_in_whatever_order(root, tmp_path):
    whole = contents(root)
    render_oops(tmp_path / "again", seed=5, train=0, val=VAL)
    assert lines(tmp_path / "again", "filtered_vids") == sorted(lines(root, "val_filtered"))
    again = contents(render_oops(tmp_path / "again", seed=5, train=TRAIN, val=VAL))
    again.pop("sandbox.json")
    assert again == {name: data for name, data in whole.items() if name != "sandbox.json"}
    other = contents(render_oops(tmp_path / "other", seed=6, train=0, val=2))
    assert all(whole.get(name) != data for name, data in other.items() if name.endswith(".mp4"))


def test_an_interrupted_render_is_finished_and_a_strangers_folder_refused(root, tmp_path):
    whole = contents(root)
    videos = [name for name in whole if name.endswith(".mp4")]
    for name in videos[::2]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole[name])
    (tmp_path / "sandbox.json").write_text(json.dumps({**told(root, "sandbox.json"), "complete": {}}, indent=1))
    assert contents(render_oops(tmp_path, seed=5, train=TRAIN, val=VAL)) == whole
    with pytest.raises(DataError, match="seed 5"):
        render_oops(root, seed=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(DataError, match="not a sandbox"):
        render_oops(tmp_path / "mine")


def test_official_layout(root):
    times = told(root, "annotations/transition_times.json")
    names = {split: lines(root, split) for split in ("train", "val")}
    for split, count in (("train", TRAIN), ("val", VAL)):
        assert sorted(path.name for path in (root / "oops_video" / split).iterdir()) == sorted(
            f"{name}.mp4" for name in names[split]
        )
        assert len(set(names[split])) == count
    assert set(names["val"]) < set(times)
    assert len(set(names["train"]) & set(times)) == TRAIN // 2
    assert set(times) <= {*names["train"], *names["val"]}
    most_saw_none = {name for name, entry in times.items() if entry["n_notfound"] >= 2}
    assert len(most_saw_none) == 2  # one of each split
    filtered = [*lines(root, "train_filtered"), *lines(root, "val_filtered")]
    assert sorted(filtered) == lines(root, "filtered_vids") == sorted({*names["train"], *names["val"]} - most_saw_none)
    assert set(told(root, "annotations/heldout_transition_times.json")) == set(times) - most_saw_none
    for letter in "\"#&'%[.é":
        assert any(letter in name for name in names["val"])


def test_annotators_are_near_the_truth(root):
    times = told(root, "annotations/transition_times.json")
    fourth = told(root, "annotations/heldout_transition_times.json")
    for split, index in [*(("val", i) for i in range(VAL)), *(("train", i) for i in range(TRAIN // 2))]:
        plot = describe(5, split, index)
        entry = times[plot.name]
        assert len(entry["t"]) == len(entry["rel_t"]) == 3
        assert entry["len"] == plot.duration
        assert entry["n_notfound"] == entry["t"].count(-1)
        assert entry["stdev"] == pytest.approx(statistics.pstdev(entry["t"]))
        assert entry["rel_t"] == pytest.approx([t / entry["len"] for t in entry["t"]])
        if plot.moment is None:
            assert entry["n_notfound"] == 2
        else:
            assert abs(statistics.median(entry["t"]) - plot.moment) <= JITTER + 5e-4
            assert abs(fourth[plot.name]["t"][0] - plot.moment) <= JITTER + 5e-4
    missed = [annotate_times(describe(0, "val", i))["n_notfound"] for i in range(120)]
    assert 3 <= missed.count(1) <= 25


def test_goals_say_what_happens(root):
    words, corrections = told(root, "svos/vocab.json"), told(root, "svos/corrections.json")
    assert words == sorted(words) == VOCABULARY
    assert 28 <= len(words) <= 36
    assert words[0] == ""
    assert not set(corrections) & set(words)
    assert set(corrections.values()) <= set(words)
    meant = {**{word: {word} for word in words}, **{slip: {right} for slip, right in CORRECTIONS.items()}}
    for word, synonym in SYNONYMS.items():
        meant[synonym] = meant[synonym] | {word}
    said = told(root, "svos/val.json")
    assert len(said) == VAL
    used = set()
    for index in range(VAL):
        plot = describe(5, "val", index)
        annotators = said[plot.name.encode().decode("cp1252")]
        assert len(annotators) == 2
        for annotator in annotators:
            assert annotator["goal"]
            assert bool(annotator["wentwrong"]) == bool(plot.mishap)
            for key, truth in (("kgoalsvos", plot.goal), ("kwentwrongsvos", plot.wrong)):
                used.update(word for triple in annotator[key] for word in triple)
                if annotator[key]:
                    assert all(word in meant[heard] for word, heard in zip(truth, annotator[key][0], strict=True))
    assert used <= set(meant)
    assert {plot.goal[1] for plot in (describe(5, "val", i) for i in range(VAL))} == set(mishaps.MISHAPS)


# Who reads it


def test_the_datamodule_serves_it(root):
    data = zoo.datamodule("sandbox_oops", root=root, spec=SPEC, batch_size=4, num_workers=0, goals=True)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [sum(len(batch["index"]) for batch in batches)] == [VAL - 1]
    assert not any(batch["unreadable"] for batch in batches)
    kept = [plot for plot in (describe(5, "val", index) for index in range(VAL)) if plot.mishap]
    by_name = {record.name: number for number, record in enumerate(data.records("val"))}
    lengths, seen = {}, {}
    for batch in batches:
        clips = np.split(batch["label"].numpy(), np.cumsum(batch["lengths"].numpy())[:-1])
        seen.update(zip(batch["index"].tolist(), clips, strict=True))
        lengths.update(zip(batch["index"].tolist(), batch["lengths"].tolist(), strict=True))
        assert all(len(triples["intentional"]) for triples in batch["triples"])
    for plot in kept:
        labels = seen[by_name[plot.name]]
        assert (np.diff(labels) >= 0).all()
        assert set(labels) <= {0, 1, 2}
        assert lengths[by_name[plot.name]] == len(labels) >= 8
        assert abs((labels == 0).sum() / len(labels) - plot.frame / plot.frames) < 0.2
    unlabelled = {record.name for record in data.unlabelled()}
    assert unlabelled == {describe(5, "train", index).name for index in range(TRAIN // 2, TRAIN)}


def test_testing_renders_no_training_videos(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(datamodules, "render_oops", lambda root, **counts: calls.append((root, counts)))
    data = zoo.datamodule("sandbox_oops", spec=SPEC)
    data.render(training=False)
    data.prepare_data()
    assert [counts for _, counts in calls] == [{"train": 0}, {"train": datamodules.TRAIN}]
    assert {root for root, _ in calls} == {tmp_path / "sandbox" / datamodules.SandboxOops.folder}
