"""Files that are no Keras model, on their way to a converter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit import workers
from edgekit.conversion import Converter, Source, find_converter
from edgekit.errors import ConversionError, ModelError
from edgekit.opening_files import ENVIRONMENT, TIMEOUT_S
from edgekit.tensors import TensorSpec

CONVERTED = ".tflite"  # the suffix of a converted file that can be converted further

BUILT_AS_IS = ".onnx"  # and of one that an engine is built from


def typed_source(path: Path, work: Path) -> Source:
    """An ONNX file, whose precision stands in its graph, for a converter that builds it as it is.

    Raises ConversionError when it is none.
    """
    found = find_converter("onnx").inspect(path)
    return Source(path.stem, found.inputs, found.outputs, path, None, work)


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


def saved_model_source(path: Path, work: Path, *, allow_code: bool, signatures: Sequence[str] = ()) -> Source:
    """A SavedModel that no Keras model stands behind. Its layers are known by the names in the converted file.

    `signatures` are the names of those to convert; formats that have but one take the first. Raises ModelError for one
    that can touch files or run Python unless `allow_code`, without a signature to choose, and for shapes that are open
    beyond the batch.
    """
    folder = work / "float-saved-model"
    reply = workers.call(
        "edgekit.saved_model_worker",
        {"path": str(path), "output": str(folder), "allow_code": allow_code, "signatures": signatures},
        timeout_s=TIMEOUT_S,
        what=f"opening {path}",
        error=ModelError,
        environment=ENVIRONMENT,
    )
    inputs, outputs = (
        tuple(TensorSpec(name, (None, *shape), dtype) for name, shape, dtype in reply[role])
        for role in ("inputs", "outputs")
    )
    first, *others = reply["signatures"]
    return Source(path.name, inputs, outputs, folder, None, work, signature=first, other_signatures=tuple(others))


def _any_batch(spec: TensorSpec, path: Path) -> TensorSpec:
    if spec.shape[:1] != (1,):
        raise ConversionError(f"{path.name}: input {spec}, expected batch 1: export it with a batch of 1")
    return TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype)
