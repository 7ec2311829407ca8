"""What activations of 16 bits need beyond what litert-quantizer gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any  # Any: the generated schema's objects, which have no types

from edgekit.ranges import Ranges
from edgekit_tflite.reading import TFLiteModel
from edgekit_tflite.settling import Settled

HEADROOM = 2.0  # one of 16 bits, for values beyond what calibration saw: the int8 weights err more than the last bit


def wide_names(model: TFLiteModel, settled: Settled, precision: str) -> frozenset[str]:
    """The activations that have 16 bits wherever they are integers, by tensor name. `precision` is the variant's."""
    borders = {tensor.name for tensor in (*model.inputs.values(), *model.outputs.values())}
    narrow = {*_touched(settled, "int8"), *(borders if precision == "int8" else ())}
    return frozenset(_touched(settled, "int16x8")) - narrow


def with_headroom(ranges: Ranges, wide: frozenset[str]) -> Ranges:
    """Room for values that calibration did not see: 16 bits can spare one."""
    return {
        name: (low * HEADROOM, high * HEADROOM) if name in wide else (low, high) for name, (low, high) in ranges.items()
    }


def allow_all_scales(content: Any) -> None:
    """Let LiteRT's 16-bit additions have any scales, as TensorFlow's converter does.

    Otherwise their kernel, where all scales are near powers of two, wants them in an order that nobody promises.
    """
    from ai_edge_litert import schema_py_generated as schema

    for graph in content.subgraphs:
        for operator in graph.operators:
            if isinstance(operator.builtinOptions, schema.AddOptionsT | schema.SubOptionsT):
                operator.builtinOptions.potScaleInt16 = False


def _touched(settled: Settled, precision: str) -> Iterator[str]:
    for named, setting in settled:
        if setting.precision == precision:
            yield from (tensor.name for tensor in (*named.operator.inputs, *named.operator.outputs))
