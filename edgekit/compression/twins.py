"""The simulated layer for each layer of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any  # Any: keras layers, which have no types

from edgekit.compression.grids import Grid
from edgekit.compression.kernel_rounding import KernelRounding
from edgekit.compression.operations import FIXED_RANGES, SCALING, Kind, is_foldable_in_time, treatment
from edgekit.loading import Range, import_keras

Observers = Callable[[str, Range | None], Any]  # (name, fixed range) -> the observer of that name

_FIXED_IN_ATTENTION = {"probabilities": FIXED_RANGES["softmax"], "gate": FIXED_RANGES["sigmoid"]}
_IN_ATTENTION = ("query", "key", "value", "scores", "probabilities", "heads")


class Twins:
    """Makes one simulated layer for each layer, however often it is called."""

    def __init__(self, rounding: KernelRounding, norms: Mapping[str, Any], observer: Observers) -> None:
        """`norms`: convolution -> the BatchNormalization that is computed in its kernel."""
        from edgekit.compression import simulation_attention, simulation_convolutions, simulation_layers

        self._layers = simulation_layers
        self._convolutions = simulation_convolutions
        self._attention = simulation_attention
        self._rounding, self._norms, self._observer = rounding, norms, observer
        self._made: dict[str, Any] = {}

    def twin(self, operation: Any) -> Any:
        """None where nothing inside an operation is rounded."""
        if operation.name not in self._made:
            self._made[operation.name] = self._make(operation, layer_name("quantized", operation.name))
        return self._made[operation.name]

    def _make(self, layer: Any, name: str) -> Any:
        layers = import_keras().layers
        if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
            return self._separable(layer, name)
        if isinstance(layer, layers.Conv1D | layers.Conv2D | layers.DepthwiseConv1D | layers.DepthwiseConv2D):
            rounding, norm = self._rounding.rounding(layer.kernel), self._norms.get(layer.name)
            return self._convolutions.QuantizedConvolution(layer, rounding, norm, name=name)
        if isinstance(layer, layers.Dense | layers.EinsumDense):
            return self._dense(layer, name)
        if isinstance(layer, layers.MultiHeadAttention) and treatment(layer).kind is Kind.INTEGER:
            return self._attended(layer, name)
        if isinstance(layer, layers.TimeDistributed) and is_foldable_in_time(layer):
            return self._attention.QuantizedOverTime(self._make(layer.layer, f"{name}.each"), name=name)
        if type(layer).__name__ in SCALING:
            factors = self._layers.Rounding(Grid(8, 2), trains=not self._rounding.on_grid)
            return self._convolutions.QuantizedScaling(layer, factors, name=name)
        return self._with_tables(layer, name)

    def _separable(self, layer: Any, name: str) -> Any:
        between = self._observer(f"{layer.name}/depthwise", None)
        roundings = tuple(map(self._rounding.rounding, (layer.depthwise_kernel, layer.pointwise_kernel)))
        return self._convolutions.QuantizedSeparableConvolution(layer, roundings, between, name=name)

    def _dense(self, layer: Any, name: str, factor: float = 1.0) -> Any:
        if not self._layers.contracted_axes(layer):
            return self._with_tables(layer, name)
        return self._layers.QuantizedDense(layer, self._rounding.rounding(layer.kernel), factor, name=name)

    def _attended(self, layer: Any, name: str) -> Any:
        gate = getattr(layer, "_gate_dense", None)
        parts = [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]
        parts += [] if gate is None else [gate]
        factors = {"query": float(layer._inverse_sqrt_key_dim)}
        projections = {p.name: self._dense(p, f"{name}.{p.name}", factors.get(p.name, 1.0)) for p in parts}
        ranged = _IN_ATTENTION if gate is None else (*_IN_ATTENTION, "gate", "gated")
        observers = {part: self._observer(f"{layer.name}/{part}", _FIXED_IN_ATTENTION.get(part)) for part in ranged}
        return self._attention.QuantizedAttention(layer, projections, observers, name=name)

    def _with_tables(self, operation: Any, name: str) -> Any:
        """The layer itself with rounded kernels; as it is where they are rounded already and computed with in float."""
        tables = [(k.variable, self._rounding.rounding(k.variable)) for k in self._rounding.of(operation)]
        computes_in_float = treatment(operation).kind is Kind.FLOAT_BETWEEN_INTEGERS
        if not tables or (self._rounding.on_grid and computes_in_float):
            return None
        return self._layers.QuantizedTables(operation, tables, name=name)


def layer_name(prefix: str, name: str) -> str:
    """A Keras layer name, in which '/' may not be."""
    return f"{prefix}_{name.replace('/', '.')}"
