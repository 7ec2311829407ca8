"""Run by `edgekit.workers`: litert-quantizer on the float export."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and the quantizer, which has no types

import numpy as np

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.ranges import Ranges, read_feeds
from edgekit.strict import parse
from edgekit.tensors import Array
from edgekit_tflite.attempts import write_best
from edgekit_tflite.gptq import KernelRounding
from edgekit_tflite.graphs import Body, bodies
from edgekit_tflite.layers import name_operators, scope_of
from edgekit_tflite.lookups import with_lookups
from edgekit_tflite.options import ACTIVATION_BITS, STATIC, TFLiteOptions
from edgekit_tflite.patches import PATCHED
from edgekit_tflite.reading import check_opens, read_opened
from edgekit_tflite.settling import Setting, Settled, body_notes, check_bodies, grouped, notes, settle, settle_bodies
from edgekit_tflite.versions import STORED_VERSION, state_versions
from edgekit_tflite.wide import allow_all_scales, wide_names, with_headroom

_EVERYTHING = ".*"
_ALGORITHM_KEYS = {  # Hadamard in operators that every runtime has
    "min-max": "MIN_MAX_UNIFORM_QUANT", "mse": "MSE", "octav": "OCTAV", "hadamard": "DECOMPOSED_HADAMARD_ROTATION",
}  # fmt: skip
Statistics = dict[str, dict[str, Array]]  # tensor name -> its "min" and "max"


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write the float export at another precision; replies the notes on it."""
    if request["precision"] in STATIC:  # whose GATHER reads a table of integers as it is
        return _quantized(request)
    with tempfile.TemporaryDirectory(dir=Path(request["output"]).parent) as folder:
        looked_up = with_lookups(Path(request["model"]), Path(folder, "lookups.tflite"))
        return _quantized({**request, "model": str(looked_up)})


def _quantized(request: dict[str, Any]) -> dict[str, object]:
    precision = request["precision"]
    options = parse(TFLiteOptions, request["options"], where="TFLite options")
    model = read_opened(Path(request["model"]))
    operators = name_operators(model, request["layers"])
    inner = bodies(Path(request["model"]))
    numbers = [body.number for body in inner]
    wanted = settle(operators, precision, options, _takes)
    check_bodies(wanted, numbers, options.algorithm)
    settled = settle_bodies(wanted, numbers, _takes)
    wide = wide_names(model, settled, precision)
    correct = options.bias_correction and precision in STATIC
    try:
        rounding = _rounding(request, settled) if options.algorithm == "gptq" else None
        write = partial(_write, _recipe(precision, settled, inner), request["model"], wide, rounding)
        chosen = write_best(write, request, correct=correct)
    except (ValueError, RuntimeError) as problem:  # an unrolled loop, an operator without an int8 form
        reason = " ".join(str(problem).split())
        culprit = f"algorithm {options.algorithm}" if options.algorithm != "min-max" else "it"
        raise ConversionError(
            f"litert-quantizer cannot make {precision} ({reason}): leave {culprit} out for this model"
        ) from problem
    state_versions(Path(request["output"]), (named.operator for named in operators))
    check_opens(Path(request["output"]))
    left = rounding.notes() if rounding else ()
    said = [*chosen.notes, *body_notes(wanted, settled), *notes(settled, options), *left]
    return {"notes": said, "snr_db": chosen.snr_db}


def _rounding(request: dict[str, Any], settled: Settled) -> KernelRounding:
    return KernelRounding(Path(request["model"]), settled, read_feeds(Path(request["calibration"]), request["inputs"]))


