"""`zoo propagate`, as typed: what it writes, where, and what it says to wrong arguments."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.data import trees
from zoo.cli import main
from zoo.data.masks import PALETTE, read_mask, write_mask
from zoo.data.video import probe
from zoo.hub.weights import save_weights
from zoo.visualize import draw_flow
from zoo.visualize.overlay import paint_mask

IDENTITY = "label_propagation_identity"  # needs no weights, and what it must give is known


@pytest.fixture(scope="module")
def clip(kinetics_root):
    return next((kinetics_root / "val").glob("*/*.mp4"))


@pytest.fixture
def first(clip, tmp_path):
    """A mask with two objects for the clip's first frame."""
    info = probe(clip)
    mask = np.zeros((info.height, info.width), np.uint8)
    mask[10:40, 10:30], mask[10:40, 40:60] = 1, 3
    write_mask(tmp_path / "first.png", mask)
    return tmp_path / "first.png"


def test_masks_and_an_overlay(clip, first, tmp_path, capsys):
    out, film = tmp_path / "masks", tmp_path / "films/overlay.mp4"
    arguments = ["--mask", str(first), "--out", str(out), "--overlay", str(film)]
    assert main(["propagate", IDENTITY, str(clip), *arguments]) == 0
    frames = probe(clip).frames
    assert [path.name for path in sorted(out.iterdir())] == [f"{t:05d}.png" for t in range(frames)]
    assert np.array_equal(read_mask(out / f"{frames - 1:05d}.png"), read_mask(first))
    assert Image.open(out / "00000.png").getpalette()[3:6] == [128, 0, 0]
    assert probe(film).frames == frames
    assert list(film.parent.iterdir()) == [film]  # nothing half-written lies beside it
    assert f"{frames} frames written" in capsys.readouterr().out


def test_a_real_encoder_propagates(clip, first, tmp_path):
    save_weights(tmp_path / "w.safetensors", zoo.create("time_cycle_tiny").state_dict())
    arguments = [
        "--size",
        "64",
        "--weights",
        str(tmp_path / "w.safetensors"),
        "--mask",
        str(first),
        "--out",
        str(tmp_path / "m"),
    ]
    assert main(["propagate", "time_cycle_tiny", str(clip), *arguments]) == 0
    ids = {int(i) for path in (tmp_path / "m").iterdir() for i in np.unique(read_mask(path))}
    assert ids <= {0, 1, 3}


def test_keypoints_keep_their_names(clip, tmp_path):
    pose = tmp_path / "pose.json"
    pose.write_text('{"head": [20, 12.5], "hand": null}')
    film = tmp_path / "joints.mp4"
    arguments = ["--keypoints", str(pose), "--out", str(tmp_path), "--overlay", str(film)]
    assert main(["propagate", IDENTITY, str(clip), *arguments]) == 0
    found = json.loads((tmp_path / "keypoints.json").read_text())
    assert len(found) == probe(film).frames == probe(clip).frames
    assert found[-1] == {"head": [20.0, 12.5], "hand": None}


def test_a_texture_has_stripes(clip, first, tmp_path):
    arguments = ["--mask", str(first), "--texture", "--out", str(tmp_path / "t")]
    assert main(["propagate", IDENTITY, str(clip), *arguments]) == 0
    stripes = read_mask(tmp_path / "t/00003.png")
    assert set(np.unique(stripes)) == set(range(7))


def test_a_folder_keeps_its_names(tmp_path):
    root = trees.davis(tmp_path / "DAVIS", {"walk": 3})
    frames, mask = root / "JPEGImages/480p/walk", root / "Annotations/480p/walk/00000.png"
    (frames / "00002.jpg").rename(frames / "00100.jpg")
    assert main(["propagate", IDENTITY, str(frames), "--mask", str(mask), "--out", str(tmp_path / "o")]) == 0
    assert {path.stem for path in (tmp_path / "o").iterdir()} == {"00000", "00001", "00100"}


def test_a_data_set_as_its_server_wants_it(tmp_path, capsys):
    root = trees.davis(tmp_path / "DAVIS", {"walk": 12, "run": 3})
    assert main(["propagate", IDENTITY, "--data", f"davis2017={root}", "--out", str(tmp_path / "results")]) == 0
    written = {str(p.relative_to(tmp_path / "results")) for p in (tmp_path / "results").rglob("*.png")}
    assert written == {f"walk/{t:05d}.png" for t in range(12)} | {f"run/{t:05d}.png" for t in range(3)}
    first = read_mask(root / "Annotations/480p/walk/00000.png")
    assert np.array_equal(read_mask(tmp_path / "results/walk/00011.png"), first)
    assert "2 sequences written" in capsys.readouterr().out


