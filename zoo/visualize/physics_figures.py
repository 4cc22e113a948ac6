"""What figures 9.4 to 9.8 show: each a contact sheet, and the pictures of a film with their seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo.data.collisions.plan import PROPERTIES
from zoo.errors import DataError
from zoo.methods.collisions import SEEN, CollisionModel, interpolated, replaced
from zoo.visualize.drawing import INK, STATES, Colour
from zoo.visualize.physics_scenes import PARAMETERS, SHAPES, Look, Prediction, Scene, Scenes
from zoo.visualize.physics_sheets import (
    Block,
    Cell,
    Row,
    Sheet,
    colour_displacement,
    longest_of,
    moving_rows,
    rows_shown,
)

BLUE, RED = STATES[0], STATES[2]
Steps = list[tuple[Sheet, float]]

_PAUSE = 0.5  # seconds from one frame of a collision to the next
_FRAME, _ENDING, _SCALE = 0.8, 2.6, 1.0  # seconds that a film holds an input, an ending, a scale
_ABREAST = 6  # collisions beside each other in a film
_SEEN = tuple(f"frame {number + 1}\n{number * _PAUSE:g} s" for number in range(SEEN))
_TRUTH = f"ground truth\n{SEEN * _PAUSE:g} s"
_ERROR = "Error: mean squared difference of all pixels of the frame, in grey levels (0 to 255)."


@dataclass
class Figure:
    """A figure in the making."""

    number: str
    model: CollisionModel
    scenes: Scenes
    count: int | None
    baselines: tuple[CollisionModel, ...]
    shown: slice = field(default_factory=lambda: slice(None))  # rows of the frames

    def title(self, words: str) -> str:
        return f"Figure {self.number}: {words}"

    def focus(self, scenes: Sequence[Scene]) -> None:
        """Show the rows of these in which anything moves."""
        self.shown = moving_rows([scene.batch["clips"] for scene in scenes])

    def notes(self, *others: str) -> list[str]:
        part = rows_shown(self.shown, self.model.spec.crop)
        return [" ".join([f"Blue: predicted by {self.model.name}.", *others, _ERROR, *part])]

    def seen(self, frame: np.ndarray, under: str | None = None) -> Cell:
        return Cell(frame[self.shown], under)

    def predicted(self, one: Prediction, colour: Colour = BLUE) -> Cell:
        return Cell(one.picture[self.shown], f"error {one.error:.1f}", colour)

    def moved(self, one: Prediction, longest: float) -> Cell:
        return Cell(colour_displacement(one.displacement, longest)[self.shown])


@dataclass(frozen=True)
class _Story:
    """A collision in a film: what is written above it, its four frames, and endings, each a cell of every row."""

    heading: str
    inputs: Sequence[np.ndarray]
    endings: Sequence[Sequence[Cell]]


def unseen_parameters(figure: Figure) -> tuple[Sheet, Steps]:
    """Figure 9.4."""
    looks = [Look(figure.model, s) for s in figure.scenes.draw(PARAMETERS, PROPERTIES[0], figure.count or 4)]
    rows = [(look, place) for look in looks for place in look.scene.unseen[:1]]
    if not rows:
        raise DataError(f"{figure.scenes.data.root}: training has seen every collision of its parameter test.")
    named = [(look.scene.shapes, [look.scene.scale(place), *look.scene.others.split(", ")]) for look, place in rows]
    return _predictions(figure, "unseen parameters, seen shapes", [("", rows, named)])


def unseen_shapes(figure: Figure) -> tuple[Sheet, Steps]:
    """Figure 9.5: one property is 1 or 5, all else is the same."""
    pairs: dict[str, list[tuple[Look, int]]] = {}
    for property in PROPERTIES:
        for scene in figure.scenes.draw(SHAPES, property, figure.count or 1, apart=True):
            look = Look(figure.model, scene)
            pairs.setdefault(scene.shapes, []).extend([(look, 0), (look, -1 % len(scene.folders))])
    blocks = [
        (shapes, rows, [(look.scene.scale(place), look.scene.others.split(", ")) for look, place in rows])
        for shapes, rows in pairs.items()
    ]
    return _predictions(figure, "unseen shapes, one property 1 or 5", blocks)


def _predictions(figure: Figure, words: str, blocks: Sequence[tuple[str, list, list]]) -> tuple[Sheet, Steps]:
    """Four inputs, prediction, truth and displacement of collisions: blocks of (title, looks and places, names)."""
    figure.focus([look.scene for _, rows, _ in blocks for look, _ in rows])
    found = [[look.predict([place])[0] for look, place in rows] for _, rows, _ in blocks]
    longest = longest_of(
        [
            (one.displacement, look.scene.inputs(place)[-1], one.picture)
            for (_, rows, _), ones in zip(blocks, found, strict=True)
            for (look, place), one in zip(rows, ones, strict=True)
        ]
    )
    sheet, stories = [], []
    for (title, rows, names), ones in zip(blocks, found, strict=True):
        drawn = []
        for (look, place), (name, about), one in zip(rows, names, ones, strict=True):
            inputs, truth = look.scene.inputs(place), look.scene.truth(place)
            ending = [figure.predicted(one), figure.seen(truth)]
            drawn.append(Row(name, [*map(figure.seen, inputs), *ending, figure.moved(one, longest)], about))
            heading = f"{name}, {title}" if title else name
            stories.append(_Story(f"{heading}\n{', '.join(about)}", inputs, [ending]))
        sheet.append(Block(title, [*_SEEN, f"predicted\n{SEEN * _PAUSE:g} s", _TRUTH, "displacement"], drawn))
    film = _film(figure, words, [("predicted", BLUE), ("ground truth", INK)], stories, ["frame 5, predicted and true"])
    note = "Where a frame looks alike all over, as on a wall, a displacement may be anything."
    return Sheet(figure.title(words), sheet, figure.notes(note), longest), film


def interpolation(figure: Figure) -> tuple[Sheet, Steps]:
    """Figure 9.6: a property's part of the vector between those of scales 1 and 5."""
    scenes = [s for p in PROPERTIES for s in figure.scenes.draw(SHAPES, p, figure.count or 1)]
    figure.focus(scenes)
    models = [(figure.model, BLUE), *((one, RED) for one in figure.baselines)]
    places, blocks = range(len(scenes[0].folders)), []
    for scene in scenes:
        rows = [Row("frame 4", [figure.seen(scene.inputs(place)[-1]) for place in places])]
        for model, colour in models:
            look = Look(model, scene)
            z = interpolated(look.z[:1], look.z[-1:], model.block(scene.property)[None])[0]
            cells = [figure.predicted(one, colour) for one in look.predict(places, z)]
            rows.append(Row(model.name, cells, ["interpolated"], colour))
        rows.append(Row("ground truth", [figure.seen(scene.truth(place)) for place in places]))
        blocks.append(Block(f"{scene.shapes}, {scene.others}", [scene.scale(place) for place in places], rows))
    words = "interpolation between scales 1 and 5"
    red = [f"Red: by {', '.join(one.name for one in figure.baselines)}."] if figure.baselines else []
    sheet = Sheet(
        figure.title(words),
        blocks,
        figure.notes(
            *red, "Scales 2 to 4 of the property are interpolated; each vector moves the fourth frame of its scale."
        ),
    )
    steps = []
    for place in [*places, *reversed(places[1:-1])]:
        columns = [f"{scene.scale(place)}\n{scene.shapes}, {scene.others}" for scene in scenes]
        rows = [
            Row(row.name, [block.rows[number].cells[place] for block in blocks], row.about, row.colour)
            for number, row in enumerate(blocks[0].rows)
        ]
        parts = _abreast(columns, rows)
        steps.append((Sheet(f"{figure.title(words)}: scale {place + 1} of {len(places)}", parts), _SCALE))
    return sheet, steps


