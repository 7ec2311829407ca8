"""The TFLite converter: which tool makes which precision, and what is checked afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit import workers
from edgekit.conversion import FIXED_SIGNATURE, Artifact, Inspection, Source, calibration_samples, check_precision
from edgekit.errors import ConversionError
from edgekit.files import atomic
from edgekit.manifest import Binding
from edgekit.tensors import Array, TensorSpec, format_shape
from edgekit_tflite.inspection import float_layers, inspect_model
from edgekit_tflite.reading import TFLiteModel, TFLiteTensor, read_model

ENGINE = "litert"
LEAST_VERSION = "1.4"  # of ai-edge-litert, the oldest that the device-side extra allows

_EXPORT_TIMEOUT_S = 900.0
_QUANTIZE_TIMEOUT_S = 1800.0
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_INTEGER = ("int8", "int8-float-io")


class TFLiteConverter:
    """Makes `.tflite` files of batch 1 from the SavedModel signature `fixed`.

    fp32 is the plain LiteRT export; fp16, dynamic int8 and post-training int8 are made from it by litert-quantizer;
    int8 of a model with trained ranges is TensorFlow's own conversion of the fake-quantized graph.
    """

    format = "tflite"
    suffix = ".tflite"
    precisions: tuple[str, ...] = ("fp32", "fp16", "dynamic-int8", "int8", "int8-float-io")

    def convert(
        self, source: Source, *, precision: str, calibration: Mapping[str, Array] | None, output: Path
    ) -> Artifact:
        """Write `output` and read it back. Raises ConversionError."""
        check_precision(self, precision)
        if precision in _INTEGER and source.trained_model is not None:
            content = _export_trained(source, source.trained_model, precision)
        elif precision == "fp32":
            content = _float_export(source).read_bytes()
        else:
            content = _quantize(source, precision, calibration)
        with atomic(output) as temporary:
            temporary.write_bytes(content)
            return _artifact(source, precision, read_model(temporary), output)

    def inspect(self, path: Path) -> Inspection:
        """Inputs, outputs, and every operator with the bytes of its constants. Raises ConversionError."""
        return inspect_model(path)


def _float_export(source: Source) -> Path:
    """The export that all variants of this build share."""
    path = source.work / "float.tflite"
    if not path.exists():
        with atomic(path) as temporary:
            _export(source.name, source.float_model, temporary, border=None)
    return path


def _export_trained(source: Source, trained_model: Path, precision: str) -> bytes:
    with tempfile.TemporaryDirectory(dir=source.work) as folder:
        path = Path(folder, "trained.tflite")
        _export(source.name, trained_model, path, border="int8" if precision == "int8" else "float32")
        return path.read_bytes()


def _export(name: str, model: Path, output: Path, *, border: str | None) -> None:
    workers.call(
        "edgekit_tflite.export_worker",
        {"model": str(model), "signature": FIXED_SIGNATURE, "output": str(output), "border": border},
        timeout_s=_EXPORT_TIMEOUT_S,
        what=f"converting '{name}' to TFLite",
        error=ConversionError,
        environment=_ENVIRONMENT,
    )


def _quantize(source: Source, precision: str, calibration: Mapping[str, Array] | None) -> bytes:
    samples = calibration_samples(source, calibration, what=f"tflite {precision}") if precision in _INTEGER else []
    float_model = _float_export(source)
    with tempfile.TemporaryDirectory(dir=source.work) as folder:
        stored, path = Path(folder, "calibration.npz"), Path(folder, "quantized.tflite")
        np.savez(stored, *samples)
        request = {"model": str(float_model), "precision": precision, "output": str(path)}
        workers.call(
            "edgekit_tflite.quantize_worker",
            {**request, "inputs": source.signature_names(), "calibration": str(stored)},
            timeout_s=_QUANTIZE_TIMEOUT_S,
            what=f"quantizing '{source.name}' to TFLite {precision}",
            error=ConversionError,
            environment=_ENVIRONMENT,
        )
        return path.read_bytes()


def _artifact(source: Source, precision: str, model: TFLiteModel, output: Path) -> Artifact:
    if not model.operators:
        raise ConversionError(f"the TFLite file of '{source.name}' has no operators: the conversion lost the model")
    return Artifact(
        format="tflite",
        precision=precision,
        path=output,
        inputs=_bindings(source.inputs, model.inputs, "input"),
        outputs=_bindings(source.outputs, model.outputs, "output"),
        engine=ENGINE,
        engine_least_version=LEAST_VERSION,
        float_layers=float_layers(model) if precision in _INTEGER else (),
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
