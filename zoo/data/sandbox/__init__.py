"""The embedded data: videos that the zoo renders itself, laid out exactly like the official releases.

`kinetics` renders small action videos whose classes are relations of movements; `scenes` renders textured bodies of
which every mask, part and joint is known, and `correspondence` writes them as VLOG, DAVIS, JHMDB and VIP are released.
`mishaps` and `activities` are small stories, which `oops` and `charades` lay out as their namesakes are. Everything
follows from a seed: the same seed gives the same bytes on the same machine and encoder.
"""

from zoo.data.sandbox.kinetics import (
    CLASSES,
    DESCRIPTION,
    FPS,
    FRAMES,
    HEADINGS,
    ONSETS,
    PRESENCE,
    RECIPE,
    SIZE,
    TRAIN,
    TURNS,
    VAL,
    describe,
    encode,
    render_frames,
    render_kinetics,
)

__all__ = [
    "CLASSES",
    "DESCRIPTION",
    "FPS",
    "FRAMES",
    "HEADINGS",
    "ONSETS",
    "PRESENCE",
    "RECIPE",
    "SIZE",
    "TRAIN",
    "TURNS",
    "VAL",
    "describe",
    "encode",
    "render_frames",
    "render_kinetics",
]
