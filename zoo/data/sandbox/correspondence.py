"""The scenes as four data sets, laid out like the official ones: VLOG to train on, DAVIS, JHMDB and VIP to test on.

    vlog/   X/I/4/v_aaaaaaaaXI4/016/clip.mp4, manifest.txt                        blobs and figures, no annotation
    davis/  DAVIS-2017: JPEGImages/480p, Annotations/480p, ImageSets/2017/val.txt one to three objects a sequence
    jhmdb/  Rename_Images, joint_positions, splits                                one figure, its fifteen joints
    vip/    Images, Annotations/{Category,Human,Instance}_ids, lists              one or two figures and their parts

Only the sizes differ: pictures are 128 x 160, and every third frame of VIP is annotated instead of every 25th.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from zoo.data.masks import write_mask
from zoo.data.sandbox.kinetics import encode
from zoo.data.sandbox.scenes import HEIGHT, WIDTH, Scene, render
from zoo.data.sandbox.store import each, render_splits
from zoo.files import write_whole

RECIPE = 1  # raised whenever the rendered pixels change
CLIPS, CLIP_FRAMES, FPS = 240, 44, 12  # of the VLOG layout; what happens takes longer than in a sequence
SEQUENCES = {"davis": 24, "jhmdb": 12, "vip": 10}
FRAMES = 28  # in a sequence of the other three
ANNOTATED = 3  # VIP: one frame in so many
ACTIONS = ("jump", "run", "walk", "wave")  # JHMDB's folders; what the figures do in them is all the same
VISIBLE = 350  # pixels of each object that the first frame of a sequence shows at least

DESCRIPTION = (
    f"Synthetic videos rendered by zoo.data.sandbox, no recordings of people: {HEIGHT}x{WIDTH} pixels. Rippling blobs "
    "and jointed figures travel, turn, grow and pass before one another over a panning ground; all surfaces wear "
    "random textures of the same few colours, the light drifts, and there is some blur and noise. Masks, parts and "
    "joints are exact. Scores compare models on these videos and say nothing about real ones."
)

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SETS = ("vlog", "davis", "jhmdb", "vip")  # their numbers begin every random seed


def render_vlog(root: str | Path, seed: int = 0, train: int = CLIPS, workers: int = 1) -> Path:
    """Render what is not there yet of the training videos in the VLOG layout, and return the root.

    Args:
        root: the data set's folder; missing, empty, or an earlier render of the same seed and size.
        seed: what every random choice follows from.
        train: clips.
        workers: processes that render; more than 1 want the calling script's ``if __name__ == "__main__":``.

    Raises:
        DataError: ``root`` holds something else, or the sandbox by another recipe.
    """
    return render_splits(root, _about(seed), {"train": train}, partial(_render_clips, seed, workers))


def render_davis(root: str | Path, seed: int = 0, val: int = SEQUENCES["davis"], workers: int = 1) -> Path:
    """The same for sequences with objects in the layout of DAVIS-2017; sequence i has 1 + i % 3 objects."""
    return _render_sequences(root, seed, val, workers, "davis")


def render_jhmdb(root: str | Path, seed: int = 0, val: int = SEQUENCES["jhmdb"], workers: int = 1) -> Path:
    """The same for sequences with a figure's joints in the layout of JHMDB, all in the test part of split 1."""
    return _render_sequences(root, seed, val, workers, "jhmdb")


def render_vip(root: str | Path, seed: int = 0, val: int = SEQUENCES["vip"], workers: int = 1) -> Path:
    """The same for sequences with the parts of one or two figures in the layout of VIP."""
    return _render_sequences(root, seed, val, workers, "vip")


def clip_folder(seed: int, index: int) -> str:
    """Where clip ``index`` of the VLOG layout lies under the root, with the slash that the official list has."""
    rng = np.random.default_rng((seed, 0, index, 0))
    name = "v_" + "".join(_ID_LETTERS[i] for i in rng.integers(len(_ID_LETTERS), size=11))
    return f"{name[-3]}/{name[-2]}/{name[-1]}/{name}/{rng.integers(1, 100):03d}/"


def clip_scene(seed: int, index: int) -> Scene:
    """What happens in a training clip: one or two blobs, in every second a figure, up to two more that pass."""
    blobs, passers = (int(n) for n in np.random.default_rng((seed, 0, index, 1)).integers((1, 0), (3, 3)))
    return render((seed, 0, index, 2), CLIP_FRAMES, figures=index % 2, blobs=blobs, passers=passers)


def sequence_scene(kind: str, seed: int, index: int) -> Scene:
    """What happens in a test sequence; the first frame shows enough of every object to know it by."""
    figures, blobs = {
        "davis": (int(index % 4 == 0), 1 + index % 3 - int(index % 4 == 0)),
        "jhmdb": (1, 0),
        "vip": (1 + index % 2, 0),
    }[kind]
    attempt = 0
    while True:
        key = (seed, _SETS.index(kind), index, attempt)
        scene = render(key, FRAMES, figures=figures, blobs=blobs, passers=1)
        shown = np.bincount(scene.objects[0].ravel(), minlength=figures + blobs + 1)[1:]
        if (shown >= VISIBLE).all():
            return scene
        attempt += 1


def _about(seed: int) -> dict[str, object]:
    return {"description": DESCRIPTION, "recipe": RECIPE, "seed": seed}


def _render_clips(seed: int, workers: int, root: Path, split: str, count: int) -> None:
    folders = [clip_folder(seed, index) for index in range(count)]
    missing = [index for index, folder in enumerate(folders) if not (root / folder / "clip.mp4").exists()]
    each(partial(_render_clip, root, seed), missing, workers)
    write_whole(root / "manifest.txt", "".join(f"{folder}\n" for folder in folders).encode())


