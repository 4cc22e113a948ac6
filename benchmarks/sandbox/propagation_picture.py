"""Draws docs/images/sandbox_propagation.png: what the small TimeCycle and its untrained twin carry through scenes.

python benchmarks/sandbox/propagation_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import zoo
from zoo.data.images import read_image
from zoo.data.masks import read_mask
from zoo.visualize.overlay import paint_mask

SCENES = (0, 4, 9)  # one that goes well, one that runs out over the ground, one that is lost
FRAMES, MARGIN, GAP = 6, 100, 4
TARGET = Path(__file__).resolve().parents[2] / "docs/images/sandbox_propagation.png"


def main() -> None:
    data = zoo.datamodule("sandbox_davis", num_workers=0)
    data.prepare_data()
    torch.manual_seed(0)
    models = {"random weights": zoo.create("time_cycle_tiny").eval(), "TimeCycle, tiny": zoo.load("time_cycle_tiny")}
    rows = []
    for scene in SCENES:
        record = data.records("val")[scene]
        frames = [read_image(path) for path in record.frames]
        truth = [read_mask(path) for path in record.truth]
        rows.append(("annotation", frames, truth))
        rows += [(name, frames, list(model.propagate(frames, truth[0]))) for name, model in models.items()]
    height, width = rows[0][1][0].shape[:2]
    sheet = Image.new("RGB", (MARGIN + FRAMES * (width + GAP), len(rows) * (height + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, frames, masks) in enumerate(rows):
        top = row * (height + GAP)
        pen.text((4, top + height // 2), name, fill="black")
        for column, t in enumerate(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)):
            sheet.paste(Image.fromarray(paint_mask(frames[t], masks[t])), (MARGIN + column * (width + GAP), top))
    TARGET.parent.mkdir(exist_ok=True)
    sheet.quantize(128).save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
