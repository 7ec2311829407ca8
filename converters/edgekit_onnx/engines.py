"""Which ONNX Runtime opens a file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edgekit_onnx.reading import opset_of

if TYPE_CHECKING:
    from onnx import ModelProto

# The newest opset and IR version of a release; 1.20 is the oldest that the device-side extra allows.
_RELEASES = (("1.14", 18, 8), ("1.20", 21, 10))


def least_runtime(model: ModelProto) -> str:
    """The first ONNX Runtime that opens a model; of newer opsets than the list has, the one that tried it here."""
    opset = opset_of(model)
    listed = (name for name, newest, ir_version in _RELEASES if opset <= newest and model.ir_version <= ir_version)
    try:
        return next(listed, None) or version("onnxruntime")
    except PackageNotFoundError:
        return _RELEASES[-1][0]
