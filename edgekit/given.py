"""Files that are no Keras model, on their way to a converter."""

from __future__ import annotations

from pathlib import Path

from edgekit.conversion import Converter, Source
from edgekit.errors import ConversionError
from edgekit.tensors import TensorSpec

CONVERTED = ".tflite"  # the suffix of a converted file that can be converted further


def converted_source(path: Path, converter: Converter, work: Path) -> Source:
    """A float file of the converter's own format, to be quantized. Its layers are known by the names in the file.

    Raises ConversionError for another format, for a file that does not open, and for a batch other than 1.
    """
    if path.suffix != converter.suffix:
        raise ConversionError(
            f"{path.name} cannot become {converter.format}: a file that is converted already is only quantized in its "
            "own format; give the Keras model or the SavedModel"
        )
    found = converter.inspect(path)
    inputs = tuple(_any_batch(spec, path) for spec in found.inputs)
    outputs = tuple(TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype) for spec in found.outputs)
    return Source(path.stem, inputs, outputs, path, None, work)


def _any_batch(spec: TensorSpec, path: Path) -> TensorSpec:
    if spec.shape[:1] != (1,):
        raise ConversionError(f"{path.name}: input {spec}, expected batch 1: export it with a batch of 1")
    return TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype)
