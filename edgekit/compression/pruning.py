"""Magnitude pruning on any kernel, and the masks that later steps keep."""

from __future__ import annotations

from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.compression.steps import Prune
from edgekit.compression.training import Fit, Training, classification_loss, fine_tune
from edgekit.loading import LoadedModel, import_keras
from edgekit.tensors import Array

RAMP = 0.6  # fraction of the training during which the sparsity rises; the rest recovers at full sparsity
UPDATES = 30  # how often the masks are chosen anew on the way


def prune(loaded: LoadedModel, step: Prune, training: Training) -> LoadedModel:
    """Prune a copy of the model while fine-tuning it."""
    keras = import_keras()
    model = keras.models.clone_model(loaded.model)
    model.set_weights(loaded.model.get_weights())
    masks = Masks(prunable_kernels(model))

    def after_batch(done: int, total: int) -> None:
        ramp = max(1, int(total * RAMP))
        if step.schedule == "constant":
            if done == 0:
                masks.choose(step.sparsity)
        elif done <= ramp and (done % max(1, ramp // UPDATES) == 0 or done == ramp):
            masks.choose(polynomial_sparsity(done / ramp, step.sparsity))
        masks.apply()

    fit = Fit(
        f"prune to {step.sparsity:.0%}", step.epochs, step.batch_size, step.learning_rate,
        classification_loss(model), training.data.need_labels(), loaded.pack, after_batch, masks.keep,
    )  # fmt: skip
    fine_tune(model, fit, training)
    return loaded.with_model(model)


def polynomial_sparsity(progress: float, final: float) -> float:
    """Cubic rise from 0 to `final` as progress goes from 0 to 1 (Zhu & Gupta 2017, equation 1)."""
    return final * (1 - (1 - min(1.0, max(0.0, progress))) ** 3)


def prunable_kernels(model: Any) -> list[Any]:
    """The kernels that pruning may touch: trainable, of rank 2 or more, not depthwise."""
    keras = import_keras()
    layers = [layer for layer in model._flatten_layers(include_self=False) if not getattr(layer, "_layers", None)]
    return [
        weight
        for layer in layers
        if not isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
        for weight in layer.trainable_weights
        if weight.name.endswith("kernel") and len(weight.shape) >= 2
    ]


def magnitude_mask(kernel: Array, sparsity: float) -> Array:
    """1 where a weight stays, 0 for the `sparsity` fraction of smallest magnitude (ties broken by position)."""
    count = round(sparsity * kernel.size)
    mask = np.ones(kernel.size, np.float32)
    mask[np.argsort(np.abs(kernel), axis=None, kind="stable")[:count]] = 0.0
    return mask.reshape(kernel.shape)


class Masks:
    """Zeros that stay zero while a model trains."""

    def __init__(self, kernels: list[Any]) -> None:
        """Start from the zeros that are there."""
        self._kernels = kernels
        self.keep()

    def keep(self) -> None:
        """The zeros of now are the ones that stay."""
        self._masks = [_nonzero(kernel) for kernel in self._kernels]

    def choose(self, sparsity: float) -> None:
        """New masks for this sparsity, from the magnitudes of now."""
        self._masks = [magnitude_mask(np.asarray(kernel), sparsity) for kernel in self._kernels]

    def apply(self) -> None:
        """Set the masked weights to zero."""
        for kernel, mask in zip(self._kernels, self._masks, strict=True):
            kernel.assign(kernel * mask)


def _nonzero(kernel: Any) -> Array:
    mask: Array = np.asarray(kernel) != 0
    return mask.astype(np.float32)
