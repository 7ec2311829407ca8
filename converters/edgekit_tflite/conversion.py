"""The TFLite converter: which tool makes which precision, and what is checked afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any  # Any: replies, which are JSON

from edgekit.conversion import (
    DYNAMIC_SIGNATURE,
    FIXED_SIGNATURE,
    SIGNATURES,
    VARIABLES,
    Artifact,
    Inspection,
    Source,
    calibration_samples,
    check_precision,
)
from edgekit.errors import ConversionError
from edgekit.files import atomic, make_once
from edgekit.manifest import Binding
from edgekit.metadata import ModelMetadata
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec, format_shape
from edgekit_tflite.calibrating import equalized, measure_once
from edgekit_tflite.calls import call
from edgekit_tflite.embedding import embed, keep_files
from edgekit_tflite.given import SUFFIX, is_finished, sign
from edgekit_tflite.inspection import float_layers, float_weights, inspect_model
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.npu import compile_for, parse_npu
from edgekit_tflite.options import AUTO, DYNAMIC, OFF, STATIC, TFLiteOptions
from edgekit_tflite.reading import TFLiteModel, TFLiteTensor, mark_opened, read_model
from edgekit_tflite.signatures import spread
from edgekit_tflite.tracing import TFLiteTrace

ENGINE = "litert"
EQUALIZED = "equalized"  # the folder of what is made from such a file
LEAST_VERSION = "1.4"  # of ai-edge-litert, the oldest that the device-side extra allows

_BITS = {"int4": 4, "int8": 8, "float16": 16, "float32": 32}
_SEVERAL = (
    "ranges were measured by the first signature, and biases, which all signatures share, are not corrected: compare "
    "the outputs of the others with the float model's on your data"
)
_STATEFUL = "state is in variables: each call goes on where the last one stopped; open the file anew to begin anew"
_TRAINED = ("int8", "int8-float-io")  # what trained ranges are for


@dataclass(frozen=True)
class TFLiteConverter:
    """Makes `.tflite` files that open at batch 1, from a SavedModel or from a float `.tflite`.

    fp32 is the plain LiteRT export; the other precisions are made from it by litert-quantizer; int8 of a model with
    trained ranges is TensorFlow's own conversion of the fake-quantized graph.
    """

    options: TFLiteOptions = field(default_factory=TFLiteOptions)
    format: str = "tflite"
    suffix: str = SUFFIX
    precisions: tuple[str, ...] = ("fp32", "fp16", *STATIC, *DYNAMIC)

    @property
    def signatures(self) -> tuple[str, ...]:
        """That of batch 1, and that of an open batch where files are to have one."""
        return SIGNATURES if self.options.dynamic_batch else (FIXED_SIGNATURE,)

    def with_options(self, options: object, *, where: str) -> TFLiteConverter:
        """The same with the user's settings: TFLiteOptions, or a table of its fields. Raises ConfigError."""
        parsed = options if isinstance(options, TFLiteOptions) else parse(TFLiteOptions, options, where=where)
        return replace(self, options=parsed)

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Write `output` and read it back. Raises ConversionError."""
        check_precision(self, precision)
        if self.options.dynamic_batch:
            _check_one_shape(source)
            # Neither the float export nor what is measured on it is that of batch 1.
            source = replace(source, work=source.work / DYNAMIC_SIGNATURE)
        with atomic(output) as temporary:
            notes = self._make(source, precision, calibration, temporary)
            if source.float_model.suffix == SUFFIX:
                keep_files(temporary, source.float_model)
            artifact = _artifact(source, precision, read_model(temporary), output, notes)
            if source.metadata is not None:
                described = embed(temporary.read_bytes(), _ordered(source.metadata, artifact), where=output.name)
                temporary.write_bytes(described)
                read_model(temporary)
            if source.state == VARIABLES:
                artifact = replace(artifact, notes=(*artifact.notes, _STATEFUL))
            if self.options.dynamic_batch:
                artifact = replace(artifact, notes=(*artifact.notes, _resized(source.name, temporary)))
            return artifact

    def inspect(self, path: Path) -> Inspection:
        """Inputs, outputs, and every operator with the bytes of its constants. Raises ConversionError."""
        return inspect_model(path)

    def trace(self, path: Path) -> TFLiteTrace:
        """Every activation, and the file in parts. Raises ConversionError."""
        return TFLiteTrace(path)

    def npu_compiler(self, npu: str) -> Callable[[Path, Path], str]:
        """What compiles a `.tflite` for "qualcomm:SM8650" and the like. Raises ConfigError."""
        return partial(compile_for, parse_npu(npu))

    def _make(
        self, source: Source, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> tuple[str, ...]:
        """Write the file; gives what a reader of the report must know."""
        options, settings = self.options, ", ".join(self.options.settings())
        if source.float_model.suffix == SUFFIX and is_finished(source.float_model, precision, options):
            shutil.copyfile(source.float_model, output)
            return (f"it was {precision} already: passed through unchanged",)
        if precision in _TRAINED and source.trained_model is not None:
            _check_trained(source.name, precision, options)
            border = "int8" if precision == "int8" else "float32"
            _export(source, source.trained_model, output, border=border, dynamic_batch=options.dynamic_batch)
            return ()
        if precision in (*STATIC, *DYNAMIC):
            return _quantize(source, precision, options, calibration, output)
        notes = (f"{settings}: for integer variants, this one is {precision} throughout",) if settings else ()
        if precision == "fp32":
            shutil.copyfile(_float_export(source, dynamic_batch=options.dynamic_batch), output)
        else:
            _quantize(source, precision, TFLiteOptions(dynamic_batch=options.dynamic_batch), None, output)
        return notes


def _check_one_shape(source: Source) -> None:
    """Raise ConversionError for what has no dynamic batch."""
    if source.state is not None:
        raise ConversionError(f"the state of '{source.name}' has a batch of 1: leave dynamic_batch out")
    if source.other_signatures:
        raise ConversionError(f"'{source.name}' has several signatures: choose one, or leave dynamic_batch out")


def _check_trained(name: str, precision: str, options: TFLiteOptions) -> None:
    """Raise ConversionError for settings that training has settled already."""
    settled = [setting for setting in options.settings() if setting != "block_size"]
    if settled:
        raise ConversionError(
            f"tflite {precision} of '{name}' keeps the ranges that QuantizeAware trained, so {', '.join(settled)} "
            "cannot apply: leave it out, or give that step the layers to skip"
        )


def _float_export(source: Source, *, dynamic_batch: bool = False) -> Path:
    """The file that all variants of this build share."""
    path = source.work / "float.tflite"
    if source.float_model.suffix == SUFFIX:
        return make_once(path, lambda temporary: sign(source.float_model, temporary))
    export = partial(_export, source, source.float_model, border=None, dynamic_batch=dynamic_batch)
    return make_once(path, export)


def _export(source: Source, model: Path, output: Path, *, border: str | None, dynamic_batch: bool) -> None:
    first = DYNAMIC_SIGNATURE if dynamic_batch else source.signature
    signatures = [first, *source.other_signatures]
    request = {
        "model": str(model),
        "signatures": signatures,
        "constants": source.constants and str(source.constants),
        "output": str(output),
        "border": border,
    }
    try:
        call("export_worker", request, what=f"converting '{source.name}' to TFLite")
    except ConversionError as problem:
        if not dynamic_batch:
            raise
        raise ConversionError(f"with a dynamic batch, {problem}; or leave dynamic_batch out") from problem
    mark_opened(output)  # the worker did


def _resized(name: str, path: Path) -> str:
    """What was seen when the file's inputs were resized. Raises ConversionError when it does not bear it."""
    reply = call("resizing_worker", {"path": str(path)}, what=f"resizing the batch of '{name}'")
    if reply["problem"] is not None:
        raise ConversionError(
            f"the TFLite file of '{name}' does not take another batch than 1: {reply['problem']}; "
            "leave dynamic_batch out"
        )
    return f"dynamic batch: resized to {reply['batch']}, where each sample gave what it gives alone"


