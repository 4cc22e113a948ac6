"""Measures label propagation on whatever sequences of DAVIS are there, by the official evaluation.

    python benchmarks/davis_sequences.py /data/DAVIS --data davis2016 --size 256 [--seeds 0 1 2]

Three rows: labels that stay where they are, the small network with fresh weights (mean and deviation over seeds), and
the same network with the weights that were trained on the sandbox's rendered videos. The table goes to the terminal as
Markdown, and with versions and every number to benchmarks/results/davis_sequences.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import zoo
from zoo.files import write_whole
from zoo.reproduce.provenance import about

MODEL = "time_cycle_tiny"
METRICS = ("jf_mean", "j_mean", "j_recall", "f_mean", "f_recall")
RESULTS = Path(__file__).resolve().parent / "results/davis_sequences.json"


def measure(model: Any, data: Any) -> dict[str, float]:
    """J and F of a model on the data, and the seconds that it took."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    start = time.monotonic()
    (scores,) = pl.Trainer(accelerator="auto", devices=1, **quiet).test(model.eval(), data, verbose=False)
    return {**{name: round(scores[name], 3) for name in METRICS}, "seconds": round(time.monotonic() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="the folder DAVIS")
    parser.add_argument("--data", default="davis2016", choices=("davis2016", "davis2017"))
    parser.add_argument("--size", type=int, default=256, help="side of the square that frames are resized to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the fresh weights")
    parser.add_argument("--num-workers", type=int, default=0)
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    data = zoo.datamodule(a.data, root=a.root, num_workers=a.num_workers)
    rows: dict[str, list[dict[str, float]]] = {"Identity": [measure(zoo.load("label_propagation_identity"), data)]}
    rows["Random weights"] = []
    for seed in a.seeds:
        torch.manual_seed(seed)
        rows["Random weights"].append(measure(zoo.create(MODEL, size=a.size), data))
    rows["Trained on the sandbox"] = [measure(zoo.load(MODEL, size=a.size), data)]

    print(f"| {MODEL}, {a.size} x {a.size} | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for name, runs in rows.items():
        cells = []
        for metric in METRICS:
            values = [run[metric] for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")
    sequences = [record.identity for record in data.records("val")]
    result = {**about(), "data": a.data, "sequences": sequences, "size": a.size, "seeds": a.seeds, "rows": rows}
    write_whole(RESULTS, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
