"""TensorRT, as far as a build machine can go: engines for RTX GPUs ahead of time, and does TensorRT take an ONNX file?

The extra `tensorrt-rtx` brings the real parser and builder of TensorRT-RTX for x86-64; it needs no GPU. It is another
product than the TensorRT on a Jetson: what it accepts is "accepted by the TensorRT-RTX parser and builder" and no more.
"""

from edgekit_tensorrt.checking import TensorRTChecker
from edgekit_tensorrt.conversion import TensorRTConverter

checker = TensorRTChecker()
"""What the entry point `edgekit.checkers: tensorrt` names."""

converter = TensorRTConverter()
"""What the entry point `edgekit.converters: tensorrt` names."""

__all__ = ["TensorRTChecker", "TensorRTConverter", "checker", "converter"]
