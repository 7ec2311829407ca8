"""What is inside a model file: Keras models here, converted files through their converter."""

from __future__ import annotations

from pathlib import Path

from edgekit.conversion import Inspection, find_converter
from edgekit.errors import ModelError
from edgekit.layers import keras_layers
from edgekit.lengths import Lengths
from edgekit.loading import load

FORMAT_OF_SUFFIX = {".tflite": "tflite", ".onnx": "onnx", ".engine": "tensorrt"}


def inspect(
    path: Path, *, architecture: str | None = None, allow_code: bool = False, lengths: Lengths | None = None
) -> Inspection:
    """Inputs, outputs, bytes, and each layer's bytes, precision and sparsity.

    `lengths` are those of `load`. Raises ModelError, ConversionError and ConfigError.
    """
    if not path.exists():
        raise ModelError(f"no file {path}")
    if path.suffix in FORMAT_OF_SUFFIX:
        return find_converter(FORMAT_OF_SUFFIX[path.suffix]).inspect(path)
    loaded = load(path, architecture=architecture, allow_code=allow_code, lengths=lengths)
    layers = tuple(keras_layers(loaded.model))
    files = path.rglob("*") if path.is_dir() else [path]  # a SavedModel is a folder
    size = sum(file.stat().st_size for file in files if file.is_file())
    return Inspection("keras", loaded.inputs, loaded.outputs, size, loaded.parameters, layers)
