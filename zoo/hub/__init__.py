"""Weights: which ones are published, how they get here, what proves them right, and how to publish one's own."""
