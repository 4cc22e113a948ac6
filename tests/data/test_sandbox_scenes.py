"""The rendered scenes: what is said about them is what is seen, and they lie on disk as the official releases do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.io
import torch

import zoo
from zoo.data.masks import read_mask
from zoo.data.sandbox import correspondence, scenes
from zoo.data.sandbox.correspondence import FRAMES, render_davis, render_jhmdb, render_vip, render_vlog
from zoo.data.sandbox.scenes import HEIGHT, WIDTH, render
from zoo.errors import DataError

RENDERERS = {"vlog": render_vlog, "davis": render_davis, "jhmdb": render_jhmdb, "vip": render_vip}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """One video of each set, rendered once."""
    base = tmp_path_factory.mktemp("scenes")
    return {name: function(base / name, 3, 1) for name, function in RENDERERS.items()}


def contents(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RENDERERS)
def test_same_seed_same_bytes_and_another_seed_another_set(roots, tmp_path, name):
    assert contents(RENDERERS[name](tmp_path / "again", 3, 1)) == contents(roots[name])
    other, lists = contents(RENDERERS[name](tmp_path / "other", 4, 1)), (".txt", "json")
    pictures = {file: data for file, data in contents(roots[name]).items() if not file.endswith(lists)}
    assert pictures
    assert all(other.get(file) != data for file, data in pictures.items())


def test_an_interrupted_render_is_finished(roots, tmp_path):
    whole = contents(roots["davis"])
    for file in list(whole)[:20]:
        if file != "sandbox.json":
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(whole[file])
    (tmp_path / "sandbox.json").write_text(json.dumps({**json.loads(whole["sandbox.json"]), "complete": {}}, indent=1))
    last = tmp_path / f"Annotations/480p/scene-00/{FRAMES - 1:05d}.png"
    last.unlink(missing_ok=True)
    assert contents(render_davis(tmp_path, 3, 1)) == whole


def test_another_recipe_and_a_strangers_folder_are_refused(roots, tmp_path):
    with pytest.raises(DataError, match="seed 3"):
        render_davis(roots["davis"], 5, 1)
    with pytest.raises(DataError, match="1 val videos"):
        render_davis(roots["davis"], 3, 2)
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="not a sandbox"):
        render_vip(tmp_path)
    assert contents(tmp_path) == {"holiday.jpg": b"mine"}


@pytest.mark.parametrize("kind", [scenes.Blob, scenes.Figure])
def test_a_bodys_map_to_the_screen_is_undone_by_its_inverse(kind):
    body = kind(np.random.default_rng(0), np.random.default_rng(1).uniform(0, 255, (4, 3)), 9)
    points = np.random.default_rng(2).uniform(-30, 30, (50, 2))
    for t in (0, 4, 8):
        screen = body.motion.to_screen(t, points)
        assert np.hypot(*(screen - body.motion.centre[t]).T).max() > 20
        np.testing.assert_allclose(np.stack(body.motion.to_own(t, *screen.T), -1), points, atol=1e-9)


def test_a_blob_carries_its_texture_along_and_the_mask_is_where_it_is(monkeypatch):
    """Without light, blur and noise, a blob's pixels are its texture read at its own coordinates."""
    monkeypatch.setattr(scenes, "_light", lambda rng, frames: lambda t, x, y: np.ones((HEIGHT, WIDTH, 1)))
    monkeypatch.setattr(scenes, "_blur", lambda picture: picture)
    bodies = []
    real = scenes.Blob.__init__

    def remembered(self, *arguments):
        real(self, *arguments)
        bodies.append(self)

    monkeypatch.setattr(scenes.Blob, "__init__", remembered)
    scene = render((0,), 12, blobs=1)
    (blob,) = bodies
    areas = [(scene.objects[t] == 1).sum() for t in range(12)]
    assert min(areas) > 300
    for t in (0, 11):
        rows, columns = np.nonzero(scene.objects[t] == 1)
        u, v = blob.motion.to_own(t, columns, rows)
        deep = np.hypot(u, v) < 0.4 * blob.radius  # away from the darker rim
        assert deep.sum() > 50
        expected = blob.texture.read(u[deep], v[deep])
        error = scene.frames[t][rows[deep], columns[deep]] - expected
        inside = (expected > 12) & (expected < 243)  # noise is not cut off there
        assert abs(error[inside].mean()) < 0.5
        assert error[inside].std() < 4  # the noise has 3
        # The mask is everything that differs from the picture without the blob.
    moved = np.logical_and(scene.objects[0] == 1, scene.objects[11] == 1).sum()
    assert moved < 0.5 * min(areas)  # it went somewhere else


