"""Compression, native in Keras 3. A step is a frozen value; `compress` applies steps in order."""

from edgekit.compression.apply import compress
from edgekit.compression.steps import (
    Cluster,
    Distill,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    Step,
    parse_step,
)
from edgekit.compression.training import TrainingSettings

__all__ = [
    "Cluster",
    "Distill",
    "Factorize",
    "Prune",
    "PruneChannels",
    "QuantizeAware",
    "QuantizeWeights",
    "Step",
    "TrainingSettings",
    "compress",
    "parse_step",
]