def _quantize(
    source: Source, precision: str, options: TFLiteOptions, calibration: Mapping[str, Array] | None, output: Path
) -> tuple[str, ...]:
    samples: list[Array] = []
    notes: tuple[str, ...] = ()
    if source.other_signatures and options.algorithm == "gptq":
        raise ConversionError(
            f"algorithm gptq learns from the calls of one signature, and '{source.name}' has several: choose one, or "
            "another algorithm"
        )
    if source.other_signatures and options.equalization != OFF:
        raise ConversionError(
            f"equalization learns from the calls of one signature, and '{source.name}' has several: leave it out"
        )
    if source.other_signatures and precision in STATIC:
        options, notes = replace(options, bias_correction=False), (_SEVERAL,)
    if options.needs_calibration(precision):
        samples = calibration_samples(source, calibration, what=f"tflite {precision}")
    float_model = _float_export(source, dynamic_batch=options.dynamic_batch)
    if options.equalization == OFF:
        made = _quantize_file(source, float_model, float_model, precision, options, samples, output)
        return (*made["notes"], *notes)
    apart = replace(source, work=source.work / EQUALIZED)
    apart.work.mkdir(exist_ok=True)
    model = equalized(apart, float_model, samples, options)
    made = _quantize_file(apart, model, float_model, precision, options, samples, output)
    if options.equalization == AUTO:
        plain = output.with_name(f"{output.name}.plain")
        other = _quantize_file(source, float_model, float_model, precision, options, samples, plain)
        made = _better(made, other, plain, output)
    return (*made["notes"], *notes)


