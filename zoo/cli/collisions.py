"""`zoo data make`: the collisions that the model of intuitive physics learns from, simulated."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from zoo.cli.common import positive
from zoo.data.collisions.plan import SUBSETS


def add_action(actions) -> None:
    """Add the action to those of `zoo data`."""
    p = actions.add_parser("make", help="simulate a data set that can be had in no other way (collisions)")
    p.set_defaults(run=_make)
    p.add_argument("name", choices=("physics_collisions",))
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; what is there already stays")
    sizes = "; ".join(f"{name}: {pixels} pixels, {variants} variants" for name, (pixels, variants) in SUBSETS.items())
    p.add_argument("--subset", choices=tuple(SUBSETS), default="full", help=f"how much of it (full). {sizes}")
    p.add_argument("--size", type=positive, metavar="PX", help="side of the square frames (the subset's)")
    p.add_argument("--variants", type=positive, metavar="N", help="draws of turns and bounce (the subset's)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    p.add_argument("--workers", type=positive, metavar="N", help="processes (one a core)")


def _make(a: argparse.Namespace) -> int:
    from zoo.data.collisions.make import make_collisions
    from zoo.data.collisions.plan import Plan
    from zoo.reproduce.provenance import cores

    size, variants = SUBSETS[a.subset]
    plan, line = Plan(a.variants or variants, seed=a.seed), Line("collisions")
    try:
        report = make_collisions(a.out, plan, size=a.size or size, workers=a.workers or cores(), progress=line)
    except KeyboardInterrupt:
        line.end()
        print(
            f"zoo: interrupted; {line.done} of {len(plan)} collisions are there. Run it again to go on.",
            file=sys.stderr,
        )
        return 130
    finally:
        line.end()
    print(f"{len(plan)} collisions in {report.folder}: {report.made} made, {report.kept} there already")
    return 0


class Line:
    """How far something is, how fast it goes and when it will be done: in one line, or in a log a line a minute."""

    def __init__(self, unit: str) -> None:
        self.unit, self.done = unit, 0
        self._stream, self._is_open = sys.stderr, False
        self._begin = self._next = None  # when it began and with how many; when something is to be said again

    def __call__(self, done: int, total: int) -> None:
        now, self.done = time.monotonic(), done
        if self._begin is None:
            self._begin, self._next = (now, done), now
        if now < self._next:
            return
        live = self._stream.isatty()
        self._next = now + (0.5 if live else 60)
        text = f"{done} of {total} {self.unit}"
        seconds, made = now - self._begin[0], done - self._begin[1]
        if made and done < total:
            text += f", {made / seconds:.1f} a second, {_lasting((total - done) * seconds / made)} to go"
        print(f"\r{text}\033[K" if live else text, end="" if live else "\n", file=self._stream, flush=True)
        self._is_open = live

    def end(self) -> None:
        """Leave the line, for others to write theirs."""
        if self._is_open:
            print(file=self._stream)
            self._is_open = False


def _lasting(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
