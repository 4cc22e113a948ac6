"""What inference and messages of asynchronous temporal fields cost: vectorised beside one sample after another.

The released model of Charades (114 states of object and progress, 60 intents, 50 messages of each of 8,000 videos) on
random potentials:

- train: the field's part of a training step (receive, infer, send, receive, gradients), 240 frames of as many videos;
  peer: the same for one frame after another, its video's messages in a dictionary of lists, as the release keeps them;
- share: that part of a whole step of VGG-16, forward and backward, at the batch that is asked for;
- test: ten passes of five rounds over the 25 frames of a video; peer: the same frame by frame.

Peers give the same numbers (checked). Times are medians of the alternating repetitions.

    OMP_NUM_THREADS=1 python benchmarks/speed/mean_field.py --repeats 5 --json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from zoo.methods.temporal_field_loss import log_likelihood
from zoo.methods.temporal_field_model import TemporalFields
from zoo.networks.temporal_field import Frames, Potentials, alternate, towards_intent

RESULTS = Path(__file__).parents[1] / "results" / "speed" / "mean_field.json"
VIDEOS, MEMORY, FRAMES = 8000, 50, 25


def potentials(model: TemporalFields, count: int, device: torch.device) -> Potentials:
    """Of so many frames, at random."""
    draw = torch.Generator(device).manual_seed(0)
    states, field = model.states, model.field

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, device=device)

    xi = 0.3 * normal(count, states.units, field.intents)
    factors = normal(count, states.objects * 3), normal(count, states.actions * 3), normal(count, len(states))
    return Potentials(*factors, None, xi, 0.3 * normal(states.units, states.units))


def batch_of(model: TemporalFields, count: int, device: torch.device, seed: int) -> dict[str, Tensor]:
    """Labels and places of frames of as many videos."""
    draw = torch.Generator().manual_seed(seed)
    batch = {
        "video": torch.randperm(VIDEOS, generator=draw)[:count],
        "rgb_time": torch.randint(1, 720, (count,), generator=draw),
        "label": torch.randint(model.num_classes, (count,), generator=draw),
        "progress": torch.randint(3, (count,), generator=draw),
        "scene": torch.full((count,), -1),
    }
    return {name: value.to(device) for name, value in batch.items()}


def filled(model: TemporalFields, device: torch.device) -> None:
    """Fifty messages of every video."""
    server, draw = model.server, torch.Generator(device).manual_seed(1)
    for _ in range(MEMORY):
        for first in range(0, VIDEOS, 1000):
            video = torch.arange(first, first + 1000, device=device)
            q = torch.rand(1000, model.states.units, generator=draw, device=device)
            wish = torch.randn(1000, model.field.intents, generator=draw, device=device)
            time_ = torch.randint(1, 720, (1000,), generator=draw, device=device)
            label = torch.randint(model.states.units, (1000, 1), generator=draw, device=device).float()
            server.send(video, time_, q=q / q.sum(1, keepdim=True), label=label, wish=wish, label_wish=wish)


class Notebook:
    """The peer's messages: a list of (time, q, wish) a video, looked through for every frame."""

    def __init__(self, model: TemporalFields) -> None:
        self.model = model
        self.of: dict[int, list[tuple[int, Tensor, Tensor]]] = defaultdict(list)
        server = model.server
        for video, row in server._place.items():
            held = int((server._order[row] >= 0).sum())
            for slot in server._order[row].argsort()[-held:].tolist():
                kept = (server._kept[name][row, slot] for name in ("q", "wish"))
                self.of[video].append((int(server._time[row, slot]), *kept))

    def hear(self, video: int, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled means: of earlier and of later frames' q, and of what they wish for."""
        field, notes = self.model.field, self.of[video]
        sums = []
        for side in ("past", "future", "all"):
            mine = [n for n in notes if side == "all" or (n[0] <= at) == (side == "past")]
            total, value = 0.0, 0
            for rank, (sent, q, wish) in enumerate(mine):
                weight = field.decay**rank
                total += weight
                near = math.exp(-((sent - at) ** 2) / (2 * field.sigma**2))
                value = value + (weight * wish if side == "all" else weight * near * q)
            sums.append(
                field.scale * value / max(total, 1e-30)
                if mine
                else torch.zeros_like(notes[0][2 if side == "all" else 1])
            )
        return sums[0], sums[1], sums[2]

    def step(self, phi: Potentials, batch: dict[str, Tensor]) -> Tensor:
        """log Q of the labels, frame after frame, and what each says afterwards."""
        model, states = self.model, self.model.states
        label, _ = model._labels(batch)
        found = []
        for row, (video, at) in enumerate(zip(batch["video"].tolist(), batch["rgb_time"].tolist(), strict=True)):
            one = Potentials(**{n: v if n == "mu" else v[row : row + 1] for n, v in phi.tensors().items()})
            past, future, wish = self.hear(video, at)
            heard = past @ phi.mu + phi.mu @ future
            belief = alternate(Frames(one, states), heard[None], wish[None], model.field.rounds)
            u = belief.u[0]
            spoken = (at, u, towards_intent(belief.u, one.xi)[0])
            self.of[video] = [*self.of[video][1:], spoken]
            again_past, again_future, _ = self.hear(video, at)
            torch.outer(u, again_future) + torch.outer(again_past, u)  # Eq. 9's share of this frame
            found.append(log_likelihood(belief, label[row : row + 1])[0])
        return torch.stack(found)


def frame_by_frame(model: TemporalFields, phi: Potentials, times: Tensor) -> Tensor:
    """The peer of a test: every frame's messages and inference by itself, in each of the passes."""
    field, states = model.field, model.states
    at = times.tolist()
    near = [[math.exp(-((a - b) ** 2) / (2 * field.sigma**2)) for b in at] for a in at]
    ones = [
        Potentials(**{n: v if n == "mu" else v[t : t + 1] for n, v in phi.tensors().items()}) for t in range(len(at))
    ]
    q = wish = None
    for _ in range(field.passes):
        beliefs = []
        for t, one in enumerate(ones):
            if q is None:
                beliefs.append(alternate(Frames(one, states), None, None, field.rounds))
                continue
            past = sum((near[t][j] * q[j] for j in range(t)), torch.zeros_like(q[0])) / max(t, 1)
            future = sum((near[t][j] * q[j] for j in range(t + 1, len(at))), torch.zeros_like(q[0])) / max(
                len(at) - 1 - t, 1
            )
            heard = field.scale * (past @ phi.mu + phi.mu @ future)
            beliefs.append(alternate(Frames(one, states), heard[None], field.scale * wish[None], field.rounds))
        q = [belief.u[0] for belief in beliefs]
        wish = torch.stack([towards_intent(b.u, one.xi)[0] for b, one in zip(beliefs, ones, strict=True)]).mean(0)
    return torch.cat([belief.q for belief in beliefs])


def timed(contenders: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, taken in turns."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, function in contenders.items():
            start = now()
            function()
            taken[name].append(now() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=240, help="frames of a training step")
    parser.add_argument("--network-batch", type=int, default=8, help="frames of the whole step that the share is of")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}")
    a = parser.parse_args()
    device = torch.device(a.device)
    torch.manual_seed(0)
    model = zoo.create("temporal_fields").to(device)
    object.__setattr__(model.field, "compounding", False)  # the peers do not repeat the slip
    filled(model, device)

    phi, batch = potentials(model, a.batch, device), batch_of(model, a.batch, device, 0)
    notebook = Notebook(model)
    before = {video: list(notes) for video, notes in notebook.of.items()}
    mail = model.server.receive(batch["video"], batch["rgb_time"])
    past, future = (model.field.scale * mail.gather("q", side) for side in ("past", "future"))
    wish = model.field.scale * mail.gather("wish", "all", fade=False)
    belief = alternate(Frames(phi, model.states), past @ phi.mu + future @ phi.mu.T, wish, model.field.rounds)
    ours = log_likelihood(belief, model._labels(batch)[0])
    difference = float((ours - notebook.step(phi, batch)).abs().max())
    notebook.of = defaultdict(list, before)
    steps = iter(range(1, 10_000))

    def train() -> None:
        model.loss(phi, batch_of(model, a.batch, device, next(steps)))

    train()
    seconds = timed(
        {
            "train": train,
            "train, one by one": lambda: notebook.step(phi, batch_of(model, a.batch, device, next(steps))),
        },
        a.repeats,
        device,
    )

    small = batch_of(model, a.network_batch, device, 1)
    small["rgb"] = torch.randint(256, (a.network_batch, 3, 224, 224), dtype=torch.uint8, device=device)
    field_seconds: list[float] = []

    def whole_step() -> None:
        model.zero_grad(set_to_none=True)
        out = model(model.inputs(small))
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss, _ = model.loss(out, small)
        if device.type == "cuda":
            torch.cuda.synchronize()
        field_seconds.append(time.perf_counter() - start)
        loss.backward()

    whole_step()
    field_seconds.clear()
    step = timed({"step": whole_step}, max(a.repeats, 3), device)["step"]
    share = statistics.median(field_seconds) / step

    model.eval()
    video, times = potentials(model, FRAMES, device), torch.linspace(1, 720, FRAMES, device=device).long()
    with torch.inference_mode():
        ours_q, theirs = model.infer(video, times).q, frame_by_frame(model, video, times)
        seconds |= timed(
            {
                "test": lambda: model.infer(video, times),
                "test, frame by frame": lambda: frame_by_frame(model, video, times),
            },
            a.repeats,
            device,
        )
    result = {
        "date": str(date.today()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "zoo": zoo.__version__,
        "repeats": a.repeats,
        "cores": os.cpu_count(),
        "batch": a.batch,
        "server_mib": round(model.server.bytes / 2**20, 1),
        "messages_a_second": round(a.batch / seconds["train"]),
        "milliseconds": {name: round(1000 * value, 3) for name, value in seconds.items()},
        "times_faster": {
            "train": round(seconds["train, one by one"] / seconds["train"], 1),
            "test": round(seconds["test, frame by frame"] / seconds["test"], 1),
        },
        "share_of_step_percent": round(100 * share, 2),
        "step": {"batch": a.network_batch, "milliseconds": round(1000 * step, 2)},
        "largest_difference": {"train": difference, "test": float((ours_q - theirs).abs().max())},
    }
    print(json.dumps(result, indent=1))
    if a.json:
        place = RESULTS.with_stem(f"{RESULTS.stem}_{device.type}") if device.type != "cpu" else RESULTS
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
