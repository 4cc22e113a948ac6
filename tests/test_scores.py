"""Files of scores: written, read with all that the official scripts put up with, put together, scored; `zoo scores`."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from tests import goldens
from zoo.cli import main
from zoo.data.activities import Action, Annotation, packaged_vocabulary, read_csv
from zoo.errors import DataError, ZooError
from zoo.score_files import ScoreTable, evaluate, fuse, read_scores, tables_of, write_scores

CLASSIFY, LOCALIZE = (goldens.FOLDER / f"temporal_fields_charades_{kind}" for kind in ("classify", "localize"))


def annotated(path):
    return read_csv(path, packaged_vocabulary()).videos


def check(case: goldens.Case, name: str, actual) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64).reshape(case.outputs[name].shape),
        case.outputs[name],
        atol=1e-10,
        rtol=1e-10,
        equal_nan=True,
    )


@pytest.mark.parametrize(("variant", "gt"), [("full", "gt.csv"), ("without_c005", "gt_without_c005.csv")])
def test_classification_files_score_as_the_official_script_says(variant, gt):
    case = goldens.load(CLASSIFY.name)
    found = evaluate(read_scores(CLASSIFY / "submission.txt"), annotated(CLASSIFY / gt), 157)
    check(case, f"{variant}.ap", found.precision / 100)
    check(case, f"{variant}.map", found.values["map_official"] / 100)
    check(case, f"{variant}.map_ignoring_nan", found.values["map"] / 100)
    if variant == "full":
        check(case, "full.wap", found.values["wap"] / 100)
    assert found.missing == (list(annotated(CLASSIFY / gt))[6],)
    assert found.unknown == ()
    assert found.values["videos"] == 14


def test_localisation_files_score_as_the_official_script_says():
    case = goldens.load(LOCALIZE.name)
    videos = annotated(LOCALIZE / "gt.csv")
    table = read_scores(LOCALIZE / "submission.txt")
    found = evaluate(table, videos, 157)
    check(case, "ap", found.precision / 100)
    check(case, "map", found.values["point_map_official"] / 100)
    check(case, "wap", found.values["point_wap"] / 100)
    ids = list(videos)
    assert table.localised
    lacking = [(row, moment) for row, moment in np.argwhere(~table.rows(ids)[1]).tolist()]
    assert lacking == [[*pair] and tuple(pair) for pair in case.manifest["config"]["missing"]]
    assert set(found.missing) <= {f"{ids[row]} {moment + 1}" for row, moment in lacking}


def tables():
    draw = np.random.default_rng(0)
    ids = ("AB12C", "Q9ZZZ", "00001")
    videos = ScoreTable(ids, draw.random((3, 6), dtype=np.float32))
    moments = ScoreTable(ids, draw.random((3, 25, 6)), draw.random((3, 25)) < 0.8)
    return videos, moments


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_written_is_read(which, tmp_path):
    table = tables()[which]
    read = read_scores(write_scores(tmp_path / "new" / "s.txt", table))
    assert read.ids == table.ids
    assert (read.there == table.there).all()
    scores = np.where(table.there[..., None], table.scores, 0)
    assert (read.scores.astype(table.scores.dtype) == scores).all()


def lines(path, *rows):
    path.write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    return path


def test_what_the_scripts_put_up_with(tmp_path):
    file = tmp_path / "s.txt"
    plain = read_scores(lines(file, "A 0.5 1e-3 -inf", "", "B 1 2 3"), 3)
    assert plain.scores.tolist() == [[0.5, 0.001, -np.inf], [1, 2, 3]]
    for rows in (
        ["A\t0.5\t1e-3\t-inf", "B\t1\t2\t3"],
        ["A 0.5 1e-3 -inf ", "B 1 2 3 9"],
        ["A 0.5 1e-3 -inf x", "B 1 2 3"],
    ):
        assert (read_scores(lines(file, *rows), 3).scores == plain.scores).all(), rows
    with pytest.warns(UserWarning, match="1 lines are of something .* the last counts"):
        assert read_scores(lines(file, "A 7 7 7", "B 1 2 3", "A 0.5 1e-3 -inf"), 3).scores[0, 0] == 0.5
    file.write_text("\ufeffA 1 2 3\n", encoding="utf-8")
    assert read_scores(file).ids == ("A",)
    one = " 0.25" * 157
    assert read_scores(lines(file, f"A{one}", f"B{one}")).scores.shape == (2, 157)
    assert read_scores(lines(file, f"A{one} 0", f"B{one} 0")).scores.shape == (2, 157)  # a field after the last
    assert read_scores(lines(file, f"A 3{one}", f"A 4{one}")).scores.shape == (1, 25, 157)
    assert read_scores(lines(file, f"A 3{one}"), localise=True).there.sum() == 1
    with pytest.warns(UserWarning, match="the last counts"):
        assert read_scores(lines(file, "A 0 1", "A 1 0"), localise=False).scores.tolist() == [[1, 0]]


def test_moments_that_are_numbered_from_0_are_shifted(tmp_path):
    with pytest.warns(UserWarning, match="numbered from 0"):
        table = read_scores(lines(tmp_path / "s.txt", "A 24 .5 .6", "A 0 .1 .2", "B 7 0 0"))
    assert table.there.nonzero()[1].tolist() == [0, 24, 7]
    assert table.scores[0, 24].tolist() == [0.5, 0.6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_scores(lines(tmp_path / "s.txt", "A 25 .5 .6", "A 1 .1 .2"))
    assert table.there.nonzero()[1].tolist() == [0, 24]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "is empty"),
        (["A", "B"], {}, "line 1: no score follows the id"),
        (["A 1 2 3", "B 1 2 3 4 5"], {}, "line 2: 5 scores; a line has an id and 3 scores"),
        (["A 1 2 3", "", "B 1 2"], {}, "line 3: 2 scores"),
        (["A 1 2 3"], {"classes": 4}, "line 1: 3 scores; a line has an id and 4"),
        (["A 1 2 3", "B 1 two 3"], {}, "line 2: could not convert string to float: 'two'"),
        (["A 1 .2 .3", "A 1.5 .2 .3"], {"localise": True}, "line 2: invalid literal .*'1.5'"),
        (["A 1 2 3", "B 1 nan 3"], {}, "the score of B and class 1 is NaN"),
        (["A 1 .2 .3", "A 26 .2 .3"], {}, "A has the moment 26; there are 25"),
        (["A 0 .2 .3", "A 25 .2 .3"], {}, "A has the moment 25; there are 25"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*numbered from 0")
def test_what_is_no_file_of_scores_is_refused_by_its_line(rows, options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_scores(lines(tmp_path / "s.txt", *rows), **options)


def test_no_file_no_text_and_what_is_not_written(tmp_path):
    with pytest.raises(DataError, match="there is no file of scores"):
        read_scores(tmp_path / "no.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_scores(tmp_path / "b.txt")
    with pytest.raises(ZooError, match="a score is NaN"):
        write_scores(tmp_path / "w.txt", ScoreTable(("A",), np.array([[np.nan]])))
    with pytest.raises(ZooError, match="'A B' is no id"):
        write_scores(tmp_path / "w.txt", ScoreTable(("A B",), np.ones((1, 2))))
    with pytest.raises(ZooError, match="an id was given twice"):
        ScoreTable(("A", "A"), np.ones((2, 2)))
    with pytest.raises(ZooError, match=r"must be \[1, C\] or \[1, 25, C\]"):
        ScoreTable(("A",), np.ones((1, 24, 2)))
    assert not (tmp_path / "w.txt").exists()


@pytest.mark.parametrize(("how", "output"), [("mean", "mean"), ("product", "product"), ("geometric", "geometric_mean")])
def test_two_files_together(how, output):
    case = goldens.load("temporal_fields_postprocess")
    ids = tuple("ABCDEF")
    rgb, flow = (ScoreTable(ids, case.input(name).sigmoid().numpy().astype(np.float64)) for name in ("rgb", "flow"))
    back = ScoreTable(ids[::-1], flow.scores[::-1])  # in another order
    found, *lacking = fuse(rgb, back, how)
    assert lacking == [(), ()]
    case.check(f"fuse.{output}", torch.from_numpy(found.scores))


def test_what_one_file_lacks_counts_as_zeros():
    a = ScoreTable(("A", "B"), np.array([[0.2, 0.4], [0.6, 0.8]]))
    b = ScoreTable(("C", "A"), np.array([[0.1, 0.3], [0.4, 0.6]]))
    both, in_a, in_b = fuse(a, b)
    assert both.ids == ("A", "B", "C")
    np.testing.assert_allclose(both.scores, [[0.3, 0.5], [0.3, 0.4], [0.05, 0.15]])
    assert (in_a, in_b) == (("C",), ("B",))
    assert both.there.all()
    moments = tables()[1]
    holes = moments.there.copy()
    holes[1, 3] = False
    less = ScoreTable(moments.ids, moments.scores, holes)
    both, in_a, in_b = fuse(moments, less)
    assert (in_a, in_b) == ((), ("Q9ZZZ 4",))
    assert (both.there == moments.there).all()


def test_what_cannot_be_put_together():
    videos, moments = tables()
    with pytest.raises(ZooError, match="classification of 6 classes and of localisation of 6 classes"):
        fuse(videos, moments)
    with pytest.raises(ZooError, match="a product is taken of probabilities"):
        fuse(videos, ScoreTable(videos.ids, videos.scores - 0.5), "product")
    with pytest.raises(ZooError, match="'mean', 'product' or 'geometric', got 'max'"):
        fuse(videos, videos, "max")
    with pytest.raises(ZooError, match="scores of 6 classes, the annotations know 7"):
        evaluate(videos, {}, 7)


def test_who_is_missing_and_who_is_not_annotated():
    videos = {
        "A": Annotation((Action(0, 0.0, 9.0),), 10.0),
        "B": Annotation((), 10.0),
        "C": Annotation((Action(1, 2.0, 2.5),), 10.0),
    }
    found = evaluate(ScoreTable(("Z", "A"), np.array([[9.0] * 3, [0.5] * 3])), videos, 3)
    assert (found.missing, found.unknown) == (("C",), ("Z",))  # B has no label: nothing lacks
    assert found.precision[:2].tolist() == [100, pytest.approx(100 / 3)]  # C behind A, and behind B, which comes before
    moments = ScoreTable(("A", "C"), np.ones((2, 25, 3)), np.arange(25)[None].repeat(2, 0) != 5)
    found = evaluate(moments, videos, 3)
    assert found.missing == ("A 6", "C 6")
    assert (found.values["classes"], found.values["point_map_official"]) == (2, pytest.approx(np.nan, nan_ok=True))


def test_from_predictions_to_tables():
    draw = torch.Generator().manual_seed(0)
    made = [
        {"index": i, "scores": torch.rand(4, generator=draw), "moments": torch.rand(25, 4, generator=draw)}
        for i in (2, 0, 2)
    ]
    videos, moments = tables_of(made, ["A", "B", "C"])
    assert videos.ids == moments.ids == ("A", "C")
    assert (videos.scores[0] == made[1]["scores"].numpy()).all()
    assert (moments.scores[1] == made[2]["moments"].numpy()).all()
    with pytest.raises(ZooError, match="no video was predicted"):
        tables_of([], [])


@pytest.fixture
def root(tmp_path):
    """A root with annotations alone."""
    (tmp_path / "Charades").mkdir()
    shutil.copy(CLASSIFY / "gt_without_c005.csv", tmp_path / "Charades" / "Charades_v1_test.csv")
    return tmp_path


def test_the_commands(root, capsys):
    file, half = CLASSIFY / "submission.txt", root / "half.txt"
    half.write_text("".join(file.read_text().splitlines(keepends=True)[:9]))
    data = ["--data", f"charades={root}"]
    assert main(["scores", "evaluate", str(file), *data]) == 0
    said = capsys.readouterr().out
    assert "28.94" in said
    assert "classes without a positive: 1 (c005); left out" in said
    assert "labelled videos without a line: 1 (VXRSC); ranked last" in said
    assert main(["scores", "evaluate", str(file), *data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["map"] / 100 == pytest.approx(
        float(goldens.load(CLASSIFY.name).outputs["without_c005.map_ignoring_nan"])
    )
    assert found["map_official"] is None
    out = root / "both.txt"
    assert main(["scores", "fuse", str(file), str(half), "--out", str(out), "--how", "geometric"]) == 0
    assert "without a line in" in (said := capsys.readouterr().out)
    assert f"{half}: 4 (" in said
    assert read_scores(out).scores[0, 0] == 0.09
    assert main(["scores", "bars", str(out), "--against", str(half), *data, "--out", str(root / "b.png")]) == 0
    assert (root / "b.png").stat().st_size > 10_000


def test_the_commands_of_localisation(root, capsys):
    shutil.copy(LOCALIZE / "gt.csv", root / "Charades" / "Charades_v1_test.csv")
    data = ["--data", f"charades={root}", "--localize"]
    assert main(["scores", "evaluate", str(LOCALIZE / "submission.txt"), *data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["point_map"] / 100 == pytest.approx(float(goldens.load(LOCALIZE.name).outputs["map"]), abs=1e-10)


def test_what_the_commands_refuse(root, capsys):
    file = str(CLASSIFY / "submission.txt")
    for command, message in (
        (["evaluate", file, "--data", f"kinetics={root}"], "files of scores are of charades"),
        (["evaluate", file, "--data", str(root)], "--data wants NAME=ROOT"),
        (["evaluate", file, "--data", f"charades={root}", "--localize"], "an id, a moment and 157 scores"),
        (["evaluate", str(LOCALIZE / "submission.txt"), "--data", f"charades={root}"], "add --localize"),
        (["bars", file, "--data", f"charades={root}", "--out", "b.jpg"], "is a PNG"),
        (["fuse", file, str(LOCALIZE / "submission.txt"), "--out", str(root / "x.txt")], "cannot be put together"),
    ):
        assert main(["scores", *command]) == 1
        assert message in capsys.readouterr().err
