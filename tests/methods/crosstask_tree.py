"""A small CrossTask: three tasks whose steps share words, and features in which the words of a step can be found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data.crosstask import CrossTask

DIM, LENGTH = 16, 30
TASKS = {
    "1": ("Make Latte", ["add coffee", "steam milk", "pour milk"]),
    "2": ("Brew Tea", ["boil water", "add tea", "pour water", "add milk"]),
    "3": ("Cook Rice", ["boil water", "add rice"]),
}
WORDS = sorted({word for _, steps in TASKS.values() for step in steps for word in step.split()})


def crosstask(root: Path, *, videos: int = 8, noise: float = 0.2, rate: int = 1, spec=None, **options) -> CrossTask:
    """The data set, written and opened."""
    rng = np.random.default_rng(0)
    words = {
        word: vector / np.linalg.norm(vector) for word, vector in zip(WORDS, rng.normal(size=(99, DIM)), strict=False)
    }
    release = root / "crosstask_release"
    for folder in (release / "annotations", root / "crosstask_constraints", root / "crosstask_features"):
        folder.mkdir(parents=True)
    blocks, listed = [], []
    for task, (title, steps) in TASKS.items():
        blocks.append(f"{task}\n{title}\nhttp://www.example.org\n{len(steps)}\n{','.join(steps)}\n\n")
        for n in range(videos):
            video = f"video{task}_{n:04d}"
            listed.append(f"{task},{video},http://www.example.org\n")
            rows = rng.normal(size=(LENGTH, DIM)) * noise
            starts = np.sort(rng.choice(LENGTH // 3 - 1, len(steps), replace=False)) * 3 + 1
            lines, allowed = [], []
            for k, (start, step) in enumerate(zip(starts.tolist(), steps, strict=True)):
                rows[start : start + 2] += sum(words[word] for word in step.split())
                lines.append(f"{k + 1},{start}.0,{start + 2}.0\n")
                allowed.append(f"{k + 1},{max(start - 3, 0)}.0,{start + 5}.0\n")
            (release / "annotations" / f"{task}_{video}.csv").write_text("".join(lines))
            (root / "crosstask_constraints" / f"{task}_{video}.csv").write_text("".join(allowed))
            np.save(root / "crosstask_features" / f"{video}.npy", rows.repeat(rate, 0).astype(np.float16))
    (release / "tasks_primary.txt").write_text("".join(blocks))
    for name in ("tasks_related.txt", "videos_val.csv"):
        (release / name).write_text("")
    (release / "videos.csv").write_text("".join(listed))
    return CrossTask(root, spec, num_workers=0, expected=None, rate=rate, **options)
