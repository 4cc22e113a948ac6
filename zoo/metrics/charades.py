"""Mean average precision as the official scripts of Charades (Sigurdsson et al., ECCV 2016) compute it.

Classification ranks videos by the score of a class, localisation ranks 25 moments of each video. The average precision
(AP) of a class is the mean, over its positives, of the precision at their ranks; equal scores keep the order of the
list. The official means are plain ones over all classes, NaN as soon as one class has no positive; here such a class is
left out, and the official mean stands beside it under a name of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import ZooError
from zoo.metrics.ranking import average_precision, checked_labels, expected_average_precision
from zoo.metrics.rows import FrameRows

POINTS = 25  # moments of a video that localisation is scored at
_COMPACT_AFTER = 1024  # rows


def means(precision: Tensor, positives: Tensor) -> dict[str, float]:
    """Means over classes in percent.

    Args:
        precision: ``[C]`` APs as shares, NaN where there is no positive.
        positives: ``[C]`` how many.

    Returns:
        ``map`` is the plain mean and ``wap`` the mean weighted by the numbers of positives, both over classes that have
        some (0 if none has); ``map_official`` is ``map``, or NaN where a class has none; ``classes`` have some.
    """
    known = positives > 0
    precision, weight = precision[known].double(), positives[known].double()
    plain = 100 * float(precision.mean()) if len(precision) else 0.0
    return {
        "map": plain,
        "wap": 100 * float((precision * weight).sum() / weight.sum()) if len(precision) else 0.0,
        "map_official": plain if len(precision) and known.all() else float("nan"),
        "classes": int(known.sum()),
    }


def without_unlabelled(scores: Tensor, labels: Tensor) -> Tensor:
    """The scores ``[N, C]`` that classification ranks: rows without any label are put last, by an infinity."""
    return torch.where((labels != 0).any(1, keepdim=True), scores, -torch.inf)


class _ScoredVideos(Metric):
    """Scores and labels of videos, each known by its number: one that comes twice counts once, whoever saw it.

    Kept are a float32 and a byte for each score: 1.5 MB for classification on the 1,863 videos of Charades' test, 37 MB
    for localisation.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    index: list[Tensor]
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        if min(shape) < 1:
            raise ZooError(f"{type(self).__name__} needs at least one class and one moment, got {shape}.")
        self.shape = shape  # of a video's scores
        self._fresh = 0  # rows since the last merge
        self.add_state("index", default=[], dist_reduce_fx="cat")  # [R] int64
        self.add_state("scores", default=[], dist_reduce_fx="cat")  # [R, *shape] float32
        self.add_state("labels", default=[], dist_reduce_fx="cat")  # [R, *shape] uint8

    def update(self, scores: Tensor, labels: Tensor, index: Tensor) -> None:
        """Take B videos: their scores and labels (0 or 1), of the metric's shape each, and their numbers ``[B]``.

        Raises:
            ZooError: wrong shapes, labels that are no labels, a NaN among the scores; names the video.
        """
        name = f"{type(self).__name__}.update"
        if scores.shape[1:] != self.shape or labels.shape != scores.shape or index.shape != scores.shape[:1]:
            raise ZooError(
                f"{name}: scores {tuple(scores.shape)} and labels {tuple(labels.shape)} must both be "
                f"[B, {', '.join(map(str, self.shape))}], with an index for each of the B videos, got "
                f"{tuple(index.shape)}."
            )
        if index.is_floating_point() or (len(index) and int(index.min()) < 0):
            raise ZooError(f"{name}: videos are numbered from 0, got the index {index.tolist()}.")
        if not len(index):
            return
        labels = checked_labels(name, labels)
        scores = scores.detach().to(self.device, torch.float32)
        if (bad := scores.isnan()).any():
            place = bad.nonzero()[0].tolist()
            where = f"class {place[-1]}" + (f" at moment {place[1]}" if len(place) > 2 else "")
            raise ZooError(
                f"{name}: video {int(index[place[0]])}: the score of {where} is NaN; NaN has no rank. Look for what "
                "broke the model, or leave the video out."
            )
        self.index.append(index.to(self.device, torch.int64))
        self.scores.append(scores)
        self.labels.append(labels.to(self.device))
        self._fresh += len(index)
        # Merging when what is new has outgrown the rest costs O(log R) a row over the whole test.
        if self._fresh >= max(_COMPACT_AFTER, len(self.index[0])):
            self._merge()

    def sync(self, *args, **kwargs) -> None:
        """Merge first: it sends less, and a process without videos joins the gather with tables of no rows."""
        if not self._is_synced:
            self._merge()
        super().sync(*args, **kwargs)

    def per_class(self) -> Tensor:
        """The AP of every class in percent, float64 ``[C]`` on the CPU; NaN where there is no positive.

        If there are several processes, all must ask.
        """
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        ):
            return 100 * self._precision()[0]

    def _precision(self) -> tuple[Tensor, Tensor, int]:
        """The AP of every class, its positives, and the number of videos."""
        index, scores, labels = (state.cpu() for state in self._merged())
        classes = self.shape[-1]
        rows, truth = scores.view(-1, classes), labels.view(-1, classes)
        return average_precision(self._ranked(rows, truth), truth), truth.sum(0), len(index)

    def _ranked(self, scores: Tensor, labels: Tensor) -> Tensor:
        return scores

    def _merged(self) -> tuple[Tensor, Tensor, Tensor]:
        """The states in the order of the videos' numbers, the first of each number."""
        if isinstance(self.index, list) and not self.index:
            kinds = (torch.int64, ()), (torch.float32, self.shape), (torch.uint8, self.shape)
            return tuple(torch.zeros(0, *shape, dtype=kind, device=self.device) for kind, shape in kinds)
        # After a gather torchmetrics leaves tensors where lists were.
        states = (self.index, self.scores, self.labels)
        index, scores, labels = (torch.cat(state) if isinstance(state, list) else state for state in states)
        number, order = index.sort(stable=True)
        first = torch.ones_like(number, dtype=torch.bool)
        first[1:] = number[1:] != number[:-1]
        order = order[first]
        return index[order], scores[order], labels[order]

    def _merge(self) -> None:
        index, scores, labels = self._merged()
        self.index, self.scores, self.labels, self._fresh = [index], [scores], [labels], 0

    def _result(self, values: dict[str, float]) -> dict[str, Tensor]:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return {name: torch.tensor(float(value), dtype=dtype, device=self.device) for name, value in values.items()}


