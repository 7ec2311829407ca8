"""How near each ONNX file of EfficientNet-Lite0 is to Keras on ONNX Runtime, by precision and by layers left in float.

    python benchmarks/onnx_agreement.py [-o FILE.json]

Weights, photos and measures are those of `benchmarks/tflite_agreement.py`. The layers left in float are those that cost
most SNR when each was quantized alone, the costliest first; or what `edgekit compare --fix --min-snr 27.5` found on
every fourth test crop. A stopped run goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.tflite_agreement import Recipe, measure

FIGURES = Path(__file__).parents[1] / "examples" / "figures" / "onnx-agreement.json"
SAMPLES = 56
COSTLIEST = [
    "depthwise_conv2d", "conv2d", "depthwise_conv2d_1", "conv2d_1", "conv2d_3", "scores", "conv2d_23", "conv2d_31",
    "conv2d_11", "conv2d_2", "conv2d_7", "conv2d_30",
]  # fmt: skip
FOUND = [
    "conv2d", "depthwise_conv2d", "depthwise_conv2d_14", "conv2d_29", "depthwise_conv2d_13", "conv2d_27", "conv2d_2",
    "depthwise_conv2d_1", "scores", "conv2d_1", "conv2d_31", "conv2d_32",
]  # fmt: skip

RECIPES = (
    Recipe("fp16", samples=SAMPLES, format="onnx"),
    Recipe("int8", samples=SAMPLES, format="onnx"),
    Recipe("int8", {"keep_float": COSTLIEST[:2]}, samples=SAMPLES, format="onnx"),
    Recipe("int8", {"keep_float": COSTLIEST}, samples=SAMPLES, format="onnx"),
    Recipe("int8", {"keep_float": FOUND}, samples=SAMPLES, format="onnx"),
    Recipe("int8", {"bias_correction": False}, samples=SAMPLES, format="onnx"),
)


if __name__ == "__main__":
    measure(RECIPES, FIGURES, str(__doc__))
