"""Run by `edgekit.workers`: engines open and run the files here, since some files crash them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.comparison.layerwise import compare_layers
from edgekit.comparison.model_file import ModelFile
from edgekit.conversion import find_converter
from edgekit.manifest import Input, Member, Variant
from edgekit.runtime import Session, open_file
from edgekit.runtime.arrays import read_npz, write_npz
from edgekit.runtime.timing import measure
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
    with _opened(_file(request["file"])) as session:
        write_npz(Path(request["outputs"]), session.run(read_npz(Path(request["inputs"]))))
    return {}


def _time(request: dict[str, Any]) -> dict[str, object]:
    inputs = read_npz(Path(request["inputs"]))
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(_opened(_file(file))) for name, file in request["files"].items()}
        samples = {name: _first(session, inputs) for name, session in sessions.items()}
        calls = {name: partial(session.run, samples[name]) for name, session in sessions.items()}
        timings = measure(calls, warmup=request["warmup"], runs=request["runs"])
    return {name: asdict(timing) for name, timing in timings.items()}


def _first(session: Session, inputs: dict[str, Array]) -> dict[str, Array]:
    """One sample under the session's own names, of which a single one may differ."""
    names = [spec.name for spec in session.inputs]
    given = inputs if len(names) > 1 else dict(zip(names, inputs.values(), strict=True))
    return {name: given[name][:1] for name in names}


def _opened(file: ModelFile) -> Session:
    inputs = [Input(spec.name, spec.shape, spec.dtype) for spec in file.inputs]
    return open_file(Path(file.path), _variant(file), inputs, file.outputs)


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


_TASKS = {"describe": _describe, "run": _run, "layers": _layers, "time": _time}


if __name__ == "__main__":
    workers.serve(answer)
