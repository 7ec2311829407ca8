"""How important each weight is, element by element.

magnitude: |w| (Han et al. 2015); gradient: |∂L/∂w|; taylor: |w·∂L/∂w| (Molchanov et al. 2019), both averaged over
batches of training data; random: a baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: keras models and variables, which have no types

import numpy as np

from edgekit.compression.steps import Importance, Norm
from edgekit.compression.task import total_loss
from edgekit.compression.training import Training
from edgekit.loading import LoadedModel
from edgekit.tensors import Array

SAMPLES = 512  # of training data, for gradients
BATCH = 64


def weight_importance(
    kind: Importance, variables: Sequence[Any], model: Any, loaded: LoadedModel, training: Training
) -> list[Array]:
    """One float32 array for each variable of `model`, of its shape, at least 0.

    `loaded` is the model that the task's loss belongs to; `model` has the same inputs and outputs. Raises DataError
    when gradients are asked for and there is no data for the loss.
    """
    weights = [np.abs(np.asarray(variable, np.float32)) for variable in variables]
    if kind == "magnitude":
        return weights
    if kind == "random":
        generator = np.random.default_rng(training.seed)
        return [generator.random(weight.shape, np.float32) for weight in weights]
    gradients = mean_absolute_gradients(variables, model, loaded, training)
    if kind == "gradient":
        return gradients
    return [weight * gradient for weight, gradient in zip(weights, gradients, strict=True)]


def mean_absolute_gradients(
    variables: Sequence[Any], model: Any, loaded: LoadedModel, training: Training
) -> list[Array]:
    """|∂L/∂w| averaged over batches of the training data, for each variable; the weights do not change."""
    import tensorflow as tf

    task = training.task(loaded)
    data = training.need_data()
    values = [variable.value for variable in variables]
    sums = [np.zeros(variable.shape, np.float32) for variable in variables]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def gradients(features: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = total_loss(task, targets, model(features, training=False))
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in found]

    rows = data.spread_rows(SAMPLES)
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    for batch in batches:
        features = loaded.pack({name: tf.constant(column[batch]) for name, column in data.inputs.items()})
        targets = tuple(map(tf.constant, task.rows(batch)))
        for total, gradient in zip(sums, gradients(features, targets), strict=True):
            total += np.abs(np.asarray(gradient))
    return [total / np.float32(len(batches)) for total in sums]


def add_up(importance: Array, norm: Norm, axis: int | tuple[int, ...]) -> Array:
    """The importance of groups of weights: their L1 or L2 norm over `axis`."""
    summed: Array = np.square(importance).sum(axis=axis) if norm == "l2" else importance.sum(axis=axis)
    return np.sqrt(summed) if norm == "l2" else summed
