"""Pictures and films of what models see: where a block attends, what was propagated, how pixels correspond."""

from zoo.visualize.attention import draw_attention
from zoo.visualize.flow import draw_flow

__all__ = ["draw_attention", "draw_flow"]
