"""ONNX: one float export per build, and the float16 and explicitly quantized int8 files made from it.

The extra `onnx` brings TensorFlow, tf2onnx, onnx and onnxruntime; nothing of them is imported until a conversion or
an inspection begins.
"""

from edgekit_onnx.conversion import OnnxConverter
from edgekit_onnx.options import ONNXOptions

converter = OnnxConverter()
"""What the entry point `edgekit.converters: onnx` names."""

__all__ = ["ONNXOptions", "OnnxConverter", "converter"]