def test_a_broken_sequence_is_named(tmp_path, capsys):
    root = trees.davis(tmp_path / "DAVIS", {"walk": 3, "run": 3})
    (root / "JPEGImages/480p/run/00001.jpg").write_bytes(b"")
    assert main(["propagate", IDENTITY, "--data", f"davis2017={root}", "--out", str(tmp_path / "results")]) == 1
    error = capsys.readouterr().err
    assert "run" in error
    assert "00001.jpg" in error
    assert "1 sequences before it are written" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "o"], "the first frame's labels"),
        (["--mask", "{first}"], "nothing would be kept"),
        (["--mask", "{first}", "--out", "{tmp}/o", "--data", "davis2017={tmp}"], None),
        (["--mask", "{tmp}/none.png", "--out", "{tmp}/o"], "none.png"),
        (["--mask", "{tmp}/rgb.png", "--out", "{tmp}/o"], "RGB picture"),
        (["--mask", "{tmp}/other.png", "--out", "{tmp}/o"], "10 x 10 pixels, the video of 80 x 80"),
        (["--keypoints", "{tmp}/pose.json", "--out", "{tmp}/o"], "keypoints must be"),
        (["--keypoints", "{first}", "--out", "{tmp}/o"], "cannot be read as JSON"),
        (["--mask", "{first}", "--out", "{first}"], "cannot write"),
        (["--mask", "{first}", "--overlay", "{tmp}/o/film.png"], "an .mp4 file"),
    ],
)
def test_wrong_arguments_are_answered_in_a_sentence(clip, first, tmp_path, capsys, arguments, message):
    Image.new("RGB", (80, 80)).save(tmp_path / "rgb.png")
    write_mask(tmp_path / "other.png", np.ones((10, 10), np.uint8))
    (tmp_path / "pose.json").write_text('{"head": [1]}')
    arguments = [argument.format(first=first, tmp=tmp_path) for argument in arguments]
    if message is None:
        with pytest.raises(SystemExit) as caught:
            main(["propagate", IDENTITY, str(clip), *arguments])
        assert caught.value.code == 2
        return
    assert main(["propagate", IDENTITY, str(clip), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_results_do_not_take_the_place_of_the_video(clip, first, tmp_path, capsys):
    film = tmp_path / "film.mp4"
    film.write_bytes(clip.read_bytes())
    assert main(["propagate", IDENTITY, str(film), "--mask", str(first), "--overlay", str(film)]) == 1
    assert "the video itself" in capsys.readouterr().err
    assert film.read_bytes() == clip.read_bytes()
    root = trees.davis(tmp_path / "DAVIS", {"walk": 3})
    frames, mask = root / "JPEGImages/480p/walk", str(root / "Annotations/480p/walk/00000.png")
    assert main(["propagate", IDENTITY, str(frames), "--mask", mask, "--out", str(frames)]) == 1
    assert "is the folder of the frames" in capsys.readouterr().err
    trees.picture(frames / "00001.png", 1)
    assert main(["propagate", IDENTITY, str(frames), "--mask", mask, "--out", str(tmp_path / "o")]) == 1
    assert "two pictures called 00001" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_data_without_masks_is_refused(kinetics_root, tmp_path, capsys):
    data = f"kinetics={kinetics_root}"
    assert main(["propagate", IDENTITY, "--data", data, "--out", str(tmp_path / "o")]) == 1
    assert "kinetics has no masks to hand in" in capsys.readouterr().err


def test_models_of_other_kinds_are_refused(clip, first, tmp_path, capsys):
    assert main(["propagate", "i3d_tiny", str(clip), "--mask", str(first), "--out", str(tmp_path / "o")]) == 1
    assert "propagates nothing" in capsys.readouterr().err
    assert main(["predict", IDENTITY, str(clip)]) == 1
    assert "predicts no classes" in capsys.readouterr().err


def test_the_video_may_break_off(clip, first, tmp_path, capsys):
    """What was written before is there, every file of it whole, and the film is not."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:-400])
    arguments = ["--mask", str(first), "--out", str(tmp_path / "o"), "--overlay", str(tmp_path / "o.mp4")]
    assert main(["propagate", IDENTITY, str(broken), *arguments]) == 1
    assert "broken.mp4" in capsys.readouterr().err
    assert not (tmp_path / "o.mp4").exists()
    for path in (tmp_path / "o").glob("*"):
        read_mask(path)


def test_the_picture_of_a_flow(clip, tmp_path):
    model = zoo.create("time_cycle_tiny").eval()
    (path,) = draw_flow(model, clip, tmp_path, at=0.2, gap=3)
    picture = Image.open(path)
    assert picture.width > 4 * probe(clip).width
    with pytest.raises(zoo.ZooError, match="no correspondence"):
        draw_flow(zoo.create("i3d_tiny"), clip, tmp_path)
    with pytest.raises(zoo.ZooError, match="999 apart"):
        draw_flow(model, clip, tmp_path, gap=999)


def test_paint():
    frame, mask = np.full((6, 6, 3), 100, np.uint8), np.zeros((6, 6), np.uint8)
    mask[1:5, 1:5] = 2
    painted = paint_mask(frame, mask)
    assert np.array_equal(painted[3, 3], (100 + PALETTE[2].astype(int)) // 2)
    assert np.array_equal(painted[0, 0], (100, 100, 100))
    assert np.array_equal(painted[1, 3], (255, 255, 255))  # the outline