def test_joints_lie_on_their_figure():
    scene = render((1, 0), 10, figures=1)
    assert scene.joints.shape == (1, 10, 15, 2)
    on = total = 0
    for t in range(10):
        for x, y in np.rint(scene.joints[0, t]).astype(int):
            if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                total += 1
                on += scene.objects[t, y, x] == 1
    assert total > 100
    assert on == total  # nothing passes before it
    assert set(np.unique(scene.parts)) <= {0, 2, 5, 9, 13, 14, 15, 16, 17, 18, 19}
    head = np.rint(scene.joints[0, 0, 2]).astype(int)
    assert scene.parts[0, head[1], head[0]] in (2, 13)  # hair or face


def test_nothing_stays_where_it_was():
    """Labels that stay put must be a poor guess, or the sets test nothing."""
    overlaps = []
    for index in range(4):
        objects = correspondence.sequence_scene("davis", 0, index).objects
        for number in range(1, int(objects.max()) + 1):
            first, last = objects[0] == number, objects[-1] == number
            assert first.sum() >= correspondence.VISIBLE
            overlaps.append((first & last).sum() / max((first | last).sum(), 1))
    assert np.mean(overlaps) < 0.2


def test_davis_layout(roots):
    data = zoo.datamodule("sandbox_davis", root=roots["davis"], num_workers=0, batch_size=FRAMES)
    data.setup("test")
    (batch,) = data.test_dataloader()
    scene = correspondence.sequence_scene("davis", 3, 0)
    assert (batch["name"], batch["length"], batch["unreadable"]) == ("scene-00", FRAMES, [])
    assert np.abs(batch["frames"].permute(0, 2, 3, 1).numpy() - scene.frames.astype(float)).mean() < 4  # JPEG
    for t, truth in enumerate(batch["truth"]):
        assert np.array_equal(truth["mask"].numpy(), scene.objects[t])
    assert (roots["davis"] / "ImageSets/2017/val.txt").read_text() == "scene-00\n"
    assert np.array_equal(read_mask(roots["davis"] / "Annotations/480p/scene-00/00000.png"), scene.objects[0])


def test_jhmdb_layout(roots):
    data = zoo.datamodule("sandbox_jhmdb", root=roots["jhmdb"], num_workers=0, batch_size=FRAMES)
    data.setup("test")
    (batch,) = data.test_dataloader()
    scene = correspondence.sequence_scene("jhmdb", 3, 0)
    assert np.array_equal(batch["frames"].permute(0, 2, 3, 1).numpy(), scene.frames)
    for t, truth in enumerate(batch["truth"]):
        np.testing.assert_allclose(truth["keypoints"].numpy(), scene.joints[0, t], atol=1e-4)
    stored = scipy.io.loadmat(roots["jhmdb"] / "joint_positions" / batch["name"] / "joint_positions.mat")
    assert stored["pos_img"].shape == stored["pos_world"].shape == (2, 15, FRAMES)
    assert (roots["jhmdb"] / "splits/jump_test_split1.txt").read_text() == "figure_00.avi 2\n"


def test_vip_layout(roots):
    data = zoo.datamodule("sandbox_vip", root=roots["vip"], num_workers=0, batch_size=FRAMES)
    data.setup("test")
    (batch,) = data.test_dataloader()
    scene = correspondence.sequence_scene("vip", 3, 0)
    annotated = [t for t, truth in enumerate(batch["truth"]) if truth is not None]
    assert annotated == list(range(0, FRAMES, correspondence.ANNOTATED))
    for t in annotated:
        truth = batch["truth"][t]
        semantic, instances = truth["semantic"].numpy(), truth["instances"].numpy()
        assert np.array_equal(semantic, np.where(scene.objects[t] > 0, scene.parts[t], 0))
        assert np.array_equal(truth["classes"].numpy()[instances], semantic)
        people = [np.unique(scene.objects[t][instances == number]) for number in np.unique(instances[instances > 0])]
        assert all(len(person) == 1 for person in people)


def test_vlog_layout_is_what_the_model_trains_on(roots):
    model = zoo.create("time_cycle_tiny")
    data = zoo.datamodule("sandbox_vlog", root=roots["vlog"], spec=model.spec, batch_size=1, num_workers=0)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["clips"].shape == (1, 3, model.spec.frames + 2, model.spec.crop, model.spec.crop)
    assert batch["clips"].dtype == torch.uint8
    (folder,) = (roots["vlog"] / "manifest.txt").read_text().splitlines()
    parts = folder.split("/")
    assert parts[:3] == list(parts[3][-3:])
    assert folder.endswith("/")
    assert (roots["vlog"] / folder / "clip.mp4").is_file()


def test_a_set_renders_itself_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    rendered = []
    monkeypatch.setattr("zoo.data.sandbox.datamodules.render_vip", rendered.append)
    data = zoo.datamodule("sandbox_vip")
    data.prepare_data()
    assert rendered == [tmp_path / "sandbox" / f"vip-{correspondence.RECIPE}"]
    zoo.datamodule("sandbox_vip", root=tmp_path).prepare_data()  # a folder of one's own is left as it is
    assert len(rendered) == 1
