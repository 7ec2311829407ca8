"""Simulated int8: the model as the integer kernels will compute it, differentiable (straight-through gradients).

The simulation shares its weights with the float model. Its fake-quantization nodes are the ones that the TFLite
converter recognizes, so that trained scales survive conversion. docs/quantization.md says what is simulated of each
kind of layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any  # Any: keras layers and tensors, which have no types

import numpy as np

from edgekit.compression.folding import foldable
from edgekit.compression.graph import activation_name, rewrite
from edgekit.compression.kernel_rounding import KernelRounding
from edgekit.compression.operations import DECOMPOSED, FIXED_RANGES, Kind, Treatment, treatment
from edgekit.compression.ranges import observed_operations
from edgekit.compression.twins import Twins, layer_name
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, Range, import_keras

_PAIRED = ("Add", "Multiply", "Maximum", "Minimum")  # layers that may take more than two inputs


class Simulation:
    """A fake-quantized twin of a float model in canonical form."""

    def __init__(
        self,
        loaded: LoadedModel,
        ranges: Mapping[str, Range] | None = None,
        *,
        bits: Mapping[str, int] | None = None,
        shared: Collection[str] = (),
        on_grid: bool = False,
    ) -> None:
        """Build the twin; known ranges are set.

        `bits` by kernel name where they are not 8 (FLOAT_BITS: the kernel stays float), by default those of `loaded`.
        `shared`: kernels whose values are shared, which one scale keeps so. `on_grid`: the kernels are rounded already,
        their grids are read from them. Raises ModelError when a range or a grid does not fit the model.
        """
        self._keras = import_keras()
        chosen = bits if bits is not None else loaded.weight_bits or {}
        self._rounding = KernelRounding(loaded.model, chosen, shared, on_grid=on_grid)
        norms = _norms_in_kernels(loaded.model)
        self._in_kernels = {norm.name for norm in norms.values()}
        self._treatments = {op.name: self._treatment(op) for op in loaded.model.operations}
        self._observed = observed_operations(loaded.model, self._treatments, norms)
        self._observers: dict[str, Any] = {}
        self._twins = Twins(self._rounding, norms, self._observer)
        self.model = rewrite(loaded.model, self._call, self._input)
        self._set_ranges(ranges or {})

    def ranges(self) -> dict[str, Range]:
        """The (min, max) of each observed activation, keyed by the layer that makes it."""
        return {name: observer.get_range() for name, observer in self._observers.items()}

    def fixed_ranges(self) -> dict[str, Range]:
        """The ranges that the integer kernels prescribe."""
        return {name: observer.fixed for name, observer in self._observers.items() if observer.fixed is not None}

    def left_float(self) -> dict[str, str]:
        """Operation or kernel name -> why it, or a part of it, stays float."""
        skipped = {kernel.name: "skipped" for kernel in self._rounding.kernels if self._rounding.grid(kernel) is None}
        return {**skipped, **{name: how.reason for name, how in self._treatments.items() if how.reason}}

    def observe(self, inputs: object) -> None:
        """Let one batch of real inputs, as the model takes them, widen the ranges."""
        for observer in self._observers.values():
            observer.calibrating = True
        try:
            self.model(inputs, training=False)
        finally:
            for observer in self._observers.values():
                observer.calibrating = False

    def snap(self) -> None:
        """Put the kernels of the float model on their grids."""
        for kernel in self._rounding.kernels:
            grid = self._rounding.grid(kernel)
            if grid is not None:
                kernel.variable.assign(grid.snap(np.asarray(kernel.variable)))

    def _treatment(self, operation: Any) -> Treatment:
        """As `treatment`, but an operation whose kernels are all skipped stays float."""
        own = self._rounding.of(operation)
        if own and all(self._rounding.grid(kernel) is None for kernel in own):
            return Treatment(Kind.FLOAT)
        return treatment(operation)

    def _set_ranges(self, ranges: Mapping[str, Range]) -> None:
        unknown = [name for name in ranges if name not in self._observers]
        if unknown:
            raise ModelError(f"trained range of '{unknown[0]}': the model has no such layer; compress it again")
        missing = [name for name, o in self._observers.items() if o.fixed is None and name not in ranges]
        if ranges and missing:
            raise ModelError(f"layer '{missing[0]}' has no trained range; compress the model again")
        for name, (low, high) in ranges.items():
            self._observers[name].set_range(low, high)

    def _input(self, operation: Any, tensor: Any) -> Any:
        return self._observe(operation.name, tensor) if operation.name in self._observed else tensor

    def _call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in self._in_kernels:
            return args[0]
        outputs = self._computed(operation, args, kwargs)
        if operation.name not in self._observed:
            return outputs
        flat = [
            self._observe(operation.name + (f"/{index}" if index else ""), tensor, activation_name(operation))
            if self._keras.backend.is_float_dtype(tensor.dtype)
            else tensor
            for index, tensor in enumerate(self._keras.tree.flatten(outputs))
        ]
        return self._keras.tree.pack_sequence_as(outputs, flat)

    def _observe(self, name: str, tensor: Any, activation: str = "") -> Any:
        return self._observer(name, FIXED_RANGES.get(activation))(tensor)

    def _observer(self, name: str, fixed: Range | None = None) -> Any:
        from edgekit.compression import simulation_layers

        if name not in self._observers:
            self._observers[name] = simulation_layers.Observer(fixed=fixed, name=layer_name("fake_quant", name))
        return self._observers[name]

    def _computed(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        how = self._treatments[operation.name]
        kind = type(operation).__name__
        if not how.wants_integers:
            return operation(*args, **kwargs)
        if activation_name(operation) in DECOMPOSED and kind not in ("Dense", "EinsumDense"):
            return self._decomposed(operation, args[0])
        if kind in _PAIRED and len(args) == 1 and isinstance(args[0], list | tuple) and len(args[0]) > 2:
            return self._chained(operation, args[0])
        twin = self._twins.twin(operation)
        if twin is None:
            return operation(*args, **kwargs)
        if kind == "MultiHeadAttention" or how.kind is Kind.FLOAT_BETWEEN_INTEGERS:
            return twin(*args, **kwargs)
        return twin(args[0])

    def _decomposed(self, operation: Any, tensor: Any) -> Any:
        """x * sigmoid(x) and the like as the operations that integer kernels have."""
        keras, name = self._keras, operation.name
        activation = activation_name(operation)
        if activation == "silu":
            gate = self._observe(f"{name}/gate", keras.ops.sigmoid(tensor), "sigmoid")
            return keras.ops.multiply(tensor, gate)
        shifted = self._observer(f"{name}/shifted", (0.0, 6.0))(keras.ops.relu6(tensor + 3.0))
        if activation == "hard_sigmoid":
            return shifted * (1 / 6)
        gate = self._observer(f"{name}/gate", (0.0, 1.0))(shifted * (1 / 6))
        return keras.ops.multiply(tensor, gate)

    def _chained(self, operation: Any, tensors: Sequence[Any]) -> Any:
        """Several inputs two by two, as integer kernels take them."""
        compute = getattr(self._keras.ops, type(operation).__name__.lower())
        result = tensors[0]
        for index, tensor in enumerate(tensors[1:], start=1):
            result = compute(result, tensor)
            if index < len(tensors) - 1:
                result = self._observe(f"{operation.name}/partial_{index}", result)
        return result


def trained_simulation(loaded: LoadedModel) -> Simulation:
    """The simulation of a model that QuantizeAware has finished. Raises ModelError when it was changed since."""
    assert loaded.activation_ranges is not None  # its caller looked
    return Simulation(loaded, loaded.activation_ranges, on_grid=True)


def _norms_in_kernels(model: Any) -> dict[str, Any]:
    """Convolution -> the BatchNormalization in its kernel: it was not folded, so that values stay shared."""
    layers = import_keras().layers
    plain = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    return {name: norm for name, norm in foldable(model).items() if isinstance(model.get_layer(name), plain)}