def ratios(figure: Figure) -> tuple[Sheet, Steps]:
    """Figure 9.7: a property of scale 1 doubled and tripled."""
    tests = {"unseen shapes": SHAPES, "unseen parameters": PARAMETERS}
    drawn = {
        title: [s for p in PROPERTIES for s in figure.scenes.draw(split, p, figure.count or 1)]
        for title, split in tests.items()
    }
    figure.focus([scene for scenes in drawn.values() for scene in scenes])
    blocks, stories = [], []
    for title, scenes in drawn.items():
        rows = []
        for scene in scenes:
            look, number = Look(figure.model, scene), PROPERTIES.index(scene.property)
            plain = look.predict([0])[0]
            endings = [[figure.predicted(plain), figure.seen(scene.truth(0))]]
            for place, ratio in ((1, "double"), (2, "triple")):
                one = look.predict([place], figure.model.scaled(look.z[:1], number, ratio))[0]
                endings.append([figure.predicted(one), figure.seen(scene.truth(place))])
            cells = [figure.seen(scene.inputs(0)[-1]), *(cell for ending in endings for cell in ending)]
            rows.append(Row(scene.property, cells, [scene.shapes, *scene.others.split(", ")]))
            stories.append(_Story(f"{scene.property}, {title}\n{scene.shapes}", scene.inputs(0), endings))
        heads = ("frame 4\nscale 1", "predicted\nscale 1", "ground truth\nscale 1")
        heads += tuple(f"{word}\nscale {k}" for k in (2, 3) for word in (f"times {k}", "ground truth"))
        blocks.append(Block(title, heads, rows))
    words = "a property doubled and tripled"
    endings = ["frame 5 as it is", "frame 5, doubled", "frame 5, tripled"]
    film = _film(figure, words, [("predicted", BLUE), ("ground truth", INK)], stories, endings)
    note = (
        "The vector of scale 1 is changed, and moves the fourth frame of the scale that it should become. Of unseen "
        "parameters only scale 3 is unseen."
    )
    return Sheet(figure.title(words), blocks, figure.notes(note)), film


