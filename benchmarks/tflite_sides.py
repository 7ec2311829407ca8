"""The ways from one Keras model to its TFLite variants that `benchmarks/tflite_tools.py` compares.

Each side runs in processes of its own: `python benchmarks/tflite_sides.py SIDE FOLDER [PRECISION]`. FOLDER holds
`model.keras`, `calibration.npz` and, for `evaluate`, `test.npz`; files go to FOLDER/SIDE.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PRECISIONS = ("fp32", "fp16", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights")
SIDES = ("edgekit", "converter", "quantizer")
CALIBRATED = ("int8", "int8-float-io", "int16x8")


def main() -> None:
    """Run one side, or evaluate the files of all."""
    side, folder, *rest = sys.argv[1:]
    _WORK[side](Path(folder), *rest)


def with_edgekit(folder: Path, *precisions: str) -> None:
    """One export, the variants side by side."""
    edgekit_files(folder, "tflite", precisions or PRECISIONS)


def edgekit_files(
    folder: Path,
    format_name: str,
    precisions: Sequence[str],
    *,
    side: str = "edgekit",
    settings: Mapping[str, object] | None = None,
) -> None:
    """FOLDER/SIDE, filled as a build does it; the model is the user's own, and not tried first."""
    from edgekit.converting import convert_all, converters_for
    from edgekit.data import Data
    from edgekit.exporting import export_source
    from edgekit.loading import load
    from edgekit.planning import Plan, PlannedVariant
    from edgekit.progress import LoggedProgress

    plan = Plan(tuple(PlannedVariant(format_name, name, ("local",), ()) for name in precisions), {})
    converters = converters_for(plan, {format_name: settings or {}})
    read = converters[format_name].signatures
    with tempfile.TemporaryDirectory(prefix="edgekit-tools-") as work:
        source = export_source(load(folder / "model.keras", trusted=True), Path(work), signatures=read)
        data = Data(dict(np.load(folder / "calibration.npz")), None, "calibration")
        made, _ = convert_all(source, plan, converters, data, LoggedProgress())
        for item in made:
            written = file_of(folder, side, item.planned.precision, format_name)
            written.write_bytes(item.artifact.path.read_bytes())


