"""The ONNX converter: which tool makes which precision, and what is checked afterwards."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: a worker's reply, which is JSON

import numpy as np

from edgekit import workers
from edgekit.conversion import (
    DYNAMIC_SIGNATURE,
    FIXED_SIGNATURE,
    Artifact,
    Finding,
    Inspection,
    Source,
    calibration_samples,
    check_precision,
)
from edgekit.errors import ConversionError
from edgekit.files import atomic, make_once, size_of
from edgekit.manifest import Binding
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec, format_shape
from edgekit_onnx import linting
from edgekit_onnx.beside import copy_pair, data_beside
from edgekit_onnx.engines import least_runtime
from edgekit_onnx.given import INT8_OPSET, SUFFIX, is_finished
from edgekit_onnx.graphs import Graph, name_in_file, save_model
from edgekit_onnx.inspection import float_layers, inspect_model, tensor_spec
from edgekit_onnx.layout import take_nchw
from edgekit_onnx.options import OF_EXPORT, ONNXOptions
from edgekit_onnx.reading import MOST_BYTES, check_there, mark_opened, opset_of, read_model
from edgekit_onnx.rules import check_rules
from edgekit_onnx.tracing import OnnxTrace
from edgekit_onnx.trained import rebuild

if TYPE_CHECKING:
    from onnx import ModelProto

ENGINE = "onnxruntime"
WEIGHTS_ONLY = ("dynamic-int8", "int4-weights")  # activations stay float
_FROM_TWO_FILES = ("fp32", "dynamic-int8")  # whose making runs nothing, so that the float weights may lie beside
_TWO_FILES = (
    "its weights take more than one ONNX file holds and lie beside it, and a member of a bundle is one file: "
    "make the model smaller, or ship what `edgekit convert --to onnx` writes"
)
_FIRST = "made for the first signature: only .tflite files have several"

LARGE_BYTES = 64 << 20  # of a float model whose matrices go around tf2onnx
_TIMEOUT_S = 1800.0
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",  # TensorFlow then leaves out Keras 3: a third of the time that its import takes
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True)
class OnnxConverter:
    """Makes `.onnx` files with a dynamic batch, or of batch 1, from a SavedModel; or from a float `.onnx` file.

    Inputs and outputs are float32 in every precision; int8 is explicit: Q/DQ pairs around what is quantized, in the
    symmetric form that TensorRT asks for.
    """

    options: ONNXOptions = field(default_factory=ONNXOptions)
    format: str = "onnx"
    suffix: str = SUFFIX
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8", *WEIGHTS_ONLY)

    @property
    def signatures(self) -> tuple[str, ...]:
        """That of the batch that was asked for."""
        return (DYNAMIC_SIGNATURE if self.options.batch == "dynamic" else FIXED_SIGNATURE,)

    def with_options(self, options: object, *, where: str) -> OnnxConverter:
        """The same with the user's settings: ONNXOptions, or a table of its fields. Raises ConfigError."""
        parsed = options if isinstance(options, ONNXOptions) else parse(ONNXOptions, options, where=where)
        return replace(self, options=parsed)

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Write `output` and read it back. Raises ConversionError."""
        check_precision(self, precision)
        if source.float_model.suffix == SUFFIX:
            self._check_given(source.name)
            given = read_model(source.float_model, weights=False)
            finished = is_finished(given, source.name, precision)
            if finished or precision == "fp32":
                return _passed_through(source, precision, given, output, finished)
            _check_size(source, precision)
            source = source if precision == "fp16" else _quantizable(source, opset_of(given))
            del given  # its weights go before the workers read them
        else:
            _check_size(source, precision)
        made = self._make(source, precision, calibration, output)
        if precision == "int8":
            check_rules(made.model)
        artifact = _artifact(source, precision, made, output)
        if self.options.layout == "nchw":
            turned = ", ".join(take_nchw(made.model))
            reason = f"its input {turned} takes channels first, and a bundle's inputs are those of the Keras model"
            artifact = replace(artifact, no_bundle=f'{reason}: leave layout = "nchw" to edgekit convert')
        with atomic(output) as temporary:
            save_model(made.model, temporary)
            mark_opened(temporary)
        return artifact

    def inspect(self, path: Path) -> Inspection:
        """Inputs, outputs, and every node with the bytes of its constants. Raises ConversionError."""
        return inspect_model(path)

    def trace(self, path: Path) -> OnnxTrace:
        """Every activation, and the file in parts. Raises ConversionError."""
        return OnnxTrace(path)

    def prepare(self, path: Path, output: Path, *, shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
        """Write `output` from a file that the user brings; says what was changed. Raises ConversionError."""
        check_there(path)
        request = {
            "path": str(path),
            "output": str(output),
            "shapes": {name: list(sizes) for name, sizes in shapes.items()},
            "most_bytes": MOST_BYTES,
        }
        reply = _call("given_worker", request, f"opening {path}")
        mark_opened(output)
        return tuple(reply["notes"])

    def lint(self, path: Path, *, tool: str) -> tuple[Finding, ...]:
        """What TensorRT would not take of a file. Raises ConfigError for another tool, ConversionError."""
        return linting.lint(path, tool=tool)

    def legalize(self, path: Path, output: Path, *, tool: str) -> tuple[str, ...]:
        """Write a copy in the form that TensorRT takes, as far as no result changes. Raises ConversionError."""
        return linting.legalize(path, output, tool=tool)

    def _check_given(self, name: str) -> None:
        """Raise ConversionError for settings of the export, which a given file has behind it."""
        set_anew = [key for key in OF_EXPORT if getattr(self.options, key) != getattr(ONNXOptions(), key)]
        if set_anew:
            keys = ", ".join(set_anew)
            raise ConversionError(f"'{name}' is an ONNX file already, so {keys} cannot apply: leave it out")

    def _make(self, source: Source, precision: str, calibration: Mapping[str, Array] | None, output: Path) -> _Made:
        options, (own, others) = self.options, self.options.settings(precision)
        if precision == "int8" and source.trained_model is not None:
            if own:
                raise ConversionError(
                    f"onnx int8 of '{source.name}' keeps the ranges that QuantizeAware trained, so {', '.join(own)} "
                    "cannot apply: leave it out, or give that step the layers to skip"
                )
            return _Made(_rebuilt(source, source.trained_model, options))
        notes = (f"{', '.join(others)}: means nothing for {precision}",) if others else ()
        if precision == "fp32" and _size(source) > MOST_BYTES:
            return _exported_apart(source, options, output, notes)
        if precision == "fp32":
            return _Made(read_model(_float_export(source, options)), notes)
        samples: Sequence[Array] = []
        if precision == "int8" or (precision == "fp16" and calibration):
            samples = calibration_samples(source, calibration, what=f"onnx {precision}")
        made = _quantize(source, precision, options, samples)
        return replace(made, notes=(*made.notes, *notes))


@dataclass(frozen=True)
class _Made:
    """A converted model, before it is written."""

    model: ModelProto
    notes: tuple[str, ...] = ()
    islands: tuple[str, ...] = ()  # nodes that stay float32 in a float16 model
    data: Path | None = None  # the file that holds its weights; None where the model does


def _size(source: Source) -> int:
    """Bytes of the float model, with what lies beside it."""
    return sum(size_of(path) for path in (source.float_model, data_beside(source.float_model)) if path.exists())


def _is_large(source: Source, model: Path) -> bool:
    """Whether tf2onnx, which takes twenty times the weights that it sees, is not to see them; but trained scales."""
    return model == source.float_model and _size(source) > LARGE_BYTES


def _check_size(source: Source, precision: str) -> None:
    """Raise ConversionError for float weights that one ONNX file cannot hold, in precisions that are made from one."""
    size = _size(source)
    if size > MOST_BYTES and precision not in _FROM_TWO_FILES:
        raise ConversionError(
            f"'{source.name}' has {size:,} bytes of float weights, and {precision} is made from one ONNX file, which "
            f"holds at most {MOST_BYTES:,}: convert it to {' or '.join(_FROM_TWO_FILES)}, or make it smaller"
        )


def _float_export(source: Source, options: ONNXOptions) -> Path:
    """The float file that all variants of this build share."""
    if source.float_model.suffix == SUFFIX:
        return source.float_model
    path = source.work / f"float-{options.batch}-{options.opset}.onnx"
    data = data_beside(path) if _size(source) > MOST_BYTES else None
    return make_once(path, lambda temporary: _export(source, source.float_model, options, temporary, data))


def _exported_apart(source: Source, options: ONNXOptions, output: Path, notes: tuple[str, ...]) -> _Made:
    """The float model, with its weights in the file beside `output`."""
    data = data_beside(output)
    graph = output.with_name(f".{output.name}.graph")  # beside its weights, where they are looked for
    try:
        _export(source, source.float_model, options, graph, data)
        return _Made(read_model(graph, weights=False), notes, data=data)
    finally:
        graph.unlink(missing_ok=True)


def _rebuilt(source: Source, trained_model: Path, options: ONNXOptions) -> ModelProto:
    with _scratch(source) as folder:
        path = Path(folder, "trained.onnx")
        reply = _export(source, trained_model, options, path)
        model = read_model(path)
    rebuild(model, trained_kernels=reply["trained_kernels"])
    return model


def _export(
    source: Source, model: Path, options: ONNXOptions, output: Path, data: Path | None = None
) -> dict[str, Any]:
    """Write `output`, with large weights in `data` where that is given."""
    dynamic = options.batch == "dynamic" and source.state is None  # what goes on from call to call has batch 1
    request = {
        "name": source.name,
        "model": str(model),
        "signature": DYNAMIC_SIGNATURE if dynamic else source.signature,
        "inputs": source.signature_names(),
        "outputs": [spec.name for spec in source.outputs],
        "opset": options.opset,
        "output": str(output),
        "data": data and str(data),
        "most_bytes": MOST_BYTES if data or _is_large(source, model) else None,
    }
    what = f"converting '{source.name}' to ONNX"
    if "tensorflow" not in sys.modules:
        return _call("export_worker", request, what)
    from edgekit_onnx.export_worker import export_here  # a worker would import TensorFlow once more, for seconds

    return export_here(request, what)


def _quantizable(source: Source, opset: int) -> Source:
    """A given file of this opset, in one that has what int8 needs."""
    if opset >= INT8_OPSET:
        return source
    request = {"model": str(source.float_model), "opset": INT8_OPSET}
    what = f"converting '{source.name}' to opset {INT8_OPSET}"
    raised = make_once(
        source.work / f"float-opset-{INT8_OPSET}.onnx",
        lambda temporary: _call("opset_worker", {**request, "output": str(temporary)}, what),
    )
    note = f"opset {opset} became {INT8_OPSET}, the first with a scale for each channel"
    return replace(source, float_model=raised, notes=(*source.notes, note))


def _quantize(source: Source, precision: str, options: ONNXOptions, samples: Sequence[Array]) -> _Made:
    float_model = _float_export(source, options)
    with _scratch(source) as folder:
        stored, path = Path(folder, "calibration.npz"), Path(folder, "quantized.onnx")
        if samples:
            np.savez(stored, *samples)
        request = {
            "model": str(float_model),
            "precision": precision,
            "options": asdict(options),
            "layers": source.layers,
            "inputs": source.signature_names(),
            "calibration": str(stored) if samples else None,
            "batch": source.batch,
            "output": str(path),
            "most_bytes": MOST_BYTES,
        }
        reply = _call("quantize_worker", request, f"quantizing '{source.name}' to ONNX {precision}")
        return _Made(read_model(path), tuple(reply["notes"]), tuple(reply["islands"]))


def _call(worker: str, request: Mapping[str, object], what: str) -> dict[str, Any]:
    return workers.call(
        f"edgekit_onnx.{worker}",
        request,
        timeout_s=_TIMEOUT_S,
        what=what,
        error=ConversionError,
        environment=_ENVIRONMENT,
    )


def _scratch(source: Source) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=source.work)


def _passed_through(source: Source, precision: str, model: ModelProto, output: Path, finished: bool) -> Artifact:
    """A given file as it is."""
    said = (f"it was {precision} already: passed through unchanged",) if finished else ()
    with atomic(output) as temporary:
        data = copy_pair(model, source.float_model, output, temporary)
        mark_opened(temporary)
    return _artifact(source, precision, _Made(model, said, data=data), output)


def _artifact(source: Source, precision: str, made: _Made, output: Path) -> Artifact:
    graph, inputs = made.model.graph, source.signature_names()
    return Artifact(
        format="onnx",
        precision=precision,
        path=output,
        inputs=_bindings(source.inputs, [tensor_spec(value) for value in graph.input], str),
        outputs=_bindings(
            source.outputs, [tensor_spec(value) for value in graph.output], lambda name: name_in_file(name, inputs)
        ),
        engine=ENGINE,
        engine_least_version=least_runtime(made.model),
        float_layers=_left_in_float(made, precision),
        notes=(*source.notes, *made.notes, *((_FIRST,) if source.other_signatures else ())),
        no_bundle=_TWO_FILES if made.data else None,
        data=made.data,
    )


def _left_in_float(made: _Made, precision: str) -> tuple[str, ...]:
    if precision in ("int8", *WEIGHTS_ONLY):
        return float_layers(Graph(made.model), activations=precision == "int8")
    return _typed(made)


def _typed(made: _Made) -> tuple[str, ...]:
    """The islands as they are listed: "pooled (ReduceMean)"."""
    types = {node.name: node.op_type for node in made.model.graph.node}
    return tuple(f"{name} ({types[name]})" if name in types else name for name in made.islands)


def _bindings(
    specs: Sequence[TensorSpec], found: Sequence[TensorSpec], in_file: Callable[[str], str]
) -> tuple[Binding, ...]:
    """One Binding per tensor, in the file's order, which is the Keras order; ranks and sizes must be the Keras ones."""
    for spec, tensor in zip(specs, found, strict=True):
        if tensor.name != in_file(spec.name) or not _fits(spec.shape, tensor.shape):
            raise ConversionError(
                f"the ONNX file has '{tensor.name}' {format_shape(tensor.shape)}, "
                f"expected '{in_file(spec.name)}' {format_shape(spec.shape)}"
            )
    return tuple(Binding(spec.name, tensor.name, tensor.dtype) for spec, tensor in zip(specs, found, strict=True))


def _fits(expected: tuple[int | None, ...], found: tuple[int | None, ...]) -> bool:
    return len(expected) == len(found) and all(
        want is None or got is None or want == got for want, got in zip(expected, found, strict=True)
    )
