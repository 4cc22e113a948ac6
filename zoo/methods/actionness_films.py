"""Actionness on the features of the sandbox's how-to films, which `s3d_milnce_tiny` makes of them."""

from __future__ import annotations

from zoo.methods.actionness import Actionness, Objective, actionness_tiny
from zoo.networks.grouping import Normalize
from zoo.registry import register


@register("actionness_films", paper="zhukov2020actionness", summary="actionness on features of the sandbox's films")
def actionness_films(
    dim: int = 128,
    clips: int = 5,
    window: float | None = None,
    trim: float = 0.3,
    reverse: bool = True,
    objective: Objective = "order",
    extractor: str = "s3d_milnce_tiny",
    normalize: Normalize = "minmax",
    rate: float = 1e-2,
) -> Actionness:
    """Linear in the 128 numbers of the small S3D.

    Args:
        dim: numbers in a row of features.
        clips: of one video in a training sample.
        window: seconds that they span at most; None for all that trimming leaves.
        trim: part of a training video at each end that is left out.
        reverse: show half of the samples backwards.
        objective: "order", or "labels" for the supervised bound.
        extractor: the network of the features, for predictions on videos.
        normalize: how scores become a curve for proposals: sigmoid, minmax or rank.
        rate: learning rate.
    """
    return actionness_tiny(dim, clips, window, trim, reverse, objective, extractor, normalize, rate)
