"""A model's operators in a newer version of ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import ConversionError
from edgekit_onnx.reading import opset_of

if TYPE_CHECKING:
    from onnx import ModelProto


def at_opset(model: ModelProto, opset: int, *, needed_by: str, remedy: str = "") -> ModelProto:
    """A copy at `opset`, by native code, which some models crash. Raises ConversionError when onnx cannot."""
    import onnx

    try:
        raised = onnx.version_converter.convert_version(model, opset)
        onnx.checker.check_model(raised, full_check=True)
    except Exception as problem:  # the converter raises RuntimeError and others
        raise ConversionError(
            f"onnx cannot convert it from opset {opset_of(model)} to {opset}, which {needed_by} needs "
            f"({' '.join(str(problem).split())}){remedy}"
        ) from problem
    return raised
