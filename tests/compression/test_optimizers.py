"""The optimizer: Keras's Adam, in one kernel for each variable."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from edgekit.compression.optimizers import adam, optimizer

SETTINGS: dict[str, Any] = {"beta_2": 0.99, "epsilon": 1e-3}


def updated(kind: Any, gradients: list[Any]) -> list[np.ndarray]:
    """A variable and the optimizer's own after some updates."""
    variable = keras.Variable(np.linspace(-1, 1, 12).reshape(4, 3), name="kernel")
    made = kind(keras.optimizers.schedules.CosineDecay(0.05, 8), **SETTINGS)
    made.build([variable])
    for gradient in gradients:
        made.apply([gradient])
    return [np.asarray(each) for each in (variable, *made.variables)]


def test_it_updates_as_keras_does() -> None:
    gradients = list(np.random.default_rng(0).normal(0, 1, (6, 4, 3)).astype(np.float32))
    for ours, theirs in zip(updated(adam(), gradients), updated(keras.optimizers.Adam, gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_rows_of_a_sparse_gradient_that_come_twice_count_with_their_sum() -> None:
    import tensorflow as tf

    sparse = tf.IndexedSlices(tf.ones((3, 3)), tf.constant([1, 3, 1]), tf.constant([4, 3]))
    for one, other in zip(
        updated(adam(), [sparse] * 3), updated(adam(), [tf.convert_to_tensor(sparse)] * 3), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_update_is_one_operation_for_each_variable() -> None:
    import tensorflow as tf

    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in ((4, 3), (3,))]
    made = optimizer(0.1, 10, half=False, team=None, weight=None)
    made.build(variables)
    graph = tf.function(lambda: made.apply([tf.ones(each.shape) for each in variables])).get_concrete_function().graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 2
    assert "Sqrt" not in kinds
