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
    return Scorer(kind, variables, model, loaded, training)()


class Scorer:
    """`weight_importance`, to be asked again while the weights change."""

    def __init__(
        self, kind: Importance, variables: Sequence[Any], model: Any, loaded: LoadedModel, training: Training
    ) -> None:
        """Raises DataError when gradients are asked for and there is no data for the loss."""
        self._kind, self._variables, self._seed = kind, variables, training.seed
        by_gradient = kind in ("gradient", "taylor")
        self._gradients = Gradients(variables, model, loaded, training) if by_gradient else None

    def __call__(self) -> list[Array]:
        """The importances of now; random ones are the same every time."""
        if self._gradients is not None:
            gradients = self._gradients.mean_absolute()
            if self._kind == "gradient":
                return gradients
            return [weight * gradient for weight, gradient in zip(self._magnitudes(), gradients, strict=True)]
        if self._kind == "random":
            generator = np.random.default_rng(self._seed)
            return [generator.random(variable.shape, np.float32) for variable in self._variables]
        return self._magnitudes()

    def _magnitudes(self) -> list[Array]:
        return [np.abs(np.asarray(variable, np.float32)) for variable in self._variables]


class Gradients:
    """The gradients of the task's loss for some variables of a model, on rows spread over the training data."""

    def __init__(self, variables: Sequence[Any], model: Any, loaded: LoadedModel, training: Training) -> None:
        """Raises DataError when there is no data for the loss."""
        import tensorflow as tf

        self._variables = variables
        self._model = model
        self._loaded = loaded
        self._task = training.task(loaded)
        self._inputs = training.need_data().inputs
        self._rows = training.need_data().spread_rows(SAMPLES)
        self._run = tf.function(self._gradients, reduce_retracing=True)

    def mean_absolute(self) -> list[Array]:
        """|∂L/∂w| averaged over batches, for each variable; the weights do not change."""
        import tensorflow as tf

        sums = [np.zeros(variable.shape, np.float32) for variable in self._variables]
        batches = [self._rows[start : start + BATCH] for start in range(0, len(self._rows), BATCH)]
        for batch in batches:
            features = self._loaded.pack({name: tf.constant(column[batch]) for name, column in self._inputs.items()})
            targets = tuple(map(tf.constant, self._task.rows(batch)))
            for total, gradient in zip(sums, self._run(features, targets), strict=True):
                total += np.abs(np.asarray(gradient))
        return [total / np.float32(len(batches)) for total in sums]

    def _gradients(self, features: Any, targets: Any) -> Any:
        import tensorflow as tf

        values = [variable.value for variable in self._variables]
        with tf.GradientTape() as tape:
            loss = total_loss(self._task, targets, self._model(features, training=False))
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in found]


def add_up(importance: Array, norm: Norm, axis: int | tuple[int, ...]) -> Array:
    """The importance of groups of weights: their L1 or L2 norm over `axis`."""
    summed: Array = np.square(importance).sum(axis=axis) if norm == "l2" else importance.sum(axis=axis)
    return np.sqrt(summed) if norm == "l2" else summed
