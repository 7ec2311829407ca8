"""What TensorRT asks of an ONNX graph, as named checks; each names the nodes that break it.

They hold for every TensorRT from 10.3 on. They come from refusals of the TensorRT-RTX parser and builder, from its
documents, and from what it takes without a word and then gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from edgekit.conversion import Finding
from edgekit.errors import ConversionError
from edgekit_onnx.rules_graph import GRAPH_RULES, OPERATOR_RULES, Broken
from edgekit_onnx.rules_quantization import QUANTIZATION_RULES
from edgekit_onnx.values import Values

if TYPE_CHECKING:
    from onnx import ModelProto

Rule = Callable[[Values], Iterator[Broken]]

RULES: Mapping[str, Rule] = {**OPERATOR_RULES, **GRAPH_RULES, **QUANTIZATION_RULES}
_MADE_HERE = ("empty-graph", "non-finite", *QUANTIZATION_RULES)  # what a quantizer can get wrong


def find(model: ModelProto, rules: Mapping[str, Rule] = RULES) -> tuple[Finding, ...]:
    """Every broken rule with its nodes. The model must be valid ONNX, except for the rules of operators."""
    values = Values(model)
    return tuple(
        Finding(name, broken.node, broken.problem, broken.remedy)
        for name, rule in rules.items()
        for broken in rule(values)
    )


def check_rules(model: ModelProto) -> None:
    """Raise ConversionError that lists every rule of quantization that is broken, with its first node."""
    first = {found.rule: found for found in reversed(find(model, {name: RULES[name] for name in _MADE_HERE}))}
    if first:
        raise ConversionError(
            f"TensorRT would not take this int8 graph: {'; '.join(map(str, reversed(first.values())))}"
        )
