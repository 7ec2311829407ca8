"""Which operations get a range: where integer kernels write a tensor, or read one that was computed in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: keras operations, which have no types

from edgekit.compression.graph import consumers
from edgekit.compression.operations import Kind, Treatment, fuses_relu, may_fuse
from edgekit.loading import import_keras


def observed_operations(model: Any, treatments: Mapping[str, Treatment], norms: Mapping[str, Any]) -> set[str]:
    """Names of the operations whose outputs are fake-quantized.

    `norms`: BatchNormalization that is computed in the kernel before it, which then has no range of its own.
    """
    keras = import_keras()
    uses = consumers(model)
    outputs = {tensor._keras_history.operation.name for tensor in model.outputs}
    in_kernels = {norm.name: name for name, norm in norms.items()}

    def feeds_integers(name: str) -> bool:
        return any(
            treatments[use.name].wants_integers
            or (treatments[use.name].kind is Kind.MOVING and feeds_integers(use.name))
            for use in uses[name]
        )

    def is_observed(operation: Any) -> bool:
        how, name = treatments[operation.name], operation.name
        is_input = isinstance(operation, keras.layers.InputLayer)
        if not any(keras.backend.is_float_dtype(t.dtype) for t in keras.tree.flatten(operation.output)):
            return False
        if name in norms or (how.kind is Kind.MOVING and not is_input):
            return False
        if is_input or not how.wants_integers:
            return feeds_integers(name)
        following = uses[name]
        alone = len(following) == 1 and name not in outputs
        computes = operation if name not in in_kernels else model.get_layer(in_kernels[name])
        return not (alone and may_fuse(computes) and fuses_relu(following[0]))

    return {operation.name for operation in model.operations if is_observed(operation)}
