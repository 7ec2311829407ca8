"""The signatures of a file: functions of their own names, which share constants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

from edgekit.conversion import Signature
from edgekit.errors import ConversionError
from edgekit.tensors import TensorSpec
from edgekit_tflite.reading import mapped
from edgekit_tflite.writing import packed

_MAIN = 0  # the number of the main graph


def first_signature(path: Path) -> str | None:
    """The name of the main graph's, by which samples are run; None in a file without signatures."""
    return next((signature.name for signature in signatures_of(path)), None)


def signatures_of(path: Path) -> tuple[Signature, ...]:
    """All signatures, that of the main graph first. Raises, on a damaged file, what `damage_of` knows."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(mapped(path), 0)
    definitions = [model.SignatureDefs(number) for number in range(model.SignatureDefsLength())]
    return tuple(_signature(model, it) for it in _main_first(definitions, lambda it: it.SubgraphIndex()))


def with_main(content: bytes, name: str) -> bytes:
    """A file whose main graph is that of the signature `name`: TensorFlow's converter takes the first by the alphabet.

    No operator calls the graph of a signature, so that two of them can change places.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    places = {definition.signatureKey.decode(): definition.subgraphIndex for definition in model.signatureDefs}
    chosen, graphs = places[name], model.subgraphs
    graphs[_MAIN], graphs[chosen] = graphs[chosen], graphs[_MAIN]
    for definition in model.signatureDefs:
        if definition.subgraphIndex in (_MAIN, chosen):
            definition.subgraphIndex = chosen - definition.subgraphIndex
    return content if chosen == _MAIN else packed(model)


def spread(model: Path, measured: Path) -> Path:
    """A file of what was measured on the first signature's activations, with ranges for those of all signatures.

    Raises ConversionError when the signatures do not have the same operators.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(mapped(model), 0)
    definitions = _main_first(content.signatureDefs, lambda definition: definition.subgraphIndex)
    first, *others = (content.subgraphs[definition.subgraphIndex] for definition in definitions)
    names = [pair for other in others for pair in _paired(first, other, model)]
    known = json.loads(measured.read_text())
    for ranges in known["ranges"].values():
        ranges.update({name: ranges[original] for original, name in names if original in ranges})
    output = measured.with_name(f"spread-{measured.name}")
    output.write_text(json.dumps(known))
    return output


def _paired(first: Any, other: Any, model: Path) -> Iterator[tuple[str, str]]:
    """Names of activations of the first signature with those of another."""
    if [_kind(operator) for operator in first.operators] != [_kind(operator) for operator in other.operators]:
        raise ConversionError(
            f"{model.name}: its signatures differ in their operators, so that ranges measured by one do not fit "
            "the others: choose a precision without ranges, or convert each alone"
        )
    return zip(_activations(first), _activations(other), strict=True)


def _main_first(definitions: Iterable[Any], graph: Callable[[Any], int]) -> list[Any]:
    return sorted(definitions, key=lambda definition: graph(definition) != _MAIN)


def _signature(model: Any, definition: Any) -> Signature:
    graph = model.Subgraphs(definition.SubgraphIndex())
    inputs = [definition.Inputs(number) for number in range(definition.InputsLength())]
    outputs = [definition.Outputs(number) for number in range(definition.OutputsLength())]
    return Signature(definition.SignatureKey().decode(), _specs(graph, inputs), _specs(graph, outputs))


def _specs(graph: Any, entries: Iterable[Any]) -> tuple[TensorSpec, ...]:
    from ai_edge_litert import schema_py_generated as schema

    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    found = []
    for entry in entries:
        tensor = graph.Tensors(entry.TensorIndex())
        shape = tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
        found.append(TensorSpec(entry.Name().decode(), shape, types[tensor.Type()]))
    return tuple(found)


def _kind(operator: Any) -> tuple[int, int]:
    return operator.opcodeIndex, len(operator.outputs)


def _activations(graph: Any) -> Iterator[str]:
    """Names of what comes in and of what operators make, in order."""
    for index in graph.inputs:
        yield graph.tensors[index].name.decode()
    for operator in graph.operators:
        for index in operator.outputs:
            yield graph.tensors[index].name.decode()
