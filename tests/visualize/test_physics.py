"""The figures of intuitive physics, of a model that paints what its vector says: a colour for every property."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.data.collision_tree import write_collisions
from zoo.cli import main
from zoo.cli import physics as commands
from zoo.data.collisions.frames import read_frames
from zoo.data.video import VideoReader
from zoo.errors import DataError, UnknownNameError, ZooError
from zoo.methods.collisions import PROPERTIES, RECIPE, CollisionModel, collision_spec
from zoo.networks.physics import identity_grid
from zoo.visualize.physics import draw_physics
from zoo.visualize.physics_figures import BLUE, RED, Figure, interpolation, ratios, switched, unseen_parameters
from zoo.visualize.physics_scenes import Scenes
from zoo.visualize.physics_sheets import WIDE, Block, Cell, Row, Sheet, draw_film, draw_sheet, moving_rows

SIDE, DIMS = 16, 6
FOLDER = "cone_cube_00_mass1_speed5_friction1"


class Painter(CollisionModel):
    """Two columns a property, which hold its scale; frames are painted (mass, speed, friction) times forty."""

    def __init__(self, name="painter", multiplies=True):
        super().__init__(collision_spec(SIDE), RECIPE)
        self.name, self.ratios = name, {"mass_double": 1} if multiplies else {}
        self.register_buffer("dims", torch.arange(DIMS).view(3, 2))

    def latent(self, views):
        return views.scales.repeat_interleave(2, dim=1)

    def decode(self, z, frame):
        mean = torch.tensor(self.spec.mean)
        frame = (z[:, ::2] * 40 / 255 - mean)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
        return frame, identity_grid(SIDE).expand(len(z), -1, -1, -1) + 2 * 3 / (SIDE - 1)  # by three pixels

    def scaled(self, z, property, ratio):
        z = z.clone()
        z[:, self.dims[property]] *= {"double": 2, "triple": 3}[ratio]
        return z


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_collisions(tmp_path_factory.mktemp("collisions") / "tree", size=SIDE)


@pytest.fixture(scope="module")
def data(root):
    return zoo.datamodule("physics_collisions", root=root, spec=collision_spec(SIDE))


def painted(cell):
    """The scales that a cell is painted with."""
    return (cell.picture[0, 0] / 40).tolist()


def told(text):
    """Scales as a caption has them, ``"speed 1, friction 4"``."""
    return {name: int(scale) for name, scale in (part.split() for part in text.split(", "))}


def figure(number, data, count=None, baselines=(), seed=0):
    return Figure(number, Painter(), Scenes(data, seed), count, baselines)


def test_unseen_parameters_are_those_that_were_left_out(data):
    sheet, steps = unseen_parameters(figure("9.4", data))
    (block,) = sheet.blocks
    (row,) = block.rows  # the tree has one of them
    assert (row.name, list(row.about)) == ("sphere -> cylinder", ["mass 3", "speed 3", "friction 3"])
    frames = read_frames(data.root / "sphere_cylinder_00_mass3_speed3_friction3", SIDE).permute(0, 2, 3, 1).numpy()
    shown = [cell.picture for cell in row.cells]
    for number, place in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 5)):
        assert any((frames[number][top : top + len(shown[0])] == shown[place]).all() for top in range(SIDE)), number
    assert painted(row.cells[4]) == [3, 3, 3]
    assert row.cells[4].rim == BLUE
    error = ((frames[4] - np.float64(120)) ** 2).mean()
    assert float(row.cells[4].under.removeprefix("error ")) == pytest.approx(error, abs=0.06)
    assert sheet.longest == pytest.approx(3 * 2**0.5)
    assert len(steps) == 5
    last = steps[-1][0].blocks[0].rows
    assert [row.name for row in last] == ["predicted", "ground truth"]
    assert (last[1].cells[0].picture == shown[5]).all()


def test_interpolation_goes_through_the_scales_beside_the_baseline(data):
    sheet, steps = interpolation(figure("9.6", data, baselines=(Painter("other"),)))
    assert [block.columns[4] for block in sheet.blocks] == ["mass 5", "speed 5", "friction 5"]
    for number, block in enumerate(sheet.blocks):
        _, own, other, _ = block.rows
        kept = told(block.title.partition(", ")[2])
        for row, rim in ((own, BLUE), (other, RED)):
            assert {cell.rim for cell in row.cells} == {rim}
            for scale, cell in enumerate(row.cells, 1):
                known = kept | {PROPERTIES[number]: scale}
                assert painted(cell) == [known[name] for name in PROPERTIES]
    swept = [painted(step.blocks[0].rows[1].cells[1])[1] for step, _ in steps]
    assert swept == [1, 2, 3, 4, 5, 4, 3, 2]


def test_ratios_of_scale_one_in_both_tests(data):
    sheet, _ = ratios(figure("9.7", data))
    shapes, parameters = sheet.blocks
    for block in (shapes, parameters):
        assert [row.name for row in block.rows] == list(PROPERTIES)
        for number, row in enumerate(block.rows):
            assert [painted(row.cells[place])[number] for place in (1, 3, 5)] == [1, 2, 3]
    assert {row.about[0] for row in shapes.rows} == {"cone -> cube"}
    assert {row.about[0] for row in parameters.rows} == {"sphere -> cylinder"}


def test_what_is_switched_has_the_same_scale_and_other_shapes(data):
    sheet, _ = switched(figure("9.8", data, count=1))
    changed, plain, truth, donor = sheet.blocks[0].rows
    for number, column in enumerate(sheet.blocks[0].columns):
        first, others = column.split("\n")
        scale, shapes = first.split(", ")
        known = told(scale) | told(others)
        assert painted(plain.cells[number]) == [known[name] for name in PROPERTIES]
        assert painted(changed.cells[number]) == painted(plain.cells[number])  # the same scale says the same
        assert shapes == "cone -> cube"
        assert donor.cells[number].under.startswith("sphere -> cylinder")
        assert truth.cells[number].under is None


def test_a_sheet_is_where_it_says_and_a_film_holds_its_pictures(tmp_path):
    red, green = (np.full((8, 16, 3), colour, np.uint8) for colour in ((250, 0, 0), (0, 250, 0)))
    sheet = Sheet(
        "title", [Block("b", ["x", "y"], [Row("row", [Cell(red, "error 1.0", BLUE), Cell(green)])])], longest=9.0
    )
    picture = np.asarray(Image.open(draw_sheet(sheet, tmp_path / "s.png")))
    for colour in ((250, 0, 0), (0, 250, 0)):
        assert (picture == colour).all(2).sum() == WIDE * WIDE // 2
    rim = np.argwhere((picture == BLUE).all(2))
    assert rim.max(0)[1] - rim.min(0)[1] == WIDE + 7  # four pixels around it
    film = draw_film([(sheet, 0.2), (Sheet("a longer title", sheet.blocks, longest=10.0), 0.6)], tmp_path / "s.mp4")
    with VideoReader(film) as reader:
        assert reader.frames == 4
        assert (reader.info.height, reader.info.width) == tuple(side - side % 2 for side in picture.shape[:2])
    with pytest.raises(ZooError, match="'row' has 1 cells for 2 columns"):
        draw_sheet(Sheet("", [Block("", ["x", "y"], [Row("row", [Cell(red)])])]), tmp_path / "t.png")
    with pytest.raises(ZooError, match=r"s\.gif is an MP4"):
        draw_film([(sheet, 1)], tmp_path / "s.gif")


def test_rows_in_which_something_moves():
    clip = torch.zeros(3, 5, 32, 32, dtype=torch.uint8)
    assert moving_rows([clip]) == slice(0, 32)
    clip[:, 2, 20:24] = 100
    rows = moving_rows([clip])
    assert rows.start <= 20 < 24 <= rows.stop
    assert rows.stop - rows.start == 16


def test_files_are_called_by_model_and_figure_and_repeat(data, tmp_path):
    model = Painter()
    paths = draw_physics(model, data, tmp_path / "a", ["9.4"])
    assert [path.name for path in paths] == ["painter.figure_9.4.png", "painter.figure_9.4.mp4"]
    for path, again in zip(paths, draw_physics(model, data, tmp_path / "b", ["9.4"]), strict=True):
        assert path.read_bytes() == again.read_bytes()


def test_what_cannot_be_drawn_is_refused_by_name(data, root, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match=r"unknown figure '9\.3'"):
        draw_physics(Painter(), data, out, ["9.3"])
    with pytest.raises(ZooError, match="Linear predicts no collisions"):
        draw_physics(torch.nn.Linear(1, 1), data, out)
    with pytest.raises(ZooError, match=r"9\.7: these weights of painter have no networks that multiply"):
        draw_physics(Painter(multiplies=False), data, out, ["9.7"])
    told = Painter("told")
    told.told = True
    with pytest.raises(ZooError, match=r"9\.8: told is told the properties"):
        draw_physics(told, data, out, ["9.8"])
    with pytest.raises(ZooError, match="frames of 64 pixels and painter of 16"):
        draw_physics(Painter(), data, out, ["9.6"], baselines=[zoo.create("intuitive_physics_tiny")])
    with pytest.raises(DataError, match="kinetics has no collisions"):
        draw_physics(Painter(), zoo.datamodule("kinetics", root=tmp_path), out, ["9.4"])
    assert not out.exists()
    out.write_text("in the way")
    with pytest.raises(ZooError, match="not a usable folder"):
        draw_physics(Painter(), data, out, ["9.4"])


def test_a_set_without_one_of_the_tests_says_so(tmp_path):
    some = write_collisions(tmp_path / "tree", size=SIDE, pairs=(("sphere", "cylinder"),))
    data = zoo.datamodule("physics_collisions", root=some, spec=collision_spec(SIDE))
    with pytest.raises(DataError, match=r"tree has no mini-batches of the shape_test \(unseen shapes\)"):
        draw_physics(Painter(), data, tmp_path, ["9.5"])
    scenes = Scenes(data)
    scene = scenes.scene(0)
    with pytest.raises(DataError, match="no other shapes"):
        scenes.donor(scene)


def run(*arguments):
    """As `zoo` would."""
    parser = argparse.ArgumentParser()
    subs = parser.add_subparsers()

    def command(name, run, summary):
        sub = subs.add_parser(name, help=summary)
        sub.set_defaults(run=run)
        return sub

    commands.add_commands(command)
    commands.add_pictures(subs.add_parser("visualize").add_subparsers())
    a = parser.parse_args([*map(str, arguments), "--device", "cpu"])
    a.run(a)


@pytest.fixture
def loads(monkeypatch):
    """A tiny model of random weights in place of any."""
    torch.manual_seed(0)
    model = zoo.create("intuitive_physics_tiny").eval()
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: model)
    return model


def test_commands_draw_what_they_say(loads, root, tmp_path, capsys):
    a, b = root / FOLDER, root / FOLDER.replace("speed5", "speed1")
    run("physics", "edit", "m", a, "--mass", "2", "--friction", "1/2", "--out", tmp_path / "e.png")
    run("physics", "swap", "m", a, b, "--property", "speed", "--out", tmp_path / "s.png")
    run("physics", "interpolate", "m", a, b, "--property", "speed", "--steps", 3, "--out", tmp_path / "i.png")
    run("physics", "interpolate", "m", a, b, "--property", "speed", "--steps", 3, "--out", tmp_path / "i.mp4")
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in ("e.png", "s.png", "i.png", "i.mp4")]
    with VideoReader(tmp_path / "i.mp4") as reader:
        assert reader.frames == 6 + 2 + 6 + 2
    run("visualize", "intuitive_physics", "m", root, "--figure", "9.4", "--out", tmp_path / "figures")
    assert len(capsys.readouterr().out.split()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "e.png"], "wants a property and its ratio"),
        (["--mass", "7", "--out", "e.png"], "learned are the ratios"),
        (["--mass", "2", "--out", "e.jpg"], r"e\.jpg is a PNG"),
    ],
)
def test_commands_refuse_by_name(loads, root, tmp_path, arguments, message):
    place = [tmp_path / text if text.startswith("e.") else text for text in arguments]
    with pytest.raises(ZooError, match=message):
        run("physics", "edit", "m", root / FOLDER, *place)
    assert not list(tmp_path.iterdir())


def test_a_model_of_films_takes_frames_of_a_collision_for_a_folder_without_any(root, capsys):
    assert main(["predict", "i3d_tiny", str(root / FOLDER)]) == 1
    assert "no video in this folder" in capsys.readouterr().err


def test_an_answer_tells_the_error_where_the_fifth_frame_is_known(loads, root, tmp_path):
    said, _ = commands.answer(loads, root / FOLDER, top=5, plot=tmp_path / "strip.png")
    future, frames = loads.predict(root / FOLDER), read_frames(root / FOLDER, 64)
    wanted = (future.frame.double() - frames[4].double()).square().mean()
    assert said["pixel_error"] == pytest.approx(float(wanted), rel=1e-4)
    assert Image.open(tmp_path / "strip.png").width > 6 * WIDE
    four = tmp_path / "four"
    four.mkdir()
    for number in range(4):
        (four / f"0{number}.png").write_bytes((root / FOLDER / f"0{number}.png").read_bytes())
    assert commands.answer(loads, four, top=5)[0]["pixel_error"] is None
