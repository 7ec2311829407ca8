"""Files with several signatures of one function, which differ in the lengths of their inputs and share constants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any  # Any: LiteRT's interpreter and the generated schema's objects, which have no types

from edgekit.conversion import FIXED_SIGNATURE
from edgekit.errors import ConversionError
from edgekit_tflite.reading import mapped


def first_signature(interpreter: Any) -> str | None:
    """The key of the signature that samples are run by; None where there is but one, whatever its key."""
    return FIXED_SIGNATURE if len(interpreter.get_signature_list()) > 1 else None


def spread_all(model: Path, ranges: Any) -> dict[str, str]:
    """By method, files with the ranges of the first signature's activations under their names in all signatures.

    `ranges` are such files of the first alone. Raises ConversionError when the signatures do not have the same
    operators.
    """
    return {method: str(_spread(model, Path(file))) for method, file in ranges.items()}


def _spread(model: Path, ranges: Path) -> Path:
    from ai_edge_litert import schema_py_generated as schema

    known, content = json.loads(ranges.read_text()), schema.ModelT.InitFromPackedBuf(mapped(model), 0)
    first, *others = (content.subgraphs[signature.subgraphIndex] for signature in content.signatureDefs)
    found = dict(known)
    for other in others:
        if [_kind(operator) for operator in first.operators] != [_kind(operator) for operator in other.operators]:
            raise ConversionError(
                f"{model.name}: its signatures differ in their operators, so that ranges measured by one do not fit "
                "the others: choose a precision without ranges, or convert each length alone"
            )
        names = zip(_activations(first), _activations(other), strict=True)
        found |= {name: known[measured] for measured, name in names if measured in known}
    output = ranges.with_name(f"spread-{ranges.name}")
    output.write_text(json.dumps(found))
    return output


def _kind(operator: Any) -> tuple[int, int]:
    return operator.opcodeIndex, len(operator.outputs)


def _activations(graph: Any) -> Iterator[str]:
    """Names of what comes in and of what operators make, in order."""
    for index in graph.inputs:
        yield graph.tensors[index].name.decode()
    for operator in graph.operators:
        for index in operator.outputs:
            yield graph.tensors[index].name.decode()
