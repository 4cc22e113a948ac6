"""Backbones and parts: plain torch modules that know nothing of Lightning, data sets or files."""
