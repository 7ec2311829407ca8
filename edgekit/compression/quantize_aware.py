"""Quantization-aware training, native in Keras 3: train the simulation, keep the plain model and its ranges."""

from __future__ import annotations

from typing import Any  # Any: a keras model

import numpy as np

from edgekit.compression.canonical import canonical
from edgekit.compression.fake_quantization import Simulation, has_kernel, on_grid
from edgekit.compression.masks import zeros_kept
from edgekit.compression.steps import QuantizeAware
from edgekit.compression.training import Training, train_on_task
from edgekit.loading import LoadedModel, Range, describe


def quantize_aware(loaded: LoadedModel, step: QuantizeAware, training: Training) -> LoadedModel:
    """Fine-tune a folded copy under simulated int8 and return it with kernels on their grids and trained ranges."""
    folded = canonical(loaded)
    simulation = Simulation(folded)
    masks = zeros_kept(folded.model)

    def after_batch(_done: int, _total: int) -> None:
        masks.apply()

    train_on_task(simulation.model, folded, step, training, "quantization-aware training", after_batch=after_batch)
    return snapped(folded.model, simulation.ranges())


def snapped(model: Any, ranges: dict[str, Range]) -> LoadedModel:
    """The model with every kernel on its int8 grid, and its trained ranges."""
    for layer in filter(has_kernel, model.layers):
        layer.kernel.assign(on_grid(layer, np.asarray(layer.kernel)))
    return describe(model, ranges)