class CharadesClassificationMAP(_ScoredVideos):
    """Mean average precision of the classes of whole videos; exact for any number of processes.

    A video without any label ranks behind all others, whatever its scores, as in the official script. One that has no
    scores but should count is given as a row of -inf.

    Args:
        num_classes: C; `update` takes scores and labels ``[B, C]``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__((num_classes,))

    def compute(self) -> dict[str, Tensor]:
        """``map``, ``wap``, ``map_official`` and ``classes`` as `means` says, and how many ``videos``."""
        precision, positives, videos = self._precision()
        return self._result(means(precision, positives) | {"videos": videos})

    def _ranked(self, scores: Tensor, labels: Tensor) -> Tensor:
        return without_unlabelled(scores, labels)


class CharadesLocalizationMAP(_ScoredVideos):
    """Mean average precision of the classes at moments of videos; exact for any number of processes.

    Every moment of every video is a row of its own; one without labels is a negative of all classes, with the scores
    that it has.

    Args:
        num_classes: C; `update` takes scores and labels ``[B, points, C]``.
        points: moments of each video.
    """

    def __init__(self, num_classes: int, points: int = POINTS) -> None:
        super().__init__((points, num_classes))

    def compute(self) -> dict[str, Tensor]:
        """``point_map``, ``point_wap`` and ``point_map_official`` as `means` says, and how many ``videos``."""
        precision, positives, videos = self._precision()
        found = means(precision, positives)
        values = {f"point_{name}": found[name] for name in ("map", "wap", "map_official")}
        return self._result(values | {"videos": videos})


class ChanceMAP(FrameRows):
    """What both metrics give scores that are drawn at random, in the long run: no draw is made.

    Args:
        num_classes: C.
    """

    higher_is_better = True

    def __init__(self, num_classes: int) -> None:
        super().__init__(key=2, columns=2 + 2 * num_classes)
        self.num_classes = num_classes

    def update(self, labels: Tensor, moments: Tensor, index: Tensor) -> None:
        """Take B videos: labels of 0 and 1, ``[B, C]`` and at 25 moments ``[B, 25, C]``, and their numbers ``[B]``."""
        wanted = (len(index), self.num_classes), (len(index), POINTS, self.num_classes)
        if (tuple(labels.shape), tuple(moments.shape)) != wanted:
            raise ZooError(
                f"ChanceMAP.update: labels {tuple(labels.shape)} and moments {tuple(moments.shape)} of {len(index)} "
                f"videos must be {wanted[0]} and {wanted[1]}."
            )
        labels, moments = (checked_labels("ChanceMAP.update", y) for y in (labels, moments))
        self._add(index, torch.zeros_like(index), labels, moments.sum(1))

    def compute(self) -> dict[str, Tensor]:
        """The values of `CharadesClassificationMAP` and `CharadesLocalizationMAP`, and ``map_all_videos``.

        That is ``map`` if the videos without labels were ranked among the others, which the official script does not.
        """
        rows = self._table()
        labels, moments = rows[:, 2:].split(self.num_classes, 1)
        found, labelled = labels.sum(0), int(labels.any(1).sum())
        values = means(expected_average_precision(found, labelled), found)
        all_videos = means(expected_average_precision(found, len(rows)), found)["map"]
        positives = moments.sum(0)
        points = means(expected_average_precision(positives, POINTS * len(rows)), positives)
        points.pop("classes")
        return self._result(
            values
            | {f"point_{name}": value for name, value in points.items()}
            | {"map_all_videos": all_videos, "videos": len(rows)}
        )
