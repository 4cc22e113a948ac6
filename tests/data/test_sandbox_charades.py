"""The rendered household activities: told by their context where a frame does not tell, laid out as Charades is."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.data.activities import localisation_labels, packaged_vocabulary, read_csv
from zoo.data.flow_files import decode_flow
from zoo.data.labels import class_names
from zoo.data.sandbox import datamodules
from zoo.data.sandbox.activities import CLASSES, FPS, INTENTS, KEYS, LASTING, OBJECTS, SCENES, SECONDS, TWINS, VERBS
from zoo.data.sandbox.activity_films import FADE, render
from zoo.data.sandbox.charades import (
    MAPPING,
    WIDTH,
    annotate,
    describe,
    flow_folder,
    motion,
    render_charades,
    scenario,
    video_path,
)
from zoo.data.sandbox.household import SIZE
from zoo.data.video import VideoReader
from zoo.errors import DataError
from zoo.spec import MomentSpec, VideoSpec

TRAIN, TEST = 3, 2
MOMENTS = MomentSpec(streams=("rgb", "flow"), points=5, share=1.0, jitter=0.0, lighting=0.0, area=(1.0, 1.0))
SPEC = VideoSpec(
    fps=24, crop=SIZE, short_side=(SIZE, SIZE), test_crop=SIZE, test_short_side=SIZE, clips=1, crops=1, flip=False,
    moments=MOMENTS,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return render_charades(tmp_path_factory.mktemp("charades") / "root", seed=5, train=TRAIN, test=TEST)


@pytest.fixture(scope="module")
def plans():
    return [describe(0, "train", index) for index in range(600)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root: Path, split: str) -> list[dict[str, str]]:
    with (root / "Charades" / f"Charades_v1_{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# What happens


def guessed(samples: list[tuple]) -> float:
    """How often the best guess of a twin from what is known of it is right: learnt on half, tested on the rest."""
    seen = defaultdict(Counter)
    for known, truth in samples[::2]:
        seen[known][truth] += 1
    rest = samples[1::2]
    return sum(bool(seen[known]) and seen[known].most_common(1)[0][0] == truth for known, truth in rest) / len(rest)


def twins(plans, look: str) -> list:
    """Each activity with a twin, and its video."""
    return [(act, plan) for plan in plans for episode in plan.episodes for act in episode if act.look == look]


def used(plan) -> frozenset[str]:
    """The things of a video that one frame tells."""
    return frozenset(act.thing for episode in plan.episodes for act in episode) & {*KEYS}


def sides(act, plan) -> tuple[bool, ...]:
    """Of each thing that one frame tells: whether it is used, before, and after an activity."""
    keys = [other for episode in plan.episodes for other in episode if other.thing in KEYS]
    return tuple(
        any(other.thing == key and (other.begin < act.begin) == before for other in keys)
        for key in KEYS
        for before in (True, False)
    )


@pytest.mark.parametrize("look", TWINS)
def test_the_rest_of_a_video_tells_what_no_frame_does(plans, look):
    found = twins(plans, look)
    assert len(found) > 250
    # All that a frame may show of it: what is done, for how long and how far; who does what besides; the room.
    alone = [((act.verb, round(act.stop - act.begin), bool(plan.laughs)), act.thing) for act, plan in found]
    assert 0.42 < guessed(alone) < 0.58
    assert 0.4 < guessed([(plan.room, act.thing) for act, plan in found]) < 0.6
    others = guessed([(used(plan), act.thing) for act, plan in found])
    order = guessed([(sides(act, plan), act.thing) for act, plan in found])
    if look == "cloth":
        assert others < 0.62
        assert guessed([(plan.intent, act.thing) for act, plan in found]) < 0.62
        assert order > 0.97
    else:
        assert others > 0.99


def test_twins_are_shared_by_intents_and_equally_frequent(plans):
    intents = defaultdict(set)
    for look, pair in TWINS.items():
        counts = Counter(act.thing for act, _ in twins(plans, look))
        assert min(counts.values()) > 0.85 * max(counts.values())
        for act, plan in twins(plans, look):
            intents[act.thing].add(plan.intent)
        assert set(counts) == set(pair)
        laughs = [[bool(plan.laughs) for act, plan in twins(plans, look) if act.thing == twin] for twin in pair]
        assert abs(np.mean(laughs[0]) - np.mean(laughs[1])) < 0.1
    assert all(len(found) >= 2 for found in intents.values())
    counts = Counter(plan.intent for plan in plans)
    assert counts.pop(None) == len(plans) // 20
    assert set(counts) == set(INTENTS)
    assert max(counts.values()) - min(counts.values()) <= 12


def test_a_twin_is_drawn_as_the_other_is_and_nothing_else_looks_at_the_intent():
    """Bit for bit: swap all twins of a video, and forget what it is about."""
    other = {twin: pair[1 - i] for pair in TWINS.values() for i, twin in enumerate(pair)}
    seen = set()
    for index in (3, 5, 9):
        item = describe(0, "test", index)
        swapped = tuple(
            tuple(dataclasses.replace(act, thing=other.get(act.thing, act.thing)) for act in episode)
            for episode in item.episodes
        )
        seen |= {act.look for episode in item.episodes for act in episode}
        assert swapped != item.episodes
        changed = dataclasses.replace(item, episodes=swapped, intent=None, name="XXXXX")
        assert np.array_equal(render(item)[0], render(changed)[0])
    assert seen >= set(TWINS)


def test_two_things_are_never_seen_at_once(plans):
    for plan in plans:
        for one, following in itertools.pairwise(plan.episodes):
            assert round(following[0].begin * FPS) - round(one[-1].stop * FPS) > 2 * FADE


def test_activities_and_their_times(plans):
    late = both = 0
    for plan in plans:
        assert SECONDS[0] - 0.05 <= plan.length <= SECONDS[1] + 0.05
        acts = plan.acts
        assert 3 <= len(acts) <= 6 if plan.intent else not acts
        for act in acts:
            assert LASTING[0] - 1e-6 <= act.stop - act.begin <= LASTING[1] + 1e-6
            assert abs(act.start - act.begin) <= 0.11
            assert 0 <= act.start < min(act.end, plan.length)
        late += any(act.end > plan.length for act in acts)
        both += any(one.end > following.start for one, following in itertools.pairwise(acts))
    assert 0.08 < late / len(plans) < 0.25
    assert both / len(plans) > 0.4
    names = {describe(0, split, index).name for split in ("train", "test") for index in range(600)}
    assert len(names) == 1200
    assert all(len(name) == 5 and name.isalnum() and name == name.upper() for name in names)
    assert describe(0, "test", 3) == describe(0, "test", 3) != describe(1, "test", 3)
    seen = Counter(act.label for plan in plans for act in plan.acts)
    assert set(seen) == set(range(len(CLASSES)))
    assert min(seen.values()) > 80


# What is drawn


def acts_of(seed: int, split: str, count: int, pair: tuple[str, str]):
    for index in range(count):
        item = describe(seed, split, index)
        for episode in item.episodes:
            for act in episode:
                if (act.look, act.verb) == pair:
                    yield item, act


def test_flow_is_where_things_go():
    """The next frame read there is the frame itself, where something moves, up to what comes out behind something."""
    frames, flow = render(describe(0, "train", 5), flow=True)
    assert flow.shape == (len(frames) - 1, SIZE, SIZE, 2)
    assert np.array_equal(frames, scenario("train", 5)[0])
    grey, (y, x) = frames.mean(-1), np.mgrid[:SIZE, :SIZE]
    followed, stayed = [], []
    for t in range(len(flow)):
        moving = np.abs(flow[t]).max(-1) > 0.4
        to_y, to_x = (np.clip(np.rint(at + flow[t, ..., i]), 0, SIZE - 1).astype(int) for at, i in ((y, 1), (x, 0)))
        followed.append(np.abs(grey[t + 1][to_y, to_x] - grey[t])[moving])
        stayed.append(np.abs(grey[t + 1] - grey[t])[moving])
    followed, stayed = np.concatenate(followed), np.concatenate(stayed)
    assert len(stayed) > 2000
    assert followed.mean() < 0.7 * stayed.mean()
    coded = motion("train", 5)
    inside = np.abs(flow * WIDTH / SIZE) < 19.5
    assert np.abs(decode_flow(coded) - flow * WIDTH / SIZE)[inside].max() < 0.08
    still = coded[:, :8].reshape(-1, 2)
    assert (still == 128).mean() > 0.99


def test_flow_tells_verbs_that_frames_share():
    """What is taken goes up, what is put goes down."""
    for verb, sign in (("take", 1), ("put", -1)):
        item, act = next(acts_of(0, "test", 30, ("vessel", verb)))
        flow = render(item, flow=True)[1]
        during = flow[round(act.begin * FPS) : round(act.stop * FPS)]
        upwards = -during[..., 1].sum((1, 2))
        assert sign * upwards.sum() > 20


def test_a_door_stays_as_its_verb_has_left_it():
    """So its last frames are the first ones of the other verb, and a frame in between may be of either."""
    item, act = next(acts_of(0, "train", 60, ("refrigerator", "open")))
    first, last = {}, {}
    for verb in ("open", "close"):
        one = dataclasses.replace(act, verb=verb)
        frames = render(dataclasses.replace(item, episodes=((one,),), laughs=()))[0].astype(int)
        first[verb], last[verb] = (frames[round(seconds * FPS)] for seconds in (act.begin, act.stop))
    for verb, other in (("open", "close"), ("close", "open")):
        unlike, alike = ((np.abs(last[verb] - image).max(-1) > 40).sum() for image in (first[verb], first[other]))
        assert alike < 5 < 40 < unlike


def test_videos_decode_to_what_was_drawn_and_memory_gives_the_same(root):
    for split, index in (("train", 1), ("test", 0)):
        item = describe(5, split, index)
        path = video_path(root, item)
        with VideoReader(path) as video:
            decoded, info = video.read(range(video.frames)), video.info
        frames, actions, length = scenario(split, index, seed=5)
        assert (info.fps, info.codec) == (FPS, "h264")
        assert frames.shape == decoded.shape == (item.frames, SIZE, SIZE, 3)
        assert np.abs(decoded.astype(int) - frames).mean() < 6
        assert path.stat().st_size < 150_000
        row = rows(root, split)[index]
        assert row["actions"] == ";".join(f"c{label:03d} {start:.2f} {end:.2f}" for label, start, end in actions)
        assert float(row["length"]) == length


# How it is laid out and annotated


def test_same_seed_same_bytes_in_whatever_order(root, tmp_path):
    whole = contents(root)
    render_charades(tmp_path / "again", seed=5, train=0, test=TEST)
    again = contents(render_charades(tmp_path / "again", seed=5, train=TRAIN, test=TEST))
    again.pop("sandbox.json")
    assert again == {name: data for name, data in whole.items() if name != "sandbox.json"}
    other = contents(render_charades(tmp_path / "other", seed=6, train=0, test=1))
    assert not {name for name in other if name.endswith(".mp4")} & set(whole)


def test_an_interrupted_render_is_finished_and_a_strangers_folder_refused(root, tmp_path):
    whole = contents(root)
    for name in [name for name in whole if name.endswith(".mp4")][1:]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole[name])
    state = {**json.loads(whole["sandbox.json"]), "complete": {}}
    (tmp_path / "sandbox.json").write_text(json.dumps(state, indent=1))
    assert contents(render_charades(tmp_path, seed=5, train=TRAIN, test=TEST)) == whole
    with pytest.raises(DataError, match="seed 5"):
        render_charades(root, seed=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(DataError, match="not a sandbox"):
        render_charades(tmp_path / "mine")


def test_official_layout(root):
    names = {row["id"] for split in ("train", "test") for row in rows(root, split)}
    assert {f"{name}.mp4" for name in names} == {path.name for path in (root / "Charades_v1_480").iterdir()}
    assert len(names) == TRAIN + TEST
    for split, count in (("train", TRAIN), ("test", TEST)):
        found = read_csv(root / "Charades" / f"Charades_v1_{split}.csv", datamodules.SandboxCharades.packaged)
        assert len(found.videos) == count
        assert not found.problems
        assert not found.remarks
        for index, (name, annotation) in enumerate(found.videos.items()):
            item = describe(5, split, index)
            assert name == item.name
            assert [tuple(action) for action in annotation.actions] == item.actions
    everything = " ".join(data.decode("utf-8", "ignore") for name, data in contents(root).items() if "mp4" not in name)
    assert not [intent for intent in INTENTS if intent in everything]


def test_rows_have_the_gaps_of_the_release(plans):
    table = io.StringIO(newline="")
    written = [annotate(plan) for plan in plans[:300]]
    csv.writer(table, lineterminator="\n").writerows(written)
    assert [tuple(row) for row in csv.reader(io.StringIO(table.getvalue(), newline=""))] == written
    scenes = Counter(row[2] for row in written)
    assert 8 <= scenes.pop("") <= 45
    assert set(scenes) == set(SCENES)
    assert sum(row[9] == "" for row in written) == 15
    assert any('"' in row[6] for row in written)
    for row, plan in zip(written, plans, strict=False):
        said = {thing.partition("/")[0] for thing in (act.thing for act in plan.acts) if thing != "None"}
        assert set(filter(None, row[7].split(";"))) == said
        assert all(word in row[6] for word in said)


def test_names(root):
    assert class_names("sandbox_charades") == tuple(CLASSES)
    assert len(set(CLASSES.values())) == len(CLASSES) == 16
    assert OBJECTS[0] == "None"
    data = zoo.datamodule("sandbox_charades", root=root, spec=SPEC)
    assert data.vocabulary == data.packaged
    assert data.classes == tuple(CLASSES)
    for (thing, verb), (number, other) in zip(CLASSES.values(), data.vocabulary.mapping, strict=True):
        assert (OBJECTS[number], VERBS[other]) == (thing, verb)


# Who reads it


def test_a_model_of_moments_sees_images_flow_and_labels(root, tmp_path):
    place = render_charades(tmp_path / "flow", seed=5, train=1, test=1, flow=True)
    data = zoo.datamodule("sandbox_charades", root=place, spec=SPEC, batch_size=4, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["rgb"].shape == (4, 3, SIZE, SIZE)
    assert batch["flow"].shape == (4, 20, SIZE, SIZE)
    frames, actions, _ = scenario("train", 0, seed=5)
    coded = motion("train", 0, seed=5)
    assert len(list(flow_folder(place, describe(5, "train", 0)).iterdir())) == 2 * len(coded)
    for i in range(4):
        time = int(batch["rgb_time"][i])
        assert np.abs(batch["rgb"][i].permute(1, 2, 0).numpy().astype(int) - frames[time - 1]).mean() < 6
        wanted = coded[time - 1 : time + 9].transpose(0, 3, 1, 2).reshape(20, SIZE, SIZE)
        assert np.abs(batch["flow"][i].numpy().astype(int) - wanted).mean() < 1
        on = {label for label, start, end in actions if start < (time - 1) / FPS < end}
        assert int(batch["label"][i]) in on
    (test,) = data.test_dataloader()
    item = describe(5, "test", 0)
    assert test["rgb"].shape == (MOMENTS.points, 3, SIZE, SIZE)
    assert {int(c) for c in test["label"][0].nonzero()[:, 0]} == {label for label, _, _ in item.actions}
    truth = localisation_labels(item.actions, round(item.length, 2), len(CLASSES))
    assert np.array_equal(test["moment_label"][0].numpy(), truth)
    assert zoo.datamodule("sandbox_charades", root=place).check().ok


def test_it_renders_itself_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(datamodules, "render_charades", lambda root, **options: asked.append((root, options)))
    zoo.datamodule("sandbox_charades", spec=SPEC).prepare_data()
    zoo.datamodule("sandbox_charades", spec=SPEC.replace(moments=MomentSpec())).prepare_data()
    (place, with_flow), (again, without) = asked
    assert place == again == tmp_path / "sandbox" / datamodules.SandboxCharades.folder
    assert with_flow == {"train": datamodules.CHARADES_TRAIN, "flow": True}
    assert without == {"train": datamodules.CHARADES_TRAIN, "flow": False}
    zoo.datamodule("sandbox_charades", root=tmp_path).prepare_data()  # a folder of one's own is left as it is
    assert len(asked) == 2


def test_the_packaged_lists_are_the_worlds():
    names = packaged_vocabulary("sandbox_charades")
    assert (names.classes, names.objects, names.verbs, names.scenes) == (tuple(CLASSES), OBJECTS, VERBS, SCENES)
    assert names.mapping == MAPPING
