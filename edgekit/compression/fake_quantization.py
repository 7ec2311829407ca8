"""Simulated int8: the model as the integer kernels will compute it, differentiable (straight-through gradients).

The simulation shares its weights with the float model. Its fake-quantization nodes are the ones that the TFLite
converter recognizes, so that trained scales survive conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras layers and tensors, which have no types

import numpy as np

from edgekit.compression.canonical import FUSED
from edgekit.compression.graph import activation_name, consumers
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, Range, import_keras
from edgekit.tensors import Array

_BOUNDED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256)}  # the ranges that TFLite's kernels demand
_SMALLEST = 1e-6


class Simulation:
    """A fake-quantized twin of a float model in canonical form."""

    def __init__(self, loaded: LoadedModel, ranges: Mapping[str, Range] | None = None) -> None:
        """Build the twin; known ranges are set. Raises ModelError when a layer cannot be simulated."""
        from edgekit.compression import simulation_layers

        self._keras = import_keras()
        self._layers = simulation_layers
        self._consumers = consumers(loaded.model)
        self._observers: dict[str, Any] = {}
        self._kernels: dict[str, Any] = {}  # a layer that is called twice is wrapped once
        check_supported(loaded.model)
        self.model = self._keras.models.clone_model(
            loaded.model, clone_function=lambda layer: layer, call_function=self._call
        )
        self._set_ranges(ranges or {})

    def ranges(self) -> dict[str, Range]:
        """The (min, max) of each observed activation, keyed by the layer that makes it."""
        return {name: observer.get_range() for name, observer in self._observers.items()}

    def fixed_ranges(self) -> dict[str, Range]:
        """The ranges that the integer kernels prescribe."""
        return {name: observer.fixed for name, observer in self._observers.items() if observer.fixed is not None}

    def observe(self, inputs: object) -> None:
        """Let one batch of real inputs, as the model takes them, set the ranges."""
        self.model(inputs, training=True)

    def _set_ranges(self, ranges: Mapping[str, Range]) -> None:
        unknown = [name for name in ranges if name not in self._observers]
        if unknown:
            raise ModelError(f"trained range of '{unknown[0]}': the model has no such layer; compress it again")
        for name, (low, high) in ranges.items():
            self._observers[name].set_range(low, high)

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        args = self._keras.tree.map_structure(self._observed_input, args)
        outputs = self._quantized(layer)(*args, **kwargs) if has_kernel(layer) else layer(*args, **kwargs)
        return self._observe(layer, outputs) if self._has_own_range(layer) else outputs

    def _quantized(self, layer: Any) -> Any:
        if layer.name not in self._kernels:
            self._kernels[layer.name] = self._layers.QuantizedKernel(layer, name=f"quantized_{layer.name}")
        return self._kernels[layer.name]

    def _observed_input(self, tensor: Any) -> Any:
        source = tensor._keras_history.operation
        return self._observe(source, tensor) if isinstance(source, self._keras.layers.InputLayer) else tensor

    def _observe(self, layer: Any, tensor: Any) -> Any:
        if layer.name not in self._observers:
            fixed = _BOUNDED.get(activation_name(layer))
            self._observers[layer.name] = self._layers.Observer(fixed=fixed, name=f"fake_quant_{layer.name}")
        return self._observers[layer.name](tensor)

    def _has_own_range(self, layer: Any) -> bool:
        """Not where values only move, nor where the kernel applies the next layer's ReLU itself."""
        layers = self._keras.layers
        if isinstance(layer, _moving_layers()):
            return False
        uses = self._consumers[layer.name]
        relu_follows = len(uses) == 1 and activation_name(uses[0]) in ("relu", "relu6") and not has_kernel(uses[0])
        fuses = activation_name(layer) == "linear" and (has_kernel(layer) or isinstance(layer, layers.Add))
        return not (relu_follows and fuses)


def check_supported(model: Any) -> None:
    """Raise ModelError that names the first layer that simulated int8 cannot take."""
    layers = import_keras().layers
    way_out = "leave the step out: int8 by calibration takes more layers"
    for operation in model.operations:
        if not isinstance(operation, _supported_layers()):
            kind = type(operation).__name__
            raise ModelError(f"quantize-aware: unsupported layer '{operation.name}' of type {kind}; {way_out}")
        if isinstance(operation, layers.Dense) and len(operation.output.shape) != 2:
            shape = tuple(operation.output.shape)
            raise ModelError(
                f"quantize-aware: layer '{operation.name}' (Dense) gives {shape}, expected (batch, units); {way_out}"
            )
        if has_kernel(operation) and activation_name(operation) not in FUSED:
            raise ModelError(f"quantize-aware: layer '{operation.name}' is not in canonical form")


def on_grid(layer: Any, kernel: Array) -> Array:
    """The kernel rounded to its int8 grid: symmetric, narrow range, scale = largest magnitude / 127."""
    from edgekit.compression.simulation_layers import scale_axes

    largest = np.abs(kernel).max(axis=scale_axes(layer), keepdims=True)
    scale = np.maximum(largest, _SMALLEST) / np.float32(127.0)
    rounded: Array = np.clip(np.rint(kernel / scale), -127, 127) * scale
    return rounded.astype(np.float32)


def has_kernel(layer: Any) -> bool:
    """True for the layers whose kernels become int8."""
    layers = import_keras().layers
    return isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense)


def _moving_layers() -> Any:
    layers = import_keras().layers
    pooling = (layers.MaxPooling2D, layers.AveragePooling2D)
    return (*pooling, layers.Flatten, layers.Reshape, layers.Dropout, layers.ZeroPadding2D, layers.InputLayer)


def _supported_layers() -> Any:
    layers = import_keras().layers
    computing = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, layers.ReLU, layers.Activation, layers.Softmax)
    return (*computing, layers.Add, layers.Concatenate, layers.GlobalAveragePooling2D, *_moving_layers())
