"""Mean average precision against the official scripts, and against itself over batches, orders and processes."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import Tensor

from tests import goldens
from tests.pairs import in_two
from zoo.errors import ZooError
from zoo.metrics.charades import (
    CharadesClassificationMAP,
    CharadesLocalizationMAP,
    means,
    without_unlabelled,
)
from zoo.metrics.ranking import average_precision


def annotations(case: goldens.Case, name: str) -> list[tuple[str, list[tuple[int, float, float]], float]]:
    """The rows of a case's csv: id, (class, start, end) of its actions, length."""
    with open(goldens.FOLDER / case.name / name, newline="") as file:
        rows = list(csv.DictReader(file))
    actions = [[action.split() for action in row["actions"].split(";") if action] for row in rows]
    return [
        (row["id"], [(int(c[1:]), float(s), float(e)) for c, s, e in own], float(row["length"]))
        for row, own in zip(rows, actions, strict=True)
    ]


def submitted(case: goldens.Case, frames: bool) -> dict[str, list[float]]:
    """The lines of a case's submission by id, or by id and frame."""
    lines = [line.split() for line in (goldens.FOLDER / case.name / "submission.txt").read_text().splitlines()]
    return {" ".join(line[: 1 + frames]): [float(x) for x in line[1 + frames :]] for line in lines}


@pytest.mark.parametrize("variant", ["full", "without_c005"])
def test_classification_is_the_official_script_s(variant):
    case = goldens.load("temporal_fields_charades_classify")
    rows = annotations(case, "gt.csv" if variant == "full" else "gt_without_c005.csv")
    found = submitted(case, frames=False)
    scores = torch.tensor([found.get(name, [-torch.inf] * 157) for name, _, _ in rows], dtype=torch.float64)
    labels = torch.zeros(len(rows), 157, dtype=torch.uint8)
    for row, (_, actions, _) in enumerate(rows):
        labels[row, [c for c, _, _ in actions]] = 1
    case.check(f"{variant}.labels", labels)
    precision = average_precision(without_unlabelled(scores, labels), labels)
    torch.testing.assert_close(precision, case.outputs[f"{variant}.ap"], atol=1e-10, rtol=1e-10, equal_nan=True)
    metric = CharadesClassificationMAP(157)
    metric.update(scores, labels, torch.arange(len(rows)))
    result = metric.compute()
    torch.testing.assert_close(metric.per_class() / 100, precision, equal_nan=True)
    case.check(f"{variant}.map_ignoring_nan", result["map"][None] / 100)
    case.check(f"{variant}.python_map", result["map"][None] / 100)
    torch.testing.assert_close(
        result["map_official"][None] / 100, case.outputs[f"{variant}.map"], atol=1e-10, rtol=1e-10, equal_nan=True
    )
    known, whole = labels.sum(0) > 0, labels.sum()
    weighted = case.outputs[f"{variant}.python_wap_vector"]
    torch.testing.assert_close((precision * labels.sum(0) / whole)[known], weighted[known], atol=1e-10, rtol=1e-10)
    assert float(result["wap"]) == pytest.approx(100 * float(weighted[known].sum()), abs=1e-8)
    if variant == "full":
        case.check("full.wap", result["wap"][None] / 100)
    else:
        assert case.outputs["without_c005.wap"].isnan()
    assert (result["classes"], result["videos"]) == (157 - (variant != "full"), 14)


def test_localisation_is_the_official_script_s():
    case = goldens.load("temporal_fields_charades_localize")
    rows = annotations(case, "gt.csv")
    found = submitted(case, frames=True)
    scores = torch.full((len(rows), 25, 157), -torch.inf)
    labels = torch.zeros(len(rows), 25, 157, dtype=torch.uint8)
    for row, (name, actions, length) in enumerate(rows):
        for point in range(25):
            if (line := found.get(f"{name} {point + 1}")) is not None:
                scores[row, point] = torch.tensor(line)
            for c, start, end in actions:
                labels[row, point, c] |= start <= point / 25 * length <= end
    case.check("labels", labels.view(-1, 157))
    metric = CharadesLocalizationMAP(157)
    metric.update(scores, labels, torch.arange(len(rows)))
    result = metric.compute()
    case.check("ap", metric.per_class() / 100)
    case.check("map", result["point_map"][None] / 100)
    case.check("map", result["point_map_official"][None] / 100)
    case.check("wap", result["point_wap"][None] / 100)
    case.assert_complete()
    assert result["videos"] == 8


def check_nan(case: goldens.Case, name: str, actual: Tensor) -> None:
    """`check` where NaN equals NaN."""
    case.checked.add(name)
    torch.testing.assert_close(
        actual, case.outputs[name], atol=case.manifest["atol"], rtol=case.manifest["rtol"], equal_nan=True
    )


def test_the_port_s_own_metric():
    case = goldens.load("temporal_fields_map_python")
    labels = case.stored["gt"].to(torch.uint8)
    for name, scores in (("distinct", case.input("scores")), ("tied", case.input("scores").round())):
        positives = labels.sum(0)
        for prefix, ranked in (("", scores), ("charades_", without_unlabelled(scores, labels))):
            precision = average_precision(ranked, labels)
            check_nan(case, f"{name}.{prefix}ap", precision)
            case.check(
                f"{name}.{prefix}map", torch.tensor([means(precision, positives)["map"] / 100], dtype=torch.float64)
            )
        plain = average_precision(scores, labels)
        check_nan(case, f"{name}.wap_vector", plain * positives / labels.sum())
    case.assert_complete()


