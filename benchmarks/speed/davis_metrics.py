"""How long DAVIS' J and F take: a run of frames of 480 x 854 with a few objects, on one core.

Draws objects with wavy outlines that move over 24 frames, and predictions that are somewhat off. Every contender gives
J and F of every object in every frame, and all must agree:

- zoo: `zoo.metrics.davis.DavisJF.update`, eight frames at a time, with everything that it does beside;
- plain, OpenCV: the published algorithm in plain NumPy (for each object two boundary maps, dilated by a disk),
  with the dilation that the published evaluator takes, where OpenCV is installed;
- plain, SciPy: the same with `scipy.ndimage.binary_dilation`;
- published: the evaluator itself, where `davis2017` and what it needs can be imported.

Times are medians of the alternating repetitions; CPU time beside wall time tells how far a busy machine disturbed them.

    OMP_NUM_THREADS=1 python benchmarks/speed/davis_metrics.py --repeats 7 --json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from zoo.metrics.davis import DavisJF

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "davis_metrics.json"
HEIGHT, WIDTH, FRAMES, RUN = 480, 854, 24, 8
Scores = tuple[np.ndarray, np.ndarray]  # J and F, [objects, frames]


def scene(objects: int, shift: float) -> np.ndarray:
    """Label maps ``[FRAMES, HEIGHT, WIDTH]``; the shift tells a prediction from the annotation."""
    rng = np.random.default_rng(objects)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    maps = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for label in range(1, objects + 1):
        top, left, radius = rng.uniform(120, 360), rng.uniform(150, 700), rng.uniform(40, 110)
        waves, speed = rng.integers(3, 12), rng.uniform(-4, 4, 2)
        for t in range(FRAMES):
            dy, dx = y - top - speed[0] * t - shift * label, x - left - speed[1] * t + shift
            outline = radius * (1 + 0.12 * np.sin(waves * np.arctan2(dy, dx) + t / 6 + shift / 10))
            maps[t][dy**2 + dx**2 < outline**2] = label
    return maps


def zoo(prediction: np.ndarray, truth: np.ndarray, objects: int) -> Scores:
    """By the metric; frame numbers start at 1 and end before the last, so that all are scored."""
    metric = DavisJF()
    for at in range(0, FRAMES, RUN):
        numbers = torch.arange(at, min(at + RUN, FRAMES)) + 1
        pair = (torch.from_numpy(maps[at : at + RUN]) for maps in (prediction, truth))
        metric.update(*pair, sequence=0, frames=numbers, length=FRAMES + 2, objects=objects)
    curves = metric.per_frame()
    return tuple(torch.stack([curve[name] for curve in curves]).numpy() for name in ("j", "f"))


def plain(dilate: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., Scores]:
    """The published algorithm, an object and a frame at a time, with this dilation."""
    reach = math.ceil(0.008 * math.hypot(HEIGHT, WIDTH))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (y**2 + x**2 <= reach**2).astype(np.uint8)

    def edges(mask: np.ndarray) -> np.ndarray:
        out = np.zeros_like(mask)
        out[:-1, :-1] = (mask[:-1, :-1] ^ mask[:-1, 1:]) | (mask[:-1, :-1] ^ mask[1:, :-1])
        out[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
        out[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
        out[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
        return out

    def one(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
        union = (p | t).sum()
        j = (p & t).sum() / union if union else 1.0
        ours, theirs = edges(p), edges(t)
        if not ours.any() or not theirs.any():
            return j, float(not ours.any() and not theirs.any())
        precision = (ours & dilate(theirs, disk)).sum() / ours.sum()
        recall = (theirs & dilate(ours, disk)).sum() / theirs.sum()
        return j, 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def score(prediction: np.ndarray, truth: np.ndarray, objects: int) -> Scores:
        values = np.zeros((2, objects, FRAMES))
        for k in range(objects):
            for t in range(FRAMES):
                values[:, k, t] = one(prediction[t] == k + 1, truth[t] == k + 1)
        return values[0], values[1]

    return score


def plain_opencv() -> Callable[..., Scores] | None:
    """With OpenCV's dilation; None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    return plain(lambda mask, disk: cv2.dilate(mask.view(np.uint8), disk).view(bool))


def published() -> Callable[..., Scores] | None:
    """The evaluator's two functions, as its semi-supervised task calls them; None where it can't be imported."""
    try:
        import cv2
        from davis2017.metrics import db_eval_boundary, db_eval_iou
        from skimage.morphology import disk  # noqa: F401 - it imports this at its first call
    except ImportError:
        return None
    cv2.setNumThreads(1)

    def score(prediction: np.ndarray, truth: np.ndarray, objects: int) -> Scores:
        masks = [(prediction == k, truth == k) for k in range(1, objects + 1)]
        return (
            np.stack([db_eval_iou(t, p) for p, t in masks]),
            np.stack([db_eval_boundary(t, p) for p, t in masks]),
        )

    return score


def measure(objects: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each contender."""
    truth, prediction = scene(objects, 0), scene(objects, 5)
    contenders = {
        "zoo": zoo,
        "plain, OpenCV": plain_opencv(),
        "plain, SciPy": plain(ndimage.binary_dilation),
        "published": published(),
    }
    taken: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats + 1):
        scores = {}
        for name, score in contenders.items():
            if score is None or (name == "plain, SciPy" and repeat > 2):  # it takes its time
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            scores[name] = score(prediction, truth, objects)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if repeat:  # the first round warms caches
                taken.setdefault(name, []).append(spent)
        for values in scores.values():
            np.testing.assert_allclose(values, scores["zoo"], rtol=0, atol=1e-12)
    return [
        {
            "objects": objects,
            "contender": name,
            "repeats": len(spent),
            "milliseconds_per_frame": 1e3 * statistics.median(wall for wall, _ in spent) / FRAMES,
            "cpu_milliseconds_per_frame": 1e3 * statistics.median(cpu for _, cpu in spent) / FRAMES,
        }
        for name, spent in taken.items()
    ]


def versions() -> dict[str, str | None]:
    """Of what took part."""
    found: dict[str, str | None] = {}
    for name in ("numpy", "scipy", "opencv-python-headless", "opencv-python", "scikit-image"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3], help="objects in the scene, one run each")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", nargs="?", const=RESULTS, type=Path, help=f"also write here (default {RESULTS.name})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for objects in options.objects for row in measure(objects, options.repeats)]
    zoo_rows = {row["objects"]: row for row in rows if row["contender"] == "zoo"}
    print(f"{'objects':<9}{'contender':<16}{'ms':>9}{'CPU ms':>9}{'ratio':>8}{'CPU':>8}   (a frame; contender / zoo)")
    for row in rows:
        units = "milliseconds_per_frame", "cpu_milliseconds_per_frame"
        row["ratio"], row["cpu_ratio"] = (row[unit] / zoo_rows[row["objects"]][unit] for unit in units)
        print(
            f"{row['objects']:<9}{row['contender']:<16}{row[units[0]]:>9.2f}{row[units[1]]:>9.2f}"
            f"{row['ratio']:>8.1f}{row['cpu_ratio']:>8.1f}"
        )
    if options.json:
        about = {
            "date": date.today().isoformat(),
            "size": [HEIGHT, WIDTH],
            "frames": FRAMES,
            "versions": versions(),
            "device": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
