"""Temporal fields on RGB and on flow as one model: the last row of the paper's tables.

The release trained a field for each stream, the one of RGB with 60 intents and the one of flow with 30, and its script
averages their scores (22.4 mAP on Charades); the paper multiplies them.
"""

from __future__ import annotations

from zoo.methods.two_streams import Fusion, TwoStreams
from zoo.registry import create, register


@register("temporal_fields_two_stream", paper="sigurdsson2017asynchronous")
def both_streams(fusion: Fusion = "mean", points: int = 25, smooth: int = 15) -> TwoStreams:
    """Temporal fields as released, on RGB and on flow, trained apart, their scores fused.

    Args:
        fusion: of the two streams' scores: the released mean, or the paper's product.
        points: frames that a test looks at.
        smooth: half width of the average over time that localisation is scored after, too; 15 of 75 frames.
    """
    streams = (create(name, points=points) for name in ("temporal_fields", "temporal_fields_flow"))
    return TwoStreams(*streams, fusion, smooth)
