"""The two ways from one Keras model to its ONNX files that `benchmarks/onnx_tensorrt.py` compares.

Each side runs in processes of its own: `python benchmarks/onnx_sides.py SIDE FOLDER [PRECISION]`. FOLDER holds
`model.keras`, `calibration.npz` and, for `evaluate`, `test.npz`; files go to FOLDER/SIDE.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tflite_sides import edgekit_files, file_of, samples, snr_db

PRECISIONS = ("fp32", "fp16", "int8")
SIDES = ("edgekit", "edgekit-plain", "by-hand")
PLAIN = {"calibration": "min-max", "bias_correction": False, "smoothing": False}  # what the script by hand does
OPSET = 17


def main() -> None:
    """Run one side, or evaluate the files of both."""
    side, folder, *rest = sys.argv[1:]
    _WORK[side](Path(folder), *rest)


def with_edgekit(folder: Path, *precisions: str) -> None:
    """One export, the variants side by side."""
    edgekit_files(folder, "onnx", precisions or PRECISIONS)


def with_edgekit_plain(folder: Path, *precisions: str) -> None:
    """The same with int8 as ONNX Runtime's own tool makes it: by the largest magnitudes, with nothing tried out."""
    edgekit_files(folder, "onnx", precisions or PRECISIONS, side="edgekit-plain", settings=PLAIN)


def by_hand(folder: Path, *precisions: str) -> None:
    """One script as the documentation of tf2onnx and ONNX Runtime writes it: export, convert, then from that file."""
    import keras
    import tensorflow as tf
    import tf2onnx

    model = keras.models.load_model(folder / "model.keras")
    float_file = file_of(folder, "by-hand", "fp32", "onnx")
    signature = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, tensor.name) for tensor in model.inputs]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET, output_path=str(float_file))
    for precision in precisions or PRECISIONS:
        if precision != "fp32":  # which is there already
            {"fp16": _halve, "int8": _quantize}[precision](folder, float_file)


def _halve(folder: Path, float_file: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    halved = convert_float_to_float16(onnx.load(str(float_file)), keep_io_types=True)
    onnx.save(halved, str(file_of(folder, "by-hand", "fp16", "onnx")))


def _quantize(folder: Path, float_file: Path) -> None:
    """Per channel and symmetric, as TensorRT asks for."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # a package without types
        def __init__(self) -> None:
            import onnx

            (self._name,) = [value.name for value in onnx.load(str(float_file)).graph.input]
            self._samples = samples(folder)

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._samples, None)
            return None if sample is None else {self._name: sample}

    ready = float_file.with_name("ready.onnx")
    quant_pre_process(str(float_file), str(ready), skip_symbolic_shape=True)  # that would want sympy
    quantize_static(
        str(ready), str(file_of(folder, "by-hand", "int8", "onnx")), Reader(), quant_format=QuantFormat.QDQ,
        per_channel=True, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )  # fmt: skip


def evaluate(folder: Path) -> None:
    """Print bytes, SNR against Keras and top-1 of every file as one JSON object: side -> precision -> figures."""
    import keras

    test = dict(np.load(folder / "test.npz"))
    labels = test.pop("y")
    (images,) = test.values()
    reference = keras.models.load_model(folder / "model.keras").predict(images, verbose=0)
    files = {side: {name: file_of(folder, side, name, "onnx") for name in PRECISIONS} for side in SIDES}
    found = {
        side: {name: judge(path, images, labels, reference) for name, path in each.items()}
        for side, each in files.items()
    }
    print(json.dumps(found))


def judge(path: Path, images: Any, labels: Any, reference: Any) -> dict[str, float]:
    """One file against the outputs of Keras."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (takes,) = session.get_inputs()
    outputs = np.concatenate([session.run(None, {takes.name: image[None]})[0] for image in images])
    return {
        "bytes": path.stat().st_size,
        "snr_db": snr_db(outputs, reference),
        "top1": float(np.mean(outputs.argmax(-1) == labels)),
    }


_WORK = {"edgekit": with_edgekit, "edgekit-plain": with_edgekit_plain, "by-hand": by_hand, "evaluate": evaluate}

if __name__ == "__main__":
    main()
