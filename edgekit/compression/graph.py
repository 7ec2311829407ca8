"""Reading a Functional model's graph."""

from __future__ import annotations

from typing import Any  # Any: keras operations, which have no types


def consumers(model: Any) -> dict[str, list[Any]]:
    """Operation name -> the operations that take its output in this model, one entry for each use.

    A layer keeps nodes of every model it was ever called in, so only this model's nodes are read.
    """
    found: dict[str, list[Any]] = {operation.name: [] for operation in model.operations}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            for tensor in node.arguments.keras_tensors:
                found[tensor._keras_history.operation.name].append(node.operation)
    return found


def activation_name(layer: Any) -> str:
    """`"relu"`, `"softmax"`, …; `"linear"` for a layer without an activation."""
    if type(layer).__name__ in ("Softmax", "ReLU"):
        return type(layer).__name__.lower()
    return str(getattr(getattr(layer, "activation", None), "__name__", "linear"))
