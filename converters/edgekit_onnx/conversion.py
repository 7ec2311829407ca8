"""The ONNX converter: which tool makes which precision, and what is checked afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: a worker's reply, which is JSON

import numpy as np

from edgekit import workers
from edgekit.conversion import DYNAMIC_SIGNATURE, Artifact, Inspection, Source, calibration_samples, check_precision
from edgekit.errors import ConversionError
from edgekit.files import atomic, make_once
from edgekit.manifest import Binding
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec, format_shape
from edgekit_onnx.graphs import Graph, name_in_file, open_model, save_model
from edgekit_onnx.inspection import float_layers, inspect_model, tensor_spec
from edgekit_onnx.layout import take_nchw
from edgekit_onnx.options import ONNXOptions
from edgekit_onnx.rules import check_rules
from edgekit_onnx.tracing import OnnxTrace
from edgekit_onnx.trained import rebuild

if TYPE_CHECKING:
    from onnx import ModelProto

ENGINE = "onnxruntime"
_FIRST = "made for the first signature: only .tflite files have several"
LEAST_VERSION = "1.14"  # the first ONNX Runtime with opset 18 and IR version 8

_TIMEOUT_S = 1800.0
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class OnnxConverter:
    """Makes `.onnx` files with a dynamic batch from the SavedModel signature `dynamic`, or of batch 1.

    Inputs and outputs are float32 in every precision; int8 is explicit: Q/DQ pairs around what is quantized, in the
    symmetric form that TensorRT asks for.
    """

    options: ONNXOptions = field(default_factory=ONNXOptions)
    format: str = "onnx"
    suffix: str = ".onnx"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")

    def with_options(self, options: object, *, where: str) -> OnnxConverter:
        """The same with the user's settings: ONNXOptions, or a table of its fields. Raises ConfigError."""
        parsed = options if isinstance(options, ONNXOptions) else parse(ONNXOptions, options, where=where)
        return replace(self, options=parsed)

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Write `output` and read it back. Raises ConversionError."""
        check_precision(self, precision)
        made = self._make(source, precision, calibration)
        if precision == "int8":
            check_rules(made.model)
        artifact = _artifact(source, precision, made, output)
        if self.options.layout == "nchw":
            turned = ", ".join(take_nchw(made.model))
            reason = f"its input {turned} takes channels first, and a bundle's inputs are those of the Keras model"
            artifact = replace(artifact, no_bundle=f'{reason}: leave layout = "nchw" to edgekit convert')
        with atomic(output) as temporary:
            save_model(made.model, temporary)
        return artifact

    def inspect(self, path: Path) -> Inspection:
        """Inputs, outputs, and every node with the bytes of its constants. Raises ConversionError."""
        return inspect_model(path)

    def trace(self, path: Path) -> OnnxTrace:
        """Every activation, and the file in parts. Raises ConversionError."""
        return OnnxTrace(path)

    def _make(self, source: Source, precision: str, calibration: Mapping[str, Array] | None) -> _Made:
        options, settings = self.options, ", ".join(self.options.settings())
        if precision == "int8" and source.trained_model is not None:
            if settings:
                raise ConversionError(
                    f"onnx int8 of '{source.name}' keeps the ranges that QuantizeAware trained, so {settings} cannot "
                    "apply: leave it out, or give that step the layers to skip"
                )
            return _Made(_rebuilt(source, source.trained_model, options))
        notes = (f"{settings}: for int8, this one is {precision} throughout",) if settings else ()
        if precision == "fp32":
            return _Made(open_model(_float_export(source, options)), notes)
        if precision == "int8":
            return _quantize(source, precision, options, calibration_samples(source, calibration, what="onnx int8"))
        samples = calibration_samples(source, calibration, what="onnx fp16") if calibration else []
        made = _quantize(source, precision, options, samples)
        return replace(made, notes=(*made.notes, *notes))


@dataclass(frozen=True)
class _Made:
    """A converted model, before it is written."""

    model: ModelProto
    notes: tuple[str, ...] = ()
    islands: tuple[str, ...] = ()  # nodes that stay float32 in a float16 model


def _float_export(source: Source, options: ONNXOptions) -> Path:
    """The export that all variants of this build share."""
    path = source.work / f"float-{options.batch}-{options.opset}.onnx"
    return make_once(path, lambda temporary: _export(source, source.float_model, options, temporary))


def _rebuilt(source: Source, trained_model: Path, options: ONNXOptions) -> ModelProto:
    with _scratch(source) as folder:
        path = Path(folder, "trained.onnx")
        reply = _export(source, trained_model, options, path)
        model = open_model(path)
    rebuild(model, trained_kernels=reply["trained_kernels"])
    return model


def _export(source: Source, model: Path, options: ONNXOptions, output: Path) -> dict[str, Any]:
    request = {
        "name": source.name,
        "model": str(model),
        "signature": DYNAMIC_SIGNATURE if options.batch == "dynamic" else source.signature,
        "inputs": source.signature_names(),
        "outputs": [spec.name for spec in source.outputs],
        "opset": options.opset,
        "output": str(output),
    }
    return _call("export_worker", request, f"converting '{source.name}' to ONNX")


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
            "output": str(path),
        }
        reply = _call("quantize_worker", request, f"quantizing '{source.name}' to ONNX {precision}")
        return _Made(open_model(path), tuple(reply["notes"]), tuple(reply["islands"]))


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
        engine_least_version=LEAST_VERSION,
        float_layers=float_layers(Graph(made.model)) if precision == "int8" else _typed(made),
        notes=(*made.notes, *((_FIRST,) if source.other_signatures else ())),
    )


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
