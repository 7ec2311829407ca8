"""From Keras 3 to tf_keras."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol  # Any: layers and tensors of both Kerases

import numpy as np

from edgekit.bridge.activations import SAME_ACTIVATIONS, foreign_activation
from edgekit.bridge.operators_to_tf import Operators
from edgekit.bridge.replay import Call, Replay
from edgekit.bridge.settings import RENAMED
from edgekit.errors import ModelError
from edgekit.kerases import import_keras, import_tf_keras

log = logging.getLogger(__name__)


class HasModel(Protocol):
    """A LoadedModel, or whatever else holds a Keras 3 model."""

    @property
    def model(self) -> Any:
        """The Keras 3 model."""
        ...


def to_tf_keras(loaded: HasModel | Any) -> Any:
    """The same model as a tf_keras.Model; takes a LoadedModel or a Keras 3 model.

    Layers keep their names and are shared and nested as they were. Operators become layers where that is exact (Add,
    Rescaling, ReLU, ...), TensorFlow calls elsewhere. Raises ModelError that names a layer tf_keras does not have.
    """
    return _ToTfKeras(import_tf_keras()).replay(getattr(loaded, "model", loaded))


class _ToTfKeras(Replay):
    source_name, target_name, name_attribute = "keras", "tf_keras", "_name"

    def __init__(self, tf_keras: Any) -> None:
        super().__init__(tf_keras)
        self.keras = import_keras()
        self._operators = Operators(self.keras, tf_keras)

    def is_layer(self, operation: Any) -> bool:
        return isinstance(operation, self.keras.layers.Layer)

    def is_model(self, operation: Any) -> bool:
        return isinstance(operation, self.keras.Model)

    def structure(self, model: Any) -> tuple[Any, Any]:
        functional = _functional(self.keras, model)
        return functional._inputs_struct, functional._outputs_struct

    def calls(self, model: Any) -> Iterable[Call]:
        functional = _functional(self.keras, model)
        found = [_call(node) for node in _nodes_in_order(functional)]
        needed = {id(tensor) for tensor in functional.outputs}
        kept = []
        for call in reversed(found):  # without those that only make masks, which tf_keras makes itself
            if any(id(tensor) in needed for tensor in call.outputs):
                kept.append(call)
                needed.update(id(value) for value in self._nest.flatten((call.args, call.kwargs)))
        return reversed(kept)

    def input(self, tensor: Any) -> Any:
        name = tensor.name.replace("/", "_")
        return self.target.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=str(tensor.dtype), name=name)

    def constant(self, value: Any) -> Any:
        is_weight = isinstance(value, self.keras.Variable) or hasattr(value, "numpy")
        return np.asarray(value) if is_weight else value

    def operator(self, call: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._operators.outputs(call, args, kwargs)

    def arguments(self, call: Call, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A recurrent layer that is given its first state sees no mask in Keras 3, so tf_keras gets none to see."""
        masked = args and getattr(args[0], "_keras_mask", None) is not None
        if masked and "initial_state" in kwargs and not call.masked:
            return (self._operators.identity(args[0]), *args[1:]), kwargs
        return args, kwargs

    def activation(self, layer: Any, setting: str) -> Any:
        name = layer.get_config()[setting]
        if not isinstance(name, str):
            raise self.refusal(layer, f"its {setting} is a function of your own")
        return name if name in SAME_ACTIVATIONS else foreign_activation(self.keras, self.target, name)

    def renamed(self, kind: str) -> dict[str, str]:
        return RENAMED.get(kind, {})

    def adjusted(self, layer: Any, settings: dict[str, Any]) -> dict[str, Any]:
        if getattr(layer, "zero_output_for_mask", False):
            settings["zero_output_for_mask"] = True
        if isinstance(layer, self.keras.layers.BatchNormalization):
            settings["fused"] = False  # TensorFlow's fused kernel rounds in another order than Keras 3 does
        return settings

    def without_twin(self, layer: Any) -> Any:
        if type(layer).__module__.startswith("keras.src.layers.preprocessing.image_preprocessing."):
            log.warning(
                "layer '%s' (%s) works only while training, and tf_keras has no such layer: the bridged model trains "
                "without it", layer.name, type(layer).__name__,
            )  # fmt: skip
            return self.target.layers.Activation("linear", name=layer.name)
        return super().without_twin(layer)


def _functional(keras: Any, model: Any) -> Any:
    functional = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not hasattr(functional, "_nodes_by_depth"):
        raise ModelError(
            f"model '{model.name}' ({type(model).__name__}) has no layer graph that tf_keras could take over; "
            "build it with an Input, as Sequential or Functional"
        )
    return functional


def _nodes_in_order(functional: Any) -> Iterator[Any]:
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        yield from (node for node in functional._nodes_by_depth[depth] if not node.is_input)


def _call(node: Any) -> Call:
    """Without what the framework adds by itself: `training`, and masks that the first argument carries."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    carried = {id(getattr(tensor, "_keras_mask", None)) for tensor in node.arguments.keras_tensors}
    kept = {
        key: value
        for key, value in kwargs.items()
        if value is not None and key != "training" and not (key.endswith("mask") and _is_carried(value, carried))
    }
    return Call(node.operation, args, kept, node.outputs, masked=kwargs.get("mask") is not None)


def _is_carried(mask: Any, carried: set[int]) -> bool:
    masks = mask if isinstance(mask, list | tuple) else [mask]
    return all(item is None or id(item) in carried for item in masks)
