"""A `.tflite` file that the user brings: what it holds already, and the signature that calibration runs it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

from edgekit.conversion import FIXED_SIGNATURE
from edgekit.errors import ConversionError
from edgekit_tflite.options import TFLiteOptions
from edgekit_tflite.reading import Role, TFLiteModel, damage_of, read_model
from edgekit_tflite.writing import packed

SUFFIX = ".tflite"


def is_finished(path: Path, precision: str, options: TFLiteOptions) -> bool:
    """Whether the file has `precision` already; False for a float file, which can be quantized.

    Raises ConversionError when it is quantized otherwise, or when settings are given for what is done already.
    """
    found = precision_of(read_model(path))
    if found == "fp32":
        return False
    if found != precision:
        raise ConversionError(
            f"{path} is quantized already ({found}), so its float weights are gone and {precision} cannot be made of "
            "it: give the float file or the Keras model"
        )
    if options.settings():
        raise ConversionError(
            f"{path} is {found} already, so {', '.join(options.settings())} cannot apply: "
            "give the float file or the Keras model"
        )
    return True


def precision_of(model: TFLiteModel) -> str:
    """The precision name that describes a file best; "fp32" for one without any quantization."""
    results = [tensor for operator in model.operators for tensor in operator.outputs if tensor.scales]
    if any(tensor.dtype == "int16" for tensor in results):
        return "int16x8"
    if results:
        ends = (*model.inputs.values(), *model.outputs.values())
        return "int8-float-io" if all(tensor.dtype == "float32" for tensor in ends) else "int8"
    constants = [tensor for operator in model.operators for tensor in operator.inputs if tensor.role is Role.PARAMETER]
    weights = {tensor.dtype for tensor in constants}
    held = ((("int4", "int2"), "int4-weights"), (("int8", "uint8"), "dynamic-int8"), (("float16",), "fp16"))
    return next((name for dtypes, name in held if weights & set(dtypes)), "fp32")


def sign(path: Path, output: Path) -> None:
    """Copy a float file; where it has no signature, its inputs and outputs get one under their own names.

    Raises ConversionError on several signatures, and on a damaged file.
    """
    with damage_of(path):
        output.write_bytes(_with_signature(path.read_bytes(), path))


def _with_signature(content: bytes, path: Path) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    signatures = model.signatureDefs or []
    if len(signatures) > 1:
        names = ", ".join(signature.signatureKey.decode() for signature in signatures)
        raise ConversionError(f"{path} has the signatures {names}, expected one: export one of them alone")
    return content if signatures else packed(_signed(model))


def _signed(model: Any) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    def entries(indexes: Any) -> list[Any]:
        made = []
        for index in indexes:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = main.tensors[index].name, int(index)
            made.append(entry)
        return made

    main = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = FIXED_SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = entries(main.inputs), entries(main.outputs)
    model.signatureDefs = [signature]
    return model