def switched(figure: Figure) -> tuple[Sheet, Steps]:
    """Figure 9.8: a property's part of the vector from other shapes of the same scale."""
    scenes = [s for p in PROPERTIES for s in figure.scenes.draw(SHAPES, p, figure.count or 2)]
    donors = [figure.scenes.donor(scene) for scene in scenes]
    figure.focus([*scenes, *donors])
    names = [("switched", BLUE), ("not switched", BLUE), ("ground truth", INK), ("switched with", INK)]
    columns, cells, stories = [], [], []
    for number, (scene, donor) in enumerate(zip(scenes, donors, strict=True)):
        place = (2 * number + figure.scenes.seed) % len(scene.folders)
        look, other, dims = Look(figure.model, scene), Look(figure.model, donor), figure.model.block(scene.property)
        z = replaced(look.z[place : place + 1], dims, other.z[place : place + 1][:, dims])
        changed, plain = figure.predicted(look.predict([place], z)[0]), figure.predicted(look.predict([place])[0])
        truth = figure.seen(scene.truth(place))
        columns.append(f"{scene.scale(place)}, {scene.shapes}\n{scene.others}")
        cells.append([changed, plain, truth, figure.seen(donor.truth(place), f"{donor.shapes}\n{donor.others}")])
        stories.append(_Story(columns[-1], scene.inputs(place), [[changed, plain, truth]]))
    rows = [Row(name, [column[at] for column in cells], colour=colour) for at, (name, colour) in enumerate(names)]
    words = "a property from other shapes of the same scale"
    film = _film(figure, words, names[:3], stories, ["frame 5"])
    return Sheet(figure.title(words), _abreast(columns, rows), figure.notes()), film


def _film(
    figure: Figure, words: str, names: Sequence[tuple[str, Colour]], stories: Sequence[_Story], endings: Sequence[str]
) -> Steps:
    """Collisions beside each other, frame by frame, and then their endings."""
    steps: Steps = []
    columns = [story.heading for story in stories]
    captioned = [any(s.endings[0][at].under is not None for s in stories) for at in range(len(names))]

    def add(title: str, cells: Callable[[_Story, int], Cell], seconds: float) -> None:
        rows = [Row(name, [cells(s, at) for s in stories], colour=colour) for at, (name, colour) in enumerate(names)]
        steps.append((Sheet(f"{figure.title(words)}: {title}", _abreast(columns, rows)), seconds))

    for number in range(SEEN):
        title = f"frame {number + 1} ({number * _PAUSE:g} s)"
        add(title, lambda s, at, n=number: figure.seen(s.inputs[n], "" if captioned[at] else None), _FRAME)
    for number, title in enumerate(endings):
        add(title, lambda s, at, n=number: s.endings[n][at], _ENDING)
    return steps


def _abreast(columns: Sequence[str], rows: Sequence[Row]) -> list[Block]:
    """Columns in blocks of so many as fit beside each other."""
    parts = [range(at, min(at + _ABREAST, len(columns))) for at in range(0, len(columns), _ABREAST)]
    return [
        Block(
            "",
            [columns[at] for at in part],
            [Row(row.name, [row.cells[at] for at in part], row.about, row.colour) for row in rows],
        )
        for part in parts
    ]