def test_the_metric_of_clip_models():
    case = goldens.load("region_graph_charades_map")
    scores = case.input("clip_logits").sigmoid().amax(1)
    labels = case.outputs["labels"]
    case.check("video_scores", scores)
    case.check("labels", labels)
    metric = CharadesClassificationMAP(9)
    metric.update(scores, labels, torch.arange(40))
    dtype = case.outputs["charades_ap"].dtype
    check_nan(case, "charades_ap", (metric.per_class() / 100).to(dtype))
    case.check("charades_map", (metric.compute()["map"] / 100).to(case.outputs["charades_map"].dtype))
    plain = average_precision(scores, labels)
    check_nan(case, "plain_ap", plain.to(dtype))
    case.check("plain_map", plain.nanmean().to(case.outputs["plain_map"].dtype))
    case.assert_complete()


def test_an_unlabelled_video_ranks_last_in_classification_and_as_it_is_in_localisation():
    scores, labels = torch.tensor([[0.9], [0.5]]), torch.tensor([[0], [1]])
    videos = CharadesClassificationMAP(1)
    videos.update(scores, labels, torch.arange(2))
    points = CharadesLocalizationMAP(1, points=1)
    points.update(scores[:, None], labels[:, None], torch.arange(2))
    assert videos.compute()["map"] == 100
    assert points.compute()["point_map"] == 50


def test_nothing_and_classes_without_positives():
    nothing = {name: float(value) for name, value in CharadesClassificationMAP(3).compute().items()}
    assert nothing.pop("map_official") != nothing["map"]
    assert nothing == {"map": 0, "wap": 0, "classes": 0, "videos": 0}
    assert CharadesLocalizationMAP(3, points=2).per_class().isnan().all()
    metric = CharadesClassificationMAP(2)
    metric.update(torch.rand(3, 2), torch.tensor([[1, 0]] * 3), torch.arange(3))
    result = metric.compute()
    assert (result["map"], result["wap"], result["classes"]) == (100, 100, 1)
    assert result["map_official"].isnan()


def test_what_cannot_be_scored_is_refused_by_name():
    metric, videos = CharadesLocalizationMAP(3, points=2), torch.tensor([4, 7])
    scores, labels = torch.rand(2, 2, 3), torch.zeros(2, 2, 3, dtype=torch.uint8)
    broken = scores.clone()
    broken[1, 0, 2] = torch.nan
    for give, message in (
        ((broken, labels, videos), "video 7: the score of class 2 at moment 0 is NaN"),
        ((scores[:, :, :2], labels[:, :, :2], videos), r"must both be \[B, 2, 3\]"),
        ((scores, labels[:1], videos), r"labels \(1, 2, 3\) must both"),
        ((scores, labels, videos[:1]), r"got \(1,\)"),
        ((scores, labels + 2, videos), r"labels must be 0 or 1 for each class, got \[2\]"),
        ((scores, labels, videos - 5), r"numbered from 0, got the index \[-1, 2\]"),
        ((scores, labels, videos.float()), "numbered from 0"),
    ):
        with pytest.raises(ZooError, match=message):
            metric.update(*give)
    assert metric.compute()["videos"] == 0
    with pytest.raises(ZooError, match="at least one class"):
        CharadesClassificationMAP(0)


COUNT, CLASSES = 41, 5


def metrics_fed(rows: list[int], batch: int = 3) -> list:
    """Both metrics, given these videos of a fixed list, many scores of which are equal."""
    draw = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 6, (COUNT, 25, CLASSES), generator=draw) / 6
    labels = (torch.rand(COUNT, 25, CLASSES, generator=draw) < 0.02).to(torch.uint8)
    made = [CharadesClassificationMAP(CLASSES), CharadesLocalizationMAP(CLASSES)]
    for at in range(0, len(rows), batch):
        index = torch.tensor(rows[at : at + batch])
        made[0].update(scores[index].amax(1), labels[index].amax(1), index)
        made[1].update(scores[index], labels[index], index)
    return made


def values(metrics: list) -> dict[str, float]:
    found = {name: float(value) for metric in metrics for name, value in metric.compute().items()}
    return found | {f"{i}.{c}": x for i, m in enumerate(metrics) for c, x in enumerate(m.per_class().tolist())}


def test_order_batches_and_repetitions_do_not_matter(monkeypatch):
    expected = values(metrics_fed(list(range(COUNT)), batch=COUNT))
    assert expected["videos"] == COUNT
    assert 0 < expected["map"] < 100
    monkeypatch.setattr("zoo.metrics.charades._COMPACT_AFTER", 4)
    shuffled = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).tolist()
    made = metrics_fed([*shuffled, *shuffled[:9], *shuffled[5:]], batch=1)
    assert values(made) == expected
    assert sum(map(len, made[1].index)) <= 2 * COUNT  # of 86 that came


def _one_of_two(rank: int, splits: dict[str, list[list[int]]]) -> dict:
    results = {}
    for name, shares in splits.items():
        made = metrics_fed(shares[rank])
        results[name] = values(made)
        for metric in made:
            metric.reset()
        assert values(made)["videos"] == 0
    return results


@pytest.mark.slow
def test_two_processes_give_the_number_of_one(tmp_path):
    everything = list(range(COUNT))
    splits = {
        "strided, padded": [everything[::2], [*everything[1::2], 0]],
        "one has all": [[], everything],
        "overlapping": [everything[:30], everything[10:]],
    }
    expected = values(metrics_fed(everything))
    assert in_two(tmp_path, _one_of_two, splits) == [dict.fromkeys(splits, expected)] * 2
