"""Compression, native in Keras 3. A step is a frozen value; `compress` applies steps in order."""

from edgekit.compression.apply import compress
from edgekit.compression.steps import Distill, Prune, QuantizeAware, Step, parse_step

__all__ = ["Distill", "Prune", "QuantizeAware", "Step", "compress", "parse_step"]
