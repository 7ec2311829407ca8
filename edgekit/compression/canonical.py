"""The form that quantization wants: BatchNormalization folded away, and activations that integer kernels cannot fuse
as layers of their own. Outputs, their names and their order stay the same.

Source of the folding: Jacob et al. 2018, section 3.2, equation 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras layers, which have no types

import numpy as np

from edgekit.compression.graph import activation_name, consumers
from edgekit.loading import LoadedModel, import_keras
from edgekit.tensors import Array

FUSED = ("linear", "relu", "relu6")  # activations that int8 kernels apply to their own output


def canonical(loaded: LoadedModel) -> LoadedModel:
    """A copy in canonical form with the same outputs."""
    keras = import_keras()
    originals: dict[str, Any] = {layer.name: layer for layer in loaded.model.layers}
    folds = _foldable(keras, loaded.model)
    folded_away = {norm.name for norm in folds.values()}
    kernel_names = {name: _free_name(name, originals) for name, layer in originals.items() if _splits(keras, layer)}
    split = {new: name for name, new in kernel_names.items()}
    activations = {  # they keep the names, for the outputs' sake
        new: keras.layers.Activation(originals[name].activation, name=name) for new, name in split.items()
    }

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in folds:
            config["use_bias"] = True
        if layer.name in kernel_names:
            config.update(activation="linear", name=kernel_names[layer.name])
        return type(layer).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in folded_away:
            return args[0]
        outputs = layer(*args, **kwargs)
        return activations[layer.name](outputs) if layer.name in activations else outputs

    model = keras.models.clone_model(loaded.model, clone_function=clone, call_function=call)
    for layer in model.layers:
        name = str(split.get(layer.name, layer.name))
        if name in folds:
            layer.set_weights(_folded_weights(keras, originals[name], folds[name]))
        elif layer.weights:
            layer.set_weights(originals[name].get_weights())
    return loaded.with_model(model)


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    """The name of a kernel whose activation became a layer of its own."""
    free = f"{name}_linear"
    while free in taken:
        free += "_"
    return free


def _splits(keras: Any, layer: Any) -> bool:
    kernels = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return isinstance(layer, kernels) and activation_name(layer) not in FUSED


def _foldable(keras: Any, model: Any) -> dict[str, Any]:
    """Layer name -> the BatchNormalization over its channels that is its only consumer."""
    layers = keras.layers
    uses = consumers(model)
    calls = [node.operation.name for nodes in model._nodes_by_depth.values() for node in nodes]
    folds = {}
    for layer in model.layers:
        norm: Any = uses[layer.name][0] if len(uses[layer.name]) == 1 else None
        if not isinstance(norm, layers.BatchNormalization) or activation_name(layer) != "linear":
            continue
        linear = isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense)
        called_once = calls.count(layer.name) == calls.count(norm.name) == 1
        if linear and called_once and norm.axis in (-1, len(layer.output.shape) - 1):
            folds[layer.name] = norm
    return folds


def _folded_weights(keras: Any, layer: Any, norm: Any) -> list[Array]:
    kernel, *bias = layer.get_weights()
    per_channel = kernel.shape[2:] if isinstance(layer, keras.layers.DepthwiseConv2D) else kernel.shape[-1:]
    channels = int(np.prod(per_channel))
    gamma = np.asarray(norm.gamma) if norm.scale else np.ones(channels, np.float32)
    beta = np.asarray(norm.beta) if norm.center else np.zeros(channels, np.float32)
    factor = gamma / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    shift = beta + ((bias[0] if bias else 0.0) - np.asarray(norm.moving_mean)) * factor
    return [kernel * factor.reshape(per_channel), shift]
