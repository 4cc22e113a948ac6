"""Collisions of two bodies, simulated and drawn anew in the layout of the released data set."""