def _recipe(precision: str, settled: Settled, inner: Sequence[Body]) -> Any:
    """For the quantizer; the last line that fits an operator, or the border of a graph, counts."""
    from litert_quantizer.recipe_manager import RecipeManager

    base, recipe = Setting(precision.removesuffix("-float-io")), RecipeManager()
    _add(recipe, _EVERYTHING, "*", base)
    for (kind, setting), scopes in grouped(settled).items():
        if setting != base:
            _add(recipe, _exactly(scopes), kind, setting)
    borders = {"INPUT": [body.inputs for body in inner], "OUTPUT": [body.outputs for body in inner]}
    for border, names in borders.items():
        if precision == "int8-float-io":
            _add(recipe, _EVERYTHING, border, Setting("fp32"))
        elif names:
            _add(recipe, _exactly(map(scope_of, names)), border, Setting("fp32"))
    return recipe


def _exactly(scopes: Iterable[str]) -> str:
    """A pattern of these scopes alone."""
    return f"^(?:{'|'.join(map(re.escape, scopes))})$"


def _write(
    recipe: Any, source: str, wide: frozenset[str], rounding: KernelRounding | None, ranges: Ranges, output: Path
) -> None:
    """What litert-quantizer's `Quantizer.quantize` does, without its second interpreter and its copy of the result.

    `wide` names the activations of 16 bits.
    """
    from litert_quantizer.model_modifier import ModelModifier
    from litert_quantizer.params_generator import ParamsGenerator
    from litert_quantizer.utils import tfl_flatbuffer_utils as flatbuffers

    model = flatbuffers.read_model(flatbuffers.get_model_content(source))
    for code in model.operatorCodes:
        code.version = max(code.version, STORED_VERSION)
    if wide:
        allow_all_scales(model)
    statistics = _statistics(model, with_headroom(ranges, wide))
    parameters = ParamsGenerator(model).generate_quantization_parameters(recipe, statistics, enable_progress_bar=False)
    if rounding is not None:
        rounding.apply(parameters)
    ModelModifier(model).modify_model(parameters, serialize_to_path=str(output), enable_progress_bar=False)


def _statistics(model: Any, ranges: Ranges) -> Statistics:
    """Each range as the quantizer wants it: arrays of the tensor's rank."""
    tensors = {tensor.name.decode(): tensor for graph in model.subgraphs for tensor in graph.tensors}
    found: Statistics = {}
    for name, ends in ranges.items():
        shape = tensors[name].shape
        one = (1,) * (0 if shape is None else len(shape))
        found[name] = {key: np.full(one, value, np.float32) for key, value in zip(("min", "max"), ends, strict=True)}
    return found


def _add(recipe: Any, scopes: str, kind: str, setting: Setting) -> None:
    """One line of the recipe."""
    from litert_quantizer.qtyping import TFLOperationName

    if setting.precision == "fp32" and kind not in set(_kinds()):
        return  # which the quantizer leaves in float anyway
    recipe.add_quantization_config(scopes, TFLOperationName(kind), _config(setting), _key(setting))


def _takes(kind: str, setting: Setting) -> bool:
    from litert_quantizer import algorithm_manager
    from litert_quantizer.qtyping import TFLOperationName

    if kind not in set(_kinds()) or (setting.algorithm == "gptq" and kind not in PATCHED):
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
    return AlgorithmName[special.get(setting.precision) or _ALGORITHM_KEYS[_scales(setting)]]


def _scales(setting: Setting) -> str:
    """The algorithm that chooses scales: GPTQ, which is ours, takes given ones. Of 4 bits, OCTAV's measure better."""
    if setting.algorithm != "gptq":
        return setting.algorithm
    return "octav" if setting.precision == "int4-weights" else "min-max"


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
        width = ACTIVATION_BITS[setting.precision]
        activations = TensorQuantizationConfig(num_bits=width, symmetric=width == 16)
    if setting.weight_only:
        return OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=ComputePrecision.FLOAT, explicit_dequantize=True
        )
    return OpQuantizationConfig(
        activation_tensor_config=activations, weight_tensor_config=weights, compute_precision=ComputePrecision.INTEGER
    )


if __name__ == "__main__":
    workers.serve(quantize)
