"""Words and triples: the numbers of the released evaluation, the rank among all triples, and what Table 3 counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests import goldens
from tests.networks.test_svo import released_head
from zoo.errors import ZooError
from zoo.metrics.svo import EPSILON, SvoScore, SvoShift, hits, svo_accuracy, triple_rank
from zoo.networks.svo import svo_loss

CLOSE = {"atol": 1e-5, "rtol": 0}  # tighter than the case asks: the small number in the divisors must show
SHORT = {"subject": "subj", "verb": "verb", "object": "obj"}  # the released code's names


def pooled(case: goldens.Case, scores: Tensor) -> list[tuple[int, int, Tensor, Tensor]]:
    """Video, segment, mean scores ``[3, V]`` and triples ``[K, 3]`` of every segment that has clips."""
    result, first = [], 0
    for video, length in enumerate(case.stored["lens"].tolist()):
        clips = torch.arange(first, first + length)
        label = case.stored["clip_labels"][clips]
        for segment, own in enumerate((clips[label == 0], clips[label > 0])):
            if len(own):
                result.append((video, segment, scores[own].mean(0), case.stored["svo_labels"][:, own[0]]))
        first += length
    return result


def complete(triples: Tensor) -> Tensor:
    return triples[(triples >= 0).all(1)]


def test_released_evaluation():
    case = goldens.load("goal_trajectory_svo")
    scores = released_head(case)(case.input("h"))
    case.check("scores", scores)
    labels = case.stored["train_labels"]
    case.check("train.loss", svo_loss(scores, labels))
    accuracy = svo_accuracy(scores, labels)
    case.check("train.acc_percent", accuracy["top1"])
    case.check("train.acc_allthree_percent", accuracy["all_top1"])

    segments = pooled(case, scores)
    metric = SvoScore()
    for video, segment, prediction, triples in segments:
        metric.update(prediction, triples, video=video, segment=segment)
    result = metric.compute()
    assert (result["videos"], result["predictions"]) == (5, 8)
    for k in (1, 5):
        for name, short in SHORT.items():
            case.check(f"eval.svo_pooled_acc_{short}_{k}", result[f"{name}_top{k}"].float(), **CLOSE)
        case.check(f"eval.svo_pooled_acc_allthree_{k}", result[f"all_top{k}"], **CLOSE)
        mean = sum(case.outputs[f"eval.svo_pooled_acc_{short}_{k}"] for short in SHORT.values()) / 3
        assert float(result[f"average_top{k}"]) == pytest.approx(float(mean), abs=1e-4)
        top = torch.stack([prediction for _, _, prediction, _ in segments]).topk(k).indices
        case.check(f"eval.svo_preds_top{k}", top)

    # The code's own summary of the three positions, which the paper's tables do not use: any word of any triple counts.
    right = {k: [hits(prediction, triples, k) for _, _, prediction, triples in segments] for k in (1, 5)}
    for k, of in right.items():
        case.check(f"eval.svo_pooled_acc_{k}", mean_of([own.any().double() / (1 + EPSILON) / 3 for own in of]), **CLOSE)
    # And without the maximum over triples each triple is a sample of its own.
    for k, of in right.items():
        known = sum((triples >= 0).sum(0) for *_, triples in segments)
        for position, short in enumerate(SHORT.values()):
            found = sum(own[:, position].sum() for own in of)
            share = 100 * found / (known[position] + EPSILON)
            case.check(f"eval_nomaxpool.svo_pooled_acc_{short}_{k}", share, **CLOSE)
        count = [len(complete(triples)) + EPSILON for *_, triples in segments]
        shares = [own.sum().double() / n / 3 for own, n in zip(of, count, strict=True)]
        case.check(f"eval_nomaxpool.svo_pooled_acc_{k}", mean_of(shares), **CLOSE)
        shares = [own.all(1).sum().double() / (len(own) + EPSILON) for own in of]
        case.check(f"eval_nomaxpool.svo_pooled_acc_allthree_{k}", mean_of(shares), **CLOSE)

    ranks, losses = [], []
    for *_, prediction, triples in segments:
        own = complete(triples)
        every = prediction.shape[1] ** 3
        behind = triple_rank(prediction.double().log_softmax(1), own).double()
        ranks.append(((every - behind) / every).sum() / (len(own) + EPSILON))
        if len(own):
            again = prediction.expand(len(own), -1, -1)
            alone = [svo_loss(again[:, p : p + 1], own[:, p : p + 1]) for p in range(3)]
            losses.append(torch.stack([svo_loss(again, own), *alone]) * len(own) / (len(own) + EPSILON))
    case.check("eval.svo_rank", torch.stack(ranks), atol=1e-7, rtol=0)
    for name, values in zip(("loss", *(f"loss_{s}" for s in SHORT.values())), torch.stack(losses).T, strict=True):
        case.check(f"eval.svo_{name}", values)
    case.assert_complete()


def mean_of(shares: list[Tensor]) -> Tensor:
    return 100 * torch.stack(shares).mean()


def brute_rank(log_probs: Tensor, triple: Tensor) -> int:
    subjects, verbs, objects = log_probs
    sums = (subjects[:, None, None] + verbs[:, None]) + objects
    return int((sums < sums[tuple(triple)]).sum())


@pytest.mark.parametrize("kind", ["noise", "ties", "flat", "rounding", "steep", "impossible"])
def test_the_rank_is_that_of_counting_all_triples(kind):
    draw = torch.Generator().manual_seed(3)
    words = 9
    log_probs = torch.randn(3, words, generator=draw, dtype=torch.float64).log_softmax(1)
    if kind == "ties":
        log_probs = -torch.randint(0, 4, (3, words), generator=draw).double()
    elif kind == "flat":
        log_probs = torch.full_like(log_probs, -0.1)
    elif kind == "rounding":  # sums of tenths: equal on paper, apart by a bit in one order of adding and not another
        log_probs = -torch.randint(1, 9, (3, words), generator=draw).double() / 10
    elif kind == "steep":
        log_probs = 300 * log_probs
    elif kind == "impossible":
        log_probs[:, ::2] = -torch.inf
    triples = torch.tensor(list(itertools.product(range(words), repeat=3)))
    expected = [brute_rank(log_probs, triple) for triple in triples]
    assert triple_rank(log_probs, triples).tolist() == expected
    # One alone takes the way with the most left out before sorting.
    some = triples[:: len(triples) // 40]
    assert [int(triple_rank(log_probs, own[None])) for own in some] == expected[:: len(triples) // 40]


def test_the_rank_among_4e10_triples():
    words = 3615
    log_probs = (
        torch.arange(words, dtype=torch.float64).expand(3, -1).clone() - words
    )  # whole numbers: counts are known
    best, worst = torch.full((3,), words - 1), torch.zeros(3, dtype=torch.int64)
    middle = torch.tensor([words // 2, words // 2, words // 2])
    ranks = triple_rank(log_probs, torch.stack([best, worst, middle]))
    top = 3 * (words // 2)  # triples of 0..3614 with a smaller sum: half of those that do not have this very sum
    equal = sum(min(words - 1, top - a) - max(0, top - a - words + 1) + 1 for a in range(words))
    assert ranks.tolist() == [words**3 - 1, 0, (words**3 - equal) // 2]


def test_what_has_no_rank():
    log_probs = torch.zeros(3, 5, dtype=torch.float64)
    assert triple_rank(log_probs, torch.zeros(0, 3, dtype=torch.int64)).shape == (0,)
    with pytest.raises(ZooError, match="missing word"):
        triple_rank(log_probs, torch.tensor([[0, -1, 2]]))
    with pytest.raises(ZooError, match=r"an id outside -1\.\.4"):
        triple_rank(log_probs, torch.tensor([[0, 5, 2]]))
    for bad in (log_probs.float(), log_probs[:2], log_probs * torch.nan, log_probs + 1):
        with pytest.raises(ZooError, match="must be float64"):
            triple_rank(bad, torch.tensor([[0, 1, 2]]))


def one_hot(*words: int, vocabulary: int = 12) -> Tensor:
    """Scores that put one word first and the rest in order of their ids."""
    scores = -torch.arange(vocabulary).float().repeat(3, 1)
    scores[torch.arange(3), torch.tensor(words)] = 1.0
    return scores


def test_words_of_different_triples_do_not_make_one():
    metric = SvoScore()
    metric.update(one_hot(8, 9, 10), torch.tensor([[8, 9, 11], [7, 7, 10]]), video=0, segment=0)
    metric.update(one_hot(8, 9, 10), torch.tensor([[8, 9, 10], [8, 9, -1]]), video=0, segment=1)
    metric.update(one_hot(8, 9, 10), torch.tensor([[-1, 3, 6]]), video=1, segment=0)  # 3 is among five, 6 is not
    metric.update(one_hot(8, 9, 10), torch.zeros(0, 3, dtype=torch.int64), video=2, segment=1)
    result = {name: pytest.approx(float(value), abs=0.01) for name, value in metric.compute().items()}
    assert result == {
        "subject_top1": 100,
        "verb_top1": 200 / 3,
        "object_top1": 200 / 3,
        "average_top1": 700 / 9,
        "all_top1": 25,
        "subject_top5": 100,
        "verb_top5": 100,
        "object_top5": 200 / 3,
        "average_top5": 800 / 9,
        "all_top5": 25,
        "videos": 3,
        "predictions": 4,
    }


def test_equal_scores_favour_the_lower_word():
    assert hits(torch.zeros(3, 8), torch.tensor([[4, 5, -1], [0, 7, 4]]), 5).tolist() == [
        [True, False, False],
        [True, False, True],
    ]


def test_shift_counts_points_of_accuracy_and_ranks():
    metric = SvoShift()
    generator = torch.Generator().manual_seed(0)
    expected = {"intentional": [], "unintentional": []}
    for video in range(3):
        before, after = torch.randn(2, 3, 6, generator=generator)
        triples = {name: torch.randint(0, 6, (2 + video, 3), generator=generator) for name in expected}
        triples["unintentional"][0, 1] = -1
        if video == 2:
            triples["unintentional"] = triples["unintentional"][:1]  # no complete one
        metric.update(before, after, video=video, **triples)
        for name, own in triples.items():
            change = [
                brute_rank(after.double().log_softmax(1), t) - brute_rank(before.double().log_softmax(1), t)
                for t in complete(own)
            ]
            if change:
                expected[name].append(sum(change) / len(change))
    result = metric.compute()
    assert result["videos"] == 3
    assert [len(of) for of in expected.values()] == [3, 2]
    for name, of in expected.items():
        assert float(result[f"{name}_d_rank_millions"]) == pytest.approx(sum(of) / len(of) / 1e6)


def test_shift_towards_the_goal():
    metric = SvoShift()
    goal, failure = torch.tensor([[6, 7, 8]]), torch.tensor([[9, 10, 11], [9, -1, 11]])
    metric.update(one_hot(9, 10, 11), one_hot(6, 7, 11), intentional=goal, unintentional=failure, video=0)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    metric.update(one_hot(9, 10, 11), one_hot(6, 7, 8), intentional=nothing, unintentional=failure, video=1)
    result = metric.compute()
    assert float(result["intentional_d_acc"]) == pytest.approx(200 / 3, abs=0.01)
    assert float(result["unintentional_d_acc"]) == pytest.approx(-(100 + 100 + 50) / 3, abs=0.01)
    assert result["intentional_d_rank_millions"] > 0 > result["unintentional_d_rank_millions"]


def test_what_cannot_be_scored_is_refused_by_name():
    triples = torch.tensor([[0, 1, 2]])
    scores = torch.zeros(3, 6)

    def score(scores: Tensor = scores, triples: Tensor = triples, segment: int = 1, video: int = 7) -> None:
        SvoScore().update(scores, triples, video=video, segment=segment)

    with pytest.raises(ZooError, match=r"video 7, unintentional: the scores are not finite"):
        score(scores * torch.nan)
    with pytest.raises(ZooError, match=r"video 7, unintentional: triples \[\[0, 1, 6\]\] have an id outside -1\.\.5"):
        score(triples=torch.tensor([[0, 1, 6]]))
    with pytest.raises(ZooError, match=r"video 7, unintentional: scores must be floating-point \[3, V\]"):
        score(torch.zeros(4, 3, 6))
    with pytest.raises(ZooError, match="video 7: segment must be 0"):
        score(segment=2)
    with pytest.raises(ZooError, match="numbered from 0"):
        score(video=-1)
    with pytest.raises(ZooError, match=r"SvoShift\.update: video 7, after: the scores are not finite"):
        SvoShift().update(scores, scores + torch.inf, intentional=triples, unintentional=triples, video=7)
    with pytest.raises(ZooError, match="must both be"):
        SvoShift().update(scores, torch.zeros(3, 5), intentional=triples, unintentional=triples, video=7)
