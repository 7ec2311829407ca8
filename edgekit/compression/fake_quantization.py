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
from edgekit.compression.grids import FLOAT_BITS, Grid
from edgekit.compression.kernels import Kernel, kernels
from edgekit.compression.operations import DECOMPOSED, FIXED_RANGES, Kind, is_foldable_in_time, treatment
from edgekit.compression.ranges import observed_operations
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
        from edgekit.compression import simulation_attention, simulation_convolutions, simulation_layers

        self._keras = import_keras()
        self._layers = simulation_layers
        self._convolutions = simulation_convolutions
        self._attention = simulation_attention
        self._bits = dict(bits if bits is not None else loaded.weight_bits or {})
        self._shared = set(shared)
        self._on_grid = on_grid
        self._kernels = quantizable_kernels(loaded.model)
        self._tables = {id(kernel.variable): kernel for kernel in self._kernels}
        self._norms = _norms_in_kernels(loaded.model)
        self._in_kernels = {norm.name for norm in self._norms.values()}
        self._treatments = {op.name: self._treatment(op) for op in loaded.model.operations}
        self._observed = observed_operations(loaded.model, self._treatments, self._norms)
        self._observers: dict[str, Any] = {}
        self._twins: dict[str, Any] = {}  # an operation that is called twice is simulated once
        self._check_bits()
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
        skipped = {k.name: "skipped" for k in self._kernels if self._bits.get(k.name) == FLOAT_BITS}
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
        for kernel in self._kernels:
            grid = self._grid(kernel)
            if grid is not None:
                kernel.variable.assign(grid.snap(np.asarray(kernel.variable)))

    def _treatment(self, operation: Any) -> Any:
        """As `treatment`, but an operation whose kernels are all skipped stays float."""
        how = treatment(operation)
        own = [self._tables[id(v)].name for v in getattr(operation, "variables", ()) if id(v) in self._tables]
        if own and all(self._bits.get(name) == FLOAT_BITS for name in own):
            return type(how)(Kind.FLOAT)
        return how

    def _set_ranges(self, ranges: Mapping[str, Range]) -> None:
        unknown = [name for name in ranges if name not in self._observers]
        if unknown:
            raise ModelError(f"trained range of '{unknown[0]}': the model has no such layer; compress it again")
        missing = [name for name, o in self._observers.items() if o.fixed is None and name not in ranges]
        if ranges and missing:
            raise ModelError(f"layer '{missing[0]}' has no trained range; compress the model again")
        for name, (low, high) in ranges.items():
            self._observers[name].set_range(low, high)

    def _check_bits(self) -> None:
        unknown = [name for name in self._bits if name not in {kernel.name for kernel in self._kernels}]
        if unknown:
            raise ModelError(f"bits of '{unknown[0]}': the model has no such kernel; compress it again")

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
        if name not in self._observers:
            self._observers[name] = self._layers.Observer(fixed=fixed, name=_scoped("fake_quant", name))
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
        twin = self._twin(operation)
        if twin is None:
            return operation(*args, **kwargs)
        if kind == "MultiHeadAttention" or how.kind is Kind.FLOAT_BETWEEN_INTEGERS:
            return twin(*args, **kwargs)
        return twin(args[0])

    def _twin(self, operation: Any) -> Any:
        """The layer that stands for an operation; None where nothing in it is rounded."""
        if operation.name not in self._twins:
            self._twins[operation.name] = self._made(operation, _scoped("quantized", operation.name))
        return self._twins[operation.name]

    def _made(self, operation: Any, name: str) -> Any:
        layers = self._keras.layers
        convolutions = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
        if isinstance(operation, layers.SeparableConv1D | layers.SeparableConv2D):
            between = self._observer(f"{operation.name}/depthwise")
            roundings = (self._rounding(operation.depthwise_kernel), self._rounding(operation.pointwise_kernel))
            return self._convolutions.QuantizedSeparableConvolution(operation, roundings, between, name=name)
        if isinstance(operation, convolutions):
            norm = self._norms.get(operation.name)
            rounding = self._rounding(operation.kernel)
            return self._convolutions.QuantizedConvolution(operation, rounding, norm, name=name)
        if isinstance(operation, layers.Dense | layers.EinsumDense):
            return self._dense(operation, name)
        if isinstance(operation, layers.MultiHeadAttention) and self._treatments[operation.name].kind is Kind.INTEGER:
            return self._attended(operation, name)
        if isinstance(operation, layers.TimeDistributed) and is_foldable_in_time(operation):
            return self._attention.QuantizedOverTime(self._made(operation.layer, f"{name}.each"), name=name)
        if type(operation).__name__ in ("BatchNormalization", "Normalization", "Rescaling", "LayerScale"):
            scaled = self._layers.Rounding(Grid(8, 2), trains=not self._on_grid)
            return self._convolutions.QuantizedScaling(operation, scaled, name=name)
        return self._with_tables(operation, name)

    def _dense(self, layer: Any, name: str, factor: float = 1.0) -> Any:
        if self._layers.contracted_axes(layer):
            return self._layers.QuantizedDense(layer, self._rounding(layer.kernel), factor, name=name)
        return self._with_tables(layer, name)

    def _with_tables(self, operation: Any, name: str) -> Any:
        tables = [(v, self._rounding(v)) for v in getattr(operation, "variables", ()) if id(v) in self._tables]
        recurrent = self._treatments.get(operation.name) is not None and self._in_a_loop(operation)
        if not tables or (self._on_grid and recurrent):
            return None
        return self._layers.QuantizedTables(operation, tables, name=name)

    def _attended(self, layer: Any, name: str) -> Any:
        parts = [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]
        gate = getattr(layer, "_gate_dense", None)
        parts += [] if gate is None else [gate]
        factors = {"query": float(layer._inverse_sqrt_key_dim)}
        projections = {p.name: self._dense(p, f"{name}.{p.name}", factors.get(p.name, 1.0)) for p in parts}
        observers = {
            part: self._observer(f"{layer.name}/{part}", FIXED_RANGES.get(_ATTENTION_RANGES.get(part, "")))
            for part in (
                "query",
                "key",
                "value",
                "scores",
                "probabilities",
                "heads",
                *(("gate", "gated") if gate else ()),
            )
        }
        return self._attention.QuantizedAttention(layer, projections, observers, name=name)

    def _rounding(self, variable: Any) -> Any:
        kernel = self._tables[id(variable)]
        grid = self._grid(kernel)
        if grid is None:
            return _not_rounded
        if not self._on_grid:
            return self._layers.Rounding(grid)
        scales = grid.scales(np.asarray(kernel.variable))
        if scales is None:
            raise ModelError(
                f"the kernel of layer '{kernel.name}' is not on its {grid.bits}-bit grid: it was changed after "
                "QuantizeAware; compress the model again"
            )
        return self._layers.Rounding(grid, scales)

    def _grid(self, kernel: Kernel) -> Grid | None:
        bits = self._bits.get(kernel.name, 8)
        if bits == FLOAT_BITS:
            return None
        return Grid(bits, 0 if kernel.name in self._shared else channel_axes(kernel))

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

    def _in_a_loop(self, operation: Any) -> bool:
        return self._treatments[operation.name].kind is Kind.FLOAT_BETWEEN_INTEGERS


