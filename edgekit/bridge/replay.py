"""Rebuild a Keras 3 Functional model in tf_keras: same layers, names and weights, called in the same order.

Replaying calls is sturdier than rewriting JSON configs: each layer is made by its own constructor from the keyword
arguments that both Kerases share, so a new Keras 3 config key does no harm.
"""

from __future__ import annotations

import inspect
from typing import Any  # Any: layers and tensors of both Kerases

from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, import_keras

# Settings that only training needs, or that the two Kerases write in different ways.
_LEFT_OUT = ("dtype", "batch_shape", "quantization_config", "build_config")
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


def to_tf_keras(loaded: LoadedModel) -> Any:
    """The same model as a tf_keras.Model. Raises ModelError that names a layer tf_keras does not have."""
    import tf_keras

    keras = import_keras()
    layers: dict[str, Any] = {}
    tensors: dict[int, Any] = {}
    for spec, tensor in zip(loaded.inputs, loaded.model.inputs, strict=True):
        tensors[id(tensor)] = tf_keras.Input(spec.shape[1:], dtype=spec.dtype, name=spec.name)

    def bridged(value: Any) -> Any:
        return tensors[id(value)] if isinstance(value, keras.KerasTensor) else value

    for node in _nodes_in_order(loaded.model):
        layer = layers.setdefault(node.operation.name, None) or _bridge_layer(tf_keras, keras, node.operation)
        layers[node.operation.name] = layer
        args = keras.tree.map_structure(bridged, node.arguments.args)
        kwargs = {k: keras.tree.map_structure(bridged, v) for k, v in node.arguments.kwargs.items() if v is not None}
        outputs = layer(*args, **kwargs)
        for before, after in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            tensors[id(before)] = after
    model = tf_keras.Model(
        [tensors[id(tensor)] for tensor in loaded.model.inputs],
        [tensors[id(tensor)] for tensor in loaded.model.outputs],
        name=loaded.name,
    )
    for name, layer in layers.items():
        layer.set_weights(loaded.model.get_layer(name).get_weights())
    return model


def _nodes_in_order(model: Any) -> list[Any]:
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _bridge_layer(tf_keras: Any, keras: Any, layer: Any) -> Any:
    kind = type(layer).__name__
    twin = getattr(tf_keras.layers, kind, None)
    plain = isinstance(layer, keras.layers.Layer) and type(layer).__module__.startswith("keras.")
    if twin is None or not plain or isinstance(layer, keras.Model | keras.layers.Wrapper):
        raise ModelError(f"layer '{layer.name}' ({kind}) has no bridge to tf_keras yet; use engine = \"keras\"")
    config = {_RENAMED.get(kind, {}).get(key, key): value for key, value in layer.get_config().items()}
    accepted = _keyword_arguments(twin)
    return twin(**{key: value for key, value in config.items() if key in accepted and not _is_left_out(key)})


def _is_left_out(key: str) -> bool:
    return key in _LEFT_OUT or key.endswith(("_initializer", "_regularizer", "_constraint"))


def _keyword_arguments(kind: type) -> set[str]:
    signatures = [inspect.signature(vars(base)["__init__"]) for base in kind.__mro__ if "__init__" in vars(base)]
    return {name for signature in signatures for name in signature.parameters} | {"name", "trainable"}
