"""How many collisions a second are simulated, drawn and written, and where the time goes.

Mini-batches of mass spread over all pairs are made by `zoo.data.collisions`, at each size, in one process:

- simulate: the launch distance, what comes before the contact, and five times what comes after it;
- draw: the 13 different pictures of a mini-batch's 25 (fewer where things have come to rest);
- encode: those as PNG;
- write: five folders of five files.

Times are medians of the repetitions; the rate counts their sum. The projection of a whole set is that rate times the
set's size over so many cores, which assumes that processes don't get into each other's way.

    OMP_NUM_THREADS=1 python benchmarks/speed/collisions.py --sizes 64 256 --repeats 3 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import PIL

from zoo.data.collisions import make
from zoo.data.collisions.plan import PAIRS, Collision, Plan
from zoo.data.collisions.render import Renderer, encode
from zoo.data.collisions.scene import Scene, mujoco

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "collisions.json"
STAGES = ("simulate", "draw", "encode", "write")
FULL = 20625


def measure(size: int, groups: list[list[Collision]], plan: Plan, scenes: dict) -> tuple[dict[str, float], int, int]:
    """CPU seconds of each stage, pictures that were drawn, and bytes of all files."""
    spent: dict[str, float] = defaultdict(float)
    pictures = written = 0

    def note(stage: str, since: float) -> None:
        spent[stage] += time.process_time() - since

    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            begin = time.process_time()
            motions = scenes[group[0].pair].motions(plan.variants[group[0].variant], group)
            note("simulate", begin)
            renderer, files = Renderer(group[0].pair, size), {}
            for poses in {poses.tobytes(): poses for motion in motions for poses in motion.poses}.values():
                begin = time.process_time()
                picture = renderer.draw(poses)
                note("draw", begin)
                begin = time.process_time()
                files[poses.tobytes()] = encode(picture)
                note("encode", begin)
            pictures += len(files)
            begin = time.process_time()
            for motion in motions:
                frames = [files[poses.tobytes()] for poses in motion.poses]
                make._write(Path(folder) / motion.collision.name, frames)
                written += sum(map(len, frames))
            note("write", begin)
    return spent, pictures, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--groups", type=int, default=33, help="mini-batches of five collisions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="that the time of a whole set is projected to")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}")
    a = parser.parse_args()

    plan, scenes = Plan(), {pair: Scene(pair) for pair in PAIRS}
    every = plan.groups()
    groups = [every[int(k * len(every) / a.groups)] for k in range(a.groups)]
    count, results = 5 * len(groups), {}
    measure(a.sizes[0], groups[:3], plan, scenes)  # warm
    for size in a.sizes:
        runs = [measure(size, groups, plan, scenes) for _ in range(a.repeats)]
        spent = {stage: statistics.median(run[0][stage] for run in runs) for stage in STAGES}
        rate = count / sum(spent.values())
        results[str(size)] = {
            "collisions_per_second_per_core": round(rate, 2),
            "milliseconds_per_collision": {stage: round(1e3 * spent[stage] / count, 3) for stage in STAGES},
            "pictures_drawn_per_collision": round(runs[0][1] / count, 3),
            "bytes_per_picture": round(runs[0][2] / count / 5),
            "projected_minutes_of_the_full_set": round(FULL / rate / a.cores / 60, 1),
        }
        parts = ", ".join(f"{stage} {1e3 * spent[stage] / count:.2f} ms" for stage in STAGES)
        print(
            f"{size:4d} px: {rate:6.1f} collisions a second and core ({parts}); {FULL} in "
            f"{FULL / rate / a.cores / 60:.1f} minutes on {a.cores} cores"
        )
    if a.json:
        about = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": [round(value, 1) for value in os.getloadavg()],
            "python": platform.python_version(),
            "numpy": np.__version__,
            "mujoco": mujoco().__version__,
            "pillow": PIL.__version__,
            "mini_batches": len(groups),
            "repeats": a.repeats,
            "time": "CPU seconds of one process",
            "cores_projected_to": a.cores,
        }
        RESULTS.write_text(json.dumps(about | {"sizes": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
