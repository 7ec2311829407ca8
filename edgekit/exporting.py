"""From a Keras model to what converters take: SavedModels under the Keras names, float and simulated int8."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: keras models and tensorflow functions, which have no types

from edgekit.compression.fake_quantization import trained_simulation
from edgekit.conversion import DYNAMIC_SIGNATURE, FIXED_SIGNATURE, Source
from edgekit.errors import ConversionError, ModelError, OutputError
from edgekit.loading import LoadedModel, import_keras
from edgekit.wording import said

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def export_source(loaded: LoadedModel, work: Path) -> Source:
    """Write the SavedModels of a build into `work`, once for all converters. Raises ConversionError."""
    check_names(loaded)
    check_float(loaded)
    float_model = work / "float-saved-model"
    _export(loaded.model, loaded, float_model)
    trained_model = None
    if loaded.activation_ranges is not None:
        trained_model = work / "trained-saved-model"
        _export(trained_simulation(loaded).model, loaded, trained_model)
    layers = loaded.model._flatten_layers(include_self=False, recursive=True)
    names = tuple(dict.fromkeys(layer.name for layer in layers))
    return Source(loaded.name, loaded.inputs, loaded.outputs, float_model, trained_model, work, names)


def check_names(loaded: LoadedModel) -> None:
    """Raise ModelError on a name that converters would change, so that nobody could find it again."""
    for spec in (*loaded.inputs, *loaded.outputs):
        if not _NAME.fullmatch(spec.name):
            raise ModelError(
                f"the name of '{spec.name}' cannot be exported: use letters, digits and '_', a letter first; "
                "rename the layer in Keras"
            )


def check_float(loaded: LoadedModel) -> None:
    """Raise ModelError on a layer that Keras has quantized already: no converter takes its integer kernels."""
    for layer in loaded.model._flatten_layers(include_self=False, recursive=True):
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            raise ModelError(
                f"layer '{layer.name}' was quantized by Keras already ({mode}): bring the model as it was before "
                "`quantize`, and name a precision for its conversion"
            )


def _export(model: Any, loaded: LoadedModel, folder: Path) -> None:
    keras = import_keras()
    import tensorflow as tf

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = keras.tree.flatten(model(loaded.pack(inputs), training=False))
        return {spec.name: output for spec, output in zip(loaded.outputs, outputs, strict=True)}

    signatures = {}
    for signature, batch in ((FIXED_SIGNATURE, 1), (DYNAMIC_SIGNATURE, None)):
        specs = {s.name: tf.TensorSpec((batch, *s.shape[1:]), s.dtype, name=s.name) for s in loaded.inputs}
        try:
            with _inner_functions_inlined():
                signatures[signature] = tf.function(serve).get_concrete_function(**specs)
        except (ValueError, TypeError) as problem:
            raise ConversionError(f"'{loaded.name}' cannot be traced: {said(problem)}") from problem
    module = tf.Module()
    module.variables_kept = [variable.value for variable in model.variables]
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except (OSError, tf.errors.OpError) as problem:
        raise OutputError(f"cannot write {folder}: {str(problem).splitlines()[0]}; free some space") from problem


@contextmanager
def _inner_functions_inlined() -> Iterator[None]:
    """Keras computes grouped convolutions in a function of its own, which ONNX has no operator for."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
