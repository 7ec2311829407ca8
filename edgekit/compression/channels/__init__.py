"""Structured pruning: channels, neurons, units and heads are removed, and an ordinary smaller model remains."""

from edgekit.compression.channels.pruning import prune_channels

__all__ = ["prune_channels"]