def _quantize_file(
    source: Source,
    model: Path,
    reference: Path,
    precision: str,
    options: TFLiteOptions,
    samples: Sequence[Array],
    output: Path,
) -> dict[str, Any]:
    """One float file quantized, `reference` or one that computes the same: the worker's reply."""
    measured = measure_once(source, model, samples, options, precision) if samples else {}
    if source.other_signatures and measured:
        measured["measured"] = str(spread(model, Path(measured["measured"])))
    request = {
        "model": str(model),
        "reference": str(reference),
        "precision": precision,
        "options": asdict(options),
        "layers": source.layers,
        "inputs": source.signature_names(),
        "output": str(output),
        **measured,
    }
    reply = call("quantize_worker", request, what=f"quantizing '{source.name}' to TFLite {precision}")
    mark_opened(output)
    return reply


def _better(made: dict[str, Any], other: dict[str, Any], plain: Path, output: Path) -> dict[str, Any]:
    """The reply of the file that is nearer to float on samples held apart, which becomes `output`."""
    with_it, without = made["snr_db"], other["snr_db"]
    shown = f"{with_it:.1f} dB with it on samples held apart, {without:.1f} without"
    if with_it > without:
        plain.unlink()
        return {"notes": [f"channels between layers equalized: {shown}", *made["notes"]]}
    plain.replace(output)
    mark_opened(output)
    return {"notes": [f"channels between layers left as they are: {shown}", *other["notes"]]}


def _artifact(source: Source, precision: str, model: TFLiteModel, output: Path, notes: tuple[str, ...]) -> Artifact:
    if not model.operators:
        raise ConversionError(f"the TFLite file of '{source.name}' has no operators: the conversion lost the model")
    _check_weights(source.name, model)
    left = float_layers(model) if precision in STATIC else float_weights(model) if precision in DYNAMIC else ()
    return Artifact(
        format="tflite",
        precision=precision,
        path=output,
        inputs=_bindings(source.inputs, model.inputs, "input"),
        outputs=_bindings(source.outputs, model.outputs, "output"),
        engine=ENGINE,
        engine_least_version=LEAST_VERSION,
        float_layers=left,
        notes=notes,
    )


def _ordered(metadata: ModelMetadata, artifact: Artifact) -> ModelMetadata:
    """Inputs and outputs as the file has them."""
    tensors = {tensor.name: tensor for tensor in (*metadata.inputs, *metadata.outputs)}
    return replace(
        metadata,
        inputs=tuple(tensors[binding.name] for binding in artifact.inputs),
        outputs=tuple(tensors[binding.name] for binding in artifact.outputs),
    )


def _check_weights(name: str, model: TFLiteModel) -> None:
    """Raise ConversionError when a kernel's bytes are not as many as its shape and dtype say."""
    for operator in model.operators:
        kernel = kernel_of(operator)
        if kernel is None or kernel.dtype not in _BITS:
            continue
        expected = -(-prod(kernel.shape) * _BITS[kernel.dtype] // 8)
        if kernel.data.size != expected:
            raise ConversionError(
                f"the TFLite file of '{name}' holds {kernel.data.size} bytes for '{kernel.name}' "
                f"{format_shape(kernel.shape)} {kernel.dtype}, expected {expected}: the quantizer lost its weights; "
                "choose another algorithm"
            )


def _bindings(specs: Sequence[TensorSpec], found: Mapping[str, TFLiteTensor], role: str) -> tuple[Binding, ...]:
    """One Binding per signature entry, in the interpreter's order; shapes must be the Keras ones at batch 1."""
    expected = {spec.name: spec for spec in specs}
    if set(expected) != set(found):
        raise ConversionError(
            f"the TFLite file has the {role}s {', '.join(sorted(found)) or 'none'}, "
            f"expected {', '.join(sorted(expected))}"
        )
    for name, tensor in found.items():
        if not expected[name].accepts(tensor.shape):
            raise ConversionError(
                f"the TFLite file's {role} '{name}' has shape {format_shape(tensor.shape)}, "
                f"expected {format_shape(expected[name].shape)}"
            )
    return tuple(Binding(name, tensor.name, tensor.dtype, tensor.quantization) for name, tensor in found.items())
