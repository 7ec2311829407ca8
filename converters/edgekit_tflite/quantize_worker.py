"""Run by `edgekit.workers`: litert-quantizer on the float export."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and the quantizer, which has no types

import numpy as np

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.strict import parse
from edgekit_tflite.calibrating import Calibration
from edgekit_tflite.layers import name_operators
from edgekit_tflite.options import STATIC, TFLiteOptions
from edgekit_tflite.reading import read_model
from edgekit_tflite.settling import Setting, grouped, notes, settle

_EVERYTHING = ".*"
_ALGORITHM_KEYS = {  # Hadamard in operators that every runtime has
    "min-max": "MIN_MAX_UNIFORM_QUANT", "mse": "MSE", "octav": "OCTAV", "gptq": "GPTQ",
    "hadamard": "DECOMPOSED_HADAMARD_ROTATION",
}  # fmt: skip
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write the float export at another precision; replies the notes on it."""
    from litert_quantizer.quantizer import Quantizer

    precision = request["precision"]
    options = parse(TFLiteOptions, request["options"], where="TFLite options")
    operators = name_operators(read_model(Path(request["model"]), here=True), request["layers"])
    settled = settle(operators, precision, options, _takes)
    base = Setting(precision.removesuffix("-float-io"))
    quantizer = Quantizer(request["model"])
    _add(quantizer, _EVERYTHING, "*", base)
    for (kind, setting), scopes in grouped(settled).items():
        if setting != base:
            _add(quantizer, f"^(?:{'|'.join(map(re.escape, scopes))})$", kind, setting)
    if precision == "int8-float-io":
        for border in ("INPUT", "OUTPUT"):
            _add(quantizer, _EVERYTHING, border, Setting("fp32"))
    bits = _ACTIVATION_BITS.get(base.precision, 8)
    calibration = Calibration(quantizer, Path(request["model"]), options, bits, _feeds(request))
    try:
        chosen = calibration.write(Path(request["output"]))
    except (ValueError, RuntimeError) as problem:  # an unrolled loop, an operator without an int8 form
        reason = " ".join(str(problem).split())
        culprit = f"algorithm {options.algorithm}" if options.algorithm != "min-max" else "it"
        raise ConversionError(
            f"litert-quantizer cannot make {precision} ({reason}): leave {culprit} out for this model"
        ) from problem
    return {"notes": [*chosen, *notes(settled, options)]}


def _feeds(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The calibration samples, one each; [] where the variant takes none."""
    if request["calibration"] is None:
        return []
    with np.load(request["calibration"]) as stored:
        samples = dict(zip(request["inputs"], stored.values(), strict=True))
    count = min(len(array) for array in samples.values())
    return [{name: array[index : index + 1] for name, array in samples.items()} for index in range(count)]


def _add(quantizer: Any, scopes: str, kind: str, setting: Setting) -> None:
    """One line of the recipe; the last line that fits an operator counts."""
    from litert_quantizer.qtyping import TFLOperationName

    if setting.precision == "fp32" and kind not in set(_kinds()):
        return  # which the quantizer leaves in float anyway
    quantizer.update_quantization_recipe(scopes, TFLOperationName(kind), _config(setting), _key(setting))


def _takes(kind: str, setting: Setting) -> bool:
    from litert_quantizer import algorithm_manager
    from litert_quantizer.qtyping import TFLOperationName

    if kind not in set(_kinds()):
        return False
    try:
        algorithm_manager.check_op_quantization_config(_key(setting), TFLOperationName(kind), _config(setting))
    except ValueError:
        return False
    return True


def _kinds() -> Iterator[str]:
    """The operator types that litert-quantizer knows."""
    from litert_quantizer.qtyping import TFLOperationName

    return (kind.value for kind in TFLOperationName)


def _key(setting: Setting) -> Any:
    from litert_quantizer.algorithm_manager import AlgorithmName

    special = {"fp32": "NO_QUANTIZE", "fp16": "FLOAT_CASTING"}
    return AlgorithmName[special.get(setting.precision) or _ALGORITHM_KEYS[setting.algorithm]]


def _config(setting: Setting) -> Any:
    """Symmetric weights with a scale per channel or per block; asymmetric int8 or symmetric int16 activations."""
    from litert_quantizer.qtyping import (
        ComputePrecision,
        OpQuantizationConfig,
        QuantGranularity,
        TensorDataType,
        TensorQuantizationConfig,
    )

    if setting.precision == "fp32":
        return None
    if setting.precision == "fp16":  # dequantized where they are used; LiteRT computes in float32
        weights = TensorQuantizationConfig(num_bits=16, dtype=TensorDataType.FLOAT)
        return OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=ComputePrecision.FLOAT, explicit_dequantize=True
        )
    shared_by = "CHANNELWISE" if setting.block_size is None else f"BLOCKWISE_{setting.block_size}"
    bits = 4 if setting.precision == "int4-weights" else 8
    weights = TensorQuantizationConfig(num_bits=bits, granularity=QuantGranularity[shared_by])
    activations = None
    if setting.precision in STATIC:
        width = _ACTIVATION_BITS[setting.precision]
        activations = TensorQuantizationConfig(num_bits=width, symmetric=width == 16)
    return OpQuantizationConfig(
        activation_tensor_config=activations, weight_tensor_config=weights, compute_precision=ComputePrecision.INTEGER
    )


if __name__ == "__main__":
    workers.serve(quantize)
