"""Which axes of a layer's weights are channels: recurrent layers, attention, and the wrappers of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras layers, which have no types

import numpy as np

from edgekit.compression.channels import shape_rules, weight_rules
from edgekit.compression.channels.atoms import Indices, Layout
from edgekit.compression.channels.calls import Call, wrapped_config
from edgekit.compression.channels.shape_rules import Rule, is_elementwise

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def recurrent(call: Call) -> list[Layout]:
    """A unit goes with its place in every gate; states given or returned keep step with the units."""
    layer = call.layer
    if layer.stateful:
        return call.refuse(f"{call.label} keeps its state from batch to batch")
    inputs = call.read("inputs", call.on_axis(call.tensors[0], -1))
    units = call.make("units", layer.units, "units")
    _cut_cell(call, layer, inputs, units)
    call.set_size("units", units)
    for state in call.tensors[1:]:
        call.unite(units, call.on_axis(state, -1))
    return [Layout(-1, units) for _ in call.outputs]


def _cut_cell(call: Call, layer: Any, inputs: Indices, units: Indices) -> None:
    cell = layer.cell
    gates = np.tile(units, GATES[type(layer).__name__])
    call.cut(cell.kernel, {0: inputs, 1: gates})
    call.cut(cell.recurrent_kernel, {0: units, 1: gates})
    call.cut(cell.bias, {-1: gates})
    activations = (cell.activation, getattr(cell, "recurrent_activation", None))
    if not all(map(is_elementwise, activations)):
        call.fix(units, f"an activation of {call.label} looks at all units at once")


def bidirectional(call: Call) -> list[Layout]:
    """Two layers of equally many units, as Keras demands: a unit goes with its counterpart."""
    layer = call.layer
    both = (layer.forward_layer, layer.backward_layer)
    if any(type(inner).__name__ not in GATES or inner.stateful or inner.return_state for inner in both):
        return call.refuse(f"{call.label} wraps a layer that is not followed, or hands on states")
    if len(call.tensors) > 1:
        return call.refuse(f"{call.label} is given states")
    inputs = call.read("inputs", call.on_axis(call.tensors[0], -1))
    made = [call.make(f"units {index}", inner.units, "units") for index, inner in enumerate(both)]
    for inner, units in zip(both, made, strict=True):
        _cut_cell(call, inner, inputs, units)
    call.unite(*made)

    def follow(config: dict[str, Any], count: Any) -> None:
        for key, units in zip(("layer", "backward_layer"), made, strict=True):
            wrapped_config(config, key)["units"] = count(units)

    call.edit(follow)
    if layer.merge_mode is None:
        return [Layout(-1, units) for units in made]
    if layer.merge_mode == "concat":
        return [Layout(-1, np.concatenate(made))]
    return [Layout(-1, made[0])]


def time_distributed(call: Call) -> list[Layout]:
    """The inner layer's rule holds: it counts axes from the end, where the time is not."""
    inner = call.layer.layer
    rule = INNER_RULES.get(type(inner).__name__)
    if rule is None or not type(inner).__module__.startswith("keras."):
        return call.refuse(f"{call.label} wraps '{inner.name}' ({type(inner).__name__}), which is not followed")
    inside = call.inside(inner)
    inside.edit(lambda _config, _count: None)  # so that the inner layer is built anew in any case
    return rule(inside)


def multi_head_attention(call: Call) -> list[Layout]:
    """Projections (inputs, heads, width) of query, key and value, and back (heads, width, outputs)."""
    layer = call.layer
    given: dict[str, Any] = dict(zip(("query", "value", "key"), call.arguments.args, strict=False))
    given |= call.arguments.kwargs
    if given.get("key") is None:
        given["key"] = given["value"]
    if len(layer._output_dense.kernel.shape) != 3:
        return call.refuse(f"{call.label} has an output of several axes")
    heads = call.make("heads", layer.num_heads, "heads")
    outputs = call.make("outputs", layer._output_dense.kernel.shape[-1])
    projections = [("query", layer._query_dense), ("key", layer._key_dense), ("value", layer._value_dense)]
    if getattr(layer, "_use_gate", False):
        projections.append(("query", layer._gate_dense))
    for name, projection in projections:
        inputs = call.read(f"{name} inputs", call.on_axis(given[name], -1))
        call.cut(projection._kernel, {0: inputs, 1: heads})
        call.cut(projection.bias, {0: heads})
    call.cut(layer._output_dense._kernel, {0: heads, 2: outputs})
    call.cut(layer._output_dense.bias, {0: outputs})
    call.set_size("num_heads", heads)
    call.edit(lambda config, count: config.update(output_shape=(count(outputs),)))
    for mask in call.masks:
        call.fix(call.layout(mask).atoms, f"{call.label} takes it as a mask")
    if len(call.outputs) == 1:
        return [Layout(-1, outputs)]
    reason = f"{call.label} returns the scores of its heads"
    call.fix(heads, reason)
    return [Layout(-1, outputs), call.fixed_layout(call.outputs[1], reason)]


INNER_RULES: Mapping[str, Rule] = {**shape_rules.RULES, **weight_rules.RULES}

RULES: Mapping[str, Rule] = {
    **INNER_RULES,
    **dict.fromkeys(GATES, recurrent),
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
    "MultiHeadAttention": multi_head_attention,
}
