"""A variable's numbers after each batch: read without a copy and written with one, past what Keras does around both."""

from __future__ import annotations

from typing import Any  # Any: keras variables, which have no types

import numpy as np

from edgekit.tensors import Array


def read(variable: Any) -> Array:
    """A view, to be dropped before the variable is trained on: TensorFlow copies a buffer that somebody looks at."""
    import tensorflow as tf

    if tf.distribute.has_strategy():  # a variable has a copy on each device then, and no handle of its own
        return np.asarray(variable)
    return np.asarray(tf.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.dtype))


def write(variable: Any, values: Array) -> None:
    """Set a variable to `values`, of its shape and dtype, which are not to be changed afterwards."""
    import tensorflow as tf

    if tf.distribute.has_strategy():
        variable.assign(values)
    else:
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=values)
