"""Quantization-aware training, native in Keras 3: train the simulation, keep the plain model and its ranges."""

from __future__ import annotations

from typing import Any  # Any: a keras model

import numpy as np

from edgekit.compression.canonical import canonical
from edgekit.compression.fake_quantization import Simulation, has_kernel, on_grid
from edgekit.compression.pruning import Masks, prunable_kernels
from edgekit.compression.steps import QuantizeAware
from edgekit.compression.training import Fit, Training, classification_loss, fine_tune
from edgekit.loading import LoadedModel, Range, describe


def quantize_aware(loaded: LoadedModel, step: QuantizeAware, training: Training) -> LoadedModel:
    """Fine-tune a folded copy under simulated int8 and return it with kernels on their grids and trained ranges."""
    folded = canonical(loaded)
    simulation = Simulation(folded)
    masks = Masks(prunable_kernels(folded.model))  # zeros that pruning made stay zero

    def after_batch(_done: int, _total: int) -> None:
        masks.apply()

    fit = Fit(
        "quantization-aware training", step.epochs, step.batch_size, step.learning_rate,
        classification_loss(folded.model), training.data.need_labels(), folded.pack, after_batch,
    )  # fmt: skip
    fine_tune(simulation.model, fit, training)
    return snapped(folded.model, simulation.ranges())


def snapped(model: Any, ranges: dict[str, Range]) -> LoadedModel:
    """The model with every kernel on its int8 grid, and its trained ranges."""
    for layer in filter(has_kernel, model.layers):
        layer.kernel.assign(on_grid(layer, np.asarray(layer.kernel)))
    return describe(model, ranges)
