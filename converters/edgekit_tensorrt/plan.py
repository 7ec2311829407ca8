"""The `Layers:` table that the builder logs: one line for each kernel that it planned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[(?P<inputs>.*?)\], Constants: ", re.M)
_DTYPE = re.compile(r"Datatype: (\w+)")
_SOURCE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_POINTWISE = ("kgen", "shape_call")  # generated kernels around the weighted ones


@dataclass(frozen=True)
class PlannedLayer:
    """One planned kernel: its input dtypes in TensorRT's words ("Int8", "Half"), and the ONNX nodes it does."""

    name: str
    type: str
    input_dtypes: tuple[str, ...]
    nodes: tuple[str, ...]


def parse_plan(text: str) -> list[PlannedLayer]:
    """Read the table as logged at VERBOSE with detailed profiling verbosity."""
    layers = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            layers.append(
                PlannedLayer(
                    found["name"],
                    found["type"],
                    tuple(_DTYPE.findall(found["inputs"])),
                    tuple(_SOURCE.findall(line)),
                )
            )
    return layers


def weighted_dtypes(layers: Iterable[PlannedLayer], nodes: Iterable[str]) -> dict[str, str]:
    """ONNX node -> the dtype that its kernel computes from; "an unnamed kernel" where the plan does not tell."""
    planned = {
        node: layer.input_dtypes[0]
        for layer in layers
        if layer.type not in _POINTWISE and layer.input_dtypes
        for node in layer.nodes
    }
    return {node: planned.get(node, "an unnamed kernel") for node in nodes}
