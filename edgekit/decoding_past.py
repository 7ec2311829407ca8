"""A causal decoder on its way to a file that keeps nothing: keys and values go in, and come out with those added."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: TensorFlow's tensors, which have no types

from edgekit.conversion import INPUTS_OUTPUTS, Source
from edgekit.decoding import DECODE, LOGITS, POSITION
from edgekit.errors import ConfigError
from edgekit.exporting import check_float, save_functions
from edgekit.language.caching import cache_shapes, step
from edgekit.loading import LoadedModel
from edgekit.tensors import TensorSpec

PARTS = ("keys", "values")


def past_name(part: str, number: int) -> str:
    """The input that takes the keys or values of attention layer `number`."""
    return f"past_{part}_{number}"


def present_name(part: str, number: int) -> str:
    """The output that gives them."""
    return f"present_{part}_{number}"


def export_with_past(loaded: LoadedModel, work: Path, *, context: int) -> Source:
    """Write the SavedModel of a decoder that is handed the keys and values of up to `context` tokens.

    It takes tokens (1, any length), position (1,), how many tokens came before, and for each attention layer
    `past_keys_N` and `past_values_N` (1, groups, context, size), of which the first `position` places count. It gives
    logits (1, length, vocabulary) and `present_keys_N`, `present_values_N`, which are the next call's past. Raises
    ConfigError, and ModelError for a model without attention that can keep anything.
    """
    if context < 1:
        raise ConfigError(f"context is {context}, expected 1 or more")
    shapes = cache_shapes(loaded.model)
    check_float(loaded)

    def decode(tokens: Any, position: Any, **past: Any) -> dict[str, Any]:
        caches = {
            shape.layer: (past[past_name("keys", number)], past[past_name("values", number)])
            for number, shape in enumerate(shapes)
        }
        logits, after = step(loaded.model, tokens, position[0], caches)
        present = {
            present_name(part, number): tensor
            for number, shape in enumerate(shapes)
            for part, tensor in zip(PARTS, after[shape.layer], strict=True)
        }
        return {LOGITS: logits, **present}

    dtype = loaded.outputs[0].dtype
    kept = [
        (part, number, (None, shape.groups, context, shape.size))
        for number, shape in enumerate(shapes)
        for part in PARTS
    ]
    tokens_name = loaded.inputs[0].name
    inputs = (
        TensorSpec(tokens_name, (None, None), "int32"),
        TensorSpec(POSITION, (None,), "int32"),
        *(TensorSpec(past_name(part, number), size, dtype) for part, number, size in kept),
    )
    outputs = (
        TensorSpec(LOGITS, (None, None, loaded.outputs[0].shape[-1]), dtype),
        *(TensorSpec(present_name(part, number), size, dtype) for part, number, size in kept),
    )
    folder = work / "float-saved-model"
    save_functions(loaded.name, folder, {DECODE: (decode, inputs)}, loaded.model.variables)
    names = tuple(dict.fromkeys(layer.name for layer in loaded.model._flatten_layers(include_self=False)))
    return Source(loaded.name, inputs, outputs, folder, None, work, names, state=INPUTS_OUTPUTS, signature=DECODE)
