"""Run by `edgekit.workers`: TensorFlow's TFLite converter on signatures of a SavedModel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and TensorFlow's objects, which have no types

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit_tflite.constants import with_constants
from edgekit_tflite.reading import check_opens
from edgekit_tflite.signatures import with_main

_FOREIGN_OPS = re.compile(r"(?:TF Select|Custom) ops: ([\w, ]+)")
_FIRST_ERROR = re.compile(r"error: (?:loc\((?:.*)\): )?(.+)")


def export(request: dict[str, Any]) -> dict[str, object]:
    """Convert with TFLite's builtin operators alone; several signatures share their constants.

    `border` is None for a float model, else the dtype of inputs and outputs of a fake-quantized one, whose trained
    ranges the converter keeps (quantization-aware training, Jacob et al. 2018). `constants` is None, or a folder of
    what the signatures take as inputs and the file is to hold.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    converter = tf.lite.TFLiteConverter.from_saved_model(request["model"], signature_keys=request["signatures"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if request["border"] is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(request["border"])
    try:
        content = converter.convert()
    except ConverterError as problem:
        raise ConversionError(explain(str(problem))) from problem
    first, *others = request["signatures"]
    content, output = with_main(content, first) if others else content, Path(request["output"])
    if request["constants"] is None:
        output.write_bytes(content)
    else:
        with_constants(content, Path(request["constants"]), output)
    check_opens(output)
    return {}


def explain(message: str) -> str:
    """One line for what TensorFlow's converter says in a page."""
    foreign = _FOREIGN_OPS.search(message)
    if foreign:
        return (
            f"TFLite has no builtin operator for {foreign[1].strip()}: write that layer with other operations "
            "(TensorFlow Select operators are not on the device)"
        )
    first = _FIRST_ERROR.search(message)
    return f"TensorFlow's TFLite converter refuses the model: {(first[1] if first else message).splitlines()[0]}"


if __name__ == "__main__":
    workers.serve(export)
