"""Operators of TensorFlow that tf2onnx lacks, in ONNX's words."""

from __future__ import annotations

from typing import Any  # Any: tf2onnx's graph and nodes, which have no types

import numpy as np


def custom_handlers() -> dict[str, tuple[Any, list[object]]]:
    """As tf2onnx takes them, by TensorFlow's name of the operator."""
    return {"Erfc": (_write_erfc, []), "XlaDynamicUpdateSlice": (_write_update, [])}


def _write_erfc(context: Any, node: Any, name: str, _arguments: Any) -> None:
    """The exact GELU is made of it: erfc(x) = 1 - erf(x)."""
    source, target = node.input[0], node.output[0]
    shape, dtype = context.get_shape(source), context.get_dtype(source)
    erf = context.make_node("Erf", [source], shapes=[shape], dtypes=[dtype])
    one = context.make_const(f"{name}_one", np.array(1, np.float32))
    context.remove_node(name)
    context.make_node("Sub", [one.output[0], erf.output[0]], outputs=[target], shapes=[shape], dtypes=[dtype])


def _write_update(context: Any, node: Any, name: str, _arguments: Any) -> None:
    """A cache with new places in it: the place of each along the one axis that is updated in part, and a scatter.

    An update in several axes is left as it is, and refused with the other foreign operators.
    """
    from onnx import TensorProto

    whole, update, starts = node.input
    shape, dtype = context.get_shape(whole), context.get_dtype(whole)
    pairs = zip(shape, context.get_shape(update), strict=True)
    partly = [axis for axis, (all_of_it, some) in enumerate(pairs) if all_of_it not in (1, some)]
    if len(partly) != 1:
        return
    (axis,) = partly

    def make(kind: str, inputs: list[str], **attributes: Any) -> str:
        return str(context.make_node(kind, inputs, attr=attributes).output[0])

    def constant(word: str, value: Any) -> str:
        return str(context.make_const(f"{name}_{word}", np.array(value, np.int64)).output[0])

    place, zero, one = constant("axis", axis), constant("zero", 0), constant("one", 1)
    sizes = make("Shape", [update])
    counted = make("Range", [zero, make("Gather", [sizes, place]), one])
    start = make("Cast", [make("Gather", [starts, place])], to=TensorProto.INT64)
    others = constant("others", [other for other in range(len(shape)) if other != axis])
    places = make("Expand", [make("Unsqueeze", [make("Add", [counted, start]), others]), sizes])
    target = node.output[0]
    context.remove_node(name)
    context.make_node(
        "ScatterElements",
        [whole, places, update],
        attr={"axis": axis},
        outputs=[target],
        shapes=[shape],
        dtypes=[dtype],
    )
