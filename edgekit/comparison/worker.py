"""Run by `edgekit.workers`: engines open and run the files here, since some files crash them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.comparison.layerwise import compare_layers
from edgekit.comparison.model_file import ModelFile
from edgekit.conversion import find_converter
from edgekit.manifest import Input, Member, Variant
from edgekit.runtime import open_file
from edgekit.runtime.arrays import read_npz, write_npz
from edgekit.strict import parse
from edgekit.tensors import Array
from edgekit.tracing import Values


def answer(request: dict[str, Any]) -> dict[str, object]:
    """Do the request's task."""
    return _TASKS[request["task"]](request)


def _describe(request: dict[str, Any]) -> dict[str, object]:
    trace = find_converter(request["format"]).trace(Path(request["path"]))
    file = ModelFile(
        path=request["path"],
        format=request["format"],
        engine=trace.engine,
        inputs=trace.input_specs,
        outputs=trace.output_specs,
        input_bindings=trace.inputs,
        output_bindings=trace.outputs,
    )
    return asdict(file)


def _run(request: dict[str, Any]) -> dict[str, object]:
    file = _file(request["file"])
    inputs = [Input(spec.name, spec.shape, spec.dtype) for spec in file.inputs]
    with open_file(Path(file.path), _variant(file), inputs, file.outputs) as session:
        write_npz(Path(request["outputs"]), session.run(read_npz(Path(request["inputs"]))))
    return {}


def _variant(file: ModelFile) -> Variant:
    """The entry that a manifest would have, as far as an engine reads it."""
    return Variant(
        id=Path(file.path).name,
        format=file.format,
        precision="fp32",
        member=Member(Path(file.path).name, "", 0),
        targets=(),
        engine=file.engine,
        engine_least_version="0",
        inputs=file.input_bindings,
        outputs=file.output_bindings,
        golden_tolerance=0.0,
    )


def _layers(request: dict[str, Any]) -> dict[str, object]:
    reference, quantized = _file(request["reference"]), _file(request["quantized"])
    inputs = read_npz(Path(request["inputs"]))
    count = len(next(iter(inputs.values())))
    samples = [(_sample(reference, inputs, row), _sample(quantized, inputs, row)) for row in range(count)]
    found = compare_layers(
        find_converter(reference.format).trace(Path(reference.path)),
        find_converter(quantized.format).trace(Path(quantized.path)),
        samples,
        known_layers=request["known_layers"],
    )
    return asdict(found)


def _sample(file: ModelFile, inputs: dict[str, Array], row: int) -> Values:
    """One sample by tensor name."""
    return {binding.tensor: inputs[binding.name][row : row + 1] for binding in file.input_bindings}


def _file(described: object) -> ModelFile:
    return parse(ModelFile, described, where="request")


_TASKS = {"describe": _describe, "run": _run, "layers": _layers}


if __name__ == "__main__":
    workers.serve(answer)
