"""The intuitive physics network in a size that trains in a moment."""

from __future__ import annotations

from zoo.networks.physics import Sizes

SIDE = 16
SMALL = Sizes(
    side=SIDE,
    stem=(3, 1, 1),
    frame=(4, 4, 4, 4, 4),
    together=(8, 4),
    hidden=(16,),
    vector=90,
    expand=16,
    grow=(8, 8),
    scratch=True,
)