def with_converter(folder: Path, precision: str) -> None:
    """One script with tf.lite.TFLiteConverter, as its documentation writes it."""
    import keras
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(folder / "model.keras"))
    if precision != "fp32":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        made.target_spec.supported_types = [tf.float16]
    if precision in CALIBRATED:
        made.representative_dataset = lambda: ([sample] for sample in samples(folder))
        int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        made.target_spec.supported_ops = [int16 if precision == "int16x8" else tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if precision in ("int8", "int16x8"):
        made.inference_input_type = made.inference_output_type = tf.int8 if precision == "int8" else tf.int16
    file_of(folder, "converter", precision).write_bytes(made.convert())


def with_quantizer(folder: Path, *precisions: str) -> None:
    """One script that exports once with Keras and calls litert-quantizer for each precision."""
    import keras
    from litert_quantizer.quantizer import Quantizer

    model = keras.models.load_model(folder / "model.keras")
    exported = file_of(folder, "quantizer", "fp32")
    specs = [keras.InputSpec(shape=(1, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in model.inputs]
    model.export(str(exported), format="litert", input_signature=[specs], verbose=False)
    for precision in precisions or PRECISIONS[1:]:
        made = Quantizer(str(exported))
        _recipe(made, precision)
        result = None
        if made.need_calibration:
            ((name, (tensor,)),) = _signature(exported).items()
            result = made.calibrate({name: [{tensor: sample} for sample in samples(folder)]})
        quantized = made.quantize(result, enable_progress_report=False).quantized_model
        file_of(folder, "quantizer", precision).write_bytes(bytes(quantized))


def _recipe(made: Any, precision: str) -> None:
    """The package's own recipes; it has none for fp16, which is its algorithm FLOAT_CASTING."""
    from litert_quantizer import qtyping, recipe
    from litert_quantizer.algorithm_manager import AlgorithmName

    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    if precision == "fp16":
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
        )
        made.update_quantization_recipe(".*", everything, config, AlgorithmName.FLOAT_CASTING)
        return
    recipes = {
        "dynamic-int8": recipe.dynamic_wi8_afp32, "int8": recipe.static_wi8_ai8, "int8-float-io": recipe.static_wi8_ai8,
        "int16x8": recipe.static_wi8_ai16, "int4-weights": recipe.dynamic_wi4_afp32,
    }  # fmt: skip
    made.load_quantization_recipe(recipes[precision]())
    if precision == "int8-float-io":
        for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            made.update_quantization_recipe(".*", border, None, AlgorithmName.NO_QUANTIZE)


def evaluate(folder: Path) -> None:
    """Print bytes, SNR against Keras and top-1 of every file as one JSON object: side -> precision -> figures."""
    import keras

    test = dict(np.load(folder / "test.npz"))
    labels = test.pop("y")
    (images,) = test.values()
    reference = keras.models.load_model(folder / "model.keras").predict(images, verbose=0)
    found: dict[str, object] = {"keras": {"top1": float(np.mean(reference.argmax(-1) == labels))}}
    for side in SIDES:
        files = {name: file_of(folder, side, name) for name in PRECISIONS}
        found[side] = {name: judge(path, images, labels, reference) for name, path in files.items() if path.exists()}
    print(json.dumps(found))


def judge(path: Path, images: Any, labels: Any, reference: Any) -> dict[str, float]:
    """One file against the outputs of Keras."""
    outputs = outputs_of(path, images)
    return {
        "bytes": path.stat().st_size,
        "duplicate_bytes": duplicate_bytes(path),
        "snr_db": snr_db(outputs, reference),
        "top1": float(np.mean(outputs.argmax(-1) == labels)),
    }


def snr_db(outputs: Any, reference: Any) -> float:
    """Signal to noise, over all samples."""
    noise = float(np.sum(np.square(outputs.astype(np.float64) - reference)))
    return round(10 * np.log10(float(np.sum(np.square(reference.astype(np.float64)))) / max(noise, 1e-30)), 2)


def duplicate_bytes(path: Path) -> int:
    """Bytes of constants that the file holds a second time."""
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    stored = []
    for buffer in schema.ModelT.InitFromPackedBuf(content, 0).buffers:
        if buffer.offset > 1:  # 0 and 1 mean that it lies inside the FlatBuffer
            stored.append(content[buffer.offset : buffer.offset + buffer.size])
        elif buffer.data is not None:
            stored.append(bytes(buffer.data))
    return sum(map(len, stored)) - sum(map(len, set(stored)))


def outputs_of(path: Path, images: Any) -> Any:
    """The only output over all samples, in real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=2)
    interpreter.allocate_tensors()
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in images:
        interpreter.set_tensor(takes["index"], _stored(image[None], takes))
        interpreter.invoke()
        value = interpreter.get_tensor(gives["index"])
        scale, zero = gives["quantization"]
        rows.append((value.astype(np.float32) - zero) * np.float32(scale) if scale else value)
    return np.concatenate(rows)


def _stored(value: Any, details: dict[str, Any]) -> Any:
    scale, zero = details["quantization"]
    if not scale:
        return value
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def samples(folder: Path) -> Iterator[Any]:
    """The calibration data, one by one."""
    (images,) = np.load(folder / "calibration.npz").values()
    return (image[None] for image in images)


def _signature(path: Path) -> dict[str, list[str]]:
    """Signature name -> names of its inputs."""
    from ai_edge_litert.interpreter import Interpreter

    return {name: entry["inputs"] for name, entry in Interpreter(str(path)).get_signature_list().items()}


def file_of(folder: Path, side: str, precision: str, suffix: str = "tflite") -> Path:
    """Where a side writes."""
    path = folder / side / f"{precision}.{suffix}"
    path.parent.mkdir(exist_ok=True)
    return path


_WORK = {"edgekit": with_edgekit, "converter": with_converter, "quantizer": with_quantizer, "evaluate": evaluate}

if __name__ == "__main__":
    main()
