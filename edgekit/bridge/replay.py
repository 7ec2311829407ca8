"""Rebuild a model in the other Keras: same layers, names and weights, called in the same order.

Replaying calls is sturdier than rewriting JSON configs: each layer is made by its own constructor from the keyword
arguments that both Kerases share, so a new config key does no harm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any  # Any: layers, tensors and models of both Kerases

import numpy as np

from edgekit.bridge.lessons import lesson_of
from edgekit.bridge.settings import parameters, translate, twin_class
from edgekit.errors import EdgekitError, ModelError
from edgekit.wording import said

Change = Callable[[list[Any]], list[Any]]

WAY_OUT = (
    "teach the bridge with edgekit.bridge.teach, replace the layer by one of Keras's own, "
    "or convert the model in its own Keras"
)
_PARTS = ("layer", "backward_layer", "cell", "cells")  # settings that are layers themselves
COPIED_BY_PARTS = ("Bidirectional", "TimeDistributed")  # whose weights the two Kerases may order differently


@dataclass(frozen=True)
class Call:
    """One call of a layer or operator in a graph."""

    operation: Any
    args: Any
    kwargs: dict[str, Any]
    outputs: list[Any]
    masked: bool = False  # whether the layer was handed a mask


class Replay(ABC):
    """One replay; a layer that is used twice becomes one layer that is used twice, nested models stay nested."""

    source_name: str  # of the package
    target_name: str
    name_attribute: str  # where a layer of the target keeps its name

    def __init__(self, target: Any) -> None:
        import tensorflow as tf

        self.target = target
        self._nest = tf.nest  # knows the containers of both Kerases
        self._twins: dict[int, Any] = {}
        self._weighted: list[tuple[Any, Any, Change | None]] = []

    def replay(self, model: Any) -> Any:
        """The same model in the other Keras. Raises ModelError that names what cannot be bridged."""
        made = self._graph(model)
        for before, after, change in self._weighted:
            _copy_weights(before, after, change)
        return made

    @abstractmethod
    def is_layer(self, operation: Any) -> bool:
        """Whether it is a layer (or a model) and not an operator."""

    @abstractmethod
    def is_model(self, operation: Any) -> bool:
        """Whether it is a model within the model."""

    @abstractmethod
    def structure(self, model: Any) -> tuple[Any, Any]:
        """Inputs and outputs in the structure that the model is called with. Raises ModelError without a graph."""

    @abstractmethod
    def calls(self, model: Any) -> Iterable[Call]:
        """Every call that the outputs need, in an order that can be replayed."""

    @abstractmethod
    def input(self, tensor: Any) -> Any:
        """A new input like `tensor`."""

    @abstractmethod
    def operator(self, call: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        """The outputs of an operator on bridged arguments."""

    @abstractmethod
    def activation(self, layer: Any, setting: str) -> Any:
        """The other Keras's activation for the layer's setting of that name. Raises ModelError."""

    @abstractmethod
    def renamed(self, kind: str) -> dict[str, str]:
        """Settings of that kind of layer which the other Keras calls by another name."""

    def adjusted(self, layer: Any, settings: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - a hook
        """Settings whose meaning differs, in the other Keras's words."""
        return settings

    def without_twin(self, layer: Any) -> Any:
        """What stands for a layer that the other Keras does not have. Raises ModelError when nothing does."""
        raise self.refusal(layer, "there is no such layer")

    def leaf(self, layer: Any) -> Any:
        """The twin of one of Keras's own layers."""
        kind = twin_class(layer, self.source_name, self.target, self.target_name)
        if kind is None:
            return self.without_twin(layer)
        name = type(layer).__name__
        if name == "Lambda":  # both compute with TensorFlow, so the function itself goes over
            return kind(layer.function, arguments=layer.arguments, name=layer.name, dtype=layer.dtype_policy.name)
        settings = translate(
            layer, kind, self.target, without=_PARTS, renamed=self.renamed(name),
            activation=lambda setting: self.activation(layer, setting),
        )  # fmt: skip
        made = kind(**(self.adjusted(layer, settings) | self._parts(layer)))
        if name == "Bidirectional":  # which remakes the layers that it is given
            self.copy_later(layer.forward_layer, made.forward_layer)
            self.copy_later(layer.backward_layer, made.backward_layer)
        return made

    def _parts(self, layer: Any) -> dict[str, Any]:
        kind = type(layer).__name__
        if kind == "TimeDistributed":
            return {"layer": self.twin(layer.layer)}
        if kind == "Bidirectional":
            return {
                "layer": self._direction(layer.forward_layer, "forward_"),
                "backward_layer": self._direction(layer.backward_layer, "backward_"),
            }
        found = {name: getattr(layer, name) for name in _PARTS if name in layer.get_config()}
        return {
            name: [self.made(item) for item in part] if isinstance(part, list) else self.made(part)
            for name, part in found.items()
        }

    def _direction(self, layer: Any, prefix: str) -> Any:
        """A twin under the name that Bidirectional will put its prefix to."""
        made = self.made(layer)
        setattr(made, self.name_attribute, layer.name.removeprefix(prefix))
        return made

    def constant(self, value: Any) -> Any:
        """An argument that is not a tensor of the graph."""
        return value

    def arguments(self, call: Call, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002
        """How the twin is called with the bridged arguments of the layer's call."""
        return args, kwargs

    def change(self, layer: Any) -> Change | None:  # noqa: ARG002 - a hook
        """What has to be done to the layer's weights on the way."""
        return None

    def twin(self, layer: Any) -> Any:
        """The layer's twin, one for each layer; its weights will be copied."""
        if id(layer) not in self._twins:
            self._twins[id(layer)] = self._graph(layer) if self.is_model(layer) else self.made(layer)
            by_parts = type(layer).__name__ in COPIED_BY_PARTS and not lesson_of(layer)
            if not self.is_model(layer) and not by_parts:
                self.copy_later(layer, self._twins[id(layer)])
        return self._twins[id(layer)]

    def copy_later(self, before: Any, after: Any) -> None:
        """Copy the weights when all layers are built."""
        self._weighted.append((before, after, self.change(before)))

    def made(self, layer: Any) -> Any:
        """A twin without the layer's weights. Raises ModelError."""
        try:
            lesson = lesson_of(layer)
            if lesson is None:
                return self.leaf(layer)
            forward = type(layer) is lesson.keras_layer
            twin = lesson.tf_keras_layer if forward else lesson.keras_layer
            config = dict((lesson.settings if forward else lesson.back)(layer.get_config()))
            common = {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy.name}
            accepted = parameters(twin)
            return twin(**{key: value for key, value in (config | common).items() if key in accepted})
        except EdgekitError:
            raise
        except Exception as problem:  # constructors raise what they like
            raise self.refusal(layer, problem) from problem

    def refusal(self, layer: Any, problem: object) -> ModelError:
        """Names the layer, the cause and the next step."""
        return ModelError(
            f"layer '{layer.name}' ({type(layer).__name__}) has no bridge to {self.target_name}: "
            f"{said(problem)}; {WAY_OUT}"
        )

    def _graph(self, model: Any) -> Any:
        inputs, outputs = self.structure(model)
        tensors = {id(tensor): self.input(tensor) for tensor in self._nest.flatten(inputs)}

        def bridged(value: Any) -> Any:
            return tensors[id(value)] if id(value) in tensors else self.constant(value)

        for call in self.calls(model):
            args, kwargs = self._nest.map_structure(bridged, (call.args, call.kwargs))
            found = self._nest.flatten(self._outputs(call, args, kwargs))
            for before, after in zip(call.outputs, found, strict=True):
                tensors[id(before)] = after
        made = self._nest.map_structure(bridged, (inputs, outputs))
        return self.model(*made, name=model.name)

    def model(self, inputs: Any, outputs: Any, *, name: str) -> Any:
        """The model between bridged inputs and outputs."""
        return self.target.Model(inputs, outputs, name=name)

    def _outputs(self, call: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        try:
            if not self.is_layer(call.operation):
                return self.operator(call, args, kwargs)
            args, kwargs = self.arguments(call, args, kwargs)
            return self.twin(call.operation)(*args, **kwargs)
        except EdgekitError:
            raise
        except Exception as problem:  # layers raise what they like when they are built
            raise self.refusal(call.operation, problem) from problem


def _copy_weights(before: Any, after: Any, change: Change | None) -> None:
    weights = [np.asarray(weight) for weight in before.get_weights()]
    weights = change(weights) if change else weights
    shapes, wanted = [array.shape for array in weights], [tuple(weight.shape) for weight in after.weights]
    if shapes != wanted:
        raise ModelError(
            f"layer '{before.name}' ({type(before).__name__}): weights of {shapes} do not fit its twin's {wanted}"
        )
    after.set_weights(weights)
    if hasattr(after, "finalize_state"):
        after.finalize_state()  # Normalization computes with a copy of its weights
