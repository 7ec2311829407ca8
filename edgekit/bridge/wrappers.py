"""TFMOT's wrappers in a tf_keras model: what is under them, with the weights and ranges that they hold.

TFMOT is not imported here: whoever holds a wrapped model has imported it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any  # Any: tf_keras layers and variables

import numpy as np
from numpy.typing import NDArray

from edgekit.kerases import import_tf_keras

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings")
_WRAPPERS = {
    "PruneLowMagnitude": "prune",
    "ClusterWeights": "cluster",
    "QuantizeWrapper": "quantize",
    "QuantizeLayer": "quantize-input",
    "QuantizeAnnotate": "annotate",
}


@dataclass(frozen=True)
class Held:
    """A plain layer and the weights that its wrapper held for it."""

    layer: Any
    weights: list[NDArray[Any]]

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.layer.name)

    def get_weights(self) -> list[NDArray[Any]]:
        """The weights in the layer's own order."""
        return self.weights


def wrapper_of(layer: Any) -> str | None:
    """'prune', 'cluster', 'quantize', 'quantize-input' or 'annotate'; None for any other layer."""
    for base in type(layer).__mro__:
        if base.__module__.startswith("tensorflow_model_optimization.") and base.__name__ in _WRAPPERS:
            return _WRAPPERS[base.__name__]
    return None


def held_by(layer: Any, *, on_grid: bool) -> Held:
    """What a wrapper wraps. With `on_grid`, quantized kernels lie on the integer grids that the wrapper trained."""
    kind = wrapper_of(layer)
    if kind == "cluster":
        return _clustered(layer)
    if kind == "quantize":
        return _quantized(layer, on_grid)
    return Held(layer.layer, layer.layer.get_weights())


def range_of(layer: Any, input_name: str) -> tuple[str, tuple[float, float]] | None:
    """(layer or input name, its trained (min, max)) of a quantize wrapper; None when it has none."""
    variables = {_short(weight): weight for weight in layer.weights if weight.shape.rank == 0}
    for prefix in ("post_activation", "output", "quantize_layer"):
        if f"{prefix}_min" in variables:
            name = input_name if prefix == "quantize_layer" else layer.layer.name
            return name, (float(variables[f"{prefix}_min"]), float(variables[f"{prefix}_max"]))
    return None


def _clustered(wrapper: Any) -> Held:
    wrapper.update_clustered_weights_associations()
    if hasattr(wrapper, "strip_clustering"):  # of multi-head attention
        plain = wrapper.strip_clustering()
        return Held(plain, plain.get_weights())
    weights = wrapper.layer.get_weights()
    for position, name in wrapper.position_original_weights.items():
        weights.insert(position, np.asarray(wrapper.get_weight_from_layer(name)))
    return Held(wrapper.layer, weights)


def _quantized(wrapper: Any, on_grid: bool) -> Held:
    """The wrapper moved the kernels and the activation out of the layer."""
    activations = import_tf_keras().activations
    inner = wrapper.layer
    kernels = {_short(weight): (weight, quantizer, limits) for weight, quantizer, limits in wrapper._weight_vars}
    arrays = {
        name: np.asarray(quantizer(weight, False, weights=limits) if on_grid else weight)
        for name, (weight, quantizer, limits) in kernels.items()
    }
    others = [np.asarray(weight) for weight in inner.weights if _short(weight) not in arrays]
    config = {key: value for key, value in inner.get_config().items() if key != "activation"}
    plain = type(inner).from_config(config)
    if hasattr(inner, "activation"):
        plain.activation = activations.get(_plain_activation(inner.activation))
    return Held(plain, [*(arrays[name] for name in _KERNELS if name in arrays), *others])


def _plain_activation(function: Any) -> Any:
    while type(function).__module__.startswith("tensorflow_model_optimization."):
        function = getattr(function, "activation", "linear")  # one around the other; its NoOpActivation holds none
    return function


def _short(weight: Any) -> str:
    return str(weight.name).split("/")[-1].split(":")[0]