def _render_clip(root: Path, seed: int, index: int) -> None:
    write_whole(root / clip_folder(seed, index) / "clip.mp4", encode(clip_scene(seed, index).frames, FPS))


def _render_sequences(root: str | Path, seed: int, count: int, workers: int, kind: str) -> Path:
    return render_splits(root, _about(seed), {"val": count}, partial(_render_split, kind, seed, workers))


def _render_split(kind: str, seed: int, workers: int, root: Path, split: str, count: int) -> None:
    """Every sequence, then the lists. Half a sequence is rendered again: what is written of it are the same bytes."""
    each(partial(_render_sequence, kind, root, seed), list(range(count)), workers)
    for path, lines in _lists(kind, count).items():
        write_whole(root / path, "".join(f"{line}\n" for line in lines).encode())


def _render_sequence(kind: str, root: Path, seed: int, index: int) -> None:
    if not (root / _LAST[kind].format(sequence_name(kind, index))).exists():
        _WRITERS[kind](root, index, sequence_scene(kind, seed, index))


def sequence_name(kind: str, index: int) -> str:
    """The name of a sequence in its list."""
    return {
        "davis": f"scene-{index:02d}",
        "jhmdb": f"{ACTIONS[index % len(ACTIONS)]}/figure_{index:02d}",
        "vip": f"videos{index + 1}",
    }[kind]


def _lists(kind: str, count: int) -> dict[str, list[str]]:
    """The official lists: path to lines."""
    names = [sequence_name(kind, index) for index in range(count)]
    if kind == "davis":
        return {"ImageSets/2017/val.txt": names}
    if kind == "jhmdb":
        return {
            f"splits/{action}_test_split1.txt": [
                f"{name.partition('/')[2]}.avi 2" for name in names if name.startswith(f"{action}/")
            ]
            for action in ACTIONS
        }
    stems = [f"{t + 1:012d}" for t in range(0, FRAMES, ANNOTATED)]
    return {"lists/val_videos.txt": names, "lists/val_id.txt": [f"{name}/{stem}" for name in names for stem in stems]}


def _write_davis(root: Path, index: int, scene: Scene) -> None:
    name = sequence_name("davis", index)
    for t, (frame, objects) in enumerate(zip(scene.frames, scene.objects, strict=True)):
        write_whole(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", _image(frame, "JPEG"))
        write_mask(root / f"Annotations/480p/{name}/{t:05d}.png", objects)


def _write_jhmdb(root: Path, index: int, scene: Scene) -> None:
    name = sequence_name("jhmdb", index)
    for t, frame in enumerate(scene.frames):
        write_whole(root / f"Rename_Images/{name}/{t + 1:05d}.png", _image(frame, "PNG"))
    places = scene.joints[0].astype(np.float64).transpose(2, 1, 0) + 1  # [2, 15, T], counted from 1
    file = io.BytesIO()
    savemat(
        file,
        {
            "pos_img": places,
            "pos_world": places / np.array([WIDTH, HEIGHT]).reshape(2, 1, 1) - 0.5,
            "scale": np.ones((1, scene.joints.shape[1])),
            "viewpoint": "S",
        },
    )
    # The header's first 116 bytes are free text, into which scipy writes the time of day.
    header = b"MATLAB 5.0 MAT-file, rendered by zoo.data.sandbox".ljust(116)
    write_whole(root / f"joint_positions/{name}/joint_positions.mat", header, file.getbuffer()[116:])


def _write_vip(root: Path, index: int, scene: Scene) -> None:
    name = sequence_name("vip", index)
    for t, frame in enumerate(scene.frames):
        stem = f"{name}/{t + 1:012d}"
        if t % ANNOTATED == 0:
            _write_parts(root, stem, scene.objects[t], scene.parts[t])
        write_whole(root / f"Images/{stem}.jpg", _image(frame, "JPEG"))


def _write_parts(root: Path, stem: str, objects: np.ndarray, parts: np.ndarray) -> None:
    """One frame's annotations: classes, persons, part instances and the list of the latter (id, class, person)."""
    parts = np.where(objects > 0, parts, 0).astype(np.uint8)
    people = np.where(parts > 0, objects, 0).astype(np.uint8)
    instances, lines = np.zeros_like(parts), []
    for person in np.unique(people[people > 0]):
        for part in np.unique(parts[people == person]):
            instances[(people == person) & (parts == part)] = len(lines) + 1
            lines.append(f"{len(lines) + 1} {part} {person}\n")
    for kind, values in (("Category_ids", parts), ("Human_ids", people), ("Instance_ids", instances)):
        write_whole(root / f"Annotations/{kind}/{stem}.png", _image(values, "PNG"))
    write_whole(root / f"Annotations/Instance_ids/{stem}.txt", "".join(lines).encode())


_WRITERS: dict[str, Callable[[Path, int, Scene], None]] = {
    "davis": _write_davis,
    "jhmdb": _write_jhmdb,
    "vip": _write_vip,
}
# The file of a sequence that its writer writes last.
_LAST = {
    "davis": f"Annotations/480p/{{}}/{FRAMES - 1:05d}.png",
    "jhmdb": "joint_positions/{}/joint_positions.mat",
    "vip": f"Images/{{}}/{FRAMES:012d}.jpg",
}


def _image(pixels: np.ndarray, form: str) -> memoryview:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({"quality": 95} if form == "JPEG" else {}))
    return file.getbuffer()