_ATTENTION_RANGES = {"probabilities": "softmax", "gate": "sigmoid"}


def trained_simulation(loaded: LoadedModel) -> Simulation:
    """The simulation of a model that QuantizeAware has finished. Raises ModelError when it was changed since."""
    assert loaded.activation_ranges is not None  # its caller looked
    return Simulation(loaded, loaded.activation_ranges, on_grid=True)


def quantizable_kernels(model: Any) -> list[Kernel]:
    """The kernels, frozen ones too, of the layers that the simulation knows."""
    known = {
        id(variable)
        for operation in model.operations
        if treatment(operation).wants_integers
        for variable in getattr(operation, "variables", ())
    }
    return [kernel for kernel in (*kernels(model), *kernels(model, frozen=True)) if id(kernel.variable) in known]


def channel_axes(kernel: Kernel) -> int:
    """How many trailing axes of a kernel have a scale for each index: the output channels of convolutions.

    Elsewhere the converters keep one scale: Dense kernels and those of transposed convolutions are transposed on their
    way, and rows of an embedding are outputs themselves.
    """
    layers = import_keras().layers
    plain = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    if isinstance(kernel.layer, (*plain, layers.SeparableConv1D, layers.SeparableConv2D)):
        return len(kernel.outputs)
    return 0


def _norms_in_kernels(model: Any) -> dict[str, Any]:
    """Convolution -> the BatchNormalization in its kernel: it was not folded, so that values stay shared."""
    layers = import_keras().layers
    plain = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    return {name: norm for name, norm in foldable(model).items() if isinstance(model.get_layer(name), plain)}


def _not_rounded(kernel: Any, factor: Any = None) -> Any:
    return kernel if factor is None else kernel * factor


def _scoped(prefix: str, name: str) -> str:
    """A Keras layer name, in which '/' may not be."""
    return f"{prefix}_{name.replace('/', '.')}"
