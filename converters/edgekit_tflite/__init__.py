"""TFLite: one float LiteRT export per build, quantized per variant.

The extra `tflite` brings TensorFlow, litert-quantizer and ai-edge-litert; nothing of them is imported until a
conversion or an inspection begins.
"""

from edgekit_tflite.conversion import TFLiteConverter
from edgekit_tflite.options import TFLiteOptions

converter = TFLiteConverter()
"""What the entry point `edgekit.converters: tflite` names."""

__all__ = ["TFLiteConverter", "TFLiteOptions", "converter"]
