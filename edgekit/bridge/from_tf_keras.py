"""From tf_keras to Keras 3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any  # Any: layers and tensors of both Kerases

import numpy as np

from edgekit.bridge.activations import HARD_SIGMOID_GAIN, is_legacy_hard_sigmoid, keras_name
from edgekit.bridge.operators_from_tf import Operators
from edgekit.bridge.replay import COPIED_BY_PARTS, Call, Change, Replay
from edgekit.bridge.settings import RENAMED
from edgekit.bridge.wrappers import held_by, range_of, wrapper_of
from edgekit.errors import ModelError
from edgekit.kerases import import_keras, import_tf_keras

_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_GATES = {"LSTM": (1, 1, 0, 1), "GRU": (1, 1, 0), "ConvLSTM": (1, 1, 0, 1)}  # 1: the recurrent activation's


def from_tf_keras(model: Any) -> Any:
    """The same model as a keras.Model (Keras 3) that plain Keras can save and load.

    Layers keep their names ('/' becomes '_') and are shared and nested as they were; TensorFlow calls become
    `keras.ops`. Raises ModelError that names a layer or TensorFlow call which Keras 3 cannot take.
    """
    return read_tf_keras(model).model


@dataclass(frozen=True)
class Read:
    """A Keras 3 model out of a tf_keras one, and what TFMOT had trained into it."""

    model: Any
    wrapped: Mapping[str, tuple[str, ...]]  # 'prune', 'cluster' or 'quantize' -> the layers that were wrapped
    ranges: Mapping[str, tuple[float, float]] | None  # of quantized activations, by layer or input name
    unmapped: str = ""  # why there are no ranges, when layers were quantized


def read_tf_keras(model: Any) -> Read:
    """`from_tf_keras`, with what TFMOT's wrappers held beside the weights. Raises ModelError."""
    replay = _FromTfKeras(import_keras(), on_grid=not _normalizes(model))
    made = replay.replay(model)
    quantized = "quantize" in replay.wrapped
    why = "BatchNormalization layers still stand between its kernels and their grids" if not replay.on_grid else ""
    return Read(
        model=made,
        wrapped={kind: tuple(names) for kind, names in replay.wrapped.items()},
        ranges=replay.ranges if quantized and replay.on_grid else None,
        unmapped=why if quantized else "",
    )


def _normalizes(model: Any) -> bool:
    """Whether a quantized model holds BatchNormalization, which has to be folded before kernels are on their grids."""
    layers = model._flatten_layers(include_self=False)
    return any(type(layer).__name__ in ("BatchNormalization", "SyncBatchNormalization") for layer in layers)


