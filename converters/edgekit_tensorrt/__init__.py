"""TensorRT, as far as a build machine can go: does the real parser and builder of TensorRT-RTX take an ONNX file?

The extra `tensorrt-rtx` brings it for x86-64; it builds engines ahead of time and needs no GPU. It is another product
than the TensorRT on a Jetson: what it accepts is "accepted by the TensorRT-RTX parser and builder" and no more.
"""

from edgekit_tensorrt.checking import TensorRTChecker

checker = TensorRTChecker()
"""What the entry point `edgekit.checkers: tensorrt` names."""

__all__ = ["TensorRTChecker", "checker"]
