"""Activation functions that the two Kerases share, and those that one of them lacks."""

from __future__ import annotations

from typing import Any  # Any: functions on tensors

# The same function under the same name.
SAME_ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "leaky_relu", "linear", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "swish", "tanh",
})  # fmt: skip

# tf_keras computes clip(0.2 x + 0.5, 0, 1) and Keras 3 clip(x / 6 + 0.5, 0, 1): Keras 3 wants 1.2 times the input.
HARD_SIGMOID_GAIN = 1.2


def foreign_activation(keras: Any, tf_keras: Any, name: str) -> Any:
    """Keras 3's activation `name` as a function that tf_keras can save and load again while edgekit is imported."""
    registered = tf_keras.saving.get_registered_object(f"edgekit>{name}")
    if registered is not None:
        return registered
    inner = keras.activations.get(name)

    def activation(tensor: Any) -> Any:
        return inner(tensor)

    activation.__name__ = activation.__qualname__ = name
    activation.keras_name = name  # type: ignore[attr-defined]
    return tf_keras.saving.register_keras_serializable("edgekit", name)(activation)


def keras_name(function: Any) -> str | None:
    """The name of tf_keras's `function` in Keras 3; None when Keras 3 does not have it."""
    own = getattr(function, "keras_name", None)
    if own is not None:
        return str(own)
    builtin = function.__module__.split(".")[0] in ("tf_keras", "tensorflow")
    known = builtin and (function.__name__ in SAME_ACTIVATIONS or function.__name__ == "hard_sigmoid")
    return function.__name__ if known else None


def is_legacy_hard_sigmoid(function: Any) -> bool:
    """Whether it is tf_keras's own hard_sigmoid, which differs from Keras 3's."""
    return getattr(function, "__name__", "") == "hard_sigmoid" and not hasattr(function, "keras_name")