class _FromTfKeras(Replay):
    source_name, target_name, name_attribute = "tf_keras", "keras", "name"

    def __init__(self, keras: Any, *, on_grid: bool) -> None:
        super().__init__(keras)
        self.tf_keras = import_tf_keras()
        self.on_grid = on_grid
        self.wrapped: dict[str, list[str]] = {}
        self.ranges: dict[str, tuple[float, float]] = {}
        self._operators = Operators(keras)
        self._inputs: list[str] = []  # names, in order

    def is_layer(self, operation: Any) -> bool:
        return not type(operation).__module__.endswith(".tf_op_layer")

    def is_model(self, operation: Any) -> bool:
        return isinstance(operation, self.tf_keras.Model)

    def structure(self, model: Any) -> tuple[Any, Any]:
        if not getattr(model, "_nodes_by_depth", None):
            raise ModelError(
                f"model '{model.name}' ({type(model).__name__}) has no layer graph: it is a subclass of tf_keras.Model "
                "or was never built; build it with an Input, as Sequential or Functional, or convert it after training "
                "without edgekit (tf.lite.TFLiteConverter.from_keras_model)"
            )
        return model._nested_inputs, model._nested_outputs

    def calls(self, model: Any) -> Iterable[Call]:
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    kept = {key: value for key, value in node.call_kwargs.items() if value is not None}
                    yield Call(node.layer, node.call_args, kept, self._nest.flatten(node.outputs))

    def input(self, tensor: Any) -> Any:
        shape = tuple(tensor.shape)
        name = _plain_name(tensor.node.layer.name)
        self._inputs.append(name)
        return self.target.Input(shape[1:], batch_size=shape[0], dtype=str(tensor.dtype.name), name=name)

    @property
    def _input_name(self) -> str:
        return self._inputs[0] if self._inputs else ""

    def model(self, inputs: Any, outputs: Any, *, name: str) -> Any:
        _rename_operators(self.target, self._nest.flatten(outputs))
        return super().model(inputs, outputs, name=_plain_name(name))

    def constant(self, value: Any) -> Any:
        return value.numpy() if hasattr(value, "numpy") else value

    def twin(self, layer: Any) -> Any:
        kind = wrapper_of(layer)
        if kind is None or id(layer) in self._twins:
            return super().twin(layer)
        if kind.startswith("quantize"):
            self.ranges.update([found] if (found := range_of(layer, self._input_name)) else [])
        self._twins[id(layer)] = (lambda tensor: tensor) if kind == "quantize-input" else self._unwrapped(layer, kind)
        return self._twins[id(layer)]

    def _unwrapped(self, layer: Any, kind: str) -> Any:
        held = held_by(layer, on_grid=self.on_grid)
        self.wrapped.setdefault(kind, []).append(held.name)
        if self.is_model(held.layer) or wrapper_of(held.layer) or type(held.layer).__name__ in COPIED_BY_PARTS:
            return self.twin(held.layer)
        made = self.made(held.layer)
        self._weighted.append((held, made, self.change(held.layer)))
        return made

    def operator(self, call: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._operators.outputs(call.operation, args, kwargs)

    def arguments(self, call: Call, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """tf_keras hands a recurrent layer its first state in one list with the sequence, and still sees the mask."""
        if type(call.operation).__name__ in _RECURRENT and args and isinstance(args[0], list):
            sequence, *state = args[0]
            mask = getattr(sequence, "_keras_mask", None)
            return (sequence, *args[1:]), {"mask": mask, **kwargs, "initial_state": state}
        return args, kwargs

    def activation(self, layer: Any, setting: str) -> Any:
        function = getattr(layer, setting, None) or getattr(layer.cell, setting)
        name = keras_name(function)
        if name is None:
            raise self.refusal(layer, f"its {setting} '{getattr(function, '__name__', function)}' is not in Keras 3")
        return name

    def renamed(self, kind: str) -> dict[str, str]:
        return {theirs: ours for ours, theirs in RENAMED.get(kind, {}).items()}

    def adjusted(self, layer: Any, settings: dict[str, Any]) -> dict[str, Any]:
        settings["name"] = _plain_name(layer.name)
        if type(layer).__name__ == "BatchNormalization":
            settings["axis"] = self._only_axis(layer)
        if hasattr(layer, "get_vocabulary"):
            settings["vocabulary"] = layer.get_vocabulary(include_special_tokens=False)
        return settings

    def leaf(self, layer: Any) -> Any:
        if type(layer).__name__ == "Activation" and is_legacy_hard_sigmoid(layer.activation):
            return _Chain(
                self.target.layers.Rescaling(HARD_SIGMOID_GAIN, name=f"{_plain_name(layer.name)}_gain"),
                self.target.layers.Activation("hard_sigmoid", name=_plain_name(layer.name)),
            )
        return super().leaf(layer)

    def change(self, layer: Any) -> Change | None:
        """tf_keras's hard_sigmoid is Keras 3's of 1.2 times the input, which goes into kernels and biases."""
        recurrent = getattr(layer, "recurrent_activation", None)
        if is_legacy_hard_sigmoid(recurrent):
            kind = type(layer).__name__
            gates = _GATES["ConvLSTM" if kind.startswith("ConvLSTM") else kind.removesuffix("Cell")]
            return lambda weights: [_gained(weight, gates) for weight in weights]
        if is_legacy_hard_sigmoid(getattr(layer, "activation", None)) and recurrent is None and layer.weights:
            depthwise = type(layer).__name__.startswith("Separable")  # two kernels: the first goes without
            return lambda weights: [*weights[:depthwise], *(w * HARD_SIGMOID_GAIN for w in weights[depthwise:])]
        return None

    def without_twin(self, layer: Any) -> Any:
        if type(layer).__name__ in ("RandomHeight", "RandomWidth"):
            raise self.refusal(layer, "it changes the picture's size")
        return super().without_twin(layer)

    def _only_axis(self, layer: Any) -> int:
        axes = list(layer.axis) if isinstance(layer.axis, list | tuple) else [layer.axis]
        if len(axes) != 1:
            raise self.refusal(layer, f"Keras 3 normalizes over one axis, not {axes}")
        return int(axes[0])


class _Chain:
    """Two layers that stand for one without weights."""

    weights: tuple[Any, ...] = ()

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    def __call__(self, tensor: Any) -> Any:
        return self._second(self._first(tensor))

    def set_weights(self, weights: list[Any]) -> None:
        """There are none."""


def _gained(weight: Any, gates: tuple[int, ...]) -> Any:
    factors = [HARD_SIGMOID_GAIN if gate else 1.0 for gate in gates]
    return weight * np.repeat(np.asarray(factors, weight.dtype), weight.shape[-1] // len(gates))


def _plain_name(name: str) -> str:
    """Keras 3 takes no '/' in a name."""
    return name.replace("/", "_")


def _rename_operators(keras: Any, outputs: list[Any]) -> None:
    """Operators name themselves, and a layer of the user may have the name already."""
    operations = list(_operations(outputs))
    taken = {operation.name for operation in operations if isinstance(operation, keras.layers.Layer)}
    for operation in operations:
        if not isinstance(operation, keras.layers.Layer) and operation.name in taken:
            free = (f"{operation.name}_op{number}" for number in range(1, len(operations) + 2))
            operation.name = next(name for name in free if name not in taken)
            taken.add(operation.name)


def _operations(outputs: list[Any]) -> Iterator[Any]:
    seen: set[int] = set()
    waiting = list(outputs)
    while waiting:
        operation, node_index, _ = waiting.pop()._keras_history
        node = operation._inbound_nodes[node_index]
        if id(node) not in seen:
            waiting.extend(node.input_tensors)
            if id(operation) not in seen:
                yield operation
            seen.update((id(node), id(operation)))
