"""Magnitude pruning on any kernel, and the masks that later steps keep."""

from __future__ import annotations

from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.compression.kernels import kernels
from edgekit.compression.masks import Masks
from edgekit.compression.steps import Prune
from edgekit.compression.training import Training, train_on_task
from edgekit.loading import LoadedModel, import_keras
from edgekit.tensors import Array

RAMP = 0.6  # fraction of the training during which the sparsity rises; the rest recovers at full sparsity
UPDATES = 30  # how often the masks are chosen anew on the way


def prune(loaded: LoadedModel, step: Prune, training: Training) -> LoadedModel:
    """Prune a copy of the model while fine-tuning it."""
    keras = import_keras()
    model = keras.models.clone_model(loaded.model)
    model.set_weights(loaded.model.get_weights())
    variables = prunable_kernels(model)
    masks = Masks(variables)

    def after_batch(done: int, total: int) -> None:
        ramp = max(1, int(total * RAMP))
        if step.schedule != "polynomial":
            if done == 0:
                masks.set([magnitude_mask(np.asarray(kernel), step.target) for kernel in variables])
        elif done <= ramp and (done % max(1, ramp // UPDATES) == 0 or done == ramp):
            sparsity = polynomial_sparsity(done / ramp, step.target)
            masks.set([magnitude_mask(np.asarray(kernel), sparsity) for kernel in variables])
        masks.apply()

    train_on_task(
        model, loaded, step, training, f"prune to {step.target:.0%}", after_batch=after_batch, at_start=masks.keep
    )
    return loaded.with_model(model)


def polynomial_sparsity(progress: float, final: float) -> float:
    """Cubic rise from 0 to `final` as progress goes from 0 to 1 (Zhu & Gupta 2017, equation 1)."""
    return final * (1 - (1 - min(1.0, max(0.0, progress))) ** 3)


def prunable_kernels(model: Any) -> list[Any]:
    """The variables that pruning may touch: kernels that are not depthwise."""
    return [kernel.variable for kernel in kernels(model) if kernel.kind == "kernel"]


def magnitude_mask(kernel: Array, sparsity: float) -> Array:
    """1 where a weight stays, 0 for the `sparsity` fraction of smallest magnitude (ties broken by position)."""
    count = round(sparsity * kernel.size)
    mask = np.ones(kernel.size, np.float32)
    mask[np.argsort(np.abs(kernel), axis=None, kind="stable")[:count]] = 0.0
    return mask.reshape(kernel.shape)
